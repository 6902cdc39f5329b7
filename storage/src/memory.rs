//! A store in memory, for `--ephemeral` brokers and for simulation.
//!
//! Automatic: a batch is "durable" when `submit` returns, and is reported inside that call. Manual: a
//! batch waits until the test syncs it or crashes the store, which drops what was not synced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::batch::{Batch, CommitPosition, Epoch, Op, Refusal, ShardId, StoreError};
use crate::key::{Key, Table};
use crate::report::{Positions, Reports};
use crate::store::{Done, Health, OnDone, Store};

/// See the module.
#[derive(Default)]
pub struct MemStore {
    manual: bool,
    state: Mutex<State>,
    reports: Reports,
}

#[derive(Default)]
struct State {
    tables: [BTreeMap<Key, Bytes>; Table::ALL.len()],
    used: u64,
    pending: VecDeque<Pending>,
    positions: Positions,
    epoch: Epoch,
    closed: bool,
    /// Message keys that were removed and may not come back. Filled in debug builds only.
    retired: BTreeSet<Key>,
}

struct Pending {
    shard: ShardId,
    position: CommitPosition,
    batch: Batch,
}

impl MemStore {
    /// A store whose batches are done at once.
    pub fn new() -> Self {
        MemStore::default()
    }

    /// A store whose batches wait for [`sync_one`](Self::sync_one), [`sync_all`](Self::sync_all) or
    /// [`crash`](Self::crash). Reads see what was synced.
    pub fn manual() -> Self {
        MemStore { manual: true, ..MemStore::default() }
    }

    /// Refuses, from now on, batches built under an older epoch.
    pub fn fence(&self, epoch: Epoch) {
        self.state().epoch = epoch;
    }

    /// How many batches wait to be synced.
    pub fn pending_count(&self) -> usize {
        self.state().pending.len()
    }

    /// Syncs the oldest waiting batch and reports it. `false` when none waits.
    pub fn sync_one(&self) -> bool {
        self.sync(1) == 1
    }

    /// Syncs all waiting batches as one group, with one report a shard.
    pub fn sync_all(&self) -> usize {
        self.sync(usize::MAX)
    }

    /// Syncs up to `batches_max` waiting batches as one group, and says how many there were.
    pub fn sync(&self, batches_max: usize) -> usize {
        let mut through = Vec::new();
        let count = {
            let mut state = self.state();
            let count = batches_max.min(state.pending.len());
            let group: Vec<Pending> = state.pending.drain(..count).collect();
            for pending in group {
                state.apply(pending.batch);
                through.retain(|(shard, _)| *shard != pending.shard);
                through.push((pending.shard, pending.position));
            }
            count
        };
        for (shard, through) in through {
            self.reports.tell(shard, Done { through, result: Ok(()) });
        }
        count
    }

    /// Power loss: drops every batch that was not synced, and everyone who waited for a report. What
    /// is left is what the next start finds. Says how many batches were lost.
    pub fn crash(&self) -> usize {
        self.crash_after(0)
    }

    /// Power loss in the middle of a sync: the `kept` oldest waiting batches had become durable, but
    /// nobody was told; the rest is lost. Says how many that were.
    pub fn crash_after(&self, kept: usize) -> usize {
        self.reports.clear();
        let mut state = self.state();
        let kept = kept.min(state.pending.len());
        let durable: Vec<Pending> = state.pending.drain(..kept).collect();
        for pending in durable {
            state.apply(pending.batch);
        }
        state.forget_pending()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A contract breach panics inside `apply`. Whoever looks afterwards is a test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemStore {
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            if state.closed {
                return Err(Refusal::Closed.into());
            }
            if batch.epoch < state.epoch {
                return Err(StoreError::Fenced(state.epoch));
            }
            state.positions.advance(shard, position);
            if self.manual {
                state.pending.push_back(Pending { shard, position, batch });
                return Ok(());
            }
            state.apply(batch);
        }
        self.reports.tell(shard, Done { through: position, result: Ok(()) });
        Ok(())
    }

    fn on_done(&self, shard: ShardId, report: OnDone) {
        self.reports.register(shard, report);
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let state = self.state();
        state.readable()?;
        Ok(state.tables[table.index()].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let state = self.state();
        state.readable()?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        if range.is_empty() {
            return Ok(rows);
        }
        for (key, value) in state.tables[table.index()].range(range.clone()) {
            if rows.len() == rows_max || (!rows.is_empty() && bytes_max <= bytes) {
                break;
            }
            bytes += key.as_bytes().len() + value.len();
            rows.push((key.clone(), value.clone()));
        }
        Ok(rows)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        let state = self.state();
        state.readable()?;
        if range.is_empty() {
            return Ok(None);
        }
        let mut rows = state.tables[table.index()].range(range.clone());
        Ok(rows.next_back().map(|(key, _)| key.clone()))
    }

    fn reclaim(&self, _table: Table, _range: &Range<Key>) -> Result<(), StoreError> {
        self.state().readable()
    }

    fn checkpoint(&self, _dir: &Path) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("a copy of a store in memory"))
    }

    fn sends_allowed(&self) -> bool {
        !self.state().closed
    }

    fn health(&self) -> Health {
        let state = self.state();
        let queued: usize = state.pending.iter().map(|pending| pending.batch.bytes()).sum();
        Health {
            used: state.used,
            free: u64::MAX,
            queued_bytes: queued as u64,
            sends_allowed: !state.closed,
            ..Health::default()
        }
    }

    /// Drops what waits, as a crash does, but keeps the registered reports.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.forget_pending();
        state.closed = false;
        Ok(())
    }

    /// The rows stay until the store is dropped, so a reopened one has them still.
    fn close(&self) -> Result<(), StoreError> {
        self.sync_all();
        self.state().closed = true;
        Ok(())
    }
}

impl State {
    fn readable(&self) -> Result<(), StoreError> {
        if self.closed { Err(Refusal::Closed.into()) } else { Ok(()) }
    }

    fn forget_pending(&mut self) -> usize {
        self.positions.clear();
        let lost = self.pending.len();
        self.pending.clear();
        lost
    }

    fn apply(&mut self, batch: Batch) {
        for op in batch.into_ops() {
            match op {
                Op::Put { table, key, value } => {
                    let added = row_bytes(&key, &value);
                    if table == Table::Message && cfg!(debug_assertions) {
                        assert!(!self.retired.contains(&key), "message row {key} used again");
                    }
                    let before = self.tables[table.index()].insert(key.clone(), value);
                    if table == Table::Message && cfg!(debug_assertions) {
                        assert!(before.is_none(), "message row {key} written twice");
                    }
                    self.used += added;
                    self.used -= before.map_or(0, |before| row_bytes(&key, &before));
                }
                Op::Remove { table, key } => {
                    let before = self.tables[table.index()].remove(&key);
                    self.used -= before.as_ref().map_or(0, |before| row_bytes(&key, before));
                    if table == Table::Message && cfg!(debug_assertions) {
                        assert!(before.is_some(), "message row {key} removed but not there");
                        self.retired.insert(key);
                    }
                }
                Op::RemoveRange { table, range } => self.remove_range(table, &range),
            }
        }
    }

    fn remove_range(&mut self, table: Table, range: &Range<Key>) {
        if range.is_empty() {
            return;
        }
        let rows = &mut self.tables[table.index()];
        let mut removed = rows.split_off(&range.start);
        rows.append(&mut removed.split_off(&range.end));
        self.used -= removed.iter().map(|(key, value)| row_bytes(key, value)).sum::<u64>();
        if table == Table::Message && cfg!(debug_assertions) {
            self.retired.extend(removed.into_keys());
        }
    }
}

fn row_bytes(key: &Key, value: &Bytes) -> u64 {
    (key.as_bytes().len() + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn row(number: u64) -> Key {
        Key::new().with_u32(1).with_u8(1).with_u64(number)
    }

    fn put(table: Table, number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(table, row(number), vec![7; 10]);
        batch
    }

    fn reported(store: &MemStore, shard: ShardId) -> Arc<Mutex<Vec<u64>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        store.on_done(
            shard,
            Box::new(move |done| {
                assert_eq!(done.result, Ok(()));
                sink.lock().unwrap().push(done.through.0);
            }),
        );
        seen
    }

    fn submit(store: &MemStore, position: u64, batch: Batch) {
        store.submit(ShardId(0), CommitPosition(position), batch).unwrap();
    }

    #[test]
    fn a_manual_store_shows_and_reports_only_what_was_synced() {
        let store = MemStore::manual();
        let seen = reported(&store, ShardId(0));
        for number in 1..=4 {
            submit(&store, number, put(Table::Message, number));
        }
        assert_eq!(store.get(Table::Message, &row(1)), Ok(None));
        assert_eq!(store.pending_count(), 4);
        assert!(store.health().queued_bytes > 40);

        assert!(store.sync_one());
        assert!(store.get(Table::Message, &row(1)).unwrap().is_some());
        assert_eq!(store.get(Table::Message, &row(2)), Ok(None));
        assert_eq!(store.sync_all(), 3);
        assert!(!store.sync_one());
        assert_eq!(*seen.lock().unwrap(), [1, 4]);
        assert_eq!(store.health().used, 4 * 23);
    }

    #[test]
    fn a_crash_drops_the_tail_and_tells_nobody() {
        let store = MemStore::manual();
        let seen = reported(&store, ShardId(0));
        for number in 1..=5 {
            submit(&store, number, put(Table::Message, number));
        }
        store.sync_one();
        assert_eq!(store.crash_after(2), 2);
        let rows = store.scan(Table::Message, &row(0).prefix_range(), 100, 1 << 20).unwrap();
        assert!(rows.is_empty());
        let kind = Key::new().with_u32(1).with_u8(1);
        let rows = store.scan(Table::Message, &kind.prefix_range(), 100, 1 << 20).unwrap();
        assert_eq!(
            rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>(),
            [row(1), row(2), row(3)]
        );

        // The next life numbers its commits anew, and the old one's reports are gone.
        submit(&store, 1, put(Table::Message, 9));
        assert_eq!(store.crash(), 1);
        submit(&store, 1, put(Table::Message, 9));
        store.sync_all();
        assert_eq!(*seen.lock().unwrap(), [1]);
    }

    #[cfg(debug_assertions)]
    mod contract {
        use super::*;

        fn remove(number: u64) -> Batch {
            let mut batch = Batch::default();
            batch.remove(Table::Message, row(number));
            batch
        }

        #[test]
        #[should_panic(expected = "written twice")]
        fn a_message_row_is_not_rewritten() {
            let store = MemStore::new();
            submit(&store, 1, put(Table::State, 1));
            submit(&store, 2, put(Table::State, 1));
            submit(&store, 3, put(Table::Message, 1));
            submit(&store, 4, put(Table::Message, 1));
        }

        #[test]
        #[should_panic(expected = "used again")]
        fn a_message_key_is_not_used_again() {
            let store = MemStore::new();
            submit(&store, 1, put(Table::Message, 1));
            submit(&store, 2, remove(1));
            submit(&store, 3, put(Table::Message, 1));
        }

        #[test]
        #[should_panic(expected = "removed but not there")]
        fn a_message_row_is_not_removed_twice() {
            let store = MemStore::new();
            submit(&store, 1, put(Table::Message, 1));
            submit(&store, 2, remove(1));
            submit(&store, 3, remove(1));
        }
    }
}
