//! Stores that earlier releases have written. Each sample is a data directory of one format version,
//! with something of everything in it; whatever a later release does to its rows, it has to find that.
//!
//! A sample is made once, by a release that writes its version, and then stays as it is:
//! `PEEKLOCK_WRITE_SAMPLE=1 cargo test -p peeklock-tests --test e2e upgrade` with `PEEKLOCK_BIN` set to
//! that release. Its clock is virtual, so that nothing in it is ever too old.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Array, Map, Symbol, Value};
use peeklock_tests::broker::Setup;
use peeklock_tests::link::receiver;
use peeklock_tests::message::Message;
use peeklock_tests::topics::of;
use peeklock_tests::{Peer, TestBroker};

use crate::backup::{ask, offline};

/// When the samples were written: later than any test runs.
const MOMENT: &str = "2090-01-01T00:00:00Z";
const DAY: Duration = Duration::from_hours(24);
const STATE: &[u8] = b"how far it got";

fn setup() -> Setup {
    let window = "duplicate_detection_history_time_window = \"7d\"";
    TestBroker::with()
        .queue("plain", "max_delivery_count = 3")
        .queue("sessions", "requires_session = true")
        .queue("once", window)
        .topic("t", "")
        .subscription("a", "")
        .subscription("b", "")
        .config("[storage]\nfree_space_reserve = 0")
        .virtual_time()
        .durable()
}

fn stop_the_clock(broker: &TestBroker) {
    let stopped = ask(broker, &["clock", "freeze", MOMENT]);
    assert!(stopped.status.success(), "{stopped:?}");
}

pub(crate) fn deferred() -> DeliveryState {
    let undeliverable_here = Some(true);
    DeliveryState::Modified { delivery_failed: None, undeliverable_here, message_annotations: None }
}

fn session(id: &str) -> Attach {
    let filter = Map::new().with(Symbol::from_static("com.microsoft:session-filter"), id);
    let source = Source::new("sessions").with_filter(filter);
    Attach { source: Some(source.into()), ..receiver("sessions") }
}

/// Some of everything. The first half comes to be in table files, the second in the log.
fn fill(broker: &mut TestBroker) {
    stop_the_clock(broker);
    let at = broker.clock().read().time;
    let mut peer = broker.peer();
    for (text, state) in [("deferred", deferred()), ("dead", DeliveryState::Rejected(None))] {
        peer.send_texts("plain", &[text]);
        let mut link = peer.attach_receiver("plain");
        let received = peer.receive_one(&mut link);
        peer.settle(&received, state);
        peer.detach(&link);
    }
    peer.send_messages("once", &[Message::data("first").with_id("id")]);
    peer.send_texts("t", &["n1", "n2"]);
    drop(peer);
    broker.stop();
    broker.restart();
    stop_the_clock(broker);
    let mut peer = broker.peer();
    peer.send_texts("plain", &["one", "two"]);
    let due = Value::Timestamp(at + i64::try_from(DAY.as_millis()).expect("a day"));
    let due = Message::data("due").with_annotation("x-opt-scheduled-enqueue-time", due);
    peer.send_messages("plain", &[due]);
    let of_session = |id: &str, text: &'static str| Message::data(text).with_session(id);
    peer.send_messages("sessions", &[of_session("s", "s1"), of_session("r", "r1")]);
    let link = peer.attach_for_receiving(session("s"));
    let mut management = peer.open_management("sessions");
    let state = Map::new().with("session-id", "s").with("session-state", Bytes::from_static(STATE));
    let set = peer.manage(&mut management, "com.microsoft:set-session-state", state);
    assert_eq!(set.status, 200);
    peer.detach(&link);
    let mut link = peer.attach_receiver(&of("a"));
    let received = peer.receive_one(&mut link);
    peer.complete(&received);
    broker.kill();
}

/// All of it is there, and is what it was.
fn expect(broker: &TestBroker) {
    stop_the_clock(broker);
    let mut clock = broker.clock();
    let mut peer = broker.peer();
    let mut management = peer.open_management("plain");
    let browsed = peer.browse(&mut management);
    let texts: Vec<&str> = browsed.iter().map(Message::text).collect();
    assert_eq!(texts, ["deferred", "one", "two", "due"]);
    let numbers = Array::longs([browsed[0].sequence_number()]);
    let body =
        Map::new().with("sequence-numbers", numbers).with("receiver-settle-mode", Value::Uint(0));
    let fetched = peer.manage(&mut management, "com.microsoft:receive-by-sequence-number", body);
    assert_eq!(fetched.status, 200, "{fetched:?}");
    assert_eq!(peer.drain_texts("plain/$deadletterqueue"), ["dead"]);
    assert_eq!(peer.drain_texts("plain"), ["one", "two"]);

    let mut link = peer.attach_for_receiving(session("s"));
    let mut sessions = peer.open_management("sessions");
    let state = peer.manage(
        &mut sessions,
        "com.microsoft:get-session-state",
        Map::new().with("session-id", "s"),
    );
    assert_eq!(state.entry("session-state"), &Value::from(Bytes::from_static(STATE)));
    assert_eq!(peer.receive_one(&mut link).text(), "s1");
    peer.detach(&link);

    expect_topic(&mut peer);
    peer.send_messages("once", &[Message::data("second").with_id("id")]);
    assert_eq!(peer.drain_texts("once"), ["first"], "an id is remembered");
    clock.advance(DAY);
    assert_eq!(peer.drain_texts("plain"), ["due"]);
}

fn expect_topic(peer: &mut Peer) {
    assert_eq!(peer.drain_texts(&of("a")), ["n2"]);
    assert_eq!(peer.drain_texts(&of("b")), ["n1", "n2"]);
}

fn sample(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("e2e/samples/v{version}.tar.gz"))
}

fn tar(arguments: &[&Path]) {
    let done = Command::new("tar").args(arguments).status().expect("tar can be run");
    assert!(done.success(), "{arguments:?}");
}

#[test]
fn a_store_of_version_1_is_read_and_gets_its_mark() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let mark = data.join("FORMAT");
    if std::env::var_os("PEEKLOCK_WRITE_SAMPLE").is_some() {
        let mut broker = setup().start_at(dir.path());
        fill(&mut broker);
        // The first of that version had none.
        std::fs::remove_file(&mark).expect("a mark");
        // The engine's diary tells of the machine, and nobody reads it.
        let diary = Path::new("--exclude=LOG*");
        tar(&["-czf".as_ref(), &sample(1), diary, "-C".as_ref(), dir.path(), "data".as_ref()]);
        return;
    }
    tar(&["-xzf".as_ref(), &sample(1), "-C".as_ref(), dir.path()]);
    assert!(!mark.exists());
    let checked = offline(&["check".as_ref(), &data]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(!mark.exists(), "looking changes nothing");
    let mut broker = setup().start_at(dir.path());
    assert_eq!(std::fs::read_to_string(&mark).expect("a mark"), "1\n");
    expect(&broker);
    broker.stop();
    let checked = offline(&["check".as_ref(), &data]);
    assert!(checked.status.success(), "{checked:?}");
    // A release of another time.
    std::fs::write(&mark, "2\n").expect("a mark");
    let refused = setup().run_to_end(dir.path());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("version 2") && said.contains("version 1"), "{said}");
}
