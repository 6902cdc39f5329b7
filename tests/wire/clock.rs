//! Virtual time: requests to the `$management` node of the namespace, and what follows the clock that
//! they steer (docs/VIRTUAL-TIME.md).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Detach;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::clock::{NAMESPACE_NODE, Reading};
use peeklock_tests::link::{receiver, rejection, sender};
use peeklock_tests::{TestBroker, sas};

/// How long a lock lasts unless a queue says otherwise.
const LOCK_DURATION: Duration = Duration::from_mins(1);

/// A minute passes without waiting: the message is delivered again, and its first receiver has lost it.
#[test]
fn a_lock_ends_when_the_clock_is_advanced_by_its_duration() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let now = clock.freeze();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let first = peer.receive_one(&mut link);
    assert_eq!(first.message().locked_until() - now.time, 60_000, "the clock is frozen");

    let mut other = broker.peer();
    let mut waiting = other.attach_receiver("q");
    other.credit(&waiting, 1);
    let later = clock.advance(Duration::from_millis(59_999));
    assert_eq!(later, Reading { time: now.time + 59_999, frozen: true });
    let mut management = other.open_management("q");
    // A delivery would come before the answer, and the harness would not take it for one.
    let peek = Map::new().with("from-sequence-number", 0_i64).with("message-count", 1_i32);
    assert_eq!(other.manage(&mut management, "com.microsoft:peek-message", peek).status, 200);

    clock.advance(Duration::from_millis(1));
    let again = other.receive(&mut waiting);
    assert_eq!(again.text(), "1");
    assert_eq!(again.message().delivery_count(), 1);
    rejection(peer.settle(&first, DeliveryState::Accepted), condition::MESSAGE_LOCK_LOST);
    other.complete(&again);
    broker.assert_nothing_above_info_was_logged();
}

/// The answer to an advance says that all is done: a receiver that comes then finds the messages.
#[test]
fn an_advance_is_answered_when_what_became_due_is_done() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 1").virtual_time().start();
    let mut clock = broker.clock();
    let mut peer = broker.peer();
    let texts: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    peer.send_texts("q", &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 500);
    for _ in &texts {
        peer.receive(&mut link);
    }
    let mut dead = peer.open_management("q/$DeadLetterQueue");
    clock.advance(LOCK_DURATION);
    // The last of them is in the dead-letter queue, so all are.
    let peek = Map::new().with("from-sequence-number", 500_i64).with("message-count", 1_i32);
    let answer = peer.manage(&mut dead, "com.microsoft:peek-message", peek);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Tokens too: the links they carried are detached, and one that is signed for a time that is past is
/// refused.
#[test]
fn a_token_ends_when_the_clock_passes_its_end() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    peer.authorize(&mut cbs, "q");
    let link = peer.attach_receiver("q");
    clock.advance(Duration::from_mins(61));
    let detach: Detach = peer.find();
    assert_eq!(detach.handle, link.remote_handle);
    assert_eq!(detach.error.expect("the reason").condition, *condition::UNAUTHORIZED_ACCESS);
    let audience = "sb://localhost/q";
    let token = sas::token(audience, DEV_RULE, DEV_KEY, sas::now() + 3600);
    assert_eq!(peer.put_token(&mut cbs, audience, &token), 401);
    peer.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
    // The rights that came with PLAIN have no end.
    clock.advance(Duration::from_hours(24 * 365));
}

/// A clock that runs is moved as well as one that is frozen, and messages bear its time.
#[test]
fn a_clock_runs_on_from_where_it_was_moved_to() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let start = clock.read();
    assert!(!start.frozen);
    let day = 24 * 3_600_000;
    let moved = clock.advance(Duration::from_hours(24));
    assert!(!moved.frozen && start.time + day <= moved.time, "{start:?} {moved:?}");
    let frozen = clock.freeze();
    assert!(frozen.frozen && moved.time <= frozen.time, "{moved:?} {frozen:?}");
    assert_eq!(clock.read(), frozen);
    let at = Map::new().with("time", Value::Timestamp(frozen.time + day));
    let there = Reading::of(&clock.ask("freeze-clock", at.clone()));
    assert_eq!(there, Reading { time: frozen.time + day, frozen: true });

    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let message = peer.receive_one(&mut link).message();
    assert_eq!(message.locked_until(), there.time + 60_000);

    let resumed = clock.resume();
    assert!(!resumed.frozen && there.time <= resumed.time, "{there:?} {resumed:?}");
    let back = Map::new().with("time", Value::Timestamp(frozen.time));
    let answer = clock.ask("freeze-clock", back);
    assert_eq!((answer.status, answer.condition()), (400, condition::ARGUMENT_ERROR));
    assert!(!clock.read().frozen);
}

/// Nobody steers the clock of a broker that was not started for it, nor without the right Manage on the
/// namespace.
#[test]
fn steering_is_refused_without_virtual_time_or_without_the_right() {
    let broker = TestBroker::start();
    let mut clock = broker.clock();
    for operation in ["read-clock", "freeze-clock", "advance-clock", "resume-clock"] {
        let answer = clock.ask(operation, Map::new().with("milliseconds", 1_i32));
        assert_eq!((answer.status, answer.condition()), (400, condition::NOT_ALLOWED));
    }
    let answer = clock.ask("turn-back-clock", Map::new());
    assert_eq!((answer.status, answer.condition()), (501, condition::NOT_IMPLEMENTED));

    let broker = TestBroker::with()
        .queue("q", "")
        .rule("clerk", "k", "[\"Send\", \"Listen\"]")
        .rule("of-q", "k", "[\"Manage\"]\nentity = \"q\"")
        .virtual_time()
        .start();
    let mut clerk = broker.connect().plain("clerk", "k").open().begin();
    let mut node = clerk.open_requests(NAMESPACE_NODE);
    let answer = clerk.manage(&mut node, "io.peeklock:freeze-clock", Map::new());
    assert_eq!((answer.status, answer.condition()), (401, condition::UNAUTHORIZED_ACCESS));
    let mut of_q = broker.connect().plain("of-q", "k").open().begin();
    of_q.expect_refusal(sender(NAMESPACE_NODE), condition::UNAUTHORIZED_ACCESS);
    of_q.expect_refusal(receiver(NAMESPACE_NODE), condition::UNAUTHORIZED_ACCESS);
    assert!(!broker.clock().read().frozen);
}
