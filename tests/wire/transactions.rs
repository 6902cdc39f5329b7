//! Transactions (AMQP §4): the coordinator's answers, and what its transactions do to messages.

use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, End};
use peeklock_protocol::terminus::Target;
use peeklock_protocol::transaction::Coordination;
use peeklock_protocol::value::{Map, RawValue, Symbol, Value};
use peeklock_tests::link::{abandoned, rejection, sender, token_of_tag, tokens};
use peeklock_tests::message::Message;
use peeklock_tests::transactions::{coordinator, within};
use peeklock_tests::{Peer, TestBroker};

const DEAD_LETTERS: &str = "q/$DeadLetterQueue";

fn text(text: &str) -> Bytes {
    Message::data(text.to_owned()).encode()
}

fn two_queues() -> TestBroker {
    TestBroker::with().queue("q", "").queue("other", "").start()
}

fn is_empty(peer: &mut Peer, address: &str) -> bool {
    let mut link = peer.attach_receiver(address);
    let found = peer.drain(&mut link, 1).is_empty();
    peer.detach(&link);
    found
}

/// .NET and Java name capabilities, others none: the coordinator comes back as it was asked for.
#[test]
fn a_coordinator_is_attached_whatever_it_is_asked_to_be_capable_of() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let several = ["amqp:local-transactions", "amqp:multi-ssns-per-txn", "made-up"];
    for capabilities in [
        None,
        Some(vec![Symbol::from_static("amqp:local-transactions")]),
        Some(several.map(Symbol::from_static).to_vec()),
    ] {
        let attach = coordinator(capabilities.clone());
        let link = peer.attach_for_sending(attach);
        let target = link.reply.target.as_ref().expect("a target");
        let Target::Coordinator(target) = target.view() else { panic!("{target:?}") };
        assert_eq!(target.capabilities, capabilities);
        assert!(link.reply.max_message_size.is_some_and(|size| size > 0));
    }
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_commit_sends_and_settles_over_several_queues() {
    let broker = two_queues();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut control = peer.attach_coordinator();
    let mut from = peer.attach_receiver("q");
    let mut to = peer.attach_sender("other");
    let first = peer.receive_one(&mut from);
    let second = peer.receive_one(&mut from);
    let txn = peer.declare(&mut control);
    peer.send_within(&mut to, &txn, &text("a"));
    let answer = peer.settle_within(&first, &txn, DeliveryState::Accepted);
    assert_eq!(answer, within(&txn, DeliveryState::Accepted));
    let answer = peer.settle_within(&second, &txn, DeliveryState::Rejected(None));
    assert_eq!(answer, within(&txn, DeliveryState::Rejected(None)));
    assert!(is_empty(&mut peer, "other"), "nothing is seen before the commit");
    assert!(is_empty(&mut peer, DEAD_LETTERS));

    peer.commit(&mut control, &txn);
    assert_eq!(peer.drain_texts("other"), ["a"]);
    assert_eq!(peer.drain_texts(DEAD_LETTERS), ["2"]);
    assert!(is_empty(&mut peer, "q"));
    rejection(peer.discharge(&mut control, &txn, false), condition::TRANSACTION_UNKNOWN_ID);
    broker.assert_nothing_above_info_was_logged();
}

/// Older clients send to another entity by way of the one that the transaction is about: the link says
/// where to, hears it back, and its messages go there.
#[test]
fn a_link_by_way_of_an_entity_sends_to_its_destination() {
    let broker = two_queues();
    let mut peer = broker.peer();
    let key = Symbol::from_static("com.microsoft:transfer-destination-address");
    let to = |address: &str| Attach {
        properties: Some(Map::new().with(key.clone(), address)),
        ..sender("q")
    };
    let mut link = peer.attach_for_sending(to("other"));
    let properties = link.reply.properties.as_ref().expect("link properties");
    assert_eq!(properties.get(&key), Some(&Value::from("other")));
    let mut control = peer.attach_coordinator();
    let txn = peer.declare(&mut control);
    peer.send_within(&mut link, &txn, &text("a"));
    peer.commit(&mut control, &txn);
    assert_eq!(peer.drain_texts("other"), ["a"]);
    assert!(is_empty(&mut peer, "q"));
    peer.expect_refusal(to("missing"), condition::NOT_FOUND);
}

/// Java compares the types of question and answer, outside and inside.
#[test]
fn answers_within_a_transaction_have_the_type_of_the_question() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let mut control = peer.attach_coordinator();
    let mut link = peer.attach_receiver("q");
    let txn = peer.declare(&mut control);
    for outcome in [
        DeliveryState::Accepted,
        DeliveryState::Rejected(None),
        DeliveryState::Released,
        abandoned(),
    ] {
        let received = peer.receive_one(&mut link);
        let answer = peer.settle_within(&received, &txn, outcome.clone());
        assert_eq!(answer, within(&txn, outcome));
    }
    peer.commit(&mut control, &txn);
    let again = peer.receive_one(&mut link);
    assert_eq!((again.text().as_str(), again.message().delivery_count()), ("3", 0));
    let again = peer.receive_one(&mut link);
    assert_eq!((again.text().as_str(), again.message().delivery_count()), ("4", 1));
}

/// After a rollback the lock is the client's as before. Its delivery is settled, so it comes back
/// by way of management, as SDKs do then.
#[test]
fn a_rollback_hides_what_was_sent_and_restores_the_lock() {
    let broker = two_queues();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut control = peer.attach_coordinator();
    let mut from = peer.attach_receiver("q");
    let mut to = peer.attach_sender("other");
    let received = peer.receive_one(&mut from);
    let txn = peer.declare(&mut control);
    peer.send_within(&mut to, &txn, &text("a"));
    peer.settle_within(&received, &txn, DeliveryState::Accepted);
    let mut management = peer.open_management("q");
    let complete = || {
        Map::new()
            .with("disposition-status", "completed")
            .with("lock-tokens", tokens(&[token_of_tag(&received.tag)]))
    };
    let early = peer.manage(&mut management, "com.microsoft:update-disposition", complete());
    assert_eq!((early.status, early.condition()), (400, condition::NOT_ALLOWED));
    peer.roll_back(&mut control, &txn);
    assert!(is_empty(&mut peer, "other"));
    assert!(is_empty(&mut peer, "q"), "it is still locked");
    let after = peer.manage(&mut management, "com.microsoft:update-disposition", complete());
    assert_eq!(after.status, 200);
}

#[test]
fn requests_that_cannot_be_met_are_rejected() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut control = peer.attach_coordinator();
    for unknown in [&b"no such"[..], b"", &[0; 8], &[0xff; 8], &[7; 32]] {
        let unknown = Bytes::copy_from_slice(unknown);
        for fail in [false, true] {
            let state = peer.discharge(&mut control, &unknown, fail);
            rejection(state, condition::TRANSACTION_UNKNOWN_ID);
        }
        let mut to = peer.attach_sender("q");
        let id = peer.transfer_within(&mut to, &unknown, &text("x"), false);
        peer.expect_rejected(id, condition::TRANSACTION_UNKNOWN_ID);
        let mut from = peer.attach_receiver("q");
        let received = peer.receive_one(&mut from);
        let answer = peer.settle_within(&received, &unknown, DeliveryState::Accepted);
        rejection(answer, condition::TRANSACTION_UNKNOWN_ID);
        // The lock is untouched.
        let body = Map::new()
            .with("disposition-status", "abandoned")
            .with("lock-tokens", tokens(&[token_of_tag(&received.tag)]));
        let mut management = peer.open_management("q");
        let answer = peer.manage(&mut management, "com.microsoft:update-disposition", body);
        assert_eq!(answer.status, 200);
        peer.detach(&from);
        peer.detach(&management.requests);
        peer.detach(&management.answers);
    }
    let global_id = Some(RawValue::from(&Value::from("xa")));
    let state = peer.coordinate(&mut control, &Coordination::Declare { global_id });
    rejection(state, condition::NOT_IMPLEMENTED);
    let id = peer.transfer(&mut control, &text("no request"));
    peer.expect_rejected(id, condition::DECODE_ERROR);
    // The link goes on.
    let txn = peer.declare(&mut control);
    peer.commit(&mut control, &txn);
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP §4.2: there has to be an answer.
#[test]
fn a_settled_message_to_the_coordinator_ends_the_link() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let request = Coordination::Declare { global_id: None };
    peer.transfer_settled(&mut control, &request.to_bytes());
    peer.expect_detach(condition::NOT_ALLOWED);
}

#[test]
fn a_coordinator_that_goes_takes_its_transactions_with_it() {
    let broker = TestBroker::start();
    for how in ["detach", "end", "cut"] {
        let mut peer = broker.peer();
        let mut to = peer.attach_sender("q");
        // The coordinator is in an AMQP session of its own.
        peer.begin_on(7);
        peer.speak_on(7);
        let mut control = peer.attach_coordinator();
        let txn = peer.declare(&mut control);
        peer.speak_on(to.channel);
        peer.send_within(&mut to, &txn, &text("a"));
        peer.speak_on(control.channel);
        match how {
            "detach" => peer.detach(&control),
            "end" => {
                peer.send(End { error: None });
                let _: End = peer.find();
            }
            _ => {
                peer.cut();
                assert!(is_empty(&mut broker.peer(), "q"));
                continue;
            }
        }
        peer.begin_on(8);
        peer.speak_on(8);
        let mut control = peer.attach_coordinator();
        rejection(peer.discharge(&mut control, &txn, false), condition::TRANSACTION_UNKNOWN_ID);
        assert!(is_empty(&mut broker.peer(), "q"));
    }
}

#[test]
fn several_transactions_are_open_on_one_link() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let mut to = peer.attach_sender("q");
    let txns: Vec<_> = (0..20).map(|_| peer.declare(&mut control)).collect();
    for (number, txn) in txns.iter().enumerate() {
        assert!(!txns[..number].contains(txn), "an id is given once");
        peer.send_within(&mut to, txn, &text(&number.to_string()));
    }
    for (number, txn) in txns.iter().enumerate().rev() {
        let state = peer.discharge(&mut control, txn, number % 2 == 1);
        assert_eq!(state, DeliveryState::Accepted);
    }
    let expected: Vec<_> = (0..20).rev().step_by(1).filter(|n| n % 2 == 0).collect();
    let found: Vec<usize> =
        peer.drain_texts("q").iter().map(|text| text.parse().expect("a number")).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_transaction_is_of_no_use_on_another_connection() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let txn = peer.declare(&mut control);
    let mut stranger = broker.peer();
    let mut foreign = stranger.attach_coordinator();
    let mut to = stranger.attach_sender("q");
    let id = stranger.transfer_within(&mut to, &txn, &text("x"), false);
    stranger.expect_rejected(id, condition::TRANSACTION_UNKNOWN_ID);
    let state = stranger.discharge(&mut foreign, &txn, true);
    rejection(state, condition::TRANSACTION_UNKNOWN_ID);
    peer.commit(&mut control, &txn);
}

#[test]
fn a_transaction_is_rolled_back_after_two_minutes() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let mut to = peer.attach_sender("q");
    let (old, new) = (peer.declare(&mut control), {
        clock.advance(Duration::from_secs(1));
        peer.declare(&mut control)
    });
    peer.send_within(&mut to, &old, &text("old"));
    peer.send_within(&mut to, &new, &text("new"));
    clock.advance(Duration::from_secs(119));
    rejection(peer.discharge(&mut control, &old, false), condition::TRANSACTION_TIMEOUT);
    peer.commit(&mut control, &new);
    assert_eq!(peer.drain_texts("q"), ["new"]);
}

#[test]
fn a_lock_that_ends_before_the_commit_rolls_back() {
    let broker = TestBroker::with().queue("q", "lock_duration = \"10s\"").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut control = peer.attach_coordinator();
    let mut to = peer.attach_sender("q");
    let mut from = peer.attach_receiver("q");
    let received = peer.receive_one(&mut from);
    let txn = peer.declare(&mut control);
    peer.settle_within(&received, &txn, DeliveryState::Accepted);
    peer.send_within(&mut to, &txn, &text("2"));
    clock.advance(Duration::from_secs(10));
    rejection(peer.discharge(&mut control, &txn, false), condition::TRANSACTION_ROLLBACK);
    assert_eq!(peer.drain_texts("q"), ["1"]);
}

/// JMS acknowledges and sends settled within a transaction: what is refused then, nobody hears of but
/// by the commit.
#[test]
fn settled_work_counts_and_its_refusal_spoils_the_commit() {
    let broker = two_queues();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut control = peer.attach_coordinator();
    let mut from = peer.attach_receiver("q");
    let mut to = peer.attach_sender("other");
    let received = peer.receive_one(&mut from);
    let txn = peer.declare(&mut control);
    peer.settle_within_at_once(&received, &txn, DeliveryState::Accepted);
    peer.transfer_within(&mut to, &txn, &text("a"), true);
    peer.commit(&mut control, &txn);
    assert!(is_empty(&mut peer, "q"));
    assert_eq!(peer.drain_texts("other"), ["a"]);

    peer.send_texts("q", &["2"]);
    let received = peer.receive_one(&mut from);
    let mut management = peer.open_management("q");
    let body = Map::new()
        .with("disposition-status", "completed")
        .with("lock-tokens", tokens(&[token_of_tag(&received.tag)]));
    peer.manage(&mut management, "com.microsoft:update-disposition", body);
    let txn = peer.declare(&mut control);
    peer.transfer_within(&mut to, &txn, &text("b"), true);
    peer.settle_within_at_once(&received, &txn, DeliveryState::Accepted);
    rejection(peer.discharge(&mut control, &txn, false), condition::TRANSACTION_ROLLBACK);
    assert!(is_empty(&mut peer, "other"));
}

/// JMS has settled by then, and would wait for its own lock to end.
#[test]
fn a_rollback_frees_what_was_settled_first() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut control = peer.attach_coordinator();
    let mut from = peer.attach_receiver("q");
    for count in 0..2 {
        let received = peer.receive_one(&mut from);
        assert_eq!((received.text().as_str(), received.message().delivery_count()), ("1", count));
        let txn = peer.declare(&mut control);
        peer.settle_within_at_once(&received, &txn, DeliveryState::Accepted);
        peer.roll_back(&mut control, &txn);
    }
    let mut other = broker.peer();
    let mut theirs = other.attach_receiver("q");
    let received = other.receive_one(&mut theirs);
    assert_eq!((received.text().as_str(), received.message().delivery_count()), ("1", 2));
}

/// .NET and Java settle deferred messages, and schedule, by management within a transaction.
#[test]
fn management_takes_part_in_transactions() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2"]);
    let mut control = peer.attach_coordinator();
    let mut management = peer.open_management("q");
    let mut from = peer.attach_receiver("q");
    let complete = |tag: &Bytes| {
        Map::new()
            .with("disposition-status", "completed")
            .with("lock-tokens", tokens(&[token_of_tag(tag)]))
    };
    let operation = "com.microsoft:update-disposition";
    for fail in [true, false] {
        let received = peer.receive_one(&mut from);
        let txn = peer.declare(&mut control);
        let answer = peer.manage_within(&mut management, &txn, operation, complete(&received.tag));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(peer.discharge(&mut control, &txn, fail), DeliveryState::Accepted);
        let answer = peer.manage(&mut management, operation, complete(&received.tag));
        assert_eq!(answer.status, if fail { 200 } else { 410 }, "{answer:?}");
    }
    let unknown = Bytes::from_static(b"?");
    let answer = peer.manage_within(
        &mut management,
        &unknown,
        operation,
        complete(&[0; 16].to_vec().into()),
    );
    assert_eq!((answer.status, answer.condition()), (400, condition::TRANSACTION_UNKNOWN_ID));
}

#[test]
fn a_transaction_sends_a_hundred_messages() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let mut to = peer.attach_sender("q");
    let txn = peer.declare(&mut control);
    for number in 0..100 {
        peer.send_within(&mut to, &txn, &text(&number.to_string()));
    }
    let id = peer.transfer_within(&mut to, &txn, &text("one more"), false);
    peer.expect_rejected(id, condition::NOT_ALLOWED);
    peer.commit(&mut control, &txn);
    assert_eq!(peer.drain_texts("q").len(), 100);
}
