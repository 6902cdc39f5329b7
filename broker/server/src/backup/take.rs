//! One backup.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use peeklock_core::time::Timestamp;
use peeklock_storage::format;
use tracing::warn;

use super::files::{self, Facts, Pace};
use super::manifest::{self, DATA_DIR, FileEntry, Manifest, StoreFiles, store_dir};
use super::{BackupError, Progress, Source};
use crate::config::BackupSettings;

/// Held by whoever makes a backup in a directory.
const LOCK_FILE: &str = ".lock";

/// Before the name of a backup that is not whole yet, and of one that is being removed.
const PARTIAL: &str = ".partial-";
const REMOVED: &str = ".removed-";

/// In the folder of a store: where it is at the moment of the backup, as links.
const CHECKPOINT_DIR: &str = ".checkpoint";

/// What is to be done.
pub(super) struct Job {
    pub(super) settings: BackupSettings,
    pub(super) sources: Vec<Source>,
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) progress: Arc<Progress>,
}

/// Where a store is as it was at the moment. Gone with this value.
struct Checkpoint<'a> {
    source: &'a Source,
    dir: PathBuf,
}

impl Drop for Checkpoint<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            warn!(dir = %self.dir.display(), %error, "what a backup was made from stays");
        }
    }
}

/// A file that is to be in the backup.
struct Planned<'a> {
    from: PathBuf,
    namespace: &'a str,
    name: String,
    facts: Facts,
    /// Its hash, if the backup before has it already.
    known: Option<String>,
}

pub(super) fn take(job: &Job) -> Result<Manifest, BackupError> {
    let directory = &job.settings.directory;
    fs::create_dir_all(directory).map_err(BackupError::file(directory))?;
    let _lock = lock(directory)?;
    remove_leftovers(directory)?;
    let before = manifest::all(directory).pop();
    let before = before.map(|before| directory.join(before.name));
    let earlier = before.as_deref().and_then(|before| Manifest::read(before).ok());

    // All of them at nearly one moment; what is done with them may take its time.
    let checkpoints: Vec<_> = job.sources.iter().map(checkpoint).collect::<Result<_, _>>()?;
    let mut plan = Vec::new();
    for Checkpoint { source, dir } in &checkpoints {
        for name in files::list(dir)? {
            let from = dir.join(&name);
            let facts = files::facts(&from)?;
            let known = earlier.as_ref().filter(|_| files::is_immutable(&name));
            let known = known.and_then(|earlier| earlier.same(&source.namespace, &name, &facts));
            let known = known.map(str::to_owned);
            plan.push(Planned { from, namespace: &source.namespace, name, facts, known });
        }
    }
    job.progress.expect(plan.iter().map(|file| file.facts.bytes).sum());

    let partial = directory.join(format!("{PARTIAL}{}", job.name));
    let made = fill(job, &partial, &plan, before.as_deref()).and_then(|manifest| {
        let backup = directory.join(&job.name);
        if backup.exists() {
            return Err(BackupError::Other(format!("{} is there already", backup.display())));
        }
        manifest.write(&partial)?;
        files::rename_synced(&partial, &backup)?;
        Ok(manifest)
    });
    if made.is_err() {
        // The next backup tries that again.
        let _ = fs::remove_dir_all(&partial);
    } else {
        retain(directory, job.settings.keep);
    }
    made
}

fn lock(directory: &Path) -> Result<File, BackupError> {
    let path = directory.join(LOCK_FILE);
    let file = File::create(&path).map_err(BackupError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Other(format!(
            "another broker makes a backup in {}",
            directory.display()
        ))),
        Err(TryLockError::Error(error)) => Err(BackupError::file(&path)(error)),
    }
}

/// Of backups that did not come to their end, and of removals that did not.
fn remove_leftovers(directory: &Path) -> Result<(), BackupError> {
    let failed = BackupError::file(directory);
    for entry in fs::read_dir(directory).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PARTIAL) || name.starts_with(REMOVED) {
            fs::remove_dir_all(entry.path()).map_err(BackupError::file(&entry.path()))?;
        }
    }
    Ok(())
}

fn checkpoint(source: &Source) -> Result<Checkpoint<'_>, BackupError> {
    let dir = source.dir.join(CHECKPOINT_DIR);
    // The engine builds it under another name.
    for left in [dir.clone(), source.dir.join(format!("{CHECKPOINT_DIR}.tmp"))] {
        if left.exists() {
            fs::remove_dir_all(&left).map_err(BackupError::file(&left))?;
        }
    }
    source.store.checkpoint(&dir)?;
    Ok(Checkpoint { source, dir })
}

/// How the files of a backup come into it.
struct Filling<'a> {
    job: &'a Job,
    before: Option<&'a Path>,
    pace: Pace,
    may_link: bool,
    new_bytes: u64,
}

fn fill(
    job: &Job,
    partial: &Path,
    plan: &[Planned<'_>],
    before: Option<&Path>,
) -> Result<Manifest, BackupError> {
    let data = partial.join(DATA_DIR);
    fs::create_dir_all(&data).map_err(BackupError::file(&data))?;
    // Links work between two folders or they do not: the first file shows it.
    let may_link = !job.settings.copy && try_link(plan, partial)?;
    if !may_link {
        let needed = plan.iter().filter(|file| file.known.is_none()).map(|file| file.facts.bytes);
        let needed = needed.sum::<u64>();
        let free = files::free_bytes(&job.settings.directory)?;
        if free < needed.saturating_add(job.settings.free_space_reserve) {
            return Err(BackupError::Other(format!(
                "{needed} octets are to be copied to {}, which has {free} left, and {} of these \
                 are to stay free",
                job.settings.directory.display(),
                job.settings.free_space_reserve
            )));
        }
    }
    let pace = Pace::new(job.settings.rate);
    let mut filling = Filling { job, before, pace, may_link, new_bytes: 0 };
    let mut stores: Vec<StoreFiles> = Vec::new();
    let mut format_version = 1;
    for source in &job.sources {
        let version = format::readable_version(&source.dir)?;
        format_version = version.max(format_version);
        let dir = store_dir(&data, &source.namespace);
        fs::create_dir_all(&dir).map_err(BackupError::file(&dir))?;
        let mut entries = Vec::new();
        for file in plan.iter().filter(|file| file.namespace == source.namespace) {
            entries.push(filling.file(file, &dir)?);
        }
        entries.push(filling.version(&dir, version)?);
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        files::sync_dir(&dir)?;
        stores.push(StoreFiles { name: source.namespace.clone(), files: entries });
    }
    let namespaces = data.join(manifest::NAMESPACES_DIR);
    for dir in [&namespaces, &data, partial].into_iter().filter(|dir| dir.exists()) {
        files::sync_dir(dir)?;
    }
    let mut manifest = Manifest::new(format_version, manifest::moment(job.created));
    manifest.new_bytes = filling.new_bytes;
    manifest.namespaces = stores;
    Ok(manifest)
}

fn try_link(plan: &[Planned<'_>], partial: &Path) -> Result<bool, BackupError> {
    let Some(first) = plan.first() else { return Ok(false) };
    let probe = partial.join("probe");
    let linked = files::link(&first.from, &probe)?;
    if linked {
        fs::remove_file(&probe).map_err(BackupError::file(&probe))?;
    }
    Ok(linked)
}

impl Filling<'_> {
    fn file(&mut self, file: &Planned<'_>, dir: &Path) -> Result<FileEntry, BackupError> {
        let to = dir.join(&file.name);
        let progress = &self.job.progress;
        let sha256 = match &file.known {
            // What the store has and what the backup before has is the same. A link to the latter
            // spares a copy where the store is elsewhere.
            Some(known) if self.link_known(file, &to)? => {
                progress.add(file.facts.bytes);
                known.clone()
            }
            _ => {
                self.new_bytes += file.facts.bytes;
                if self.may_link && files::is_immutable(&file.name) && files::link(&file.from, &to)?
                {
                    files::hash(&to, &mut self.pace, progress)?
                } else {
                    files::copy(&file.from, &to, &mut self.pace, progress)?
                }
            }
        };
        let Facts { bytes, modified } = file.facts;
        Ok(FileEntry { name: file.name.clone(), bytes, modified, sha256 })
    }

    fn link_known(&self, file: &Planned<'_>, to: &Path) -> Result<bool, BackupError> {
        if self.may_link {
            return files::link(&file.from, to);
        }
        let Some(before) = self.before else { return Ok(false) };
        let shared = store_dir(&before.join(DATA_DIR), file.namespace).join(&file.name);
        // Whoever took it out of the earlier backup did that no good, but this one needs none of it.
        if shared.is_file() { files::link(&shared, to) } else { Ok(false) }
    }

    /// The mark of the store's version, which is none of the engine's files.
    fn version(&mut self, dir: &Path, version: u32) -> Result<FileEntry, BackupError> {
        let name = format::FORMAT_FILE.to_owned();
        let path = dir.join(&name);
        files::write_synced(&path, format!("{version}\n").as_bytes())?;
        let Facts { bytes, modified } = files::facts(&path)?;
        self.new_bytes += bytes;
        let sha256 = files::hash(&path, &mut self.pace, &Progress::default())?;
        Ok(FileEntry { name, bytes, modified, sha256 })
    }
}

/// Removes the oldest backups beyond so many. One that is half removed is none any more.
fn retain(directory: &Path, keep: usize) {
    let all = manifest::all(directory);
    let surplus = all.len().saturating_sub(keep);
    for old in all.iter().take(surplus) {
        let (path, gone) =
            (directory.join(&old.name), directory.join(format!("{REMOVED}{}", old.name)));
        let removed = fs::rename(&path, &gone).and_then(|()| fs::remove_dir_all(&gone));
        if let Err(error) = removed {
            warn!(backup = old.name, %error, "an old backup could not be removed");
        }
    }
}
