//! Duplicate detection: which second message is dropped, and for how long (the behaviour of the Azure
//! SDKs, which give every message an id).

use std::time::Duration;

use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::Value;
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};

fn identified(id: impl Into<Value>, text: &str) -> Message {
    Message::data(text.to_owned()).with_id(id)
}

#[track_caller]
fn send(peer: &mut Peer, queue: &str, messages: &[Message]) {
    let mut link = peer.attach_sender(queue);
    for message in messages {
        peer.send_accepted(&mut link, &message.encode());
    }
    peer.detach(&link);
}

const DUPLICATES: &str = "duplicate_detection_history_time_window = \"20s\"";

/// A second message with an id is accepted and dropped, also after the first was completed, until the
/// window is over; the type of an id does not matter, and one without is never a duplicate.
#[test]
fn duplicates_are_dropped_within_the_window() {
    let broker = TestBroker::with().queue("q", DUPLICATES).virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let nameless = Message::data("nameless");
    send(&mut peer, "q", &[identified("a", "1"), identified("a", "2"), identified("A", "3")]);
    send(&mut peer, "q", &[identified(7_u64, "4"), identified("7", "5")]);
    send(&mut peer, "q", &[nameless.clone(), nameless]);
    assert_eq!(peer.drain_texts("q"), ["1", "3", "4", "nameless", "nameless"]);
    clock.advance(Duration::from_secs(19));
    send(&mut peer, "q", &[identified("a", "6")]);
    assert_eq!(peer.drain_texts("q"), [""; 0]);
    clock.advance(Duration::from_secs(10));
    send(&mut peer, "q", &[identified("a", "7")]);
    assert_eq!(peer.drain_texts("q"), ["7"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Of a batch each message is looked at by itself, and against the others.
#[test]
fn duplicates_within_a_batch_are_dropped() {
    let broker = TestBroker::with().queue("q", DUPLICATES).start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let batch =
        [("a", "1"), ("b", "2"), ("a", "3")].map(|(id, text)| identified(id, text).encode());
    let id = peer.transfer_batch(&mut link, &batch);
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(peer.drain_texts("q"), ["1", "2"]);
}

/// The history is on disk with the message.
#[test]
fn duplicates_are_known_after_a_kill() {
    let mut broker = TestBroker::with()
        .queue("q", "duplicate_detection_history_time_window = \"1h\"")
        .durable()
        .start();
    let mut peer = broker.peer();
    send(&mut peer, "q", &[identified("a", "1")]);
    assert_eq!(peer.drain_texts("q"), ["1"]);
    broker.kill();
    broker.restart();
    let mut peer = broker.peer();
    send(&mut peer, "q", &[identified("a", "2"), identified("b", "3")]);
    assert_eq!(peer.drain_texts("q"), ["3"]);
}
