//! Rights that are given and taken while the broker runs: access rules of entities by the management
//! API, rules of the configuration by its file. What is taken away ends the links that lived on it.

use std::process::Command;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_protocol::performative::{Close, Detach};
use peeklock_tests::administration::{create_queue, delete_queue, update_queue};
use peeklock_tests::broker::DEV_KEY;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::peer::PATIENCE;
use peeklock_tests::{TestBroker, sas};

/// 32 octets each.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

/// Python, .NET and the others put a token for the entity; it is signed by the entity's own rule.
#[test]
fn a_rule_of_a_queue_is_good_for_it_and_its_end_ends_the_links() {
    let broker = TestBroker::with().queue("other", "").start();
    let all = ("own", FIRST, "Manage Send Listen");
    assert_eq!(create_queue(&broker, "orders", &[all]), 201);
    let audience = "sb://localhost/orders";
    let token = |key| sas::token(audience, "own", key, sas::now() + 3600);
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    assert_eq!(peer.put_token(&mut cbs, audience, &token(SECOND)), 401);
    assert_eq!(peer.put_token(&mut cbs, audience, &token(FIRST)), 202);
    let other = sas::token("sb://localhost/other", "own", FIRST, sas::now() + 3600);
    assert_eq!(peer.put_token(&mut cbs, "sb://localhost/other", &other), 401);
    peer.expect_refusal(sender("other"), condition::UNAUTHORIZED_ACCESS);
    let mut to = peer.attach_sender("orders");
    peer.attach_receiver("orders");
    peer.send_accepted(&mut to, &Message::data("x").encode());

    // Less to do: the receiver goes, and the sender stays.
    assert_eq!(update_queue(&broker, "orders", &[("own", FIRST, "Send")]), 200);
    peer.expect_detach(condition::UNAUTHORIZED_ACCESS);
    peer.send_accepted(&mut to, &Message::data("y").encode());
    peer.expect_refusal(receiver("orders"), condition::UNAUTHORIZED_ACCESS);

    // Another key: the old one is worth nothing, on live links as well.
    assert_eq!(update_queue(&broker, "orders", &[("own", SECOND, "Send Listen")]), 200);
    peer.expect_detach(condition::UNAUTHORIZED_ACCESS);
    assert_eq!(peer.put_token(&mut cbs, audience, &token(FIRST)), 401);
    assert_eq!(peer.put_token(&mut cbs, audience, &token(SECOND)), 202);
    assert_eq!(peer.drain_texts("orders"), ["x", "y"]);
    broker.assert_nothing_above_info_was_logged();
    for key in [FIRST, SECOND, DEV_KEY] {
        assert!(!broker.log_text().contains(key), "keys are not logged");
    }
}

/// A user and password last as long as the connection, and not longer than their rule.
#[test]
fn a_deleted_queue_takes_the_rights_of_its_rules_with_it() {
    let broker = TestBroker::start();
    assert_eq!(create_queue(&broker, "orders", &[("own", FIRST, "Send Listen")]), 201);
    let mut peer = broker.connect().plain("own", FIRST).open().begin();
    peer.attach_sender("orders");
    assert_eq!(delete_queue(&broker, "orders"), 200);
    let _: Detach = peer.find();
    peer.expect_refusal(sender("orders"), condition::UNAUTHORIZED_ACCESS);
    // One of the same name is another one.
    assert_eq!(create_queue(&broker, "orders", &[]), 201);
    peer.expect_refusal(sender("orders"), condition::UNAUTHORIZED_ACCESS);
}

fn rule(name: &str, keys: (&str, &str), rights: &str) -> String {
    let (first, second) = keys;
    format!(
        "[[rule]]\nname = \"{name}\"\nprimary_key = \"{first}\"\nsecondary_key = \"{second}\"\n\
         rights = {rights}\n[[queue]]\nname = \"q\"\n"
    )
}

fn configure(broker: &TestBroker, text: &str) {
    std::fs::write(broker.dir().join("peeklock.toml"), text).expect("a configuration file");
}

/// Sends SIGHUP and waits for what the broker has to say.
#[track_caller]
fn hang_up(broker: &TestBroker, expected: &str) {
    let id = broker.process_id().to_string();
    let status = Command::new("kill").args(["-HUP", &id]).status().expect("kill can be run");
    assert!(status.success(), "SIGHUP could not be sent");
    await_log(broker, expected);
}

#[track_caller]
fn await_log(broker: &TestBroker, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !broker.log_text().contains(expected) {
        assert!(Instant::now() < deadline, "{expected:?} was not logged");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Keys are changed one after the other, so that no client has to stop: this is how.
#[test]
fn keys_of_the_configuration_are_changed_without_a_restart() {
    let keys = ("key-one", "key-two");
    let broker = TestBroker::with().config(&rule("shop", keys, "[\"send\"]")).start();
    let mut by_first = broker.connect().plain("shop", "key-one").open().begin();
    let mut by_second = broker.connect().plain("shop", "key-two").open().begin();
    by_first.attach_sender("q");
    let mut link = by_second.attach_sender("q");

    configure(&broker, "[[rule]]\nname = 5\n");
    hang_up(&broker, "the configuration stays as it is");
    configure(&broker, &rule("shop", ("key-three", "key-two"), "[\"send\"]"));
    hang_up(&broker, "rule shop: primary key changed");
    by_first.expect_detach(condition::UNAUTHORIZED_ACCESS);
    by_second.send_accepted(&mut link, &Message::data("x").encode());
    broker.connect().plain("shop", "key-three").open().begin().attach_sender("q");

    // Without a signal it takes a moment longer.
    configure(&broker, &rule("shop", ("key-three", "key-two"), "[\"listen\"]"));
    by_second.expect_detach(condition::UNAUTHORIZED_ACCESS);
    by_second.attach_receiver("q");
    configure(&broker, "");
    by_second.expect_detach(condition::UNAUTHORIZED_ACCESS);
    await_log(&broker, "rule shop: rights changed");
    await_log(&broker, "rule shop: removed");
    assert!(!broker.log_text().contains("key-"), "keys are not logged");
}

/// A connection whose only right is gone has the usual time to show another one.
#[test]
fn a_connection_without_rights_is_closed_in_time() {
    let setup = TestBroker::with().config("[limits]\nauthorization_timeout = \"1s\"");
    let broker = setup.config(&rule("shop", ("one", "two"), "[\"send\"]")).start();
    let mut peer = broker.connect().plain("shop", "one").open().begin();
    peer.attach_sender("q");
    configure(&broker, "");
    hang_up(&broker, "rule shop: removed");
    peer.expect_detach(condition::UNAUTHORIZED_ACCESS);
    let close: Close = peer.find();
    assert_eq!(close.error.expect("an error").condition, *condition::UNAUTHORIZED_ACCESS);
}
