//! Backups of all stores of a running broker, and stores made from them again.
//!
//! | Where | What |
//! |---|---|
//! | `take` | one backup: all stores at a moment, their files, the manifest |
//! | `files` | linking, copying, hashing |
//! | `manifest` | what a backup says of itself; where backups are |
//! | `verify` | whether a backup is what its manifest says |
//! | `restore` | a data directory from a backup |
//! | `entity` | one queue or topic of a backup, put into a data directory |
//!
//! A backup is a folder that is whole in itself: the data directory as it was at a moment, below
//! [`manifest::DATA_DIR`], and a manifest. Files that do not change are linked instead of copied where
//! that can be, first from the store, else from the backup before, so that the next backup costs what is
//! new. A folder without a manifest is no backup, and the manifest comes last.

pub(crate) mod entity;
pub(crate) mod files;
pub(crate) mod manifest;
pub(crate) mod restore;
mod take;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use peeklock_core::time::Timestamp;
use peeklock_core::transplant::TransplantError;
use peeklock_storage::{Store, StoreError};
use serde::Serialize;
use tracing::{error, info};

use self::manifest::{Manifest, Summary};
use crate::clock::Clock;
use crate::config::BackupSettings;
use crate::http::atom::time;
use crate::metrics::BackupCounts;

/// How far the thread of a backup steps back for those that serve, as `nice` has it.
const NICENESS: i32 = 10;

/// Why there is no backup, or no store made from one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A file or folder.
    #[error("{}: {error}", .path.display())]
    File { path: PathBuf, error: io::Error },
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entity that is not restored.
    #[error(transparent)]
    Entity(#[from] TransplantError),
    /// What is wrong, in words.
    #[error("{0}")]
    Other(String),
}

impl BackupError {
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }
}

/// Why none is begun.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The operator has not said where they go.
    #[error("This broker has no directory for backups: set directory in [backup].")]
    Off,
    /// One at a time.
    #[error("The backup {0} is being taken.")]
    Running(String),
    /// There is nothing on disk.
    #[error("This broker keeps messages in memory only.")]
    InMemory,
    /// No thread could be started.
    #[error("The backup cannot be begun: {0}")]
    Thread(String),
}

/// A store to be backed up.
#[derive(Clone)]
pub(crate) struct Source {
    /// Empty for the default one.
    pub(crate) namespace: String,
    pub(crate) dir: PathBuf,
    pub(crate) store: Arc<dyn Store>,
}

/// The backups of this broker.
#[derive(Default)]
pub(crate) struct Backups {
    settings: Option<BackupSettings>,
    counts: Arc<BackupCounts>,
    sources: Mutex<Vec<Source>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    last: Option<Ended>,
}

struct Running {
    name: String,
    progress: Arc<Progress>,
}

/// How far one has come.
#[derive(Default)]
pub(crate) struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }
}

/// How one has ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<Summary>,
}

/// What whoever asks is told.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) running: Option<RunningStatus>,
    pub(crate) last: Option<Ended>,
    pub(crate) backups: Vec<Summary>,
}

/// The one that is being taken.
#[derive(Debug, Serialize)]
pub(crate) struct RunningStatus {
    pub(crate) name: String,
    pub(crate) bytes_done: u64,
    pub(crate) bytes: u64,
}

impl Backups {
    /// Looks for those that are there.
    pub(crate) fn new(settings: Option<BackupSettings>, counts: Arc<BackupCounts>) -> Arc<Self> {
        let all = settings.as_ref().map(|settings| manifest::all(&settings.directory));
        let newest = all.and_then(|mut all| time::parse_millis(&all.pop()?.created));
        if let Some(at) = newest.and_then(|at| u64::try_from(at).ok()) {
            counts.found(at);
        }
        Arc::new(Self { settings, counts, ..Self::default() })
    }

    /// Adds a store that is backed up from now on.
    pub(crate) fn add(&self, source: Source) {
        lock(&self.sources).push(source);
    }

    /// Begins one and says its name. It goes on by itself.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<String, Refusal> {
        let settings = self.settings.clone().ok_or(Refusal::Off)?;
        let sources = lock(&self.sources).clone();
        if sources.is_empty() {
            return Err(Refusal::InMemory);
        }
        let mut state = lock(&self.state);
        if let Some(running) = &state.running {
            return Err(Refusal::Running(running.name.clone()));
        }
        let created = Clock::real().now();
        let name = manifest::name(created);
        let progress = Arc::<Progress>::default();
        state.running = Some(Running { name: name.clone(), progress: Arc::clone(&progress) });
        drop(state);
        let job = take::Job { settings, sources, name: name.clone(), created, progress };
        let backups = Arc::clone(self);
        let spawned = thread::Builder::new().name("backup".into()).spawn(move || {
            // It is polite, not needed.
            let _ = rustix::process::nice(NICENESS);
            let began = Instant::now();
            let taken = take::take(&job);
            backups.end(&job.name, job.created, taken, began.elapsed());
        });
        if let Err(error) = spawned {
            lock(&self.state).running = None;
            return Err(Refusal::Thread(error.to_string()));
        }
        Ok(name)
    }

    fn end(
        &self,
        name: &str,
        created: Timestamp,
        taken: Result<Manifest, BackupError>,
        took: Duration,
    ) {
        match &taken {
            Ok(_) => self.counts.made(created.0),
            Err(_) => self.counts.failed(),
        }
        let mut state = lock(&self.state);
        state.running = None;
        let name = name.to_owned();
        let seconds = took.as_secs_f64();
        state.last = Some(match taken {
            Ok(manifest) => {
                let summary = manifest.summary(&name);
                info!(
                    backup = name,
                    bytes = summary.bytes,
                    new_bytes = summary.new_bytes,
                    seconds,
                    "backed up"
                );
                Ended { name, ok: true, error: None, seconds, summary: Some(summary) }
            }
            Err(failure) => {
                error!(backup = name, error = %failure, "a backup failed");
                let error = Some(failure.to_string());
                Ended { name, ok: false, error, seconds, summary: None }
            }
        });
    }

    /// Reads what is in the directory: not for the threads that serve.
    pub(crate) fn status(&self) -> Status {
        let directory = self.settings.as_ref().map(|settings| settings.directory.clone());
        let backups = directory.as_deref().map(manifest::all).unwrap_or_default();
        let state = lock(&self.state);
        let running = state.running.as_ref().map(|running| RunningStatus {
            name: running.name.clone(),
            bytes_done: running.progress.done.load(Ordering::Relaxed),
            bytes: running.progress.total.load(Ordering::Relaxed),
        });
        Status { directory, running, last: state.last.clone(), backups }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
