//! Cuts, zeroes and damages the log of a store that was not closed, and opens what is left.

#![cfg(feature = "rocksdb")]
#![expect(clippy::unwrap_used, reason = "every line of this file belongs to a test")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use peeklock_storage::rocks::{Options, Reserve, RocksStore};
use peeklock_storage::{Batch, CommitPosition, Done, Key, ShardId, Store, StoreError, Table};

const SHARD: ShardId = ShardId(0);
const BATCHES: u64 = 24;

/// A store's folder as a crash leaves it, and what its log holds.
struct Crashed {
    dir: tempfile::TempDir,
    log: PathBuf,
    bytes: Vec<u8>,
    /// Where each batch's record stands in the log.
    records: Vec<Range<usize>>,
}

#[test]
fn a_log_cut_anywhere_keeps_whole_batches_and_nothing_else() {
    let crashed = crash();
    let len = crashed.bytes.len();
    let mut cuts: Vec<usize> = (0..len).step_by(len / 16).collect();
    for record in &crashed.records {
        cuts.extend([
            record.start.saturating_sub(1),
            record.start,
            record.start + 1,
            record.end - 1,
        ]);
    }
    cuts.push(len);
    for cut in cuts {
        let left = crashed.bytes[..cut].to_vec();
        let whole = crashed.records.iter().filter(|record| record.end <= cut).count();
        check_prefix(&crashed, &left, whole, &format!("cut at {cut} of {len}"));
    }
}

#[test]
fn a_log_zeroed_from_anywhere_keeps_whole_batches_and_nothing_else() {
    let crashed = crash();
    let len = crashed.bytes.len();
    let mut starts: Vec<usize> = (0..len).step_by(len / 16).collect();
    for record in &crashed.records {
        starts.extend([record.start, record.start + 1, record.start + 8]);
    }
    for start in starts {
        let mut left = crashed.bytes.clone();
        left[start..].fill(0);
        let whole = crashed.records.iter().filter(|record| record.end <= start).count();
        check_prefix(&crashed, &left, whole, &format!("zeroes from {start} of {len}"));
    }
}

#[test]
fn a_flipped_bit_before_the_last_record_refuses_to_start_unless_told_to() {
    let crashed = crash();
    let (_, before_last) = crashed.records.split_last().unwrap();
    for (index, record) in before_last.iter().enumerate() {
        // The checksum, the length, the type, and somewhere in the payload.
        let at = record.start + [0, 4, 6, record.len() / 2][index % 4];
        let mut left = crashed.bytes.clone();
        left[at] ^= 0x20;
        let (dir, log) = crashed.copy(&left);
        match RocksStore::open(dir.path(), options()) {
            Err(StoreError::DamagedLog { file, .. }) => assert_eq!(file, log, "flipped at {at}"),
            other => panic!("flipped at {at}: {:?}", other.map(|_| ())),
        }
        assert_eq!(fs::read(&log).unwrap(), left, "a refused log is left alone");

        let accepting = Options { accept_data_loss: true, ..options() };
        let store = RocksStore::open(dir.path(), accepting).expect("the loss is accepted");
        assert!(matches!(store.recovery().accepted_loss, Some(StoreError::DamagedLog { .. })));
        let kept = rows(&store);
        assert_eq!(kept, model(index), "flipped at {at}");
    }
}

/// Opens a store with this log: it must hold exactly the first batches, and go on working.
#[track_caller]
fn check_prefix(crashed: &Crashed, left: &[u8], whole: usize, what: &str) {
    let (dir, _) = crashed.copy(left);
    let store = RocksStore::open(dir.path(), options()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(rows(&store), model(whole), "{what}");
    let marker = Key::new().with_u8(9);
    let done = reports(&store);
    let mut batch = Batch::default();
    batch.put(Table::State, marker.clone(), "after");
    write(&store, &done, 1, batch);
    drop(store);
    let store = RocksStore::open(dir.path(), options()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(store.get(Table::State, &marker), Ok(Some("after".into())), "{what}");
    assert_eq!(store.recovery().torn_tail, None, "{what}");
}

/// Three tables in each batch; every third message is removed two batches later. Sizes from one octet
/// to several blocks, without zeroes.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    let len = usize::try_from(number * number * 211 % 9_000 + 1).unwrap();
    let len = if number % 7 == 3 { len + 90_000 } else { len };
    batch.put(Table::Message, row(number), vec![0xA5; len]);
    batch.put(Table::State, counter(), number.to_be_bytes().to_vec());
    batch.put(Table::Dedup, row(number), "seen");
    if let Some(before) = number.checked_sub(2).filter(|before| before % 3 == 1) {
        batch.remove(Table::Message, row(before));
    }
    batch
}

/// The rows after the first so many batches, by the simplest means.
fn model(batches: usize) -> BTreeMap<(Table, Key), Bytes> {
    let mut rows = BTreeMap::new();
    for number in 1..=batches as u64 {
        for op in batch(number).into_ops() {
            match op {
                peeklock_storage::Op::Put { table, key, value } => {
                    rows.insert((table, key), value);
                }
                peeklock_storage::Op::Remove { table, key } => {
                    rows.remove(&(table, key)).expect("the model removes what is there");
                }
                peeklock_storage::Op::RemoveRange { .. } => unreachable!("no batch does"),
            }
        }
    }
    rows
}

fn rows(store: &RocksStore) -> BTreeMap<(Table, Key), Bytes> {
    let everything = Key::new()..Key::new().with_u8(0xFF);
    let mut rows = BTreeMap::new();
    for table in Table::ALL {
        let found = store.scan(table, &everything, usize::MAX, usize::MAX).unwrap();
        rows.extend(found.into_iter().map(|(key, value)| ((table, key), value)));
    }
    rows
}

fn row(number: u64) -> Key {
    Key::new().with_u32(1).with_u8(1).with_u64(number)
}

fn counter() -> Key {
    Key::new().with_u32(1).with_u8(0)
}

fn options() -> Options {
    Options { reserve: Reserve::NONE, ..Options::default() }
}

fn reports(store: &RocksStore) -> Receiver<Done> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    store.on_done(SHARD, Box::new(move |done| sender.lock().unwrap().send(done).unwrap()));
    receiver
}

fn write(store: &RocksStore, done: &Receiver<Done>, position: u64, batch: Batch) {
    store.submit(SHARD, CommitPosition(position), batch).unwrap();
    let expected = Done { through: CommitPosition(position), result: Ok(()) };
    assert_eq!(done.recv().unwrap(), expected);
}

/// Writes each batch as a group of its own, and copies the folder while the store is open.
fn crash() -> Crashed {
    let live = tempfile::tempdir().unwrap();
    let store = RocksStore::open(live.path(), options()).unwrap();
    let done = reports(&store);
    for number in 1..=BATCHES {
        write(&store, &done, number, batch(number));
    }
    let dir = tempfile::tempdir().unwrap();
    copy_files(live.path(), dir.path());
    let logs: Vec<PathBuf> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "log"))
        .filter(|path| 0 < fs::metadata(path).unwrap().len())
        .collect();
    let [log] = &logs[..] else { panic!("one log holds everything: {logs:?}") };
    let bytes = fs::read(log).unwrap();
    let records = records(&bytes);
    assert_eq!(records.len() as u64, BATCHES, "one record a batch");
    assert!(records.iter().any(|record| 2 * 32_768 < record.len()), "some span blocks");
    Crashed { log: log.clone(), dir, bytes, records }
}

/// Where the records of a whole log stand, by their headers alone.
fn records(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut records = Vec::new();
    let (mut at, mut start) = (0, 0);
    while at < bytes.len() {
        let left = 32_768 - at % 32_768;
        if left < 7 {
            at += left;
            continue;
        }
        let len = 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        match bytes[at + 6] {
            1 => records.push(at..at + len),
            2 => start = at,
            3 => {}
            4 => records.push(start..at + len),
            other => panic!("record of type {other} at {at}"),
        }
        at += len;
    }
    records
}

impl Crashed {
    /// The folder anew, with this log in it.
    fn copy(&self, log: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        copy_files(self.dir.path(), dir.path());
        let path = dir.path().join(self.log.file_name().unwrap());
        fs::write(&path, log).unwrap();
        (dir, path)
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
