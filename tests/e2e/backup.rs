//! Backups of a broker that goes on meanwhile, and brokers that begin with one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE, Setup, binary, show};
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};
use serde_json::Value;
use tempfile::TempDir;

use crate::kill::{Shared, drain, next, number_of, receive, send, sender, size_of};

const QUEUE: &str = "max_delivery_count = 1000000";

/// Keeps what it has and its backups in one folder.
pub(crate) struct World {
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn setup(&self, more: &str) -> Setup {
        let directory = self.dir.path().join("backups");
        TestBroker::with()
            .queue("q", QUEUE)
            .config("[storage]\nfree_space_reserve = 0")
            .config(&format!("[backup]\ndirectory = \"{}\"\n{more}", directory.display()))
            .durable()
    }

    pub(crate) fn backup(&self, created: &Value) -> PathBuf {
        self.dir.path().join("backups").join(created["name"].as_str().expect("a name"))
    }

    /// A broker that begins with a backup.
    pub(crate) fn restored(&self, backup: &Path, name: &str) -> TestBroker {
        let dir = self.dir.path().join(name);
        let data = dir.join("data");
        let restored = offline(&["restore".as_ref(), backup, "--data-dir".as_ref(), &data]);
        assert!(restored.status.success(), "{restored:?}");
        TestBroker::with()
            .queue("q", QUEUE)
            .config("[storage]\nfree_space_reserve = 0")
            .durable()
            .start_at(&dir)
    }
}

/// A command that asks a broker.
pub(crate) fn ask(broker: &TestBroker, arguments: &[&str]) -> Output {
    ask_as(broker, (DEV_RULE, DEV_KEY), arguments)
}

/// The same with another rule and its key.
pub(crate) fn ask_as(broker: &TestBroker, key: (&str, &str), arguments: &[&str]) -> Output {
    let (rule, key) = key;
    let connection = format!(
        "Endpoint=sb://{};SharedAccessKeyName={rule};SharedAccessKey={key};\
         UseDevelopmentEmulator=true;",
        broker.address()
    );
    Command::new(binary())
        .args(arguments)
        .env("PEEKLOCK_CONNECTION_STRING", connection)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// A command that needs none.
pub(crate) fn offline(arguments: &[&Path]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

#[track_caller]
pub(crate) fn create(broker: &TestBroker) -> Value {
    let output = ask(broker, &["backup", "create", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn message(number: u64) -> Bytes {
    Message::data(vec![0x2e; size_of(number)]).with_id(number).encode()
}

fn cut_receiver(broker: &TestBroker) -> (Peer, peeklock_tests::link::Link) {
    let mut peer = broker.peer();
    let link = peer.attach_receiver("q");
    peer.expect_to_be_cut();
    (peer, link)
}

/// All that was accepted before the request is there; nothing is that was known to be completed before.
#[test]
fn a_backup_under_load_is_the_store_at_one_moment() {
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    let ledger = Shared::default();
    let mut random = 20_260_102;
    let mut backups = Vec::new();
    let senders: Vec<_> = (0..2).map(|_| sender(&broker, "q")).collect();
    let receivers: Vec<_> = (0..2).map(|_| cut_receiver(&broker)).collect();
    thread::scope(|scope| {
        for (first, (peer, link)) in (0..).step_by(10_000_000).zip(senders) {
            let ledger = &ledger;
            scope.spawn(move || send(peer, &link, first, message, ledger));
        }
        for (cycle, (peer, link)) in (0..).zip(receivers) {
            let ledger = &ledger;
            scope.spawn(move || receive(peer, link, cycle, number_of, ledger));
        }
        for _ in 0..3 {
            // When it comes is the subject of the test.
            thread::sleep(Duration::from_millis(100 + next(&mut random) % 400));
            let (accepted, completed) =
                ledger.with(|ledger| (ledger.accepted.clone(), ledger.completed.clone()));
            let backup = world.backup(&create(&broker));
            let asked = ledger.with(|ledger| ledger.completing.clone());
            backups.push((backup, accepted, completed, asked));
        }
        broker.kill();
    });
    for (place, (backup, accepted, completed, asked)) in backups.iter().enumerate() {
        let verified = offline(&["backup".as_ref(), "verify".as_ref(), backup]);
        assert!(verified.status.success(), "{verified:?}");
        let broker = world.restored(backup, &format!("restored-{place}"));
        let mut peer = broker.peer();
        let link = peer.attach_receiver("q");
        let there = drain(peer, link, number_of, &Shared::default());
        let lost: BTreeSet<_> =
            accepted.difference(asked).filter(|number| !there.contains(number)).collect();
        assert!(lost.is_empty(), "accepted before, and lost: {lost:?}");
        let returned: Vec<_> = completed.intersection(&there).collect();
        assert!(returned.is_empty(), "completed before, and there: {returned:?}");
        assert!(!there.is_empty() && !completed.is_empty(), "something was under way");
        show(&format!(
            "backup {place}: {} accepted and {} completed before, {} in it",
            accepted.len(),
            completed.len(),
            there.len()
        ));
    }
}

#[test]
fn the_next_backup_costs_what_is_new() {
    for (place, more) in ["", "copy = true"].into_iter().enumerate() {
        let world = World::new();
        let mut broker = world.setup(more).start_at(world.dir.path());
        let bodies: Vec<String> = (0..2000).map(|number| format!("{number:0>3000}")).collect();
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        broker.peer().send_texts("q", &bodies);
        // What is in memory goes into table files.
        broker.stop();
        broker.restart();
        let first = create(&broker);
        broker.peer().send_texts("q", &["one more"]);
        let second = create(&broker);
        let number = |of: &Value, what: &str| of["summary"][what].as_u64().expect("a number");
        assert!(6_000_000 < number(&first, "new_bytes"), "{first}");
        assert!(number(&second, "new_bytes") < 1_000_000, "{second}");
        assert!(number(&first, "bytes") <= number(&second, "bytes"), "{second}");
        let (first, second) = (world.backup(&first), world.backup(&second));
        let mut shared = 0;
        for entry in fs::read_dir(first.join("data")).expect("the backup") {
            let path = entry.expect("the backup").path();
            if path.extension().is_some_and(|extension| extension == "sst") {
                let other = second.join("data").join(path.file_name().expect("a name"));
                let inode = |path: &Path| fs::metadata(path).expect("a file").ino();
                assert_eq!(inode(&path), inode(&other));
                shared += 1;
            }
        }
        assert!(0 < shared, "no table files");
        let listed = ask(&broker, &["backup", "list", "--json"]);
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed["backups"].as_array().map(Vec::len), Some(2), "{listed}");
        drop(broker);
        fs::remove_dir_all(&first).expect("the first can go");
        let broker = world.restored(&second, "restored");
        let there = broker.peer().drain_texts("q");
        assert_eq!(
            (there.len(), there.last().map(String::as_str)),
            (2001, Some("one more")),
            "{place}"
        );
    }
}

#[test]
fn only_operators_say_where_backups_go() {
    let broker = TestBroker::with().queue("q", "").durable().start();
    let refused = ask(&broker, &["backup", "create"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("[backup]"), "{refused:?}");
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    broker.peer().send_texts("q", &["kept"]);
    let backup = world.backup(&create(&broker));
    broker.stop();
    // What is there is not written over, and what was changed is not restored.
    let data = world.dir.path().join("data");
    let over = offline(&["restore".as_ref(), &backup, "--data-dir".as_ref(), &data]);
    assert_eq!(over.status.code(), Some(1), "{over:?}");
    let log = fs::read_dir(backup.join("data")).expect("the backup");
    let log = log.map(|entry| entry.expect("a file").path());
    let log = log.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let log = log.max().expect("a log");
    let mut octets = fs::read(&log).expect("the log");
    *octets.last_mut().expect("octets") ^= 1;
    fs::write(&log, octets).expect("the log");
    let verified = offline(&["backup".as_ref(), "verify".as_ref(), &backup]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    let dir = world.dir.path().join("new");
    let data = dir.join("data");
    let restored = offline(&["restore".as_ref(), &backup, "--data-dir".as_ref(), &data]);
    assert_eq!(restored.status.code(), Some(1), "{restored:?}");
    let unfinished = TestBroker::with().durable().run_to_end(&dir);
    assert_eq!(unfinished.status.code(), Some(3), "{unfinished:?}");
}
