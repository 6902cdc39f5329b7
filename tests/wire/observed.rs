//! What a broker tells of itself: lines of the log, the audit log. Spans are in `traces`.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use peeklock_protocol::condition;
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::{TestBroker, sas};
use serde_json::Value as Json;

use super::ask::Ask;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn parsed(text: &str) -> Vec<Json> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(parse).collect()
}

/// Looks until a line is there.
#[track_caller]
pub(crate) fn found(
    what: &str,
    mut lines: impl FnMut() -> Vec<Json>,
    is_it: impl Fn(&Json) -> bool,
) -> Json {
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
