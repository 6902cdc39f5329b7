//! What qpid-jms, the client of the JMS for Service Bus, asks of a broker: its attaches are put together
//! here as it writes them.

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, Detach, ReceiverSettleMode, SenderSettleMode};
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::link::{Link, Received, disposition, receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, raw};

const SELECTOR: u64 = 0x0000_468c_0000_0004;

pub(crate) fn symbols(names: &[&'static str]) -> Vec<Symbol> {
    names.iter().map(|name| Symbol::from_static(name)).collect()
}

pub(crate) fn selector(text: &str) -> Map {
    Map::new().with(Symbol::from_static("jms-selector"), raw::described(SELECTOR, text.into()))
}

/// The source that qpid-jms asks for: outcomes, and what becomes of what is settled without one.
pub(crate) fn source(address: &str, capability: &'static str) -> Source {
    Source {
        outcomes: Some(symbols(&[
            "amqp:accepted:list",
            "amqp:rejected:list",
            "amqp:released:list",
            "amqp:modified:list",
        ])),
        default_outcome: Some(raw::described(0x27, Value::List(vec![Value::Bool(true)]))),
        capabilities: Some(symbols(&[capability])),
        ..Source::new(address)
    }
}

/// A browser of qpid-jms: it gets settled what it looks at.
fn browser(address: &str, filter: Option<Map>) -> Attach {
    let distribution_mode = Some(Symbol::from_static("copy"));
    let source = Source { distribution_mode, filter, ..source(address, "queue") };
    Attach {
        source: Some(source.into()),
        snd_settle_mode: Some(SenderSettleMode::Settled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..receiver(address)
    }
}

pub(crate) fn send_colors(peer: &mut Peer, address: &str, colors: &[&str]) {
    let mut link = peer.attach_sender(address);
    for (place, color) in colors.iter().enumerate() {
        let message = Message::data(place.to_string()).with_property("color", *color);
        peer.send_accepted(&mut link, &message.encode());
    }
    peer.detach(&link);
}

fn texts(received: &[Received]) -> Vec<String> {
    received.iter().map(Received::text).collect()
}

pub(crate) fn drain(peer: &mut Peer, link: &mut Link, credit: u32) -> Vec<String> {
    texts(&peer.drain(link, credit))
}

/// Waits until an entity is not there any more: what goes with a connection goes a moment after it.
pub(crate) fn wait_until_gone(broker: &TestBroker, address: &str) {
    for _ in 0..1_000 {
        let mut peer = broker.peer();
        if peer.attach(sender(address)).reply.target.is_none() {
            let detach: Detach = peer.expect();
            if detach.error.expect("a refusal has an error").condition == *condition::NOT_FOUND {
                return;
            }
        }
        peer.cut();
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{address} is still there");
}

// Browsers

/// "copy: once successfully transferred over the link, the message will not become unavailable" (AMQP
/// §3.5.4): in order, with those that others hold, and uncounted.
#[test]
fn a_browser_sees_messages_and_leaves_them_as_they_are() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "q", &["blue", "red", "green"]);
    let mut holder = peer.attach_receiver("q");
    let held = peer.receive_one(&mut holder);
    let attach = browser("q", None);
    let mut link = peer.attach_for_receiving(attach.clone());
    assert_eq!(link.reply.source, attach.source, "the source as it was asked for");
    assert_eq!(link.reply.snd_settle_mode, Some(SenderSettleMode::Settled));
    // As much as there is credit for, then the rest, then that there is nothing more.
    peer.credit(&link, 1);
    let first = peer.receive(&mut link);
    assert!(first.settled);
    assert_eq!((first.text().as_str(), first.message().delivery_count()), ("0", 0));
    assert_eq!(first.message().annotation("x-opt-locked-until"), None);
    assert_eq!(drain(&mut peer, &mut link, 10), ["1", "2"]);
    assert_eq!(drain(&mut peer, &mut link, 10), [""; 0]);
    // Accepting what was settled means nothing.
    peer.send(disposition(first.id, DeliveryState::Accepted, true));
    peer.detach(&link);
    peer.complete(&held);
    let rest = peer.drain(&mut holder, 5);
    assert_eq!(texts(&rest), ["1", "2"]);
    assert!(rest.iter().all(|one| one.message().delivery_count() == 0));
}

#[test]
fn a_browser_sees_what_comes_later() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    let mut link = peer.attach_for_receiving(browser("q", None));
    assert_eq!(drain(&mut peer, &mut link, 10), [""; 0]);
    peer.credit(&link, 10);
    let mut other = broker.peer();
    send_colors(&mut other, "q", &["blue", "red"]);
    let seen = [peer.receive(&mut link), peer.receive(&mut link)];
    assert_eq!(texts(&seen), ["0", "1"]);
    assert_eq!(seen[1].message().sequence_number(), 2);
}

#[test]
fn a_browser_with_a_selector_sees_what_it_lets_through() {
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[[topic]]\nname = \"t\"\n[[topic.subscription]]\nname = \"s\"\n")
        .start();
    let mut peer = broker.peer();
    for (to, from) in [("q", "q"), ("t", "t/Subscriptions/s")] {
        send_colors(&mut peer, to, &["blue", "red", "blue"]);
        let attach = browser(from, Some(selector("color = 'blue'")));
        let mut link = peer.attach_for_receiving(attach.clone());
        assert_eq!(link.reply.source, attach.source);
        assert_eq!(drain(&mut peer, &mut link, 5), ["0", "2"]);
        assert_eq!(peer.drain_texts(from), ["0", "1", "2"]);
    }
    let attach = browser("q", Some(selector("color = ")));
    peer.expect_refusal(attach, condition::INVALID_FIELD);
}

/// Active messages only: what is scheduled or deferred has no place in the order yet, or none any more.
#[test]
fn a_browser_sees_active_messages_only() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "q", &["blue", "red", "green"]);
    let mut holder = peer.attach_receiver("q");
    let held = peer.receive_one(&mut holder);
    let deferred = DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    peer.settle(&held, deferred);
    let dead = peer.receive_one(&mut holder);
    peer.settle(&dead, DeliveryState::Rejected(None));
    let far = Value::Timestamp(32_503_680_000_000);
    let later = Message::data("later").with_annotation("x-opt-scheduled-enqueue-time", far);
    let mut sender = peer.attach_sender("q");
    peer.send_accepted(&mut sender, &later.encode());
    let mut link = peer.attach_for_receiving(browser("q", None));
    assert_eq!(drain(&mut peer, &mut link, 10), ["2"]);
    let mut link = peer.attach_for_receiving(browser("q/$DeadLetterQueue", None));
    assert_eq!(drain(&mut peer, &mut link, 10), ["1"]);
}

/// qpid-jms says "undeliverable here" of what is over or came too often. It could not ask for what is
/// deferred, so it counts as a failed delivery; dead letters stay out of its way.
#[test]
fn nothing_is_deferred_for_a_jms_client_but_dead_letters() {
    let broker = TestBroker::with().queue("q", "max_delivery_count = 2").start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    let attach = |address: &str| Attach {
        source: Some(source(address, "queue").into()),
        ..receiver(address)
    };
    let of_no_use = DeliveryState::Modified {
        delivery_failed: Some(true),
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    let mut link = peer.attach_for_receiving(attach("q"));
    for count in 0..2 {
        let received = peer.receive_one(&mut link);
        assert_eq!(received.message().delivery_count(), count);
        peer.settle(&received, of_no_use.clone());
    }
    let mut link = peer.attach_for_receiving(attach("q/$DeadLetterQueue"));
    let received = peer.receive_one(&mut link);
    peer.settle(&received, of_no_use);
    assert!(peer.drain(&mut link, 1).is_empty(), "it is not given out again and again");
}

/// Plain AMQP clients look with links whose messages come unsettled if they say so: what they make of
/// them changes nothing.
#[test]
fn what_a_browser_makes_of_a_message_means_nothing() {
    let broker = TestBroker::start();
    let mut peer = broker.peer();
    send_colors(&mut peer, "q", &["blue", "red"]);
    let attach = Attach {
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::Second),
        ..browser("q", None)
    };
    let mut link = peer.attach_for_receiving(attach);
    let seen = peer.drain(&mut link, 5);
    assert!(seen.iter().all(|one| !one.settled));
    assert_ne!(seen[0].tag, seen[1].tag);
    peer.complete(&seen[0]);
    let rejected = peer.settle(&seen[1], DeliveryState::Rejected(None));
    assert_eq!(rejected, DeliveryState::Rejected(None));
    assert_eq!(peer.drain_texts("q"), ["0", "1"]);
    assert_eq!(peer.drain_texts("q/$DeadLetterQueue"), [""; 0]);
}

#[test]
fn who_may_not_receive_may_not_browse() {
    let broker = TestBroker::with()
        .queue("sessions", "requires_session = true")
        .config("[[topic]]\nname = \"t\"\n")
        .start();
    let mut peer = broker.peer();
    peer.expect_refusal(browser("sessions", None), condition::NOT_ALLOWED);
    peer.expect_refusal(browser("t", None), condition::NOT_FOUND);
    let session =
        Map::new().with(Symbol::from_static("com.microsoft:session-filter"), Value::from("s"));
    peer.expect_refusal(browser("sessions", Some(session)), condition::NOT_IMPLEMENTED);
}
