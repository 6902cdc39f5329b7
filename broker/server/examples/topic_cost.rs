//! What a topic costs with the store: 1 KiB messages, 64 in a group, received and completed by all of
//! more and more subscriptions, each group and its completions synced before the next.
//! `cargo run --release -p peeklock --example topic_cost -- DIR [SUBSCRIPTIONS]...`
//!
//! Processor time is that of the core's thread, and that of all others, which are the store's.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measuring program prints rounded numbers"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use peeklock_core::{
    Broker, BrokerSettings, Command, EffectKind, EntityId, EntityPath, IncomingMessage, LockToken,
    Origin, QueueSettings, ReceiveMode, ReceiverId, SeededIds, Settlement, Timestamp, TopicCommand,
    TopicSettings,
};
use peeklock_protocol::message::Message;
use peeklock_storage::rocks::Options;
use peeklock_storage::{Done, RocksStore, ShardId, Store};
use smallvec::smallvec;

const SHARD: ShardId = ShardId(0);
const TOPIC: EntityId = EntityId(1);
const ORIGIN: Origin = Origin { connection: 1, link: 1, delivery: 1 };
/// Messages in one turn.
const PER_TURN: u64 = 64;
/// Deliveries for each row of the table, about.
const DELIVERIES: u64 = 400_000;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: topic_cost DIR [SUBSCRIPTIONS]...")?;
    let mut counts = arguments.map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    if counts.is_empty() {
        counts = vec![1, 10, 100, 1000];
    }
    println!(
        "subscriptions  core µs/msg  store µs/msg  store µs/delivery  written B/msg  rows/msg"
    );
    for count in counts {
        let dir = Path::new(&dir).join(format!("topic-{count}"));
        let _ = fs::remove_dir_all(&dir);
        measure(&dir, count)?;
        fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn measure(dir: &Path, subscriptions: u64) -> Result<(), Failure> {
    let mut bench = Bench::new(dir, subscriptions)?;
    for _ in 0..3 {
        bench.group()?;
    }
    bench.bytes = 0;
    bench.rows = 0;
    let groups = (DELIVERIES / subscriptions / PER_TURN).clamp(8, 1500);
    let (core, all) = (core_nanos()?, all_nanos()?);
    for _ in 0..groups {
        bench.group()?;
    }
    let core = core_nanos()? - core;
    let store = all_nanos()? - all - core;
    let messages = (groups * PER_TURN) as f64;
    let each = |what: u64| what as f64 / messages;
    println!(
        "{subscriptions:>13}  {:>11.2}  {:>12.2}  {:>17.3}  {:>13.0}  {:>8.1}",
        each(core) / 1e3,
        each(store) / 1e3,
        each(store) / 1e3 / subscriptions as f64,
        each(bench.bytes),
        each(bench.rows),
    );
    Ok(())
}

struct Bench {
    broker: Broker,
    store: RocksStore,
    done: Receiver<Done>,
    now: u64,
    wire: Vec<u8>,
    held: Vec<(EntityId, LockToken)>,
    subscriptions: u64,
    bytes: u64,
    rows: u64,
}

impl Bench {
    fn new(dir: &Path, subscriptions: u64) -> Result<Self, Failure> {
        let store = RocksStore::open(dir, Options::default())?;
        let (sender, done) = channel();
        let sender = Mutex::new(sender);
        let report = move |done| {
            if let Ok(sender) = sender.lock() {
                // Whoever no longer listens has measured enough.
                let _ = sender.send(done);
            }
        };
        store.on_done(SHARD, Box::new(report));
        let broker = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let wire = Message::data(vec![0x5a; 1000]).to_bytes().to_vec();
        let (held, now, bytes, rows) = (Vec::new(), 1, 0, 0);
        let mut bench = Bench { broker, store, done, now, wire, held, subscriptions, bytes, rows };
        let topic = EntityPath::for_new_entity("t")?;
        let settings = TopicSettings::default();
        let path = topic.clone();
        bench.handle(Command::OfTopic(Box::new(TopicCommand::EnsureTopic {
            origin: None,
            path,
            settings,
        })));
        for link in 0..subscriptions {
            let path = EntityPath::for_new_subscription(&topic, &format!("s{link}"))?;
            bench.handle(Command::OfTopic(Box::new(TopicCommand::EnsureSubscription {
                origin: None,
                path: path.clone(),
                settings: QueueSettings::default(),
                rules: None,
            })));
            let receiver = ReceiverId { connection: 1, link };
            let (origin, mode, session) = (ORIGIN, ReceiveMode::PeekLock, None);
            bench.handle(Command::OpenReceiver { origin, receiver, path, mode, session });
            bench.handle(Command::Demand { receiver, limit: u64::MAX });
        }
        bench.turn()?;
        Ok(bench)
    }

    fn handle(&mut self, command: Command) {
        self.broker.handle(Timestamp(self.now), command);
    }

    /// Publishes a group, and completes all that comes of it.
    fn group(&mut self) -> Result<(), Failure> {
        self.now += 1;
        for _ in 0..PER_TURN {
            let messages = smallvec![IncomingMessage::from_wire(&self.wire)?];
            let (origin, entity, transaction) = (ORIGIN, TOPIC, None);
            self.handle(Command::Send { origin, entity, messages, transaction });
        }
        self.turn()?;
        let held = std::mem::take(&mut self.held);
        if held.len() as u64 != PER_TURN * self.subscriptions {
            return Err(format!("{} deliveries of one group", held.len()).into());
        }
        for (entity, token) in held {
            let (origin, settlement, transaction) = (None, Settlement::Complete, None);
            self.handle(Command::Settle { origin, entity, token, settlement, transaction });
        }
        self.turn()
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let turn = self.broker.take_turn();
        self.bytes += turn.batch.bytes() as u64;
        self.rows += turn.batch.len() as u64;
        self.store.submit(SHARD, turn.position, turn.batch)?;
        loop {
            let done = self.done.recv()?;
            done.result?;
            if turn.position <= done.through {
                break;
            }
        }
        for effect in turn.effects {
            match effect.kind {
                EffectKind::Deliver { delivery, .. } => {
                    let lock = delivery.lock.ok_or("a delivery without a lock")?;
                    self.held.push((delivery.entity, lock.token));
                }
                EffectKind::Read { .. } => return Err("nothing should have to be read".into()),
                EffectKind::Reply { result, .. } => {
                    result?;
                }
                EffectKind::Drained { .. }
                | EffectKind::ReceiverClosed { .. }
                | EffectKind::EntityClosed { .. }
                | EffectKind::AccessChanged { .. } => {}
            }
        }
        Ok(())
    }
}

/// Processor time of this thread, which is the core's, by Linux.
fn core_nanos() -> Result<u64, Failure> {
    nanos(Path::new("/proc/thread-self/schedstat"))
}

/// Processor time of all threads.
fn all_nanos() -> Result<u64, Failure> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        sum += nanos(&task?.path().join("schedstat"))?;
    }
    Ok(sum)
}

fn nanos(path: &Path) -> Result<u64, Failure> {
    let numbers = fs::read_to_string(path)?;
    Ok(numbers.split(' ').next().ok_or("Linux tells it here")?.parse()?)
}
