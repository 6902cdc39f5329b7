//! What tests do to a broker by HTTP: namespaces made and dropped, the clock steered.

use peeklock_protocol::condition;
use peeklock_protocol::performative::Close;
use peeklock_protocol::value::Map;
use peeklock_tests::{Peer, TestBroker};

use super::ask::{Answered, Ask};

fn start() -> TestBroker {
    TestBroker::with().queue("q", "").rule("sender", "s", "[\"send\"]").test_control().start()
}

/// A namespace that a test has made.
struct Made {
    rule: String,
    key: String,
}

impl Answered {
    /// The text of a field.
    #[track_caller]
    fn field(&self, name: &str) -> String {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":")).unwrap_or_else(|| {
            panic!("no {name} in {}", self.body);
        });
        let end = rest.find([',', '}']).expect("an end");
        rest.get(..end).expect("a value").trim_matches('"').to_owned()
    }
}

#[track_caller]
fn make(broker: &TestBroker, name: &str, wanted: &str) -> Made {
    let path = format!("/$peeklock/namespaces/{name}");
    let answer = Ask::new("PUT", &path).with_body(wanted).send(broker);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let made = Made { rule: answer.field("rule"), key: answer.field("key") };
    let expected = format!(
        "Endpoint=sb://localhost;SharedAccessKeyName={};SharedAccessKey={};\
         UseDevelopmentEmulator=true;",
        made.rule, made.key
    );
    assert_eq!(answer.field("connectionString"), expected);
    made
}

#[track_caller]
fn delete(broker: &TestBroker, name: &str) -> u16 {
    Ask::new("DELETE", &format!("/$peeklock/namespaces/{name}")).send(broker).status
}

impl Made {
    #[track_caller]
    fn peer(&self, broker: &TestBroker) -> Peer {
        broker.connect().plain(&self.rule, &self.key).open().begin()
    }
}

const Q: &str = r#"{"queue": [{"name": "q"}]}"#;

#[test]
fn each_test_has_a_namespace_of_its_own() {
    let broker = start();
    let (one, two) = (make(&broker, "one", Q), make(&broker, "two", Q));
    one.peer(&broker).send_texts("q", &["of one"]);
    two.peer(&broker).send_texts("q", &["of two"]);
    assert!(broker.peer().drain_texts("q").is_empty());
    assert_eq!(one.peer(&broker).drain_texts("q"), ["of one"]);
    assert_eq!(two.peer(&broker).drain_texts("q"), ["of two"]);
    let list = Ask::new("GET", "/$peeklock/namespaces").send(&broker);
    assert_eq!(list.status, 200);
    for name in ["one", "two"] {
        assert!(list.body.contains(&format!("\"name\":\"{name}\"")), "{}", list.body);
    }
    assert!(!list.body.contains(&one.key), "a key is told once");
    broker.assert_nothing_above_info_was_logged();
    assert!(!broker.log_text().contains(&one.key), "and never logged");
}

#[test]
fn a_dropped_namespace_takes_its_connections_with_it() {
    let broker = start();
    let one = make(&broker, "one", Q);
    let mut inside = one.peer(&broker);
    inside.send_texts("q", &["gone"]);
    let mut outside = broker.peer();
    outside.send_texts("q", &["stays"]);
    assert_eq!(delete(&broker, "one"), 200);
    let close: Close = inside.expect();
    assert_eq!(close.error.expect("an error").condition.as_str(), condition::CONNECTION_FORCED);
    inside.expect_socket_closed();
    assert_eq!(outside.drain_texts("q"), ["stays"]);
    // Its key is worth nothing any more.
    let mut peer = broker.connect();
    peer.sasl_mechanisms();
    peer.sasl_init("PLAIN", Some(format!("\0{}\0{}", one.rule, one.key).as_bytes()));
    assert_eq!(peer.sasl_outcome(), 1);
    assert_eq!(delete(&broker, "one"), 404);
    let again = make(&broker, "one", Q);
    assert_ne!(again.key, one.key);
    assert!(again.peer(&broker).drain_texts("q").is_empty());
    broker.assert_nothing_above_info_was_logged();
}

/// Five hundred megabytes pass through, and are not kept.
#[test]
fn memory_is_given_back() {
    let broker = start();
    let large = "x".repeat(900_000);
    let texts = vec![large.as_str(); 10];
    let mut before = 0;
    for round in 0..60 {
        let made = make(&broker, "one", Q);
        made.peer(&broker).send_texts("q", &texts);
        assert_eq!(delete(&broker, "one"), 200);
        if round == 10 {
            before = broker.resident_bytes();
        }
    }
    let after = broker.resident_bytes();
    assert!(after < before + 100_000_000, "{before} octets, then {after}");
    let list = Ask::new("GET", "/$peeklock/namespaces").send(&broker);
    assert_eq!(list.body, "{\"namespaces\":[]}\n");
}

#[test]
fn namespaces_are_made_by_whoever_may_manage_the_default_one() {
    let broker = start();
    let one = make(&broker, "one", "");
    let put = || Ask::new("PUT", "/$peeklock/namespaces/two");
    assert_eq!(put().unsigned().send(&broker).status, 401);
    assert_eq!(put().signed("sender", "s").send(&broker).status, 401);
    // In a namespace that was made there are none to make.
    assert_eq!(put().signed(&one.rule, &one.key).send(&broker).status, 404);
    let get = Ask::new("GET", "/$peeklock/namespaces");
    assert_eq!(get.clone().unsigned().send(&broker).status, 401);
    assert_eq!(get.signed(&one.rule, &one.key).send(&broker).status, 404);
    let delete = Ask::new("DELETE", "/$peeklock/namespaces/one").unsigned();
    assert_eq!(delete.send(&broker).status, 401);
    assert_eq!(put().send(&broker).status, 201);
    assert_eq!(put().send(&broker).status, 409);
    let dollar = Ask::new("PUT", "/%24peeklock/namespaces/three");
    assert_eq!(dollar.send(&broker).status, 201);
    for (path, body) in [
        ("/$peeklock/namespaces/a.b", ""),
        ("/$peeklock/namespaces/%2e%2e", ""),
        ("/$peeklock/namespaces/b", "[]"),
        ("/$peeklock/namespaces/b", r#"{"queue": [{"name": "$x"}]}"#),
        ("/$peeklock/namespaces/b", r#"{"queue": [{"name": "q"}, {"name": "Q"}]}"#),
        ("/$peeklock/namespaces/b", r#"{"topic": [{"name": "t", "x": 1}]}"#),
    ] {
        let answer = Ask::new("PUT", path).with_body(body).send(&broker);
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.body);
        assert!(answer.body.contains("\"error\":"), "{}", answer.body);
    }
    let large = Ask::new("PUT", "/$peeklock/namespaces/b").with_body(" ".repeat(300_000));
    assert_eq!(large.send(&broker).status, 413);
}

#[test]
fn without_the_option_nothing_can_be_made() {
    let broker = TestBroker::start();
    let put = Ask::new("PUT", "/$peeklock/namespaces/one").send(&broker);
    assert_eq!(put.status, 403, "{}", put.body);
    assert_eq!(delete(&broker, "one"), 403);
}

/// The clock of one namespace and not of another; answered when what became due is done.
#[test]
fn the_clock_of_a_namespace_is_steered_by_http() {
    let broker = start();
    let wanted = r#"{"virtual_time": true, "queue": [{"name": "q", "lock_duration": "1m"}]}"#;
    let made = make(&broker, "one", wanted);
    let ask = |method, body: &str| {
        let ask = Ask::new(method, "/$peeklock/clock").with_body(body);
        ask.signed(&made.rule, &made.key).send(&broker)
    };
    assert_eq!(ask("GET", "").field("state"), "running");
    let frozen = ask("POST", r#"{"operation": "freeze"}"#);
    assert_eq!((frozen.status, frozen.field("state")), (200, "frozen".to_owned()));
    let mut peer = made.peer(&broker);
    peer.send_texts("q", &["1"]);
    let mut link = peer.attach_receiver("q");
    let first = peer.receive_one(&mut link);
    let advanced = ask("POST", r#"{"operation": "advance", "milliseconds": 60000}"#);
    assert_eq!(advanced.status, 200, "{}", advanced.body);
    let millis = |answer: &Answered| answer.field("milliseconds").parse::<i64>().expect("a time");
    assert_eq!(millis(&advanced), millis(&frozen) + 60_000);
    let mut other = made.peer(&broker);
    let mut again = other.attach_receiver("q");
    assert_eq!(other.receive_one(&mut again).message().delivery_count(), 1, "after {first:?}");
    // The same clock as by AMQP.
    let mut node = other.open_requests("$management");
    let reading = other.manage(&mut node, "io.peeklock:read-clock", Map::default());
    assert_eq!(reading.entry("state").as_str(), Some("frozen"));
    let time = "{\"operation\": \"freeze\", \"time\": \"2999-12-31T23:59:59.5Z\"}";
    assert_eq!(ask("POST", time).field("time"), "2999-12-31T23:59:59.500Z");
    assert_eq!(ask("POST", r#"{"operation": "resume"}"#).field("state"), "running");
    // The last moment there is, which it does not leave again.
    let last = r#"{"operation": "freeze", "time": 253402300799999}"#;
    assert_eq!(ask("POST", last).field("time"), "9999-12-31T23:59:59.999Z");
    assert_eq!(ask("POST", r#"{"operation": "resume"}"#).status, 200);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let reading = ask("GET", "");
    assert_eq!(reading.field("time"), "9999-12-31T23:59:59.999Z");
    assert_eq!(reading.field("state"), "running");
    for wrong in [
        "",
        "{}",
        r#"{"operation": "stop"}"#,
        r#"{"operation": "advance"}"#,
        r#"{"operation": "advance", "milliseconds": -1}"#,
        r#"{"operation": "advance", "milliseconds": 1, "seconds": 1}"#,
        r#"{"operation": "advance", "milliseconds": 300000000000000}"#,
        r#"{"operation": "freeze", "time": "yesterday"}"#,
        r#"{"operation": "freeze", "time": 1}"#,
    ] {
        let refused = ask("POST", wrong);
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.body);
    }
    let unsigned = Ask::new("GET", "/$peeklock/clock").unsigned();
    assert_eq!(unsigned.send(&broker).status, 401);
    let real = Ask::new("POST", "/$peeklock/clock").with_body(r#"{"operation": "freeze"}"#);
    let real = real.send(&broker);
    assert_eq!(real.status, 400, "the clock of the default namespace is a real one");
    assert!(real.body.contains("cannot be steered"), "{}", real.body);
}

/// As they come in a test run: many at once, each with a namespace that is dropped at its end.
#[test]
fn many_tests_at_once() {
    let broker = start();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let broker = &broker;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = format!("t{thread}-{round}");
                    let made = make(broker, &name, Q);
                    let mut peer = made.peer(broker);
                    peer.send_texts("q", &[&name]);
                    assert_eq!(peer.drain_texts("q"), [name.as_str()]);
                    if round % 2 == 0 {
                        peer.close();
                    }
                    assert_eq!(delete(broker, &name), 200);
                }
            });
        }
    });
    let list = Ask::new("GET", "/$peeklock/namespaces").send(&broker);
    assert_eq!(list.body, "{\"namespaces\":[]}\n");
    broker.assert_nothing_above_info_was_logged();
}
