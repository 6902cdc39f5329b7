//! The store on disk: rows in RocksDB, a column family for each table, one log for all of them.
//!
//! | Where | What |
//! |---|---|
//! | `writer` | the thread that writes groups and reports them |
//! | `reader` | a store that is only looked at |
//! | `wal_check` | what the log looks like before the engine opens it |
//! | `space` | when sends stop because the disk fills |
//! | `options` | the engine's settings |
//!
//! After a failed write nothing is known but what was reported before, and the engine may or may not
//! recover by itself. We do not wait to see: the store is failed until [`Store::reopen`].

mod options;
mod reader;
mod space;
mod wal_check;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, ErrorKind, ReadOptions};

use crate::batch::{Batch, CommitPosition, Refusal, ShardId, StoreError};
use crate::format;
use crate::key::{Key, Table};
use crate::statistics::Statistics;
use crate::store::{Health, OnDone, Store};

pub use options::Options;
pub use reader::RocksReader;
pub use space::Reserve;
pub use wal_check::TornTail;

use options::LogReading;
use space::SpaceGate;
use writer::{Phase, Writer, column_family, flush};

/// Locked as long as the store is open. The engine has a lock of its own, but takes it too late: our
/// check of the log must not look at, let alone cut, a log that somebody is writing.
const LOCK_FILE: &str = "peeklock.lock";

/// How the system puts it that a disk is full; the engine hands on its words and not its number.
const NO_SPACE: &str = "No space left on device";

/// See the module.
pub struct RocksStore {
    dir: PathBuf,
    options: Options,
    writer: Arc<Writer>,
    life: Mutex<Life>,
}

/// What opening and closing handle, one at a time.
struct Life {
    thread: Option<JoinHandle<()>>,
    lock: Option<File>,
    recovery: Recovery,
}

/// What the last opening found in the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// An unfinished write that was cut off. Ordinary after a crash.
    pub torn_tail: Option<TornTail>,
    /// The damage that was accepted as [`Options::accept_data_loss`] says.
    pub accepted_loss: Option<StoreError>,
}

/// Whether there is a store in a folder.
pub fn is_store(dir: &Path) -> bool {
    dir.join("CURRENT").is_file()
}

impl RocksStore {
    /// Opens the store in a folder, or makes one there.
    pub fn open(dir: impl Into<PathBuf>, options: Options) -> Result<Self, StoreError> {
        let dir = dir.into();
        fs::create_dir_all(&dir).map_err(|error| io_error("create", &dir, &error))?;
        let gate = SpaceGate::new(&dir, options.reserve)?;
        let writer = Arc::new(Writer::new(gate, options.epoch));
        let life = Life { thread: None, lock: None, recovery: Recovery::default() };
        let store = RocksStore { dir, options, writer, life: Mutex::new(life) };
        store.start(&mut store.life())?;
        Ok(store)
    }

    /// What the last opening found in the log, for whoever keeps the diary.
    pub fn recovery(&self) -> Recovery {
        self.life().recovery.clone()
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, life: &mut Life) -> Result<(), StoreError> {
        if life.lock.is_none() {
            life.lock = Some(lock(&self.dir)?);
        }
        format::prepare(&self.dir)?;
        life.recovery = self.check_log()?;
        let db = self.open_database()?;
        *self.writer.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db);
        life.thread = Some(self.writer.start()?);
        Ok(())
    }

    fn check_log(&self) -> Result<Recovery, StoreError> {
        match wal_check::check(&self.dir) {
            Ok(torn_tail) => {
                if let Some(tail) = &torn_tail {
                    wal_check::cut(tail)?;
                }
                Ok(Recovery { torn_tail, accepted_loss: None })
            }
            Err(damage @ StoreError::DamagedLog { .. }) if self.options.accept_data_loss => {
                Ok(Recovery { torn_tail: None, accepted_loss: Some(damage) })
            }
            Err(error) => Err(error),
        }
    }

    fn open_database(&self) -> Result<DB, StoreError> {
        let open = |reading| {
            let db = options::database(&self.options, reading)?;
            DB::open_cf_descriptors(&db, &self.dir, options::tables(&self.options))
        };
        let mut opened = open(LogReading::Ordinary);
        if opened.as_ref().is_err_and(|error| error.as_ref().contains(NO_SPACE)) {
            // Only an open store can be drained, and draining is what makes room again.
            opened = open(LogReading::WithoutSpace);
        }
        if opened.is_err() && self.options.accept_data_loss {
            // A table may already hold rows from behind the damage. A point in time would need them
            // gone; skipping the bad records alone does not.
            opened = open(LogReading::Salvage);
        }
        opened.map_err(|error| {
            let what = error.into_string();
            if what.contains("lock ") && what.contains("/LOCK") {
                StoreError::InUse { dir: self.dir.clone() }
            } else {
                StoreError::Open { dir: self.dir.clone(), what }
            }
        })
    }

    /// Lets the writer finish, and takes the database away from readers and from the writer.
    fn stop(&self, life: &mut Life) -> Option<DB> {
        self.writer.stop();
        if let Some(thread) = life.thread.take() {
            // A panic has marked the store as failed; there is nothing else to learn from it.
            let _panicked = thread.join();
        }
        self.writer.db.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let db = self.writer.db.read().unwrap_or_else(PoisonError::into_inner);
        if db.is_some() {
            return Ok(Reader { db });
        }
        Err(match self.writer.phase() {
            Phase::Failed(_) => Refusal::Failed.into(),
            Phase::Open | Phase::Closing | Phase::Closed => Refusal::Closed.into(),
        })
    }
}

impl Store for RocksStore {
    fn submit(
        &self,
        shard: ShardId,
        position: CommitPosition,
        batch: Batch,
    ) -> Result<(), StoreError> {
        self.writer.submit(shard, position, batch)
    }

    fn on_done(&self, shard: ShardId, report: OnDone) {
        self.writer.reports.register(shard, report);
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.reader()?.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.reader()?.scan(table, range, rows_max, bytes_max)
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        self.reader()?.last(table, range)
    }

    fn reclaim(&self, table: Table, range: &Range<Key>) -> Result<(), StoreError> {
        let reader = self.reader()?;
        if range.is_empty() {
            return Ok(());
        }
        let (db, cf) = reader.table(table)?;
        db.delete_file_in_range_cf(cf, &range.start, &range.end)
            .map_err(|error| read_error(table, &range.start, error))
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        let reader = self.reader()?;
        // The log is copied as it is. Putting what is in memory into table files first would write
        // messages that are gone before anybody flushes them.
        let copied = Checkpoint::new(reader.db()?)
            .and_then(|copy| copy.create_checkpoint_with_log_size(dir, u64::MAX));
        copied.map_err(|error| engine_error("copy the store to", dir, error))
    }

    fn sends_allowed(&self) -> bool {
        self.writer.gate.is_open() && self.writer.phase() == Phase::Open
    }

    fn health(&self) -> Health {
        let looked = self.writer.gate.look();
        let phase = self.writer.phase();
        let is_open = phase == Phase::Open;
        let failed = match phase {
            Phase::Failed(what) => Some(what),
            Phase::Open | Phase::Closing | Phase::Closed => {
                looked.err().map(|error| error.to_string())
            }
        };
        let (used, log_bytes) = files_bytes(&self.dir);
        let mut health = Health {
            used,
            log_bytes,
            free: self.writer.gate.free(),
            reserve: self.writer.gate.needed(),
            queued_bytes: self.writer.queued_bytes() as u64,
            sends_allowed: is_open && self.writer.gate.is_open(),
            failed,
            ..Health::default()
        };
        if let Ok(reader) = self.reader() {
            reader.describe(&mut health);
        }
        health
    }

    fn statistics(&self) -> Option<&Statistics> {
        Some(&self.writer.statistics)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut life = self.life();
        drop(self.stop(&mut life));
        let started = self.start(&mut life);
        if let Err(error) = &started {
            self.writer.set_phase(Phase::Failed(error.to_string()));
        }
        started
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut life = self.life();
        let db = self.stop(&mut life);
        let has_failed = matches!(self.writer.phase(), Phase::Failed(_));
        self.writer.set_phase(Phase::Closed);
        // What is in a table file needs no log to be read back. A failed store has to read its log
        // anyway, as nobody knows what is in it.
        let flushed = match &db {
            Some(db) if !has_failed => flush(db, true),
            Some(_) | None => Ok(()),
        };
        drop(db);
        life.lock = None;
        flushed.map_err(|error| engine_error("flush the store in", &self.dir, error))
    }
}

impl Drop for RocksStore {
    /// Writes what was taken, but leaves it in the log: who cares for a fast start closes.
    fn drop(&mut self) {
        let mut life = self.life();
        drop(self.stop(&mut life));
    }
}

/// The open database, kept open as long as this lives. It must not outlive the call.
struct Reader<'a> {
    db: RwLockReadGuard<'a, Option<DB>>,
}

impl Reader<'_> {
    fn db(&self) -> Result<&DB, StoreError> {
        self.db.as_ref().ok_or(StoreError::Refused(Refusal::Closed))
    }

    fn table(&self, table: Table) -> Result<(&DB, &ColumnFamily), StoreError> {
        let db = self.db()?;
        Ok((db, column_family(db, table).expect("every table was opened")))
    }

    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let (db, cf) = self.table(table)?;
        match db.get_pinned_cf(cf, key) {
            Ok(found) => Ok(found.map(|value| Bytes::copy_from_slice(&value))),
            Err(error) => Err(read_error(table, key, error)),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: &Range<Key>,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let mut rows = Vec::new();
        if range.is_empty() {
            return Ok(rows);
        }
        let (db, cf) = self.table(table)?;
        let mut found = db.raw_iterator_cf_opt(cf, bounds(range));
        let mut bytes = 0;
        found.seek(&range.start);
        while let Some((key, value)) = found.item() {
            if rows.len() == rows_max || (!rows.is_empty() && bytes_max <= bytes) {
                break;
            }
            bytes += key.len() + value.len();
            rows.push((Key::from(key), Bytes::copy_from_slice(value)));
            found.next();
        }
        match found.status() {
            Ok(()) => Ok(rows),
            Err(error) => {
                let after =
                    rows.last().map_or_else(|| range.start.clone(), |(key, _)| key.successor());
                Err(read_error(table, &after, error))
            }
        }
    }

    fn last(&self, table: Table, range: &Range<Key>) -> Result<Option<Key>, StoreError> {
        if range.is_empty() {
            return Ok(None);
        }
        let (db, cf) = self.table(table)?;
        let mut found = db.raw_iterator_cf_opt(cf, bounds(range));
        found.seek_to_last();
        let last = found.key().map(Key::from);
        found.status().map_err(|error| read_error(table, &range.end, error))?;
        Ok(last)
    }

    /// A property the engine does not answer counts as nothing: this is for dashboards.
    fn properties(&self, name: &str) -> impl Iterator<Item = u64> {
        Table::ALL.into_iter().filter_map(move |table| {
            let (db, cf) = self.table(table).ok()?;
            db.property_int_value_cf(cf, name).ok()?
        })
    }

    /// What the engine says of itself.
    fn describe(&self, health: &mut Health) {
        let sum = |name| self.properties(name).sum();
        let most = |name| self.properties(name).max().unwrap_or(0);
        health.debt = sum("rocksdb.estimate-pending-compaction-bytes");
        health.memtable_bytes = sum("rocksdb.size-all-mem-tables");
        // These are the same for all tables.
        health.cache_bytes = most("rocksdb.block-cache-usage");
        health.is_stalled =
            0 < most("rocksdb.is-write-stopped") || 0 < most("rocksdb.actual-delayed-write-rate");
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = File::create(&path).map_err(|error| io_error("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, &error)),
    }
}

fn bounds(range: &Range<Key>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start.as_bytes());
    options.set_iterate_upper_bound(range.end.as_bytes());
    options
}

/// What the files of the store take up, and the log among them. Files come and go meanwhile, and one
/// that is gone takes nothing.
fn files_bytes(dir: &Path) -> (u64, u64) {
    let Ok(files) = fs::read_dir(dir) else { return (0, 0) };
    files.filter_map(Result::ok).fold((0, 0), |(all, log), file| {
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let is_log = file.path().extension().is_some_and(|extension| extension == "log");
        (all + bytes, log + if is_log { bytes } else { 0 })
    })
}

fn read_error(table: Table, key: &Key, error: rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => {
            StoreError::Corrupt { table, key: key.clone(), what: error.into_string() }
        }
        _ => StoreError::Io {
            doing: format!("read table {table}"),
            kind: io::ErrorKind::Other,
            what: error.into_string(),
        },
    }
}

fn engine_error(doing: &str, path: &Path, error: rocksdb::Error) -> StoreError {
    StoreError::Io {
        doing: format!("{doing} {}", path.display()),
        kind: io::ErrorKind::Other,
        what: error.into_string(),
    }
}

fn io_error(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io {
        doing: format!("{doing} {}", path.display()),
        kind: error.kind(),
        what: error.to_string(),
    }
}
