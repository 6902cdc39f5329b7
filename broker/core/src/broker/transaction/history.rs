//! Histories of transactions and duplicates: random commands with crashes, reads that fail or come
//! late, and locks that end, against what clients were told.
//!
//! `PEEKLOCK_SEED=n cargo test transactional_histories` runs one alone.

use std::collections::{BTreeMap, BTreeSet};

use peeklock_protocol::message::{Message, Properties};
use smallvec::SmallVec;

use crate::broker::tests::timed::message_with;
use crate::command::{Command, Enlistment, ReceiveMode, Settlement};
use crate::effect::{EffectKind, Reply};
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, LockToken, Origin, ReceiverId, TransactionId};
use crate::message::IncomingMessage;
use crate::testing::{Dice, World, body_of};
use crate::time::{Span, Timestamp};

const WINDOW: Span = Span::from_secs(20);
const QUEUES: [&str; 2] = ["plain", "exact"];

/// How a transaction stands, for all that clients know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Discharging,
    Committed,
    RolledBack,
    /// The broker went before it answered.
    Unknown,
}

#[derive(Debug)]
struct Transaction {
    id: TransactionId,
    state: State,
    sent: Vec<u64>,
    completed: Vec<u64>,
}

enum Asked {
    Declare,
    /// Outside of transactions, at this time.
    Send {
        id: Option<String>,
        at: Timestamp,
    },
    SendWithin(usize, u64),
    CompleteWithin(usize, u64),
    Complete(u64),
    Discharge(usize),
}

/// A message as it was delivered first.
#[derive(Debug)]
struct Found {
    id: Option<String>,
    enqueued_at: Timestamp,
}

#[derive(Default, Debug)]
struct Counts {
    committed: u64,
    rolled_back: u64,
    refused: u64,
    unknown: u64,
    duplicates: u64,
    crashes: u64,
}

struct History {
    world: World,
    dice: Dice,
    queues: [EntityId; 2],
    receivers: Vec<(ReceiverId, u64)>,
    held: Vec<(EntityId, LockToken, u64)>,
    transactions: Vec<Transaction>,
    asked: BTreeMap<Origin, Asked>,
    /// Everything that was ever delivered.
    found: BTreeMap<u64, Found>,
    /// Completed outside of transactions, whether or not that was answered.
    completing: BTreeSet<u64>,
    /// Answered sends of ids, with the time between question and answer.
    accepted: Vec<(String, Timestamp, Timestamp)>,
    next_body: u64,
    next_link: u64,
    counts: Counts,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = BrokerSettings {
            cache_bytes_max: [0, 4_000, 1 << 20][dice.below(3)],
            page_rows_max: [1, 3, 100][dice.below(3)],
            fingerprint_bytes_max: [0, 64, 1 << 20][dice.below(3)],
            ..BrokerSettings::default()
        };
        let mut world = World::seeded(settings, seed);
        let queue = QueueSettings {
            lock_duration: Span([2_000, 60_000][dice.below(2)]),
            attempts_max: 1_000_000,
            ..QueueSettings::default()
        };
        let exact = QueueSettings { duplicate_window: Some(WINDOW), ..queue.clone() };
        let queues = [world.ensure_queue("plain", queue), world.ensure_queue("exact", exact)];
        History {
            world,
            dice,
            queues,
            receivers: Vec::new(),
            held: Vec::new(),
            transactions: Vec::new(),
            asked: BTreeMap::new(),
            found: BTreeMap::new(),
            completing: BTreeSet::new(),
            accepted: Vec::new(),
            next_body: 0,
            next_link: 0,
            counts: Counts::default(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..15 => self.send(),
            15..25 => self.ask(Asked::Declare, |origin| Command::Declare { origin }),
            25..40 => self.send_within(),
            40..52 => self.complete_within(),
            52..58 => self.complete(),
            58..66 => self.discharge(),
            66..74 => self.receive(),
            74..84 => drop(self.world.turn()),
            84..90 => drop(self.world.sync_one()),
            90..94 => drop(self.world.answer_read(0)),
            94 => {
                self.world.reads_wait = self.dice.percent(50);
                self.world.reads_see_early = self.dice.percent(50);
                self.world.reads_fail = self.dice.percent(15);
            }
            95..98 => {
                let span = [100, 1_000, 9_000][self.dice.below(3)];
                self.world.now = self.world.now.plus(Span(span));
                self.world.handle(Command::Tick);
            }
            98 => {
                self.world.handle(Command::CloseCoordinator { connection: 1, link: 1 });
                for open in self.transactions.iter_mut().filter(|one| one.state == State::Open) {
                    open.state = State::RolledBack;
                }
            }
            _ => self.crash(),
        }
        self.look();
    }

    fn ask(&mut self, asked: Asked, command: impl FnOnce(Origin) -> Command) {
        let origin = self.world.origin();
        self.asked.insert(origin, asked);
        self.world.handle(command(origin));
    }

    /// A message to one of the queues, with an id that may have been used before.
    fn message(&mut self) -> (u64, EntityId, Option<String>, SmallVec<[IncomingMessage; 1]>) {
        let body = self.next_body;
        self.next_body += 1;
        let is_exact = self.dice.percent(60);
        let id = is_exact.then(|| format!("id {}", self.dice.below(12)));
        let properties =
            Properties { message_id: id.as_deref().map(Into::into), ..Properties::default() };
        let sections = Message::default().with_properties(properties);
        let message = message_with(&sections, &body.to_string());
        (body, self.queues[usize::from(is_exact)], id, SmallVec::from_iter([message]))
    }

    fn send(&mut self) {
        let (_, entity, id, messages) = self.message();
        let at = self.world.now;
        self.ask(Asked::Send { id, at }, |origin| Command::Send {
            origin,
            entity,
            messages,
            transaction: None,
        });
    }

    fn open_transaction(&mut self) -> Option<(usize, TransactionId)> {
        let all = self.transactions.iter().enumerate();
        let open: Vec<_> = all.filter(|(_, one)| one.state == State::Open).collect();
        let (index, found) = open.get(self.dice.below(open.len().max(1)))?;
        Some((*index, found.id))
    }

    fn send_within(&mut self) {
        let Some((index, transaction)) = self.open_transaction() else { return };
        let (body, entity, _, messages) = self.message();
        let transaction = Some(Enlistment { transaction, answered: true });
        self.ask(Asked::SendWithin(index, body), |origin| Command::Send {
            origin,
            entity,
            messages,
            transaction,
        });
    }

    fn complete_within(&mut self) {
        let Some((index, transaction)) = self.open_transaction() else { return };
        let Some((entity, token, body)) = self.held.pop() else { return };
        let transaction = Some(Enlistment { transaction, answered: true });
        // With changes a commit has to read bodies.
        let settlement = if self.dice.percent(70) {
            Settlement::Complete
        } else {
            Settlement::DeadLetter { reason: None, description: None, changes: Vec::new() }
        };
        self.ask(Asked::CompleteWithin(index, body), |origin| Command::Settle {
            origin: Some(origin),
            entity,
            token,
            settlement,
            transaction,
        });
    }

    fn complete(&mut self) {
        let Some((entity, token, body)) = self.held.pop() else { return };
        self.completing.insert(body);
        let settlement = Settlement::Complete;
        self.ask(Asked::Complete(body), |origin| Command::Settle {
            origin: Some(origin),
            entity,
            token,
            settlement,
            transaction: None,
        });
    }

    fn discharge(&mut self) {
        let Some((index, transaction)) = self.open_transaction() else { return };
        let fail = self.dice.percent(20);
        self.transactions[index].state = if fail { State::RolledBack } else { State::Discharging };
        self.ask(Asked::Discharge(index), |origin| Command::Discharge {
            origin,
            transaction,
            fail,
        });
    }

    fn receive(&mut self) {
        if self.receivers.len() < 3 {
            self.next_link += 1;
            let address = QUEUES[self.dice.below(2)];
            let path = crate::entity::path::EntityPath::parse(address).unwrap().path;
            let receiver = ReceiverId { connection: 7, link: self.next_link };
            let (mode, session, origin) = (ReceiveMode::PeekLock, None, self.world.origin());
            self.world.handle(Command::OpenReceiver { origin, receiver, path, mode, session });
            self.receivers.push((receiver, 0));
        }
        let at = self.dice.below(self.receivers.len());
        let (receiver, given) = self.receivers[at];
        let limit = given + 1 + self.dice.below(4) as u64;
        self.world.handle(Command::Demand { receiver, limit });
    }

    fn crash(&mut self) {
        self.counts.crashes += 1;
        self.counts.duplicates += self.world.broker.counters().duplicates;
        self.world.crash();
        self.asked.clear();
        self.receivers.clear();
        self.held.clear();
        for one in &mut self.transactions {
            one.state = match one.state {
                State::Discharging => State::Unknown,
                State::Open | State::RolledBack => State::RolledBack,
                State::Committed | State::Unknown => one.state,
            };
        }
    }

    fn look(&mut self) {
        for kind in std::mem::take(&mut self.world.released) {
            match kind {
                EffectKind::Reply { to, result } => self.answered(to, result),
                EffectKind::Deliver { receiver, delivery } => {
                    let bytes = delivery.message.bytes();
                    let body: u64 = std::str::from_utf8(body_of(bytes)).unwrap().parse().unwrap();
                    let id = delivery.message.facts().message_id();
                    let enqueued_at = delivery.message.enqueued_at();
                    self.delivered(body);
                    self.found.entry(body).or_insert(Found { id, enqueued_at });
                    if let Some(one) = self.receivers.iter_mut().find(|one| one.0 == receiver) {
                        one.1 += 1;
                    }
                    if let Some(lock) = delivery.lock {
                        self.held.push((delivery.entity, lock.token, body));
                    }
                }
                EffectKind::Drained { .. }
                | EffectKind::ReceiverClosed { .. }
                | EffectKind::EntityClosed { .. }
                | EffectKind::AccessChanged { .. }
                | EffectKind::Read { .. } => panic!("{kind:?}"),
            }
        }
    }

    fn delivered(&self, body: u64) {
        for one in &self.transactions {
            let is_shown_early =
                matches!(one.state, State::Open | State::RolledBack) && one.sent.contains(&body);
            assert!(!is_shown_early, "message {body} of {one:?}");
        }
    }

    fn answered(&mut self, to: Origin, result: Result<Reply, Error>) {
        let Some(asked) = self.asked.remove(&to) else { return };
        match (asked, result) {
            (Asked::Declare, Ok(Reply::Declared { transaction: id })) => {
                let (sent, completed) = (Vec::new(), Vec::new());
                self.transactions.push(Transaction { id, state: State::Open, sent, completed });
            }
            (Asked::Send { id: Some(id), at }, Ok(Reply::Accepted)) => {
                self.accepted.push((id, at, self.world.now));
            }
            (Asked::Send { .. }, Ok(Reply::Accepted) | Err(Error::StoreUnavailable))
            | (
                Asked::Complete(_) | Asked::CompleteWithin(..),
                Err(Error::MessageLockLost | Error::NotAllowed(_) | Error::StoreUnavailable),
            ) => {}
            (Asked::SendWithin(index, body), Ok(Reply::Enlisted)) => {
                self.transactions[index].sent.push(body);
            }
            (Asked::CompleteWithin(index, body), Ok(Reply::Enlisted)) => {
                self.transactions[index].completed.push(body);
            }
            (Asked::Discharge(index), result) => {
                let one = &mut self.transactions[index];
                one.state = match (result, one.state) {
                    (Ok(Reply::Discharged), State::Discharging) => State::Committed,
                    // Unknown: it was declared by a link that was gone before the answer came.
                    (Ok(Reply::Discharged) | Err(Error::TransactionUnknown), _) => {
                        State::RolledBack
                    }
                    (Err(Error::TransactionRolledBack(_) | Error::TransactionTimeout), _) => {
                        self.counts.refused += 1;
                        State::RolledBack
                    }
                    (other, _) => panic!("{other:?}"),
                };
            }
            (
                Asked::SendWithin(index, _) | Asked::CompleteWithin(index, _),
                Err(Error::TransactionTimeout | Error::TransactionUnknown),
            ) => self.transactions[index].state = State::RolledBack,
            (Asked::Complete(body), Ok(Reply::Settled)) => {
                self.completing.insert(body);
            }
            (_, result) => panic!("{result:?}"),
        }
    }

    fn finish(mut self) -> Counts {
        self.world.reads_fail = false;
        self.world.reads_wait = false;
        self.world.settle_down();
        self.look();
        for (receiver, _) in std::mem::take(&mut self.receivers) {
            self.world.handle(Command::CloseReceiver { receiver });
        }
        // All locks end, and what is open is rolled back.
        self.world.pass(Span::from_secs(600));
        self.look();
        for one in &mut self.transactions {
            if one.state == State::Open {
                one.state = State::RolledBack;
            }
            assert_ne!(one.state, State::Discharging, "every discharge is answered");
        }
        let mut left = BTreeSet::new();
        for (address, link) in QUEUES.into_iter().zip(1_000..) {
            let receiver = self.world.open(link, address, ReceiveMode::ReceiveAndDelete);
            self.world.handle(Command::Demand { receiver, limit: 1_000_000 });
            self.world.settle_down();
            for kind in &self.world.released {
                if let EffectKind::Deliver { delivery, .. } = kind {
                    let text = std::str::from_utf8(body_of(delivery.message.bytes())).unwrap();
                    assert!(left.insert(text.parse().unwrap()), "{text} is doubled");
                }
            }
            self.look();
        }
        for one in &self.transactions {
            self.check_whole(one, &left);
        }
        self.check_ids();
        self.counts.duplicates += self.world.broker.counters().duplicates;
        for one in &self.transactions {
            match one.state {
                State::Committed => self.counts.committed += 1,
                State::RolledBack => self.counts.rolled_back += 1,
                State::Unknown => self.counts.unknown += 1,
                State::Open | State::Discharging => unreachable!("checked above"),
            }
        }
        self.counts
    }

    /// A transaction happened as a whole, or not at all.
    fn check_whole(&self, one: &Transaction, left: &BTreeSet<u64>) {
        // Ids repeat, so of what was sent to the other queue some may be missing.
        let is_there = |body: &&u64| self.found.contains_key(*body);
        let there = one.sent.iter().filter(is_there).count();
        let back = one.completed.iter().filter(|body| left.contains(body)).count();
        let done = match one.state {
            State::Committed => true,
            State::RolledBack => false,
            State::Unknown => back == 0 && (there > 0 || !one.completed.is_empty()),
            State::Open | State::Discharging => unreachable!("all are over"),
        };
        if done {
            assert_eq!(back, 0, "settled messages came back: {one:?}");
        } else {
            assert_eq!(there, 0, "sent messages are there: {one:?}");
            let lost: Vec<_> = one
                .completed
                .iter()
                .filter(|body| !left.contains(body) && !self.is_completed_elsewhere(one, **body))
                .collect();
            assert!(lost.is_empty(), "{lost:?} were settled all the same: {one:?}");
        }
    }

    fn is_completed_elsewhere(&self, this: &Transaction, body: u64) -> bool {
        self.completing.contains(&body)
            || self.transactions.iter().any(|other| {
                !std::ptr::eq(other, this)
                    && matches!(other.state, State::Committed | State::Unknown)
                    && other.completed.contains(&body)
            })
    }

    /// Of one id there is one message within a window, and one at least for every accepted send.
    fn check_ids(&self) {
        let mut by_id = BTreeMap::<&str, BTreeSet<Timestamp>>::new();
        for (body, Found { id, enqueued_at }) in &self.found {
            let Some(id) = id else { continue };
            let times = by_id.entry(id).or_default();
            assert!(times.insert(*enqueued_at), "message {body} is a duplicate");
        }
        for (id, times) in &by_id {
            for (one, next) in times.iter().zip(times.iter().skip(1)) {
                assert!(one.plus(WINDOW) <= *next, "{id} came at {one} and at {next}");
            }
        }
        for (id, asked_at, answered_at) in &self.accepted {
            let earliest = Timestamp(asked_at.0.saturating_sub(WINDOW.0) + 1);
            let is_there = by_id
                .get(id.as_str())
                .is_some_and(|times| times.range(earliest..=*answered_at).next().is_some());
            assert!(is_there, "{id} was accepted between {asked_at} and {answered_at}, and lost");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the environment says which failure to repeat")]
fn transactional_histories_are_atomic_and_exact() {
    let only = std::env::var("PEEKLOCK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(1..400, |seed: u64| seed..seed + 1);
    let mut all = Counts::default();
    for seed in seeds {
        let mut history = History::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..400 {
                history.step();
            }
            history.finish()
        });
        let counts = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"));
        all.committed += counts.committed;
        all.rolled_back += counts.rolled_back;
        all.refused += counts.refused;
        all.unknown += counts.unknown;
        all.duplicates += counts.duplicates;
        all.crashes += counts.crashes;
    }
    if only.is_none() {
        let Counts { committed, rolled_back, refused, unknown, duplicates, crashes } = all;
        let counts = [committed, rolled_back, refused, unknown, duplicates, crashes];
        assert!(counts.iter().all(|count| *count > 100), "{all:?}");
    }
}
