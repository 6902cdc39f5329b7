//! Messages over HTTP: what a program without AMQP does, alone and together with programs that have it
//! (the behaviour of the Service Bus REST API).

use std::time::Duration;

use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::administration::create_queue;
use peeklock_tests::http::{HttpAnswer, HttpClient};
use peeklock_tests::link::{abandoned, rejection, tokens};
use peeklock_tests::message::Message;
use peeklock_tests::{TestBroker, topics};

const SEND: &str = "/q/messages";
const HEAD: &str = "/q/messages/head";
const HEAD_NOW: &str = "/q/messages/head?timeout=0";
const BATCH: (&str, &str) = ("Content-Type", "application/vnd.microsoft.servicebus.json");

/// Places in the properties of a message (§3.2.4).
const SUBJECT: usize = 3;
const REPLY_TO: usize = 4;
const CONTENT_TYPE: usize = 6;
const GROUP_ID: usize = 10;
const REPLY_TO_GROUP_ID: usize = 12;

fn lock(client: &mut HttpClient, path: &str) -> HttpAnswer {
    client.ask("POST", path, &[], b"").expect(201)
}

fn uuid(token: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(token));
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex[range].to_owned()).join("-")
}

fn token_of(text: &str) -> [u8; 16] {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&hex, 16).expect("a uuid").to_be_bytes()
}

/// What a request says of a message is what AMQP has for it.
#[test]
fn a_message_sent_by_http_is_received_by_amqp() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    let properties = r#"{"MessageId":"m-1","Label":"l","CorrelationId":"c","SessionId":"s",
        "ReplyTo":"r","To":"t","ReplyToSessionId":"rs","PartitionKey":"s","TimeToLive":60.5,
        "DeliveryCount":7,"LockToken":"x","Unknown":{"a":[]}}"#;
    let properties = properties.replace('\n', "");
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("BrokerProperties", properties.as_str()),
        ("customer", "\"a \\\"b\\\"\""),
        ("count", "42"),
        ("large", "-3000000000"),
        ("ratio", "0.5"),
        ("urgent", "true"),
        ("bare", "text"),
        ("at", "\"Wed, 02 Jul 2014 01:32:27 GMT\""),
        ("x-ms-retrypolicy", "NoRetry"),
        ("User-Agent", "a program"),
    ];
    let answer = client.ask("POST", SEND, &headers, b"hello").expect(201);
    assert_eq!(answer.text(), "");
    let mut peer = broker.peer();
    let [message] = &peer.drain_messages("q")[..] else { panic!("one message") };
    assert_eq!(message.text(), "hello");
    assert_eq!(*message.id(), "m-1".into());
    assert_eq!((message.to(), message.correlation_id()), (&"t".into(), &"c".into()));
    for (place, text) in
        [(SUBJECT, "l"), (REPLY_TO, "r"), (GROUP_ID, "s"), (REPLY_TO_GROUP_ID, "rs")]
    {
        assert_eq!(*message.field(place), text.into());
    }
    let kind = Symbol::from_static("text/plain; charset=utf-8");
    assert_eq!(*message.field(CONTENT_TYPE), Value::Symbol(kind));
    assert_eq!(
        message.header.as_ref().and_then(|header| header.get(2)),
        Some(&Value::Uint(60_500))
    );
    assert_eq!(message.annotation("x-opt-partition-key"), Some(&"s".into()));
    let expected = [
        ("customer", Value::from("a \"b\"")),
        ("count", Value::Int(42)),
        ("large", Value::Long(-3_000_000_000)),
        ("ratio", 0.5_f64.into()),
        ("urgent", Value::Bool(true)),
        ("bare", "text".into()),
        ("at", Value::Timestamp(1_404_264_747_000)),
    ];
    for (name, value) in &expected {
        assert_eq!(message.property(name), Some(value), "{name}");
    }
    assert_eq!(message.application_properties.len(), expected.len());
    // Who sets no id gets one.
    client.ask("POST", SEND, &[], b"").expect(201);
    let [message] = &peer.drain_messages("q")[..] else { panic!("one message") };
    let id = message.id().as_str().expect("an id");
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    broker.assert_nothing_above_info_was_logged();
}

/// What AMQP has of a message is in the headers of the answer, whose `BrokerProperties` are in the order
/// of their names.
#[test]
fn a_message_sent_by_amqp_is_received_by_http() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let message = Message {
        header: Some(vec![Value::Null, Value::Null, Value::Uint(40_000)]),
        ..Message::data("h\u{e9}llo")
    };
    let message = message
        .with_id("m \u{20ac}")
        .with_session("s")
        .with_field(SUBJECT, "\"l\"".into())
        .with_field(CONTENT_TYPE, Value::Symbol(Symbol::from_static("text/plain")))
        .with_annotation("x-opt-partition-key", "s")
        .with_property("Text", "a")
        .with_property("int", 1_i32)
        .with_property("double", 5.0_f64)
        .with_property("flag", false)
        .with_property("nothing", Value::Null)
        .with_property("id", Value::Uuid([0x11; 16]))
        .with_property("content-length", 7_i32)
        .with_property("set-cookie", "a=b")
        .with_property("no header\r\nevil: 1", 1_i32);
    peer.send_messages("q", &[message]);
    let mut client = broker.http();
    let answer = lock(&mut client, HEAD);
    assert_eq!(answer.text(), "h\u{e9}llo");
    let date = |name| answer.property(name).expect(name).to_owned();
    let (enqueued, until) = (date("EnqueuedTimeUtc"), date("LockedUntilUtc"));
    let token = answer.property("LockToken").expect("a token").trim_matches('"').to_owned();
    let expected = format!(
        "{{\"DeliveryCount\":1,\"EnqueuedSequenceNumber\":1,\"EnqueuedTimeUtc\":{enqueued},\
         \"Label\":\"\\\"l\\\"\",\"LockToken\":\"{token}\",\"LockedUntilUtc\":{until},\
         \"MessageId\":\"m \\u20ac\",\"PartitionKey\":\"s\",\"SequenceNumber\":1,\
         \"SessionId\":\"s\",\"State\":\"Active\",\"TimeToLive\":40}}"
    );
    assert_eq!(answer.header("brokerproperties"), Some(expected.as_str()));
    assert!(enqueued.ends_with(" GMT\"") && until.ends_with(" GMT\""), "{enqueued} {until}");
    assert_ne!(enqueued, until);
    let location = format!("http://{}/q/messages/1/{token}", broker.address());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    for (name, value) in [
        ("content-type", "text/plain"),
        ("text", "\"a\""),
        ("int", "1"),
        ("double", "5.0"),
        ("flag", "false"),
        ("nothing", "null"),
        ("id", "\"11111111-1111-1111-1111-111111111111\""),
        ("content-length", "6"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    for name in ["set-cookie", "evil"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    client.ask("DELETE", &answer.lock(), &[], b"").expect(200);
    // Neither an id nor a type, and a body that is a value.
    peer.send_messages("q", &[Message::value("text"), Message::value(Value::Int(7))]);
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!(answer.text(), "text");
    assert_eq!(answer.header("content-type"), Some("application/xml; charset=utf-8"));
    assert_eq!(answer.property("MessageId"), Some("\"\""));
    assert_eq!(answer.property("TimeToLive"), Some("922337203685.47754"));
    assert_eq!((answer.property("LockToken"), answer.header("location")), (None, None));
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!(answer.body, [0x00, 0x53, 0x77, 0x54, 7]);
    broker.assert_nothing_above_info_was_logged();
}

/// Peek-lock answers 201 and where to settle; what is settled is settled once.
#[test]
fn a_lock_is_completed_unlocked_and_renewed() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut client = broker.http();
    client.ask("POST", SEND, &[("BrokerProperties", r#"{"MessageId":"a/b"}"#)], b"1").expect(201);
    let first = lock(&mut client, HEAD);
    assert_eq!(first.property("DeliveryCount"), Some("1"));
    client.ask("POST", HEAD_NOW, &[], b"").expect(204);
    client.ask("PUT", &first.lock(), &[], b"").expect(200);
    let second = lock(&mut client, HEAD);
    assert_eq!(second.property("DeliveryCount"), Some("2"));
    assert_ne!(first.property("LockToken"), second.property("LockToken"));
    for method in ["PUT", "POST", "DELETE"] {
        let answer = client.ask(method, &first.lock(), &[], b"").expect(404);
        assert!(answer.text().contains("SubCode=40400. The lock supplied is invalid."));
    }
    // A lock of a minute, renewed after forty seconds, is there after eighty.
    clock.advance(Duration::from_secs(40));
    client.ask("POST", &second.lock(), &[], b"").expect(200);
    clock.advance(Duration::from_secs(40));
    // By message id instead of the sequence number.
    let token = second.property("LockToken").expect("a token").trim_matches('"');
    client.ask("DELETE", &format!("/q/messages/a%2Fb/{token}"), &[], b"").expect(200);
    client.ask("DELETE", &second.lock(), &[], b"").expect(404);
    assert_eq!(broker.peer().drain_texts("q"), [""; 0]);
    client.ask("POST", SEND, &[], b"2").expect(201);
    let lost = lock(&mut client, HEAD);
    clock.advance(Duration::from_mins(1));
    client.ask("DELETE", &lost.lock(), &[], b"").expect(404);
    let again = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!((again.text(), again.property("DeliveryCount")), ("2", Some("2")));
    broker.assert_nothing_above_info_was_logged();
}

/// A lock is nobody's: whoever has its token settles it, by the one door or by the other.
#[test]
fn locks_taken_at_one_door_are_settled_at_the_other() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    let mut peer = broker.peer();
    peer.send_texts("q", &["1", "2", "3"]);
    let mut management = peer.open_management("q");
    let mut update = |answer: &HttpAnswer, status: &str| {
        let token = answer.property("LockToken").expect("a token").trim_matches('"').to_owned();
        let body = Map::new()
            .with("disposition-status", status)
            .with("lock-tokens", tokens(&[token_of(&token)]));
        peer.manage(&mut management, "com.microsoft:update-disposition", body).status
    };
    let answer = lock(&mut client, HEAD);
    assert_eq!(update(&answer, "completed"), 200);
    client.ask("DELETE", &answer.lock(), &[], b"").expect(404);
    let answer = lock(&mut client, HEAD);
    assert_eq!(update(&answer, "suspended"), 200);
    let answer = client.ask("DELETE", "/q/$DeadLetterQueue/messages/head", &[], b"").expect(200);
    assert_eq!(answer.text(), "2");
    let mut link = peer.attach_receiver("q");
    let received = peer.receive_one(&mut link);
    let path = format!("/q/messages/3/{}", uuid(received.message().lock_token()));
    client.ask("POST", &path, &[], b"").expect(200);
    client.ask("DELETE", &path, &[], b"").expect(200);
    let answer = peer.settle(&received, DeliveryState::Accepted);
    rejection(answer, condition::MESSAGE_LOCK_LOST);
    peer.send_texts("q", &["4"]);
    let received = peer.receive_one(&mut link);
    let path = format!("/q/messages/4/{}", uuid(received.message().lock_token()));
    client.ask("PUT", &path, &[], b"").expect(200);
    rejection(peer.settle(&received, abandoned()), condition::MESSAGE_LOCK_LOST);
    let again = peer.receive_one(&mut link);
    assert_eq!(again.message().delivery_count(), 1);
    broker.assert_nothing_above_info_was_logged();
}

/// A batch is taken whole or not at all; each message has its own properties.
#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    let batch = r#"[
        {"Body":"one","BrokerProperties":{"Label":"M1","TimeToLiveTimeSpan":"0.00:00:40"}},
        {"Body":"two","UserProperties":{"Priority":"Low","Count":7,"Ratio":1.5,"Done":true}},
        {"Body":"three \u00e9","BrokerProperties":{"MessageId":"m-3"},"UserProperties":{}}]"#;
    client.ask("POST", SEND, &[BATCH], batch.as_bytes()).expect(201);
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!((answer.text(), answer.property("Label")), ("one", Some("\"M1\"")));
    assert_eq!(answer.property("TimeToLive"), Some("40"));
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    for (name, value) in
        [("priority", "\"Low\""), ("count", "7"), ("ratio", "1.5"), ("done", "true")]
    {
        assert_eq!(answer.header(name), Some(value));
    }
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!((answer.text(), answer.property("MessageId")), ("three \u{e9}", Some("\"m-3\"")));
    let good = r#"{"Body":"good"}"#;
    let long = "i".repeat(129);
    for bad in [
        r#"{"Body":7}"#.to_owned(),
        r#"{"BrokerProperties":{"TimeToLive":0}}"#.to_owned(),
        r#"{"BrokerProperties":{"TimeToLive":"soon"}}"#.to_owned(),
        r#"{"BrokerProperties":{"ScheduledEnqueueTimeUtc":"soon"}}"#.to_owned(),
        r#"{"BrokerProperties":{"SessionId":"a","PartitionKey":"b"}}"#.to_owned(),
        format!(r#"{{"BrokerProperties":{{"MessageId":"{long}"}}}}"#),
        r#"{"UserProperties":{"a":[]}}"#.to_owned(),
        r#"{"UserProperties":7}"#.to_owned(),
        "7".to_owned(),
        "{".to_owned(),
    ] {
        let batch = format!("[{good},{bad}]");
        let answer = client.ask("POST", SEND, &[BATCH], batch.as_bytes()).expect(400);
        assert!(answer.text().contains("SubCode=40000"), "{}", answer.text());
    }
    let many = vec![good; 4097].join(",");
    for batch in ["[]".to_owned(), "{}".to_owned(), String::new(), format!("[{many}]")] {
        client.ask("POST", SEND, &[BATCH], batch.as_bytes()).expect(400);
    }
    // As JSON, not as a batch.
    let json = [("Content-Type", "application/json")];
    client.ask("POST", SEND, &json, b"[{\"Body\":\"x\"}]").expect(201);
    assert_eq!(broker.peer().drain_texts("q"), ["[{\"Body\":\"x\"}]"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Who waits gets what comes meanwhile, and the time is over when it is over.
#[test]
fn a_request_waits_for_a_message() {
    let broker = TestBroker::start();
    let (mut client, mut other) = (broker.http(), broker.http());
    client.ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
    client.ask("DELETE", "/q/messages/head?api-version=2015-01&TIMEOUT=0", &[], b"").expect(204);
    for wrong in ["-1", "x", "1.5", ""] {
        client.ask("POST", &format!("/q/messages/head?timeout={wrong}"), &[], b"").expect(400);
    }
    client.start("POST", HEAD, &[], b"");
    other.ask("POST", SEND, &[], b"1").expect(201);
    let answer = client.answer().expect(201);
    assert_eq!(answer.text(), "1");
    client.start("DELETE", HEAD, &[], b"");
    other.ask("PUT", &answer.lock(), &[], b"").expect(200);
    assert_eq!(client.answer().expect(200).text(), "1");
    other.ask("DELETE", HEAD_NOW, &[], b"").expect(204);
}

/// A peer that goes away while it waits takes nothing with it.
#[test]
fn who_goes_away_while_waiting_takes_nothing() {
    let broker = TestBroker::start();
    let mut sender = broker.http();
    for method in ["POST", "DELETE"] {
        let waiting: Vec<HttpClient> = (0..20)
            .map(|_| {
                let mut client = broker.http();
                client.start(method, HEAD, &[], b"");
                client
            })
            .collect();
        // All of them wait once this, which came later, was served.
        sender.ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
        drop(waiting);
        let texts: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        for text in &texts {
            sender.ask("POST", SEND, &[], text.as_bytes()).expect(201);
        }
        let mut found: Vec<String> = Vec::new();
        while found.len() < texts.len() {
            let answer = sender.ask("DELETE", HEAD, &[], b"").expect(200);
            assert_eq!(answer.property("DeliveryCount"), Some("1"));
            found.push(answer.text().to_owned());
        }
        found.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        assert_eq!(found, texts);
    }
    broker.assert_nothing_above_info_was_logged();
}

/// Topics are sent to, subscriptions and dead-letter queues received from.
#[test]
fn topics_subscriptions_and_dead_letters() {
    let broker = TestBroker::with().topic("t", "").subscription("s", "").queue("q", "").start();
    let mut client = broker.http();
    client.ask("POST", "/T/messages", &[("kind", "\"a\"")], b"1").expect(201);
    client.ask("POST", "/t/messages", &[], b"2").expect(201);
    let head = "/t/Subscriptions/s/messages/head";
    let answer = lock(&mut client, head);
    assert_eq!((answer.text(), answer.header("kind")), ("1", Some("\"a\"")));
    client.ask("DELETE", &answer.lock(), &[], b"").expect(200);
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver(&topics::of("s"));
    let received = peer.receive_one(&mut link);
    peer.settle(&received, DeliveryState::Rejected(None));
    let dead = "/t/subscriptions/s/$DeadLetterQueue/messages/head";
    let answer = lock(&mut client, dead);
    assert_eq!(answer.text(), "2");
    client.ask("DELETE", &answer.lock(), &[], b"").expect(200);
    client.ask("POST", "/t/messages/head?timeout=0", &[], b"").expect(404);
    client.ask("POST", "/t/subscriptions/s/messages", &[], b"").expect(400);
    client.ask("POST", "/q/$DeadLetterQueue/messages", &[], b"").expect(400);
    broker.assert_nothing_above_info_was_logged();
}

/// Times are kept: scheduled messages come when they are due, and expire when theirs is over.
#[test]
fn schedules_and_lifetimes() {
    let broker = TestBroker::with().queue("q", "").virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut client = broker.http();
    // The first moment of 2100, in two spellings.
    for at in ["Fri, 01 Jan 2100 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 +0000"] {
        let properties = format!("{{\"ScheduledEnqueueTimeUtc\":\"{at}\",\"TimeToLive\":30}}");
        client.ask("POST", SEND, &[("BrokerProperties", &properties)], b"later").expect(201);
    }
    client
        .ask("POST", SEND, &[("BrokerProperties", r#"{"TimeToLive":"0.5"}"#)], b"now")
        .expect(201);
    clock.advance(Duration::from_secs(1));
    client.ask("POST", HEAD_NOW, &[], b"").expect(204);
    let now = clock.read().time;
    let left = 4_102_444_800_000 - now;
    clock.advance(Duration::from_millis(u64::try_from(left).expect("it is not 2100 yet")));
    let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
    assert_eq!(answer.text(), "later");
    let at = Some("\"Fri, 01 Jan 2100 00:00:00 GMT\"");
    assert_eq!(answer.property("ScheduledEnqueueTimeUtc"), at);
    assert_eq!(answer.property("EnqueuedTimeUtc"), at);
    assert_eq!(answer.property("TimeToLive"), Some("30"));
    clock.advance(Duration::from_secs(30));
    client.ask("POST", HEAD_NOW, &[], b"").expect(204);
}

/// HTTP has no receiver of a session. It sends to one.
#[test]
fn sessions_are_sent_to_and_not_received() {
    let broker = TestBroker::with().queue("q", "requires_session = true").start();
    let mut client = broker.http();
    let answer = client.ask("POST", SEND, &[], b"").expect(400);
    assert!(answer.text().contains("SessionId was not set"), "{}", answer.text());
    client.ask("POST", SEND, &[("BrokerProperties", r#"{"SessionId":"s"}"#)], b"1").expect(201);
    let answer = client.ask("POST", HEAD_NOW, &[], b"").expect(400);
    assert!(answer.text().contains("non-sessionful message receiver"), "{}", answer.text());
    client.ask("DELETE", HEAD_NOW, &[], b"").expect(400);
}

/// What cannot be done is answered with the status that clients of the service know.
#[test]
fn refusals_have_the_statuses_of_the_service() {
    let broker = TestBroker::with()
        .queue("q", "max_message_size = \"400KiB\"\nmax_size = \"1MiB\"")
        .queue("off", "status = \"disabled\"")
        .queue("away", "forward_to = \"q\"")
        .start();
    let mut client = broker.http();
    let token = "7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547";
    let missing = format!("/missing/messages/1/{token}");
    for (method, path, status) in [
        ("POST", "/missing/messages", 404),
        ("POST", "/missing/messages/head", 404),
        ("DELETE", "/missing/messages/head", 404),
        ("DELETE", &missing, 404),
        ("POST", "/q/$management/messages", 404),
        ("POST", "/messages/messages/head", 404),
        ("POST", "/off/messages", 403),
        ("POST", "/off/messages/head", 403),
        ("POST", "/away/messages/head", 400),
        ("POST", "/q/messages/head/more", 405),
    ] {
        let answer = client.ask(method, path, &[], b"").expect(status);
        assert_eq!(answer.header("content-type"), Some("application/xml; charset=utf-8"));
        let code = format!("<Error><Code>{status}</Code><Detail>");
        assert!(answer.text().starts_with(&code), "{}", answer.text());
    }
    let large = vec![b'x'; 409_601];
    let answer = client.ask("POST", SEND, &[], &large).expect(403);
    assert!(answer.text().contains("SubCode=40300"), "{}", answer.text());
    // Headers count, too.
    let mut client = broker.http();
    let answer = client.ask("POST", SEND, &[], &large[2..]).expect(403);
    assert!(answer.text().contains("exceeds the limit of 409600 bytes"), "{}", answer.text());
    client.ask("POST", SEND, &[], &large[..400_000]).expect(201);
    client.ask("POST", SEND, &[], &large[..400_000]).expect(201);
    let answer = client.ask("POST", SEND, &[], &large[..400_000]).expect(403);
    assert!(answer.text().contains("maximum entity size"), "{}", answer.text());
    for bad in ["{", "[]", "7", r#"{"Label":{}}"#, &"[".repeat(10_000)] {
        client.ask("POST", SEND, &[("BrokerProperties", bad)], b"").expect(400);
    }
    broker.assert_nothing_above_info_was_logged();
}

/// An entity that is deleted while a request waits at it is gone.
#[test]
fn who_waits_at_an_entity_that_is_deleted_hears_of_it() {
    let broker = TestBroker::start();
    let (mut client, mut other) = (broker.http(), broker.http());
    client.start("POST", HEAD, &[], b"");
    // It waits once this, which came later, was served.
    other.ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
    other.ask("DELETE", "/q", &[], b"").expect(200);
    let answer = client.answer().expect(410);
    assert!(answer.text().contains("SubCode=41000"), "{}", answer.text());
    client.ask("POST", HEAD, &[], b"").expect(404);
    client.ask("POST", SEND, &[], b"").expect(404);
}

/// A broker that stops does not wait for those who wait.
#[test]
fn a_broker_that_stops_tells_those_who_wait() {
    let mut broker = TestBroker::start();
    let (mut client, mut other) = (broker.http(), broker.http());
    client.start("POST", HEAD, &[], b"");
    other.ask("POST", "/q/messages/head?timeout=1", &[], b"").expect(204);
    broker.ask_to_stop();
    let answer = client.answer().expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(broker.wait().success());
}

/// Each thing that can be done needs its right, on its entity.
#[test]
fn every_request_needs_its_right() {
    let broker = TestBroker::with()
        .queue("q", "")
        .queue("other", "")
        .rule("sender", "one", "[\"send\"]")
        .rule("listener", "two", "[\"listen\"]")
        .start();
    let lock = "/q/messages/1/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547";
    let sends = [("POST", SEND, 201)];
    let listens = [
        ("DELETE", HEAD_NOW, 200),
        ("POST", HEAD_NOW, 204),
        ("DELETE", lock, 404),
        ("PUT", lock, 404),
        ("POST", lock, 404),
    ];
    let client = |rule: &str, key: &str, path: &str| {
        HttpClient::connect(broker.address()).rule(rule, key, path)
    };
    let mut sender = client("sender", "one", "");
    let mut listener = client("listener", "two", "q");
    let mut elsewhere = client("listener", "two", "other");
    let mut unknown = client("nobody", "two", "");
    let mut wrong = client("sender", "two", "");
    let mut nobody = HttpClient::connect(broker.address());
    for (method, path, status) in sends {
        sender.ask(method, path, &[], b"").expect(status);
        listener.ask(method, path, &[], b"").expect(401);
    }
    for (method, path, status) in listens {
        let answer = sender.ask(method, path, &[], b"").expect(401);
        assert!(answer.text().contains("'Listen' claim(s) are required"), "{}", answer.text());
        listener.ask(method, path, &[], b"").expect(status);
    }
    for (method, path, _) in sends.into_iter().chain(listens) {
        for client in [&mut elsewhere, &mut unknown, &mut wrong, &mut nobody] {
            client.ask(method, path, &[], b"").expect(401);
        }
    }
    // A token for just this request, as some clients sign it.
    let mut exact = client("listener", "two", "Q/messages/head?timeout=0");
    exact.ask("POST", HEAD_NOW, &[], b"").expect(204);
    exact.ask("DELETE", lock, &[], b"").expect(401);
    // Who may not look does not learn what there is.
    elsewhere.ask("POST", "/missing/messages/head", &[], b"").expect(401);
}

/// An address goes on behind the name of its entity. Whoever owns what is called like that has no right to
/// the entity.
#[test]
fn a_right_is_to_the_entity_and_not_to_the_address() {
    let broker = TestBroker::with().queue("eu", "").start();
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let rule = [("own", key, "Send Listen")];
    assert_eq!(create_queue(&broker, "eu/messages", &rule), 201);
    let mut client = HttpClient::connect(broker.address()).rule("own", key, "eu/messages");
    client.ask("POST", "/eu/messages", &[], b"x").expect(401);
    client.ask("DELETE", "/eu/messages/head?timeout=0", &[], b"").expect(401);
    client.ask("POST", "/eu/messages/messages", &[], b"x").expect(201);
    client.ask("DELETE", "/eu/messages/messages/head?timeout=0", &[], b"").expect(200);
}

/// Behind a proxy that has done TLS the lock is where the peer finds it.
#[test]
fn a_lock_is_where_the_peer_came_from() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    client.ask("POST", SEND, &[], b"").expect(201);
    let headers = [("X-Forwarded-Proto", "https")];
    let answer = client.ask("POST", HEAD, &headers, b"").expect(201);
    let location = answer.header("location").expect("a location");
    assert!(
        location.starts_with(&format!("https://{}/q/messages/1/", broker.address())),
        "{location}"
    );
}

/// Any type of content is taken and given back, none of them refused.
#[test]
fn any_type_of_content_is_kept() {
    let broker = TestBroker::start();
    let mut client = broker.http();
    for kind in [
        "application/atom+xml;type=entry;charset=utf-8",
        "application/json",
        "text/html",
        "application/x-www-form-urlencoded",
        "no type at all",
    ] {
        client.ask("POST", SEND, &[("Content-Type", kind)], b"<b>&</b>").expect(201);
        let answer = client.ask("DELETE", HEAD, &[], b"").expect(200);
        assert_eq!((answer.header("content-type"), answer.text()), (Some(kind), "<b>&</b>"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}
