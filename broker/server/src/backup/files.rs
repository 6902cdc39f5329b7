//! Files of a backup: linked, copied, hashed, and on disk when it is said so.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{BackupError, Progress};

/// What is read at once.
const CHUNK: usize = 1 << 20;

/// After so many octets a copy goes to the disk, so that a sync of the broker's never waits for more.
const SYNC_EVERY: usize = 8 << 20;

/// What tells files of one name apart without reading them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) bytes: u64,
    pub(super) modified: u64,
}

pub(super) fn facts(path: &Path) -> Result<Facts, BackupError> {
    let metadata = fs::metadata(path).map_err(BackupError::file(path))?;
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or(0);
    let modified = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Ok(Facts { bytes: metadata.len(), modified })
}

/// Holds reading and copying to so many octets a second.
pub(super) struct Pace {
    rate: Option<u64>,
    began: Instant,
    done: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, began: Instant::now(), done: 0 }
    }

    fn pass(&mut self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        self.done += bytes;
        let due = Duration::from_millis(self.done.saturating_mul(1000) / rate.max(1));
        thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

/// Reads a file to its end and says its hash.
pub(super) fn hash(
    path: &Path,
    pace: &mut Pace,
    progress: &Progress,
) -> Result<String, BackupError> {
    let failed = BackupError::file(path);
    let mut file = File::open(path).map_err(&failed)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).map_err(&failed)?;
        let Some(octets) = chunk.get(..read).filter(|octets| !octets.is_empty()) else { break };
        hasher.update(octets);
        progress.add(octets.len() as u64);
        pace.pass(octets.len() as u64);
    }
    Ok(hex(&hasher.finalize()))
}

/// Copies a file that is not there yet and says the hash of what was read. The copy is on disk then.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    pace: &mut Pace,
    progress: &Progress,
) -> Result<String, BackupError> {
    let mut source = File::open(from).map_err(BackupError::file(from))?;
    let failed = BackupError::file(to);
    let mut target = File::create_new(to).map_err(&failed)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut unsynced = 0;
    loop {
        let read = source.read(&mut chunk).map_err(BackupError::file(from))?;
        let Some(octets) = chunk.get(..read).filter(|octets| !octets.is_empty()) else { break };
        hasher.update(octets);
        target.write_all(octets).map_err(&failed)?;
        unsynced += octets.len();
        if SYNC_EVERY <= unsynced {
            target.sync_data().map_err(&failed)?;
            unsynced = 0;
        }
        progress.add(octets.len() as u64);
        pace.pass(octets.len() as u64);
    }
    target.sync_all().map_err(&failed)?;
    Ok(hex(&hasher.finalize()))
}

/// Gives a file a second name. `false` if this file system, or these two, cannot do that.
pub(crate) fn link(from: &Path, to: &Path) -> Result<bool, BackupError> {
    use io::ErrorKind::{
        AlreadyExists, CrossesDevices, PermissionDenied, TooManyLinks, Unsupported,
    };
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == AlreadyExists => Err(BackupError::file(to)(error)),
        Err(error)
            if matches!(
                error.kind(),
                CrossesDevices | PermissionDenied | TooManyLinks | Unsupported
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(BackupError::file(to)(error)),
    }
}

/// Writes a file under another name, puts it on disk, and gives it its name.
pub(super) fn write_synced(path: &Path, octets: &[u8]) -> Result<(), BackupError> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(octets)?;
        file.sync_all()
    });
    written.map_err(BackupError::file(&new))?;
    rename_synced(&new, path)
}

/// Renames, and sees to it that this outlives a crash.
pub(super) fn rename_synced(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(from, to).map_err(BackupError::file(to))?;
    to.parent().map_or(Ok(()), sync_dir)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), BackupError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(BackupError::file(dir))
}

/// The plain files of a folder, by name.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, BackupError> {
    let failed = BackupError::file(dir);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if !entry.file_type().map_err(&failed)?.is_file() {
            continue;
        }
        let name = entry.file_name().into_string();
        let unreadable =
            |_| BackupError::Other(format!("{}: a name cannot be read", dir.display()));
        names.push(name.map_err(unreadable)?);
    }
    names.sort();
    Ok(names)
}

/// What the file system of a folder has left.
pub(super) fn free_bytes(dir: &Path) -> Result<u64, BackupError> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| BackupError::file(dir)(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Rows in table files and large values. They are written once.
pub(crate) fn is_immutable(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "sst" || extension == "blob")
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(64), |mut text, octet| {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
