//! Deferred messages: set aside by `modified` with undeliverable-here, fetched by number (the behaviour
//! of the Azure SDKs).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Array, Map, Symbol, Value};
use peeklock_tests::link::tokens;
use peeklock_tests::message::Message;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

fn broker() -> TestBroker {
    TestBroker::with().queue("q", "max_delivery_count = 3").virtual_time().start()
}

fn deferred(changes: Option<Map>) -> DeliveryState {
    DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: Some(true),
        message_annotations: changes,
    }
}

/// Sends one message and defers it; gives its number.
#[track_caller]
fn defer(peer: &mut Peer, text: &str) -> i64 {
    peer.send_texts("q", &[text]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    assert_eq!(received.text(), text);
    let answer = peer.settle(&received, deferred(None));
    assert!(matches!(answer, DeliveryState::Modified { .. }), "{answer:?}");
    peer.detach(&link);
    received.message().sequence_number()
}

#[track_caller]
fn fetch(peer: &mut Peer, pair: &mut Requests, numbers: &[i64], mode: u32) -> Answer {
    let numbers = Array::longs(numbers.iter().copied());
    let body = Map::new()
        .with("sequence-numbers", numbers)
        .with("receiver-settle-mode", Value::Uint(mode));
    peer.manage(pair, "com.microsoft:receive-by-sequence-number", body)
}

/// The messages of an answer, each with the token beside it.
#[track_caller]
fn fetched(answer: &Answer) -> Vec<(Message, Option<[u8; 16]>)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
    list.iter()
        .map(|entry| {
            let octets = entry.get("message").and_then(Value::as_binary).expect("a message");
            (Message::decode(octets), entry.get("lock-token").and_then(Value::as_uuid))
        })
        .collect()
}

#[track_caller]
fn settle(peer: &mut Peer, pair: &mut Requests, token: [u8; 16], status: &str) -> Answer {
    let body = Map::new().with("disposition-status", status).with("lock-tokens", tokens(&[token]));
    peer.manage(pair, "com.microsoft:update-disposition", body)
}

/// A deferred message comes to nobody by itself; its number brings it, locked, with its state, and
/// only once.
#[test]
fn a_deferred_message_is_fetched_by_its_number() {
    let broker = broker();
    let mut peer = broker.peer();
    let number = defer(&mut peer, "1");
    let mut link = peer.attach_receiver("q");
    assert!(peer.drain(&mut link, 5).is_empty());

    let mut management = peer.open_management("q");
    let answer = fetch(&mut peer, &mut management, &[number], 1);
    let [(message, Some(token))] = &fetched(&answer)[..] else { panic!("{answer:?}") };
    assert_eq!((message.text(), message.sequence_number()), ("1", number));
    assert_eq!(message.lock_token(), *token, "Go looks only inside the message");
    assert!(0 < message.locked_until());
    assert_eq!(message.annotation("x-opt-message-state"), Some(&Value::Int(1)));
    assert_eq!(message.delivery_count(), 0, "deferring does not count");
    let again = fetch(&mut peer, &mut management, &[number], 1);
    assert_eq!((again.status, again.condition()), (404, condition::MESSAGE_NOT_FOUND));
    assert_eq!(settle(&mut peer, &mut management, *token, "completed").status, 200);
    let gone = settle(&mut peer, &mut management, *token, "completed");
    assert_eq!((gone.status, gone.condition()), (410, condition::MESSAGE_LOCK_LOST));
    let gone = fetch(&mut peer, &mut management, &[number], 1);
    assert_eq!((gone.status, gone.condition()), (404, condition::MESSAGE_NOT_FOUND));
}

/// Mode zero takes the message at once.
#[test]
fn a_deferred_message_is_received_and_deleted() {
    let broker = broker();
    let mut peer = broker.peer();
    let numbers = [defer(&mut peer, "1"), defer(&mut peer, "2")];
    let mut management = peer.open_management("q");
    let answer = fetch(&mut peer, &mut management, &numbers, 0);
    let found = fetched(&answer);
    let texts: Vec<_> = found.iter().map(|(message, _)| message.text()).collect();
    assert_eq!(texts, ["1", "2"]);
    assert!(found.iter().all(|(_, token)| token.is_none()));
    let gone = fetch(&mut peer, &mut management, &numbers[..1], 0);
    assert_eq!((gone.status, gone.condition()), (404, condition::MESSAGE_NOT_FOUND));
}

/// A number that cannot be had refuses the whole request.
#[test]
fn fetching_is_all_or_none() {
    let broker = broker();
    let mut peer = broker.peer();
    let number = defer(&mut peer, "1");
    peer.send_texts("q", &["active"]);
    let mut management = peer.open_management("q");
    for other in [number + 1, 4_711, 0] {
        let answer = fetch(&mut peer, &mut management, &[number, other], 1);
        assert_eq!((answer.status, answer.condition()), (404, condition::MESSAGE_NOT_FOUND));
    }
    assert_eq!(fetched(&fetch(&mut peer, &mut management, &[number], 1)).len(), 1);
}

/// What is given back stays deferred, with one more failed delivery; so does what is not settled in
/// time.
#[test]
fn a_fetched_message_that_is_given_back_stays_deferred() {
    let broker = broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let number = defer(&mut peer, "1");
    let mut management = peer.open_management("q");
    let token_of = |peer: &mut Peer, management: &mut Requests, count: u32| {
        let answer = fetch(peer, management, &[number], 1);
        let [(message, Some(token))] = &fetched(&answer)[..] else { panic!("{answer:?}") };
        assert_eq!(message.delivery_count(), count);
        *token
    };
    let token = token_of(&mut peer, &mut management, 0);
    assert_eq!(settle(&mut peer, &mut management, token, "abandoned").status, 200);
    let token = token_of(&mut peer, &mut management, 1);
    clock.advance(Duration::from_mins(1));
    let late = settle(&mut peer, &mut management, token, "completed");
    assert_eq!((late.status, late.condition()), (410, condition::MESSAGE_LOCK_LOST));
    let token = token_of(&mut peer, &mut management, 2);
    assert_eq!(settle(&mut peer, &mut management, token, "defered").status, 200);
    let token = token_of(&mut peer, &mut management, 2);
    assert_eq!(settle(&mut peer, &mut management, token, "suspended").status, 200);
    assert_eq!(peer.drain_texts("q/$DeadLetterQueue"), ["1"]);
}

/// The changes that come with deferring are there when the message is fetched; browsing shows its
/// state.
#[test]
fn a_deferred_message_keeps_its_changes_and_is_browsed() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let changes = Map::new().with(Symbol::from_static("color"), "red");
    peer.settle(&received, deferred(Some(changes)));
    let mut management = peer.open_management("q");
    let body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 9_i32);
    let answer = peer.manage(&mut management, "com.microsoft:peek-message", body);
    let states: Vec<_> = fetched(&answer)
        .iter()
        .map(|(message, _)| message.annotation("x-opt-message-state").cloned())
        .collect();
    assert_eq!(states, [Some(Value::Int(1)), Some(Value::Int(0))]);
    let number = received.message().sequence_number();
    let answer = fetch(&mut peer, &mut management, &[number], 0);
    assert_eq!(fetched(&answer)[0].0.text_property("color"), Some("red"));
}

/// A dead letter can be deferred, too.
#[test]
fn a_dead_letter_is_deferred() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    peer.settle(&received, DeliveryState::Rejected(None));
    let mut dead = peer.attach_receiver("q/$DeadLetterQueue");
    let received = peer.receive_one(&mut dead);
    peer.settle(&received, deferred(None));
    let mut management = peer.open_management("q/$DeadLetterQueue");
    let answer = fetch(&mut peer, &mut management, &[received.message().sequence_number()], 0);
    assert_eq!(fetched(&answer)[0].0.text(), "1");
}

/// A deferred message is on disk as such when that is answered.
#[test]
fn deferred_messages_survive_a_kill() {
    let mut broker = TestBroker::with().queue("q", "").durable().start();
    let mut peer = broker.peer();
    let number = defer(&mut peer, "1");
    broker.kill();
    broker.restart();
    let mut peer = broker.peer();
    assert_eq!(peer.drain_texts("q"), [""; 0]);
    let mut management = peer.open_management("q");
    let answer = fetch(&mut peer, &mut management, &[number], 1);
    assert_eq!(fetched(&answer)[0].0.text(), "1");
}
