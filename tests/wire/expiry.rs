//! Time to live, of messages and of queues, and batch deletion.

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

/// Place of absolute-expiry-time in the properties.
const ABSOLUTE_EXPIRY: usize = 8;

fn mortal(text: &str, ttl_millis: u32) -> Message {
    let ttl = Value::Uint(ttl_millis);
    let header = Some(vec![Value::Null, Value::Null, ttl]);
    Message { header, ..Message::data(text.to_owned()) }
}

#[track_caller]
fn send(peer: &mut Peer, queue: &str, messages: &[Message]) {
    let mut link = peer.attach_sender(queue);
    for message in messages {
        peer.send_accepted(&mut link, &message.encode());
    }
    peer.detach(&link);
}

/// An expired message is gone, whether anybody looks or not; where the queue says so it is
/// dead-lettered with the reason clients look for.
#[test]
fn an_expired_message_is_removed_or_dead_lettered() {
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("kept", "dead_lettering_on_message_expiration = true")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    for queue in ["q", "kept"] {
        let messages = [mortal("short", 5_000), Message::data("long"), mortal("longer", 60_000)];
        send(&mut peer, queue, &messages);
    }
    clock.advance(Duration::from_secs(5));
    assert_eq!(peer.drain_texts("q"), ["long", "longer"]);
    assert_eq!(peer.drain_texts("q/$DeadLetterQueue"), [""; 0]);
    assert_eq!(peer.drain_texts("kept"), ["long", "longer"]);
    let mut dead = peer.attach_receiver("kept/$DeadLetterQueue");
    let received = peer.receive_one(&mut dead);
    assert_eq!(received.text(), "short");
    let reason = received.message().text_property("DeadLetterReason").map(str::to_owned);
    assert_eq!(reason.as_deref(), Some("TTLExpiredException"));
    // A dead letter does not expire again.
    peer.abandon(&received);
    clock.advance(Duration::from_hours(1));
    assert_eq!(peer.receive_one(&mut dead).text(), "short");
    broker.assert_nothing_above_info_was_logged();
}

/// The smaller of the message's and the queue's time to live counts.
#[test]
fn the_queue_bounds_the_time_to_live() {
    let broker = TestBroker::with()
        .queue("q", "default_message_time_to_live = \"10s\"")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let absolute =
        Message::data("absolute").with_field(ABSOLUTE_EXPIRY, Value::Timestamp(now + 3_000));
    let messages =
        [mortal("cut", 60_000), mortal("short", 5_000), Message::data("default"), absolute];
    send(&mut peer, "q", &messages);
    let mut management = peer.open_management("q");
    let mut left = || {
        let body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 9_i32);
        let answer = peer.manage(&mut management, "com.microsoft:peek-message", body);
        if answer.status == 204 {
            return Vec::new();
        }
        let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
        let octets = |entry: &Value| entry.get("message").and_then(Value::as_binary).cloned();
        list.iter()
            .map(|entry| Message::decode(&octets(entry).expect("a message")).text().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(left(), ["cut", "short", "default", "absolute"]);
    clock.advance(Duration::from_secs(3));
    assert_eq!(left(), ["cut", "short", "default"]);
    clock.advance(Duration::from_secs(2));
    assert_eq!(left(), ["cut", "default"]);
    clock.advance(Duration::from_secs(5));
    assert_eq!(left(), [""; 0]);
}

/// A message somebody holds does not expire in his hands; it does when he gives it back.
#[test]
fn a_locked_message_does_not_expire() {
    let broker = TestBroker::with()
        .queue("q", "dead_lettering_on_message_expiration = true")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    send(&mut peer, "q", &[mortal("completed", 1_000), mortal("abandoned", 1_000)]);
    let mut link = peer.attach_receiver("q");
    let first = peer.receive_one(&mut link);
    let second = peer.receive_one(&mut link);
    clock.advance(Duration::from_secs(2));
    peer.complete(&first);
    peer.abandon(&second);
    assert_eq!(peer.drain_texts("q"), [""; 0]);
    assert_eq!(peer.drain_texts("q/$DeadLetterQueue"), ["abandoned"]);
}

/// The time of a scheduled message begins when it becomes active.
#[test]
fn a_scheduled_message_lives_from_its_time_on() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let later = mortal("later", 5_000)
        .with_annotation("x-opt-scheduled-enqueue-time", Value::Timestamp(now + 60_000));
    send(&mut peer, "q", &[later]);
    clock.advance(Duration::from_secs(64));
    assert_eq!(peer.drain_texts("q"), ["later"]);
}

#[track_caller]
fn delete(peer: &mut Peer, pair: &mut Requests, count: i32, before: i64) -> Answer {
    let body =
        Map::new().with("message-count", count).with("enqueued-time-utc", Value::Timestamp(before));
    peer.manage(pair, "com.microsoft:batch-delete-messages", body)
}

/// The oldest go first, as many as asked for, those enqueued before the time and held by nobody.
#[test]
fn a_batch_of_the_oldest_messages_is_deleted() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    clock.advance(Duration::from_secs(1));
    peer.send_texts("q", &["5"]);
    let mut link = peer.attach_receiver("q");
    let held = peer.receive_one(&mut link);
    assert_eq!(held.text(), "1");
    let mut management = peer.open_management("q");
    let answer = delete(&mut peer, &mut management, 2, start + 1_000);
    assert_eq!((answer.status, answer.entry("message-count")), (200, &Value::Int(2)));
    let answer = delete(&mut peer, &mut management, 100, start + 1_000);
    assert_eq!((answer.status, answer.entry("message-count")), (200, &Value::Int(1)));
    assert_eq!(delete(&mut peer, &mut management, 100, start + 1_000).status, 204);
    let senseless = delete(&mut peer, &mut management, 0, start);
    assert_eq!((senseless.status, senseless.condition()), (400, condition::ARGUMENT_ERROR));
    peer.complete(&held);
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), ["5"]);
}
