//! What the broker refuses to start with, and how it says so.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Output;

use peeklock_tests::TestBroker;
use peeklock_tests::broker::Setup;
use peeklock_tests::message::Message;

/// The exit code of a wrong configuration.
const CONFIGURATION: i32 = 2;
/// The exit code of a start that failed.
const START: i32 = 3;

fn durable() -> Setup {
    TestBroker::with().queue("q", "").config("[storage]\nfree_space_reserve = 0").durable()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The file, the key and the reason: what a person needs to put it right.
#[test]
fn a_wrong_configuration_exits_2_and_names_file_key_and_reason() {
    let cases = [
        ("no_such_key = 1", "no_such_key", "unknown"),
        ("dev = \"yes\"", "dev", "bool"),
        ("[[queue]]\nname = \"a\"\nlock_duration = \"1s\"", "lock_duration", "5s"),
        ("[[queue]]\nname = \"a\"\nlock_duration = \"an hour\"", "lock_duration", "span of time"),
        ("[[queue]]\nname = \"a\"\nmax_delivery_count = 0", "max_delivery_count", "1"),
        ("[[queue]]\nname = \"a\"\nmax_message_size = \"1 TB\"", "max_message_size", "size"),
        ("[[queue]]\nname = \"\"", "name", ""),
        ("[[queue]]\nname = \"a\"\n[[queue]]\nname = \"A\"", "name", "twice"),
        ("[[queue]]\nlock_duration = \"5s\"", "name", "missing"),
        ("[[rule]]\nname = \"r\"\nprimary_key = \"k\"\nrights = [\"Sing\"]", "rights", "listen"),
        ("[limits]\nmax_frame_size = 511", "max_frame_size", "512"),
        ("[limits]\nidle_timeout = \"1s\"", "idle_timeout", "10s"),
        ("[[queue]\nname = 1", "", ""),
    ];
    for (text, key, reason) in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let output = TestBroker::with().config(text).run_to_end(dir.path());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(CONFIGURATION), "{text}: {said}");
        assert!(said.contains("peeklock.toml"), "{text}: {said}");
        assert!(said.contains(key), "{text}: {said}");
        assert!(said.contains(reason), "{text}: {said}");
        assert!(output.stdout.is_empty(), "it was not ready");
    }
}

/// A key in a file that is refused for something else is not shown.
#[test]
fn a_refusal_does_not_show_keys() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = "[[rule]]\nname = \"r\"\nprimary_key = \"very-secret\"\nrights = [\"Sing\"]";
    let output = TestBroker::with().config(text).run_to_end(dir.path());
    assert_eq!(output.status.code(), Some(CONFIGURATION));
    assert!(!said(&output).contains("very-secret"), "{}", said(&output));
}

/// A store with `count` messages, killed; gives its log files.
fn killed_store(dir: &Path, count: u32) -> Vec<PathBuf> {
    let mut broker = durable().start_at(dir);
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("q");
    for n in 0..count {
        peer.send_accepted(&mut link, &Message::data(n.to_string()).encode());
    }
    broker.kill();
    let mut logs = files_below(&dir.join("data"));
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the folder of the store").flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

fn overwrite(path: &Path, at: u64, octets: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).expect("a file of the store");
    file.seek(SeekFrom::Start(at)).expect("a place in it");
    file.write_all(octets).expect("damage");
}

/// Acknowledged messages behind the damage would be lost without a word. They are not: the broker
/// stays down until a person says that the loss is accepted.
#[test]
fn a_damaged_log_refuses_to_start_and_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = killed_store(dir.path(), 200);
    let (log, len) = logs
        .iter()
        .map(|log| (log.clone(), fs::metadata(log).map_or(0, |data| data.len())))
        .max_by_key(|(_, len)| *len)
        .expect("a log");
    assert!(1000 < len, "a log with something in it");
    overwrite(&log, len / 2, &[0x5a; 16]);

    let output = durable().run_to_end(dir.path());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(START), "{said}");
    let name = log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    assert!(said.contains(&name), "{name}: {said}");
    assert!(output.stdout.is_empty(), "it was not ready");

    let broker = durable().argument("--accept-data-loss").start_at(dir.path());
    let texts = broker.peer().drain_texts("q");
    assert!(!texts.is_empty() && texts.len() < 200, "{} messages survived", texts.len());
    for (n, text) in texts.iter().enumerate() {
        assert_eq!(text, &n.to_string(), "what stands before the damage is whole");
    }
}

/// A write that a crash left unfinished was never acknowledged: there is nothing to refuse.
#[test]
fn a_torn_tail_is_cut_and_everything_before_it_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let logs = killed_store(dir.path(), 50);
    let log = logs.iter().max().expect("a log");
    let len = fs::metadata(log).expect("its length").len();
    overwrite(log, len, b"\x12\x34\x56\x78\x40\x01\x01 torn");
    let broker = durable().start_at(dir.path());
    assert_eq!(broker.peer().drain_texts("q").len(), 50);
}

/// Other damage to the store's own files is named, too.
#[test]
fn a_damaged_manifest_refuses_to_start() {
    let dir = tempfile::tempdir().expect("a folder");
    killed_store(dir.path(), 10);
    let files = files_below(&dir.path().join("data"));
    let manifest = files
        .iter()
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
        })
        .expect("a manifest");
    overwrite(manifest, 0, &[0xff; 64]);
    let output = durable().run_to_end(dir.path());
    assert_eq!(output.status.code(), Some(START), "{}", said(&output));
    assert!(said(&output).contains("MANIFEST"), "{}", said(&output));
    assert!(output.stdout.is_empty(), "it was not ready");
}

/// Two brokers on one store would each believe to own it.
#[test]
fn a_store_in_use_refuses_a_second_broker() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = durable().start_at(dir.path());
    let output = durable().run_to_end(dir.path());
    assert_eq!(output.status.code(), Some(START), "{}", said(&output));
    assert!(said(&output).contains("data"), "{}", said(&output));
    first.peer().send_texts("q", &["the first goes on"]);
}

/// A port that is taken is a failure to start, and is named.
#[test]
fn a_port_in_use_refuses_to_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let dir = tempfile::tempdir().expect("a folder");
    let setup = TestBroker::with().queue("q", "").argument("--listen").argument(address.as_str());
    let output = setup.run_to_end(dir.path());
    assert_eq!(output.status.code(), Some(START), "{}", said(&output));
    assert!(said(&output).contains(&address), "{}", said(&output));
}

/// A queue that is there cannot become one with sessions: the configuration that says so is not passed
/// over, and what the queue holds stays.
#[test]
fn a_declaration_that_does_not_fit_what_is_there_refuses_to_start() {
    let dir = tempfile::tempdir().expect("a folder");
    killed_store(dir.path(), 1);
    let changed = TestBroker::with().durable().queue("q", "requires_session = true");
    let output = changed.run_to_end(dir.path());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(START), "{said}");
    assert!(said.contains("the queue q cannot be as configured"), "{said}");
    assert!(output.stdout.is_empty(), "it was not ready");
    assert_eq!(durable().start_at(dir.path()).peer().drain_texts("q"), ["0"]);
}
