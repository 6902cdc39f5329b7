//! Faults that tests inject: each as its client meets it.

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Detach;
use peeklock_tests::TestBroker;
use peeklock_tests::link::{receiver, rejection};
use peeklock_tests::message::Message;

use super::ask::Ask;
use super::message_sessions::{accept, of_session};

fn start() -> TestBroker {
    let sessions = "requires_session = true";
    TestBroker::with().queue("q", "").queue("other", "").queue("s", sessions).test_control().start()
}

#[track_caller]
fn inject(broker: &TestBroker, fault: &str) {
    let answer = Ask::new("POST", "/$peeklock/faults").with_body(fault).send(broker);
    assert!(matches!(answer.status, 200 | 201), "{fault}: {}", answer.body);
}

#[track_caller]
fn list(broker: &TestBroker) -> String {
    let answer = Ask::new("GET", "/$peeklock/faults").send(broker);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

const NONE: &str = "{\"faults\":[]}\n";

#[test]
fn sends_are_refused_as_often_as_it_was_said() {
    let broker = start();
    let mut peer = broker.peer();
    inject(&broker, r#"{"fault": "server-busy", "entity": "q", "times": 2}"#);
    assert!(list(&broker).contains("\"times\":2"), "{}", list(&broker));
    peer.send_texts("other", &["of another entity"]);
    let mut link = peer.attach_sender("q");
    let message = Message::data("1").encode();
    for _ in 0..2 {
        let id = peer.transfer(&mut link, &message);
        peer.expect_rejected(id, condition::SERVER_BUSY);
    }
    peer.send_accepted(&mut link, &message);
    assert_eq!(list(&broker), NONE);
    assert_eq!(peer.drain_texts("q"), ["1"], "what was refused is not kept");
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_lock_is_lost_and_the_message_comes_again() {
    let broker = start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1"]);
    inject(&broker, r#"{"fault": "lock-lost", "entity": "q"}"#);
    let mut link = peer.attach_receiver("q");
    let first = peer.receive_one(&mut link);
    rejection(peer.settle(&first, DeliveryState::Accepted), condition::MESSAGE_LOCK_LOST);
    let again = peer.receive_one(&mut link);
    assert_eq!(again.message().delivery_count(), 1);
    peer.complete(&again);
}

#[test]
fn a_link_is_dropped_at_the_next_send_or_now() {
    let broker = start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    inject(&broker, r#"{"fault": "drop-link", "entity": "q", "on": "send"}"#);
    let message = Message::data("1").encode();
    peer.transfer(&mut link, &message);
    let detach: Detach = peer.expect();
    assert_eq!(detach.error.expect("an error").condition.as_str(), condition::LINK_DETACH_FORCED);
    // The connection is as before, and a link can be opened again.
    peer.send_texts("q", &["2"]);
    peer.attach_receiver("q");
    inject(&broker, r#"{"fault": "drop-link", "entity": "q", "now": true}"#);
    let detach: Detach = peer.expect();
    assert_eq!(detach.error.expect("an error").condition.as_str(), condition::LINK_DETACH_FORCED);
    let mut link = peer.attach_receiver("q");
    assert_eq!(peer.receive_one(&mut link).text(), "2");
    // At the attach itself.
    inject(&broker, r#"{"fault": "drop-link", "on": "attach"}"#);
    peer.expect_refusal(receiver("other"), condition::LINK_DETACH_FORCED);
    inject(&broker, r#"{"fault": "server-busy", "on": "attach"}"#);
    peer.expect_refusal(receiver("other"), condition::SERVER_BUSY);
    peer.attach_receiver("other");
}

#[test]
fn a_connection_ends_without_a_word() {
    let broker = start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    inject(&broker, r#"{"fault": "drop-connection", "entity": "q"}"#);
    peer.transfer(&mut link, &Message::data("1").encode());
    peer.expect_socket_closed();
    let (mut one, mut other) = (broker.peer(), broker.peer());
    one.attach_sender("q");
    other.attach_sender("other");
    inject(&broker, r#"{"fault": "drop-connection", "entity": "q", "now": true}"#);
    one.expect_socket_closed();
    other.send_texts("other", &["still there"]);
}

#[test]
fn an_answer_comes_later() {
    let broker = start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    inject(&broker, r#"{"fault": "delay", "milliseconds": 300, "entity": "q"}"#);
    let id = peer.transfer(&mut link, &Message::data("1").encode());
    // It is kept meanwhile: another connection finds it.
    let mut other = broker.peer();
    let mut receiving = other.attach_receiver("q");
    assert_eq!(other.receive_one(&mut receiving).text(), "1");
    assert_eq!(peer.expect_outcome(id), DeliveryState::Accepted);
    peer.send_texts("q", &["2"]);
}

#[test]
fn a_session_is_lost() {
    let broker = start();
    let mut peer = broker.peer();
    let mut sending = peer.attach_sender("s");
    peer.send_accepted(&mut sending, &of_session("a", "1"));
    let mut link = accept(&mut peer, "a");
    inject(&broker, r#"{"fault": "session-lock-lost", "entity": "s", "session": "b"}"#);
    assert_eq!(peer.receive_one(&mut link).text(), "1");
    inject(&broker, r#"{"fault": "session-lock-lost", "entity": "s", "session": "a"}"#);
    let detach: Detach = peer.expect();
    assert_eq!(detach.error.expect("an error").condition.as_str(), condition::SESSION_LOCK_LOST);
    let mut again = accept(&mut peer, "a");
    assert_eq!(peer.receive_one(&mut again).text(), "1");
}

#[test]
fn faults_are_those_of_one_namespace_and_for_whoever_may_manage_it() {
    let broker = start();
    let fault = r#"{"fault": "server-busy", "times": 1000}"#;
    let path = "/$peeklock/namespaces/one";
    let made = Ask::new("PUT", path).with_body(r#"{"queue": [{"name": "q"}]}"#).send(&broker);
    let (_, rest) = made.body.split_once("\"key\":\"").expect("a key");
    let (key, _) = rest.split_once('"').expect("its end");
    let post = || Ask::new("POST", "/$peeklock/faults").with_body(fault);
    assert_eq!(post().unsigned().send(&broker).status, 401);
    assert_eq!(post().signed("one", key).send(&broker).status, 201);
    assert_eq!(list(&broker), NONE);
    broker.peer().send_texts("q", &["not in this namespace"]);
    let mut one = broker.connect().plain("one", key).open().begin();
    let mut link = one.attach_sender("q");
    let id = one.transfer(&mut link, &Message::data("1").encode());
    one.expect_rejected(id, condition::SERVER_BUSY);
    let clear = Ask::new("DELETE", "/$peeklock/faults").signed("one", key);
    assert_eq!(clear.send(&broker).status, 200);
    one.send_accepted(&mut link, &Message::data("2").encode());
    let wrong = Ask::new("POST", "/$peeklock/faults").with_body(r#"{"fault": "fire"}"#);
    assert_eq!(wrong.send(&broker).status, 400);
    let off = TestBroker::start();
    assert_eq!(post().send(&off).status, 403);
    assert_eq!(Ask::new("GET", "/$peeklock/faults").send(&off).status, 403);
}
