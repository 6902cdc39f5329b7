//! Settling what was received (AMQP §3.4): what each outcome means to Service Bus, and the answer a
//! client that settles second waits for.

use std::time::Duration;

use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Disposition;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::{abandoned, disposition, plain_receiver};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};

const DEAD_LETTERS: &str = "q/$DeadLetterQueue";

fn modified(failed: Option<bool>, annotations: Option<Map>) -> DeliveryState {
    DeliveryState::Modified {
        delivery_failed: failed,
        undeliverable_here: None,
        message_annotations: annotations,
    }
}

/// What the SDKs send to dead-letter.
fn dead_letter(info: Map) -> DeliveryState {
    DeliveryState::Rejected(Some(ErrorInfo {
        condition: Symbol::from_static(condition::DEAD_LETTER),
        description: None,
        info: Some(info),
    }))
}

/// The first message of a queue, received and left to be settled.
#[track_caller]
fn with_one_received(peer: &mut Peer, address: &str) -> peeklock_tests::link::Received {
    let mut link = peer.attach_receiver(address);
    peer.receive_one(&mut link)
}

/// Java compares the type of the answer with what it asked for.
#[test]
fn complete_is_answered_with_accepted_and_removes_the_message() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let received = with_one_received(&mut peer, "q");
    assert_eq!(peer.settle(&received, DeliveryState::Accepted), DeliveryState::Accepted);
    assert_eq!(broker.peer().drain_texts("q"), Vec::<String>::new());
    broker.assert_nothing_above_info_was_logged();
}

/// Python says that the delivery failed, JS that it did not, the others nothing: abandoning counts
/// either way, and is answered with its own type.
#[test]
fn abandon_is_answered_with_modified_and_counts_whatever_it_says() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    for (count, failed) in [(0, Some(true)), (1, Some(false)), (2, None)] {
        let received = peer.receive_one(&mut link);
        assert_eq!(received.message().delivery_count(), count);
        let answer = peer.settle(&received, modified(failed, None));
        assert!(matches!(answer, DeliveryState::Modified { .. }), "{answer:?}");
    }
    assert_eq!(peer.receive_one(&mut link).message().delivery_count(), 3);
}

/// Go's receivers release what comes between calls, for hours: releasing must not count.
#[test]
fn release_is_answered_with_released_and_does_not_count() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 2").start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    for _ in 0..20 {
        let received = peer.receive_one(&mut link);
        assert_eq!(received.message().delivery_count(), 0);
        assert_eq!(peer.settle(&received, DeliveryState::Released), DeliveryState::Released);
    }
    // Python releases settled, also on links that settle second, and waits for nothing.
    let received = peer.receive_one(&mut link);
    peer.send(disposition(received.id, DeliveryState::Released, true));
    assert_eq!(peer.receive_one(&mut link).message().delivery_count(), 0);
}

/// A client that settles first abandons without an answer.
#[test]
fn abandoning_settled_is_not_answered() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_for_receiving(plain_receiver("q"));
    let received = peer.receive_one(&mut link);
    peer.send(disposition(received.id, abandoned(), true));
    assert_eq!(peer.receive_one(&mut link).message().delivery_count(), 1);
}

/// Messages that come back come first: they are delivered by sequence number.
#[test]
fn an_abandoned_message_comes_next() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3"]);
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 2);
    let first = peer.receive(&mut link);
    let second = peer.receive(&mut link);
    peer.abandon(&second);
    peer.abandon(&first);
    for text in ["1", "2", "3"] {
        assert_eq!(peer.receive_one(&mut link).text(), text);
    }
}

/// Dead-lettering is rejected in both directions, and the answer has no error: the SDKs take one
/// for failure. Reason, description and further properties become application properties, whether
/// their keys are symbols or strings.
#[test]
fn dead_letter_is_answered_with_rejected_and_no_error() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let sent = Message::data("1").with_property("kept", 5_i16).with_property("changed", "before");
    let mut link = peer.attach_sender("q");
    for _ in 0..2 {
        peer.send_accepted(&mut link, &sent.encode());
    }
    let symbols = Map::new()
        .with(Symbol::from_static("DeadLetterReason"), "the reason")
        .with(Symbol::from_static("DeadLetterErrorDescription"), "the description")
        .with(Symbol::from_static("changed"), "after")
        .with(Symbol::from_static("added"), 7_i64);
    let strings = Map::new()
        .with("DeadLetterReason", "the reason")
        .with("DeadLetterErrorDescription", "the description")
        .with("changed", "after")
        .with("added", 7_i64);
    let mut from = peer.attach_receiver("q");
    let mut to = peer.attach_receiver(DEAD_LETTERS);
    for info in [symbols, strings] {
        let received = peer.receive_one(&mut from);
        let number = received.message().sequence_number();
        assert_eq!(peer.settle(&received, dead_letter(info)), DeliveryState::Rejected(None));
        let dead = peer.receive_one(&mut to);
        let message = dead.message();
        assert_eq!(message.text(), "1");
        assert_eq!(message.text_property("DeadLetterReason"), Some("the reason"));
        let description = message.text_property("DeadLetterErrorDescription");
        assert_eq!(description, Some("the description"));
        assert_eq!(message.property("kept"), Some(&Value::Short(5)));
        assert_eq!(message.text_property("changed"), Some("after"));
        assert_eq!(message.property("added"), Some(&Value::Long(7)));
        assert_eq!(message.delivery_count(), 0, "dead-lettering is no failed delivery");
        assert_eq!(message.sequence_number(), number);
        assert_eq!(message.application_properties.len(), 5, "{message:?}");
        peer.complete(&dead);
    }
    assert!(peer.drain(&mut from, 10).is_empty());
}

/// .NET dead-letters without arguments by an error of null; other clients give one of their own.
#[test]
fn rejecting_for_any_other_reason_dead_letters_too() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut from = peer.attach_receiver("q");
    for error in [None, Some(ErrorInfo::new("amqp:internal-error", "it broke"))] {
        let received = peer.receive_one(&mut from);
        let answer = peer.settle(&received, DeliveryState::Rejected(error));
        assert_eq!(answer, DeliveryState::Rejected(None));
    }
    assert_eq!(peer.drain_texts(DEAD_LETTERS), ["1", "2"]);
}

/// The annotations of a modified outcome are application properties to Service Bus.
#[test]
fn abandoning_with_annotations_changes_application_properties() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let sent = Message::data("1").with_property("kept", 1.5_f32).with_property("changed", 1_i32);
    let mut link = peer.attach_sender("q");
    peer.send_accepted(&mut link, &sent.encode());
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let changes = Map::new()
        .with(Symbol::from_static("changed"), "now a string")
        .with(Symbol::from_static("added"), true);
    let answer = peer.settle(&received, modified(None, Some(changes)));
    assert!(matches!(answer, DeliveryState::Modified { .. }), "{answer:?}");
    let message = peer.receive_one(&mut link).message();
    assert_eq!(message.delivery_count(), 1);
    assert_eq!(message.property("kept"), Some(&Value::from(1.5_f32)));
    assert_eq!(message.text_property("changed"), Some("now a string"));
    assert_eq!(message.property("added"), Some(&Value::Bool(true)));
    for key in ["changed", "added"] {
        assert_eq!(message.annotation(key), None);
    }
    assert_eq!(message.text(), "1");
}

/// After as many failed deliveries as the queue allows, ten by default, the message goes to the
/// dead-letter queue with the reason that the SDKs document.
#[test]
fn the_tenth_failed_delivery_moves_the_message_to_the_dead_letter_queue() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["poison", "good"]);
    let mut link = peer.attach_receiver("q");
    for count in 0..10 {
        let received = peer.receive_one(&mut link);
        assert_eq!(received.text(), "poison");
        assert_eq!(received.message().delivery_count(), count);
        peer.abandon(&received);
    }
    assert_eq!(peer.receive_one(&mut link).text(), "good");
    let mut link = peer.attach_receiver(DEAD_LETTERS);
    let dead = peer.receive_one(&mut link).message();
    assert_eq!(dead.text(), "poison");
    assert_eq!(dead.text_property("DeadLetterReason"), Some("MaxDeliveryCountExceeded"));
    assert!(dead.text_property("DeadLetterErrorDescription").is_some());
    broker.assert_nothing_above_info_was_logged();
}

/// Locks that expire count like abandoning, and nobody has to be there for it.
#[test]
fn expired_locks_lead_to_the_dead_letter_queue_too() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 1").virtual_time().start();
    let mut clock = broker.clock();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut dead = peer.attach_receiver(DEAD_LETTERS);
    peer.credit(&dead, 1);
    let mut other = broker.peer();
    let mut link = other.attach_receiver("q");
    let received = other.receive_one(&mut link);
    clock.advance(Duration::from_mins(1));
    let message = peer.receive(&mut dead).message();
    assert_eq!(message.text_property("DeadLetterReason"), Some("MaxDeliveryCountExceeded"));
    peeklock_tests::link::rejection(
        other.settle(&received, abandoned()),
        condition::MESSAGE_LOCK_LOST,
    );
}

/// A dead-letter queue is the end: nothing leaves it by failing.
#[test]
fn a_dead_letter_queue_keeps_what_fails_again_and_again() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 1").start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let received = with_one_received(&mut peer, "q");
    peer.abandon(&received);
    let mut link = peer.attach_receiver(DEAD_LETTERS);
    let first = peer.receive_one(&mut link);
    let start = first.message().delivery_count();
    peer.abandon(&first);
    for more in 1..5 {
        let received = peer.receive_one(&mut link);
        assert_eq!(received.message().delivery_count(), start + more);
        peer.abandon(&received);
    }
    let last = peer.receive_one(&mut link);
    peer.complete(&last);
    assert!(peer.drain(&mut link, 1).is_empty());
}

/// AMQP §2.6.12: settled without an outcome; the receiver is done with the delivery, not with the
/// message, so it becomes available again and does not count.
#[test]
fn settling_without_an_outcome_releases_the_message() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_for_receiving(plain_receiver("q"));
    let received = peer.receive_one(&mut link);
    peer.send(Disposition { state: None, ..disposition(received.id, abandoned(), true) });
    let again = peer.receive_one(&mut link);
    assert_eq!(again.message().delivery_count(), 0);
}

/// A settlement is answered once; the lock is gone with it.
#[test]
fn settling_twice_is_answered_with_lock_lost_or_not_at_all() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    peer.complete(&received);
    peer.send(disposition(received.id, DeliveryState::Accepted, false));
    peer.send(disposition(received.id, abandoned(), false));
    let second = peer.receive_one(&mut link);
    assert_eq!(second.text(), "2");
    peer.complete(&second);
}
