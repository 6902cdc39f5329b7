//! What a message costs in the core: sent, delivered and completed, a kilobyte each, with the work of
//! the shell left out. `cargo run --release -p peeklock-core --example cost`
//!
//! The first row is the copy out of the read buffer alone, which the connections' tasks do and which
//! is part of the other rows: queues with a standing backlog in memory, of none and of many.

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use std::time::Duration;

use peeklock_core::{
    Broker, BrokerSettings, Command, EffectKind, EntityId, EntityPath, IncomingMessage, Origin,
    QueueSettings, ReceiveMode, ReceiverId, SeededIds, Settlement, Timestamp,
};
use smallvec::smallvec;

const COUNT: u64 = 1_000_000;
/// Messages in one turn of the shard's driver.
const PER_TURN: u64 = 64;

fn main() {
    let wire = wire_message();
    let start = cpu_time();
    for _ in 0..COUNT {
        std::hint::black_box(IncomingMessage::from_wire(&wire).expect("a message"));
    }
    report("copy and index", start);
    for backlog in [0, 100, 10_000] {
        let mut bench = Bench::new();
        bench.send(backlog, &wire);
        let start = cpu_time();
        for _ in 0..COUNT / PER_TURN {
            bench.send(PER_TURN, &wire);
            bench.receive(PER_TURN);
        }
        report(&format!("send, deliver, complete behind {backlog}"), start);
    }
}

fn report(what: &str, start: Duration) {
    let nanoseconds = cpu_time().saturating_sub(start).as_nanos() / u128::from(COUNT);
    println!("{what:>40}: {nanoseconds:>5} ns a message");
}

/// Time spent on a processor, by Linux: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let numbers = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it here");
    let nanoseconds = numbers.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is the time"))
}

struct Bench {
    broker: Broker,
    entity: EntityId,
    receiver: ReceiverId,
    now: u64,
    given: u64,
}

impl Bench {
    fn new() -> Self {
        let mut broker = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let path = EntityPath::for_new_entity("q").expect("a name");
        let settings = QueueSettings::default();
        let now = Timestamp(0);
        let declare = Command::EnsureQueue { origin: None, path: path.clone(), settings };
        broker.handle(now, declare);
        let receiver = ReceiverId { connection: 1, link: 1 };
        let mode = ReceiveMode::PeekLock;
        broker.handle(
            now,
            Command::OpenReceiver { origin: ORIGIN, receiver, path, mode, session: None },
        );
        broker.take_turn();
        Bench { broker, entity: EntityId(1), receiver, now: 0, given: 0 }
    }

    fn send(&mut self, count: u64, wire: &[u8]) {
        self.now += 1;
        for _ in 0..count {
            let messages = smallvec![IncomingMessage::from_wire(wire).expect("a message")];
            let send =
                Command::Send { origin: ORIGIN, entity: self.entity, messages, transaction: None };
            self.broker.handle(Timestamp(self.now), send);
        }
        drop(self.broker.take_turn());
    }

    fn receive(&mut self, count: u64) {
        self.given += count;
        let demand = Command::Demand { receiver: self.receiver, limit: self.given };
        self.broker.handle(Timestamp(self.now), demand);
        for effect in self.broker.take_turn().effects {
            let EffectKind::Deliver { delivery, .. } = effect.kind else { continue };
            let settle = Command::Settle {
                origin: Some(ORIGIN),
                entity: delivery.entity,
                token: delivery.lock.expect("a lock").token,
                settlement: Settlement::Complete,
                transaction: None,
            };
            self.broker.handle(Timestamp(self.now), settle);
        }
        let turn = self.broker.take_turn();
        assert_eq!(turn.batch.len() as u64, count + 1, "every message was completed");
    }
}

const ORIGIN: Origin = Origin { connection: 1, link: 1, delivery: 1 };

/// A header-less message: one data section of a kilobyte.
fn wire_message() -> Vec<u8> {
    let mut wire = vec![0x00, 0x53, 0x75, 0xb0, 0, 0, 4, 0];
    wire.resize(8 + 1024, b'x');
    wire
}
