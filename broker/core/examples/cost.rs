//! What a message costs in the core: sent, delivered and completed, a kilobyte each, with the work of
//! the shell left out. `cargo run --release -p peeklock-core --example cost`; a word behind it picks
//! the rows that contain it.
//!
//! The first row is the copy out of the read buffer alone, which the connections' tasks do and which
//! is part of the other rows: queues with a standing backlog in memory, of none and of many.

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use std::time::Duration;

use peeklock_core::{
    Broker, BrokerSettings, Command, EffectKind, EntityId, EntityPath, IncomingMessage,
    MessageSessionId, Origin, QueueSettings, ReceiveMode, ReceiverId, SeededIds, SessionRequest,
    Settlement, Span, Timestamp,
};
use peeklock_protocol::message::{Message, Properties};
use smallvec::smallvec;

const COUNT: u64 = 1_000_000;
/// Messages in one turn of the shard's driver.
const PER_TURN: u64 = 64;

fn main() {
    let wire = wire_message(None);
    row("copy and index", || {
        for _ in 0..COUNT {
            std::hint::black_box(IncomingMessage::from_wire(&wire).expect("a message"));
        }
    });
    for backlog in [0, 100, 10_000] {
        row(&format!("send, deliver, complete behind {backlog}"), || {
            let mut bench = Bench::plain();
            bench.send(backlog, &wire);
            bench.run(&[&wire]);
        });
    }
    let wires: Vec<_> = (0..64).map(|number| wire_message(Some(number))).collect();
    let wires: Vec<_> = wires.iter().map(Vec::as_slice).collect();
    row("the same with a session id", || Bench::plain().run(&wires[..1]));
    row("in one session", || Bench::with_sessions(1).run(&wires[..1]));
    row("in 64 sessions by turns", || Bench::with_sessions(64).run(&wires));
    row("in a session of 64, taken and left", || {
        let mut bench = Bench::with_sessions(0);
        for round in 0..COUNT / PER_TURN {
            bench.take_a_session(round, &wire_message(Some(round)));
        }
    });
}

fn row(what: &str, run: impl FnOnce()) {
    if std::env::args().nth(1).is_some_and(|word| !what.contains(&word)) {
        return;
    }
    let start = cpu_time();
    run();
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
    /// What each receiver was given.
    given: Vec<u64>,
    /// Rows that come and go with a message.
    rows_per_message: u64,
    now: u64,
}

impl Bench {
    fn plain() -> Self {
        let mut bench = Bench::new(QueueSettings::default(), 1);
        bench.open(0, None);
        bench
    }

    fn with_sessions(count: u64) -> Self {
        let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
        let mut bench = Bench::new(settings, 2);
        for number in 0..count {
            bench.open(number, Some(SessionRequest::Named(session_id(number))));
        }
        bench
    }

    fn new(settings: QueueSettings, rows_per_message: u64) -> Self {
        let mut broker = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let declare = Command::EnsureQueue { origin: None, path: path(), settings };
        broker.handle(Timestamp(0), declare);
        broker.take_turn();
        Bench { broker, entity: EntityId(1), given: Vec::new(), rows_per_message, now: 0 }
    }

    fn open(&mut self, link: u64, session: Option<SessionRequest>) {
        let (receiver, mode) = (receiver(link), ReceiveMode::PeekLock);
        let open = Command::OpenReceiver { origin: ORIGIN, receiver, path: path(), mode, session };
        self.broker.handle(Timestamp(self.now), open);
        self.given.push(0);
    }

    /// A turn's messages with each of the wires, by turns.
    fn run(&mut self, wires: &[&[u8]]) {
        for round in 0..COUNT / PER_TURN {
            let number = usize::try_from(round).expect("a million fits") % wires.len();
            self.send(PER_TURN, wires[number]);
            self.receive(number, PER_TURN);
        }
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

    fn receive(&mut self, number: usize, count: u64) {
        self.given[number] += count;
        self.receive_up_to(number as u64, self.given[number], count);
    }

    /// Sends messages of a new session, and lets a receiver take it, complete all and leave.
    fn take_a_session(&mut self, round: u64, wire: &[u8]) {
        self.send(PER_TURN, wire);
        let link = 1000 + round;
        self.open(link, Some(SessionRequest::NextAvailable { wait: Span(1) }));
        self.receive_up_to(link, PER_TURN, PER_TURN);
        let leave = Command::CloseReceiver { receiver: receiver(link) };
        self.broker.handle(Timestamp(self.now), leave);
    }

    fn receive_up_to(&mut self, link: u64, limit: u64, count: u64) {
        let demand = Command::Demand { receiver: receiver(link), limit };
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
        let expected = count * self.rows_per_message + 1;
        assert_eq!(turn.batch.len() as u64, expected, "every message was completed");
    }
}

fn path() -> EntityPath {
    EntityPath::for_new_entity("q").expect("a name")
}

const fn receiver(link: u64) -> ReceiverId {
    ReceiverId { connection: 1, link }
}

fn session_id(number: u64) -> MessageSessionId {
    MessageSessionId::new(&format!("session-{number:06}")).expect("an id")
}

const ORIGIN: Origin = Origin { connection: 1, link: 1, delivery: 1 };

/// A header-less message: one data section of a kilobyte, and the properties that SDKs write if it is
/// in a session.
fn wire_message(session: Option<u64>) -> Vec<u8> {
    let properties = session.map(|number| Properties {
        message_id: Some("0c4cd31e-5b5f-4bb1-a4c1-8ed0a1a3bd42".into()),
        content_type: Some("application/json".into()),
        group_id: Some(session_id(number).as_str().into()),
        ..Properties::default()
    });
    let mut wire = Message { properties, ..Message::default() }.to_bytes().to_vec();
    wire.extend_from_slice(&[0x00, 0x53, 0x75, 0xb0, 0, 0, 4, 0]);
    wire.resize(wire.len() + 1024, b'x');
    wire
}
