//! What a million scheduled messages take in memory, a kilobyte each, with the rows left out: the
//! process before and after. `cargo run --release -p peeklock-core --example scheduled`

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use peeklock_core::{
    Broker, BrokerSettings, Command, EntityId, EntityPath, IncomingMessage, Origin, QueueSettings,
    SeededIds, Timestamp,
};
use peeklock_protocol::message::Message;
use peeklock_protocol::value::{Map, Symbol, Value};

const COUNT: u64 = 1_000_000;
const ORIGIN: Origin = Origin { connection: 1, link: 1, delivery: 1 };

fn main() {
    let mut broker = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
    let path = EntityPath::for_new_entity("q").expect("a name");
    let settings = QueueSettings::default();
    broker.handle(Timestamp(0), Command::EnsureQueue { origin: None, path, settings });
    drop(broker.take_turn());
    let before = resident_kib();
    for n in 0..COUNT {
        // Times that go up and down.
        let due = 1_000_000 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000;
        let schedule = Command::Schedule {
            origin: ORIGIN,
            entity: EntityId(1),
            messages: vec![due_message(due)],
            transaction: None,
        };
        broker.handle(Timestamp(1), schedule);
        drop(broker.take_turn());
    }
    let count: u64 =
        broker.durable_state().entities.iter().map(|entity| entity.scheduled_count).sum();
    let grown = resident_kib().saturating_sub(before);
    println!("{count} scheduled messages: {grown} KiB more than none");
}

fn due_message(due: u64) -> IncomingMessage {
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    let due = Value::Timestamp(i64::try_from(due).expect("a time"));
    let mut message = Message::data(vec![b'x'; 1024]);
    message = message.with_message_annotations(Map::new().with(key, due));
    IncomingMessage::from_wire(&message.to_bytes()).expect("a message")
}

/// Memory of this process, by Linux.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it here");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
