use peeklock_protocol::value::{Array, ElementType};

use super::*;

#[track_caller]
fn round_trip(message: &Message) -> String {
    let line = serde_json::to_string(&MessageLine::of(message)).unwrap();
    let read: MessageLine = serde_json::from_str(&line).unwrap();
    let back = read.message().unwrap();
    assert_eq!(&back, message, "{line}");
    assert_eq!(back.to_bytes(), message.to_bytes());
    line
}

fn every_value() -> Vec<Value> {
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Ubyte(u8::MAX),
        Value::Ushort(u16::MAX),
        Value::Uint(u32::MAX),
        Value::Ulong(u64::MAX),
        Value::Byte(i8::MIN),
        Value::Short(i16::MIN),
        Value::Int(i32::MIN),
        Value::Long(i64::MIN),
        Value::from(0.1_f32),
        Value::from(0.1_f64),
        Value::from(-0.0_f64),
        // Digits that are read as a neighbour by who does not take all of them.
        Value::from(31.245_270_191_439_438_f64),
        Value::from(121.487_913_063_518_93_f64),
        Value::from(f64::INFINITY),
        Value::Double(F64::from_bits(0x7ff8_0000_0000_0001)),
        Value::Decimal32([1; 4]),
        Value::Decimal64([2; 8]),
        Value::Decimal128([3; 16]),
        Value::Char('é'),
        Value::Timestamp(-1),
        Value::Uuid([7; 16]),
        Value::Binary(Bytes::from_static(b"\x00\xff")),
        Value::from("text \u{0}\n\"é"),
        Value::Symbol(Symbol::from_static("symbol")),
        Value::List(vec![Value::Int(1), Value::List(Vec::new())]),
        Value::Map(Map::new().with(Value::Int(1), "x").with("b", 1).with("a", Value::Null)),
        Value::Array(Array::new(ElementType::String, vec!["x".into()]).unwrap()),
        Value::Described(Box::new((Value::Ulong(1), Value::from("x")))),
    ]
}

#[test]
fn every_type_comes_back_in_every_place() {
    for value in every_value() {
        let map = Map::new().with(Symbol::from_static("z"), value.clone());
        let strings = Map::new().with("z", value.clone()).with("a", value.clone());
        round_trip(&Message {
            delivery_annotations: Some(map.clone()),
            message_annotations: Some(map.clone()),
            application_properties: Some(strings),
            footer: Some(map),
            ..Message::value(value.clone())
        });
        let sequence = vec![vec![value.clone(), Value::Null], Vec::new()];
        round_trip(&Message { body: Body::Sequence(sequence), ..Message::default() });
    }
}

#[test]
fn bodies_are_readable_where_they_can_be() {
    assert_eq!(round_trip(&Message::data("hello")), r#"{"body":{"text":"hello"}}"#);
    assert_eq!(round_trip(&Message::data(&b"\xff"[..])), r#"{"body":{"base64":"/w=="}}"#);
    assert_eq!(round_trip(&Message::default()), "{}");
    let parts = vec![Bytes::from_static(b"a"), Bytes::new()];
    round_trip(&Message { body: Body::Data(parts), ..Message::default() });
    round_trip(&Message { body: Body::Data(Vec::new()), ..Message::default() });
}

#[test]
fn header_and_properties_come_back() {
    let ids = [
        MessageId::Ulong(u64::MAX),
        MessageId::Uuid([9; 16]),
        MessageId::Binary(Bytes::from_static(b"\x00")),
        MessageId::from("id"),
    ];
    for id in ids {
        round_trip(&Message {
            header: Some(Header {
                durable: Some(true),
                priority: Some(9),
                ttl: Some(u32::MAX),
                first_acquirer: Some(false),
                delivery_count: Some(0),
            }),
            properties: Some(Properties {
                message_id: Some(id.clone()),
                user_id: Some(Bytes::from_static(b"me")),
                to: Some("to".into()),
                subject: Some("about".into()),
                reply_to: Some("back".into()),
                correlation_id: Some(id),
                content_type: Some(Symbol::from_static("text/plain")),
                content_encoding: Some(Symbol::from_static("gzip")),
                absolute_expiry_time: Some(Timestamp(1)),
                creation_time: Some(Timestamp(2)),
                group_id: Some(String::new().into()),
                group_sequence: Some(SerialNumber(u32::MAX)),
                reply_to_group_id: Some("g".into()),
            }),
            ..Message::data("x")
        });
    }
}

#[test]
fn people_may_write_less() {
    let line = r#"{"application_properties": {"a": 1, "b": 1.5, "c": "x"}, "body": {"text": "t"}}"#;
    let message = serde_json::from_str::<MessageLine>(line).unwrap().message().unwrap();
    let properties = Map::new().with("a", 1_i64).with("b", 1.5).with("c", "x");
    assert_eq!(message, Message::data("t").with_application_properties(properties));
    for wrong in [
        r#"{"bodi": 1}"#,
        r#"{"body": {"text": "a", "base64": ""}}"#,
        r#"{"body": {"value": {"int": "x"}}}"#,
        r#"{"body": {"value": {}}}"#,
        r#"{"body": {"value": {"int": 1, "long": 1}}}"#,
        r#"{"body": {"value": {"color": 1}}}"#,
        r#"{"message_annotations": {"é": 1}}"#,
    ] {
        assert!(serde_json::from_str::<MessageLine>(wrong).is_err(), "{wrong}");
    }
    for wrong in [r#"{"body": {"base64": "?"}}"#, r#"{"properties": {"message_id": true}}"#] {
        let line: MessageLine = serde_json::from_str(wrong).unwrap();
        assert!(line.message().is_err(), "{wrong}");
    }
}
