//! Attaching and detaching links (AMQP §2.6): what is echoed, what is refused and how.

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_protocol::condition;
use peeklock_protocol::performative::{Attach, Detach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::{deleting_receiver, receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::{TestBroker, raw};

/// AMQP §2.7.3: "initial-delivery-count: This field MUST NOT be null if role is sender". pyamqp
/// takes a link for dead when either terminus of the answer is null.
#[test]
fn the_answer_to_a_receiver_has_both_termini_and_an_initial_delivery_count() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let attach = receiver("q");
    let link = peer.attach(attach.clone());
    assert_eq!(link.reply.source, attach.source);
    assert_eq!(link.reply.target, attach.target);
    assert!(link.reply.initial_delivery_count.is_some());
}

/// The side that takes messages says how large they may be; the clients wait for credit, and Python,
/// .NET and Java size their batches by a property.
#[test]
fn the_answer_to_a_sender_has_both_termini_sizes_and_credit() {
    let broker = TestBroker::with().queue("q", "max_message_size = \"300 KiB\"").start();
    let mut peer = broker.peer();
    let attach = sender("q");
    let link = peer.attach_for_sending(attach.clone());
    assert_eq!(link.reply.source, attach.source);
    assert_eq!(link.reply.target, attach.target);
    assert_eq!(link.reply.max_message_size, Some(300 * 1024));
    let properties = link.reply.properties.unwrap_or_default();
    let batch = properties.get("com.microsoft:max-message-batch-size");
    assert!(batch.and_then(Value::as_u64) > Some(0), "{properties:?}");
}

/// Python compares the source of the answer with its own, and go-amqp looks for its filters: what a
/// terminus says comes back octet by octet, in whatever encoding it was said.
#[test]
fn termini_are_echoed_byte_for_byte() {
    let broker = TestBroker::start();
    // A symbolic descriptor, the longest forms of everything, and names no broker knows.
    let mut source = BytesMut::new();
    source.put_slice(b"\x00\xa3\x10amqp:source:list");
    let address = b"\xb1\x00\x00\x00\x01q";
    let filter = Value::Map(Map::new().with(
        Symbol::from_static("example:filter"),
        raw::described(0x0000_468c_0000_0004, Value::from("color = 'red'")),
    ))
    .to_bytes();
    let fields: [&[u8]; 11] = [
        address,
        b"\x70\x00\x00\x00\x00",
        b"\xa3\x0bsession-end",
        b"\x70\x00\x00\x00\x05",
        b"\x56\x00",
        b"\x40",
        b"\x40",
        &filter,
        b"\x40",
        b"\x40",
        b"\xa3\x05queue",
    ];
    source.put_slice(&raw::list(&fields));
    let target = raw::described_list(0x29, &[b"\xb1\x00\x00\x00\x02me"]);
    let attach = raw::described_list(
        0x12,
        &[b"\xa1\x03raw", b"\x52\x05", b"\x41", b"\x40", b"\x40", &source, &target],
    );
    let mut peer = broker.peer();
    peer.write(&raw::frame(raw::TYPE_AMQP, 0, &attach));
    let reply: Attach = peer.expect();
    let echoed = reply.source.expect("a source");
    assert_eq!(echoed.raw().as_bytes(), &source.freeze());
    assert_eq!(reply.target.expect("a target").raw().as_bytes(), &target);
}

/// go-amqp fails an attach whose modes are not what it asked for, and .NET takes over those of the
/// answer. Modes that were left out are answered mixed and first.
#[test]
fn settle_modes_are_echoed_as_asked() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let snd = [
        None,
        Some(SenderSettleMode::Unsettled),
        Some(SenderSettleMode::Settled),
        Some(SenderSettleMode::Mixed),
    ];
    let rcv = [None, Some(ReceiverSettleMode::First), Some(ReceiverSettleMode::Second)];
    for base in [sender("q"), receiver("q")] {
        for snd_settle_mode in snd {
            for rcv_settle_mode in rcv {
                let attach = Attach { snd_settle_mode, rcv_settle_mode, ..base.clone() };
                let link = peer.attach(attach);
                let wanted_snd = snd_settle_mode.unwrap_or(SenderSettleMode::Mixed);
                let wanted_rcv = rcv_settle_mode.unwrap_or(ReceiverSettleMode::First);
                let (got_snd, got_rcv) = (link.reply.snd_settle_mode, link.reply.rcv_settle_mode);
                assert_eq!(got_snd.unwrap_or(SenderSettleMode::Mixed), wanted_snd);
                assert_eq!(got_rcv.unwrap_or(ReceiverSettleMode::First), wanted_rcv);
                peer.detach(&link);
            }
        }
    }
}

/// .NET writes a path with a slash, Python and Rust the whole URI, the others the bare name.
#[test]
fn every_spelling_of_an_address_names_the_same_queue() {
    let broker = TestBroker::with().queue("Some/Orders", "").start();
    let spellings = [
        "Some/Orders",
        "/some/orders",
        "SOME/ORDERS",
        "some/orders/",
        "some%2Forders",
        "amqps://localhost:5672/some/orders",
        "amqp://localhost/some/orders",
        "sb://localhost/Some/Orders/",
    ];
    let mut peer = broker.peer();
    for spelling in spellings {
        let mut link = peer.attach_sender(spelling);
        assert_eq!(link.reply.target.as_ref().and_then(|t| t.address()), Some(spelling));
        peer.send_accepted(&mut link, &Message::data(spelling).encode());
        peer.detach(&link);
    }
    let mut link = peer.attach_for_receiving(deleting_receiver("some/orders"));
    for spelling in spellings {
        assert_eq!(peer.receive_one(&mut link).text(), spelling);
    }
    for address in ["some/orders/$deadletterqueue", "/Some/Orders/$DeadLetterQueue"] {
        peer.attach_receiver(address);
    }
}

/// azure-amqp leaves the initial delivery-count out on its `$cbs` and management senders.
#[test]
fn a_sender_without_an_initial_delivery_count_counts_from_zero() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_for_sending(Attach { initial_delivery_count: None, ..sender("q") });
    peer.send_accepted(&mut link, &Message::data("counted from zero").encode());
}

/// AMQP §2.6.3: a link that cannot be established is answered without a terminus and detached. Java
/// and JS tell a missing entity by the text; JS needs both frames at once.
#[test]
fn an_unknown_entity_is_refused_with_the_text_the_clients_look_for() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let refused = [
        sender("missing"),
        receiver("missing"),
        receiver("q/missing"),
        receiver("missing/$DeadLetterQueue"),
        receiver("q/Subscriptions/s"),
        receiver("q/$NoSuchQueue"),
        sender("q/"),
    ];
    for attach in &refused[..6] {
        let error = peer.expect_refusal(attach.clone(), condition::NOT_FOUND);
        let text = error.description.expect("a description").to_string();
        let (before, after) = text.split_once("The messaging entity '").expect(&text);
        assert_eq!(before, "");
        assert!(after.contains("' could not be found"), "{text}");
    }
    peer.attach_for_sending(refused[6].clone());
    broker.assert_nothing_above_info_was_logged();
}

/// Only a receiver has business with a dead-letter queue.
#[test]
fn a_sender_to_a_dead_letter_queue_is_refused() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.expect_refusal(sender("q/$DeadLetterQueue"), condition::NOT_ALLOWED);
}

/// What a rule does not grant is refused at the attach, with the claim that is missing.
#[test]
fn links_without_the_right_they_need_are_refused() {
    let broker = TestBroker::with()
        .queue("q", "")
        .rule("sends", "k", "[\"Send\"]")
        .rule("listens", "k", "[\"Listen\"]")
        .start();
    let mut sends = broker.connect().plain("sends", "k").open().begin();
    sends.attach_sender("q");
    let error = sends.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
    let text = error.description.expect("a description").to_string();
    assert!(text.contains("'Listen' claim(s) are required"), "{text}");

    let mut listens = broker.connect().plain("listens", "k").open().begin();
    listens.attach_receiver("q");
    listens.attach_receiver("q/$DeadLetterQueue");
    let error = listens.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    let text = error.description.expect("a description").to_string();
    assert!(text.contains("'Send' claim(s) are required"), "{text}");
}

/// Whether an entity exists is nobody's business without a right to it.
#[test]
fn nothing_is_attached_before_a_token_was_put() {
    let broker = TestBroker::start();
    let mut peer = broker.anonymous_peer();
    for attach in [
        sender("q"),
        receiver("q"),
        receiver("q/$DeadLetterQueue"),
        receiver("q/$management"),
        sender("q/$management"),
        receiver("missing"),
    ] {
        peer.expect_refusal(attach, condition::UNAUTHORIZED_ACCESS);
    }
}

/// A session filter has no meaning on a queue without sessions, and the SDKs show this text.
#[test]
fn a_session_filter_on_a_plain_queue_is_refused() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let filter = Map::new().with(Symbol::from_static("com.microsoft:session-filter"), "a session");
    let source = Source::new("q").with_filter(filter);
    let error = peer.expect_refusal(
        Attach { source: Some(source.into()), ..receiver("q") },
        condition::NOT_ALLOWED,
    );
    let text = error.description.expect("a description").to_string();
    assert!(text.starts_with("A sessionful message receiver cannot be created"), "{text}");
}

/// AMQP §2.6.6: the answer to a detach says closed as the detach did; go-amqp takes anything else
/// for a protocol violation.
#[test]
fn the_answer_to_a_detach_mirrors_closed() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    for attach in [sender("q"), receiver("q")] {
        for closed in [true, false] {
            let link = peer.attach(attach.clone());
            peer.send(Detach { handle: link.handle, closed, error: None });
            let answer: Detach = peer.find();
            assert_eq!(answer, Detach { handle: link.remote_handle, closed, error: None });
        }
    }
}

/// AMQP §2.6.4: after a detach the name may be attached again, and the handle too.
#[test]
fn a_name_may_be_attached_again_after_its_detach() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let attach = Attach { handle: 3, ..receiver("q") };
    for _ in 0..10 {
        peer.send(attach.clone());
        let reply: Attach = peer.expect();
        assert!(reply.source.is_some());
        peer.send(Detach { handle: 3, closed: true, error: None });
        let answer: Detach = peer.expect();
        assert_eq!(answer.handle, reply.handle);
    }
}

/// A client may change its mind before it has an answer.
#[test]
fn a_detach_right_behind_its_attach_is_answered() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    for attach in [sender("q"), receiver("q"), receiver("missing")] {
        let attach = peer.send_attach(attach);
        peer.send(Detach { handle: attach.handle, closed: true, error: None });
        let reply: Attach = peer.expect();
        let answer: Detach = peer.expect();
        assert!(answer.closed);
        assert_eq!(answer.handle, reply.handle);
    }
    peer.attach_receiver("q");
}

/// Java repeats link names on the sessions of one connection.
#[test]
fn the_same_name_on_two_sessions_is_two_links() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let attach = sender("q");
    let mut first = peer.attach_for_sending(attach.clone());
    peer.begin_on(1);
    let mut second = peer.attach_for_sending(attach);
    peer.send_accepted(&mut first, &Message::data("first").encode());
    peer.send_accepted(&mut second, &Message::data("second").encode());
}

/// AMQP §2.6.1: a link is known by its name, so a second attach takes the first one's place.
#[test]
fn attaching_the_name_of_a_live_link_steals_it() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let attach = receiver("q");
    let first = peer.attach(attach.clone());
    peer.send_attach(attach);
    let stolen: Detach = peer.find();
    assert_eq!(stolen.handle, first.remote_handle);
    assert_eq!(
        stolen.error.map(|error| error.condition.to_string()).as_deref(),
        Some(condition::LINK_STOLEN)
    );
}

/// A link has to say what it is to: a sender may have each message say it, a receiver may not.
#[test]
fn a_link_to_no_node_is_refused() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let refused = [
        Attach { target: None, ..sender("q") },
        Attach { source: Some(Source::default().into()), ..receiver("q") },
        Attach { source: None, ..receiver("q") },
    ];
    for attach in refused {
        let role = attach.role;
        let attach = peer.send_attach(attach);
        let reply: Attach = peer.expect();
        match role {
            Role::Sender => assert_eq!(reply.target, None),
            Role::Receiver => assert_eq!(reply.source, None),
        }
        let detach: Detach = peer.expect();
        assert!(detach.closed && detach.error.is_some(), "{detach:?}");
        peer.send(Detach { handle: attach.handle, closed: true, error: None });
    }
    peer.attach_receiver("q");
}

/// Java and .NET add properties, qpid-jms capabilities, and resuming clients a map of unsettled
/// deliveries: none of it is a reason to refuse.
#[test]
fn what_an_attach_says_besides_is_no_reason_to_refuse_it() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let properties = Map::new()
        .with(Symbol::from_static("com.microsoft:timeout"), 60_000_u32)
        .with(Symbol::from_static("com.microsoft:entity-type"), 0_i32)
        .with(Symbol::from_static("com.microsoft:receiver-name"), "someone");
    let unsettled = Map::new().with(Value::Binary(Bytes::from_static(b"tag")), Value::Null);
    let attach = Attach {
        properties: Some(properties),
        unsettled: Some((&unsettled).into()),
        incomplete_unsettled: Some(true),
        desired_capabilities: Some(vec!["DELAYED_DELIVERY".into(), "SHARED-SUBS".into()]),
        max_message_size: Some(0),
        ..receiver("q")
    };
    peer.attach_for_receiving(attach);
}
