//! Topics: what is published goes to the subscriptions, which are received from like queues (the
//! behaviour of the Azure SDKs).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::TestBroker;
use peeklock_tests::link::{deleting_receiver, plain_receiver, receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::topics::of;

fn broker() -> TestBroker {
    TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .subscription("b", "")
        .topic("lonely", "")
        .queue("q", "")
        .start()
}

/// Nobody has to be interested in a message for it to be accepted. The topic keeps nothing of it.
#[test]
fn a_topic_without_subscriptions_takes_messages() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("lonely", &["1", "2"]);
    let mut management = peer.open_management("lonely");
    assert_eq!(peer.browse(&mut management), []);
    broker.assert_nothing_above_info_was_logged();
}

/// Every subscription has a copy of its own, in the order of sending.
#[test]
fn each_subscription_gets_a_copy() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1", "2", "3"]);
    assert_eq!(peer.drain_texts(&of("a")), ["1", "2", "3"]);
    assert_eq!(peer.drain_texts(&of("a")), [""; 0]);
    assert_eq!(peer.drain_texts(&of("b")), ["1", "2", "3"]);
    let mut management = peer.open_management("t");
    assert_eq!(peer.browse(&mut management), []);
}

/// A copy arrives as it was sent: all sections, application properties of all types.
#[test]
fn a_copy_is_what_was_sent() {
    let broker = broker();
    let mut peer = broker.peer();
    let sent = Message::data("body")
        .with_id("id")
        .with_field(3, "label".into())
        .with_property("int", 7_i32)
        .with_property("uint", 8_u32)
        .with_property("at", Value::Timestamp(1_700_000_000_000))
        .with_property("id", Value::Uuid([3; 16]))
        .with_annotation("x-opt-partition-key", "p");
    peer.send_messages("t", std::slice::from_ref(&sent));
    for name in ["a", "b"] {
        let [copy] = &peer.drain_messages(&of(name))[..] else { panic!("one copy") };
        assert_eq!(copy.application_properties, sent.application_properties);
        assert_eq!((&copy.body, copy.id()), (&sent.body, sent.id()));
        assert_eq!(copy.field(3), sent.field(3));
        assert_eq!(copy.annotation("x-opt-partition-key"), sent.annotation("x-opt-partition-key"));
        assert_eq!(copy.delivery_count(), 0);
    }
}

/// A subscription numbers by itself; the number of the topic stays on every copy.
#[test]
fn subscriptions_number_their_copies() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("all", "")
        .subscription("some", "")
        .filter("some", "sql_filter = \"some = TRUE\"")
        .start();
    let mut peer = broker.peer();
    let messages: Vec<_> =
        (0..6).map(|number| Message::data("1").with_property("some", number % 2 == 1)).collect();
    peer.send_messages("t", &messages);
    let mut numbers = |name: &str| -> (Vec<i64>, Vec<i64>) {
        let topics_own =
            |message: &Message| match message.annotation("x-opt-enqueue-sequence-number") {
                Some(Value::Long(number)) => *number,
                other => panic!("{other:?}"),
            };
        let messages = peer.drain_messages(&of(name));
        let own = messages.iter().map(Message::sequence_number).collect();
        (own, messages.iter().map(topics_own).collect())
    };
    let (of_all, topics_own) = numbers("all");
    assert!(of_all.is_sorted_by(|one, next| one < next), "{of_all:?}");
    assert!(topics_own.is_sorted_by(|one, next| one < next), "{topics_own:?}");
    let (of_some, topics_numbers) = numbers("some");
    assert!(of_some.is_sorted_by(|one, next| one < next), "{of_some:?}");
    assert_eq!(topics_numbers, [topics_own[1], topics_own[3], topics_own[5]]);
}

/// What clients write for a subscription: a path with and without slashes, a whole address, percent
/// signs, any case. It comes back as it was written: Python compares.
#[test]
fn a_subscription_has_many_addresses() {
    let broker = broker();
    let mut peer = broker.peer();
    for (main, dead_letters) in [
        ("t/Subscriptions/a", "t/Subscriptions/a/$DeadLetterQueue"),
        ("/t/Subscriptions/a", "/t/Subscriptions/a/$DeadLetterQueue"),
        ("t/subscriptions/a", "t/subscriptions/a/$deadletterqueue"),
        ("T/SUBSCRIPTIONS/A", "T/SUBSCRIPTIONS/A/$DEADLETTERQUEUE"),
        (
            "amqps://localhost/t/Subscriptions/a",
            "amqps://localhost/t/Subscriptions/a/$DeadLetterQueue",
        ),
        (
            "sb://localhost:5671/t/Subscriptions/a/",
            "amqp://localhost:1/t/subscriptions/a/$DeadLetterQueue/",
        ),
        ("t%2FSubscriptions%2Fa", "t/Subscriptions/a/%24DeadLetterQueue"),
    ] {
        peer.send_texts("t", &[main]);
        let mut link = peer.attach_receiver(main);
        let echoed = link.reply.source.as_ref().expect("a source").view();
        assert_eq!(echoed.address(), Some(main));
        let received = peer.receive_one(&mut link);
        assert_eq!(received.text(), main);
        peer.settle(&received, DeliveryState::Rejected(None));
        peer.detach(&link);
        let link = peer.attach_receiver(dead_letters);
        let echoed = link.reply.source.as_ref().expect("a source").view();
        assert_eq!(echoed.address(), Some(dead_letters));
        peer.detach(&link);
        assert_eq!(peer.drain_texts(dead_letters), [main]);
    }
}

/// A topic, too, by whatever address; what comes back is what was asked for.
#[test]
fn a_topic_has_many_addresses() {
    let broker = broker();
    let mut peer = broker.peer();
    for address in ["t", "/t", "T", "t/", "amqps://localhost/t", "sb://localhost:5671/T"] {
        let link = peer.attach_sender(address);
        let Some(target) = link.reply.target.as_ref() else { panic!("a target") };
        assert_eq!(target.view().address(), Some(address));
        peer.detach(&link);
        peer.send_texts(address, &[address]);
        assert_eq!(peer.drain_texts(&of("a")), [address]);
    }
}

/// Java and JS look for this text; .NET and Go for the condition.
fn assert_names_what_is_missing(description: Option<&str>, path: &str) {
    let text = description.unwrap_or_default();
    let missing =
        text.starts_with("The messaging entity '") && text.contains("' could not be found");
    assert!(missing && text.to_lowercase().contains(&path.to_lowercase()), "{text}");
}

/// A topic keeps no messages, so there is nothing to receive from it, nor is there a queue of its
/// dead letters.
#[test]
fn nothing_is_received_from_a_topic() {
    let broker = broker();
    let mut peer = broker.peer();
    for address in ["t", "T", "t/$DeadLetterQueue"] {
        for attach in [receiver(address), deleting_receiver(address), plain_receiver(address)] {
            let error = peer.expect_refusal(attach, condition::NOT_FOUND);
            assert_names_what_is_missing(error.description.as_deref(), address);
        }
    }
    broker.assert_nothing_above_info_was_logged();
}

/// Only the topic puts messages into its subscriptions.
#[test]
fn nothing_is_sent_to_a_subscription() {
    let broker = broker();
    let mut peer = broker.peer();
    for address in [
        "t/Subscriptions/a",
        "amqps://localhost/t/subscriptions/a",
        "t/Subscriptions/a/$DeadLetterQueue",
        "t/Subscriptions/a/$Transfer/$DeadLetterQueue",
    ] {
        peer.expect_refusal(sender(address), condition::NOT_ALLOWED);
    }
}

/// What is not there is named in the error: a subscription, its topic, one of a queue's.
#[test]
fn a_missing_subscription_is_not_found() {
    let broker = broker();
    let mut peer = broker.peer();
    for address in [
        "t/Subscriptions/none",
        "t/Subscriptions/none/$DeadLetterQueue",
        "none/Subscriptions/a",
        "q/Subscriptions/a",
        "lonely/Subscriptions/a",
        "t/a",
        "t/Subscriptions",
    ] {
        let error = peer.expect_refusal(receiver(address), condition::NOT_FOUND);
        assert_names_what_is_missing(error.description.as_deref(), address);
        let management = format!("{address}/$management");
        let error = peer.expect_refusal(receiver(&management), condition::NOT_FOUND);
        assert_names_what_is_missing(error.description.as_deref(), address);
    }
    let error = peer.expect_refusal(sender("none/Subscriptions/a"), condition::NOT_FOUND);
    assert_names_what_is_missing(error.description.as_deref(), "none/Subscriptions/a");
}

/// Receive-and-delete, and a plain client that settles what it gets.
#[test]
fn a_subscription_is_received_from_in_every_mode() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1", "2"]);
    let mut link = peer.attach_for_receiving(deleting_receiver(&of("a")));
    let received = peer.receive_one(&mut link);
    assert!(received.settled);
    peer.detach(&link);
    assert_eq!(peer.drain_texts(&of("a")), ["2"]);
    let mut link = peer.attach_for_receiving(plain_receiver(&of("b")));
    let received = peer.receive_one(&mut link);
    assert!(!received.settled);
    peer.send(peeklock_tests::link::disposition(received.id, DeliveryState::Accepted, true));
    peer.detach(&link);
    assert_eq!(peer.drain_texts(&of("b")), ["2"]);
}

/// Whoever waits gets a copy as soon as it is published; competing receivers share a subscription.
#[test]
fn waiting_receivers_are_served() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut waiting = [of("a"), of("a"), of("b")].map(|address| {
        let mut peer = broker.peer();
        let link = peer.attach_receiver(&address);
        peer.credit(&link, 1);
        (peer, link)
    });
    peer.send_texts("t", &["1", "2"]);
    let [first, second, other] = waiting.each_mut().map(|(peer, link)| peer.receive(link).text());
    let mut texts = [first, second];
    texts.sort();
    assert_eq!(texts, ["1", "2"]);
    assert_eq!(other, "1");
}

/// The messages of an envelope are published one by one, all or none.
#[test]
fn a_batch_is_published() {
    let broker = TestBroker::with()
        .topic("t", "max_message_size = \"1 KiB\"")
        .subscription("all", "")
        .subscription("red", "")
        .filter("red", "correlation_filter = { label = \"red\" }")
        .start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("t");
    let colour =
        |text: &str, label: &str| Message::data(text.to_owned()).with_field(3, label.into());
    let batch = [colour("1", "red"), colour("2", "blue"), colour("3", "red")];
    let id = peer.transfer_batch(&mut link, &batch.map(|message| message.encode()));
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    assert_eq!(peer.drain_texts(&of("all")), ["1", "2", "3"]);
    assert_eq!(peer.drain_texts(&of("red")), ["1", "3"]);
}

/// Under the topic's lock duration and delivery limit nothing: those are the subscription's, and a
/// copy that one gives up is still with the other.
#[test]
fn subscriptions_settle_by_themselves() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("strict", "max_delivery_count = 1\nlock_duration = \"5s\"")
        .subscription("patient", "")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1"]);
    let (mut strict, mut patient) =
        (peer.attach_receiver(&of("strict")), peer.attach_receiver(&of("patient")));
    peer.receive_one(&mut strict);
    let held = peer.receive_one(&mut patient);
    clock.advance(Duration::from_secs(5));
    let [dead] = &peer.drain_messages(&format!("{}/$DeadLetterQueue", of("strict")))[..] else {
        panic!("one dead letter")
    };
    assert_eq!(dead.text_property("DeadLetterReason"), Some("MaxDeliveryCountExceeded"));
    peer.abandon(&held);
    let again = peer.receive_one(&mut patient);
    assert_eq!(again.message().delivery_count(), 1);
    peer.complete(&again);
    assert_eq!(peer.drain_texts(&format!("{}/$DeadLetterQueue", of("patient"))), [""; 0]);
}

/// A client says why, and reads it again from the subscription's own dead letters.
#[test]
fn a_client_dead_letters_on_a_subscription() {
    let broker = broker();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1"]);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    let info = Map::new()
        .with(Symbol::from_static("DeadLetterReason"), "broken")
        .with(Symbol::from_static("DeadLetterErrorDescription"), "in two");
    let error = peeklock_protocol::condition::ErrorInfo {
        info: Some(info),
        ..peeklock_protocol::condition::ErrorInfo::new("com.microsoft:dead-letter", "")
    };
    peer.settle(&received, DeliveryState::Rejected(Some(error)));
    let [dead] = &peer.drain_messages(&format!("{}/$DeadLetterQueue", of("a")))[..] else {
        panic!("one dead letter")
    };
    assert_eq!(dead.text_property("DeadLetterReason"), Some("broken"));
    assert_eq!(dead.text_property("DeadLetterErrorDescription"), Some("in two"));
    assert_eq!(peer.drain_texts(&format!("{}/$DeadLetterQueue", of("b"))), [""; 0]);
    assert_eq!(peer.drain_texts(&of("b")), ["1"]);
}

const SESSION_FILTER: &str = "com.microsoft:session-filter";

fn of_session(subscription: &str, session: impl Into<Value>) -> Attach {
    let filter = Map::new().with(Symbol::from_static(SESSION_FILTER), session.into());
    let source = Source::new(of(subscription).as_str()).with_filter(filter);
    Attach { source: Some(source.into()), ..receiver(&of(subscription)) }
}

/// A subscription may have sessions whatever the topic and its other subscriptions have. What belongs
/// to no session goes to its dead letters; nothing of that is the publisher's business.
#[test]
fn a_subscription_has_sessions() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("s", "requires_session = true")
        .subscription("plain", "")
        .start();
    let mut peer = broker.peer();
    let message = |session: &str, text: &str| Message::data(text.to_owned()).with_session(session);
    let messages =
        [message("x", "x1"), message("y", "y1"), message("x", "x2"), Message::data("none")];
    peer.send_messages("t", &messages);
    assert_eq!(peer.drain_texts(&of("plain")), ["x1", "y1", "x2", "none"]);
    peer.expect_refusal(receiver(&of("s")), condition::NOT_ALLOWED);
    peer.expect_refusal(of_session("plain", "x"), condition::NOT_ALLOWED);
    let mut link = peer.attach_for_receiving(of_session("s", "x"));
    let texts: Vec<_> = peer.drain(&mut link, 9).iter().map(|one| one.text()).collect();
    assert_eq!(texts, ["x1", "x2"]);
    let mut next = peer.attach_for_receiving(of_session("s", Value::Null));
    assert_eq!(peer.receive_one(&mut next).text(), "y1");
    let [dead] = &peer.drain_messages(&format!("{}/$DeadLetterQueue", of("s")))[..] else {
        panic!("one dead letter")
    };
    assert_eq!(dead.text(), "none");
    assert_eq!(dead.text_property("DeadLetterReason"), Some("Session ID is null."));
}

/// From a subscription to a queue, to another topic, and from there to a queue again.
#[test]
fn subscriptions_forward() {
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("end", "")
        .topic("second", "")
        .subscription("on", "forward_to = \"end\"")
        .filter("blue", "correlation_filter = { label = \"blue\" }")
        .subscription("here", "")
        .topic("t", "")
        .subscription("to-queue", "forward_to = \"q\"")
        .subscription("to-topic", "forward_to = \"second\"")
        .start();
    let mut peer = broker.peer();
    let blue = Message::data("blue").with_field(3, "blue".into());
    peer.send_messages("t", &[Message::data("red"), blue]);
    let messages = peer.drain_messages("q");
    assert_eq!(messages.iter().map(Message::text).collect::<Vec<_>>(), ["red", "blue"]);
    let first_numbers: Vec<_> =
        messages.iter().map(|one| one.annotation("x-opt-enqueue-sequence-number")).collect();
    assert_eq!(first_numbers, [Some(&Value::Long(1)), Some(&Value::Long(2))], "the topic's");
    assert_eq!(peer.drain_texts("second/Subscriptions/here"), ["red", "blue"]);
    assert_eq!(peer.drain_texts("end"), ["blue"]);
    peer.expect_refusal(receiver(&of("to-queue")), condition::NOT_ALLOWED);
    broker.assert_nothing_above_info_was_logged();
}

/// Four hops, counted over topics too; with the fifth the copy is a dead letter of where it was.
#[test]
fn a_chain_over_topics_has_an_end() {
    let mut setup = TestBroker::with().topic("h0", "").subscription("s", "");
    for hop in 1..=5 {
        let to = format!("forward_to = \"h{}\"", hop - 1);
        setup = setup.topic(&format!("h{hop}"), "").subscription("s", &to);
    }
    let broker = setup.start();
    let mut peer = broker.peer();
    peer.send_texts("h4", &["four hops"]);
    peer.send_texts("h5", &["five hops"]);
    assert_eq!(peer.drain_texts("h0/Subscriptions/s"), ["four hops"]);
    let dead: Vec<_> = (0..=5)
        .flat_map(|hop| peer.drain_messages(&format!("h{hop}/Subscriptions/s/$DeadLetterQueue")))
        .collect();
    let [dead] = &dead[..] else { panic!("one dead letter: {dead:?}") };
    assert_eq!(dead.text_property("DeadLetterReason"), Some("MaxTransferHopCountExceeded"));
}

/// The dead letters of a subscription go on too, and say whose they were.
#[test]
fn dead_letters_of_a_subscription_are_forwarded() {
    let broker = TestBroker::with()
        .queue("graves", "")
        .topic("t", "")
        .subscription("a", "forward_dead_lettered_messages_to = \"graves\"")
        .start();
    let mut peer = broker.peer();
    peer.send_texts("t", &["1"]);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    peer.settle(&received, DeliveryState::Rejected(None));
    let [dead] = &peer.drain_messages("graves")[..] else { panic!("one dead letter") };
    let source = dead.annotation("x-opt-deadletter-source").and_then(Value::as_str);
    assert_eq!(source, Some("t/Subscriptions/a"));
}
