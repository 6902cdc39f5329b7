//! Link credit and drain (AMQP §2.6.7), and answering an echo (AMQP §2.7.4).

use peeklock_protocol::performative::Flow;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::TestBroker;
use peeklock_tests::link::{deleting_receiver, plain_receiver};
use peeklock_tests::message::Message;

/// Asks the management node of `q` something whose answer comes behind every delivery that was due.
fn peek(peer: &mut peeklock_tests::Peer, pair: &mut peeklock_tests::requests::Requests) -> i32 {
    let body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 1_i32);
    peer.manage(pair, "com.microsoft:peek-message", body).status
}

/// AMQP §2.6.7: "the sender MUST NOT send transfers when link-credit is zero"; there is none at
/// first.
#[test]
fn nothing_is_delivered_before_the_first_credit() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let mut management = peer.open_management("q");
    assert_eq!(peek(&mut peer, &mut management), 200, "nothing but the answer comes");
    assert_eq!(peer.receive_one(&mut link).text(), "1");
}

/// AMQP §2.6.7: no more than link-credit deliveries, and credit is absolute, not added.
#[test]
fn no_more_is_delivered_than_there_is_credit() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let mut link = peer.attach_receiver("q");
    let mut management = peer.open_management("q");
    peer.credit(&link, 2);
    for text in ["1", "2"] {
        assert_eq!(peer.receive(&mut link).text(), text);
    }
    assert_eq!(peek(&mut peer, &mut management), 200);
    // Said three times, it is one.
    for _ in 0..3 {
        let one = peer.credit_flow(&link, 1);
        peer.send(one);
    }
    assert_eq!(peer.receive(&mut link).text(), "3");
    assert_eq!(peek(&mut peer, &mut management), 200);
}

/// AMQP §2.6.7: the sender's credit is counted from the delivery-count the receiver knows of, so
/// what is already on its way counts.
#[test]
fn credit_is_counted_from_the_delivery_count_of_the_flow() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3", "4"]);
    let mut link = peer.attach_receiver("q");
    let mut management = peer.open_management("q");
    let from_the_start = peer.credit_flow(&link, 3);
    peer.credit(&link, 2);
    for _ in 0..2 {
        peer.receive(&mut link);
    }
    // Three from the start are one more.
    let now = peer.session_flow();
    peer.send(Flow { next_incoming_id: now.next_incoming_id, ..from_the_start });
    assert_eq!(peer.receive(&mut link).text(), "3");
    assert_eq!(peek(&mut peer, &mut management), 200);
}

/// AMQP §2.7.4: delivery-count "MUST NOT be set" by a receiver that has not seen the sender's; then
/// the initial one is meant.
#[test]
fn a_flow_without_delivery_count_means_the_initial_one() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let flow = Flow { delivery_count: None, ..peer.credit_flow(&link, 1) };
    peer.send(flow);
    assert_eq!(peer.receive(&mut link).text(), "1");
}

/// AMQP §2.6.7, stopping a link: with credit lowered to zero nothing more comes.
#[test]
fn credit_lowered_to_zero_stops_delivery() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    let mut management = peer.open_management("q");
    peer.credit(&link, 10);
    peer.credit(&link, 0);
    peer.send_texts("q", &["1"]);
    assert_eq!(peek(&mut peer, &mut management), 200);
    assert_eq!(peer.receive_one(&mut link).text(), "1");
}

/// §2.6.7: a drained sender with nothing to send advances its delivery-count until the credit is
/// used up, and reports the new flow state. rhea takes the count from it; JS waits for it 200 ms.
#[test]
fn drain_on_an_empty_queue_uses_up_the_credit() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    for credit in [10, 1, 1000] {
        assert!(peer.drain(&mut link, credit).is_empty());
    }
    broker.assert_nothing_above_info_was_logged();
}

/// What is there comes first, and the answer behind it.
#[test]
fn drain_delivers_what_is_there_and_then_answers() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    for attach in [plain_receiver("q"), deleting_receiver("q")] {
        peer.send_texts("q", &["1", "2"]);
        let mut link = peer.attach_for_receiving(attach);
        let received = peer.drain(&mut link, 5);
        assert_eq!(received.len(), 2);
        // Credit that a drain used up is gone, and new credit is good.
        peer.send_texts("q", &["3"]);
        assert_eq!(peer.receive_one(&mut link).text(), "3");
        peer.detach(&link);
    }
}

/// When everything that credit allows was delivered there is nothing left to use up; the answer
/// comes all the same.
#[test]
fn a_drain_is_answered_when_the_credit_is_used_up_or_was_never_given() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3"]);
    let mut link = peer.attach_receiver("q");
    assert!(peer.drain(&mut link, 0).is_empty());
    assert_eq!(peer.drain(&mut link, 2).len(), 2);
    assert!(peer.drain(&mut link, 0).is_empty());
    assert_eq!(peer.drain(&mut link, 1).len(), 1);
}

/// Python closes by lowering credit to zero and draining.
#[test]
fn outstanding_credit_is_taken_back_by_a_drain_with_none() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    peer.credit(&link, 5);
    assert!(peer.drain(&mut link, 0).is_empty());
    peer.detach(&link);
    assert_eq!(peer.drain_texts("q"), Vec::<String>::new());
}

/// A drain is over once it was answered: later messages wait for new credit, later credit is not
/// drained.
#[test]
fn a_drain_does_not_outlive_its_answer() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q");
    let mut management = peer.open_management("q");
    let mut sends = broker.peer();
    assert!(peer.drain(&mut link, 3).is_empty());
    sends.send_texts("q", &["1", "2"]);
    assert_eq!(peek(&mut peer, &mut management), 200);
    peer.credit(&link, 5);
    for text in ["1", "2"] {
        assert_eq!(peer.receive(&mut link).text(), text);
    }
    sends.send_texts("q", &["3"]);
    assert_eq!(peer.receive(&mut link).text(), "3");
}

/// AMQP §2.7.4: "echo: If set to true then the receiver SHOULD send its state at the earliest
/// convenient opportunity"; go-amqp and Proton ask for it.
#[test]
fn an_echo_is_answered_with_the_state_of_the_link() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let receives = peer.attach_receiver("q");
    let flow = Flow { echo: true, ..peer.credit_flow(&receives, 7) };
    peer.send(flow);
    let answer: Flow = peer.expect();
    assert_eq!(answer.handle, Some(receives.remote_handle));
    assert_eq!(answer.link_credit, Some(7));
    assert_eq!(answer.delivery_count, Some(receives.delivery_count));
    assert!(!answer.echo && !answer.drain, "{answer:?}");

    peer.detach(&receives);
    let mut sends = peer.attach_sender("q");
    peer.send_accepted(&mut sends, &Message::data("1").encode());
    let flow = Flow {
        echo: true,
        handle: Some(sends.handle),
        delivery_count: Some(sends.delivery_count),
        available: Some(0),
        ..peer.session_flow()
    };
    peer.send(flow);
    let answer: Flow = peer.expect();
    assert_eq!(answer.handle, Some(sends.remote_handle));
    assert_eq!(answer.delivery_count, Some(sends.delivery_count));
    assert!(answer.link_credit.is_some(), "pyamqp reads both: {answer:?}");
    assert!(!answer.echo, "{answer:?}");
}

/// A flow without a handle is about the session.
#[test]
fn an_echo_of_the_session_is_answered_with_its_state() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let flow = Flow { echo: true, ..peer.session_flow() };
    peer.send(flow);
    let answer: Flow = peer.expect();
    assert_eq!(answer.handle, None);
    assert!(answer.next_incoming_id.is_some() && 0 < answer.incoming_window, "{answer:?}");
}

/// Clients wait for credit and count it down: it has to be topped up before it runs out.
#[test]
fn a_sender_never_runs_out_of_credit() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let message = Message::data("one of many").encode();
    for _ in 0..60 {
        let first = peer.transfer(&mut link, &message);
        for _ in 1..50 {
            peer.transfer(&mut link, &message);
        }
        peer.expect_outcomes(first, 50);
    }
    let flow = Flow {
        echo: true,
        handle: Some(link.handle),
        delivery_count: Some(link.delivery_count),
        ..peer.session_flow()
    };
    peer.send(flow);
    loop {
        let answer: Flow = peer.expect();
        if answer.handle == Some(link.remote_handle) {
            assert!(answer.link_credit > Some(50), "{answer:?}");
            break;
        }
    }
    let body = Map::new().with("from-sequence-number", 3000_i64).with("message-count", 1_i32);
    let mut management = peer.open_management("q");
    let answer = peer.manage(&mut management, "com.microsoft:peek-message", body);
    assert_eq!(answer.entry("messages").as_list().map(<[Value]>::len), Some(1));
}
