//! A store that goes wrong by seed, the way disks do.
//!
//! Wraps another store. Made for simulation over a [`MemStore`](crate::MemStore), where everything
//! happens on one thread: over a store with a thread of its own, a success decided before a fault may
//! be told after it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::batch::{Batch, CommitPosition, Refusal, ShardId, StoreError};
use crate::key::{Key, Table};
use crate::report::Reports;
use crate::statistics::Statistics;
use crate::store::{Done, Health, OnDone, Store};

/// How often a submit goes wrong, each in parts of ten thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// It is refused, as when the writer is full.
    pub refused: u32,
    /// It is lost, and reported as unknown.
    pub lost: u32,
    /// It is written, and reported as unknown all the same.
    pub kept: u32,
    /// The disk becomes full, for this and the next [`FaultStore::DISK_FULL_SUBMITS`] submits.
    pub disk_full: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults { refused: 0, lost: 0, kept: 0, disk_full: 0 };
}

/// What has gone wrong so far, so that a test can tell that it tested something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts {
    /// Submits refused.
    pub refused: u64,
    /// Batches lost.
    pub lost: u64,
    /// Batches written and not acknowledged.
    pub kept: u64,
    /// Times the disk became full.
    pub disk_full: u64,
}

/// See the module.
pub struct FaultStore<S> {
    inner: S,
    shared: Arc<Shared>,
}

struct Shared {
    reports: Reports,
    state: Mutex<State>,
}

struct State {
    random: u64,
    faults: Faults,
    counts: FaultCounts,
    failed: Option<String>,
    disk_full_left: u32,
    shards: BTreeMap<ShardId, Progress>,
}

#[derive(Clone, Copy, Default)]
struct Progress {
    submitted: CommitPosition,
    reported: CommitPosition,
}

enum Fault {
    None,
    Refused,
    Lost,
    Kept,
}

impl<S: Store> FaultStore<S> {
    /// How long a full disk stays full.
    pub const DISK_FULL_SUBMITS: u32 = 16;

    /// Wraps a store. The same seed and the same submits give the same faults.
    pub fn new(inner: S, seed: u64, faults: Faults) -> Self {
        let state = State {
            random: seed,
            faults,
            counts: FaultCounts::default(),
            failed: None,
            disk_full_left: 0,
            shards: BTreeMap::new(),
        };
        let shared = Shared { reports: Reports::default(), state: Mutex::new(state) };
        FaultStore { inner, shared: Arc::new(shared) }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Changes how often things go wrong; [`Faults::NONE`] heals.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.shared.state();
        state.faults = faults;
        if faults.disk_full == 0 {
            state.disk_full_left = 0;
        }
    }

    /// What has gone wrong so far.
    pub fn counts(&self) -> FaultCounts {
        self.shared.state().counts
    }

    /// Fails the store: every shard with a batch in doubt hears of it, once.
    fn fail(&self, what: &str) {
        let mut state = self.shared.state();
        state.failed = Some(what.to_owned());
        let doubtful: Vec<(ShardId, CommitPosition)> = state
            .shards
            .iter()
            .filter(|(_, progress)| progress.reported < progress.submitted)
            .map(|(shard, progress)| (*shard, progress.submitted))
            .collect();
        drop(state);
        for (shard, through) in doubtful {
            let result = Err(StoreError::Unknown(what.to_owned()));
            self.shared.reports.tell(shard, Done { through, result });
        }
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        let fault = {
            let mut state = self.shared.state();
            if state.failed.is_some() {
                return Err(Refusal::Failed.into());
            }
            let fault = state.draw();
            if !matches!(fault, Fault::Refused) {
                state.shards.entry(shard).or_default().submitted = position;
            }
            fault
        };
        match fault {
            Fault::None => self.inner.submit(shard, position, batch),
            Fault::Refused => Err(Refusal::QueueFull.into()),
            Fault::Lost => {
                self.fail("injected fault before the write");
                Ok(())
            }
            Fault::Kept => {
                // Failed first, so that the success reported below is not passed on.
                self.shared.state().failed = Some(String::new());
                self.inner.submit(shard, position, batch)?;
                self.fail("injected fault after the write");
                Ok(())
            }
        }
    }

    fn on_done(&self, shard: ShardId, report: OnDone) {
        self.shared.reports.register(shard, report);
        let shared = Arc::clone(&self.shared);
        self.inner.on_done(shard, Box::new(move |done| shared.pass_on(shard, done)));
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.inner.scan(table, range, rows_max, bytes_max)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        self.inner.last(table, range)
    }

    fn reclaim(&self, table: Table, range: &Range<Key>) -> Result<(), StoreError> {
        self.inner.reclaim(table, range)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.inner.checkpoint(dir)
    }

    fn sends_allowed(&self) -> bool {
        self.shared.state().disk_full_left == 0 && self.inner.sends_allowed()
    }

    fn health(&self) -> Health {
        let mut health = self.inner.health();
        let state = self.shared.state();
        if 0 < state.disk_full_left {
            health.free = 0;
            health.sends_allowed = false;
        }
        health.failed = state.failed.clone().or(health.failed);
        health
    }

    fn statistics(&self) -> Option<&Statistics> {
        self.inner.statistics()
    }

    /// Over a manual [`MemStore`](crate::MemStore), what waits there is lost: to have a write survive
    /// its failure, sync it first.
    fn reopen(&self) -> Result<(), StoreError> {
        self.inner.reopen()?;
        let mut state = self.shared.state();
        state.failed = None;
        state.shards.clear();
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass_on(&self, shard: ShardId, done: Done) {
        {
            let mut state = self.state();
            if state.failed.is_some() {
                return;
            }
            if let Err(error) = &done.result {
                state.failed = Some(error.to_string());
            }
            state.shards.entry(shard).or_default().reported = done.through;
        }
        self.reports.tell(shard, done);
    }
}

impl State {
    fn draw(&mut self) -> Fault {
        self.disk_full_left = self.disk_full_left.saturating_sub(1);
        if self.chance(self.faults.disk_full) {
            self.counts.disk_full += 1;
            self.disk_full_left = FaultStore::<crate::MemStore>::DISK_FULL_SUBMITS;
        }
        if self.chance(self.faults.refused) {
            self.counts.refused += 1;
            Fault::Refused
        } else if self.chance(self.faults.lost) {
            self.counts.lost += 1;
            Fault::Lost
        } else if self.chance(self.faults.kept) {
            self.counts.kept += 1;
            Fault::Kept
        } else {
            Fault::None
        }
    }

    fn chance(&mut self, of_ten_thousand: u32) -> bool {
        self.next_random() % 10_000 < u64::from(of_ten_thousand)
    }

    /// `SplitMix64`: any seed is a good one, and a draw is three lines.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemStore;

    const SHARD: ShardId = ShardId(3);

    fn row(number: u64) -> Key {
        Key::new().with_u8(1).with_u64(number)
    }

    fn put(number: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Message, row(number), "body");
        batch
    }

    fn faulty(faults: Faults) -> (FaultStore<MemStore>, Arc<Mutex<Vec<Done>>>) {
        let store = FaultStore::new(MemStore::new(), 1, faults);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        store.on_done(SHARD, Box::new(move |done| sink.lock().unwrap().push(done)));
        (store, seen)
    }

    #[track_caller]
    fn check_unknown(faults: Faults, is_written: bool) {
        let (store, seen) = faulty(faults);
        store.submit(SHARD, CommitPosition(5), put(1)).unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].through, CommitPosition(5));
        assert!(matches!(seen[0].result, Err(StoreError::Unknown(_))));
        assert_eq!(store.get(Table::Message, &row(1)).unwrap().is_some(), is_written);

        assert!(store.health().failed.is_some());
        let next = store.submit(SHARD, CommitPosition(6), put(2));
        assert_eq!(next, Err(Refusal::Failed.into()));
        store.set_faults(Faults::NONE);
        store.reopen().unwrap();
        store.submit(SHARD, CommitPosition(1), put(2)).unwrap();
        assert_eq!(store.health().failed, None);
    }

    #[test]
    fn a_lost_write_is_unknown_and_not_there() {
        check_unknown(Faults { lost: 10_000, ..Faults::NONE }, false);
    }

    #[test]
    fn a_kept_write_is_unknown_and_there() {
        check_unknown(Faults { kept: 10_000, ..Faults::NONE }, true);
    }

    #[test]
    fn a_refused_write_leaves_no_trace() {
        let (store, seen) = faulty(Faults { refused: 10_000, ..Faults::NONE });
        let answer = store.submit(SHARD, CommitPosition(1), put(1));
        assert_eq!(answer, Err(Refusal::QueueFull.into()));
        assert_eq!(store.get(Table::Message, &row(1)), Ok(None));
        store.set_faults(Faults::NONE);
        store.submit(SHARD, CommitPosition(1), put(1)).unwrap();
        assert_eq!(seen.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_full_disk_stops_sends_and_passes() {
        let (store, _) = faulty(Faults { disk_full: 10_000, ..Faults::NONE });
        assert!(store.sends_allowed());
        store.submit(SHARD, CommitPosition(1), put(1)).unwrap();
        assert!(!store.sends_allowed() && !store.health().sends_allowed);
        store.set_faults(Faults { disk_full: 1, ..Faults::NONE });
        let mut position = 1;
        while !store.sends_allowed() {
            position += 1;
            store.submit(SHARD, CommitPosition(position), put(position)).unwrap();
            assert!(position < 1_000);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = |seed| {
            let faults = Faults { refused: 1_000, lost: 500, kept: 500, disk_full: 100 };
            let store = FaultStore::new(MemStore::new(), seed, faults);
            for number in 1..=1_000 {
                if store.submit(SHARD, CommitPosition(number), put(number)).is_err()
                    && store.health().failed.is_some()
                {
                    store.reopen().unwrap();
                }
            }
            store.counts()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let counts = run(7);
        assert!(0 < counts.refused && 0 < counts.lost && 0 < counts.kept && 0 < counts.disk_full);
    }

    #[test]
    fn a_fault_puts_earlier_batches_in_doubt_too() {
        let store = FaultStore::new(MemStore::manual(), 1, Faults::NONE);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for shard in [ShardId(1), ShardId(2), ShardId(3)] {
            let sink = Arc::clone(&seen);
            store.on_done(
                shard,
                Box::new(move |done| sink.lock().unwrap().push((shard, done.result.is_ok()))),
            );
        }
        store.submit(ShardId(1), CommitPosition(1), put(1)).unwrap();
        store.inner().sync_all();
        store.submit(ShardId(2), CommitPosition(1), put(2)).unwrap();
        store.set_faults(Faults { kept: 10_000, ..Faults::NONE });
        store.submit(ShardId(3), CommitPosition(1), put(3)).unwrap();
        store.inner().sync_all();
        let seen = seen.lock().unwrap();
        assert_eq!(*seen, [(ShardId(1), true), (ShardId(2), false), (ShardId(3), false)]);
    }
}
