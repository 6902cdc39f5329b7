//! The broker: takes commands, keeps queues, yields turns.
//!
//! Every command is decided, which may refuse it, and comes to facts; `Broker::commit` (`commit.rs`)
//! is the one place where a fact changes memory and rows. Afterwards queues that were touched give
//! out what they can (`deliver.rs`). Here commands are only passed on to the feature they are about.

mod arrive;
mod browse;
mod commit;
mod deadline;
mod dedup;
mod defer;
mod delete_batch;
mod deliver;
mod entities;
mod expire;
mod fetch;
mod forward;
mod idle;
mod kin;
mod list;
mod load;
mod look;
mod open;
mod read;
mod schedule;
mod select;
mod send;
mod sessions;
mod settle;
pub mod statistics;
pub mod stats;
mod status;
#[cfg(test)]
mod tests;
mod topics;
mod transaction;

use std::collections::BTreeMap;

use peeklock_storage::{Batch, CommitPosition, Epoch};

use self::deadline::Deadlines;
use self::dedup::{Gates, Submission};
use self::look::Asked;
use self::read::Purpose;
use self::stats::Counters;
use self::transaction::Transactions;
use crate::command::{Command, Enlistment};
use crate::effect::{Effect, EffectKind, Reply, Turn};
use crate::entity::counters::EntityCounters;
use crate::entity::namespace::Namespace;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::BrokerSettings;
use crate::error::Error;
use crate::id::{EntityId, IdSource, NumberMap, Origin, ReadId, ReceiverId};
use crate::queue::Queue;
use crate::queue::charge::Account;
use crate::queue::receiver::{Slot, Wish};
use crate::queue::sessions::{SessionSlot, WaitId};
use crate::rows;
use crate::time::Timestamp;
use crate::topic::topic::Topics;

/// Where a receiver is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seat {
    /// With all others of its queue, in turn.
    Round(Slot),
    /// Beside the others, since it only looks.
    Browser(ReceiverId),
    /// By the session it holds.
    Session(SessionSlot),
    /// Not yet: it waits for a session.
    Waiting(WaitId),
}

/// All entities of a shard, and what is going on in them.
pub struct Broker {
    settings: BrokerSettings,
    ids: Box<dyn IdSource + Send>,
    namespace: Namespace,
    /// By entity id; ids are dense and never used again.
    queues: Vec<Option<Box<Queue>>>,
    receivers: NumberMap<ReceiverId, (EntityId, Seat)>,
    deadlines: Deadlines,
    topics: Topics,
    transactions: Transactions,
    /// Sends that wait until it is known whether they are duplicates.
    gates: Gates,
    /// Octets of memory that message-ids take, over all queues.
    fingerprint_bytes: usize,
    reads: BTreeMap<ReadId, Purpose>,
    next_read: u64,
    /// Octets of memory that messages take, over all queues, but for what queues share.
    memory: usize,
    /// Octets of memory that messages take which queues share.
    shared_memory: Account,
    /// Where the search for memory to give up continues.
    reclaim_hand: usize,
    /// The latest time there was. A clock that is set back does not bring locks back.
    now: Timestamp,
    /// Of the last turn that was not empty.
    position: CommitPosition,
    batch: Batch,
    effects: Vec<Effect>,
    /// Entities whose row is to be written this turn.
    dirty: Vec<EntityId>,
    /// Queues that may have something to give out.
    touched: Vec<EntityId>,
    counters: Counters,
    /// What happened at entities that are gone.
    tally_of_gone: EntityCounters,
}

impl Broker {
    /// A broker with no entities.
    pub fn new(settings: BrokerSettings, ids: Box<dyn IdSource + Send>) -> Self {
        Broker {
            settings,
            ids,
            namespace: Namespace::default(),
            queues: vec![None],
            receivers: NumberMap::default(),
            deadlines: Deadlines::default(),
            topics: Topics::default(),
            transactions: Transactions::default(),
            gates: Gates::default(),
            fingerprint_bytes: 0,
            reads: BTreeMap::new(),
            next_read: 1,
            memory: 0,
            shared_memory: Account::default(),
            reclaim_hand: 0,
            now: Timestamp(0),
            position: CommitPosition(0),
            batch: Batch::new(Epoch(0)),
            effects: Vec::new(),
            dirty: Vec::new(),
            touched: Vec::new(),
            counters: Counters::default(),
            tally_of_gone: EntityCounters::default(),
        }
    }

    /// Takes a command that declares an entity, before anybody is served, and says whether it was
    /// refused. The command needs an origin; nobody need listen to its answer.
    pub fn declare_entity(&mut self, now: Timestamp, command: Command) -> Result<(), Error> {
        let before = self.effects.len();
        self.handle(now, command);
        for effect in &self.effects[before..] {
            if let EffectKind::Reply { result: Err(error), .. } = &effect.kind {
                return Err(error.clone());
            }
        }
        Ok(())
    }

    /// Takes one command. What comes of it is in the next [`Broker::take_turn`].
    pub fn handle(&mut self, now: Timestamp, command: Command) {
        self.now = self.now.max(now);
        self.note_command(&command);
        match command {
            Command::EnsureQueue { origin, path, settings } => {
                let result = self.ensure_queue(path, settings);
                if let Some(origin) = origin {
                    self.reply_after_commit(origin, result);
                }
            }
            Command::OfTopic(command) => self.handle_topic(*command),
            Command::OpenSender { origin, path } => {
                let result = self.open_sender(&path);
                self.reply_at_once(origin, result);
            }
            Command::OpenReceiver { origin, receiver, path, mode, session } => {
                if let Some(request) = session {
                    self.open_session_receiver(origin, receiver, &path, mode, request);
                } else {
                    let result = self.open_receiver(receiver, &path, mode, None);
                    self.reply_at_once(origin, result);
                }
            }
            Command::OpenSelectingReceiver { origin, receiver, path, mode, selector } => {
                let result = self.open_receiver(receiver, &path, mode, Some(selector));
                self.reply_at_once(origin, result);
            }
            Command::OpenBrowser { origin, receiver, path, selector } => {
                let result = self.open_browser(receiver, &path, selector);
                self.reply_at_once(origin, result);
            }
            Command::OpenSubscriber { origin, receiver, path, mode, selector, wish } => {
                let result = self.open_subscriber(receiver, &path, mode, selector, &wish);
                self.reply_after_commit(origin, result);
            }
            Command::OpenTemporary { origin, path, is_topic, receiver } => {
                let result = self.open_temporary(&path, is_topic, receiver);
                self.reply_after_commit(origin, result);
            }
            Command::FindSubscription { origin, name } => {
                let result = self.find_subscription(&name);
                self.reply_at_once(origin, result);
            }
            Command::OpenManagement { origin, path } => {
                let result = self.open_management(&path);
                self.reply_at_once(origin, result);
            }
            Command::CloseReceiver { receiver } => self.leave_receiver(receiver),
            Command::Send { origin, entity, messages, transaction } => {
                self.send(origin, entity, messages, transaction);
            }
            Command::SendTo { origin, path, messages, transaction } => {
                self.send_to(origin, &path, messages, transaction);
            }
            Command::Demand { receiver, limit } => {
                self.demand(receiver, Wish::Deliveries { limit, drain: false });
            }
            Command::Drain { receiver, limit } => {
                self.demand(receiver, Wish::Deliveries { limit, drain: true });
            }
            Command::DemandBytes { receiver, limit } => {
                self.demand(receiver, Wish::Bytes { limit });
            }
            Command::ReturnBrowsed { receiver, sequence } => {
                self.return_browsed(receiver, sequence);
            }
            Command::Settle { origin, entity, token, settlement, transaction } => {
                match (transaction, origin) {
                    (None, _) => self.settle(origin, entity, token, settlement),
                    (Some(enlistment), Some(origin)) => {
                        let tokens = vec![token];
                        self.enlist_settlement(origin, enlistment, entity, tokens, settlement);
                    }
                    // Nobody's transaction, so it is unknown, and nobody wants to hear of it.
                    (Some(_), None) => {}
                }
            }
            Command::UpdateDisposition {
                origin,
                entity,
                tokens,
                settlement,
                session,
                transaction,
            } => match (self.check_session(entity, session.as_ref()), transaction) {
                (Err(error), _) => self.reply_at_once(origin, Err(error)),
                (Ok(()), Some(transaction)) => {
                    let enlistment = Enlistment { transaction, answered: true };
                    self.enlist_settlement(origin, enlistment, entity, tokens, settlement);
                }
                (Ok(()), None) => self.update_disposition(origin, entity, tokens, settlement),
            },
            Command::RenewLocks { origin, entity, tokens } => {
                let result = self.renew_locks(entity, &tokens);
                self.reply_at_once(origin, result);
            }
            Command::Browse { origin, entity, from, count_max, bytes_max, session: None } => {
                self.browse(Asked { origin, entity, from, count_max, bytes_max });
            }
            Command::Browse { origin, entity, from, count_max, bytes_max, session: Some(id) } => {
                self.browse_session(origin, entity, &id, from, count_max, bytes_max);
            }
            Command::CreateQueue { origin, path, settings } => {
                let result = self.create_queue(path, settings);
                self.reply_after_commit(origin, result);
            }
            Command::UpdateQueue { origin, path, settings, access_rules } => {
                let result = self.update_queue(&path, settings, access_rules);
                self.reply_after_commit(origin, result);
            }
            Command::DeleteQueue { origin, path } => {
                let result = self.delete_queue(&path);
                self.reply_after_commit(origin, result);
            }
            Command::DescribeQueue { origin, path } => {
                let result = self.describe_queue(&path);
                self.reply_after_commit(origin, result);
            }
            Command::ListQueues { origin, skip, count_max } => {
                let result = self.list_queues(skip, count_max);
                self.reply_after_commit(origin, result);
            }
            Command::RenewSessionLock { origin, entity, session } => {
                let result = self.renew_session(entity, session);
                self.reply_at_once(origin, result);
            }
            Command::SetSessionState { origin, entity, session, state } => {
                self.set_session_state(origin, entity, session, state);
            }
            Command::GetSessionState { origin, entity, session } => {
                self.session_state(origin, entity, &session);
            }
            Command::ListSessions { origin, entity, updated_after, skip, count_max } => {
                self.list_sessions(origin, entity, updated_after, skip, count_max);
            }
            Command::Schedule { origin, entity, messages, transaction: Some(transaction) } => {
                let result = self.enlist_schedule(origin, transaction, entity, messages);
                self.reply_after_commit(origin, result);
            }
            Command::Schedule { origin, entity, messages, transaction: None } => {
                let messages = messages.into();
                self.submit(entity, Submission { origin, messages, scheduled: true });
            }
            Command::CancelScheduled { origin, entity, sequences } => {
                self.cancel_scheduled(origin, entity, sequences);
            }
            Command::ReceiveDeferred { origin, entity, sequences, mode, session } => {
                self.receive_deferred(origin, entity, sequences, mode, session);
            }
            Command::DeleteBatch { origin, entity, count_max, before, session } => {
                self.delete_batch(origin, entity, count_max, before, session);
            }
            Command::Declare { origin } => {
                let result = self.declare(origin);
                self.reply_at_once(origin, result);
            }
            Command::Discharge { origin, transaction, fail } => {
                self.discharge(origin, transaction, fail);
            }
            Command::Spoil { connection, transaction, why } => {
                self.spoil(connection, transaction, why);
            }
            Command::CloseCoordinator { connection, link } => {
                self.close_coordinator(connection, link);
            }
            Command::FindOldest { entity } => self.find_oldest(entity),
            Command::ReadDone { read, result } => self.read_done(read, result),
            Command::Tick => self.tick(),
        }
        self.give_out();
    }

    /// What came of the commands since the last turn.
    pub fn take_turn(&mut self) -> Turn {
        for entity in std::mem::take(&mut self.dirty) {
            let Some(queue) = queue_mut(&mut self.queues, entity) else { continue };
            queue.dirty = false;
            queue.noted_at = queue.accessed_at;
            queue.flush_runs(&mut self.batch);
            rows::persist_numbers(entity, &queue.numbers(), &mut self.batch);
        }
        self.reclaim();
        let mut effects = std::mem::take(&mut self.effects);
        if self.batch.is_empty() {
            // Nothing is written, so what was to wait for it waits for what was written before.
            for effect in &mut effects {
                effect.after = effect.after.min(self.position);
            }
        } else {
            self.position = self.position.next();
        }
        let batch = std::mem::replace(&mut self.batch, Batch::new(Epoch(0)));
        Turn { position: self.position, batch, effects }
    }

    /// When something is due that no command will bring about.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match (self.deadlines.first(), self.transactions.first_end()) {
            (Some(queue), Some(transaction)) => Some(queue.min(transaction)),
            (queue, transaction) => queue.or(transaction),
        }
    }

    /// Where the batch that is being filled will stand.
    const fn open_position(&self) -> CommitPosition {
        self.position.next()
    }

    pub(crate) fn queue(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.queues.get(entity.0 as usize).and_then(Option::as_deref);
        queue.ok_or_else(|| Error::EntityNotFound(entity.to_string()))
    }

    fn resolve(&self, path: &EntityPath) -> Result<EntityId, Error> {
        let entity = self.namespace.resolve(path);
        // Nothing is ever dead-lettered by a topic.
        let is_missing = path.subqueue() == Subqueue::DeadLetter
            && entity.and_then(|entity| self.queue(entity).ok()).is_some_and(Queue::is_of_topic);
        entity.filter(|_| !is_missing).ok_or_else(|| Error::EntityNotFound(path.to_string()))
    }

    /// Answers with what is true already, or refuses.
    fn reply_at_once(&mut self, to: Origin, result: Result<Reply, Error>) {
        self.emit(CommitPosition(0), EffectKind::Reply { to, result });
    }

    /// Answers once the batch that is being filled is durable. Refusals need not wait.
    fn reply_after_commit(&mut self, to: Origin, result: Result<Reply, Error>) {
        let after = if result.is_ok() { self.open_position() } else { CommitPosition(0) };
        self.emit(after, EffectKind::Reply { to, result });
    }

    fn emit(&mut self, after: CommitPosition, kind: EffectKind) {
        self.effects.push(Effect { after, kind });
    }

    /// Makes idle queues forget ready messages when memory is nearly used up, a few queues a turn.
    /// They can be read again; and who takes messages out now is better served by the memory.
    fn reclaim(&mut self) {
        const QUEUES_PER_TURN: usize = 16;
        let enough = self.settings.cache_bytes_max / 8 * 7;
        for _ in 0..QUEUES_PER_TURN.min(self.queues.len()) {
            if self.resident_bytes() <= enough {
                return;
            }
            self.reclaim_hand = (self.reclaim_hand + 1) % self.queues.len();
            let Some(Some(queue)) = self.queues.get_mut(self.reclaim_hand) else { continue };
            if queue.is_wanted() {
                continue;
            }
            let before = queue.memory();
            while before / 2 < queue.memory() && queue.evict_last() {}
            queue.settle_sessions();
            self.memory = self.memory - before + queue.memory();
        }
    }
}

/// Borrows a queue and nothing else of the broker.
fn queue_mut(queues: &mut [Option<Box<Queue>>], entity: EntityId) -> Option<&mut Queue> {
    queues.get_mut(entity.0 as usize).and_then(Option::as_deref_mut)
}

/// What [`crate::invariant`] asks.
impl Broker {
    pub(crate) fn check_queues(&self) -> Result<(), String> {
        let mut memory = 0;
        for queue in self.queues.iter().flatten() {
            queue.check()?;
            self.deadlines.check(queue)?;
            memory += queue.memory();
        }
        if memory != self.memory {
            return Err(format!("queues take {memory} octets, not {}", self.memory));
        }
        let queues = || self.queues.iter().flatten();
        let charges = queues().flat_map(|queue| queue.charges());
        let charges: BTreeMap<_, _> = charges.collect();
        let (shared, expected) = (charges.values().sum(), self.shared_memory.bytes());
        if expected != shared {
            return Err(format!("queues share {shared} octets, not {expected}"));
        }
        Ok(())
    }

    pub(crate) fn check_receivers(&self) -> Result<(), String> {
        let served: usize = self.queues.iter().flatten().map(|queue| queue.receiver_count()).sum();
        if served != self.receivers.len() {
            return Err(format!("{} receivers, {served} served", self.receivers.len()));
        }
        Ok(())
    }

    pub(crate) fn check_reads(&self) -> Result<(), String> {
        let known = self.reads.values().filter_map(Purpose::owner).count();
        let expected: usize =
            self.queues.iter().flatten().map(|queue| queue.reads_under_way()).sum();
        if known != expected {
            return Err(format!("{known} reads for queues, {expected} queues waiting for one"));
        }
        Ok(())
    }
}
