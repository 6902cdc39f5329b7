//! The life of a broker: ready, draining, read again, and what it logs.

use std::thread;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_protocol::performative::Close;
use peeklock_tests::TestBroker;
use peeklock_tests::broker::Setup;
use serde_json::Value;

use super::ask::{Answered, Ask};
use super::observed::PATIENCE;

fn ask(broker: &TestBroker, method: &'static str, path: &str) -> Answered {
    Ask::new(method, path).send(broker)
}

fn json(answer: &Answered) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

/// Waits until a text is in the log, which comes by a pipe of its own.
#[track_caller]
fn logged(broker: &TestBroker, text: &str) -> String {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let log = broker.log_text();
        if log.contains(text) {
            return log;
        }
        assert!(Instant::now() < give_up_at, "no {text} in {log}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The configuration file with other lines in front of what the harness adds.
fn rewrite(broker: &TestBroker, lines: &str) {
    let text = format!("{lines}\n[log]\nlevel = \"info\"\nformat = \"json\"\n");
    std::fs::write(broker.dir().join("peeklock.toml"), text).expect("a file");
}

const APP: &str =
    "[[rule]]\nname = \"app\"\nprimary_key = \"canary-life-key\"\nrights = [\"send\"]\n";

/// What the broker sends itself is nobody else's to see.
#[test]
fn the_probe_leaves_no_trace() {
    let broker = TestBroker::with().queue("q", "").config("[limits]\nentities = 1").start();
    for _ in 0..3 {
        assert_eq!(ask(&broker, "GET", "/readyz").body, "ready\n");
    }
    let listed = ask(&broker, "GET", "/$Resources/queues?api-version=2021-05").body;
    assert!(listed.contains(">q</title>") && !listed.contains("probe"), "{listed}");
    let entity = ask(&broker, "GET", "/$probe?api-version=2021-05");
    assert!(!entity.body.contains("QueueDescription"), "as if it were not there: {}", entity.body);
    let mut peer = broker.peer();
    for address in ["$probe", "$Probe/$management", "%24probe"] {
        let attach = peeklock_tests::link::sender(address);
        peer.expect_refusal(attach, condition::INVALID_FIELD);
    }
    broker.assert_nothing_above_info_was_logged();
}

/// Nothing new comes, what there is may be settled, and then the peer is told.
#[test]
fn a_peer_settles_what_it_has_while_the_broker_drains() {
    let mut broker = TestBroker::with()
        .queue("q", "")
        .config("[limits]\nsettle_timeout = \"1m\"\nstop_timeout = \"2m\"")
        .start();
    let mut peer = broker.peer();
    peer.send_texts("q", &["one", "two"]);
    let mut link = peer.attach_receiver("q");
    let one = peer.receive_one(&mut link);
    let drained = ask(&broker, "POST", "/$peeklock/drain");
    assert_eq!((drained.status, json(&drained)["draining"].as_bool()), (202, Some(true)));
    // Idle ones go at once, so this one tells when the broker has come so far.
    let mut credit = peer.credit_flow(&link, 10);
    credit.echo = false;
    peer.send(credit);
    peer.complete(&one);
    let error = peer.expect::<Close>().error.expect("a reason");
    assert_eq!(error.condition.as_str(), condition::CONNECTION_FORCED);
    peer.send(Close::default());
    assert!(broker.wait().success());
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn an_idle_peer_is_told_at_once_and_a_busy_one_at_the_deadline() {
    let mut broker =
        TestBroker::with().queue("q", "").config("[limits]\nsettle_timeout = \"300ms\"").start();
    let (mut idle, mut busy) = (broker.peer(), broker.peer());
    busy.send_texts("q", &["one"]);
    let mut link = busy.attach_receiver("q");
    busy.receive_one(&mut link);
    broker.ask_to_stop();
    idle.expect_close(condition::CONNECTION_FORCED);
    busy.expect_close(condition::CONNECTION_FORCED);
    assert!(broker.wait().success());
}

/// Load balancers need a moment to see that they should go elsewhere.
#[test]
fn a_draining_broker_is_not_ready_and_serves_on_for_a_while() {
    let mut broker =
        TestBroker::with().queue("q", "").config("[limits]\ndrain_delay = \"10m\"").start();
    assert_eq!(ask(&broker, "GET", "/readyz").status, 200);
    assert_eq!(ask(&broker, "POST", "/$peeklock/drain").status, 202);
    let ready = ask(&broker, "GET", "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "the broker is draining\n"));
    assert_eq!(ask(&broker, "GET", "/health").status, 503);
    assert_eq!(ask(&broker, "GET", "/healthz").status, 200, "it lives");
    // Whoever comes all the same is served.
    let mut peer = broker.peer();
    peer.send_texts("q", &["one"]);
    assert_eq!(peer.drain_texts("q"), ["one"]);
    peer.close();
    // A signal ends the delay.
    assert!(broker.stop().success());
}

#[test]
fn only_who_may_manage_the_default_namespace_asks_for_the_whole_broker() {
    let broker = TestBroker::with()
        .rule("sender", "s", "[\"send\"]")
        .config("[[namespace]]\nname = \"shop\"")
        .config("[[namespace.rule]]\nname = \"own\"\nprimary_key = \"o\"\nrights = [\"manage\"]")
        .start();
    for (method, path) in [
        ("POST", "/$peeklock/drain"),
        ("POST", "/$peeklock/reload"),
        ("GET", "/$peeklock/log-level"),
        ("PUT", "/$peeklock/log-level"),
    ] {
        let ask = Ask::new(method, path).with_body("{\"level\": \"trace\"}");
        assert_eq!(ask.clone().unsigned().send(&broker).status, 401, "{path}");
        assert_eq!(ask.clone().signed("sender", "s").send(&broker).status, 401, "{path}");
        let other = ask.at_host("shop.example").signed("own", "o").send(&broker);
        assert_eq!(other.status, 404, "{path}: {}", other.body);
    }
    assert_eq!(ask(&broker, "GET", "/readyz").status, 200);
}

fn with_app() -> Setup {
    TestBroker::with().config(APP)
}

#[test]
fn a_reload_tells_what_is_different() {
    let broker = with_app().start();
    let nothing = ask(&broker, "POST", "/$peeklock/reload");
    assert_eq!(nothing.status, 200, "{}", nothing.body);
    assert_eq!(json(&nothing)["changed"], Value::Array(Vec::new()));
    let changed = APP.replace("life-key", "life-other");
    rewrite(&broker, &format!("{changed}[limits]\nconnections = 77\n[[queue]]\nname = \"new\""));
    // The broker may have found the new key by itself before.
    let answer = ask(&broker, "POST", "/$peeklock/reload");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said = json(&answer);
    let changes = said["changed"].as_array().expect("a list");
    let texts: Vec<_> = changes.iter().filter_map(|change| change["text"].as_str()).collect();
    let expected = [
        "limits.connections: 77, was not set (from the next start on)",
        "queue[new].name: \"new\", was not set (from the next start on)",
    ];
    assert_eq!(texts, expected);
    assert_eq!(changes.first().expect("one")["counts"], "next-start");
    rewrite(&broker, "listen = 5");
    let wrong = ask(&broker, "POST", "/$peeklock/reload");
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    logged(&broker, "rule app: primary key changed");
    let log = logged(&broker, "limits.connections: 77, was not set");
    for text in [&answer.body, &wrong.body, &log] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn what_is_logged_changes_while_the_broker_runs() {
    let broker = TestBroker::start();
    let level = |answer: &Answered| json(answer)["level"].as_str().map(str::to_owned);
    assert_eq!(level(&ask(&broker, "GET", "/$peeklock/log-level")).as_deref(), Some("info"));
    broker.peer().close();
    assert!(!broker.log_text().contains("\"level\":\"DEBUG\""));
    let set = |level: &str| {
        let body = serde_json::json!({ "level": level }).to_string();
        Ask::new("PUT", "/$peeklock/log-level").with_body(body).send(&broker)
    };
    let done = set("info,peeklock::amqp=debug");
    assert_eq!((done.status, json(&done)["before"].as_str()), (200, Some("info")));
    broker.peer().close();
    logged(&broker, "\"level\":\"DEBUG\"");
    for wrong in ["", "=", "peeklock=loud", &"x".repeat(5000)] {
        assert_eq!(set(wrong).status, 400, "{wrong}");
    }
    let now = level(&ask(&broker, "GET", "/$peeklock/log-level"));
    assert_eq!(now.as_deref(), Some("info,peeklock::amqp=debug"));
}
