//! Stopping in good order, and what a restart finds.

use std::thread;

use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Close, Performative};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::receiver;
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};

const DEAD_LETTERS: &str = "q/$DeadLetterQueue";

/// Conditions on which every SDK connects or attaches again by itself.
const RETRYABLE: [&str; 3] =
    [condition::CONNECTION_FORCED, condition::LINK_DETACH_FORCED, condition::SERVER_BUSY];

fn durable() -> TestBroker {
    TestBroker::with().queue("q", "").config("[storage]\nfree_space_reserve = 0").durable().start()
}

/// The clients are told in a way that makes them come back, and the exit code says that all is well.
#[test]
fn a_stop_closes_links_and_connections_with_a_retryable_error() {
    let mut broker = durable();
    let mut peers: Vec<Peer> = (0..5).map(|_| broker.peer()).collect();
    for peer in &mut peers {
        let link = peer.attach_receiver("q");
        peer.credit(&link, 10);
        peer.attach_sender("q");
    }
    broker.ask_to_stop();
    for mut peer in peers {
        loop {
            let error = match peer.performative() {
                Performative::Detach(detach) => detach.error,
                Performative::End(end) => end.error,
                Performative::Close(close) => {
                    let error = close.error.expect("the reason");
                    assert!(RETRYABLE.contains(&error.condition.as_str()), "{error:?}");
                    peer.send(Close::default());
                    peer.expect_socket_closed();
                    break;
                }
                _ => continue,
            };
            let error = error.expect("the reason");
            assert!(RETRYABLE.contains(&error.condition.as_str()), "{error:?}");
        }
    }
    assert!(broker.wait().success());
    broker.assert_nothing_above_info_was_logged();
}

/// Clients that do not answer hold nothing up for longer than they are given.
#[test]
fn a_stop_does_not_wait_for_clients_that_are_gone() {
    let mut broker =
        TestBroker::with().queue("q", "").config("[limits]\nstop_timeout = \"500ms\"").start();
    let mut deaf = broker.peer();
    let link = deaf.attach_receiver("q");
    deaf.credit(&link, 10);
    assert!(broker.stop().success());
}

/// A client that is busy with something else reads nothing. That is nothing to warn about.
#[test]
fn a_client_that_does_not_answer_is_no_reason_to_warn() {
    let mut broker = TestBroker::with().queue("q", "").start();
    let mut deaf = broker.peer();
    let link = deaf.attach_receiver("q");
    deaf.credit(&link, 10);
    assert!(broker.stop().success());
    broker.assert_nothing_above_info_was_logged();
}

/// A restart finds messages, their counts, their changed properties and their places.
#[test]
fn a_restart_keeps_messages_counts_and_properties() {
    for kill in [false, true] {
        let mut broker = durable();
        let mut peer = broker.peer();
        peer.send_texts("q", &["1", "2", "3", "4", "5"]);
        let mut link = peer.attach_receiver("q");
        let received: Vec<_> = (0..4).map(|_| peer.receive_one(&mut link)).collect();
        let changes = Map::new().with(Symbol::from_static("changed"), 5_i32);
        let [abandoned, dead, completed, locked] = &received[..] else { panic!("four") };
        peer.settle(
            abandoned,
            DeliveryState::Modified {
                delivery_failed: Some(true),
                undeliverable_here: None,
                message_annotations: Some(changes),
            },
        );
        let reason = Map::new().with("DeadLetterReason", "a reason");
        peer.settle(
            dead,
            DeliveryState::Rejected(Some(ErrorInfo {
                condition: condition::DEAD_LETTER.into(),
                description: None,
                info: Some(reason),
            })),
        );
        peer.complete(completed);
        assert_eq!(locked.text(), "4");
        let highest = locked.message().sequence_number() + 1;
        if !kill {
            assert!(broker.stop().success());
        }
        broker.restart();

        let mut peer = broker.peer();
        let mut link = peer.attach_receiver("q");
        let first = peer.receive_one(&mut link).message();
        assert_eq!((first.text(), first.delivery_count()), ("1", 1));
        assert_eq!(first.property("changed"), Some(&Value::Int(5)));
        let second = peer.receive_one(&mut link).message();
        assert_eq!((second.text(), second.delivery_count()), ("4", 0));
        let third = peer.receive_one(&mut link).message();
        assert_eq!((third.text(), third.sequence_number()), ("5", highest));
        assert!(peer.drain(&mut link, 5).is_empty());
        let mut dead = peer.attach_receiver(DEAD_LETTERS);
        let dead = peer.receive_one(&mut dead).message();
        assert_eq!(dead.text_property("DeadLetterReason"), Some("a reason"));
        peer.send_texts("q", &["6"]);
        let last = peer.receive_one(&mut link).message();
        assert!(highest < last.sequence_number(), "numbers go on");
    }
}

/// Stopping while senders send: what they were told was accepted is there.
#[test]
fn a_stop_under_load_loses_nothing_that_was_accepted() {
    let mut broker = durable();
    let mut peers: Vec<Peer> = (0..2).map(|_| broker.peer()).collect();
    let accepted: usize = thread::scope(|scope| {
        let senders: Vec<_> = peers
            .drain(..)
            .map(|mut peer| {
                scope.spawn(move || {
                    let mut link = peer.attach_sender("q");
                    let message = Message::data("counted").encode();
                    let mut accepted = 0;
                    'sending: loop {
                        let transfer = peer.first_transfer(&mut link, 0, false);
                        let frame = peeklock_tests::raw::amqp_frame(0, &transfer.into(), &message);
                        peer.write_anyway(&frame);
                        loop {
                            match peer.performative_or_end() {
                                Some(Performative::Disposition(outcome)) => {
                                    assert_eq!(outcome.state, Some(DeliveryState::Accepted));
                                    accepted += 1;
                                    break;
                                }
                                Some(Performative::Close(_)) | None => break 'sending,
                                Some(_) => {}
                            }
                        }
                    }
                    accepted
                })
            })
            .collect();
        // Until something was accepted, so that there is something to lose.
        let mut watcher = broker.peer();
        let mut link = watcher.attach_for_receiving(receiver("q"));
        watcher.receive_one(&mut link);
        watcher.cut();
        broker.ask_to_stop();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).sum()
    });
    assert!(broker.wait().success());
    broker.restart();
    let stored = broker.peer().drain_texts("q").len();
    assert!(0 < accepted && accepted <= stored, "{accepted} accepted, {stored} stored");
}
