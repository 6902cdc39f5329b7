//! Scheduled messages: by annotation and by `schedule-message`, until their time or their
//! cancellation (the behaviour of the Azure SDKs).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::value::{Array, Map, Value};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

const SCHEDULED: &str = "x-opt-scheduled-enqueue-time";

fn broker() -> TestBroker {
    TestBroker::with().queue("q", "").virtual_time().start()
}

fn due(text: &str, time: i64) -> Message {
    Message::data(text.to_owned()).with_annotation(SCHEDULED, Value::Timestamp(time))
}

/// Schedules messages and gives their numbers.
#[track_caller]
fn schedule(peer: &mut Peer, pair: &mut Requests, messages: &[Message]) -> Vec<i64> {
    let entries: Vec<Value> = messages
        .iter()
        .map(|one| Value::Map(Map::new().with("message-id", "m").with("message", one.encode())))
        .collect();
    let body = Map::new().with("messages", entries);
    let answer = peer.manage(pair, "com.microsoft:schedule-message", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let Value::Array(numbers) = answer.entry("sequence-numbers") else { panic!("{answer:?}") };
    let number = |value: &Value| match value {
        Value::Long(number) => *number,
        other => panic!("a number is a long, not {other:?}"),
    };
    numbers.items().iter().map(number).collect()
}

#[track_caller]
fn cancel(peer: &mut Peer, pair: &mut Requests, numbers: &[i64]) -> Answer {
    let numbers = Array::longs(numbers.iter().copied());
    let body = Map::new().with("sequence-numbers", numbers);
    peer.manage(pair, "com.microsoft:cancel-scheduled-message", body)
}

/// Text, number and state of what browsing shows.
#[track_caller]
fn browse(peer: &mut Peer, pair: &mut Requests) -> Vec<(String, i64, i32)> {
    let body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 100_i32);
    let answer = peer.manage(pair, "com.microsoft:peek-message", body);
    if answer.status == 204 {
        return Vec::new();
    }
    let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
    list.iter()
        .map(|entry| {
            let octets = entry.get("message").and_then(Value::as_binary).expect("a message");
            let message = Message::decode(octets);
            let Some(Value::Int(state)) = message.annotation("x-opt-message-state") else {
                panic!("{message:?}")
            };
            (message.text().to_owned(), message.sequence_number(), *state)
        })
        .collect()
}

/// Nobody receives a scheduled message before its time; then it comes under a new number, enqueued at
/// that time.
#[test]
fn a_scheduled_message_comes_at_its_time_under_a_new_number() {
    let broker = broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let numbers = schedule(&mut peer, &mut management, &[due("later", now + 60_000)]);
    let mut sender = peer.attach_sender("q");
    peer.send_accepted(&mut sender, &due("sent for later", now + 60_000).encode());
    peer.send_accepted(&mut sender, &Message::data("now").encode());

    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    assert_eq!(received.text(), "now");
    peer.complete(&received);
    assert!(peer.drain(&mut link, 5).is_empty());
    clock.advance(Duration::from_millis(59_999));
    assert!(peer.drain(&mut link, 5).is_empty());
    clock.advance(Duration::from_millis(1));
    let received = peer.drain(&mut link, 5);
    let texts: Vec<_> = received.iter().map(|one| one.text()).collect();
    assert_eq!(texts, ["later", "sent for later"], "in the order they were scheduled in");
    let message = received[0].message();
    assert!(numbers[0] < message.sequence_number(), "{numbers:?}");
    let enqueued = message.annotation("x-opt-enqueued-time");
    assert_eq!(enqueued, Some(&Value::Timestamp(now + 60_000)));
    assert_eq!(message.annotation(SCHEDULED), Some(&Value::Timestamp(now + 60_000)));
    broker.assert_nothing_above_info_was_logged();
}

/// Among equal times the order is that of scheduling, whatever the order of the times.
#[test]
fn scheduled_messages_come_in_the_order_of_their_times() {
    let broker = broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let messages = [("c", 3_000), ("a", 1_000), ("b1", 2_000), ("b2", 2_000)]
        .map(|(text, at)| due(text, now + at));
    schedule(&mut peer, &mut management, &messages);
    clock.advance(Duration::from_secs(3));
    assert_eq!(peer.drain_texts("q"), ["a", "b1", "b2", "c"]);
}

/// A time that is over means now.
#[test]
fn a_message_scheduled_for_the_past_comes_at_once() {
    let broker = broker();
    let now = broker.clock().freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let numbers = schedule(&mut peer, &mut management, &[due("1", now - 1), due("2", now)]);
    assert_eq!(numbers.len(), 2);
    assert_eq!(peer.drain_texts("q"), ["1", "2"]);
}

/// Browsing shows scheduled messages in the order of their numbers, with their state.
#[test]
fn scheduled_messages_are_browsed() {
    let broker = broker();
    let now = broker.clock().freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    peer.send_texts("q", &["1"]);
    let numbers = schedule(&mut peer, &mut management, &[due("2", now + 1_000)]);
    peer.send_texts("q", &["3"]);
    let found = browse(&mut peer, &mut management);
    let shown: Vec<_> = found.iter().map(|(text, _, state)| (text.as_str(), *state)).collect();
    assert_eq!(shown, [("1", 0), ("2", 2), ("3", 0)]);
    assert_eq!(found[1].1, numbers[0]);
}

/// Cancelling is all or none; a second time there is nothing to cancel.
#[test]
fn scheduled_messages_are_cancelled_by_number() {
    let broker = broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let messages = ["1", "2", "3"].map(|text| due(text, now + 1_000));
    let numbers = schedule(&mut peer, &mut management, &messages);
    let missing = cancel(&mut peer, &mut management, &[numbers[0], 4_711]);
    assert_eq!((missing.status, missing.condition()), (404, condition::MESSAGE_NOT_FOUND));
    assert_eq!(cancel(&mut peer, &mut management, &numbers[..2]).status, 200);
    let again = cancel(&mut peer, &mut management, &numbers[..1]);
    assert_eq!((again.status, again.condition()), (404, condition::MESSAGE_NOT_FOUND));
    clock.advance(Duration::from_secs(1));
    let too_late = cancel(&mut peer, &mut management, &numbers[2..]);
    assert_eq!((too_late.status, too_late.condition()), (404, condition::MESSAGE_NOT_FOUND));
    assert_eq!(peer.drain_texts("q"), ["3"]);
}

/// What is scheduled is on disk when it is answered.
#[test]
fn scheduled_messages_survive_a_kill() {
    let mut broker = TestBroker::with().queue("q", "").durable().virtual_time().start();
    let now = broker.clock().read().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let times = [("kept", 3_600_000), ("gone", 3_600_000), ("first", 3_000_000)];
    let messages = times.map(|(text, at)| due(text, now + at));
    let numbers = schedule(&mut peer, &mut management, &messages);
    assert_eq!(cancel(&mut peer, &mut management, &numbers[1..2]).status, 200);
    broker.kill();
    broker.restart();
    let mut clock = broker.clock();
    let mut peer = broker.peer();
    assert_eq!(peer.drain_texts("q"), [""; 0]);
    clock.advance(Duration::from_hours(2));
    assert_eq!(peer.drain_texts("q"), ["first", "kept"]);
}
