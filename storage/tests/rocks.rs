//! What only the store on disk promises: its lock, its log, its failures and its copies.

#![cfg(feature = "rocksdb")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};

use bytes::Bytes;
use peeklock_storage::rocks::{Options, Reserve, RocksStore};
use peeklock_storage::{
    Batch, CommitPosition, Done, Epoch, Key, Refusal, ShardId, Store, StoreError, Table,
};

const SHARD: ShardId = ShardId(1);

fn options() -> Options {
    Options { reserve: Reserve::NONE, ..Options::default() }
}

fn open(dir: &Path) -> RocksStore {
    RocksStore::open(dir, options()).expect("the store opens")
}

fn reports(store: &RocksStore) -> Receiver<Done> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    store.on_done(
        SHARD,
        Box::new(move |done| {
            let sender = sender.lock().expect("no report panics");
            // The test may have seen enough.
            let _ = sender.send(done);
        }),
    );
    receiver
}

fn row(number: u64) -> Key {
    Key::new().with_u32(1).with_u8(1).with_u64(number)
}

fn put(number: u64, value: Bytes) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Message, row(number), value);
    batch
}

/// Writes one batch as a group of its own.
fn write(store: &RocksStore, reports: &Receiver<Done>, position: u64, batch: Batch) {
    store.submit(SHARD, CommitPosition(position), batch).expect("the batch is taken");
    let done = reports.recv().expect("the writer reports");
    assert_eq!(done, Done { through: CommitPosition(position), result: Ok(()) });
}

fn numbers(store: &RocksStore) -> Vec<u64> {
    let range = Key::new().with_u32(1).with_u8(1).prefix_range();
    let rows = store.scan(Table::Message, &range, usize::MAX, usize::MAX).expect("rows are read");
    rows.iter()
        .map(|(key, _)| {
            let mut parts = key.reader();
            let number = (parts.u32(), parts.u8(), parts.u64()).2;
            number.expect("the key ends in a number")
        })
        .collect()
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the folder is read")
        .map(|entry| entry.expect("the folder is read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn a_store_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let again = RocksStore::open(dir.path(), options()).map(|_| ());
    assert_eq!(again, Err(StoreError::InUse { dir: dir.path().to_owned() }));
    store.close().unwrap();
    open(dir.path());
}

#[test]
fn an_older_owner_is_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), Options { epoch: Epoch(2), ..options() }).unwrap();
    let refused = store.submit(SHARD, CommitPosition(1), Batch::new(Epoch(1)));
    assert_eq!(refused, Err(StoreError::Fenced(Epoch(2))));
}

#[test]
fn rows_outlive_a_store_that_was_closed_and_one_that_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = reports(&store);
    write(&store, &done, 1, put(1, "one".into()));
    store.close().unwrap();
    let log_bytes: u64 =
        files(dir.path(), "log").iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(log_bytes, 0, "a closed store has nothing to replay");

    let store = open(dir.path());
    let done = reports(&store);
    write(&store, &done, 1, put(2, "two".into()));
    drop(store);
    let store = open(dir.path());
    assert_eq!(numbers(&store), [1, 2]);
    assert_eq!(store.recovery().torn_tail, None);
}

#[test]
fn a_removed_message_stays_removed_over_restarts_and_flushes() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let store = open(dir.path());
        let done = reports(&store);
        write(&store, &done, 1, put(round, vec![1; 5_000].into()));
        if let Some(before) = round.checked_sub(1) {
            let mut batch = Batch::default();
            batch.remove(Table::Message, row(before));
            write(&store, &done, 2, batch);
        }
        assert_eq!(numbers(&store), [round]);
        store.close().unwrap();
    }
    assert_eq!(numbers(&open(dir.path())), [3]);
}

#[test]
fn sends_stop_below_the_reserve_and_removals_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = reports(&store);
    write(&store, &done, 1, put(1, "one".into()));
    assert!(store.sends_allowed());
    store.close().unwrap();

    let reserve = Reserve { bytes: u64::MAX, percent: 0 };
    let store = RocksStore::open(dir.path(), Options { reserve, ..options() }).unwrap();
    assert!(!store.sends_allowed() && !store.health().sends_allowed);
    assert_eq!(store.health().failed, None);
    let done = reports(&store);
    let mut batch = Batch::default();
    batch.remove(Table::Message, row(1));
    write(&store, &done, 1, batch);
    assert_eq!(numbers(&store), []);
}

/// Removals free space only once they are in table files, and an idle store has no reason to write
/// any: a drained broker would refuse sends for ever.
#[test]
fn rows_in_memory_are_flushed_while_sends_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = Reserve { bytes: u64::MAX, percent: 0 };
    let store = RocksStore::open(dir.path(), Options { reserve, ..options() }).unwrap();
    let done = reports(&store);
    write(&store, &done, 1, put(1, "one".into()));
    while files(dir.path(), "sst").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(numbers(&store), [1]);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // The writer's thread waits in its first report, so nothing leaves the queue.
    let gate = Arc::new(Barrier::new(2));
    let (sender, done) = channel();
    let sender = Mutex::new(sender);
    let held = Arc::clone(&gate);
    store.on_done(
        SHARD,
        Box::new(move |done| {
            if done.through == CommitPosition(1) {
                held.wait();
                held.wait();
            }
            sender.lock().unwrap().send(done).unwrap();
        }),
    );
    store.submit(SHARD, CommitPosition(1), put(1, "one".into())).unwrap();
    gate.wait();
    let mut position = 1;
    let refused = loop {
        position += 1;
        let body = Bytes::from(vec![1; 8 << 20]);
        if let Err(error) = store.submit(SHARD, CommitPosition(position), put(position, body)) {
            break error;
        }
        assert!(position < 100, "64 MB are the bound");
    };
    assert_eq!(refused, Refusal::QueueFull.into());
    assert!(7 < position);
    assert!(store.health().queued_bytes <= 64 << 20);
    gate.wait();

    let last = CommitPosition(position - 1);
    while done.recv().unwrap().through < last {}
    store.submit(SHARD, CommitPosition(position), put(position, "again".into())).unwrap();
    while done.recv().unwrap().through < CommitPosition(position) {}
    assert_eq!(numbers(&store).len() as u64, position);
}

/// The engine needs a new log file when a memtable is full; folders with the names it will choose
/// make that fail, as a full or broken disk would.
#[test]
fn a_failed_write_fails_the_store_until_it_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let small = Options { message_write_buffer_bytes: 1 << 20, ..options() };
    let store = RocksStore::open(dir.path(), small).unwrap();
    let done = reports(&store);
    write(&store, &done, 1, put(1, "one".into()));

    let newest: u64 = fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.split(['.', '-']).find_map(|part| part.parse().ok())
        })
        .max()
        .unwrap();
    let traps: Vec<PathBuf> = (newest + 1..newest + 60)
        .map(|number| dir.path().join(format!("{number:06}.log")))
        .filter(|path| fs::create_dir(path).is_ok())
        .collect();

    let mut acknowledged = 1;
    let error = loop {
        let position = acknowledged + 1;
        let batch = put(position, vec![1; 3_000].into());
        store.submit(SHARD, CommitPosition(position), batch).unwrap();
        let answer = done.recv().unwrap();
        assert_eq!(answer.through, CommitPosition(position));
        match answer.result {
            Ok(()) => acknowledged = position,
            Err(error) => break error,
        }
        assert!(position < 10_000, "the log must have been switched by now");
    };
    assert!(matches!(error, StoreError::Unknown(_)), "{error}");
    assert!(!store.sends_allowed());
    assert!(store.health().failed.is_some());
    let refused = store.submit(SHARD, CommitPosition(20_000), put(20_000, "no".into()));
    assert_eq!(refused, Err(Refusal::Failed.into()));
    assert_eq!(store.get(Table::Message, &row(1)), Ok(Some("one".into())));

    for trap in traps {
        fs::remove_dir(trap).unwrap();
    }
    store.reopen().unwrap();
    assert!(store.sends_allowed());
    assert_eq!(store.health().failed, None);
    let found = numbers(&store);
    // The write in doubt is there or not; no other is.
    assert!(
        found.iter().copied().eq(1..=acknowledged)
            || found.iter().copied().eq(1..=acknowledged + 1)
    );
    write(&store, &done, 1, put(30_000, "again".into()));
    assert_eq!(numbers(&store).last(), Some(&30_000));
}

#[test]
fn a_panic_in_a_report_fails_the_store_and_does_not_hang_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.on_done(SHARD, Box::new(|_| panic!("a report that panics")));
    let mut position = 0;
    while store.health().failed.is_none() {
        position += 1;
        match store.submit(SHARD, CommitPosition(position), put(position, "body".into())) {
            Ok(()) | Err(StoreError::Refused(Refusal::Failed)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    // Reopening waits for the thread to end, so what it still has to report goes to the old reporter.
    store.reopen().unwrap();
    let done = reports(&store);
    write(&store, &done, 1, put(1 << 40, "again".into()));
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"));
    let done = reports(&store);
    write(&store, &done, 1, put(1, "one".into()));
    let copy = dir.path().join("copy");
    store.checkpoint(&copy).unwrap();
    write(&store, &done, 2, put(2, "two".into()));
    assert_eq!(numbers(&open(&copy)), [1]);
    assert_eq!(numbers(&store), [1, 2]);
    let again = store.checkpoint(&copy).unwrap_err();
    assert!(again.to_string().contains("copy"), "{again}");
}

#[test]
fn a_damaged_row_is_named_and_others_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = reports(&store);
    for number in 1..=100 {
        write(&store, &done, number, put(number, vec![7; 1_000].into()));
    }
    store.close().unwrap();
    let tables = files(dir.path(), "sst");
    let largest = tables.iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    bytes[500] ^= 1;
    fs::write(largest, bytes).unwrap();

    let store = open(dir.path());
    match store.get(Table::Message, &row(1)) {
        Err(StoreError::Corrupt { table: Table::Message, key, .. }) => assert_eq!(key, row(1)),
        other => panic!("{other:?}"),
    }
    assert!(store.get(Table::Message, &row(100)).unwrap().is_some());
    let page = store.scan(Table::Message, &(row(1)..row(101)), 10, 1 << 20);
    assert!(matches!(page, Err(StoreError::Corrupt { .. })), "{page:?}");
}
