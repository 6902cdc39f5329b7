//! Sending to a queue: transfers (AMQP §2.6.12), their outcomes, batches, and messages that come out
//! as they went in (AMQP §3.2).

use bytes::{Bytes, BytesMut};
use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Transfer;
use peeklock_protocol::value::{Array, F32, F64, Map, Symbol, Value};
use peeklock_tests::link::{Link, Received, deleting_receiver, rejection};
use peeklock_tests::message::{ENVELOPE_FORMAT, Message};
use peeklock_tests::{Peer, TestBroker, raw};

/// Receives one message and deletes it.
#[track_caller]
fn take(peer: &mut Peer) -> Received {
    let mut link = peer.attach_for_receiving(deleting_receiver("q"));
    let received = peer.receive_one(&mut link);
    peer.detach(&link);
    received
}

/// AMQP §2.6.12: Python reads nothing of a disposition that is not settled, .NET wants a state. The
/// harness holds both against every outcome.
#[test]
fn a_stored_message_is_accepted_and_settled() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let id = peer.transfer(&mut link, &Message::data("a").encode());
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(take(&mut peer).text(), "a");
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §2.6.12: a delivery that the sender has settled gets no disposition, and is stored.
#[test]
fn a_settled_transfer_is_stored_without_an_answer() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    peer.transfer_settled(&mut link, &Message::data("settled").encode());
    // The outcome of this one is the first to come.
    let id = peer.transfer(&mut link, &Message::data("unsettled").encode());
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(peer.drain_texts("q"), ["settled", "unsettled"]);
}

/// AMQP §2.6.14: "settled ... if it is true on any frame of the delivery, the delivery is settled".
#[test]
fn settled_on_the_last_frame_settles_the_delivery() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let message = Message::data("in two frames").encode();
    let first = peer.first_transfer(&mut link, 0, false);
    peer.send_with(Transfer { settled: None, more: true, ..first }, &message[..4]);
    let last = Transfer { handle: link.handle, settled: Some(true), ..Transfer::default() };
    peer.send_with(last, &message[4..]);
    let id = peer.transfer(&mut link, &Message::data("next").encode());
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(peer.drain_texts("q"), ["in two frames", "next"]);
}

/// AMQP §2.6.14: a message may be split anywhere, also inside a descriptor, and its later frames
/// repeat neither id nor tag nor format.
#[test]
fn a_message_may_be_split_at_every_octet() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let message = Message::data("split").with_id("id").with_property("k", 1_i32).encode();
    let mut transfer = peer.first_transfer(&mut link, 0, false);
    let id = transfer.delivery_id.unwrap_or_default();
    for octet in &message {
        peer.send_with(Transfer { more: true, ..transfer }, &[*octet]);
        transfer = Transfer { handle: link.handle, ..Transfer::default() };
    }
    peer.send(transfer);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert!(take(&mut peer).payload.ends_with(&message));
}

/// AMQP §2.6.14: "aborted: If true the transferred delivery is aborted. All data for the delivery is
/// discarded ... no settlement follows."
#[test]
fn an_aborted_delivery_leaves_nothing_behind() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    // More deliveries than there is credit at first: it has to come back for those, too.
    for _ in 0..40 {
        for _ in 0..50 {
            let first = peer.first_transfer(&mut link, 0, false);
            peer.send_with(Transfer { more: true, ..first }, b"\x00\x53\x75\xa0\x04ha");
            peer.send(Transfer { handle: link.handle, aborted: true, ..Transfer::default() });
        }
        peer.send_accepted(&mut link, &Message::data("whole").encode());
    }
    assert_eq!(peer.drain_texts("q"), vec!["whole"; 40]);
}

/// AMQP §2.6.14: deliveries of one link follow one another, those of several links may interleave.
#[test]
fn deliveries_of_two_links_may_interleave() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut one = peer.attach_sender("q");
    let mut other = peer.attach_sender("q");
    let texts = ["of the first link", "of the other link"];
    let messages = texts.map(|text| Message::data(text).encode());
    let firsts =
        [peer.first_transfer(&mut one, 0, false), peer.first_transfer(&mut other, 0, false)];
    let id = firsts[0].delivery_id.unwrap_or_default();
    for (first, message) in firsts.into_iter().zip(&messages) {
        peer.send_with(Transfer { more: true, ..first }, &message[..7]);
    }
    for (link, message) in [&one, &other].into_iter().zip(&messages) {
        let last = Transfer { handle: link.handle, ..Transfer::default() };
        peer.send_with(last, &message[7..]);
    }
    assert_eq!(peer.expect_outcomes(id, 2), [DeliveryState::Accepted, DeliveryState::Accepted]);
    assert_eq!(peer.drain_texts("q"), texts);
}

/// The SDKs put each message of a batch into a data section of an envelope with a message-format of
/// its own; what else the envelope carries is not delivered.
#[test]
fn a_batch_of_a_hundred_is_stored_in_order_as_if_sent_alone() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let inner: Vec<Bytes> = (0..100)
        .map(|n| Message::data(format!("{n}")).with_id(format!("id {n}")).encode())
        .collect();
    let mut envelope = BytesMut::new();
    let outer = Message { body: Vec::new(), ..Message::data("") }
        .with_id("id 0")
        .with_annotation("x-opt-partition-key", "of the envelope")
        .with_property("of", "the envelope");
    envelope.extend_from_slice(&outer.encode());
    envelope.extend_from_slice(&peeklock_tests::message::envelope(&inner));
    let id = peer.transfer_as(&mut link, &envelope, ENVELOPE_FORMAT, false);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);

    let mut link = peer.attach_for_receiving(deleting_receiver("q"));
    let received = peer.drain(&mut link, 200);
    assert_eq!(received.len(), 100);
    let mut before = 0;
    for (received, sent) in received.iter().zip(&inner) {
        assert!(received.payload.ends_with(sent), "{received:?}");
        let message = received.message();
        assert_eq!(message.annotation("x-opt-partition-key"), None);
        assert!(before < message.sequence_number());
        before = message.sequence_number();
    }
}

/// All or nothing: one disposition answers a batch.
#[test]
fn a_batch_with_one_bad_message_stores_nothing() {
    let broker = TestBroker::with().queue("q", "max_message_size = \"64 KiB\"").start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let good = Message::data("good").encode();
    let bad: [Bytes; 3] = [
        Bytes::from_static(b"\x00\x53\x75\xa0\xff too short"),
        Bytes::from_static(b"no section"),
        // Properties behind the body.
        [Message::data("a").encode(), Message::value(1_i32).with_id("x").encode()].concat().into(),
    ];
    for bad in bad {
        let id = peer.transfer_batch(&mut link, &[good.clone(), bad, good.clone()]);
        match peer.expect_outcome(id) {
            DeliveryState::Rejected(Some(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // An envelope whose body is not made of data sections.
    let value = Message::value("not data").encode();
    let id = peer.transfer_as(&mut link, &value, ENVELOPE_FORMAT, false);
    assert!(matches!(peer.expect_outcome(id), DeliveryState::Rejected(Some(_))));
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
    broker.assert_nothing_above_info_was_logged();
}

/// There is nothing wrong with a batch of nothing.
#[test]
fn an_empty_batch_is_accepted_and_stores_nothing() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let id = peer.transfer_batch(&mut link, &[]);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// The condition is the one the SDKs map to their message-too-large errors, and the link goes on.
#[test]
fn a_message_above_the_limit_is_rejected_and_the_link_goes_on() {
    let broker = TestBroker::with().queue("q", "max_message_size = \"64 KiB\"").start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    assert_eq!(link.reply.max_message_size, Some(65_536));
    let overhead = Message::data(vec![0; 1000]).encode().len() - 1000;
    let whole = 65_536 - overhead;
    for size in [whole + 1, 1_000_000, 3_000_000] {
        let id = peer.transfer(&mut link, &Message::data(vec![0; size]).encode());
        peer.expect_rejected(id, condition::LINK_MESSAGE_SIZE_EXCEEDED);
    }
    peer.send_accepted(&mut link, &Message::data(vec![0; whole]).encode());
    let batch = vec![Message::data(vec![0; 40_000]).encode(); 2];
    let id = peer.transfer_batch(&mut link, &batch);
    peer.expect_rejected(id, condition::LINK_MESSAGE_SIZE_EXCEEDED);
    broker.assert_nothing_above_info_was_logged();
}

/// A full queue is no fault of the message; .NET calls the condition `QuotaExceeded`. Receiving makes
/// room again.
#[test]
fn a_full_queue_rejects_until_there_is_room() {
    let broker = TestBroker::with()
        .queue("q", "max_size = \"1 MiB\"\nmax_message_size = \"512 KiB\"")
        .start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let message = Message::data(vec![1; 100_000]).encode();
    let mut stored = 0;
    let error = loop {
        let id = peer.transfer(&mut link, &message);
        match peer.expect_outcome(id) {
            DeliveryState::Accepted => stored += 1,
            state => break rejection(state, condition::RESOURCE_LIMIT_EXCEEDED),
        }
    };
    assert!((9..=11).contains(&stored), "{stored} of 100 kB in 1 MiB");
    assert!(error.description.is_some_and(|text| !text.is_empty()));
    take(&mut peer);
    peer.send_accepted(&mut link, &message);
    broker.assert_nothing_above_info_was_logged();
}

/// What is not a message is refused where it can be: at its delivery.
#[test]
fn bytes_that_are_no_message_are_rejected_and_the_link_goes_on() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let bad: [&[u8]; 5] = [
        b"no section at all",
        b"\x00\x53\x75\xa0\x05shor",
        b"\x00\x53\x75\xa1\x04text",
        b"\x00\x53\x99\x45",
        b"\x00",
    ];
    for octets in bad {
        let id = peer.transfer(&mut link, octets);
        peer.expect_rejected(id, condition::DECODE_ERROR);
    }
    peer.send_accepted(&mut link, &Message::data("good").encode());
    assert_eq!(peer.drain_texts("q"), ["good"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Python sends a message whose body is None without a body section.
#[test]
fn a_message_without_a_body_survives() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for sent in [
        Message::default().with_id("no body"),
        Message::default().with_property("k", "v"),
        Message::default(),
    ] {
        peer.send_accepted(&mut link, &sent.encode());
        let received = take(&mut peer).message();
        assert_eq!(received.body, []);
        assert_eq!(received.id(), sent.id());
        assert_eq!(received.application_properties, sent.application_properties);
    }
}

/// AMQP §3.2: the bare message is immutable. Filters of other languages depend on a short staying a
/// short, and footers are signatures.
#[test]
fn everything_the_broker_does_not_own_comes_out_byte_for_byte() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for body in bodies() {
        let bare = Message { body, ..bare_message() }.encode();
        let mut sent = BytesMut::from(&annotated().encode()[..]);
        sent.extend_from_slice(&bare);
        let footer = raw::described(
            0x78,
            Value::Map(
                Map::new().with(Symbol::from_static("signature"), Value::Binary("x".into())),
            ),
        );
        footer.encode(&mut sent);
        let tail = sent.split_off(sent.len() - bare.len() - footer.to_bytes().len());
        let whole = [&sent[..], &tail[..]].concat();
        peer.send_accepted(&mut link, &whole);
        let received = take(&mut peer);
        assert!(received.payload.ends_with(&tail), "the bare message and the footer");
        let message = received.message();
        for (key, value) in &annotated().annotations {
            let key = key.as_str().unwrap_or_default();
            assert_eq!(message.annotation(key), Some(value), "{key}");
        }
        let header = message.header.expect("a header");
        assert_eq!(header[..2], [Value::Bool(true), Value::Ubyte(9)], "durable and priority");
    }
}

/// Sections before the bare message, which the broker adds to.
fn annotated() -> Message {
    let header = vec![Value::Bool(true), Value::Ubyte(9)];
    Message { header: Some(header), ..Message::default() }
        .with_annotation("x-opt-unknown", raw::described(0x77_0000_0001, Value::from("kept")))
        .with_annotation("example:list", Value::List(vec![Value::Null, Value::Bool(false)]))
        .with_annotation("x-opt-partition-key", "a partition")
}

/// Properties and application-properties of every type there is.
fn bare_message() -> Message {
    let symbols = Array::symbols([Symbol::from_static("a"), Symbol::from_static("b")]);
    let time = |ticks| {
        let descriptor = Value::Symbol(Symbol::from_static("com.microsoft:timespan"));
        Value::Described(Box::new((descriptor, Value::Long(ticks))))
    };
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Ubyte(255),
        Value::Ushort(65_535),
        Value::Uint(0),
        Value::Uint(u32::MAX),
        Value::Ulong(0),
        Value::Ulong(u64::MAX),
        Value::Byte(-128),
        Value::Short(-32_768),
        Value::Int(-1),
        Value::Int(i32::MIN),
        Value::Long(-1),
        Value::Long(i64::MIN),
        Value::Float(F32::from(-0.5)),
        Value::Float(F32::from_bits(0x7fc0_0001)),
        Value::Double(F64::from(1e300)),
        Value::Decimal32([1; 4]),
        Value::Decimal64([2; 8]),
        Value::Decimal128([3; 16]),
        Value::Char('\u{1f980}'),
        Value::Timestamp(-1),
        Value::Uuid([4; 16]),
        Value::Binary(Bytes::from_static(&[0, 255])),
        Value::from("text \u{e4}\u{1f980}"),
        Value::from("long ".repeat(100)),
        Value::Symbol(Symbol::from_static("symbol")),
        Value::Array(symbols),
        time(42),
    ];
    let mut message = Message::default()
        .with_id(Value::Ulong(5))
        .with_field(1, Value::Binary("user".into()))
        .with_field(5, Value::Uuid([6; 16]))
        .with_field(6, Value::Symbol(Symbol::from_static("text/plain")))
        .with_field(10, Value::from("group"))
        .with_field(11, Value::Uint(3))
        .with_field(12, Value::from("reply group"));
    for (n, value) in values.into_iter().enumerate() {
        message = message.with_property(&format!("property {n}"), value);
    }
    message
}

/// Every kind of body, with every number of sections.
fn bodies() -> Vec<Vec<(u64, Value)>> {
    let data = |octets: &'static [u8]| (0x75, Value::Binary(Bytes::from_static(octets)));
    let sequence = |n| (0x76, Value::List(vec![Value::Int(n), Value::from("item")]));
    vec![
        vec![data(b"one")],
        vec![data(b""), data(b"two"), data(b"three")],
        vec![sequence(1)],
        vec![sequence(1), sequence(2)],
        vec![(0x77, Value::Null)],
        vec![(0x77, Value::Map(Map::new().with("k", Value::List(vec![1_i64.into()]))))],
    ]
}

/// Long encodings are as good as short ones, and what came long stays long.
#[test]
fn an_unusual_encoding_survives_too() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link: Link = peer.attach_sender("q");
    // Data under a symbolic descriptor, then under one of eight octets, each with a long length.
    let mut sent = BytesMut::from(&b"\x00\xa3\x10amqp:data:binary\xb0\x00\x00\x00\x01a"[..]);
    sent.extend_from_slice(b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x75\xb0\x00\x00\x00\x01b");
    peer.send_accepted(&mut link, &sent);
    assert!(take(&mut peer).payload.ends_with(&sent));
}
