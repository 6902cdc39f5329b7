//! TLS on the ports of everything else: who gets in, with what, and new certificates.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use peeklock_tests::broker::{Setup, binary};
use peeklock_tests::{TestBroker, raw};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::version;

use super::tunnel::{Tls, over_tls};

/// Far longer than any answer takes, so that a broker that hangs fails a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Certificates as `peeklock cert` makes them.
pub(crate) fn certificates(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(binary())
        .args(["cert", "--dir"])
        .arg(dir)
        .args(arguments)
        .output()
        .expect("peeklock cert runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

pub(crate) fn setup(dir: &Path) -> Setup {
    TestBroker::with()
        .queue("q", "")
        .argument("--tls-certificate")
        .argument(dir.join("server.pem"))
        .argument("--tls-key")
        .argument(dir.join("server.key"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::main(flavor = "current_thread")]
async fn exchange(address: SocketAddr, tls: Tls, words: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = tls.connect(address).await?;
    stream.write_all(words).await?;
    let mut heard = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
    match read.expect("the broker closes") {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Ok(_) | Err(_) => Ok(heard),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn leaf(address: SocketAddr, tls: Tls) -> Vec<u8> {
    let stream = tls.connect(address).await.expect("TLS");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a certificate").first().expect("a leaf").to_vec()
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn one_port_serves_amqp_and_http_with_and_without_tls() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let broker = setup(dir.path()).start();
    for version in [&version::TLS12, &version::TLS13] {
        let mut peer = over_tls(broker.address(), Tls::only(dir.path(), version))
            .plain("RootManageSharedAccessKey", "SAS_KEY_VALUE")
            .open()
            .begin();
        peer.send_texts("q", &["over TLS"]);
    }
    for protocols in [&[][..], &["http/1.1"], &["h2", "http/1.1"], &["amqp"]] {
        let tls = Tls::trusting(dir.path()).offering(protocols);
        let heard = exchange(broker.address(), tls, HEALTH).expect("an answer");
        assert!(heard.ends_with(b"\r\n\r\nalive\n"), "{protocols:?}");
    }
    let tls = Tls::trusting(dir.path()).offering(&["h2"]);
    assert!(exchange(broker.address(), tls, HEALTH).is_err(), "HTTP/2 is not spoken");
    let mut plain = broker.peer();
    assert_eq!(plain.drain_texts("q"), ["over TLS", "over TLS"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Messages in many frames and records, in both directions, with reads and writes that are cut anywhere.
#[test]
fn large_messages_pass_through_tls() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let broker = setup(dir.path()).start();
    let mut peer = over_tls(broker.address(), Tls::trusting(dir.path()))
        .plain("RootManageSharedAccessKey", "SAS_KEY_VALUE")
        .open()
        .begin();
    let large: Vec<String> = (0..8).map(|n| n.to_string().repeat(900_000)).collect();
    let texts: Vec<&str> = large.iter().map(String::as_str).collect();
    peer.send_texts("q", &texts);
    assert!(peer.drain_texts("q") == texts, "what came back is not what was sent");
}

fn until_cut(broker: &TestBroker, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    stream.write_all(words).expect("the broker reads");
    let mut heard = Vec::new();
    if let Err(error) = stream.read_to_end(&mut heard) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the broker does not close");
    }
    heard
}

/// A hello that is half, that is none, or that never goes on; and silence behind a handshake.
#[test]
fn a_tls_handshake_that_does_not_go_on_is_cut_off() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let broker = setup(dir.path()).config("[limits]\nhandshake_timeout = \"1s\"").start();
    for words in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x01\xff\xff"] {
        let heard = until_cut(&broker, words);
        assert!(heard.is_empty() || heard.starts_with(b"\x15"), "an alert at most: {heard:?}");
    }
    let alert = until_cut(&broker, &[&b"\x16\x03\x01\x00\x10"[..], &[0xff; 16]].concat());
    assert!(alert.is_empty() || alert.starts_with(b"\x15"), "{alert:?}");
    let heard = exchange(broker.address(), Tls::trusting(dir.path()), b"").expect("a handshake");
    assert_eq!(heard, b"");
    let inner = exchange(broker.address(), Tls::trusting(dir.path()), b"\x16\x03\x01\x02\x00");
    assert_eq!(inner.expect("a handshake"), b"", "TLS inside TLS");
    drop(broker.peer());
    broker.assert_nothing_above_info_was_logged();
}

/// Many who begin a handshake and leave it cost little, and nobody else notices.
#[test]
fn half_open_handshakes_are_bounded() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let broker = setup(dir.path()).start();
    let before = broker.resident_bytes();
    let held: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").expect("the broker reads");
            stream
        })
        .collect();
    let mut peer = over_tls(broker.address(), Tls::trusting(dir.path()))
        .plain("RootManageSharedAccessKey", "SAS_KEY_VALUE")
        .open()
        .begin();
    peer.send_texts("q", &["served"]);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 40 * 1024 * 1024, "{grown} bytes for {} beginners", held.len());
}

#[test]
fn without_a_certificate_nobody_is_promised_tls() {
    let broker = TestBroker::start();
    assert_eq!(until_cut(&broker, b"\x16\x03\x01\x02\x00\x01"), b"");
    broker.assert_nothing_above_info_was_logged();
}

const CLIENTS: &str =
    "[[tls.client]]\ncommon_name = \"shop\"\nrights = [\"send\"]\nentity = \"q\"\n";

/// SASL EXTERNAL is offered to whoever has a certificate that our authority has signed, and gives what
/// is configured for its name and no more.
#[test]
fn a_client_certificate_gives_the_rights_of_its_rule() {
    let dir = folder();
    certificates(dir.path(), &["--client", "shop", "--client", "stranger"]);
    let authority = dir.path().join("ca.pem");
    let tls = format!("[tls]\nclient_ca = {authority:?}\n{CLIENTS}");
    let broker = setup(dir.path()).queue("other", "").config(&tls).start();
    let own = |name| Tls::with_certificate(dir.path(), dir.path(), name);

    let mut offered = over_tls(broker.address(), own("shop"));
    assert!(offered.sasl_mechanisms().contains(&"EXTERNAL".to_owned()));
    let mut shop =
        over_tls(broker.address(), own("shop")).sasl("EXTERNAL", Some(b"")).open().begin();
    shop.send_texts("q", &["by certificate"]);
    let refused = "amqp:unauthorized-access";
    shop.expect_refusal(peeklock_tests::link::receiver("q"), refused);
    shop.expect_refusal(peeklock_tests::link::sender("other"), refused);

    let mut stranger = over_tls(broker.address(), own("stranger"));
    stranger.sasl_mechanisms();
    stranger.sasl_init("EXTERNAL", Some(b""));
    assert_eq!(stranger.sasl_outcome(), 1, "no rule names it");

    let mut nobody = over_tls(broker.address(), Tls::trusting(dir.path()));
    assert!(!nobody.sasl_mechanisms().contains(&"EXTERNAL".to_owned()));
    let mut nobody = over_tls(broker.address(), own("shop")).anonymous().open().begin();
    nobody.expect_refusal(peeklock_tests::link::sender("q"), refused);
    broker.assert_nothing_above_info_was_logged();
}

/// Another authority of the same name signs for the same names: its certificates open nothing.
#[test]
fn a_certificate_of_a_namesake_of_our_authority_is_refused() {
    let (dir, forged) = (folder(), folder());
    certificates(dir.path(), &["--client", "shop"]);
    certificates(forged.path(), &["--client", "shop"]);
    let authority = dir.path().join("ca.pem");
    let tls = format!("[tls]\nclient_ca = {authority:?}\n{CLIENTS}");
    let broker = setup(dir.path()).config(&tls).start();
    let own = Tls::with_certificate(dir.path(), forged.path(), "shop");
    let heard = exchange(broker.address(), own, raw::SASL);
    assert!(heard.as_ref().is_err() || heard.as_ref().is_ok_and(Vec::is_empty), "{heard:?}");
    broker.assert_nothing_above_info_was_logged();
}

/// New files count for new connections, and bad ones not at all; whoever is connected goes on.
#[test]
fn certificates_are_replaced_while_connections_go_on() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let broker = setup(dir.path()).start();
    let mut peer = over_tls(broker.address(), Tls::trusting(dir.path()))
        .plain("RootManageSharedAccessKey", "SAS_KEY_VALUE")
        .open()
        .begin();
    let first = leaf(broker.address(), Tls::trusting(dir.path()));

    std::fs::write(dir.path().join("server.pem"), "no certificate").expect("a file");
    hang_up(&broker, "stays as it is");
    assert_eq!(leaf(broker.address(), Tls::trusting(dir.path())), first);

    certificates(dir.path(), &["--host", "broker.example"]);
    hang_up(&broker, "was replaced");
    let second = leaf(broker.address(), Tls::trusting(dir.path()));
    assert_ne!(second, first);
    peer.send_texts("q", &["still here"]);
}

/// Sends SIGHUP and waits for what the broker has to say.
#[track_caller]
fn hang_up(broker: &TestBroker, expected: &str) {
    let id = broker.process_id().to_string();
    let status = Command::new("kill").args(["-HUP", &id]).status().expect("kill can be run");
    assert!(status.success(), "SIGHUP could not be sent");
    let deadline = std::time::Instant::now() + PATIENCE;
    while !broker.log_text().contains(expected) {
        assert!(std::time::Instant::now() < deadline, "{expected:?} was not logged");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An address of this machine that is not its loopback, if it has one: what it would send from.
fn address_outside() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only looks up the way.
    socket.connect("192.0.2.99:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Without `plain_text` other machines must use TLS, whatever the address that the broker listens at;
/// this machine need not.
#[test]
fn other_machines_must_use_tls() {
    let dir = folder();
    certificates(dir.path(), &[]);
    let file = |name: &str| format!("{:?}", dir.path().join(name));
    let config = format!(
        "listen = [\"0.0.0.0:0\"]\nephemeral = true\n[tls]\ncertificate = {}\nkey = {}\n",
        file("server.pem"),
        file("server.key")
    );
    let path = dir.path().join("peeklock.toml");
    std::fs::write(&path, config).expect("a file");
    let mut child = Command::new(binary())
        .args(["serve", "--config"])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the broker starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let port = port.expect("the ready line ends with a port");
    let greet = |host: std::net::IpAddr, words: &[u8]| {
        let mut stream = TcpStream::connect((host, port)).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
        stream.write_all(words).expect("the broker reads");
        let mut heard = [0; 12];
        let count = stream.read(&mut heard).unwrap_or(0);
        heard.get(..count).unwrap_or_default().to_vec()
    };
    let inside = std::net::IpAddr::from([127, 0, 0, 1]);
    let heard = (greet(inside, raw::SASL), greet(inside, HEALTH));
    let outside = address_outside().map(|outside| {
        let tls = exchange((outside, port).into(), Tls::trusting(dir.path()), HEALTH);
        (greet(outside, raw::SASL), greet(outside, HEALTH), tls)
    });
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    assert_eq!(heard.0.get(..8), Some(&raw::SASL[..]));
    assert_eq!(heard.1, b"HTTP/1.1 200");
    // A machine without a network has nobody who could come from outside.
    if let Some((amqp, http, tls)) = outside {
        assert_eq!(amqp, b"");
        assert_eq!(http, b"HTTP/1.1 403");
        assert!(tls.expect("TLS").ends_with(b"alive\n"));
    }
}

#[test]
fn cert_keeps_its_authority_and_says_what_clients_need() {
    let dir = folder();
    let said = certificates(dir.path(), &["--host", "broker.example"]);
    let words = ["broker.example", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"];
    for word in words.into_iter().chain(["keytool", "connection_verify"]) {
        assert!(said.contains(word), "{word} is missing in {said}");
    }
    let read = |name: &str| std::fs::read(dir.path().join(name)).expect("a file");
    let (authority, server) = (read("ca.pem"), read("server.pem"));
    certificates(dir.path(), &[]);
    assert_eq!(read("ca.pem"), authority);
    assert_ne!(read("server.pem"), server);
    for key in ["ca.key", "server.key"] {
        let metadata = std::fs::metadata(dir.path().join(key)).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

/// `peeklock healthcheck --tls` believes who has a certificate of the authority that it is given.
#[test]
fn the_health_check_comes_by_tls() {
    let (dir, strangers) = (folder(), folder());
    certificates(dir.path(), &[]);
    certificates(strangers.path(), &[]);
    let broker = setup(dir.path()).start();
    let port = broker.address().port();
    let check = |host: &str, ca: &Path| {
        Command::new(binary())
            .args(["healthcheck", "--tls", "--address", &format!("{host}:{port}"), "--ca"])
            .arg(ca)
            .output()
            .expect("peeklock healthcheck runs")
    };
    let healthy = check("localhost", &dir.path().join("ca.pem"));
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stderr));
    for (ca, said) in [
        (strangers.path().join("ca.pem"), "invalid peer certificate"),
        (dir.path().join("nothing.pem"), "nothing.pem"),
    ] {
        let checked = check("localhost", &ca);
        let text = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!(checked.status.code(), Some(1), "{text}");
        assert!(text.contains(said), "{text}");
    }
    broker.assert_nothing_above_info_was_logged();
}
