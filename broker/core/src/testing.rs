//! A shell for the tests of this crate: rows in a map, batches that become durable when the test says
//! so, effects released as the real shell would, crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use peeklock_protocol::message::Sections;
use peeklock_storage::{
    Batch, CommitPosition, Key, MemStore, Op, ShardId, Store, StoreError, Table,
};
use smallvec::SmallVec;

use crate::broker::Broker;
use crate::broker::stats::{DurableState, QueueStats};
use crate::command::{Command, ReadRequest, ReadRows, ReceiveMode, Settlement};
use crate::effect::{Browsed, Delivery, Effect, EffectKind, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, LockToken, Origin, ReadId, ReceiverId, SeededIds, SequenceNumber};
use crate::message::{IncomingMessage, StoredMessage};
use crate::time::{Span, Timestamp};

/// A message with one data section.
pub(crate) fn wire_message(body: &[u8]) -> Vec<u8> {
    let mut wire = vec![0x00, 0x53, 0x75, 0xb0];
    wire.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    wire.extend_from_slice(body);
    wire
}

/// What stands in the data section of a message made by [`wire_message`], whatever stands before it.
pub(crate) fn body_of(wire: &[u8]) -> &[u8] {
    let body = Sections::index(wire).unwrap().body().unwrap();
    &wire[body.start + 8..]
}

/// A broker, its rows, and what is on the way between them.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) now: Timestamp,
    settings: BrokerSettings,
    seed: u64,
    /// What is durable.
    pub(crate) rows: BTreeMap<(Table, Key), Bytes>,
    /// Message keys that were ever written: none may be written again.
    written: BTreeSet<Key>,
    /// Turns taken, not yet durable, with the state they lead to.
    pending: VecDeque<(CommitPosition, Batch, DurableState)>,
    durable: CommitPosition,
    durable_state: DurableState,
    waiting: VecDeque<Effect>,
    /// What was released since the test last looked.
    pub(crate) released: Vec<EffectKind>,
    /// How often a range of rows was removed.
    pub(crate) ranges_removed: usize,
    /// Whether everything is checked after each command.
    pub(crate) checks: bool,
    /// Whether reads fail.
    pub(crate) reads_fail: bool,
    /// Whether reads wait for [`World::answer_read`].
    pub(crate) reads_wait: bool,
    /// Whether those that wait see the rows as they were when they were asked for.
    pub(crate) reads_see_early: bool,
    reads: Vec<(ReadId, ReadRequest, Option<ReadRows>)>,
    next_delivery: u32,
}

impl World {
    pub(crate) fn new(settings: BrokerSettings) -> Self {
        World::seeded(settings, 1)
    }

    pub(crate) fn seeded(settings: BrokerSettings, seed: u64) -> Self {
        let broker = Broker::new(settings, Box::new(SeededIds::new(seed)));
        let durable_state = broker.durable_state();
        World {
            broker,
            now: Timestamp(1_000_000),
            settings,
            seed,
            rows: BTreeMap::new(),
            written: BTreeSet::new(),
            pending: VecDeque::new(),
            durable: CommitPosition(0),
            durable_state,
            waiting: VecDeque::new(),
            released: Vec::new(),
            ranges_removed: 0,
            checks: true,
            reads_fail: false,
            reads_wait: false,
            reads_see_early: false,
            reads: Vec::new(),
            next_delivery: 0,
        }
    }

    /// A world with a queue in it.
    pub(crate) fn with_queue(settings: BrokerSettings, queue: QueueSettings) -> (Self, EntityId) {
        let mut world = World::new(settings);
        let entity = world.ensure_queue("q", queue);
        (world, entity)
    }

    pub(crate) fn ensure_queue(&mut self, name: &str, settings: QueueSettings) -> EntityId {
        let path = EntityPath::for_new_entity(name).unwrap();
        match self.ask(|origin| Command::EnsureQueue { origin: Some(origin), path, settings }) {
            Ok(Reply::QueueEnsured { entity }) => entity,
            other => panic!("{other:?}"),
        }
    }

    /// Hands in a command and checks that everything still fits together.
    pub(crate) fn handle(&mut self, command: Command) {
        let shown = name(&command);
        self.broker.handle(self.now, command);
        if self.checks
            && let Err(problem) = self.broker.check()
        {
            panic!("{problem} after {shown}");
        }
    }

    /// Takes a turn; nothing is durable yet. Says whether there was anything in it.
    pub(crate) fn turn(&mut self) -> bool {
        let turn = self.broker.take_turn();
        let is_empty = turn.batch.is_empty() && turn.effects.is_empty();
        if !turn.batch.is_empty() {
            self.pending.push_back((turn.position, turn.batch, self.broker.durable_state()));
        }
        self.waiting.extend(turn.effects);
        self.release();
        !is_empty
    }

    /// Makes the oldest turn durable, and releases what waited for it.
    pub(crate) fn sync_one(&mut self) -> bool {
        let Some((position, batch, state)) = self.pending.pop_front() else { return false };
        for op in batch.into_ops() {
            self.write(op);
        }
        self.durable = position;
        self.durable_state = state;
        self.release();
        true
    }

    /// Goes on until nothing is on the way any more.
    pub(crate) fn settle_down(&mut self) {
        while self.turn() || self.sync_one() || self.answer_read(0) {}
        assert!(self.waiting.is_empty(), "nothing waits for what never comes");
    }

    /// Loses everything that is not durable, and starts again from the rows.
    pub(crate) fn crash(&mut self) {
        self.pending.clear();
        self.waiting.clear();
        self.reads.clear();
        self.seed += 1_000_003;
        let rows = self.state_rows();
        let ids = Box::new(SeededIds::new(self.seed));
        self.broker = Broker::load(self.settings, ids, rows).unwrap();
        self.broker.check().unwrap();
        assert_eq!(self.broker.durable_state(), self.durable_state, "loaded what was durable");
        self.durable = CommitPosition(0);
    }

    pub(crate) fn state_rows(&self) -> Vec<(Key, Bytes)> {
        let range = Broker::load_range();
        let rows = self.rows.range((Table::State, range.start)..(Table::State, range.end));
        rows.map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }

    /// What is durable, as a store has it.
    pub(crate) fn store(&self) -> MemStore {
        let store = MemStore::new();
        let mut batch = Batch::default();
        for ((table, key), row) in &self.rows {
            batch.put(*table, key.clone(), row.clone());
        }
        store.submit(ShardId(0), CommitPosition(1), batch).unwrap();
        store
    }

    /// A world that starts with what is in a store.
    pub(crate) fn of_store(store: &MemStore, now: Timestamp) -> Self {
        let mut world = World { now, ..World::new(BrokerSettings::default()) };
        for table in Table::ALL {
            let all = Key::new()..Key::new().with_u32(u32::MAX);
            for (key, value) in store.scan(table, &all, usize::MAX, usize::MAX).unwrap() {
                world.write(Op::Put { table, key, value });
            }
        }
        let ids = Box::new(SeededIds::new(world.seed));
        world.broker = Broker::load(world.settings, ids, world.state_rows()).unwrap();
        world.durable_state = world.broker.durable_state();
        world.broker.check().unwrap();
        world
    }

    fn write(&mut self, op: Op) {
        match op {
            Op::Put { table, key, value } => {
                if table == Table::Message {
                    assert!(self.written.insert(key.clone()), "message row {key} written twice");
                }
                self.rows.insert((table, key), value);
            }
            Op::Remove { table, key } => {
                let row = self.rows.remove(&(table, key.clone()));
                assert!(row.is_some(), "row {key} of {table} removed, but not there");
            }
            Op::RemoveRange { table, range } => {
                self.ranges_removed += 1;
                let range = (table, range.start)..(table, range.end);
                let keys: Vec<_> = self.rows.range(range).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    self.rows.remove(&key);
                }
            }
        }
    }

    fn release(&mut self) {
        let mut held = VecDeque::new();
        while let Some(effect) = self.waiting.pop_front() {
            if self.durable < effect.after {
                held.push_back(effect);
                continue;
            }
            match effect.kind {
                EffectKind::Read { read, request } => {
                    let early = self.reads_see_early.then(|| self.read(&request));
                    self.reads.push((read, request, early));
                    if !self.reads_wait {
                        self.answer_read(self.reads.len() - 1);
                    }
                }
                kind @ (EffectKind::Reply { .. }
                | EffectKind::Deliver { .. }
                | EffectKind::Drained { .. }
                | EffectKind::ReceiverClosed { .. }
                | EffectKind::EntityClosed { .. }
                | EffectKind::AccessChanged { .. }) => self.released.push(kind),
            }
        }
        self.waiting = held;
    }

    /// Answers one of the reads that wait, if there are so many.
    pub(crate) fn answer_read(&mut self, index: usize) -> bool {
        if self.reads.len() <= index {
            return false;
        }
        let (read, request, early) = self.reads.remove(index);
        let result = if self.reads_fail {
            Err(StoreError::Unsupported("reading, says the test"))
        } else {
            Ok(early.unwrap_or_else(|| self.read(&request)))
        };
        self.handle(Command::ReadDone { read, result });
        true
    }

    fn read(&self, request: &ReadRequest) -> ReadRows {
        let scans = request.scans.iter().map(|scan| {
            let range =
                (scan.table, scan.range.start.clone())..(scan.table, scan.range.end.clone());
            let mut bytes = 0;
            let rows = self.rows.range(range).take(scan.rows_max).take_while(|((_, key), row)| {
                let goes_on = bytes < scan.bytes_max || bytes == 0;
                bytes += key.as_bytes().len() + row.len();
                goes_on
            });
            rows.map(|((_, key), row)| (key.clone(), row.clone())).collect()
        });
        let gets =
            request.gets.iter().map(|(table, key)| self.rows.get(&(*table, key.clone())).cloned());
        ReadRows { scans: scans.collect(), gets: gets.collect() }
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, command: impl FnOnce(Origin) -> Command) -> Result<Reply, Error> {
        let origin = self.origin();
        self.handle(command(origin));
        self.settle_down();
        self.take_reply(origin).expect("every question is answered")
    }

    pub(crate) fn origin(&mut self) -> Origin {
        self.next_delivery += 1;
        Origin { connection: 1, link: 1, delivery: self.next_delivery }
    }

    pub(crate) fn take_reply(&mut self, origin: Origin) -> Option<Result<Reply, Error>> {
        let is_reply =
            |kind: &EffectKind| matches!(kind, EffectKind::Reply { to, .. } if *to == origin);
        let at = self.released.iter().position(is_reply)?;
        let EffectKind::Reply { result, .. } = self.released.remove(at) else { return None };
        Some(result)
    }

    pub(crate) fn send(&mut self, entity: EntityId, body: &str) -> Result<Reply, Error> {
        self.send_all(entity, &[body])
    }

    pub(crate) fn send_all(&mut self, entity: EntityId, bodies: &[&str]) -> Result<Reply, Error> {
        let messages = messages(bodies);
        self.ask(|origin| Command::Send { origin, entity, messages, transaction: None })
    }

    pub(crate) fn open(&mut self, link: u64, address: &str, mode: ReceiveMode) -> ReceiverId {
        let receiver = ReceiverId { connection: 1, link };
        let path = EntityPath::parse(address).unwrap().path;
        let reply = self.ask(|origin| Command::OpenReceiver {
            origin,
            receiver,
            path,
            mode,
            session: None,
        });
        assert!(matches!(reply, Ok(Reply::ReceiverOpened { .. })), "{reply:?}");
        receiver
    }

    /// Everything delivered and released since the last look, by receiver.
    pub(crate) fn take_deliveries(&mut self) -> Vec<(ReceiverId, Delivery)> {
        let mut deliveries = Vec::new();
        for kind in std::mem::take(&mut self.released) {
            if let EffectKind::Deliver { receiver, delivery } = kind {
                deliveries.push((receiver, delivery));
            } else {
                self.released.push(kind);
            }
        }
        deliveries
    }

    /// Raises a receiver's demand and takes what it gets.
    pub(crate) fn receive(&mut self, receiver: ReceiverId, limit: u64) -> Vec<Delivery> {
        self.handle(Command::Demand { receiver, limit });
        self.settle_down();
        self.take_deliveries().into_iter().map(|(_, delivery)| delivery).collect()
    }

    pub(crate) fn receive_one(&mut self, receiver: ReceiverId, limit: u64) -> Delivery {
        let mut deliveries = self.receive(receiver, limit);
        assert_eq!(deliveries.len(), 1, "one delivery");
        deliveries.remove(0)
    }

    pub(crate) fn settle(
        &mut self,
        delivery: &Delivery,
        settlement: Settlement,
    ) -> Result<Reply, Error> {
        self.settle_token(delivery.entity, delivery.lock.expect("a lock").token, settlement)
    }

    pub(crate) fn settle_token(
        &mut self,
        entity: EntityId,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<Reply, Error> {
        let origin = self.origin();
        let settle =
            Command::Settle { origin: Some(origin), entity, token, settlement, transaction: None };
        self.handle(settle);
        self.settle_down();
        self.take_reply(origin).expect("every settlement is answered")
    }

    pub(crate) fn browse(
        &mut self,
        entity: EntityId,
        from: u64,
        count_max: u32,
        bytes_max: usize,
    ) -> Vec<Browsed> {
        let from = SequenceNumber(from);
        let ask =
            |origin| Command::Browse { origin, entity, from, count_max, bytes_max, session: None };
        match self.ask(ask) {
            Ok(Reply::Browsed { messages }) => messages,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass, and does what is due.
    pub(crate) fn pass(&mut self, span: Span) {
        self.now = self.now.plus(span);
        while self.broker.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Command::Tick);
            self.settle_down();
        }
    }

    pub(crate) fn stats(&self, name: &str) -> QueueStats {
        self.broker.queue_stats().find(|stats| stats.path.name() == name).unwrap()
    }

    pub(crate) fn message_rows(&self) -> usize {
        self.rows.keys().filter(|(table, _)| *table == Table::Message).count()
    }

    /// Octets of all messages.
    pub(crate) fn message_bytes(&self) -> u64 {
        let rows = self.rows.iter().filter(|((table, _), _)| *table == Table::Message);
        rows.map(|(_, row)| StoredMessage::size_of_row(row)).sum()
    }

    /// Rows besides messages and the state of entities: marks and sections.
    pub(crate) fn trace_rows(&self) -> usize {
        self.rows.len() - self.message_rows() - self.state_rows().len()
    }
}

pub(crate) fn messages(bodies: &[&str]) -> SmallVec<[IncomingMessage; 1]> {
    let incoming =
        |body: &&str| IncomingMessage::from_wire(&wire_message(body.as_bytes())).unwrap();
    bodies.iter().map(incoming).collect()
}

pub(crate) fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(body_of(delivery.message.bytes())).unwrap()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(text).collect()
}

/// A command, briefly.
fn name(command: &Command) -> String {
    if let Command::Send { entity, messages, .. } = command {
        format!("Send {} to {entity}", messages.len())
    } else if let Command::ReadDone { read, result } = command {
        format!("ReadDone {read:?}, {}", result.is_ok())
    } else {
        format!("{command:?}")
    }
}

/// Numbers for choices in tests, by seed (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}
