//! Receiving from a queue: what a delivery carries (the annotations of Service Bus), locks, and
//! receiving with deletion.

use std::collections::BTreeSet;
use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Disposition, Role};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::value::Value;
use peeklock_tests::TestBroker;
use peeklock_tests::link::{
    deleting_receiver, disposition, plain_receiver, rejection, token_of_tag,
};
use peeklock_tests::message::Message;
use peeklock_tests::sas;

/// .NET reads the delivery-count of the header unasked, Go panics on an annotation of another type,
/// and .NET, JS and Python read the other annotations.
#[test]
fn a_first_delivery_carries_what_the_clients_read_in_the_types_they_read() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let before = i64::try_from(sas::now()).unwrap_or_default() * 1000;
    peer.send_texts("q", &["a"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    assert!(!received.settled);
    let message = received.message();
    assert_eq!(message.delivery_count(), 0);
    assert!(0 < message.sequence_number());
    let Some(Value::Timestamp(enqueued)) = message.annotation("x-opt-enqueued-time") else {
        panic!("{message:?}")
    };
    assert!(before <= *enqueued);
    // The lock is counted from the delivery, and lasts a minute by default.
    assert!(enqueued + 60_000 <= message.locked_until());
    assert!(message.locked_until() < enqueued + 120_000);
    for (key, value) in &message.annotations {
        assert!(matches!(key, Value::Symbol(_)), "{key:?}");
        assert_ne!(value, &Value::Null, "what does not apply is left out");
    }
    if let Some(number) = message.annotation("x-opt-enqueue-sequence-number") {
        assert!(matches!(number, Value::Long(_)), "{number:?}");
    }
    if let Some(state) = message.annotation("x-opt-message-state") {
        assert_eq!(state, &Value::Int(0));
    }
    for absent in ["x-opt-deadletter-source", "x-opt-partition-id"] {
        assert_eq!(message.annotation(absent), None);
    }
}

/// The tag is the lock token in the layout of a .NET Guid; Go and Rust prefer the annotation, whose
/// uuid is in network order.
#[test]
fn the_delivery_tag_is_the_lock_token_in_guid_layout() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let texts: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    peer.send_texts("q", &texts);
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 50);
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let received = peer.receive(&mut link);
        let token = received.message().lock_token();
        assert_eq!(token_of_tag(&received.tag), token);
        assert!(seen.insert(token), "azure-amqp finds deliveries by their tag");
        // Rust does not swap: a token that reads the same either way is safe from everybody.
        assert_eq!(received.tag[..8], token[..8]);
    }
}

/// Each lock has a token of its own, also on the same message.
#[test]
fn a_message_that_is_locked_again_has_a_new_token() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["a"]);
    let mut link = peer.attach_receiver("q");
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let received = peer.receive_one(&mut link);
        assert!(seen.insert(received.message().lock_token()));
        peer.settle(&received, DeliveryState::Released);
    }
}

/// snd-settle-mode settled means receive-and-delete: the message is gone with its transfer, and the
/// dispositions that JS, Java and .NET send all the same are ignored.
#[test]
fn receive_and_delete_takes_the_message_away_at_once() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3"]);
    let mut link = peer.attach_for_receiving(deleting_receiver("q"));
    peer.credit(&link, 2);
    for text in ["1", "2"] {
        let received = peer.receive(&mut link);
        assert!(received.settled);
        let message = received.message();
        assert_eq!(message.text(), text);
        assert_eq!(message.delivery_count(), 0);
        assert_eq!(message.annotation("x-opt-locked-until"), None);
        assert!(message.delivery_annotations.get("x-opt-lock-token").is_none());
        peer.send(disposition(received.id, DeliveryState::Accepted, true));
        peer.send(disposition(received.id, DeliveryState::Released, true));
        peer.send(disposition(received.id, DeliveryState::Accepted, false));
    }
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), ["3"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Sequence numbers rise in the order of sending, and deliveries come in that order.
#[test]
fn messages_come_in_the_order_they_were_sent() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for n in 0..500 {
        peer.transfer(&mut link, &Message::data(n.to_string()).encode());
    }
    let accepted = peer.expect_outcomes(SerialNumber(0), 500);
    assert!(accepted.iter().all(|state| *state == DeliveryState::Accepted));
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 500);
    let mut before = 0;
    for n in 0..500 {
        let message = peer.receive(&mut link).message();
        assert_eq!(message.text(), n.to_string());
        assert!(before < message.sequence_number());
        before = message.sequence_number();
    }
}

/// What one receiver has locked no other sees.
#[test]
fn competing_receivers_get_different_messages() {
    let broker = TestBroker::start();
    let mut one = broker.peer();
    let mut other = broker.peer();
    one.send_texts("q", &["1", "2", "3", "4"]);
    let mut one_link = one.attach_receiver("q");
    let mut other_link = other.attach_receiver("q");
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        assert!(seen.insert(one.receive_one(&mut one_link).text()));
        assert!(seen.insert(other.receive_one(&mut other_link).text()));
    }
    assert_eq!(seen.len(), 4);
    assert!(one.drain(&mut one_link, 10).is_empty());
    assert!(other.drain(&mut other_link, 10).is_empty());
}

/// Locks outlive the link: clients settle by token, so a detach frees nothing.
#[test]
fn a_detached_link_leaves_its_messages_locked() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["locked"]);
    let mut link = peer.attach_receiver("q");
    peer.receive_one(&mut link);
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
    let mut other = broker.peer();
    assert_eq!(other.drain_texts("q"), Vec::<String>::new());
}

/// AMQP §2.6.12, receiver settling first: qpid-jms and Proton settle by themselves and expect no
/// answer.
#[test]
fn a_client_that_settles_first_is_not_answered() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut link = peer.attach_for_receiving(plain_receiver("q"));
    let received = peer.receive_one(&mut link);
    assert!(!received.settled);
    peer.send(disposition(received.id, DeliveryState::Accepted, true));
    // The next thing that is said is the next delivery.
    let received = peer.receive_one(&mut link);
    assert_eq!(received.text(), "2");
    peer.send(disposition(received.id, DeliveryState::Accepted, true));
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// AMQP §2.7.6: a disposition is about a range, and may name more than there is. 2^32 deliveries are
/// not looked for one by one.
#[test]
fn a_disposition_over_every_id_settles_what_there_is() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4", "5"]);
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 3);
    let first = peer.receive(&mut link);
    for _ in 0..2 {
        peer.receive(&mut link);
    }
    let everything = Disposition {
        first: first.id.advanced_by(0x8000_0001),
        last: Some(first.id.advanced_by(0x7fff_ffff)),
        ..disposition(first.id, DeliveryState::Accepted, true)
    };
    for _ in 0..1000 {
        peer.send(everything.clone());
    }
    assert_eq!(peer.drain_texts("q"), ["4", "5"]);
    peer.close();
    broker.assert_nothing_above_info_was_logged();
}

/// Dispositions about what was never delivered, or was settled before, change nothing.
#[test]
fn dispositions_about_unknown_deliveries_are_ignored() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut link = peer.attach_for_receiving(plain_receiver("q"));
    let received = peer.receive_one(&mut link);
    for unknown in
        [received.id.advanced_by(1), received.id.advanced_by(1000), SerialNumber(u32::MAX)]
    {
        peer.send(disposition(unknown, DeliveryState::Accepted, true));
    }
    // About deliveries of the other direction, of which there are none.
    peer.send(Disposition {
        role: Role::Sender,
        ..disposition(SerialNumber(0), DeliveryState::Accepted, true)
    });
    peer.send(disposition(received.id, DeliveryState::Accepted, true));
    peer.send(disposition(received.id, DeliveryState::Released, true));
    assert_eq!(peer.receive_one(&mut link).text(), "2");
    peer.close();
}

/// .NET settles in ranges: each delivery of a range has its own lock, and the answers may come as
/// ranges too.
#[test]
fn a_range_completes_each_of_its_deliveries() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 4);
    let first = peer.receive(&mut link);
    peer.receive(&mut link);
    let third = peer.receive(&mut link);
    let fourth = peer.receive(&mut link);
    peer.send(Disposition {
        last: Some(third.id),
        ..disposition(first.id, DeliveryState::Accepted, false)
    });
    let mut settled = BTreeSet::new();
    while settled.len() < 3 {
        let answer: Disposition = peer.expect();
        assert_eq!((answer.role, answer.settled), (Role::Sender, true));
        assert_eq!(answer.state, Some(DeliveryState::Accepted));
        let last = answer.last.unwrap_or(answer.first);
        for n in answer.first.distance_from(first.id)..=last.distance_from(first.id) {
            assert!(settled.insert(n), "answered once");
        }
    }
    assert_eq!(settled, BTreeSet::from([0, 1, 2]));
    peer.complete(&fourth);
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// AMQP §3.4.1: received is no outcome, so nothing is settled by it.
#[test]
fn the_state_received_changes_nothing() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let state = DeliveryState::Received { section_number: 0, section_offset: 0 };
    peer.send(disposition(received.id, state, false));
    peer.complete(&received);
}

/// An outcome the broker does not know is refused like any settlement that cannot be, and is no
/// reason to end a connection.
#[test]
fn an_unknown_outcome_is_refused() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let unknown = peeklock_tests::raw::described(0x9999, Value::List(vec![1_i32.into()]));
    let raw = peeklock_protocol::value::RawValue::from(&unknown);
    let answer = peer.settle(&received, DeliveryState::Unknown(raw));
    rejection(answer, condition::NOT_IMPLEMENTED);
    peer.close();
}

/// A lock that is neither settled nor renewed ends: the message takes its place in the queue again,
/// with one more failed delivery, whether its receiver is still there or not.
#[test]
fn an_expired_lock_makes_the_message_available_in_its_place() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let mut gone = broker.peer();
    gone.send_texts("q", &["1", "2", "3"]);
    let mut link = gone.attach_receiver("q");
    assert_eq!(gone.receive_one(&mut link).text(), "1");
    gone.cut();

    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    let second = peer.receive_one(&mut link);
    assert_eq!(second.text(), "2");
    // Both locks expire, that of the second message under the eyes of its receiver.
    let mut other = broker.peer();
    let mut waiting = other.attach_receiver("q");
    assert_eq!(other.receive_one(&mut waiting).text(), "3");
    clock.advance(Duration::from_mins(1));
    for text in ["1", "2"] {
        let again = other.receive_one(&mut waiting);
        assert_eq!(again.text(), text);
        assert_eq!(again.message().delivery_count(), 1);
        other.complete(&again);
    }
    let error =
        rejection(peer.settle(&second, DeliveryState::Accepted), condition::MESSAGE_LOCK_LOST);
    assert!(error.description.is_some());
    broker.assert_nothing_above_info_was_logged();
}
