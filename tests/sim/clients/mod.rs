//! The clients: what they ask for, and what they make of the answers.
//!
//! An effect is seen twice: when it is decided, by the model, which follows the order of decisions;
//! and when it is let out, by the clients, which then know of it. A crash may come in between.

mod effects;
mod message;
mod receiving;
mod scheduling;
mod sending;
mod sessions;
mod settling;
mod topics;
mod transactions;

use bytes::Bytes;
use peeklock_core::{EntityId, LockToken, Origin, ReadId, ReadRequest, ReceiveMode, ReceiverId};

use crate::model::{At, Body, Browse, Fleeting, Listing, Receipt, Turn, Wish};
use crate::workload::{Action, Workload};
use crate::world::{LOCK, World};

/// A message a client holds, or held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) body: Body,
    pub(crate) entity: EntityId,
    pub(crate) at: At,
    pub(crate) token: LockToken,
    /// The session it belongs to, in a queue that has sessions.
    pub(crate) session: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Asked for.
    Opening,
    Open,
    Closed,
}

/// What a receiver wants to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    NoSession,
    Session(u64),
    /// Any, until then.
    NextSession(u64),
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) id: ReceiverId,
    pub(crate) at: At,
    pub(crate) mode: ReceiveMode,
    pub(crate) wanted: Wanted,
    /// When it was asked for: the time and the turn.
    pub(crate) asked: (u64, Turn),
    /// The session it was given.
    pub(crate) session: Option<u64>,
    pub(crate) standing: Standing,
    pub(crate) given: u64,
    pub(crate) limit: u64,
    /// The limit of a drain that was asked for last.
    pub(crate) drain_limit: Option<u64>,
    /// The highest limit it ever had: demand may shrink after it was met.
    pub(crate) limit_max: u64,
}

/// What a client waits for an answer to.
#[derive(Debug)]
pub(crate) enum Asked {
    Entity(At),
    Receiver(ReceiverId),
    Send(Vec<Body>, Option<u64>),
    Schedule(Vec<Body>, Option<u64>),
    /// With whether all could be cancelled then.
    Cancel(usize, Vec<(Body, u64)>, bool),
    Settle(Vec<Held>, Wish, Option<u64>),
    Renew(Held),
    /// With a lock or a transaction that is gone: this must be refused.
    Stale,
    Browse(Browse),
    Describe(usize),
    Fetch {
        at: At,
        wanted: Vec<(Body, u64)>,
        session: Option<u64>,
        /// The turn, if all could be fetched then.
        was: Option<Turn>,
    },
    /// With how many at most.
    DeleteBatch(At, u32),
    RenewSession(usize, u64),
    SetState(usize, u64, Option<Bytes>),
    /// With the turn, and whether the session was held then.
    GetState(usize, u64, (Turn, bool)),
    List(Listing),
    /// That it comes or goes, in a subscription.
    Change(Fleeting, usize),
    Declare,
    Discharge {
        transaction: u64,
        fail: bool,
    },
}

/// What clients do once an effect was let out.
#[derive(Debug)]
pub(crate) enum Then {
    Nothing,
    Know(At, EntityId),
    /// A subscription is there.
    Made(usize),
    Hold(Vec<Held>),
    Opened(ReceiverId),
    Closed(ReceiverId),
    /// They may cancel these.
    Scheduled(usize, Vec<(Body, u64)>),
    /// They may fetch this.
    Deferred(Held),
    /// So many messages are gone.
    Deleted(At, u32),
    Transaction(u64),
    /// Kept with the transaction until it ends.
    Enlisted(u64, Vec<Held>),
    /// Nothing came of it: what was enlisted is in their hands again.
    RolledBack(u64),
    /// It was committed.
    Ended(u64),
    Read(ReadId, ReadRequest),
}

/// An effect that was decided and is not let out yet.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) then: Then,
}

impl Decided {
    /// Whether the broker asks for rows.
    pub(crate) const fn is_read(&self) -> bool {
        matches!(self.then, Then::Read(..))
    }
}

impl World {
    pub(crate) fn act(&mut self, action: Action, workload: &Workload) {
        match action {
            Action::Send => self.send(1, workload, None),
            Action::SendBatch => self.send(10, workload, None),
            Action::Demand => self.demand_by_draw(false),
            Action::Drain => self.demand_by_draw(true),
            Action::Settle => self.settle_by_draw(workload),
            Action::SettleMany => self.settle_many(workload),
            Action::SettleStale => self.settle_stale(),
            Action::Renew => self.renew(),
            Action::Browse => self.browse(workload),
            Action::Describe => self.describe(),
            Action::CloseReceiver => self.close_receiver(),
            Action::OpenReceiver => {
                let open = self.receivers.iter().filter(|one| one.standing != Standing::Closed);
                if open.count() < workload.receivers * 2 {
                    self.open_receiver(workload);
                }
            }
            Action::RenewSession => self.renew_session(),
            Action::SetState => self.set_state(workload),
            Action::GetState => self.get_state(workload),
            Action::ListSessions => self.list_sessions(),
            Action::Schedule => self.schedule(workload, None),
            Action::Cancel => self.cancel(),
            Action::Fetch => self.fetch(),
            Action::DeleteBatch => self.delete_batch(),
            Action::Declare => self.declare_transaction(),
            Action::SendWithTransaction => {
                let transaction = self.draws.pick(&self.open_transactions);
                if transaction.is_some() {
                    let count = 1 + self.draws.below(3);
                    self.send(count, workload, transaction);
                }
            }
            Action::ScheduleWithTransaction => {
                let transaction = self.draws.pick(&self.open_transactions);
                if transaction.is_some() {
                    self.schedule(workload, transaction);
                }
            }
            Action::SettleWithTransaction => self.settle_with_transaction(workload),
            Action::Discharge => self.discharge(),
            Action::DischargeStale => self.discharge_stale(),
            Action::ChangeRule => self.change_rule(),
            Action::ChangeSubscription => self.change_subscription(),
            Action::Sync => self.sync(),
            Action::Wait => self.wait(200),
            Action::WaitLong => self.wait(LOCK.0 + 1),
        }
    }

    pub(crate) fn ask(&mut self, asked: Asked) -> Origin {
        self.next_ask += 1;
        self.asked.insert(self.next_ask, asked);
        Origin { connection: self.starts, link: 0, delivery: self.next_ask }
    }
}
