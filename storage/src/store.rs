//! The one trait between what is decided and where it is kept.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batch, CommitPosition, ShardId, StoreError};
use crate::key::{Key, Table};
use crate::statistics::Statistics;

/// One report of the writer to one shard. There is one for each group of batches written together,
/// not one for each batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// On success, every batch of the shard up to and with this position is durable and readable. On
    /// an error, the highest position whose batch is now in doubt.
    pub through: CommitPosition,
    /// After an error nothing is known of the batches behind the last success, and no further report
    /// comes before the store was reopened.
    pub result: Result<(), StoreError>,
}

/// Receives the reports of one shard.
pub type OnDone = Box<dyn Fn(Done) + Send + Sync>;

/// Durable rows. Reads block and see exactly what is durable; writes are handed over and reported.
pub trait Store: Send + Sync + 'static {
    /// Hands a batch to the writer and returns at once. Batches of all shards become durable in the
    /// order of the calls. `position` must be above every earlier one of the shard, since the store
    /// was opened.
    ///
    /// An error means that the batch was not taken and has no effect.
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError>;

    /// Registers who is told about a shard's commits, in place of who was before.
    ///
    /// Called with no lock of the store held, one call of a shard at a time, in order of the
    /// positions; by the writer's thread, or by the submitter's own inside `submit`. It must hand the
    /// report on and return: no waiting, and no call of this store.
    fn on_done(&self, shard: ShardId, report: OnDone);

    /// One row.
    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError>;

    /// Rows of a range in key order: at most `rows_max`, and no further row once `bytes_max` octets
    /// of keys and values are reached, so the first row always comes. Continue from the last key's
    /// [`Key::successor`].
    ///
    /// Start at a row known to be there, never at the start of a queue whose front was consumed: the
    /// engine would step over everything ever removed.
    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError>;

    /// The highest key of a range.
    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError>;

    /// Gives back the disk space of a range that was already removed. A hint, not a removal.
    fn reclaim(&self, table: Table, range: &Range<Key>) -> Result<(), StoreError>;

    /// Makes a consistent copy of everything durable in a folder that does not exist yet, on the same
    /// file system.
    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError>;

    /// Whether there is room to take in more. Removals are accepted all the same. Cheap enough to ask
    /// for every message.
    fn sends_allowed(&self) -> bool;

    /// How the store is doing. Asks the file system: for dashboards and readiness, not for each message.
    fn health(&self) -> Health;

    /// What it counts while it writes, if it does: one that has no disk has nothing to tell.
    fn statistics(&self) -> Option<&Statistics> {
        None
    }

    /// Opens again after a failed write, in the same folder and process. What was in doubt is there
    /// or not; positions may start anew; the registered reports stay.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Waits until every batch taken was reported, makes the next opening fast, and closes. Later
    /// calls are refused.
    fn close(&self) -> Result<(), StoreError>;
}

/// See [`Store::health`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Octets on disk, or in memory for a store that has none.
    pub used: u64,
    /// Octets left on the file system.
    pub free: u64,
    /// Octets that must be left there for sends to be allowed.
    pub reserve: u64,
    /// Octets taken but not yet durable.
    pub queued_bytes: u64,
    /// Octets the engine should rewrite to get back into shape.
    pub debt: u64,
    /// Whether the engine holds writes back, or slows them down, until it has.
    pub is_stalled: bool,
    /// Octets of rows in memory that are not in a table file yet. They are in the log.
    pub memtable_bytes: u64,
    /// Octets of the log that a restart would read, and of what is no longer needed of it.
    pub log_bytes: u64,
    /// Octets of table files that are kept in memory.
    pub cache_bytes: u64,
    /// See [`Store::sends_allowed`].
    pub sends_allowed: bool,
    /// The failed write, if the store must be reopened.
    pub failed: Option<String>,
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        (**self).submit(shard, position, batch)
    }

    fn on_done(&self, shard: ShardId, report: OnDone) {
        (**self).on_done(shard, report);
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        (**self).get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        (**self).scan(table, range, rows_max, bytes_max)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        (**self).last(table, range)
    }

    fn reclaim(&self, table: Table, range: &Range<Key>) -> Result<(), StoreError> {
        (**self).reclaim(table, range)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        (**self).checkpoint(dir)
    }

    fn sends_allowed(&self) -> bool {
        (**self).sends_allowed()
    }

    fn health(&self) -> Health {
        (**self).health()
    }

    fn statistics(&self) -> Option<&Statistics> {
        (**self).statistics()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        (**self).reopen()
    }

    fn close(&self) -> Result<(), StoreError> {
        (**self).close()
    }
}
