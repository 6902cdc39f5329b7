//! What every store promises, whichever it is. A store is handed in fresh and reports by itself.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "the sentences are tests, though a macro names them so, and each owns its store"
)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use peeklock_storage::{
    Batch, CommitPosition, Done, Epoch, Key, MemStore, Refusal, ShardId, Store, StoreError, Table,
};

/// Every store under test, made anew for each sentence.
macro_rules! conformance {
    ($($sentence:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $sentence() { super::$sentence(super::Bench::new(super::MemStore::new())); })*
        }

        #[cfg(feature = "rocksdb")]
        mod rocks {
            $(#[test] fn $sentence() {
                let dir = tempfile::tempdir().unwrap();
                super::$sentence(super::Bench::new(super::rocks_store(dir.path())));
            })*
        }
    };
}

conformance!(
    a_batch_is_readable_once_it_was_reported,
    later_operations_of_a_batch_win,
    a_removed_row_is_gone_and_others_stay,
    a_range_is_removed_from_its_start_and_without_its_end,
    the_last_write_to_a_state_row_wins,
    a_batch_spans_tables_and_tables_do_not_mix,
    a_scan_is_bounded_by_rows_by_bytes_and_by_its_range,
    a_scan_continues_behind_its_last_row,
    the_last_key_of_a_range_is_found,
    an_empty_or_inverted_range_holds_nothing,
    reports_of_a_shard_rise_and_cover_every_batch,
    shards_are_told_of_their_own_commits_only,
    an_empty_batch_is_reported_too,
    empty_values_and_long_ones_come_back_unchanged,
    keys_longer_than_the_inline_room_work,
    positions_that_do_not_rise_are_our_bug,
    reclaiming_a_removed_range_changes_nothing,
    health_says_that_sends_are_allowed,
    reopening_keeps_rows_and_reports,
    closing_reports_everything_first_and_refuses_afterwards,
);

#[cfg(feature = "rocksdb")]
fn rocks_store(dir: &std::path::Path) -> peeklock_storage::RocksStore {
    use peeklock_storage::{
        RocksStore,
        rocks::{Options, Reserve},
    };
    RocksStore::open(dir, Options { reserve: Reserve::NONE, ..Options::default() }).unwrap()
}

const SHARD: ShardId = ShardId(1);

/// A store, the reports of two shards, and the next position of each.
struct Bench<S> {
    store: S,
    reports: Arc<Reports>,
    next: Mutex<[u64; 2]>,
}

#[derive(Default)]
struct Reports {
    seen: Mutex<Vec<(ShardId, Done)>>,
    told: Condvar,
}

impl<S: Store> Bench<S> {
    fn new(store: S) -> Self {
        let reports = Arc::new(Reports::default());
        for shard in [ShardId(0), ShardId(1)] {
            let reports = Arc::clone(&reports);
            store.on_done(
                shard,
                Box::new(move |done| {
                    reports.seen.lock().unwrap().push((shard, done));
                    reports.told.notify_all();
                }),
            );
        }
        Bench { store, reports, next: Mutex::new([0; 2]) }
    }

    fn submit(&self, shard: ShardId, batch: Batch) -> CommitPosition {
        let mut next = self.next.lock().unwrap();
        let next = &mut next[usize::from(shard.0)];
        *next += 1;
        let position = CommitPosition(*next);
        self.store.submit(shard, position, batch).unwrap();
        position
    }

    fn wait(&self, shard: ShardId, position: CommitPosition) {
        let seen = self.reports.seen.lock().unwrap();
        let is_waiting = |seen: &mut Vec<(ShardId, Done)>| {
            !seen.iter().any(|(of, done)| {
                assert_eq!(done.result, Ok(()));
                *of == shard && position <= done.through
            })
        };
        drop(self.reports.told.wait_while(seen, is_waiting).unwrap());
    }

    /// Writes a batch and waits until it is durable.
    fn write(&self, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::default();
        fill(&mut batch);
        let position = self.submit(SHARD, batch);
        self.wait(SHARD, position);
    }

    fn positions(&self, shard: ShardId) -> Vec<u64> {
        let seen = self.reports.seen.lock().unwrap();
        seen.iter().filter(|(of, _)| *of == shard).map(|(_, done)| done.through.0).collect()
    }

    fn get(&self, table: Table, key: &Key) -> Option<Bytes> {
        self.store.get(table, key).unwrap()
    }

    fn keys(&self, table: Table, range: &Range<Key>) -> Vec<Key> {
        let rows = self.store.scan(table, range, usize::MAX, usize::MAX).unwrap();
        rows.into_iter().map(|(key, _)| key).collect()
    }
}

fn row(number: u64) -> Key {
    Key::new().with_u32(1).with_u8(1).with_u64(number)
}

fn rows() -> Range<Key> {
    Key::new().with_u32(1).with_u8(1).prefix_range()
}

fn a_batch_is_readable_once_it_was_reported(bench: Bench<impl Store>) {
    assert_eq!(bench.get(Table::Message, &row(1)), None);
    bench.write(|batch| batch.put(Table::Message, row(1), "one"));
    assert_eq!(bench.get(Table::Message, &row(1)), Some(Bytes::from("one")));
}

fn later_operations_of_a_batch_win(bench: Bench<impl Store>) {
    bench.write(|batch| {
        batch.put(Table::State, row(1), "first");
        batch.put(Table::State, row(1), "second");
        batch.put(Table::State, row(2), "removed");
        batch.remove(Table::State, row(2));
        batch.put(Table::State, row(3), "removed");
        batch.remove_range(Table::State, row(3)..row(4));
        batch.put(Table::State, row(3), "again");
        batch.put(Table::Message, row(4), "short-lived");
        batch.remove(Table::Message, row(4));
        batch.remove(Table::State, row(5));
        batch.put(Table::State, row(5), "after a removal of nothing");
    });
    assert_eq!(bench.get(Table::State, &row(1)), Some(Bytes::from("second")));
    assert_eq!(bench.get(Table::State, &row(2)), None);
    assert_eq!(bench.get(Table::State, &row(3)), Some(Bytes::from("again")));
    assert_eq!(bench.get(Table::Message, &row(4)), None);
    assert_eq!(bench.keys(Table::State, &rows()), [row(1), row(3), row(5)]);
}

fn a_removed_row_is_gone_and_others_stay(bench: Bench<impl Store>) {
    for table in Table::ALL {
        bench.write(|batch| (1..=3).for_each(|number| batch.put(table, row(number), "body")));
        bench.write(|batch| batch.remove(table, row(2)));
        assert_eq!(bench.get(table, &row(2)), None);
        assert_eq!(bench.keys(table, &rows()), [row(1), row(3)]);
    }
}

fn a_range_is_removed_from_its_start_and_without_its_end(bench: Bench<impl Store>) {
    for table in Table::ALL {
        bench.write(|batch| (1..=5).for_each(|number| batch.put(table, row(number), "body")));
        bench.write(|batch| batch.remove_range(table, row(2)..row(4)));
        assert_eq!(bench.keys(table, &rows()), [row(1), row(4), row(5)]);
        bench.write(|batch| batch.remove_range(table, row(9)..row(1)));
        assert_eq!(bench.keys(table, &rows()), [row(1), row(4), row(5)]);
    }
}

fn the_last_write_to_a_state_row_wins(bench: Bench<impl Store>) {
    let mut last = CommitPosition::default();
    for value in 0..200_u64 {
        let mut batch = Batch::default();
        batch.put(Table::State, row(1), value.to_be_bytes().to_vec());
        batch.put(Table::State, row(value + 10), "own");
        if value % 2 == 0 {
            batch.remove(Table::State, row(2));
        } else {
            batch.put(Table::State, row(2), "odd");
        }
        last = bench.submit(SHARD, batch);
    }
    bench.wait(SHARD, last);
    let value = bench.get(Table::State, &row(1)).unwrap();
    assert_eq!(value[..], 199_u64.to_be_bytes());
    assert_eq!(bench.get(Table::State, &row(2)), Some(Bytes::from("odd")));
    assert_eq!(bench.keys(Table::State, &rows()).len(), 202);
}

fn a_batch_spans_tables_and_tables_do_not_mix(bench: Bench<impl Store>) {
    bench.write(|batch| {
        for table in Table::ALL {
            batch.put(table, row(1), table.name());
        }
    });
    for table in Table::ALL {
        assert_eq!(bench.get(table, &row(1)), Some(Bytes::from(table.name())));
    }
    bench.write(|batch| batch.remove(Table::Dedup, row(1)));
    assert_eq!(bench.get(Table::Dedup, &row(1)), None);
    assert!(bench.get(Table::Message, &row(1)).is_some());
}

fn a_scan_is_bounded_by_rows_by_bytes_and_by_its_range(bench: Bench<impl Store>) {
    bench.write(|batch| {
        (0..100).for_each(|number| batch.put(Table::Message, row(number), vec![1; 87]));
    });
    let scan = |range: Range<Key>, rows_max, bytes_max| {
        bench.store.scan(Table::Message, &range, rows_max, bytes_max).unwrap().len()
    };
    assert_eq!(scan(rows(), 1_000, 1 << 20), 100);
    assert_eq!(scan(rows(), 7, 1 << 20), 7);
    assert_eq!(scan(rows(), 0, 1 << 20), 0);
    // A row is 13 octets of key and 87 of value.
    assert_eq!(scan(rows(), 1_000, 1_000), 10);
    assert_eq!(scan(rows(), 1_000, 1_001), 11);
    assert_eq!(scan(rows(), 1_000, 0), 1);
    assert_eq!(scan(row(10)..row(20), 1_000, 1 << 20), 10);
}

fn a_scan_continues_behind_its_last_row(bench: Bench<impl Store>) {
    bench.write(|batch| {
        (0..50).for_each(|number| batch.put(Table::State, row(number * 3), "body"));
    });
    let mut found = Vec::new();
    let mut range = rows();
    loop {
        let page = bench.store.scan(Table::State, &range, 7, usize::MAX).unwrap();
        let Some((last, _)) = page.last() else { break };
        range.start = last.successor();
        found.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(found, (0..50).map(|number| row(number * 3)).collect::<Vec<_>>());
}

fn the_last_key_of_a_range_is_found(bench: Bench<impl Store>) {
    bench.write(|batch| {
        for number in [1, 5, 9] {
            batch.put(Table::Log, row(number), "body");
        }
        batch.put(Table::Log, Key::new().with_u32(2), "next entity");
    });
    let last = |range: Range<Key>| bench.store.last(Table::Log, &range).unwrap();
    assert_eq!(last(rows()), Some(row(9)));
    assert_eq!(last(row(0)..row(9)), Some(row(5)));
    assert_eq!(last(row(2)..row(5)), None);
    assert_eq!(last(row(0)..row(1)), None);
}

fn an_empty_or_inverted_range_holds_nothing(bench: Bench<impl Store>) {
    bench.write(|batch| batch.put(Table::State, row(5), "body"));
    for range in [row(5)..row(5), row(9)..row(1)] {
        assert_eq!(bench.keys(Table::State, &range), []);
        assert_eq!(bench.store.last(Table::State, &range), Ok(None));
    }
}

fn reports_of_a_shard_rise_and_cover_every_batch(bench: Bench<impl Store>) {
    let mut last = CommitPosition::default();
    for number in 0..3_000 {
        let mut batch = Batch::default();
        batch.put(Table::Message, row(number), "body");
        last = bench.submit(SHARD, batch);
    }
    bench.wait(SHARD, last);
    let positions = bench.positions(SHARD);
    assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
    assert_eq!(positions.last(), Some(&3_000));
}

fn shards_are_told_of_their_own_commits_only(bench: Bench<impl Store>) {
    let mut last = [CommitPosition::default(); 2];
    for number in 0..100 {
        for shard in [ShardId(0), ShardId(1)] {
            let mut batch = Batch::default();
            batch.put(Table::Message, row(number * 2 + u64::from(shard.0)), "body");
            if shard == ShardId(0) || number < 50 {
                last[usize::from(shard.0)] = bench.submit(shard, batch);
            }
        }
    }
    bench.wait(ShardId(0), last[0]);
    bench.wait(ShardId(1), last[1]);
    assert_eq!(bench.positions(ShardId(0)).last(), Some(&100));
    assert_eq!(bench.positions(ShardId(1)).last(), Some(&50));
}

fn an_empty_batch_is_reported_too(bench: Bench<impl Store>) {
    bench.write(|_| ());
    assert_eq!(bench.positions(SHARD), [1]);
}

fn empty_values_and_long_ones_come_back_unchanged(bench: Bench<impl Store>) {
    let lengths = [0, 1, 4_095, 4_096, 100_000, 3_000_000];
    let body = |len: usize| -> Bytes {
        (0..len).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<_>>().into()
    };
    for table in Table::ALL {
        bench.write(|batch| {
            for len in lengths {
                batch.put(table, row(len as u64), body(len));
            }
        });
        for len in lengths {
            assert_eq!(bench.get(table, &row(len as u64)), Some(body(len)));
        }
        let page = bench.store.scan(table, &rows(), usize::MAX, usize::MAX).unwrap();
        assert_eq!(page.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), lengths);
    }
}

fn keys_longer_than_the_inline_room_work(bench: Bench<impl Store>) {
    let key = row(1).with_sized_bytes(&[b's'; 512]);
    bench.write(|batch| batch.put(Table::State, key.clone(), "session"));
    assert_eq!(bench.get(Table::State, &key), Some(Bytes::from("session")));
    assert_eq!(bench.keys(Table::State, &row(1).prefix_range()), std::slice::from_ref(&key));
    bench.write(|batch| batch.remove(Table::State, key.clone()));
    assert_eq!(bench.get(Table::State, &key), None);
}

fn positions_that_do_not_rise_are_our_bug(bench: Bench<impl Store>) {
    bench.write(|batch| batch.put(Table::State, row(1), "body"));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bench.store.submit(SHARD, CommitPosition(1), Batch::default())
    }));
    assert!(again.is_err());
}

fn reclaiming_a_removed_range_changes_nothing(bench: Bench<impl Store>) {
    bench.write(|batch| {
        (0..100).for_each(|number| batch.put(Table::Dedup, row(number), "body"));
        batch.put(Table::Dedup, Key::new().with_u32(2), "next entity");
    });
    bench.write(|batch| batch.remove_range(Table::Dedup, rows()));
    bench.store.reclaim(Table::Dedup, &rows()).unwrap();
    assert_eq!(bench.keys(Table::Dedup, &rows()), []);
    assert!(bench.get(Table::Dedup, &Key::new().with_u32(2)).is_some());
}

fn health_says_that_sends_are_allowed(bench: Bench<impl Store>) {
    bench.write(|batch| batch.put(Table::State, row(1), vec![1; 1_000]));
    let health = bench.store.health();
    assert!(bench.store.sends_allowed() && health.sends_allowed);
    assert_eq!((health.failed, health.queued_bytes), (None, 0));
    assert!(1_000 <= health.used && 0 < health.free);
}

fn reopening_keeps_rows_and_reports(bench: Bench<impl Store>) {
    bench.write(|batch| batch.put(Table::Message, row(1), "one"));
    bench.store.reopen().unwrap();
    assert_eq!(bench.get(Table::Message, &row(1)), Some(Bytes::from("one")));
    // Positions start anew.
    bench.reports.seen.lock().unwrap().clear();
    *bench.next.lock().unwrap() = [0; 2];
    bench.write(|batch| batch.remove(Table::Message, row(1)));
    assert_eq!(bench.positions(SHARD), [1]);
    assert_eq!(bench.get(Table::Message, &row(1)), None);
}

fn closing_reports_everything_first_and_refuses_afterwards(bench: Bench<impl Store>) {
    for number in 0..500 {
        let mut batch = Batch::default();
        batch.put(Table::Message, row(number), "body");
        bench.submit(SHARD, batch);
    }
    bench.store.close().unwrap();
    assert_eq!(bench.positions(SHARD).last(), Some(&500));
    let refused = bench.store.submit(SHARD, CommitPosition(501), Batch::default());
    assert_eq!(refused, Err(StoreError::Refused(Refusal::Closed)));
    assert_eq!(bench.store.get(Table::Message, &row(1)), Err(Refusal::Closed.into()));
    assert!(!bench.store.sends_allowed());

    bench.store.reopen().unwrap();
    assert_eq!(bench.keys(Table::Message, &rows()).len(), 500);
}

/// Not part of the macro: how a store learns its epoch is its own.
#[test]
fn an_older_owner_is_fenced() {
    let store = MemStore::new();
    store.fence(Epoch(2));
    let refused = store.submit(SHARD, CommitPosition(1), Batch::new(Epoch(1)));
    assert_eq!(refused, Err(StoreError::Fenced(Epoch(2))));
    assert_eq!(store.submit(SHARD, CommitPosition(1), Batch::new(Epoch(2))), Ok(()));
}

#[test]
fn tables_have_their_own_names_and_places() {
    let names: BTreeSet<_> = Table::ALL.iter().map(|table| table.name()).collect();
    assert_eq!(names.len(), Table::ALL.len());
    for (index, table) in Table::ALL.into_iter().enumerate() {
        assert_eq!(table.index(), index);
    }
}
