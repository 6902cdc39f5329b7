//! A store on disk that is only looked at: nothing in its folder changes, and nobody else may have it
//! open meanwhile.

use std::fs::{File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use rocksdb::{DB, InfoLogger, LogLevel};

use super::options::{self, LogReading, Options};
use super::wal_check::{self, TornTail};
use super::{LOCK_FILE, Reader, io_error};
use crate::batch::{Batch, CommitPosition, Refusal, ShardId, StoreError};
use crate::format;
use crate::key::{Key, Table};
use crate::store::{Health, OnDone, Store};

/// See the module. What would change something is refused.
pub struct RocksReader {
    dir: PathBuf,
    db: RwLock<Option<DB>>,
    torn_tail: Option<TornTail>,
    log_damage: Option<StoreError>,
    /// Held while it is open. A backup has no such file, and nobody who would write to it.
    _lock: Option<File>,
}

impl RocksReader {
    /// Opens the store of a folder. One with a damaged log shows what stands before the damage.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        format::readable_version(&dir)?;
        if !super::is_store(&dir) {
            return Err(StoreError::Open { dir, what: "there is no store in it".to_owned() });
        }
        let lock = lock_if_there(&dir)?;
        let (torn_tail, log_damage) = match wal_check::check(&dir) {
            Ok(torn_tail) => (torn_tail, None),
            Err(damage @ StoreError::DamagedLog { .. }) => (None, Some(damage)),
            Err(error) => return Err(error),
        };
        // With a damage the log is shorter than what the engine has noted of it.
        let wanted = Options { accept_data_loss: log_damage.is_some(), ..Options::default() };
        let open = || {
            let mut db = options::database(&wanted, LogReading::Ordinary)?;
            db.create_if_missing(false);
            db.create_missing_column_families(false);
            // The engine's diary would be a file in the folder.
            db.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| ()));
            DB::open_cf_descriptors_read_only(&db, &dir, options::tables(&wanted), false)
        };
        match open() {
            Ok(db) => {
                Ok(Self { dir, db: RwLock::new(Some(db)), torn_tail, log_damage, _lock: lock })
            }
            Err(error) => Err(StoreError::Open { dir, what: error.into_string() }),
        }
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An unfinished write at the end of the log, as a crash leaves it.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn_tail.as_ref()
    }

    /// What is wrong with the log before its end.
    pub fn log_damage(&self) -> Option<&StoreError> {
        self.log_damage.as_ref()
    }

    fn reader(&self) -> Reader<'_> {
        Reader { db: self.db.read().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A store that was ever opened has the file. It is neither made nor changed.
fn lock_if_there(dir: &Path) -> Result<Option<File>, StoreError> {
    let path = dir.join(LOCK_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let file = File::open(&path).map_err(|error| io_error("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, &error)),
    }
}

impl Store for RocksReader {
    fn submit(&self, _: ShardId, _: CommitPosition, _: Batch) -> Result<(), StoreError> {
        Err(Refusal::Closed.into())
    }

    fn on_done(&self, _: ShardId, _: OnDone) {}

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.reader().get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.reader().scan(table, range, rows_max, bytes_max)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        self.reader().last(table, range)
    }

    fn reclaim(&self, _: Table, _: &Range<Key>) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("a store that is only read gives back no space"))
    }

    fn checkpoint(&self, _: &Path) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("a copy of a store that is only read"))
    }

    fn sends_allowed(&self) -> bool {
        false
    }

    fn health(&self) -> Health {
        let (used, log_bytes) = super::files_bytes(&self.dir);
        Health { used, log_bytes, ..Health::default() }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("a store that is only read is opened anew"))
    }

    fn close(&self) -> Result<(), StoreError> {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
