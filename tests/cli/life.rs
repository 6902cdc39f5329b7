//! `drain`, `reload`, `log-level`, and `serve --check-config`.

use peeklock_tests::TestBroker;

use crate::{CommandLine, Done, bare, exit};

const KEY: &str = "canary-cli-key-55ad";

fn config(lines: &str) -> String {
    let rule = "[[rule]]\nname = \"app\"\nrights = [\"send\"]";
    format!("{lines}\n{rule}\nprimary_key = \"{KEY}\"\n")
}

#[test]
fn what_is_logged_is_shown_and_changed() {
    let broker = TestBroker::start();
    assert_eq!(broker.ok(&["log-level"]), "info\n");
    assert_eq!(broker.ok(&["log-level", "warn,peeklock::net=debug"]), "warn,peeklock::net=debug\n");
    assert_eq!(broker.json(&["log-level"])["level"], "warn,peeklock::net=debug");
    broker.fails(&["log-level", "peeklock=loud"], exit::REFUSED, "no level");
}

#[test]
fn a_reload_prints_what_is_different() {
    let broker = TestBroker::with().config(&config("")).start();
    let out = broker.ok(&["reload"]);
    assert!(out.ends_with("peeklock.toml\n  nothing has changed\n"), "{out}");
    let file = broker.dir().join("peeklock.toml");
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, format!("hosts = [\"localhost\"]\n{text}")).expect("a file");
    let out = broker.ok(&["reload"]);
    let line = "\n  hosts: [\"localhost\"], was not set (from the next start on)\n";
    assert!(out.ends_with(line), "{out}");
    assert_eq!(broker.json(&["reload"])["changed"][0]["key"], "hosts");
    std::fs::write(&file, "hosts = 5").expect("a file");
    broker.fails(&["reload"], exit::REFUSED, "hosts");
}

#[test]
fn a_drained_broker_ends_well() {
    let mut broker = TestBroker::start();
    assert_eq!(broker.ok(&["drain"]), "the broker drains and stops\n");
    assert!(broker.wait().success());
    broker.assert_nothing_above_info_was_logged();
}

/// `serve --check-config` with a configuration file.
fn check(text: &str) -> Done {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("peeklock.toml");
    std::fs::write(&file, text).expect("a file");
    let file = file.to_str().expect("a path of text");
    let arguments = ["serve", "--check-config", "--ephemeral", "--config", file];
    let output = bare(&arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("not killed");
    Done { code, out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_configuration_is_checked_without_a_start() {
    let done = check(&config("[limits]\nconnections = 12\n[[queue]]\nname = \"q\""));
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    let expected = [
        "ephemeral = true",
        "limits.connections = 12",
        "queue[q].name = \"q\"",
        "rule[app].name = \"app\"",
        "rule[app].primary_key = \"(hidden)\"",
        "rule[app].rights = [\"send\"]",
    ];
    assert_eq!(done.out.lines().collect::<Vec<_>>(), expected);
    for (wrong, part) in [
        ("[limits]\nconnections = 0", "limits.connections"),
        ("[tls]\ncertificate = \"missing.pem\"\nkey = \"missing.key\"", "missing.pem"),
    ] {
        let done = check(&config(wrong));
        assert_eq!(done.code, exit::USAGE, "{done:?}");
        assert!(done.err.contains(part) && done.out.is_empty(), "{done:?}");
        assert!(!done.err.contains(KEY), "{done:?}");
    }
    let warned = check("");
    assert_eq!(warned.code, 0, "{warned:?}");
    assert!(warned.err.starts_with("peeklock: warning: no rule is configured"), "{warned:?}");
}
