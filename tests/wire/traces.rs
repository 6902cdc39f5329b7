//! Spans about messages, as a collector of OpenTelemetry gets them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Array, Map, Value};
use peeklock_tests::link::tokens;
use peeklock_tests::message::Message;
use peeklock_tests::requests::Requests;
use peeklock_tests::{Peer, TestBroker, sas};
use serde_json::Value as Json;

use super::observed::{PATIENCE, found, parsed};

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

/// Spans by their names, their parents and the ids of their messages.
#[track_caller]
fn told(collector: &Collector, count: usize) -> Vec<(String, String, String)> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let id = |span: &Json| {
        let all = span["attributes"].as_array().expect("attributes");
        let id = all.iter().find(|one| one["key"] == "messaging.message.id");
        id.map_or_else(String::new, |one| text(&one["value"]["stringValue"]))
    };
    let told = |span: &Json| {
        assert_eq!(span["traceId"], TRACE, "{span}");
        assert_eq!(span["status"], Json::Object(serde_json::Map::new()), "{span}");
        let settled = if text(&span["name"]).starts_with("settle") {
            let how = attribute(span, "messaging.servicebus.disposition_status");
            format!(" {}", text(&how["stringValue"]))
        } else {
            String::new()
        };
        (text(&span["name"]) + &settled, text(&span["parentSpanId"]), id(span))
    };
    let mut all: Vec<_> = collector.take(count).iter().map(told).collect();
    all.sort();
    all
}

fn span(name: &str, parent: &str, id: &str) -> (String, String, String) {
    (name.to_owned(), parent.to_owned(), id.to_owned())
}

fn watched_by(collector: &Collector) -> TestBroker {
    let endpoint = format!("[tracing]\notlp_endpoint = \"http://{}\"", collector.address);
    TestBroker::with().queue("q", "").config(&endpoint).start()
}

const OTHER: &str = "00f067aa0ba902b8";

/// Whoever has sent the message is the parent, and whoever asks where nobody is.
#[test]
fn messages_over_http_are_told_to_a_collector() {
    let collector = Collector::start();
    let broker = watched_by(&collector);
    let mut client = broker.http();
    let (send, head) = ("/q/messages", "/q/messages/head");
    let context = context("01");
    let asked = ("traceparent", context.as_str());
    let id = ("BrokerProperties", r#"{"MessageId":"one"}"#);

    // A header of a message is a property of it.
    client.ask("POST", send, &[asked, id], b"x").expect(201);
    assert_eq!(told(&collector, 1), [span("accept q", PARENT, "one")]);
    let lock = client.ask("POST", head, &[], b"").expect(201).lock();
    client.ask("PUT", &lock, &[], b"").expect(200);
    let lock = client.ask("POST", head, &[], b"").expect(201).lock();
    client.ask("POST", &lock, &[], b"").expect(200);
    client.ask("DELETE", &lock, &[], b"").expect(200);
    let deliver = span("deliver q", PARENT, "one");
    let settled =
        [span("settle q abandon", PARENT, "one"), span("settle q complete", PARENT, "one")];
    assert_eq!(told(&collector, 4), [[deliver.clone(), deliver], settled].concat());

    let batch = format!(
        r#"[{{"Body":"a","BrokerProperties":{{"MessageId":"two"}},
            "UserProperties":{{"traceparent":"00-{TRACE}-{OTHER}-01"}}}},
            {{"Body":"b","BrokerProperties":{{"MessageId":"three"}}}}]"#
    );
    let kind = ("Content-Type", "application/vnd.microsoft.servicebus.json");
    client.ask("POST", send, &[asked, kind], batch.as_bytes()).expect(201);
    let accepted = [span("accept q", PARENT, "three"), span("accept q", OTHER, "two")];
    assert_eq!(told(&collector, 2), accepted);
    client.ask("DELETE", head, &[asked], b"").expect(200);
    client.ask("DELETE", head, &[asked], b"").expect(200);
    let delivered = [span("deliver q", PARENT, "three"), span("deliver q", OTHER, "two")];
    assert_eq!(told(&collector, 2), delivered);

    // Nobody has told of this one before.
    client.ask("POST", send, &[id], b"x").expect(201);
    let lock = client.ask("POST", head, &[], b"").expect(201).lock();
    client.ask("DELETE", &lock, &[asked], b"").expect(200);
    assert_eq!(told(&collector, 1), [span("settle q complete", PARENT, "")]);
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn requests_of_management_are_told_to_a_collector() {
    let collector = Collector::start();
    let broker = watched_by(&collector);
    let mut peer = broker.peer();
    let mut management = peer.open_management("q");
    let entry = Map::new().with("message-id", "m").with("message", message("one").encode());
    let body = Map::new().with("messages", vec![Value::Map(entry)]);
    let answer = peer.manage(&mut management, "com.microsoft:schedule-message", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(told(&collector, 1), [span("accept q", PARENT, "one")]);

    // Its time has come already. It is deferred on its link, and then nothing has a link.
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let deferred = DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    peer.settle(&received, deferred);
    let deliver = span("deliver q", PARENT, "one");
    assert_eq!(told(&collector, 2), [deliver.clone(), span("settle q defer", PARENT, "one")]);
    let number = received.message().sequence_number();
    let body = Map::new()
        .with("sequence-numbers", Array::longs([number]))
        .with("receiver-settle-mode", Value::Uint(1));
    let answer = peer.manage(&mut management, "com.microsoft:receive-by-sequence-number", body);
    let Value::List(fetched) = answer.entry("messages") else { panic!("{answer:?}") };
    let token = fetched.iter().find_map(|one| one.get("lock-token")?.as_uuid()).expect("a token");
    assert_eq!(told(&collector, 1), [deliver]);
    settle(&mut peer, &mut management, token, "completed");
    assert_eq!(told(&collector, 1), [span("settle q complete", PARENT, "one")]);

    // The link that brought it is gone, and then the whole connection.
    let mut sender = peer.attach_sender("q");
    for (id, is_same) in [("two", true), ("three", false)] {
        peer.send_accepted(&mut sender, &traced(id));
        let mut other = broker.peer();
        let receiving = if is_same { &mut peer } else { &mut other };
        let mut from = receiving.attach_receiver("q");
        let received = receiving.receive_one(&mut from);
        receiving.detach(&from);
        other.close();
        let spans = [span("accept q", PARENT, id), span("deliver q", PARENT, id)];
        assert_eq!(told(&collector, 2), spans);
        // What others leave behind is there once they are gone.
        broker.await_sample("peeklock_connections{protocol=\"amqp\"}", |open| open == 1);
        let token = received.message().lock_token();
        settle(&mut peer, &mut management, token, "suspended");
        assert_eq!(told(&collector, 1), [span("settle q dead_letter", PARENT, id)]);
    }
    broker.assert_nothing_above_info_was_logged();
}

#[track_caller]
fn settle(peer: &mut Peer, management: &mut Requests, token: [u8; 16], status: &str) {
    let body = Map::new().with("disposition-status", status).with("lock-tokens", tokens(&[token]));
    let answer = peer.manage(management, "com.microsoft:update-disposition", body);
    assert_eq!(answer.status, 200, "{answer:?}");
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
