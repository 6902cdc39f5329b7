//! From where peers may connect. This machine has as many addresses as 127.0.0.0/8 holds.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use peeklock_tests::{TestBroker, raw};
use tokio::net::TcpSocket;

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A connection whose own end has this address.
#[tokio::main(flavor = "current_thread")]
async fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(from), 0).into()).expect("an address of this machine");
    let stream =
        socket.connect(to).await.expect("the broker listens").into_std().expect("a stream");
    stream.set_nonblocking(false).expect("a blocking stream");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    stream
}

/// What is heard before the broker hangs up, having been told something or nothing.
fn heard_from(from: [u8; 4], to: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = connect_from(from, to);
    // The broker may have hung up already.
    let _ = stream.write_all(words);
    let mut heard = [0; 12];
    let count = match stream.read(&mut heard) {
        Ok(count) => count,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    };
    heard.get(..count).unwrap_or_default().to_vec()
}

/// The peer's own address decides: all connect to the same one of the broker's. Who is cut off need not
/// say a word for that.
#[test]
fn peers_from_elsewhere_are_cut_off_unheard() {
    let networks = "allowed_networks = [\"127.0.0.1\", \"127.0.2.0/24\", \"::1\"]";
    let broker = TestBroker::with().config(networks).queue("q", "").start();
    let address = broker.address();
    for allowed in [[127, 0, 0, 1], [127, 0, 2, 0], [127, 0, 2, 255]] {
        assert_eq!(heard_from(allowed, address, raw::SASL).get(..8), Some(&raw::SASL[..]));
        assert_eq!(heard_from(allowed, address, HEALTH), b"HTTP/1.1 200");
    }
    for refused in [[127, 0, 0, 2], [127, 0, 1, 255], [127, 0, 3, 0], [127, 1, 2, 3]] {
        for words in [&b""[..], raw::SASL, raw::AMQP, HEALTH, b"\x16\x03\x01"] {
            assert_eq!(heard_from(refused, address, words), b"", "{refused:?}");
        }
    }
    broker.peer().send_texts("q", &["from an allowed network"]);
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn peers_from_everywhere_are_heard_by_default() {
    let broker = TestBroker::start();
    let heard = heard_from([127, 9, 9, 9], broker.address(), HEALTH);
    assert_eq!(heard, b"HTTP/1.1 200");
}
