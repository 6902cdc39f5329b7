//! Group commit: one thread writes, and syncs once for all that has gathered meanwhile.
//!
//! There is no delay before a commit. While a group is being synced the next one gathers by itself,
//! so groups grow with the load and with the slowness of the disk.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rocksdb::{ColumnFamily, DB, FlushOptions, WriteBatch, WriteOptions};

use super::space::SpaceGate;
use crate::batch::{Batch, CommitPosition, Epoch, Op, Refusal, ShardId, StoreError};
use crate::key::{Key, Table};
use crate::report::{Positions, Reports};
use crate::statistics::Statistics;
use crate::store::Done;

/// What may wait before submits are refused: half a second of a fast disk.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// A group's bounds. Beyond them a larger group saves nothing, and everybody in it waits longer.
const GROUP_BATCHES_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 4 << 20;
/// How often the free space is asked for while there are writes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Or after how much was written, if that is sooner.
const LOOK_AFTER_BYTES: usize = 64 << 20;
/// How often it is asked for while sends are stopped and there may be no writes.
const LOOK_WHEN_CLOSED: Duration = Duration::from_millis(500);

/// How often rows in memory are put into table files while sends are stopped.
const FLUSH_WHEN_CLOSED: Duration = Duration::from_secs(2);

/// The queue in front of the thread, and what the thread works with.
pub(super) struct Writer {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Of batches that wait or are being written. Added to under the lock of the queue, so the bound
    /// holds; taken from without, before the report.
    queued_bytes: AtomicUsize,
    /// `None` between a failed opening and the next. Readers share it with the thread.
    pub(super) db: RwLock<Option<DB>>,
    pub(super) reports: Reports,
    pub(super) gate: SpaceGate,
    pub(super) statistics: Statistics,
}

struct Queue {
    waiting: VecDeque<Submitted>,
    positions: Positions,
    epoch: Epoch,
    phase: Phase,
    /// Whether the thread must be woken: a wake-up nobody needs is a system call all the same.
    is_thread_asleep: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Open,
    /// Takes nothing more; the thread ends when nothing waits.
    Closing,
    Closed,
    /// Takes nothing more; the thread has ended.
    Failed(String),
}

/// When the thread last saw to the free space, and how much was written since.
struct SpaceWatch {
    looked: Instant,
    since_look: usize,
    flushed: Instant,
    since_flush: usize,
}

struct Submitted {
    shard: ShardId,
    position: CommitPosition,
    batch: Batch,
}

impl Writer {
    pub(super) fn new(gate: SpaceGate, epoch: Epoch) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            positions: Positions::default(),
            epoch,
            phase: Phase::Closed,
            is_thread_asleep: false,
        };
        Writer {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            queued_bytes: AtomicUsize::new(0),
            db: RwLock::new(None),
            reports: Reports::default(),
            gate,
            statistics: Statistics::default(),
        }
    }

    /// Starts the thread over an open database.
    pub(super) fn start(self: &Arc<Self>) -> Result<JoinHandle<()>, StoreError> {
        {
            let mut queue = self.queue();
            queue.positions.clear();
            self.queued_bytes.store(0, Ordering::Relaxed);
            queue.phase = Phase::Open;
        }
        let writer = Arc::clone(self);
        let spawned = thread::Builder::new().name("store-writer".into()).spawn(move || {
            // A panic in a report must not leave submitters waiting for ever.
            if panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                writer.fail_after_panic();
            }
        });
        spawned.map_err(|error| {
            let what = format!("cannot start the writer: {error}");
            self.queue().phase = Phase::Failed(what.clone());
            StoreError::Io { doing: "start a thread".into(), kind: error.kind(), what }
        })
    }

    pub(super) fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        let mut queue = self.queue();
        match queue.phase {
            Phase::Open => {}
            Phase::Failed(_) => return Err(Refusal::Failed.into()),
            Phase::Closing | Phase::Closed => return Err(Refusal::Closed.into()),
        }
        if batch.epoch < queue.epoch {
            return Err(StoreError::Fenced(queue.epoch));
        }
        // A batch larger than the queue is let into an empty one, or it could never be written.
        let queued = self.queued_bytes();
        if 0 < queued && QUEUED_BYTES_MAX < queued.saturating_add(batch.bytes()) {
            return Err(Refusal::QueueFull.into());
        }
        queue.positions.advance(shard, position);
        self.queued_bytes.fetch_add(batch.bytes(), Ordering::Relaxed);
        queue.waiting.push_back(Submitted { shard, position, batch });
        let is_thread_asleep = mem::take(&mut queue.is_thread_asleep);
        drop(queue);
        if is_thread_asleep {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes nothing more and lets the thread finish. It must then be joined.
    pub(super) fn stop(&self) {
        let mut queue = self.queue();
        if queue.phase == Phase::Open {
            queue.phase = Phase::Closing;
        }
        drop(queue);
        self.wake.notify_one();
    }

    pub(super) fn phase(&self) -> Phase {
        self.queue().phase.clone()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.queue().phase = phase;
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The one panic under this lock is a position that does not rise, before any change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self) {
        let mut waiting = VecDeque::new();
        let mut group = Vec::with_capacity(GROUP_BATCHES_MAX);
        let mut watch = SpaceWatch {
            looked: Instant::now(),
            since_look: 0,
            flushed: Instant::now(),
            since_flush: 0,
        };
        while self.take(&mut waiting, &mut watch) {
            let bytes = form_group(&mut waiting, &mut group);
            let begun = Instant::now();
            let written = self.write(&group, bytes);
            self.count(&group, bytes, begun.elapsed());
            if let Err(what) = written {
                group.extend(waiting);
                self.fail(&what, group);
                return;
            }
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            for (shard, through) in highest(&group) {
                self.reports.tell(shard, Done { through, result: Ok(()) });
            }
            group.clear();
            watch.since_look += bytes;
            watch.since_flush += bytes;
            if LOOK_AFTER_BYTES <= watch.since_look || LOOK_EVERY <= watch.looked.elapsed() {
                self.look(&mut watch);
            }
        }
    }

    /// Takes all that waits. Blocks while there is nothing; `false` when there never will be.
    fn take(&self, waiting: &mut VecDeque<Submitted>, watch: &mut SpaceWatch) -> bool {
        let mut queue = self.queue();
        loop {
            waiting.append(&mut queue.waiting);
            if !waiting.is_empty() {
                return true;
            }
            if queue.phase != Phase::Open {
                return false;
            }
            queue.is_thread_asleep = true;
            if self.gate.is_open() {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            } else {
                // Space comes back while nothing is written, so somebody must look.
                let woken = self.wake.wait_timeout(queue, LOOK_WHEN_CLOSED);
                let (guard, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                queue = guard;
                if timeout.timed_out() {
                    drop(queue);
                    self.look(watch);
                    queue = self.queue();
                }
            }
            queue.is_thread_asleep = false;
        }
    }

    /// Asks for the free space, and while there is too little, sees to it that removals give some back:
    /// they do so only once they are in table files, which an idle store would never write.
    fn look(&self, watch: &mut SpaceWatch) {
        // Without an answer the gate is closed and the next look tries again; health has the error.
        let _closed_on_error = self.gate.look();
        (watch.looked, watch.since_look) = (Instant::now(), 0);
        let is_due = 0 < watch.since_flush && FLUSH_WHEN_CLOSED <= watch.flushed.elapsed();
        if self.gate.is_open() || !is_due {
            return;
        }
        (watch.flushed, watch.since_flush) = (Instant::now(), 0);
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = db.as_ref() {
            // A flush that fails makes the next write fail, which is reported as every other.
            let _fails_the_next_write = flush(db, false);
        }
    }

    fn count(&self, group: &[Submitted], bytes: usize, took: Duration) {
        let Statistics { commit_micros, group_batches, group_bytes, .. } = &self.statistics;
        commit_micros.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        group_batches.observe(group.len() as u64);
        group_bytes.observe(bytes as u64);
    }

    fn write(&self, group: &[Submitted], bytes: usize) -> Result<(), String> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or("the database is not open")?;
        let mut tables = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            tables.push(column_family(db, table).ok_or("a table is missing")?);
        }
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        fill(&mut batch, group, &tables);
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        db.write_opt(batch, &options).map_err(rocksdb::Error::into_string)
    }

    /// Reports everything not yet reported as unknown, once to each shard, and takes nothing more.
    fn fail(&self, what: &str, mut doubtful: Vec<Submitted>) {
        {
            let mut queue = self.queue();
            doubtful.extend(queue.waiting.drain(..));
            queue.fail(what);
        }
        self.statistics.failures.fetch_add(1, Ordering::Relaxed);
        self.queued_bytes.store(0, Ordering::Relaxed);
        for (shard, through) in highest(&doubtful) {
            let result = Err(StoreError::Unknown(what.to_owned()));
            self.reports.tell(shard, Done { through, result });
        }
    }

    /// Which reports were still to come is lost with the thread's stack, so every shard is told. The
    /// report that panicked may do so again; the others still get theirs.
    fn fail_after_panic(&self) {
        let what = "the writer thread panicked";
        self.statistics.failures.fetch_add(1, Ordering::Relaxed);
        let shards: Vec<_> = {
            let mut queue = self.queue();
            queue.waiting.clear();
            queue.fail(what);
            queue.positions.iter().collect()
        };
        for (shard, through) in shards {
            let done = Done { through, result: Err(StoreError::Unknown(what.to_owned())) };
            let _panicked_again =
                panic::catch_unwind(AssertUnwindSafe(|| self.reports.tell(shard, done)));
        }
    }
}

impl Queue {
    fn fail(&mut self, what: &str) {
        self.phase = Phase::Failed(what.to_owned());
    }
}

pub(super) fn column_family(db: &DB, table: Table) -> Option<&ColumnFamily> {
    db.cf_handle(table.name())
}

/// Puts rows in memory into table files, and waits for that or not.
pub(super) fn flush(db: &DB, is_waiting: bool) -> Result<(), rocksdb::Error> {
    let tables: Vec<&ColumnFamily> =
        Table::ALL.into_iter().filter_map(|table| column_family(db, table)).collect();
    let mut options = FlushOptions::default();
    options.set_wait(is_waiting);
    db.flush_cfs_opt(&tables, &options)
}

fn form_group(waiting: &mut VecDeque<Submitted>, group: &mut Vec<Submitted>) -> usize {
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        let is_full =
            GROUP_BATCHES_MAX <= group.len() || GROUP_BYTES_MAX < bytes + next.batch.bytes();
        if is_full && !group.is_empty() {
            break;
        }
        bytes += next.batch.bytes();
        group.extend(waiting.pop_front());
    }
    bytes
}

/// The highest position of each shard in a group.
fn highest(group: &[Submitted]) -> Vec<(ShardId, CommitPosition)> {
    let mut highest: Vec<(ShardId, CommitPosition)> = Vec::new();
    for submitted in group {
        match highest.iter_mut().find(|(shard, _)| *shard == submitted.shard) {
            Some((_, position)) => *position = submitted.position,
            None => highest.push((submitted.shard, submitted.position)),
        }
    }
    highest
}

fn fill(batch: &mut WriteBatch, group: &[Submitted], tables: &[&ColumnFamily]) {
    let superseded = superseded(group);
    let mut superseded = superseded.iter().peekable();
    for (index, op) in ops(group).enumerate() {
        if superseded.next_if_eq(&&index).is_some() {
            continue;
        }
        match op {
            Op::Put { table, key, value } => batch.put_cf(tables[table.index()], key, value),
            Op::Remove { table: Table::Message, key } => {
                batch.single_delete_cf(tables[Table::Message.index()], key);
            }
            Op::Remove { table, key } => batch.delete_cf(tables[table.index()], key),
            // The engine takes a range that ends before it starts for an error of the whole group.
            Op::RemoveRange { range, .. } if range.is_empty() => {}
            Op::RemoveRange { table, range } => {
                batch.delete_range_cf(tables[table.index()], &range.start, &range.end);
            }
        }
    }
}

fn ops(group: &[Submitted]) -> impl DoubleEndedIterator<Item = &Op> {
    group.iter().flat_map(|submitted| submitted.batch.ops())
}

/// Which operations write a state row that a later one of the group writes again or removes, in
/// order. An entity's row is written by nearly every batch, and only the last one counts.
fn superseded(group: &[Submitted]) -> Vec<usize> {
    let mut later: HashSet<&Key> = HashSet::new();
    let mut superseded = Vec::new();
    let count = group.iter().map(|submitted| submitted.batch.len()).sum::<usize>();
    for (op, index) in ops(group).rev().zip((0..count).rev()) {
        match op {
            Op::Put { table: Table::State, key, .. } | Op::Remove { table: Table::State, key }
                if !later.insert(key) =>
            {
                superseded.push(index);
            }
            Op::Put { .. } | Op::Remove { .. } | Op::RemoveRange { .. } => {}
        }
    }
    superseded.reverse();
    superseded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(position: u64, fill: impl FnOnce(&mut Batch)) -> Submitted {
        let mut batch = Batch::default();
        fill(&mut batch);
        Submitted { shard: ShardId(0), position: CommitPosition(position), batch }
    }

    fn row(number: u64) -> Key {
        Key::new().with_u64(number)
    }

    #[test]
    fn only_the_last_write_to_a_state_row_is_kept() {
        let group = [
            submitted(1, |batch| {
                batch.put(Table::State, row(1), "old"); // 0
                batch.put(Table::Message, row(1), "body"); // 1
                batch.put(Table::State, row(2), "kept"); // 2
            }),
            submitted(2, |batch| {
                batch.remove(Table::State, row(1)); // 3
                batch.put(Table::Dedup, row(1), "kept"); // 4
                batch.put(Table::Dedup, row(1), "kept"); // 5
            }),
            submitted(3, |batch| batch.put(Table::State, row(1), "new")), // 6
        ];
        assert_eq!(superseded(&group), [0, 3]);
    }

    #[test]
    fn groups_end_at_their_bounds() {
        let large = |position| {
            submitted(position, |batch| {
                batch.put(Table::Message, row(position), vec![0; GROUP_BYTES_MAX / 2]);
            })
        };
        let mut waiting: VecDeque<_> = (1..=3).map(large).collect();
        let mut group = Vec::new();
        form_group(&mut waiting, &mut group);
        assert_eq!((group.len(), waiting.len()), (1, 2));

        let mut waiting: VecDeque<_> = (0..3_000).map(|at| submitted(at, |_| ())).collect();
        let mut group = Vec::new();
        form_group(&mut waiting, &mut group);
        assert_eq!((group.len(), waiting.len()), (GROUP_BATCHES_MAX, 3_000 - GROUP_BATCHES_MAX));

        let huge = submitted(1, |batch| {
            batch.put(Table::Message, row(1), vec![0; GROUP_BYTES_MAX * 2]);
        });
        let mut waiting = VecDeque::from([huge]);
        let mut group = Vec::new();
        form_group(&mut waiting, &mut group);
        assert_eq!((group.len(), waiting.len()), (1, 0));
    }
}
