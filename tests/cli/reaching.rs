//! How commands reach a broker, as whom, and what they say when they do not.

use std::net::TcpListener;
use std::process::Command;

use peeklock_tests::TestBroker;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};

use crate::{CommandLine, bare, exit};

#[track_caller]
fn check(mut command: Command, code: i32, part: &str) {
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{said}");
}

#[test]
fn by_address_and_by_connection_string() {
    let broker = TestBroker::with().rule("look", "bG9vaw==", "[\"Listen\"]").start();
    let address = broker.address().to_string();
    let at = |arguments: &[&str]| bare(&[arguments, &["--address", &address]].concat());
    check(at(&["queue", "create", "q"]), 0, "");
    let string = format!(
        "Endpoint=sb://{address}/;SharedAccessKeyName={DEV_RULE};SharedAccessKey={DEV_KEY};\
         EntityPath=q;UseDevelopmentEmulator=true;"
    );
    check(bare(&["peek", "--connection-string", &string]), 0, "");
    // What is said here counts more than what is said elsewhere.
    let mut peek = bare(&["peek", "--connection-string", &string]);
    peek.env("PEEKLOCK_KEY", "c2VjcmV0").env("PEEKLOCK_KEY_NAME", "nobody");
    check(peek, 0, "");
    check(at(&["peek"]), exit::USAGE, "name an entity");

    // With a key of few rights, from a file.
    let file = broker.dir().join("key");
    std::fs::write(&file, "bG9vaw==\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let look = ["--key-name", "look", "--key-file", file];
    check(at(&[&["peek", "q"][..], &look].concat()), 0, "");
    check(at(&[&["send", "q", "x"][..], &look].concat()), exit::REFUSED, "Send");
    check(at(&[&["queue", "list"][..], &look].concat()), exit::REFUSED, "Manage");
    // Nothing that goes wrong shows a key.
    let mut wrong = at(&["queue", "list", "--key", "c2VjcmV0"]);
    let output = wrong.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(exit::REFUSED));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("c2VjcmV0"));
}

#[test]
fn over_tls_only_with_a_broker_that_is_trusted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |file: &str| dir.path().join(file).to_str().expect("UTF-8").to_owned();
    let certificates = dir.path().to_str().expect("UTF-8");
    check(bare(&["cert", "--dir", certificates]), 0, "");
    let broker = TestBroker::with()
        .queue("q", "")
        .argument("--tls-certificate")
        .argument(path("server.pem"))
        .argument("--tls-key")
        .argument(path("server.key"))
        .start();
    let address = broker.address().to_string();
    let ca = path("ca.pem");
    let tls = |arguments: &[&str]| {
        bare(&[arguments, &["--address", &address, "--tls", "--ca", &ca]].concat())
    };
    check(tls(&["queue", "show", "q"]), 0, "");
    check(tls(&["send", "q", "over TLS", "--count", "300"]), 0, "");
    let received = tls(&["receive", "q", "--body"]).output().expect("the binary runs");
    assert_eq!(received.stdout, b"over TLS");
    check(tls(&["purge", "q", "--yes"]), 0, "");
    let stranger = bare(&["queue", "list", "--address", &address, "--tls"]);
    let mut stranger = stranger;
    stranger.env("SSL_CERT_FILE", path("server.key"));
    let output = stranger.output().expect("the binary runs");
    assert_ne!(output.status.code(), Some(0), "a broker that nobody vouches for");
}

#[test]
fn nobody_there() {
    // Bound and closed again: nothing listens at this port now.
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let address = address.to_string();
    for command in [&["queue", "list"][..], &["peek", "q"], &["send", "q", "x"]] {
        let arguments = [command, &["--address", &address]].concat();
        check(bare(&arguments), exit::UNREACHABLE, "cannot connect to");
    }
    check(bare(&["queue", "create"]), exit::USAGE, "Usage:");
    check(bare(&["queue", "create", "q", "--lock-duration", "soon"]), exit::USAGE, "soon");
}

#[test]
fn a_broker_that_goes_away() {
    let mut broker = TestBroker::start();
    let child = broker.command(&["receive", "q", "--wait", "5m"]).spawn().expect("the binary runs");
    // It waits for a message once it has its link, which the broker counts as a receiver; whether it
    // got that far or not, it ends with the same code.
    broker.stop();
    let output = child.wait_with_output().expect("a child of ours");
    assert!(matches!(output.status.code(), Some(exit::UNREACHABLE | exit::REFUSED)), "{output:?}");
}

#[test]
fn shells_complete_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bare(&["completions", shell]).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0));
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(script.contains("topology") && script.contains("lock-duration"), "{shell}");
    }
}
