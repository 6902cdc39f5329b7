//! A data directory from a backup.

use std::fs::{self, File};
use std::path::Path;

use peeklock_storage::{StoreError, format};

use super::files::{self, Pace};
use super::manifest::{DATA_DIR, Manifest, NAMESPACES_DIR, Summary, store_dir};
use super::{BackupError, Progress};

/// What a file system puts into a folder that is otherwise empty.
const OF_FILE_SYSTEM: &str = "lost+found";

/// The manifest of a backup, if this release knows the form of its stores.
pub(super) fn readable(backup: &Path) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(backup)?;
    if format::FORMAT < manifest.format {
        let (found, known) = (manifest.format, format::FORMAT);
        return Err(StoreError::Newer { dir: backup.to_owned(), found, known }.into());
    }
    Ok(manifest)
}

/// Copies all of a backup into a folder that is empty or not there yet, and compares each octet with
/// what the manifest says. Until all is on disk a mark keeps the broker from serving what is there.
pub(crate) fn restore(backup: &Path, data_dir: &Path) -> Result<Summary, BackupError> {
    let manifest = readable(backup)?;
    let name = backup.file_name().map(|name| name.to_string_lossy().into_owned());
    let summary = manifest.summary(&name.unwrap_or_default());
    fs::create_dir_all(data_dir).map_err(BackupError::file(data_dir))?;
    let is_empty = |dir: &Path| -> std::io::Result<bool> {
        for entry in fs::read_dir(dir)? {
            if entry?.file_name() != OF_FILE_SYSTEM {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if !is_empty(data_dir).map_err(BackupError::file(data_dir))? {
        let dir = data_dir.display();
        return Err(BackupError::Other(format!("{dir} is not empty, and nothing is written over")));
    }
    let free = files::free_bytes(data_dir)?;
    if free < summary.bytes {
        let (dir, bytes) = (data_dir.display(), summary.bytes);
        return Err(BackupError::Other(format!("{dir} has {free} octets left, and needs {bytes}")));
    }
    let mark = data_dir.join(format::UNFINISHED_FILE);
    File::create(&mark).and_then(|file| file.sync_all()).map_err(BackupError::file(&mark))?;
    files::sync_dir(data_dir)?;

    let (mut pace, progress) = (Pace::new(None), Progress::default());
    for store in &manifest.namespaces {
        let from = store_dir(&backup.join(DATA_DIR), &store.name);
        let to = store_dir(data_dir, &store.name);
        fs::create_dir_all(&to).map_err(BackupError::file(&to))?;
        for file in &store.files {
            let source = from.join(&file.name);
            let hash = files::copy(&source, &to.join(&file.name), &mut pace, &progress)?;
            if hash != file.sha256 {
                let what = format!("{} is not as it was when it was backed up", source.display());
                return Err(BackupError::Other(what));
            }
        }
        files::sync_dir(&to)?;
    }
    let namespaces = data_dir.join(NAMESPACES_DIR);
    if namespaces.exists() {
        files::sync_dir(&namespaces)?;
    }
    fs::remove_file(&mark).map_err(BackupError::file(&mark))?;
    files::sync_dir(data_dir)?;
    Ok(summary)
}
