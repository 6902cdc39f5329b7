//! What the filters of rules cost: SQL filters one by one and a thousand of them over one message,
//! correlation filters by their index. `cargo run --release -p peeklock-core --example filter_cost`
//!
//! A message has six application properties. They are read when the first filter asks for them, which
//! the rows that begin with a fresh message contain.

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use std::hint::black_box;
use std::time::Duration;

use peeklock_core::filter::{
    Arrival, CorrelationFilter, CorrelationIndex, MessageProperties, SqlFilter, SystemProperty,
};
use peeklock_core::{IncomingMessage, SequenceNumber, Timestamp};
use peeklock_protocol::message::{Message, Properties as Fields};
use peeklock_protocol::value::{Map, Value};

/// Evaluations behind each row.
const COUNT: u32 = 1_000_000;

const FILTERS: [&str; 8] = [
    "1 = 1",
    "color = 'red'",
    "sys.Label = 'order-created'",
    "quantity > 3 AND color <> 'blue' AND sys.Label LIKE 'order-%'",
    "color IN ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'red')",
    "text LIKE '%lazy%'",
    "text LIKE '%l_zy%'",
    "price * quantity + 1.5 > 20 OR missing IS NOT NULL",
];

fn main() {
    let message = message();
    let properties = properties(&message);
    println!("one filter over a message whose properties were read already:");
    for text in FILTERS {
        let filter = SqlFilter::parse(text).expect("a filter");
        measure(text, COUNT, || {
            black_box(filter.matches(&properties, &mut no_id)).expect("an outcome");
        });
    }
    println!("beginning with a fresh message:");
    let filter = SqlFilter::parse("color = 'red'").expect("a filter");
    measure("color = 'red'", COUNT, || {
        let properties = self::properties(&message);
        black_box(filter.matches(&properties, &mut no_id)).expect("an outcome");
    });
    for count in [10, 1_000] {
        let filters: Vec<_> = (0..count).map(numbered_filter).collect();
        measure(&format!("{count} filters, 1 in 100 matches"), COUNT / count, || {
            let properties = self::properties(&message);
            let matching = filters
                .iter()
                .filter(|filter| filter.matches(&properties, &mut no_id).expect("an outcome"));
            black_box(matching.count());
        });
    }
    for count in [10, 10_000] {
        let index = index(count);
        measure(&format!("index of {count} correlation filters, 10 match"), COUNT / 10, || {
            let properties = self::properties(&message);
            assert_eq!(black_box(index.matches(&properties)).len(), 10);
        });
    }
    measure("parse a filter", COUNT / 10, || {
        black_box(SqlFilter::parse(black_box(FILTERS[3])).expect("a filter"));
    });
}

fn measure(what: &str, count: u32, mut run: impl FnMut()) {
    let start = cpu_time();
    for _ in 0..count {
        run();
    }
    let nanoseconds = cpu_time().saturating_sub(start).as_nanos() / u128::from(count);
    println!("{what:>66}: {nanoseconds:>6} ns");
}

/// Time spent on a processor, by Linux: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let numbers = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it here");
    let nanoseconds = numbers.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is the time"))
}

/// `number` is 0 in the message, so one of a hundred matches.
fn numbered_filter(number: u32) -> SqlFilter {
    let text = format!("number = {} AND color = 'red'", number % 100);
    SqlFilter::parse(&text).expect("a filter")
}

/// Filters of which the first ten match, by three different sets of fields.
fn index(count: u32) -> CorrelationIndex<u32> {
    let mut index = CorrelationIndex::new();
    for id in 0..count {
        let suffix = if id < 10 { String::new() } else { id.to_string() };
        let label = format!("order-created{suffix}").into();
        let number = if id < 10 { 0 } else { id };
        let system = [(SystemProperty::Label, label)];
        let user = [("number".into(), Value::Uint(number)), ("color".into(), "red".into())];
        index.insert(&CorrelationFilter::new(system, user.into_iter().take(id as usize % 3)), id);
    }
    index
}

fn message() -> IncomingMessage {
    let application = Map::new()
        .with("color", "red")
        .with("quantity", 5_i32)
        .with("price", 12.5_f64)
        .with("number", 0_i64)
        .with("tenant", "contoso")
        .with("text", "the quick brown fox jumps over the lazy dog, and then over another");
    let fields = Fields {
        message_id: Some("m-1".into()),
        subject: Some("order-created".into()),
        ..Fields::default()
    };
    let message = Message::data(vec![b'x'; 1_024])
        .with_properties(fields)
        .with_application_properties(application);
    IncomingMessage::from_wire(&message.to_bytes()).expect("a message")
}

fn properties(message: &IncomingMessage) -> MessageProperties<'_> {
    MessageProperties::of_incoming(message, Arrival::new(Timestamp(1_000), SequenceNumber(1)))
}

fn no_id() -> [u8; 16] {
    [0; 16]
}
