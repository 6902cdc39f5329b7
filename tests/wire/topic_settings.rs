//! What the settings of topics and subscriptions make of them, and what outlasts a kill.

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::TestBroker;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::topics::{of, sql};
use peeklock_tests::transactions::within;

fn mortal(text: &str, ttl_millis: u32) -> Message {
    let ttl = Value::Uint(ttl_millis);
    Message { header: Some(vec![Value::Null, Value::Null, ttl]), ..Message::data(text.to_owned()) }
}

fn dead_letters(subscription: &str) -> String {
    format!("{}/$DeadLetterQueue", of(subscription))
}

/// A topic that is off takes nothing, whatever its subscriptions are; those give what they have.
#[test]
fn a_disabled_topic_refuses_senders() {
    for status in ["disabled", "send-disabled"] {
        let broker = TestBroker::with()
            .topic("t", &format!("status = \"{status}\""))
            .subscription("a", "")
            .start();
        let mut peer = broker.peer();
        let error = peer.expect_refusal(sender("t"), condition::ENTITY_DISABLED);
        assert!(error.description.is_some_and(|text| text.contains("disabled")));
        assert_eq!(peer.drain_texts(&of("a")), [""; 0]);
    }
}

/// A subscription that is off gives nothing, but collects what comes while receiving is all that is
/// off.
#[test]
fn a_subscription_that_is_off_collects() {
    let dir = tempfile::tempdir().expect("a folder");
    let setup = |status: &str| {
        TestBroker::with()
            .durable()
            .topic("t", "")
            .subscription("on", "")
            .subscription("a", &format!("status = \"{status}\""))
    };
    let broker = setup("receive-disabled").start_at(dir.path());
    let mut peer = broker.peer();
    peer.expect_refusal(receiver(&of("a")), condition::ENTITY_DISABLED);
    peer.send_texts("t", &["1"]);
    drop(broker);
    let broker = setup("active").start_at(dir.path());
    let mut peer = broker.peer();
    assert_eq!(peer.drain_texts(&of("a")), ["1"]);
    assert_eq!(peer.drain_texts(&of("on")), ["1"]);
    drop(broker);
    let broker = setup("disabled").start_at(dir.path());
    let mut peer = broker.peer();
    peer.expect_refusal(receiver(&of("a")), condition::ENTITY_DISABLED);
    peer.attach_receiver(&of("on"));
}

/// The least of what message, topic and subscription say.
#[test]
fn the_shortest_time_to_live_counts() {
    let broker = TestBroker::with()
        .topic("t", "default_message_time_to_live = \"10s\"")
        .subscription("long", "default_message_time_to_live = \"1h\"")
        .subscription(
            "short",
            "default_message_time_to_live = \"5s\"\ndead_lettering_on_message_expiration = true",
        )
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let mut long = peer.open_management(&of("long"));
    let mut short = peer.open_management(&of("short"));
    peer.send_messages(
        "t",
        &[mortal("cut", 60_000), Message::data("default"), mortal("own", 2_000)],
    );
    let mut left = || {
        let mut texts = |pair| {
            let found = peer.browse(pair);
            found.iter().map(|one| one.text().to_owned()).collect::<Vec<_>>().join(" ")
        };
        (texts(&mut long), texts(&mut short))
    };
    let both = |long: &str, short: &str| (long.to_owned(), short.to_owned());
    assert_eq!(left(), both("cut default own", "cut default own"));
    clock.advance(Duration::from_secs(2));
    assert_eq!(left(), both("cut default", "cut default"));
    clock.advance(Duration::from_secs(3));
    assert_eq!(left(), both("cut default", ""));
    clock.advance(Duration::from_secs(5));
    assert_eq!(left(), both("", ""));
    let dead = peer.drain_messages(&dead_letters("short"));
    let why = |one: &Message| one.text_property("DeadLetterReason").map(str::to_owned);
    assert_eq!(dead.iter().filter_map(why).collect::<Vec<_>>(), ["TTLExpiredException"; 3]);
    assert_eq!(peer.drain_texts(&dead_letters("long")), [""; 0]);
}

/// Duplicates are dropped before there are copies; a subscription sees each message once.
#[test]
fn a_topic_drops_duplicates() {
    let broker = TestBroker::with()
        .topic("t", "duplicate_detection_history_time_window = \"20s\"")
        .subscription("a", "")
        .subscription("b", "")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let message = |id: &str, text: &str| Message::data(text.to_owned()).with_id(id);
    peer.send_messages("t", &[message("1", "1"), message("1", "again"), message("2", "2")]);
    assert_eq!(peer.drain_texts(&of("a")), ["1", "2"]);
    peer.send_messages("t", &[message("1", "completed before")]);
    assert_eq!(peer.drain_texts(&of("a")), [""; 0]);
    assert_eq!(peer.drain_texts(&of("b")), ["1", "2"]);
    clock.advance(Duration::from_secs(30));
    peer.send_messages("t", &[message("1", "later")]);
    assert_eq!(peer.drain_texts(&of("a")), ["later"]);
}

/// What is published with a transaction is seen by nobody before the commit, and by nobody at all
/// after a rollback; a subscription's copy is completed with the same transaction.
#[test]
fn publishing_is_transactional() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .subscription("b", "")
        .queue("q", "")
        .start();
    let mut peer = broker.peer();
    let mut control = peer.attach_coordinator();
    let mut publisher = peer.attach_sender("t");
    let mut sender = peer.attach_sender("q");
    let text = |text: &str| Message::data(text.to_owned()).encode();
    let txn = peer.declare(&mut control);
    peer.send_within(&mut publisher, &txn, &text("never"));
    peer.roll_back(&mut control, &txn);
    peer.send_texts("t", &["order"]);

    let mut link = peer.attach_receiver(&of("a"));
    let order = peer.receive_one(&mut link);
    assert_eq!(order.text(), "order");
    let txn = peer.declare(&mut control);
    peer.send_within(&mut publisher, &txn, &text("invoice"));
    peer.send_within(&mut sender, &txn, &text("note"));
    let answer = peer.settle_within(&order, &txn, DeliveryState::Accepted);
    assert_eq!(answer, within(&txn, DeliveryState::Accepted));
    assert_eq!(peer.drain_texts(&of("b")), ["order"], "nothing is seen before the commit");
    peer.commit(&mut control, &txn);
    assert_eq!(peer.drain_texts(&of("b")), ["invoice"]);
    assert_eq!(peer.drain_texts(&of("a")), ["invoice"]);
    assert_eq!(peer.drain_texts("q"), ["note"]);
    broker.assert_nothing_above_info_was_logged();
}

/// A subscription nobody receives from is deleted, while the topic and the others stay.
#[test]
fn an_idle_subscription_is_deleted() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("idle", "auto_delete_on_idle = \"5m\"")
        .subscription("used", "auto_delete_on_idle = \"5m\"")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    clock.advance(Duration::from_mins(4));
    peer.send_texts("t", &["1"]);
    let mut management = peer.open_management(&of("used"));
    assert_eq!(peer.browse(&mut management).len(), 1);
    clock.advance(Duration::from_mins(1));
    peer.expect_refusal(receiver(&of("idle")), condition::NOT_FOUND);
    peer.send_texts("t", &["2"]);
    assert_eq!(peer.drain_texts(&of("used")), ["1", "2"]);
}

/// A topic nobody uses is deleted with its subscriptions, and their links with them.
#[test]
fn an_idle_topic_takes_its_subscriptions_along() {
    let broker = TestBroker::with()
        .topic("t", "auto_delete_on_idle = \"5m\"")
        .subscription("a", "")
        .virtual_time()
        .start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    peer.attach_sender("t");
    clock.advance(Duration::from_mins(5));
    peer.expect_detach(condition::NOT_FOUND);
    peer.expect_refusal(sender("t"), condition::NOT_FOUND);
    peer.expect_refusal(receiver(&of("a")), condition::NOT_FOUND);
}

/// A message that is too large is the publisher's business, and no subscription sees it.
#[test]
fn a_topic_bounds_the_size_of_messages() {
    let broker =
        TestBroker::with().topic("t", "max_message_size = \"1 KiB\"").subscription("a", "").start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("t");
    assert_eq!(link.reply.max_message_size, Some(1024));
    let id = peer.transfer(&mut link, &Message::data(vec![b'x'; 2000]).encode());
    peer.expect_rejected(id, condition::LINK_MESSAGE_SIZE_EXCEEDED);
    assert_eq!(peer.drain_texts(&of("a")), [""; 0]);
}

/// Copies, rules and what was settled are on disk when it is answered.
#[test]
fn copies_and_rules_survive_a_kill() {
    let mut broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .subscription("b", "")
        .durable()
        .start();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("b"));
    assert_eq!(peer.remove_rule(&mut management, "$Default").status, 200);
    peer.add_rule(&mut management, "two", sql("number = 2"));
    let before = peer.list_rules(&mut management, 0, 100);
    let message = |number: i32| Message::data(number.to_string()).with_property("number", number);
    peer.send_messages("t", &[message(1), message(2)]);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    peer.complete(&received);
    broker.kill();
    broker.restart();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("b"));
    assert_eq!(peer.list_rules(&mut management, 0, 100), before);
    peer.send_messages("t", &[message(2), message(3)]);
    assert_eq!(peer.drain_texts(&of("a")), ["2", "2", "3"]);
    assert_eq!(peer.drain_texts(&of("b")), ["2", "2"]);
}

/// A key for a topic is a key for its subscriptions. For rules the right to listen is enough: .NET, JS
/// and Java promise it.
#[test]
fn rights_of_a_topic_are_those_of_its_subscriptions() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .topic("other", "")
        .subscription("a", "")
        .config("[[rule]]\nname = \"send\"\nprimary_key = \"1\"\nrights = [\"send\"]\nentity = \"t\"")
        .config("[[rule]]\nname = \"listen\"\nprimary_key = \"2\"\nrights = [\"listen\"]\nentity = \"t\"")
        .start();
    let peer = |name, key| broker.connect().plain(name, key).open().begin();
    let mut sends = peer("send", "1");
    sends.send_texts("t", &["1"]);
    sends.expect_refusal(receiver(&of("a")), condition::UNAUTHORIZED_ACCESS);
    let mut listens = peer("listen", "2");
    listens.expect_refusal(sender("t"), condition::UNAUTHORIZED_ACCESS);
    listens.expect_refusal(receiver("other/Subscriptions/a"), condition::UNAUTHORIZED_ACCESS);
    let mut management = listens.open_management(&of("a"));
    assert_eq!(listens.browse(&mut management).len(), 1);
    listens.add_rule(&mut management, "r", sql("1=0"));
    assert_eq!(listens.list_rules(&mut management, 0, 9).len(), 2);
    assert_eq!(listens.remove_rule(&mut management, "r").status, 200);
    let mut management = sends.open_management(&of("a"));
    let body = Map::new().with("rule-name", "$Default");
    for operation in ["add-rule", "remove-rule", "enumerate-rules"] {
        let operation = format!("com.microsoft:{operation}");
        let answer = sends.manage(&mut management, &operation, body.clone());
        assert_eq!((answer.status, answer.condition()), (401, condition::UNAUTHORIZED_ACCESS));
    }
}
