//! What the filters of rules cost: SQL filters one by one, and many of them over one message by their
//! index; correlation filters by theirs. `cargo run --release -p peeklock-core --example filter_cost`
//!
//! A message has six application properties. They are read when the first filter asks for them, which
//! the rows that begin with a fresh message contain. Of many filters, ten match.

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use std::hint::black_box;
use std::time::Duration;

use peeklock_core::filter::{
    Allowance, Arrival, CorrelationFilter, CorrelationIndex, MessageProperties, SqlFilter,
    SqlIndex, SystemProperty,
};
use peeklock_core::{IncomingMessage, SequenceNumber, Timestamp};
use peeklock_protocol::message::{Message, Properties as Fields};
use peeklock_protocol::value::{Map, Value};

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
        measure(text, || {
            black_box(filter.matches(&properties, &mut no_id)).expect("an outcome");
        });
    }
    println!("beginning with a fresh message:");
    let filter = SqlFilter::parse("color = 'red'").expect("a filter");
    measure("color = 'red'", || {
        let properties = self::properties(&message);
        black_box(filter.matches(&properties, &mut no_id)).expect("an outcome");
    });
    many();
    measure("parse a filter", || {
        black_box(SqlFilter::parse(black_box(FILTERS[3])).expect("a filter"));
    });
}

fn measure(what: &str, run: impl FnMut()) {
    println!("{what:>66}: {:>6.0} ns", microseconds(run) * 1_000.0);
}

/// Of processor time, on average over at least a tenth of a second.
fn microseconds(mut run: impl FnMut()) -> f64 {
    let mut count = 64;
    loop {
        let start = cpu_time();
        (0..count).for_each(|_| run());
        let spent = cpu_time().saturating_sub(start).as_secs_f64();
        if 0.1 < spent {
            return spent * 1e6 / f64::from(count);
        }
        count *= 2;
    }
}

/// Time spent on a processor, by Linux: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let numbers = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it here");
    let nanoseconds = numbers.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is the time"))
}

/// Shapes of SQL filters, the n-th of them: for n below ten they match.
type Shape = (&'static str, fn(u32) -> String);

const SHAPES: [Shape; 8] = [
    ("tenant = 'x'", |n| format!("tenant = 'contoso{}' AND {n} >= 0", suffix(n))),
    ("tenant = 'x' AND quantity > 3", |n| {
        format!("tenant = 'contoso{}' AND quantity > 3 AND {n} >= 0", suffix(n))
    }),
    ("tenant IN ('x', 'y', 'z')", |n| {
        format!("tenant IN ('contoso{}', 'y{n}', 'z{n}')", suffix(n))
    }),
    ("sys.Label LIKE 'x%'", |n| format!("sys.Label LIKE 'order-{}%' AND {n} >= 0", suffix(n))),
    ("price >= 10 AND price < 20", |n| {
        let from = if n < 10 { n } else { n * 20 };
        format!("price >= {from} AND price < {}", from + 20)
    }),
    ("quantity > 1000", |n| format!("quantity > {} AND {n} >= 0", if n < 10 { 1 } else { n })),
    ("text LIKE '%x%'", |n| format!("text LIKE '%{}lazy%' AND {n} >= 0", suffix(n))),
    ("price * 2 > 30 AND color <> 'x'", |n| {
        let bound = if n < 10 { 20 } else { 100 };
        format!("price * 2 > {bound} AND color <> 'x' AND {n} >= 0")
    }),
];

/// Nothing for what is to match.
fn suffix(n: u32) -> String {
    if n < 10 { String::new() } else { n.to_string() }
}

/// A table: a row for each shape of filters, a column for each number of them.
fn many() {
    const COUNTS: [u32; 4] = [10, 100, 1_000, 10_000];
    println!("many filters over a fresh message, 10 match, in µs:");
    println!("{:>36} {:>8} {:>8} {:>8} {:>8}", "", "10", "100", "1,000", "10,000");
    let message = message();
    for (what, shape) in SHAPES {
        row(
            what,
            COUNTS.map(|count| {
                let mut index = SqlIndex::new();
                for number in 0..count {
                    index.insert(SqlFilter::parse(&shape(number)).expect("a filter"), number);
                }
                microseconds(|| {
                    let properties = properties(&message);
                    let mut allowance = Allowance::of(u32::MAX);
                    let found = index.matches(&properties, &mut no_id, &mut allowance);
                    assert_eq!((black_box(found.through).len(), found.failed.len()), (10, 0));
                })
            }),
        );
    }
    row(
        "correlation filters",
        COUNTS.map(|count| {
            let index = index(count);
            microseconds(|| {
                let properties = properties(&message);
                assert_eq!(black_box(index.matches(&properties)).len(), 10);
            })
        }),
    );
}

fn row(what: &str, cells: [f64; 4]) {
    print!("{what:>36}");
    for cell in cells {
        print!(" {cell:>8.2}");
    }
    println!();
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
