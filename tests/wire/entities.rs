//! What a queue's settings make of it: its status, forwarding, deletion when idle.

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::TestBroker;
use peeklock_tests::administration::create_queue;
use peeklock_tests::link::{receiver, sender};

/// A side that is switched off refuses its links, and only them.
#[test]
fn a_disabled_queue_refuses_links() {
    let broker = TestBroker::with()
        .queue("off", "status = \"disabled\"")
        .queue("out", "status = \"send-disabled\"")
        .queue("in", "status = \"receive-disabled\"")
        .start();
    let mut peer = broker.peer();
    for attach in [sender("off"), receiver("off"), sender("out"), receiver("in")] {
        peer.expect_refusal(attach, condition::ENTITY_DISABLED);
    }
    peer.attach_receiver("out");
    peer.send_texts("in", &["1"]);
}

fn to(queue: &str) -> String {
    format!("forward_to = \"{queue}\"")
}

/// A message goes on to where its queue forwards it, under a new number, with the first one kept; the
/// queue itself has no receivers.
#[test]
fn messages_are_forwarded() {
    let broker = TestBroker::with().queue("end", "").queue("start", &to("end")).start();
    let mut peer = broker.peer();
    peer.send_texts("end", &["0"]);
    peer.send_texts("start", &["1"]);
    peer.expect_refusal(receiver("start"), condition::NOT_ALLOWED);
    let mut link = peer.attach_receiver("end");
    let received = peer.receive_one(&mut link);
    assert_eq!(received.text(), "0");
    let received = peer.receive_one(&mut link).message();
    assert_eq!((received.text(), received.sequence_number()), ("1", 2));
    let first = received.annotation("x-opt-enqueue-sequence-number");
    assert_eq!(first, Some(&Value::Long(1)));
}

/// Four hops are allowed; with the fifth the message is dead-lettered.
#[test]
fn a_chain_of_forwards_has_an_end() {
    let mut setup = TestBroker::with().queue("h0", "");
    for hop in 1..=5 {
        setup = setup.queue(&format!("h{hop}"), &to(&format!("h{}", hop - 1)));
    }
    let broker = setup.start();
    let mut peer = broker.peer();
    peer.send_texts("h4", &["four hops"]);
    peer.send_texts("h5", &["five hops"]);
    assert_eq!(peer.drain_texts("h0"), ["four hops"]);
    let mut found = Vec::new();
    for hop in 0..=5 {
        let mut link = peer.attach_receiver(&format!("h{hop}/$DeadLetterQueue"));
        found.extend(
            peer.drain(&mut link, 5)
                .iter()
                .map(|one| one.message().text_property("DeadLetterReason").map(str::to_owned)),
        );
    }
    assert_eq!(found, [Some("MaxTransferHopCountExceeded".to_owned())]);
}

/// Dead letters go on too, and say whose they were.
#[test]
fn dead_letters_are_forwarded() {
    let broker = TestBroker::with()
        .queue("graves", "")
        .queue("q", "forward_dead_lettered_messages_to = \"graves\"")
        .start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    peer.settle(&received, DeliveryState::Rejected(None));
    let mut graves = peer.attach_receiver("graves");
    let received = peer.receive_one(&mut graves).message();
    assert_eq!(received.text(), "1");
    let source = received.annotation("x-opt-deadletter-source");
    assert_eq!(source, Some(&Value::from("q")));
    assert_eq!(peer.drain_texts("q/$DeadLetterQueue"), [""; 0]);
}

/// What cannot be passed on is a dead letter of the queue that should have.
#[test]
fn what_cannot_be_forwarded_is_dead_lettered() {
    let broker = TestBroker::with()
        .queue("closed", "status = \"send-disabled\"")
        .queue("sessions", "requires_session = true")
        .queue("a", &to("closed"))
        .queue("b", &to("sessions"))
        .start();
    let mut peer = broker.peer();
    for queue in ["a", "b"] {
        peer.send_texts(queue, &[queue]);
    }
    assert_eq!(peer.drain_texts("a/$DeadLetterQueue"), ["a"]);
    let dead: Vec<_> = ["b/$DeadLetterQueue", "sessions/$DeadLetterQueue"]
        .into_iter()
        .flat_map(|address| peer.drain_texts(address))
        .collect();
    assert_eq!(dead, ["b"]);
}

/// A queue nobody uses is deleted, and its links with it.
#[test]
fn an_idle_queue_is_deleted() {
    let broker = TestBroker::with()
        .queue("idle", "auto_delete_on_idle = \"5m\"")
        .queue("used", "auto_delete_on_idle = \"5m\"")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    peer.attach_sender("idle");
    peer.send_texts("used", &["1"]);
    clock.advance(Duration::from_mins(4));
    let mut management = peer.open_management("used");
    let body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 1_i32);
    assert_eq!(peer.manage(&mut management, "com.microsoft:peek-message", body).status, 200);
    clock.advance(Duration::from_mins(1));
    peer.expect_detach(condition::NOT_FOUND);
    peer.expect_refusal(receiver("idle"), condition::NOT_FOUND);
    peer.attach_receiver("used");
}

/// Topics of `MassTransit` have such names. Clients write `~` as it is, or escape it.
#[test]
fn the_name_of_an_entity_may_have_a_tilde() {
    let broker = TestBroker::with().queue("Shop.Contracts~Paid", "").start();
    assert_eq!(create_queue(&broker, "Shop.Contracts~Ordered", &[]), 201);
    assert_eq!(create_queue(&broker, "~Ordered", &[]), 400);
    let (mut peer, mut client) = (broker.peer(), broker.http());
    for (queue, escaped) in [
        ("Shop.Contracts~Paid", "shop.contracts%7Epaid"),
        ("shop.contracts~ordered", "Shop.Contracts~Ordered"),
    ] {
        peer.send_texts(queue, &["1"]);
        let head = format!("/{escaped}/messages/head");
        let answer = client.ask("DELETE", &head, &[], b"").expect(200);
        assert_eq!(answer.text(), "1");
        let entry = client.ask("GET", &format!("/{escaped}?api-version=2021-05"), &[], b"");
        assert!(entry.expect(200).text().contains("QueueDescription"), "{queue}");
    }
    peer.attach_receiver("amqps://localhost/Shop.Contracts~Paid/$DeadLetterQueue");
}
