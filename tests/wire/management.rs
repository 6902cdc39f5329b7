//! Requests to `{queue}/$management`: the envelope, renewing locks and browsing (the behaviour of
//! the Azure SDKs).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{ElementType, Map, Symbol, Value};
use peeklock_tests::link::{receiver, rejection, tokens};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

const PEEK: &str = "com.microsoft:peek-message";
const RENEW: &str = "com.microsoft:renew-lock";

fn peek(peer: &mut Peer, pair: &mut Requests, from: i64, count: i32) -> Answer {
    let body = Map::new().with("from-sequence-number", from).with("message-count", count);
    peer.manage(pair, PEEK, body)
}

/// The messages of an answer: a list of maps, and in each the whole encoded message as a binary.
#[track_caller]
fn messages(answer: &Answer) -> Vec<Message> {
    assert_eq!(answer.status, 200);
    let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
    list.iter()
        .map(|entry| match entry.get("message") {
            Some(Value::Binary(octets)) => Message::decode(octets),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

/// .NET turns 501 with this condition into `NotSupportedException`. The harness checks the types of
/// status, description and condition in every answer.
#[test]
fn an_unknown_operation_is_answered_501_not_implemented() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    for operation in ["com.microsoft:no-such-operation", "", "peek-message"] {
        let answer = peer.manage(&mut management, operation, Map::new());
        assert_eq!(answer.status, 501, "{operation:?}");
        assert_eq!(answer.condition(), condition::NOT_IMPLEMENTED);
    }
    broker.assert_nothing_above_info_was_logged();
}

/// .NET and Python say the time-out as uint, Java as long, Go as ulong and without the prefix, JS not
/// at all; ids come in each type.
#[test]
fn the_envelope_of_every_sdk_is_understood() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut management = peer.open_management("q");
    let timeouts = [
        ("com.microsoft:server-timeout", Value::Uint(60_000)),
        ("com.microsoft:server-timeout", Value::Long(60_000)),
        ("com.microsoft:server-timeout", Value::Ulong(60_000)),
        ("server-timeout", Value::Ulong(60_000)),
        ("type", Value::from("entity-mgmt")),
    ];
    let ids = [Value::from("text"), Value::Ulong(9), Value::Uuid([9; 16])];
    let counts = [Value::Int(1), Value::Long(1), Value::Uint(1), Value::Ulong(1), Value::Ubyte(1)];
    for ((key, timeout), count) in timeouts.into_iter().zip(counts) {
        for id in &ids {
            let body =
                Map::new().with("from-sequence-number", 0_i32).with("message-count", count.clone());
            let request = Message::value(body)
                .with_id(id.clone())
                .with_property("operation", PEEK)
                .with_property("associated-link-name", "a link that is not there")
                .with_property("com.microsoft:tracking-id", "tracked")
                .with_property(key, timeout.clone());
            let answer = peer.ask(&mut management, &request);
            assert_eq!(answer.correlation_id(), id);
            assert_eq!(answer.property("statusCode"), Some(&Value::Int(200)), "{answer:?}");
            peer.transfer_settled(&mut management.requests, &request.encode());
            assert_eq!(peer.read_answer(&mut management).correlation_id(), id);
        }
    }
}

/// A request that cannot be understood is answered as the client's mistake, and the next one is
/// served.
#[test]
fn a_request_that_makes_no_sense_is_answered_400() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let senseless = [
        (PEEK, Map::new().with("from-sequence-number", "one").with("message-count", 1_i32)),
        (PEEK, Map::new().with("from-sequence-number", 1_i64).with("message-count", -1_i32)),
        (RENEW, Map::new()),
        (RENEW, Map::new().with("lock-tokens", "a token")),
        (RENEW, Map::new().with("lock-tokens", Value::List(vec![Value::Int(1)]))),
    ];
    for (operation, body) in senseless {
        let answer = peer.manage(&mut management, operation, body.clone());
        assert_eq!(answer.status, 400, "{operation} {body:?}");
        assert!(
            answer.condition().starts_with("com.microsoft:argument-"),
            "{}",
            answer.condition()
        );
    }
    let id = peer.transfer(&mut management.requests, b"no message");
    match peer.expect_outcome(id) {
        DeliveryState::Rejected(Some(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peek(&mut peer, &mut management, 0, 1).status, 204);
    broker.assert_nothing_above_info_was_logged();
}

/// 204 is "nothing there"; with any other status JS reads the list without looking.
#[test]
fn browsing_an_empty_queue_is_answered_204() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    assert_eq!(peek(&mut peer, &mut management, 0, 10).status, 204);
    peer.send_texts("q", &["1"]);
    let first = messages(&peek(&mut peer, &mut management, 0, 10))[0].sequence_number();
    assert_eq!(peek(&mut peer, &mut management, first + 1, 10).status, 204);
}

/// Browsing shows what receivers have locked too, in order, from a number on and no more than asked
/// for; it takes nothing and locks nothing.
#[test]
fn browsing_shows_messages_in_order_without_touching_them() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let mut link = peer.attach_receiver("q");
    let locked = peer.receive_one(&mut link);
    let mut management = peer.open_management("q");

    let all = messages(&peek(&mut peer, &mut management, 0, 100));
    assert_eq!(texts(&all), ["1", "2", "3", "4"]);
    for message in &all {
        assert_eq!(message.delivery_count(), 0);
        assert!(matches!(message.annotation("x-opt-enqueued-time"), Some(Value::Timestamp(_))));
        assert_eq!(message.annotation("x-opt-locked-until"), None);
        assert!(message.delivery_annotations.is_empty(), "{message:?}");
        assert!(matches!(message.annotation("x-opt-message-state"), None | Some(Value::Int(0))));
    }
    let third = all[2].sequence_number();
    assert_eq!(texts(&messages(&peek(&mut peer, &mut management, third, 100))), ["3", "4"]);
    assert_eq!(texts(&messages(&peek(&mut peer, &mut management, third, 1))), ["3"]);
    assert_eq!(texts(&messages(&peek(&mut peer, &mut management, i64::MIN, 1))), ["1"]);
    assert_eq!(peek(&mut peer, &mut management, i64::MAX, 1).status, 204);

    peer.complete(&locked);
    assert_eq!(peer.drain_texts("q"), ["2", "3", "4"]);
}

/// The dead-letter queue is browsed by its own address, and the queue does not show it.
#[test]
fn dead_letters_are_browsed_at_their_own_address() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["dead", "alive"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    peer.settle(&received, DeliveryState::Rejected(None));
    let mut queue = peer.open_management("q");
    let mut dead = peer.open_management("q/$DeadLetterQueue");
    assert_eq!(texts(&messages(&peek(&mut peer, &mut queue, 0, 10))), ["alive"]);
    assert_eq!(texts(&messages(&peek(&mut peer, &mut dead, 0, 10))), ["dead"]);
}

/// Large messages are cut by count: one answer never grows past what a link takes.
#[test]
fn browsing_returns_fewer_messages_when_they_are_large() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for _ in 0..20 {
        peer.send_accepted(&mut link, &Message::data(vec![0; 500_000]).encode());
    }
    let mut management = peer.open_management("q");
    let mut seen = 0;
    let mut from = 0;
    while seen < 20 {
        let some = messages(&peek(&mut peer, &mut management, from, 20));
        assert!(!some.is_empty());
        seen += some.len();
        from = some[some.len() - 1].sequence_number() + 1;
    }
    assert_eq!(seen, 20);
}

/// .NET casts the answer to `DateTime[]` and Go asserts `[]time.Time`: an array of timestamps, in the
/// order of the tokens.
#[test]
fn renewing_is_answered_with_an_array_of_timestamps() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut link = peer.attach_receiver("q");
    let one = peer.receive_one(&mut link).message();
    let two = peer.receive_one(&mut link).message();
    let mut management = peer.open_management("q");
    let body = Map::new().with("lock-tokens", tokens(&[two.lock_token(), one.lock_token()]));
    let answer = peer.manage(&mut management, RENEW, body);
    assert_eq!(answer.status, 200);
    let Value::Array(expirations) = answer.entry("expirations") else { panic!("{answer:?}") };
    assert_eq!(expirations.element_type(), ElementType::Timestamp);
    assert_eq!(expirations.items().len(), 2);
    for (renewed, before) in expirations.items().iter().zip([two, one]) {
        assert!(renewed.as_timestamp() >= Some(before.locked_until()), "{answer:?}");
    }
}

/// Any token that is unknown or expired fails the request as a whole.
#[test]
fn renewing_a_lost_lock_is_answered_410() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let token = received.message().lock_token();
    let mut management = peer.open_management("q");
    let with = |list: &[[u8; 16]]| Map::new().with("lock-tokens", tokens(list));
    for lost in [&[[7; 16]][..], &[token, [7; 16]]] {
        let answer = peer.manage(&mut management, RENEW, with(lost));
        assert_eq!((answer.status, answer.condition()), (410, condition::MESSAGE_LOCK_LOST));
    }
    assert_eq!(peer.manage(&mut management, RENEW, with(&[token])).status, 200);
    peer.complete(&received);
    assert_eq!(peer.manage(&mut management, RENEW, with(&[token])).status, 410);
}

/// A renewed lock holds for a full lock duration from the renewal, one that was not renewed ends at
/// its time, and settling after that is answered with the condition the SDKs know.
#[test]
fn a_renewed_lock_outlives_the_one_that_was_not_renewed() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    peer.send_texts("q", &["renewed", "lost"]);
    let mut link = peer.attach_receiver("q");
    let renewed = peer.receive_one(&mut link);
    let lost = peer.receive_one(&mut link);
    let mut management = peer.open_management("q");
    let half = Duration::from_secs(30);
    clock.advance(half);
    let token = renewed.message().lock_token();
    let body = Map::new().with("lock-tokens", tokens(&[token]));
    let answer = peer.manage(&mut management, RENEW, body);
    let until = answer.entry("expirations").items()[0].as_timestamp().unwrap_or_default();
    assert_eq!(until, renewed.message().locked_until() + 30_000, "{answer:?}");
    clock.advance(half);

    let mut other = broker.peer();
    let mut waiting = other.attach_receiver("q");
    let again = other.receive_one(&mut waiting);
    assert_eq!(again.text(), "lost");
    peer.complete(&renewed);
    rejection(peer.settle(&lost, DeliveryState::Accepted), condition::MESSAGE_LOCK_LOST);
    other.complete(&again);
}

/// Renewing and browsing need the right to listen.
#[test]
fn management_without_the_right_to_listen_is_refused() {
    let broker = TestBroker::with().queue("q", "").rule("sends", "k", "[\"Send\"]").start();
    let mut peer = broker.connect().plain("sends", "k").open().begin();
    peer.attach_sender("q");
    let mut management = peer.open_management("q");
    for (operation, body) in [
        (PEEK, Map::new().with("from-sequence-number", 0_i64).with("message-count", 1_i32)),
        (RENEW, Map::new().with("lock-tokens", tokens(&[[1; 16]]))),
    ] {
        let answer = peer.manage(&mut management, operation, body);
        assert_eq!(answer.status, 401, "{operation}");
        assert_eq!(answer.condition(), condition::UNAUTHORIZED_ACCESS);
    }
}

/// The nodes of two queues on one session answer for themselves.
#[test]
fn management_nodes_of_two_queues_do_not_mix() {
    let broker = TestBroker::with().queue("q", "").queue("other", "").start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["of q"]);
    peer.send_texts("other", &["of other"]);
    let mut q = peer.open_management("q");
    let mut other = peer.open_management("other");
    assert_eq!(texts(&messages(&peek(&mut peer, &mut other, 0, 1))), ["of other"]);
    assert_eq!(texts(&messages(&peek(&mut peer, &mut q, 0, 1))), ["of q"]);
    peer.expect_refusal(receiver("missing/$management"), condition::NOT_FOUND);
}

/// Keys of a body are strings, but symbols are read too.
#[test]
fn the_keys_of_a_body_may_be_symbols() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut management = peer.open_management("q");
    let body = Map::new()
        .with(Symbol::from_static("from-sequence-number"), 0_i64)
        .with(Symbol::from_static("message-count"), 1_i32);
    assert_eq!(texts(&messages(&peer.manage(&mut management, PEEK, body))), ["1"]);
}
