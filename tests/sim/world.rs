//! The core, a store that can crash, and virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use peeklock_core::check::check;
use peeklock_core::{
    Broker, BrokerSettings, Command, EntityId, EntityKind, EntityStatistics, OldestMessage, ReadId,
    ReadRequest, ReadRows, ReceiveMode, Scan, SeededIds, Span, Timestamp,
};
use peeklock_storage::{CommitPosition, Key, MemStore, ShardId, Store, StoreError, Table};

use crate::clients::{Asked, Decided, Held, Receiver, Standing, Wanted};
use crate::model::{At, Body, Fleeting, Kind, Model, Part, Turn, Wish};
use crate::random::Stream;
use crate::workload::Workload;

const SHARD: ShardId = ShardId(0);
pub(crate) const LOCK: Span = Span::from_secs(5);
/// Commands of one turn at most.
const COMMANDS_MAX: u64 = 3;
/// Long after a read that failed.
const RETRIED_AFTER: u64 = 2_000;
/// Nothing is scheduled for later.
const HORIZON: u64 = 20_000;

/// How often things go wrong: once in so many times, zero for never.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    /// After a step, power is lost.
    pub(crate) crash: u64,
    /// A write fails, done or not; the broker loads its state anew.
    pub(crate) write: u64,
    /// A read fails.
    pub(crate) read: u64,
    /// A read has to wait.
    pub(crate) slow_read: u64,
    /// For showing that it is noticed: the store says that everything is durable at once.
    pub(crate) store_lies: bool,
}

impl Faults {
    pub(crate) const NONE: Faults =
        Faults { crash: 0, write: 0, read: 0, slow_read: 0, store_lies: false };
    pub(crate) const CRASHES: Faults =
        Faults { crash: 300, write: 500, read: 10, slow_read: 3, store_lies: false };
}

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) now: u64,
    core: Broker,
    store: MemStore,
    settings: BrokerSettings,
    seed: u64,
    faults: Faults,
    fault_draws: Stream,
    pub(crate) draws: Stream,
    durable: CommitPosition,
    /// Submitted batches and their turns, oldest first.
    submitted: VecDeque<(CommitPosition, Turn)>,
    waiting: BTreeMap<CommitPosition, Vec<Decided>>,
    pub(crate) reads: VecDeque<(ReadId, ReadRequest)>,
    pub(crate) asked: BTreeMap<u32, Asked>,
    pub(crate) next_ask: u32,
    pub(crate) next_body: Body,
    pub(crate) next_receiver: u64,
    pub(crate) starts: u64,
    pub(crate) queues: usize,
    failed_read_at: Option<u64>,
    windows_are_wide: bool,
    /// Whether every message is seen under each number it has.
    pub(crate) numbers_are_complete: bool,
    pub(crate) entities: BTreeMap<At, EntityId>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) held: Vec<Held>,
    /// Held before a crash.
    pub(crate) lost: Vec<Held>,
    /// Scheduled messages: queue, body and number.
    pub(crate) scheduled: Vec<(usize, Body, u64)>,
    /// Deferred messages: body, place, number and session.
    pub(crate) deferred: Vec<(Body, At, u64, Option<u64>)>,
    pub(crate) open_transactions: Vec<u64>,
    /// What was settled with each.
    pub(crate) enlisted: BTreeMap<u64, Vec<Held>>,
    /// Ended ones, and on which connection they were.
    pub(crate) ended_transactions: Vec<(u64, u64)>,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, workload: &Workload) -> Self {
        let mut world = Self {
            model: Model::new(workload.queues.clone()),
            now: 1_000_000,
            core: Broker::new(workload.settings, Box::new(SeededIds::new(seed))),
            store: MemStore::manual(),
            settings: workload.settings,
            seed,
            faults: Faults::NONE,
            fault_draws: Stream::new(seed, "faults"),
            draws: Stream::new(seed, "workload"),
            durable: CommitPosition::default(),
            submitted: VecDeque::new(),
            waiting: BTreeMap::new(),
            reads: VecDeque::new(),
            asked: BTreeMap::new(),
            next_ask: 0,
            next_body: 0,
            next_receiver: 0,
            starts: 0,
            queues: workload.queues.len(),
            numbers_are_complete: workload.numbers_are_complete(),
            failed_read_at: None,
            windows_are_wide: workload.settings == BrokerSettings::default(),
            entities: BTreeMap::new(),
            receivers: Vec::new(),
            held: Vec::new(),
            lost: Vec::new(),
            scheduled: Vec::new(),
            deferred: Vec::new(),
            open_transactions: Vec::new(),
            enlisted: BTreeMap::new(),
            ended_transactions: Vec::new(),
        };
        world.declare();
        world.faults = faults;
        for _ in 0..workload.receivers {
            world.open_receiver(workload);
        }
        world
    }

    pub(crate) fn step(&mut self, workload: &Workload) {
        let weights: Vec<u64> = workload.weights.iter().map(|(_, weight)| *weight).collect();
        let mut actions = Vec::new();
        for _ in 0..=self.draws.below(COMMANDS_MAX) {
            let (action, _) = workload.weights[self.draws.weighted(&weights)];
            actions.push(action);
            self.act(action, workload);
        }
        self.turn();
        if self.fault_draws.once_in(self.faults.crash) {
            let kept = self.store.pending_count() as u64;
            let kept = self.fault_draws.index(kept + 1);
            self.crash(kept);
        }
        if let Err(broken) = self.core.check() {
            panic!("an invariant is broken after {actions:?}: {broken}");
        }
    }

    pub(crate) fn nothing_goes_wrong(&self) -> bool {
        self.faults.read == 0 && self.faults.slow_read == 0
    }

    /// Whether the broker knows everything without reading.
    pub(crate) fn everything_is_in_memory(&self) -> bool {
        self.windows_are_wide && self.starts == 0 && self.nothing_goes_wrong()
    }

    /// Nothing goes wrong from now on, and everything under way comes to its end.
    pub(crate) fn heal(&mut self) {
        self.faults = Faults::NONE;
        self.turn();
        while self.store.pending_count() != 0 || !self.reads.is_empty() || !self.waiting.is_empty()
        {
            self.sync();
            self.do_what_is_due();
        }
    }

    /// What the rows say is what the broker says.
    pub(crate) fn check_reload(&mut self) {
        self.model.seen.reloads += 1;
        let loaded = self.load(Box::new(SeededIds::new(0)));
        assert_eq!(loaded.durable_state(), self.core.durable_state(), "the rows say otherwise");
    }

    /// Receives and completes everything from every part of every queue.
    pub(crate) fn drain(&mut self) {
        self.heal();
        self.look_for_oldest();
        self.close_all(|_| true);
        for transaction in std::mem::take(&mut self.open_transactions) {
            self.discharge_one(transaction, true);
        }
        self.heal();
        self.held.clear();
        self.pass(HORIZON.max(2 * LOCK.0));
        for _ in 0..2 {
            self.receive_everything();
            self.fetch_everything();
        }
        // What several subscriptions shared is cleared away some time after the last let go of it.
        for _ in 0..3 {
            self.pass(HORIZON);
            self.heal();
        }
        self.check_nothing_is_left();
    }

    /// When the oldest message came can be found out, wherever that is, and was not in the future.
    fn look_for_oldest(&mut self) {
        // What goes while it is looked up is looked for again.
        for _ in 0..100 {
            let mut unknown = self.core.entity_statistics(None, usize::MAX);
            unknown.retain(|entity| entity.oldest == OldestMessage::Unknown);
            for EntityStatistics { entity, .. } in unknown {
                self.handle(Command::FindOldest { entity });
            }
            self.heal();
        }
        for entity in self.core.entity_statistics(None, usize::MAX) {
            let fits = match entity.oldest {
                OldestMessage::None => entity.active == 0 || entity.kind == EntityKind::Topic,
                OldestMessage::Since(at) => entity.active != 0 && at.0 <= self.now,
                OldestMessage::Unknown => false,
            };
            assert!(fits, "{entity:?}");
        }
    }

    fn receive_everything(&mut self) {
        for queue in (0..self.queues).filter(|queue| self.is_held(*queue)).collect::<Vec<_>>() {
            for part in Part::ALL {
                let rules = *self.model.rules(queue);
                if part != Part::Main || (!rules.requires_session && rules.forward_to.is_none()) {
                    let mode = ReceiveMode::PeekLock;
                    self.open_receiver_at((queue, part), mode, Wanted::NoSession);
                }
            }
        }
        let mut idle = 0;
        while idle < 20 {
            self.open_all_sessions();
            for index in 0..self.receivers.len() {
                if self.receivers[index].standing == Standing::Open {
                    self.demand(index, 50, false);
                }
            }
            self.heal();
            idle = if self.held.is_empty() { idle + 1 } else { 0 };
            for held in std::mem::take(&mut self.held) {
                self.settle(held, Wish::Complete, None);
            }
            self.heal();
            self.close_all(|receiver| receiver.wanted != Wanted::NoSession);
            // Reads that failed are tried again after a while.
            self.pass(100);
        }
        self.close_all(|_| true);
    }

    fn close_all(&mut self, which: impl Fn(&Receiver) -> bool) {
        for index in 0..self.receivers.len() {
            let receiver = &self.receivers[index];
            if which(receiver) && receiver.standing != Standing::Closed {
                self.close_receiver_at(index);
                // What one gives back another may be given.
                self.turn();
            }
        }
        self.heal();
        self.receivers.retain(|receiver| receiver.standing != Standing::Closed);
    }

    /// A receiver for each session that has messages, in each queue.
    fn open_all_sessions(&mut self) {
        for queue in 0..self.queues {
            if self.model.rules(queue).requires_session {
                for _ in 0..8 {
                    let wanted = Wanted::NextSession(self.now);
                    self.open_receiver_at((queue, Part::Main), ReceiveMode::PeekLock, wanted);
                }
            }
        }
        self.heal();
        self.pass(1);
    }

    /// Fetches and completes what is deferred.
    fn fetch_everything(&mut self) {
        for (body, at, number, session) in self.model.deferred() {
            if let Some(session) = session {
                self.open_receiver_at(at, ReceiveMode::PeekLock, Wanted::Session(session));
                self.heal();
            }
            self.fetch_at(at, vec![(body, number)], session, ReceiveMode::PeekLock);
            self.heal();
            for held in std::mem::take(&mut self.held) {
                self.settle(held, Wish::Complete, None);
            }
            self.heal();
            self.close_all(|_| true);
        }
    }

    fn check_nothing_is_left(&self) {
        for stats in self.core.queue_stats() {
            let left = stats.active_count + stats.dead_letter_count;
            assert_eq!(left, 0, "{left} messages of {:?} cannot be received", stats.path);
        }
        for entity in self.core.entity_statistics(None, usize::MAX) {
            assert_eq!((entity.messages(), entity.locked), (0, 0), "{entity:?}");
        }
        assert_eq!(self.core.counters().damaged, 0, "rows were lost");
        let range = Key::new()..Key::new().with_u64(u64::MAX);
        let rows = self.store.scan(Table::Message, &range, 10, usize::MAX);
        assert_eq!(rows.expect("memory can be read"), [], "rows of messages that are gone");
    }

    fn declare(&mut self) {
        let faults = std::mem::replace(&mut self.faults, Faults::NONE);
        // Queues are forwarded to later ones, which must be there before.
        let is_subscription =
            |world: &Self, queue| matches!(world.model.kind(queue), Kind::Subscription { .. });
        for subscriptions in [false, true] {
            for queue in (0..self.queues).rev() {
                let is_next = is_subscription(self, queue) == subscriptions;
                if is_next && !self.is_fleeting(queue) {
                    self.ensure(queue);
                }
            }
        }
        self.heal();
        self.entities.clear();
        for queue in 0..self.queues {
            let is_there = self.model.is_there(Fleeting::Subscription(queue));
            self.learn(queue);
            self.turn();
            assert_eq!(self.is_known(queue), is_there, "entity {queue} is there, or is not");
        }
        self.faults = faults;
    }

    pub(crate) fn handle(&mut self, command: Command) {
        self.model.now = self.now;
        self.core.handle(Timestamp(self.now), command);
    }

    pub(crate) fn wait(&mut self, most: u64) {
        let span = 1 + self.draws.below(most);
        self.pass(span);
    }

    fn pass(&mut self, span: u64) {
        // What was decided before was decided then.
        self.turn();
        self.now += span;
        self.handle(Command::Tick);
        self.turn();
        self.do_what_is_due();
    }

    /// What is left to do at once is done at once.
    fn do_what_is_due(&mut self) {
        while self.core.next_deadline().is_some_and(|at| at <= Timestamp(self.now)) {
            self.handle(Command::Tick);
            self.turn();
        }
    }

    /// Submits what the turn came to and lets out what is durable.
    pub(crate) fn turn(&mut self) {
        self.model.turn += 1;
        self.model.note_due();
        self.model.forget_gone();
        let turn = self.core.take_turn();
        let decided: Vec<_> = turn
            .effects
            .into_iter()
            .map(|effect| (effect.after, self.decided(effect.kind)))
            .collect();
        if !turn.batch.is_empty() {
            self.store
                .submit(SHARD, turn.position, turn.batch)
                .expect("the store in memory refuses nothing");
            self.submitted.push_back((turn.position, self.model.turn));
            if self.fault_draws.once_in(self.faults.write) {
                // Of this batch and those before it nobody knows.
                self.model.seen.failed_writes += 1;
                let kept = self.fault_draws.index(self.store.pending_count() as u64 + 1);
                self.crash(kept);
                return;
            }
        }
        for (after, decided) in decided {
            if after <= self.durable || self.faults.store_lies {
                self.let_out(decided);
            } else {
                self.waiting.entry(after).or_default().push(decided);
            }
        }
    }

    /// Whether the broker has nothing left to do before time passes: what failed it has tried again.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.failed_read_at.is_none_or(|at| at + RETRIED_AFTER < self.now)
            && self.reads.is_empty()
            && self.core.next_deadline().is_none_or(|at| Timestamp(self.now) < at)
            && self.waiting.values().flatten().all(|decided| !decided.is_read())
    }

    /// Whether an entity is there and holds messages.
    fn is_held(&self, queue: usize) -> bool {
        !self.model.is_topic(queue) && self.model.is_there(Fleeting::Subscription(queue))
    }

    /// The oldest batch becomes durable, and what can be read is read.
    pub(crate) fn sync(&mut self) {
        if self.store.sync_one()
            && let Some((position, turn)) = self.submitted.pop_front()
        {
            self.durable = position;
            self.model.durable = turn;
        }
        while let Some(entry) = self.waiting.first_entry() {
            if self.durable < *entry.key() {
                break;
            }
            for decided in entry.remove() {
                self.let_out(decided);
            }
        }
        let start = self.starts;
        for (read, request) in std::mem::take(&mut self.reads) {
            if self.fault_draws.once_in(self.faults.slow_read) {
                self.reads.push_back((read, request));
                continue;
            }
            let result = if self.fault_draws.once_in(self.faults.read) {
                self.model.seen.failed_reads += 1;
                self.failed_read_at = Some(self.now);
                let (doing, what) = ("reading".into(), "injected".into());
                Err(StoreError::Io { doing, kind: io::ErrorKind::Other, what })
            } else {
                Ok(self.read(&request))
            };
            self.handle(Command::ReadDone { read, result });
            self.turn();
            if self.starts != start {
                return;
            }
        }
    }

    fn read(&self, request: &ReadRequest) -> ReadRows {
        let scan =
            |scan: &Scan| self.store.scan(scan.table, &scan.range, scan.rows_max, scan.bytes_max);
        let scans = request.scans.iter().map(scan).collect::<Result<_, _>>();
        let gets = request.gets.iter().map(|(table, key)| self.store.get(*table, key));
        ReadRows {
            scans: scans.expect("memory can be read"),
            gets: gets.collect::<Result<_, _>>().expect("memory can be read"),
        }
    }

    fn load(&self, ids: Box<SeededIds>) -> Broker {
        let rows = self.store.scan(Table::State, &Broker::load_range(), usize::MAX, usize::MAX);
        let rows = rows.expect("memory can be read");
        // Each row is looked at: often enough to find what does not fit, and not all the time.
        if self.starts.is_multiple_of(4) {
            let mut wrong = Vec::new();
            let checked = check(&self.store, &mut |finding| wrong.push(finding));
            assert!(checked.is_ok() && wrong.is_empty(), "{wrong:#?}");
        }
        Broker::load(self.settings, ids, rows).expect("what was written can be loaded")
    }

    /// Everything in memory is gone, and of the batches under way all but the `kept` oldest.
    fn crash(&mut self, kept: usize) {
        let last = kept.checked_sub(1).and_then(|last| self.submitted.get(last));
        let last = last.map_or(self.model.durable, |(_, turn)| *turn);
        self.model.crashed(last);
        self.store.crash_after(kept);
        self.starts += 1;
        self.core = self.load(Box::new(SeededIds::new(self.seed ^ (self.starts << 32))));
        self.durable = CommitPosition::default();
        self.submitted.clear();
        self.waiting.clear();
        self.reads.clear();
        self.asked.clear();
        self.lost.append(&mut self.held);
        self.lost.drain(..self.lost.len().saturating_sub(50));
        let open = std::mem::take(&mut self.open_transactions).into_iter();
        self.ended_transactions.extend(open.map(|transaction| (self.starts - 1, transaction)));
        self.enlisted.clear();
        let receivers = std::mem::take(&mut self.receivers);
        self.declare();
        for receiver in receivers {
            let wants_session = matches!(receiver.wanted, Wanted::Session(_));
            let is_there = self.is_known(receiver.at.0);
            if is_there && (receiver.standing == Standing::Open || wants_session) {
                self.open_receiver_at(receiver.at, receiver.mode, receiver.wanted);
            }
        }
        self.turn();
    }
}
