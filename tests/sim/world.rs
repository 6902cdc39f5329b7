//! The core, a store that can crash, and virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use peeklock_core::{
    Broker, BrokerSettings, Command, Effect, EffectKind, EntityId, LockToken, QueueSettings,
    ReadId, ReadRequest, ReadRows, ReceiveMode, Scan, SeededIds, Span, Timestamp,
};
use peeklock_storage::{CommitPosition, Key, MemStore, ShardId, Store, StoreError, Table};

use crate::clients::{Asked, Held, Receiver, path};
use crate::model::{Body, Model, Part, Wish};
use crate::random::Stream;
use crate::workload::Workload;

const SHARD: ShardId = ShardId(0);
const ATTEMPTS_MAX: u32 = 3;
pub(crate) const LOCK: Span = Span::from_secs(5);

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
    pub(crate) model: Model<LockToken>,
    pub(crate) now: u64,
    core: Broker,
    store: MemStore,
    settings: BrokerSettings,
    seed: u64,
    faults: Faults,
    fault_draws: Stream,
    pub(crate) draws: Stream,
    durable: CommitPosition,
    /// Positions of submitted batches, oldest first.
    positions: VecDeque<CommitPosition>,
    waiting: BTreeMap<CommitPosition, Vec<EffectKind>>,
    pub(crate) reads: VecDeque<(ReadId, ReadRequest)>,
    pub(crate) asked: BTreeMap<u32, Asked>,
    pub(crate) next_ask: u32,
    pub(crate) next_body: Body,
    pub(crate) next_receiver: u64,
    pub(crate) starts: u64,
    pub(crate) queues: usize,
    pub(crate) entities: BTreeMap<(usize, Part), EntityId>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) held: Vec<Held>,
    /// Held before a crash.
    pub(crate) lost: Vec<Held>,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, workload: &Workload) -> Self {
        let mut world = Self {
            model: Model::new(ATTEMPTS_MAX, LOCK.0),
            now: 1_000_000,
            core: Broker::new(workload.settings, Box::new(SeededIds::new(seed))),
            store: MemStore::manual(),
            settings: workload.settings,
            seed,
            faults: Faults::NONE,
            fault_draws: Stream::new(seed, "faults"),
            draws: Stream::new(seed, "workload"),
            durable: CommitPosition::default(),
            positions: VecDeque::new(),
            waiting: BTreeMap::new(),
            reads: VecDeque::new(),
            asked: BTreeMap::new(),
            next_ask: 0,
            next_body: 0,
            next_receiver: 0,
            starts: 0,
            queues: workload.queues,
            entities: BTreeMap::new(),
            receivers: Vec::new(),
            held: Vec::new(),
            lost: Vec::new(),
        };
        world.declare();
        world.faults = faults;
        for _ in 0..workload.receivers {
            world.open_receiver();
        }
        world
    }

    pub(crate) fn step(&mut self, workload: &Workload) {
        let weights: Vec<u64> = workload.weights.iter().map(|(_, weight)| *weight).collect();
        let (action, _) = workload.weights[self.draws.weighted(&weights)];
        self.act(action, workload);
        self.turn();
        if self.fault_draws.once_in(self.faults.crash) {
            let kept = self.store.pending_count() as u64;
            let kept = self.fault_draws.index(kept + 1);
            self.crash(kept);
        }
        if let Err(broken) = self.core.check() {
            panic!("an invariant is broken after {action:?}: {broken}");
        }
    }

    /// Nothing goes wrong from now on, and everything under way comes to its end.
    pub(crate) fn heal(&mut self) {
        self.faults = Faults::NONE;
        self.turn();
        while self.store.pending_count() != 0 || !self.reads.is_empty() || !self.waiting.is_empty()
        {
            self.sync();
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
        for receiver in std::mem::take(&mut self.receivers) {
            self.handle(Command::CloseReceiver { receiver: receiver.id });
        }
        self.now += 2 * LOCK.0;
        self.handle(Command::Tick);
        self.held.clear();
        for queue in 0..self.queues {
            for part in [Part::Main, Part::DeadLetter] {
                self.open_receiver_at((queue, part), ReceiveMode::PeekLock);
            }
        }
        let mut idle = 0;
        while idle < 20 {
            for index in 0..self.receivers.len() {
                self.demand(index, 50, false);
            }
            self.heal();
            idle = if self.held.is_empty() { idle + 1 } else { 0 };
            for held in std::mem::take(&mut self.held) {
                self.settle(held, Wish::Complete);
            }
            self.heal();
            // Reads that failed are tried again after a while.
            self.now += 100;
            self.handle(Command::Tick);
        }
        for stats in self.core.queue_stats() {
            let left = stats.active_count + stats.dead_letter_count;
            assert_eq!(left, 0, "{left} messages of {:?} cannot be received", stats.path);
        }
        assert_eq!(self.core.counters().damaged, 0, "rows were lost");
        let range = Key::new()..Key::new().with_u64(u64::MAX);
        let rows = self.store.scan(Table::Message, &range, 10, usize::MAX);
        assert_eq!(rows.expect("memory can be read"), [], "rows of messages that are gone");
    }

    fn declare(&mut self) {
        let faults = std::mem::replace(&mut self.faults, Faults::NONE);
        for queue in 0..self.queues {
            let settings = QueueSettings {
                lock_duration: LOCK,
                attempts_max: ATTEMPTS_MAX,
                ..QueueSettings::default()
            };
            let path = path((queue, Part::Main));
            self.handle(Command::EnsureQueue { origin: None, path, settings });
        }
        self.heal();
        self.entities.clear();
        for queue in 0..self.queues {
            for part in [Part::Main, Part::DeadLetter] {
                let at = (queue, part);
                let origin = self.ask(Asked::Entity(at));
                self.handle(Command::OpenManagement { origin, path: path(at) });
                self.turn();
                assert!(self.entities.contains_key(&at), "no such entity: {at:?}");
            }
        }
        self.faults = faults;
    }

    pub(crate) fn handle(&mut self, command: Command) {
        self.core.handle(Timestamp(self.now), command);
    }

    pub(crate) fn wait(&mut self, most: u64) {
        self.now += 1 + self.draws.below(most);
        self.handle(Command::Tick);
    }

    /// Submits what the turn came to and lets out what is durable.
    pub(crate) fn turn(&mut self) {
        let turn = self.core.take_turn();
        if !turn.batch.is_empty() {
            self.store
                .submit(SHARD, turn.position, turn.batch)
                .expect("the store in memory refuses nothing");
            self.positions.push_back(turn.position);
            if self.fault_draws.once_in(self.faults.write) {
                // Of this batch and those before it nobody knows.
                self.model.seen.failed_writes += 1;
                let kept = self.fault_draws.index(self.store.pending_count() as u64 + 1);
                self.crash(kept);
                return;
            }
        }
        for Effect { after, kind } in turn.effects {
            if after <= self.durable || self.faults.store_lies {
                self.effect(kind);
            } else {
                self.waiting.entry(after).or_default().push(kind);
            }
        }
    }

    /// The oldest batch becomes durable, and what can be read is read.
    pub(crate) fn sync(&mut self) {
        if self.store.sync_one()
            && let Some(position) = self.positions.pop_front()
        {
            self.durable = position;
        }
        while let Some(entry) = self.waiting.first_entry() {
            if self.durable < *entry.key() {
                break;
            }
            entry.remove().into_iter().for_each(|kind| self.effect(kind));
        }
        let start = self.starts;
        for (read, request) in std::mem::take(&mut self.reads) {
            if self.fault_draws.once_in(self.faults.slow_read) {
                self.reads.push_back((read, request));
                continue;
            }
            let result = if self.fault_draws.once_in(self.faults.read) {
                self.model.seen.failed_reads += 1;
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
        Broker::load(self.settings, ids, rows).expect("what was written can be loaded")
    }

    /// Everything in memory is gone, and of the batches under way all but the `kept` oldest.
    fn crash(&mut self, kept: usize) {
        let mut under_way = BTreeMap::new();
        for receiver in &self.receivers {
            if receiver.mode == ReceiveMode::ReceiveAndDelete {
                let count = receiver.limit_max - receiver.delivered;
                *under_way.entry(receiver.at.0).or_default() += count;
            }
        }
        self.model.crashed(self.now, &under_way);
        self.store.crash_after(kept);
        self.starts += 1;
        self.core = self.load(Box::new(SeededIds::new(self.seed ^ (self.starts << 32))));
        self.durable = CommitPosition::default();
        self.positions.clear();
        self.waiting.clear();
        self.reads.clear();
        self.asked.clear();
        self.lost.append(&mut self.held);
        self.lost.drain(..self.lost.len().saturating_sub(50));
        let receivers = std::mem::take(&mut self.receivers);
        self.declare();
        for receiver in receivers.into_iter().filter(|receiver| receiver.is_open) {
            self.open_receiver_at(receiver.at, receiver.mode);
        }
    }
}
