use std::sync::Arc;

use peeklock_core::{
    Broker, BrokerSettings, Command, EffectKind, EntityId, EntityPath, IncomingMessage, LockToken,
    MessageLock, MessageState, Origin, QueueSettings, ReceiveMode, ReceiverId, SeededIds,
    SequenceNumber, Timestamp,
};
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Symbol};

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A message as a queue keeps it, number 1 of its entity.
fn stored(wire: &[u8]) -> Arc<StoredMessage> {
    let mut core = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
    let path = EntityPath::parse("q").unwrap().path;
    let origin = Origin { connection: 1, link: 1, delivery: 0 };
    let receiver = ReceiverId { connection: 1, link: 2 };
    let settings = QueueSettings::default();
    let messages = [IncomingMessage::from_wire(wire).unwrap()].into_iter().collect();
    let mode = ReceiveMode::ReceiveAndDelete;
    for command in [
        Command::EnsureQueue { origin: None, path: path.clone(), settings },
        Command::Send { origin, entity: EntityId(1), messages, transaction: None },
        Command::OpenReceiver { origin, receiver, path, mode, session: None },
        Command::Demand { receiver, limit: 1 },
    ] {
        core.handle(NOW, command);
    }
    let delivered = core.take_turn().effects.into_iter().find_map(|effect| match effect.kind {
        EffectKind::Deliver { delivery, .. } => Some(delivery.message),
        _ => None,
    });
    delivered.unwrap()
}

fn delivered(message: Arc<StoredMessage>, replaced: Option<Bytes>) -> Delivery {
    Delivery {
        entity: EntityId(1),
        sequence: SequenceNumber(7),
        message,
        attempts: 2,
        lock: Some(MessageLock { token: LockToken([0xab; 16]), until: Timestamp(NOW.0 + 60_000) }),
        application_properties: replaced,
        state: MessageState::Active,
        dead_letter_source: None,
    }
}

fn looked_at(message: Arc<StoredMessage>) -> Browsed {
    Browsed {
        sequence: SequenceNumber(7),
        message,
        attempts: 0,
        application_properties: None,
        state: MessageState::Deferred,
        dead_letter_source: None,
    }
}

fn encoded(one: &Delivery) -> Bytes {
    delivery(one, &mut BytesMut::new()).concat().into()
}

#[track_caller]
fn decoded(bytes: &Bytes) -> Message {
    Message::decode(bytes).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}

/// One data section that says "hello".
const HELLO: &[u8] = &[0x00, 0x53, 0x75, 0xa0, 5, b'h', b'e', b'l', b'l', b'o'];

#[test]
fn a_delivery_octet_by_octet() {
    let bytes = encoded(&delivered(stored(HELLO), None));
    assert_eq!(
        hex(&bytes),
        concat!(
            "005370c00705404040405202",
            "005371c12402a310782d6f70742d6c6f636b2d746f6b656e98abababababababababababababababab",
            "005372c17608",
            "a315782d6f70742d73657175656e63652d6e756d6265725507",
            "a313782d6f70742d656e7175657565642d74696d65830000018bcfe56800",
            "a31d782d6f70742d656e71756575652d73657175656e63652d6e756d6265725501",
            "a312782d6f70742d6c6f636b65642d756e74696c830000018bcfe65260",
            "005375a00568656c6c6f",
        )
    );
}

#[test]
fn a_browsed_message_octet_by_octet() {
    let bytes = browsed(&looked_at(stored(HELLO)));
    assert_eq!(
        hex(&bytes),
        concat!(
            "005370c006054040404043",
            "005372c17008",
            "a315782d6f70742d73657175656e63652d6e756d6265725507",
            "a313782d6f70742d656e7175657565642d74696d65830000018bcfe56800",
            "a31d782d6f70742d656e71756575652d73657175656e63652d6e756d6265725501",
            "a313782d6f70742d6d6573736167652d73746174655401",
            "005375a00568656c6c6f",
        )
    );
}

#[test]
fn a_message_that_is_gone_from_the_queue_has_no_lock() {
    let bytes = encoded(&Delivery { lock: None, ..delivered(stored(HELLO), None) });
    let message = decoded(&bytes);
    assert_eq!(message.delivery_annotations, None);
    assert_eq!(message.message_annotations.unwrap().get("x-opt-locked-until"), None);
}

#[test]
fn the_senders_header_stays_but_for_the_count() {
    let header = Header {
        durable: Some(true),
        priority: Some(9),
        ttl: Some(30_000),
        delivery_count: Some(44),
        ..Header::default()
    };
    let sent = Message { header: Some(header.clone()), ..Message::data("x") };
    let message = decoded(&encoded(&delivered(stored(&sent.to_bytes()), None)));
    assert_eq!(message.header, Some(Header { delivery_count: Some(2), ..header }));
}

#[test]
fn annotations_of_ours_are_replaced_and_all_others_kept() {
    let mut sent = Map::new();
    for own in OWN_ANNOTATIONS {
        sent = sent.with(Symbol::from(own), "forged");
    }
    let sent = sent.with(Symbol::from("x-opt-partition-key"), "key").with(Symbol::from("own"), 5);
    let sent = Message::data("x").with_message_annotations(sent);
    let message = stored(&sent.to_bytes());
    let found = decoded(&encoded(&delivered(Arc::clone(&message), None)));
    let map = found.message_annotations.unwrap();
    let expected = [
        ("x-opt-partition-key", Value::from("key")),
        ("own", Value::from(5)),
        ("x-opt-sequence-number", Value::Long(7)),
        ("x-opt-enqueued-time", Value::Timestamp(NOW.as_amqp())),
        ("x-opt-enqueue-sequence-number", Value::Long(1)),
        ("x-opt-locked-until", Value::Timestamp(NOW.as_amqp() + 60_000)),
    ];
    let expected = expected.map(|(key, value)| (Value::Symbol(Symbol::from(key)), value));
    assert_eq!(map.iter().cloned().collect::<Vec<_>>(), expected);
    let map = decoded(&browsed(&looked_at(message))).message_annotations.unwrap();
    assert_eq!(map.get("x-opt-message-state"), Some(&Value::Int(1)));
    assert_eq!(map.get("x-opt-locked-until"), None);
    assert_eq!(map.len(), 6);
}

#[test]
fn a_forwarded_dead_letter_says_where_it_comes_from() {
    let source = Some(Arc::<str>::from("Eu/Orders"));
    let message = stored(HELLO);
    let one =
        Delivery { dead_letter_source: source.clone(), ..delivered(Arc::clone(&message), None) };
    let seen = Browsed { dead_letter_source: source, ..looked_at(message) };
    for bytes in [encoded(&one), received(&one), browsed(&seen)] {
        let map = decoded(&bytes).message_annotations.unwrap();
        assert_eq!(map.get("x-opt-deadletter-source"), Some(&Value::from("Eu/Orders")));
    }
}

/// A described value, a decimal and a map: kept as octets, in an order no encoder of ours chose.
#[test]
fn annotations_of_unknown_types_stay_octet_by_octet() {
    let entries: &[&[u8]] = &[
        &[0xa3, 1, b'd', 0x00, 0xa3, 1, b't', 0xa1, 1, b'v'],
        &[0xa3, 1, b'e', 0x74, 1, 2, 3, 4],
        &[0xb3, 0, 0, 0, 1, b'm', 0xd1, 0, 0, 0, 8, 0, 0, 0, 2, 0x54, 1, 0x54, 2],
    ];
    let body = entries.concat();
    let mut wire = vec![0x00, 0x53, 0x72, 0xc1, u8::try_from(body.len() + 1).unwrap(), 6];
    wire.extend_from_slice(&body);
    wire.extend_from_slice(HELLO);
    let bytes = encoded(&delivered(stored(&wire), None));
    let found = bytes.windows(body.len()).filter(|window| *window == body).count();
    assert_eq!(found, 1, "{}", hex(&bytes));
}

fn full() -> Message {
    let properties = Properties { subject: Some("s".into()), ..Properties::default() };
    Message {
        footer: Some(Map::new().with(Symbol::from("f"), 1)),
        delivery_annotations: Some(Map::new().with(Symbol::from("for-the-broker"), 1)),
        ..Message::data("body")
    }
    .with_properties(properties)
    .with_application_properties(Map::new().with("old", 1))
}

#[test]
fn replaced_application_properties_stand_where_the_senders_did() {
    let replacement = Map::new().with("new", 2);
    let section = Message::default().with_application_properties(replacement.clone()).to_bytes();
    let without = Message { application_properties: None, ..full() };
    let no_body = Message { body: peeklock_protocol::message::Body::Empty, ..full() };
    let nothing = Message { footer: None, properties: None, ..no_body.clone() };
    for sent in [full(), without, no_body, nothing] {
        let message = stored(&sent.to_bytes());
        let found = decoded(&encoded(&delivered(message, Some(section.clone()))));
        assert_eq!(found.application_properties.as_ref(), Some(&replacement));
        assert_eq!((&found.properties, &found.footer), (&sent.properties, &sent.footer));
        assert_eq!(found.body, sent.body);
        let annotations = found.delivery_annotations.unwrap();
        assert_eq!(annotations.get("for-the-broker"), None, "they end at the next node");
    }
}

#[test]
fn sections_are_as_sent_whatever_is_missing() {
    let no_properties = Message { properties: None, application_properties: None, ..full() };
    let no_body = Message { body: peeklock_protocol::message::Body::Empty, ..full() };
    let only_footer = Message { properties: None, application_properties: None, ..no_body.clone() };
    for sent in [full(), no_properties, no_body, only_footer] {
        let found = decoded(&encoded(&delivered(stored(&sent.to_bytes()), None)));
        assert_eq!(found.application_properties, sent.application_properties);
        assert_eq!((found.properties, found.footer), (sent.properties, sent.footer));
        assert_eq!(found.body, sent.body);
    }
}
