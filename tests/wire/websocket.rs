//! AMQP over WebSockets: the handshakes that clients make, and what nobody should get away with.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use peeklock_tests::{TestBroker, raw};

use super::tls;
use super::tunnel::{Tls, over_websocket};

/// Far longer than any answer takes, so that a broker that hangs fails a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Octets of the head of a frame (RFC 6455 §5.2).
const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | u8::try_from(len).expect("a short frame")),
        len => {
            out.push(0x80 | 0x7e);
            out.extend(u16::try_from(len).expect("a frame of some size").to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    out
}

/// A client that writes its own frames.
struct Client(TcpStream);

impl Client {
    /// Asks, and gives the head of the answer.
    fn ask(broker: &TestBroker, path: &str, headers: &str) -> (Self, String) {
        let stream = TcpStream::connect(broker.address()).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
        let mut client = Self(stream);
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        client.write(request.as_bytes());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(client.read::<1>());
        }
        (client, String::from_utf8(head).expect("text").to_lowercase())
    }

    fn open(broker: &TestBroker) -> Self {
        let (client, head) = Self::ask(broker, "/$servicebus/websocket", &upgrade("amqp"));
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        client
    }

    fn write(&mut self, octets: &[u8]) {
        self.0.write_all(octets).expect("the broker reads");
    }

    fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.0.read_exact(&mut octets).expect("the broker answers");
        octets
    }

    /// The next frame of the broker: its first octet, and its payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let [first, len] = self.read();
        assert_eq!(len & 0x80, 0, "a broker does not mask");
        let len = match len {
            126 => u64::from(u16::from_be_bytes(self.read())),
            127 => u64::from_be_bytes(self.read()),
            len => u64::from(len),
        };
        let mut payload = vec![0; usize::try_from(len).expect("a size")];
        self.0.read_exact(&mut payload).expect("the rest of a frame");
        (first, payload)
    }

    /// The broker answers the header of SASL with its own, and the mechanisms.
    fn expect_sasl(&mut self) {
        let mut heard = Vec::new();
        while heard.len() < raw::SASL.len() {
            let (first, payload) = self.frame();
            assert_eq!(first, FINAL | BINARY);
            heard.extend(payload);
        }
        assert!(heard.starts_with(raw::SASL), "{heard:?}");
    }

    /// The broker closes for this reason, and goes.
    #[track_caller]
    fn expect_close(mut self, code: u16) {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the broker does not close");
        }
        let [high, low] = code.to_be_bytes();
        assert!(rest.ends_with(&[FINAL | CLOSE, 2, high, low]), "{rest:?}");
    }

    /// The broker goes without another word of AMQP.
    #[track_caller]
    fn expect_end(mut self) {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the broker does not close");
        }
        assert!(!rest.windows(4).any(|octets| octets == b"AMQP"), "{rest:?}");
    }
}

fn upgrade(protocol: &str) -> String {
    let basic = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    if protocol.is_empty() {
        return basic.to_owned();
    }
    format!("{basic}Sec-WebSocket-Protocol: {protocol}\r\n")
}

/// JavaScript and Python end the path without a slash and say `AMQPWSB10`; .NET and Rust end it with one,
/// say `amqp`, and want to hear it.
#[test]
fn each_client_finds_its_path_and_hears_its_subprotocol() {
    let broker = TestBroker::start();
    for path in ["/$servicebus/websocket", "/%24servicebus/websocket"] {
        for slash in ["", "/"] {
            for protocol in ["AMQPWSB10", "amqp", ""] {
                let path = format!("{path}{slash}");
                let (mut client, head) = Client::ask(&broker, &path, &upgrade(protocol));
                assert!(head.starts_with("http/1.1 101 "), "{path} {protocol}: {head}");
                assert!(
                    head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
                    "{head}"
                );
                let said = format!("sec-websocket-protocol: {}\r\n", protocol.to_lowercase());
                assert_eq!(head.contains(&said), !protocol.is_empty(), "{head}");
                client.write(&frame(FINAL | BINARY, raw::SASL));
                client.expect_sasl();
            }
        }
    }
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_peer_does_its_work_through_a_websocket() {
    let dir = tempfile::tempdir().expect("a folder");
    tls::certificates(dir.path(), &[]);
    let broker = tls::setup(dir.path()).start();
    for tls in [None, Some(Tls::trusting(dir.path()))] {
        let mut peer = over_websocket(broker.address(), tls)
            .plain("RootManageSharedAccessKey", "SAS_KEY_VALUE")
            .open()
            .begin();
        let large: Vec<String> = (0..8).map(|n| n.to_string().repeat(900_000)).collect();
        let mut texts: Vec<&str> = large.iter().map(String::as_str).collect();
        texts.push("small");
        peer.send_texts("q", &texts);
        assert!(peer.drain_texts("q") == texts, "what came back is not what was sent");
        peer.close();
    }
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn what_is_no_handshake_is_refused() {
    let broker = TestBroker::start();
    let path = "/$servicebus/websocket";
    let status = |headers: &str| {
        let (_, head) = Client::ask(&broker, path, headers);
        head.split_whitespace().nth(1).map(str::to_owned).expect("a status")
    };
    assert_eq!(status(""), "426");
    assert_eq!(status(&upgrade("mqtt")), "400");
    assert_eq!(status(&upgrade("").replace("13", "8")), "426");
    assert_eq!(status(&upgrade("").replace("dGhl", "")), "400");
    assert_eq!(status(&format!("{}Origin: https://evil.example\r\n", upgrade("amqp"))), "403");
    assert_eq!(status(&format!("{}Origin: null\r\n", upgrade("amqp"))), "403");
    assert_eq!(status(&format!("{}Origin: http://localhost\r\n", upgrade("amqp"))), "101");
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_configured_page_may_connect() {
    let broker = TestBroker::with()
        .queue("q", "")
        .config("[http]\nallowed_origins = [\"https://tool.example\"]")
        .start();
    let headers = format!("{}Origin: https://tool.example\r\n", upgrade("amqp"));
    let (_, head) = Client::ask(&broker, "/$servicebus/websocket", &headers);
    assert!(head.starts_with("http/1.1 101 "), "{head}");
}

/// A compressed message could be a thousand times as large as what came: it is never agreed on, and who
/// sends one all the same is cut off.
#[test]
fn compression_is_never_agreed_on() {
    let broker = TestBroker::start();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let headers = format!("{}{offer}", upgrade("amqp"));
    let (mut client, head) = Client::ask(&broker, "/$servicebus/websocket", &headers);
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("extensions"), "{head}");
    client.write(&frame(FINAL | COMPRESSED | BINARY, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
    client.expect_close(1002);
    broker.assert_nothing_above_info_was_logged();
}

/// AMQP is a stream: it does not matter where a message ends, nor a fragment.
#[test]
fn borders_of_messages_and_fragments_mean_nothing() {
    let broker = TestBroker::start();
    let mut client = Client::open(&broker);
    for octet in raw::SASL {
        client.write(&frame(FINAL | BINARY, &[*octet]));
        client.write(&frame(FINAL | BINARY, &[]));
    }
    client.expect_sasl();

    let mut client = Client::open(&broker);
    let [first, middle @ .., last] = raw::SASL;
    client.write(&frame(BINARY, &[*first]));
    for octet in middle {
        client.write(&frame(CONTINUATION, &[*octet]));
    }
    client.write(&frame(FINAL | PING, b"are you there"));
    assert_eq!(client.frame(), (FINAL | PONG, b"are you there".to_vec()));
    client.write(&frame(FINAL | CONTINUATION, &[*last]));
    client.expect_sasl();
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn text_is_refused() {
    let broker = TestBroker::start();
    let mut client = Client::open(&broker);
    client.write(&frame(FINAL | TEXT, b"AMQP"));
    client.expect_close(1003);
    broker.assert_nothing_above_info_was_logged();
}

/// RFC 6455 §5.1: a server must not take a frame that is not masked.
#[test]
fn what_breaks_the_framing_is_cut_off() {
    let broker = TestBroker::start();
    let unmasked = [&[FINAL | BINARY, 8][..], raw::SASL].concat();
    let unknown = frame(FINAL | 0x03, raw::SASL);
    let stray = frame(FINAL | CONTINUATION, raw::SASL);
    let large_ping = frame(FINAL | PING, &[0; 126]);
    let split_ping = frame(PING, b"p");
    for octets in [unmasked, unknown, stray, large_ping, split_ping] {
        let mut client = Client::open(&broker);
        client.write(&octets);
        client.expect_end();
    }
    broker.assert_nothing_above_info_was_logged();
}

/// The size that a frame promises is looked at before anything is set aside for it; so is the sum of
/// fragments.
#[test]
fn a_message_that_is_too_large_is_cut_off_before_it_is_kept() {
    let broker = TestBroker::start();
    let before = broker.resident_bytes();
    for len in [1_u64 << 63, u64::MAX, 1 << 62, 1 << 32, 2 * 1024 * 1024] {
        let mut client = Client::open(&broker);
        let head = [&[FINAL | BINARY, 0xff][..], &len.to_be_bytes(), &MASK].concat();
        client.write(&head);
        client.expect_end();
    }
    let mut client = Client::open(&broker);
    let piece = frame(CONTINUATION, &vec![0; 60_000]);
    client.write(&frame(BINARY, raw::SASL));
    let written = (0..2000).take_while(|_| client.0.write_all(&piece).is_ok()).count();
    assert!(written < 2000, "fragments without end are taken");
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes");
    drop(broker.peer());
    broker.assert_nothing_above_info_was_logged();
}

/// A thousand pings of a client that reads nothing leave one pong, not a thousand.
#[test]
fn a_flood_of_pings_is_bounded() {
    let broker = TestBroker::start();
    let mut client = Client::open(&broker);
    let before = broker.resident_bytes();
    let pings = frame(FINAL | PING, &[7; 125]).repeat(1000);
    client.0.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    // The broker need not read on while its answers are not taken.
    let _ = (0..200).try_for_each(|_| client.0.write_all(&pings));
    let mut peer = broker.peer();
    peer.send_texts("q", &["served"]);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes");
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_close_is_answered() {
    let broker = TestBroker::start();
    let mut client = Client::open(&broker);
    client.write(&frame(FINAL | BINARY, raw::SASL));
    client.expect_sasl();
    client.write(&frame(FINAL | CLOSE, &[0x03, 0xe8]));
    client.expect_close(1000);
    broker.assert_nothing_above_info_was_logged();
}

/// A handshake that is done does not start the clock of AMQP anew for ever.
#[test]
fn a_websocket_without_amqp_is_cut_off() {
    let broker =
        TestBroker::with().queue("q", "").config("[limits]\nhandshake_timeout = \"1s\"").start();
    Client::open(&broker).expect_end();
    let mut client = Client::open(&broker);
    client.write(&frame(FINAL | BINARY, b"AMQ"));
    client.expect_end();
    broker.assert_nothing_above_info_was_logged();
}

/// The limit counts connections, whatever door they came by.
#[test]
fn every_door_counts_against_the_same_limit() {
    let broker = TestBroker::with().queue("q", "").config("[limits]\nconnections = 1").start();
    let held = Client::open(&broker);
    let (_, head) = Client::ask(&broker, "/$servicebus/websocket", &upgrade("amqp"));
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    let (_, head) = Client::ask(&broker, "/healthz", "");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    let mut refused = broker.connect().anonymous().open();
    refused.expect_close("amqp:resource-limit-exceeded");
    drop(held);
}
