//! How many subscriptions and filters a topic may have, by the quotas of Service Bus Premium.

use peeklock_protocol::value::Map;
use peeklock_tests::Peer;
use peeklock_tests::TestBroker;
use peeklock_tests::administration::create_subscription;
use peeklock_tests::requests::Requests;
use peeklock_tests::topics::{correlation, of, sql};

const SUBSCRIPTIONS: usize = 2_000;
const SQL_FILTERS: usize = 2_000;
const CORRELATION_FILTERS: usize = 100_000;

const FULL: &str = "amqp:resource-limit-exceeded";

fn add(peer: &mut Peer, management: &mut Requests, number: usize, description: Map) {
    peer.add_rule(management, &format!("r{number}"), description);
}

#[track_caller]
fn expect_full(peer: &mut Peer, management: &mut Requests, description: Map, what: &str) {
    let answer = peer.ask_for_rule(management, "more", description);
    assert_eq!((answer.status, answer.condition()), (403, FULL));
    let text = answer.message.text_property("statusDescription").expect("a description");
    assert!(text.contains(what), "{text}");
}

#[test]
fn a_topic_has_2000_subscriptions() {
    let mut setup = TestBroker::with().topic("t", "");
    for number in 0..SUBSCRIPTIONS - 1 {
        setup = setup.subscription(&format!("s{number}"), "");
    }
    let broker = setup.start();
    assert_eq!(create_subscription(&broker, "t", "last"), 201);
    assert_eq!(create_subscription(&broker, "t", "more"), 403);
    // All of them get what is published.
    let mut peer = broker.peer();
    peer.send_texts("t", &["x"]);
    for name in ["s0", "s1998", "last"] {
        assert_eq!(peer.drain_texts(&of(name)), ["x"]);
    }
}

/// Whichever subscription they are of; those of other kinds do not count.
#[test]
fn a_topic_has_2000_sql_filters() {
    let broker = TestBroker::with().topic("t", "").subscription("a", "").subscription("b", "");
    let broker = broker.start();
    let mut peer = broker.peer();
    let mut first = peer.open_management(&of("a"));
    for number in 0..SQL_FILTERS - 1 {
        add(&mut peer, &mut first, number, sql(&format!("n = {number}")));
    }
    let mut second = peer.open_management(&of("b"));
    add(&mut peer, &mut second, 0, sql("n = 7"));
    expect_full(&mut peer, &mut second, sql("n = 8"), "SQL filters");
    add(&mut peer, &mut second, 1, correlation(Map::new().with("label", "x")));
    // One that goes makes room.
    assert_eq!(peer.remove_rule(&mut first, "r5").status, 200);
    peer.add_rule(&mut second, "more", sql("n = 8"));
}

#[test]
fn a_topic_has_100000_correlation_filters() {
    let broker = TestBroker::with().topic("t", "").subscription("a", "").start();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let with_id = |number: usize| {
        correlation(Map::new().with("correlation-id", format!("id-{number}").as_str()))
    };
    for number in 0..CORRELATION_FILTERS {
        add(&mut peer, &mut management, number, with_id(number));
    }
    let more = with_id(CORRELATION_FILTERS);
    expect_full(&mut peer, &mut management, more, "correlation filters");
}
