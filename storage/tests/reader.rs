//! A store on disk that is only looked at, and the version it says it has.

#![expect(clippy::unwrap_used, reason = "every line of this file belongs to a test")]
#![cfg(feature = "rocksdb")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use peeklock_storage::format::{FORMAT, FORMAT_FILE};
use peeklock_storage::rocks::{Options, Reserve, RocksReader, RocksStore};
use peeklock_storage::{Batch, CommitPosition, Key, Refusal, ShardId, Store, StoreError, Table};

const SHARD: ShardId = ShardId(1);

fn open(dir: &Path) -> RocksStore {
    RocksStore::open(dir, Options { reserve: Reserve::NONE, ..Options::default() }).unwrap()
}

fn row(number: u64) -> Key {
    Key::new().with_u32(1).with_u8(1).with_u64(number)
}

/// Writes messages of some size, and waits for the last.
fn fill(store: &RocksStore, numbers: std::ops::Range<u64>, bytes: usize) {
    let (sender, reports) = channel();
    let sender = Mutex::new(sender);
    let last = numbers.end;
    let report = Box::new(move |done| {
        // The test may have seen enough.
        let _ = sender.lock().unwrap().send(done);
    });
    store.on_done(SHARD, report);
    for number in numbers {
        let batch = || {
            let mut batch = Batch::default();
            batch.put(Table::Message, row(number), vec![0x2e; bytes]);
            batch.put(Table::State, row(number), "state");
            batch
        };
        let submit = || store.submit(SHARD, CommitPosition(number + 1), batch());
        while let Err(refused) = submit() {
            assert_eq!(refused, StoreError::Refused(Refusal::QueueFull));
            thread::yield_now();
        }
    }
    loop {
        let done: peeklock_storage::Done = reports.recv().unwrap();
        assert_eq!(done.result, Ok(()));
        if done.through == CommitPosition(last) {
            return;
        }
    }
}

fn count(store: &dyn Store, table: Table) -> usize {
    let range = Key::new().with_u32(1).prefix_range();
    store.scan(table, &range, usize::MAX, usize::MAX).unwrap().len()
}

/// All files of a folder with what is in them.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn looking_at_a_store_shows_all_of_it_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Dropped, so that its rows are in its log alone.
    fill(&open(dir.path()), 0..500, 6_000);
    let before = contents(dir.path());
    let reader = RocksReader::open(dir.path()).unwrap();
    assert_eq!((count(&reader, Table::Message), count(&reader, Table::State)), (500, 500));
    assert_eq!(reader.get(Table::Message, &row(7)).unwrap().unwrap().len(), 6_000);
    assert_eq!(reader.last(Table::State, &row(0).prefix_range()).unwrap(), Some(row(0)));
    assert!(reader.submit(SHARD, CommitPosition(1), Batch::default()).is_err());
    assert_eq!((reader.torn_tail(), reader.log_damage()), (None, None));
    let again = RocksStore::open(dir.path(), Options::default()).map(|_| ());
    assert_eq!(again, Err(StoreError::InUse { dir: dir.path().to_owned() }));
    drop(reader);
    assert!(before == contents(dir.path()), "{:?}", contents(dir.path()).keys());
    let store = open(dir.path());
    let in_use = RocksReader::open(dir.path()).map(|_| ());
    assert_eq!(in_use, Err(StoreError::InUse { dir: dir.path().to_owned() }));
    store.close().unwrap();
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = RocksReader::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error}");
    assert!(contents(dir.path()).is_empty());
}

#[test]
fn a_copy_made_under_load_is_whole_up_to_some_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..2_000, 1_000);
    let copies: Vec<_> = (0..4).map(|copy| dir.path().join(format!("copy-{copy}"))).collect();
    thread::scope(|scope| {
        scope.spawn(|| fill(&store, 2_000..30_000, 3_000));
        for copy in &copies {
            store.checkpoint(copy).unwrap();
        }
    });
    let mut before = 2_000;
    for copy in &copies {
        let reader = RocksReader::open(copy).unwrap();
        assert_eq!(reader.log_damage(), None);
        let messages = count(&reader, Table::Message);
        assert_eq!(count(&reader, Table::State), messages, "batches are whole");
        assert!((before..=30_000).contains(&messages), "{messages}, and {before} before");
        let last = row(u64::try_from(messages).unwrap() - 1);
        let range = Key::new().with_u32(1).prefix_range();
        assert_eq!(reader.last(Table::Message, &range).unwrap(), Some(last), "without gaps");
        before = messages;
        drop(reader);
        // What was only looked at is opened, written to and opened again.
        let restored = open(copy);
        assert_eq!(count(&restored, Table::Message), messages);
        fill(&restored, 40_000..40_010, 10);
        drop(restored);
        assert_eq!(count(&open(copy), Table::Message), messages + 10);
    }
}

#[test]
fn a_store_says_its_version_and_one_of_a_newer_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()), 0..3, 10);
    let file = dir.path().join(FORMAT_FILE);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{FORMAT}\n"));
    // As the first stores were.
    fs::remove_file(&file).unwrap();
    assert_eq!(count(&RocksReader::open(dir.path()).unwrap(), Table::Message), 3);
    assert!(!file.exists());
    assert_eq!(count(&open(dir.path()), Table::Message), 3);
    assert!(file.exists());

    fs::write(&file, "2\n").unwrap();
    let newer = StoreError::Newer { dir: dir.path().to_owned(), found: 2, known: FORMAT };
    let opened = RocksStore::open(dir.path(), Options::default()).map(|_| ());
    assert_eq!(opened, Err(newer.clone()));
    assert_eq!(RocksReader::open(dir.path()).map(|_| ()), Err(newer));
}
