//! The filters of this module over one message with properties of every type, encoded as a client
//! would.

mod actions;
mod correlation;
mod outcomes;
mod random;
mod selectors;
mod sql_index;
mod syntax;

use bytes::Bytes;
use peeklock_protocol::message::{Header, Message, MessageId, Properties as Fields};
use peeklock_protocol::value::{Map, Symbol, Value};

use super::*;
use crate::id::SequenceNumber;
use crate::message::IncomingMessage;
use crate::time::Timestamp;

const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
/// 1970-01-01T00:00:01Z in ticks.
const ONE_SECOND: i64 = 621_355_968_010_000_000;

fn described(descriptor: &'static str, value: Value) -> Value {
    Value::Described(Box::new((Symbol::from_static(descriptor).into(), value)))
}

/// ±coefficient · 10^-2
fn decimal128(sign: u8, coefficient: u8) -> Value {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0x30 | (sign << 7), 0x3c]);
    octets[14..].copy_from_slice(&(u16::from(coefficient) * 10).to_be_bytes());
    Value::Decimal128(octets)
}

fn application_properties() -> Map {
    let text = [
        ("color", "red"),
        ("empty", ""),
        ("quote", "it's"),
        ("unicode", "Größe"),
        ("percent", "100%"),
        ("under", "a_b"),
        ("escape_", "!"),
        ("a b", "spaced"),
        ("a]b", "bracket"),
        ("say \"hi\"", "quoted"),
        ("like", "keyword"),
        ("sys.Label", "dotted"),
        ("größe", "big"),
        ("Case", "upper"),
        ("case", "lower"),
        ("sys", "sys"),
        ("user", "user"),
        ("p", "p"),
        ("newid", "newid"),
        ("property", "property"),
        ("pointer", "color"),
        ("set", "set"),
        ("between", "between"),
    ];
    let values = [
        ("quantity", Value::Int(5)),
        ("tiny", Value::Ubyte(200)),
        ("byte", Value::Byte(-1)),
        ("short", Value::Short(-3)),
        ("ushort", Value::Ushort(65_535)),
        ("uint", Value::Uint(u32::MAX)),
        ("ulong", Value::Ulong(u64::MAX)),
        ("long", Value::Long(i64::MIN)),
        ("big", Value::Long((1 << 53) + 1)),
        ("weight", Value::from(2.5_f64)),
        ("single", Value::from(0.5_f32)),
        ("ratio", Value::from(0.1_f32)),
        ("nan", Value::from(f64::NAN)),
        ("endless", Value::from(f32::INFINITY)),
        ("whole", Value::Decimal32([0x32, 0x80, 0, 5])),
        ("price", decimal128(0, 75)),
        ("price64", Value::Decimal64([0x31, 0x80, 0, 0, 0, 0, 0x02, 0xee])),
        ("debt", decimal128(1, 75)),
        ("flag", Value::Bool(true)),
        ("off", Value::Bool(false)),
        ("nothing", Value::Null),
        ("symbol", Symbol::from_static("red").into()),
        ("letter", Value::Char('x')),
        ("uri", described("com.microsoft:uri", "http://example.com/".into())),
        ("moment", Value::Timestamp(1_000)),
        ("later", Value::Timestamp(2_000)),
        ("offset", described("com.microsoft:datetime-offset", Value::Long(ONE_SECOND))),
        ("span", described("com.microsoft:timespan", Value::Long(10_000_000))),
        ("id", Value::Uuid(ID)),
        ("other", Value::Uuid([9; 16])),
        ("bytes", Value::Binary(Bytes::from_static(b"abc"))),
        ("list", Value::List(vec![Value::Int(1)])),
        ("long_text", Value::from("a".repeat(20_000))),
    ];
    let text = text.into_iter().map(|(key, text)| (key.into(), text.into()));
    text.chain(values.into_iter().map(|(key, value)| (key.into(), value))).collect()
}

fn message() -> Message {
    let fields = Fields {
        message_id: Some("m-1".into()),
        correlation_id: Some(MessageId::Ulong(17)),
        to: Some("queue".into()),
        subject: Some("hello".into()),
        content_type: Some(Symbol::from_static("text/plain")),
        group_id: Some("s1".into()),
        reply_to_group_id: Some("s2".into()),
        ..Fields::default()
    };
    let header = Header { durable: Some(true), ttl: Some(60_000), ..Header::default() };
    let message = Message::data("body")
        .with_properties(fields)
        .with_application_properties(application_properties())
        .with_message_annotations(
            Map::new().with(Symbol::from_static("x-opt-partition-key"), "pk"),
        );
    Message { header: Some(header), ..message }
}

fn incoming(message: &Message) -> IncomingMessage {
    IncomingMessage::from_wire(&message.to_bytes()).unwrap()
}

fn properties(message: &IncomingMessage) -> MessageProperties<'_> {
    let arrival = Arrival::new(Timestamp(1_000), SequenceNumber(7));
    let arrival = Arrival { enqueue_sequence: SequenceNumber(6), attempts: 2, ..arrival };
    MessageProperties::of_incoming(message, arrival)
}

/// Ids that are all different.
fn new_ids() -> impl FnMut() -> [u8; 16] {
    let mut last = 0;
    move || {
        last += 1;
        [last; 16]
    }
}
