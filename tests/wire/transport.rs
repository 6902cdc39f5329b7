//! What a port serves beside plain AMQP, told apart by the first byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use peeklock_tests::{TestBroker, raw};

/// Far longer than any answer takes, so that a broker that hangs fails a test.
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(broker: &TestBroker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    stream
}

/// Says something and reads until the broker closes.
fn say(broker: &TestBroker, words: &[u8]) -> Vec<u8> {
    let mut stream = connect(broker);
    stream.write_all(words).expect("the broker reads");
    let mut heard = Vec::new();
    // A reset is a way to close as well: what was not read is lost on purpose.
    let _ = stream.read_to_end(&mut heard);
    heard
}

fn get(broker: &TestBroker, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8(say(broker, request.as_bytes())).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn health_is_told_on_the_port_of_amqp() {
    let broker = TestBroker::start();
    let healthy = r#"{"status":"healthy","message":"Service is healthy."}"#;
    assert_eq!(get(&broker, "/health"), ("HTTP/1.1 200 OK".to_owned(), healthy.to_owned()));
    assert_eq!(get(&broker, "/healthz"), ("HTTP/1.1 200 OK".to_owned(), "alive\n".to_owned()));
    assert_eq!(get(&broker, "/readyz"), ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned()));
    drop(broker.peer());
    broker.assert_nothing_above_info_was_logged();
}

/// A connection is kept for further requests, and several may be sent at once.
#[test]
fn requests_follow_one_another_on_a_connection() {
    let broker = TestBroker::start();
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let heard = say(&broker, format!("{one}{one}{last}").as_bytes());
    let heard = String::from_utf8(heard).expect("text");
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 3, "{heard}");
    assert!(heard.ends_with("ready\n"), "{heard}");
}

/// What is neither HTTP nor TLS is answered in AMQP (§2.2): the header that we would have liked.
#[test]
fn garbage_is_answered_with_a_protocol_header() {
    let broker = TestBroker::start();
    for garbage in [
        &b"get / http\r\n\r\n"[..],
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(say(&broker, garbage), raw::SASL, "{garbage:?}");
    }
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn what_only_begins_like_http_is_refused() {
    let broker = TestBroker::start();
    for words in ["GARBAGE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let heard = say(&broker, words.as_bytes());
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 400"), "{words:?}: {heard:?}");
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A head that does not end, a head that is too long, a body that does not come: none holds a
/// connection for long, nor makes it grow.
#[test]
fn a_request_that_does_not_end_is_cut_off() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nhandshake_timeout = \"1s\"").start();
    for beginning in ["G", "GET /health HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let heard = say(&broker, beginning.as_bytes());
        assert!(!heard.starts_with(b"HTTP/1.1 2"), "{heard:?}");
    }
    let long = format!("GET /health HTTP/1.1\r\nX: {}", "a".repeat(1024 * 1024));
    let mut stream = connect(&broker);
    // The broker may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 431"), "{heard:?}");
    drop(broker.peer());
    broker.assert_nothing_above_info_was_logged();
}
