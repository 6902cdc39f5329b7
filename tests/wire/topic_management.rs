//! Requests to `{topic}/$management` and `{topic}/Subscriptions/{name}/$management`: a subscription
//! answers like a queue, a topic about what is not due yet (the behaviour of the Azure SDKs).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Array, Map, Symbol, Value};
use peeklock_tests::link::{receiver, token_of_tag, tokens};
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::topics::of;
use peeklock_tests::{Peer, TestBroker};

const SCHEDULED: &str = "x-opt-scheduled-enqueue-time";

fn steerable_broker() -> TestBroker {
    TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .subscription("b", "")
        .filter("blue", "correlation_filter = { label = \"blue\" }")
        .subscription("s", "requires_session = true")
        .filter("none", "sql_filter = \"sys.SessionId IS NOT NULL\"")
        .virtual_time()
        .start()
}

fn due(text: &str, time: i64) -> Message {
    Message::data(text.to_owned()).with_annotation(SCHEDULED, Value::Timestamp(time))
}

fn schedule(peer: &mut Peer, pair: &mut Requests, messages: &[Message]) -> Answer {
    let entries: Vec<Value> = messages
        .iter()
        .map(|one| Value::Map(Map::new().with("message-id", "m").with("message", one.encode())))
        .collect();
    let body = Map::new().with("messages", entries);
    peer.manage(pair, "com.microsoft:schedule-message", body)
}

#[track_caller]
fn numbers(answer: &Answer) -> Vec<i64> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let Value::Array(numbers) = answer.entry("sequence-numbers") else { panic!("{answer:?}") };
    let number = |value: &Value| match value {
        Value::Long(number) => *number,
        other => panic!("a number is a long, not {other:?}"),
    };
    numbers.items().iter().map(number).collect()
}

fn cancel(peer: &mut Peer, pair: &mut Requests, numbers: &[i64]) -> Answer {
    let numbers = Array::longs(numbers.iter().copied());
    let body = Map::new().with("sequence-numbers", numbers);
    peer.manage(pair, "com.microsoft:cancel-scheduled-message", body)
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

/// The management node of a subscription has as many addresses as the subscription.
#[test]
fn a_subscription_is_browsed_by_any_address() {
    let broker = steerable_broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1", "2"]);
    for address in [
        "t/Subscriptions/a",
        "T/subscriptions/A",
        "/t/Subscriptions/a",
        "amqps://h/t/Subscriptions/a",
    ] {
        let mut management = peer.open_management(address);
        let found = peer.browse(&mut management);
        assert_eq!(texts(&found), ["1", "2"]);
        let numbers: Vec<_> = found.iter().map(Message::sequence_number).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    peer.settle(&received, peeklock_protocol::delivery_state::DeliveryState::Rejected(None));
    let mut dead = peer.open_management("t/Subscriptions/a/$DeadLetterQueue");
    assert_eq!(texts(&peer.browse(&mut dead)), ["1"]);
    let mut management = peer.open_management("t/SUBSCRIPTIONS/a");
    assert_eq!(texts(&peer.browse(&mut management)), ["2"]);
}

/// Locks of a subscription are renewed and settled by way of its own node, and nobody else's.
#[test]
fn locks_of_a_subscription_are_renewed_and_settled() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    peer.send_texts("t", &["1"]);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    let token = token_of_tag(&received.tag);
    assert_eq!(received.message().locked_until(), start + 60_000);
    clock.advance(Duration::from_secs(50));
    let mut management = peer.open_management(&of("a"));
    let mut others = peer.open_management(&of("b"));
    let body = Map::new().with("lock-tokens", tokens(&[token]));
    let answer = peer.manage(&mut others, "com.microsoft:renew-lock", body.clone());
    assert_eq!((answer.status, answer.condition()), (410, condition::MESSAGE_LOCK_LOST));
    let answer = peer.manage(&mut management, "com.microsoft:renew-lock", body);
    assert_eq!(answer.status, 200);
    let Value::Array(ends) = answer.entry("expirations") else { panic!("{answer:?}") };
    assert_eq!(ends.items(), [Value::Timestamp(start + 110_000)]);
    let body = Map::new()
        .with("lock-tokens", tokens(&[token]))
        .with("disposition-status", "suspended")
        .with("deadletter-reason", "why")
        .with("deadletter-description", "because");
    let answer = peer.manage(&mut management, "com.microsoft:update-disposition", body);
    assert_eq!(answer.status, 200);
    let [dead] = &peer.drain_messages("t/Subscriptions/a/$DeadLetterQueue")[..] else {
        panic!("one dead letter")
    };
    assert_eq!(dead.text_property("DeadLetterReason"), Some("why"));
}

/// What a subscription deferred it gives by number, and its numbers mean nothing elsewhere.
#[test]
fn a_subscription_defers() {
    let broker = steerable_broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1", "2"]);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    let number = received.message().sequence_number();
    let defer = peeklock_protocol::delivery_state::DeliveryState::Modified {
        delivery_failed: Some(false),
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    peer.settle(&received, defer);
    peer.detach(&link);
    assert_eq!(peer.drain_texts(&of("a")), ["2"]);
    let body = Map::new()
        .with("sequence-numbers", Array::longs([number]))
        .with("receiver-settle-mode", 0_u32);
    let operation = "com.microsoft:receive-by-sequence-number";
    let mut others = peer.open_management(&of("b"));
    let answer = peer.manage(&mut others, operation, body.clone());
    assert_eq!((answer.status, answer.condition()), (404, condition::MESSAGE_NOT_FOUND));
    let mut management = peer.open_management(&of("a"));
    let answer = peer.manage(&mut management, operation, body);
    assert_eq!(answer.status, 200);
    let Value::List(found) = answer.entry("messages") else { panic!("{answer:?}") };
    let octets = found.first().and_then(|one| one.get("message")).and_then(Value::as_binary);
    assert_eq!(Message::decode(octets.expect("a message")).text(), "1");
}

/// The oldest copies of one subscription go; the other keeps its own.
#[test]
fn a_subscription_deletes_batches() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    let blue = |text: &str| Message::data(text.to_owned()).with_field(3, "blue".into());
    peer.send_messages("t", &["1", "2", "3"].map(blue));
    let mut management = peer.open_management(&of("a"));
    let body = Map::new()
        .with("message-count", 2_i32)
        .with("enqueued-time-utc", Value::Timestamp(start + 1));
    let answer = peer.manage(&mut management, "com.microsoft:batch-delete-messages", body);
    assert_eq!((answer.status, answer.entry("message-count")), (200, &Value::Int(2)));
    assert_eq!(peer.drain_texts(&of("a")), ["3"]);
    assert_eq!(peer.drain_texts(&of("b")), ["1", "2", "3"]);
}

/// A message scheduled at a topic waits there: browsing the topic shows it, browsing a subscription
/// does not. When it is due the rules of that time decide.
#[test]
fn scheduled_messages_wait_in_the_topic() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut topic = peer.open_management("t");
    let mut a = peer.open_management(&of("a"));
    let mut b = peer.open_management(&of("b"));
    let blue = due("asked for", now + 60_000).with_field(3, "blue".into());
    let scheduled = numbers(&schedule(&mut peer, &mut topic, &[blue]));
    peer.send_messages("t", &[due("sent", now + 60_000)]);
    let found = peer.browse(&mut topic);
    assert_eq!(texts(&found), ["asked for", "sent"]);
    assert_eq!(found[0].sequence_number(), scheduled[0]);
    assert!(found.iter().all(|one| one.annotation("x-opt-message-state") == Some(&Value::Int(2))));
    assert_eq!(peer.browse(&mut a), []);
    peer.add_rule(&mut b, "sent", peeklock_tests::topics::sql("sys.Label IS NULL"));
    assert_eq!(peer.remove_rule(&mut b, "blue").status, 200);
    clock.advance(Duration::from_mins(1));
    assert_eq!(peer.browse(&mut topic), []);
    assert_eq!(peer.drain_texts(&of("a")), ["asked for", "sent"]);
    let [copy] = &peer.drain_messages(&of("b"))[..] else { panic!("one copy") };
    assert_eq!(copy.text(), "sent");
    assert_eq!(copy.annotation("x-opt-enqueued-time"), Some(&Value::Timestamp(now + 60_000)));
    broker.assert_nothing_above_info_was_logged();
}

/// What is cancelled at the topic comes to nobody; a subscription neither schedules nor cancels.
#[test]
fn scheduled_messages_are_cancelled_at_the_topic() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut topic = peer.open_management("t");
    let mut a = peer.open_management(&of("a"));
    let messages = ["1", "2", "3"].map(|text| due(text, now + 1_000));
    let scheduled = numbers(&schedule(&mut peer, &mut topic, &messages));
    let refused = cancel(&mut peer, &mut a, &scheduled[..1]);
    assert_eq!((refused.status, refused.condition()), (400, condition::NOT_ALLOWED));
    assert_eq!(cancel(&mut peer, &mut topic, &scheduled[..2]).status, 200);
    let again = cancel(&mut peer, &mut topic, &scheduled[..1]);
    assert_eq!((again.status, again.condition()), (404, condition::MESSAGE_NOT_FOUND));
    let refused = schedule(&mut peer, &mut a, &[due("4", now + 1_000)]);
    assert_eq!((refused.status, refused.condition()), (400, condition::NOT_ALLOWED));
    clock.advance(Duration::from_secs(1));
    assert_eq!(peer.drain_texts(&of("a")), ["3"]);
    let too_late = cancel(&mut peer, &mut topic, &scheduled[2..]);
    assert_eq!((too_late.status, too_late.condition()), (404, condition::MESSAGE_NOT_FOUND));
}

/// Sessions of a subscription: their state, their lock, their list and a look into one of them.
#[test]
fn sessions_of_a_subscription_are_managed() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    let message = |session: &str, text: &str| Message::data(text.to_owned()).with_session(session);
    peer.send_messages("t", &[message("x", "x1"), message("y", "y1"), message("x", "x2")]);
    let filter = Map::new().with(Symbol::from_static("com.microsoft:session-filter"), "x");
    let source = Source::new(of("s").as_str()).with_filter(filter);
    let attach = Attach { source: Some(source.into()), ..receiver(&of("s")) };
    let mut link = peer.attach_for_receiving(attach);
    assert_eq!(peer.receive_one(&mut link).text(), "x1");
    clock.advance(Duration::from_secs(30));
    let mut management = peer.open_management(&of("s"));
    let mut ask = |operation: &str, body: Map| {
        peer.manage(&mut management, &format!("com.microsoft:{operation}"), body)
    };
    let session = || Map::new().with("session-id", "x");
    let state = Value::from(bytes::Bytes::from_static(b"half way"));
    assert_eq!(
        ask("set-session-state", session().with("session-state", state.clone())).status,
        200
    );
    assert_eq!(ask("get-session-state", session()).entry("session-state"), &state);
    let renewed = ask("renew-session-lock", session());
    assert_eq!(renewed.entry("expiration"), &Value::Timestamp(start + 90_000));
    let all = Map::new()
        .with("last-updated-time", Value::Timestamp(253_402_300_800_000))
        .with("skip", 0_i32)
        .with("top", 10_i32);
    let answer = ask("get-message-sessions", all);
    let ids = answer.entry("sessions-ids").items().iter().filter_map(Value::as_str);
    assert_eq!(ids.collect::<Vec<_>>(), ["x", "y"]);
    let peek = session().with("from-sequence-number", 0_i64).with("message-count", 10_i32);
    let answer = ask("peek-message", peek);
    let Value::List(found) = answer.entry("messages") else { panic!("{answer:?}") };
    assert_eq!(found.len(), 2);
}

/// What only queues and subscriptions have a topic does not give.
#[test]
fn a_topic_has_no_messages_to_manage() {
    let broker = steerable_broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1"]);
    let mut topic = peer.open_management("t");
    let by_number =
        Map::new().with("sequence-numbers", Array::longs([1])).with("receiver-settle-mode", 0_u32);
    let answer = peer.manage(&mut topic, "com.microsoft:receive-by-sequence-number", by_number);
    assert_eq!((answer.status, answer.condition()), (404, condition::MESSAGE_NOT_FOUND));
    let body = Map::new().with("lock-tokens", tokens(&[[7; 16]]));
    let answer = peer.manage(&mut topic, "com.microsoft:renew-lock", body);
    assert_eq!((answer.status, answer.condition()), (410, condition::MESSAGE_LOCK_LOST));
    let delete = Map::new()
        .with("message-count", 9_i32)
        .with("enqueued-time-utc", Value::Timestamp(4_102_444_800_000));
    let answer = peer.manage(&mut topic, "com.microsoft:batch-delete-messages", delete);
    assert_eq!(answer.status, 204);
    assert_eq!(peer.drain_texts(&of("a")), ["1"]);
}
