//! What a broker tells of itself: lines of the log, the audit log, spans.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::Value;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker, sas};
use serde_json::Value as Json;

use super::ask::Ask;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn parsed(text: &str) -> Vec<Json> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Looks until a line is there.
#[track_caller]
fn found(what: &str, mut lines: impl FnMut() -> Vec<Json>, is_it: impl Fn(&Json) -> bool) -> Json {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        let all = lines();
        if let Some(line) = all.iter().find(|line| is_it(line)) {
            return line.clone();
        }
        assert!(Instant::now() < give_up_at, "no {what} in {all:#?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_line_about_a_link_names_connection_peer_identity_and_entity() {
    let broker = TestBroker::with()
        .queue("q", "")
        .rule("app", "k", "[\"listen\"]")
        .argument("--log-level")
        .argument("debug")
        .start();
    let mut peer = broker.connect().plain("app", "k").open().begin();
    peer.attach_receiver("q");
    peer.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    peer.close();
    let lines = || parsed(&broker.log_text());
    for line in lines() {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    for message in ["receiver attached", "attach refused"] {
        let line = found(message, lines, |line| line["message"] == message);
        let spans = line["spans"].as_array().expect("a list");
        assert_eq!(spans.len(), if line["span"]["name"] == "link" { 2 } else { 1 }, "{line}");
        let connection = spans.first().expect("a span");
        assert_eq!(
            (&connection["name"], &connection["identity"]),
            (&"connection".into(), &"app".into())
        );
        assert!(connection["id"].is_u64() && connection["peer"].is_string(), "{line}");
        if message == "receiver attached" {
            assert_eq!(
                (&line["span"]["entity"], &line["span"]["role"]),
                (&"q".into(), &"receiver".into())
            );
        }
    }
}

/// A broker that remembers in a file, and what it has remembered.
struct Audited {
    broker: TestBroker,
    dir: tempfile::TempDir,
}

impl Audited {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("audit.jsonl");
        let broker = TestBroker::with()
            .queue("q", "")
            .rule("app", "canary-audit-key", "[\"send\"]")
            .config(&format!("[audit]\nfile = '{}'", file.display()))
            .start();
        Self { broker, dir }
    }

    fn lines(&self) -> Vec<Json> {
        lines_of(&self.dir.path().join("audit.jsonl"))
    }

    #[track_caller]
    fn found(&self, operation: &str, outcome: &str) -> Json {
        let line = found(
            operation,
            || self.lines(),
            |line| line["operation"] == operation && line["outcome"] == outcome,
        );
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        line
    }
}

fn lines_of(path: &Path) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be under way.
    parsed(text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default())
}

const QUEUE: &str = "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
    <QueueDescription xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\"/>\
    </content></entry>";

#[test]
fn changes_and_refusals_are_remembered() {
    let audited = Audited::start();
    let broker = &audited.broker;
    let put = Ask::new("PUT", "/made?api-version=2021-05").with_body(QUEUE);
    assert_eq!(put.send(broker).status, 201);
    let line = audited.found("PUT /{entity}", "allowed");
    assert_eq!(
        (&line["entity"], &line["who"]),
        (&"made".into(), &"RootManageSharedAccessKey".into())
    );
    assert_eq!((&line["door"], &line["peer"]), (&"http".into(), &"127.0.0.1".into()));
    assert_eq!(Ask::new("DELETE", "/made").send(broker).status, 200);
    audited.found("DELETE /{entity}", "allowed");
    assert_eq!(Ask::new("DELETE", "/q").signed("app", "canary-audit-key").send(broker).status, 401);
    let line = audited.found("DELETE /{entity}", "denied");
    assert_eq!((&line["entity"], &line["who"]), (&"q".into(), &"app".into()));
    assert_eq!(Ask::new("DELETE", "/q").unsigned().send(broker).status, 401);

    let mut stranger = broker.connect();
    stranger.sasl_mechanisms();
    stranger.sasl_init("PLAIN", Some(b"\0app\0canary-wrong-key"));
    assert_ne!(stranger.sasl_outcome(), 0);
    let line = audited.found("sasl PLAIN", "denied");
    assert!(line["who"].is_null(), "nobody has proven to be anybody: {line}");

    let mut peer = broker.connect().plain("app", "canary-audit-key").open().begin();
    peer.expect_refusal(receiver("q"), condition::UNAUTHORIZED_ACCESS);
    let line = audited.found("from an entity", "denied");
    assert_eq!(
        (&line["entity"], &line["who"], &line["door"]),
        (&"q".into(), &"app".into(), &"amqp".into())
    );
    let mut cbs = peer.open_cbs();
    let forged = sas::token("sb://localhost/q", "app", "canary-wrong-key", sas::now() + 60);
    assert_ne!(peer.put_token(&mut cbs, "sb://localhost/q", &forged), 202);
    audited.found("put-token", "denied");
    peer.send_texts("q", &["not remembered"]);
    peer.close();

    assert_eq!(Ask::new("POST", "/$peeklock/reload").send(broker).status, 200);
    audited.found("POST /$peeklock/reload", "allowed");
    let level = Ask::new("PUT", "/$peeklock/log-level").with_body("{\"level\":\"info\"}");
    assert_eq!(level.send(broker).status, 200);
    audited.found("PUT /$peeklock/log-level", "allowed");

    let file = audited.dir.path().join("audit.jsonl");
    let before = audited.lines().len();
    let Audited { mut broker, dir } = audited;
    assert!(broker.stop().success());
    let all = lines_of(&file);
    assert!(before <= all.len() && all.iter().any(|line| line["operation"] == "stop"), "{all:#?}");
    let text = std::fs::read_to_string(&file).expect("a file") + &broker.log_text();
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains("not remembered") && all.iter().all(|line| line["door"] != "messages"));
    drop(dir);
}

#[test]
fn without_a_file_the_log_has_the_audit() {
    let broker = TestBroker::start();
    assert_eq!(Ask::new("DELETE", "/q").send(&broker).status, 200);
    let lines = || parsed(&broker.log_text());
    let line = found("audit", lines, |line| line["target"] == "audit");
    assert_eq!(
        (&line["operation"], &line["outcome"]),
        (&"DELETE /{entity}".into(), &"allowed".into())
    );
    assert_eq!((&line["entity"], &line["who"]), (&"q".into(), &"RootManageSharedAccessKey".into()));
}

/// A collector that keeps what it is told, and how it answers.
struct Collector {
    address: SocketAddr,
    spans: Receiver<Json>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (told, spans) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let document = take(stream);
                for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]
                    .as_array()
                    .expect("spans")
                {
                    if told.send(span.clone()).is_err() {
                        return;
                    }
                }
            }
        });
        Self { address, spans }
    }

    /// So many spans, whatever their order.
    #[track_caller]
    fn take(&self, count: usize) -> Vec<Json> {
        (0..count)
            .map(|number| {
                let span = self.spans.recv_timeout(PATIENCE);
                span.unwrap_or_else(|_| panic!("{number} spans came, and no more"))
            })
            .collect()
    }
}

fn take(stream: TcpStream) -> Json {
    let mut stream = BufReader::new(stream);
    let (mut head, mut line) = (HashMap::new(), String::new());
    stream.read_line(&mut line).expect("a request");
    assert!(line.starts_with("POST /v1/traces "), "{line}");
    loop {
        line.clear();
        stream.read_line(&mut line).expect("a head");
        let Some((name, value)) = line.trim().split_once(':') else { break };
        head.insert(name.to_lowercase(), value.trim().to_owned());
    }
    assert_eq!(head.get("content-type").map(String::as_str), Some("application/json"));
    let length = head.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    stream.read_exact(&mut body).expect("a body");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    stream.get_mut().write_all(answer).expect("the broker reads");
    serde_json::from_slice(&body).expect("JSON")
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn context(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn message(body: &str) -> Message {
    let context = context("01");
    Message::data(body.to_owned())
        .with_id(body)
        .with_property("traceparent", context.as_str())
        .with_property("Diagnostic-Id", context.as_str())
}

fn traced(body: &str) -> Vec<u8> {
    message(body).encode().to_vec()
}

fn attribute<'a>(span: &'a Json, key: &str) -> &'a Json {
    let all = span["attributes"].as_array().expect("attributes");
    let one = all.iter().find(|one| one["key"] == key);
    &one.unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

/// Messages that are part of a trace come out with the context that they brought, wherever they went.
fn assert_unchanged(peer: &mut Peer, address: &str) -> DeliveryState {
    let mut link = peer.attach_receiver(address);
    let received = peer.receive_one(&mut link);
    let message = received.message();
    for name in ["traceparent", "Diagnostic-Id"] {
        assert_eq!(message.property(name), Some(&Value::from(context("01"))), "{address}");
    }
    let settled = peer.settle(&received, DeliveryState::Accepted);
    peer.detach(&link);
    settled
}

#[test]
fn the_life_of_a_message_is_told_to_a_collector() {
    let collector = Collector::start();
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("on", "forward_to = \"q\"")
        .config(&format!("[tracing]\notlp_endpoint = \"http://{}\"", collector.address))
        .start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    let unsampled = Message::data("quiet").with_property("traceparent", context("00")).encode();
    peer.send_accepted(&mut link, &unsampled);
    peer.send_accepted(&mut link, &Message::data("none").encode());
    peer.send_accepted(&mut link, &traced("one"));
    let mut from = peer.attach_receiver("q");
    for _ in 0..3 {
        let received = peer.receive_one(&mut from);
        peer.settle(&received, DeliveryState::Accepted);
    }
    peer.detach(&from);
    let spans = collector.take(3);
    for name in ["accept q", "deliver q", "settle q"] {
        let span = spans.iter().find(|span| span["name"] == name);
        let span = span.unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&TRACE.into(), &PARENT.into()));
        assert_eq!(span["spanId"].as_str().map(str::len), Some(16));
        assert_eq!(attribute(span, "messaging.system")["stringValue"], "servicebus");
        assert_eq!(attribute(span, "messaging.destination.name")["stringValue"], "q");
        assert_eq!(attribute(span, "messaging.message.id")["stringValue"], "one");
        let time = |key: &str| span[key].as_str().and_then(|time| time.parse::<u64>().ok());
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
        if name == "settle q" {
            let how = attribute(span, "messaging.servicebus.disposition_status");
            assert_eq!(how["stringValue"], "complete");
        }
    }

    // Forwarded, dead-lettered, scheduled: the property is the sender's.
    let mut on = peer.attach_sender("on");
    peer.send_accepted(&mut on, &traced("two"));
    assert_eq!(assert_unchanged(&mut peer, "q"), DeliveryState::Accepted);
    peer.send_accepted(&mut link, &traced("three"));
    let mut from = peer.attach_receiver("q");
    let dead = peer.receive_one(&mut from);
    peer.settle(&dead, DeliveryState::Rejected(None));
    peer.detach(&from);
    assert_eq!(assert_unchanged(&mut peer, "q/$DeadLetterQueue"), DeliveryState::Accepted);
    let soon = Value::Timestamp(i64::try_from(sas::now() * 1000 + 1500).expect("a time"));
    let later = message("four").with_annotation("x-opt-scheduled-enqueue-time", soon);
    peer.send_accepted(&mut link, &later.encode());
    assert_eq!(assert_unchanged(&mut peer, "q"), DeliveryState::Accepted);
    let names: Vec<_> = collector.take(11).iter().map(|span| span["name"].clone()).collect();
    for name in ["accept on", "deliver q/$DeadLetterQueue", "settle q/$DeadLetterQueue"] {
        assert!(names.iter().any(|one| one == name), "no {name} in {names:?}");
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A message is worth more than what is told of it.
#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut broker = TestBroker::with()
        .queue("q", "")
        .config(&format!("[tracing]\notlp_endpoint = \"http://{nobody}\"\nsample_ratio = 1"))
        .start();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    peer.send_accepted(&mut link, &traced("one"));
    let is_told = |line: &Json| line["message"] == "spans cannot be exported and are dropped";
    found("a warning", || parsed(&broker.log_text()), is_told);
    assert_eq!(assert_unchanged(&mut peer, "q"), DeliveryState::Accepted);
    peer.close();
    assert!(broker.stop().success());
}
