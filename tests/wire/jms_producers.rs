//! What producers of qpid-jms ask for: links without an address, delivery at a later time, and word of
//! both in the broker's open.

use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::condition;
use peeklock_protocol::performative::{Attach, ReceiverSettleMode, SenderSettleMode};
use peeklock_protocol::terminus::{Target, TargetNode};
use peeklock_protocol::value::Value;
use peeklock_tests::TestBroker;
use peeklock_tests::link::{rejection, sender};
use peeklock_tests::message::Message;

use crate::jms::symbols;

/// Where `to` is in the list of properties (AMQP §3.2.4).
const TO: usize = 2;

fn start() -> TestBroker {
    TestBroker::with()
        .queue("q", "")
        .config("[[topic]]\nname = \"t\"\n[[topic.subscription]]\nname = \"s\"\n")
        .rule("only-q", "key", "[\"Send\"]\nentity = \"q\"")
        .start()
}

/// A producer of qpid-jms without a destination.
fn relay() -> Attach {
    Attach {
        target: Some(TargetNode::default().into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..sender("unused")
    }
}

fn message(to: &str, text: &str) -> Message {
    Message::data(text.to_owned()).with_field(TO, to.into())
}

/// "Offer those supported in the broker's open": qpid-jms does without what it does not find.
#[test]
fn the_open_says_what_the_broker_does() {
    let broker = TestBroker::start();
    let peer = broker.peer();
    let offered = peer.remote_open().offered_capabilities.clone();
    assert_eq!(offered, Some(symbols(&["SHARED-SUBS", "DELAYED_DELIVERY", "ANONYMOUS-RELAY"])));
}

/// "target without address; properties.to names the destination".
#[test]
fn messages_without_an_address_go_where_they_say() {
    let broker = start();
    let mut peer = broker.peer();
    let mut link = peer.attach_for_sending(relay());
    let target = link.reply.target.as_ref().expect("a target").view();
    assert!(matches!(target, Target::Node(TargetNode { address: None, .. })), "{target:?}");
    assert!(link.reply.max_message_size.is_some_and(|size| size > 0));
    peer.send_accepted(&mut link, &message("q", "1").encode());
    peer.send_accepted(&mut link, &message("t", "2").encode());
    peer.send_accepted(&mut link, &message("amqp://localhost/Q", "3").encode());
    peer.transfer_settled(&mut link, &message("q", "4").encode());
    peer.send_accepted(&mut link, &message("q", "5").encode());
    assert_eq!(peer.drain_texts("q"), ["1", "3", "4", "5"]);
    assert_eq!(peer.drain_texts("t/Subscriptions/s"), ["2"]);
}

/// Each message is judged by itself, and the link goes on.
#[test]
fn a_message_that_can_go_nowhere_is_rejected() {
    let broker = start();
    let mut peer = broker.peer();
    let mut link = peer.attach_for_sending(relay());
    for (message, condition) in [
        (Message::data("x"), condition::INVALID_FIELD),
        (message("nowhere", "x"), condition::NOT_FOUND),
        (message("q/$DeadLetterQueue", "x"), condition::NOT_ALLOWED),
        (message("t/Subscriptions/s", "x"), condition::NOT_ALLOWED),
        (message("$cbs", "x"), condition::NOT_ALLOWED),
        (message("q/$management", "x"), condition::NOT_ALLOWED),
        (message("q%2", "x"), condition::INVALID_FIELD),
    ] {
        let id = peer.transfer(&mut link, &message.encode());
        peer.expect_rejected(id, condition);
    }
    let batch = [message("q", "x").encode(), message("q", "y").encode()];
    let id = peer.transfer_batch(&mut link, &batch);
    peer.expect_rejected(id, condition::NOT_ALLOWED);
    peer.send_accepted(&mut link, &message("q", "kept").encode());
    assert_eq!(peer.drain_texts("q"), ["kept"]);
}

/// The right to send is asked for with every message.
#[test]
fn each_message_takes_the_right_to_send_it() {
    let broker = start();
    let mut anonymous = broker.anonymous_peer();
    anonymous.expect_refusal(relay(), condition::UNAUTHORIZED_ACCESS);
    let mut peer = broker.connect().plain("only-q", "key").open().begin();
    let mut link = peer.attach_for_sending(relay());
    let id = peer.transfer(&mut link, &message("t", "x").encode());
    peer.expect_rejected(id, condition::UNAUTHORIZED_ACCESS);
    // Whether an entity exists is nobody's business without a right to it.
    let id = peer.transfer(&mut link, &message("nowhere", "x").encode());
    peer.expect_rejected(id, condition::UNAUTHORIZED_ACCESS);
    peer.send_accepted(&mut link, &message("q", "x").encode());
    assert_eq!(broker.peer().drain_texts("q"), ["x"]);
}

/// JMS sessions that are transacted send on such links too.
#[test]
fn messages_without_an_address_are_sent_in_transactions() {
    let broker = start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let mut link = peer.attach_for_sending(relay());
    let mut node = peer.open_management("q");
    for commits in [false, true] {
        let txn = peer.declare(&mut control);
        peer.send_within(&mut link, &txn, &message("q", "1").encode());
        peer.send_within(&mut link, &txn, &message("t", "2").encode());
        assert!(peer.browse(&mut node).is_empty());
        if commits {
            peer.commit(&mut control, &txn);
        } else {
            peer.roll_back(&mut control, &txn);
        }
    }
    assert_eq!(peer.drain_texts("q"), ["1"]);
    assert_eq!(peer.drain_texts("t/Subscriptions/s"), ["2"]);
}

/// "annotation `x-opt-delivery-time` (long ms) when `DELAYED_DELIVERY` is offered: treat as scheduled".
#[test]
fn a_delivery_time_is_waited_for() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    let mut link = peer.attach_for_sending(relay());
    let at = |time: i64, text: &str| {
        message("q", text).with_annotation("x-opt-delivery-time", Value::Long(time)).encode()
    };
    peer.send_accepted(&mut link, &at(now + 60_000, "later"));
    peer.send_accepted(&mut link, &at(now - 1, "now"));
    assert_eq!(peer.drain_texts("q"), ["now"]);
    clock.advance(Duration::from_mins(1));
    assert_eq!(peer.drain_texts("q"), ["later"]);
}

/// "Whether sends in a transaction succeeded is known with the commit": qpid-jms tells an exception
/// listener of a refused one at most, and commits the others.
#[test]
fn a_commit_fails_when_a_producer_was_refused_something() {
    let queues = TestBroker::with().queue("q", "").queue("s", "requires_session = true");
    let broker = queues.start();
    let mut peer = broker.peer();
    let of = |address: &'static str, capabilities: &[&'static str]| {
        let target = TargetNode {
            address: (!address.is_empty()).then(|| address.into()),
            capabilities: (!capabilities.is_empty()).then(|| symbols(capabilities)),
            ..TargetNode::default()
        };
        Attach { target: Some(target.into()), ..sender("unused") }
    };
    let plain = Message::data("x").encode();
    let nowhere = message("nowhere", "x").encode();
    let broken = Bytes::from_static(&[0xff]);
    let mut control = peer.attach_coordinator();
    let mut good = peer.attach_for_sending(of("q", &["queue"]));
    for (attach, bad, condition, fails) in [
        (of("s", &["queue"]), &plain, condition::NOT_ALLOWED, true),
        (of("q", &["queue"]), &broken, condition::DECODE_ERROR, true),
        (of("", &[]), &nowhere, condition::NOT_FOUND, true),
        (of("", &[]), &plain, condition::INVALID_FIELD, true),
        (of("s", &[]), &plain, condition::NOT_ALLOWED, false),
    ] {
        let mut link = peer.attach_for_sending(attach);
        let txn = peer.declare(&mut control);
        peer.send_within(&mut good, &txn, &Message::data("good").encode());
        let id = peer.transfer_within(&mut link, &txn, bad, false);
        peer.expect_rejected(id, condition);
        if fails {
            rejection(peer.discharge(&mut control, &txn, false), condition::TRANSACTION_ROLLBACK);
        } else {
            peer.commit(&mut control, &txn);
        }
        let expected: &[&str] = if fails { &[] } else { &["good"] };
        assert_eq!(peer.drain_texts("q"), expected);
        peer.detach(&link);
    }
}
