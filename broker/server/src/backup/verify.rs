//! Whether a backup is what its manifest says: every file there, none more, and each octet as it was.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::files::{self, Pace};
use super::manifest::{DATA_DIR, Manifest, StoreFiles, Summary, store_dir};
use super::{BackupError, Progress};

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    pub(crate) summary: Summary,
    /// What is wrong, a line each.
    pub(crate) faults: Vec<String>,
}

/// Reads all of a backup.
pub(crate) fn verify(backup: &Path) -> Result<Verified, BackupError> {
    let manifest = Manifest::read(backup)?;
    let name = backup.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut verified =
        Verified { summary: manifest.summary(&name.unwrap_or_default()), faults: Vec::new() };
    for store in &manifest.namespaces {
        verified.faults.extend(faults(backup, store));
    }
    Ok(verified)
}

/// Reads the files of one namespace, and says what is wrong with them.
pub(super) fn faults(backup: &Path, store: &StoreFiles) -> Vec<String> {
    let (mut pace, progress) = (Pace::new(None), Progress::default());
    let dir = store_dir(&backup.join(DATA_DIR), &store.name);
    let mut there: BTreeSet<String> = match files::list(&dir) {
        Ok(names) => names.into_iter().collect(),
        Err(error) => return vec![error.to_string()],
    };
    let mut faults = Vec::new();
    for file in &store.files {
        let path = dir.join(&file.name);
        if !there.remove(&file.name) {
            faults.push(format!("{} is missing", path.display()));
            continue;
        }
        match files::hash(&path, &mut pace, &progress) {
            Ok(hash) if hash == file.sha256 => {}
            Ok(_) => faults.push(format!("{} has changed", path.display())),
            Err(error) => faults.push(error.to_string()),
        }
    }
    faults.extend(there.iter().map(|name| format!("{name} is no part of it")));
    faults
}
