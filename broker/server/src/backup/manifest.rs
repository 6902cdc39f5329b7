//! What a backup says of itself, and where backups are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use peeklock_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::files;
use crate::http::atom::time;
use crate::namespaces::NamespaceName;

/// The file that makes a folder a backup.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";

/// Below a backup: the data directory as it was.
pub(crate) const DATA_DIR: &str = "data";

/// Below the data directory: the stores of further namespaces.
pub(crate) const NAMESPACES_DIR: &str = "namespaces";

/// The form of the manifest.
const VERSION: u32 = 1;

/// Octets of a manifest: some hundred thousand files.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The form of this file.
    pub(crate) version: u32,
    /// The format version of the stores.
    pub(crate) format: u32,
    /// The release that made it.
    pub(crate) broker: String,
    /// All that was accepted before is in it.
    pub(crate) created: String,
    /// Octets of files that no earlier backup shares.
    pub(crate) new_bytes: u64,
    pub(crate) namespaces: Vec<StoreFiles>,
}

/// The files of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreFiles {
    /// Empty for the default one.
    pub(crate) name: String,
    pub(crate) files: Vec<FileEntry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Nanoseconds since 1970, in the store. Together with name and length it tells whether the next
    /// backup may share the file: numbers in names can come again once a backup was restored.
    pub(crate) modified: u64,
    /// Of what is in it, in hex.
    pub(crate) sha256: String,
}

/// What people see of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) created: String,
    pub(crate) broker: String,
    pub(crate) format: u32,
    pub(crate) namespaces: usize,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) new_bytes: u64,
}

impl Manifest {
    pub(super) fn new(format: u32, created: String) -> Self {
        let broker = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, format, broker, created, new_bytes: 0, namespaces: Vec::new() }
    }

    /// The manifest of a backup. Names that would lead out of it are refused.
    pub(crate) fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(MANIFEST_FILE);
        let wrong = |what: String| BackupError::Other(format!("{}: {what}", path.display()));
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = backup.display();
                return Err(BackupError::Other(format!(
                    "{dir} is no backup, or not a whole one: it has no {MANIFEST_FILE}"
                )));
            }
            Err(error) => return Err(BackupError::file(&path)(error)),
        };
        if MANIFEST_BYTES_MAX < bytes {
            return Err(wrong("is too long for a manifest".to_owned()));
        }
        let text = fs::read(&path).map_err(BackupError::file(&path))?;
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if VERSION < manifest.version {
            return Err(wrong(format!("is of version {}, not {VERSION}", manifest.version)));
        }
        for store in &manifest.namespaces {
            if !store.name.is_empty() && store.name.parse::<NamespaceName>().is_err() {
                return Err(wrong(format!("{:?} is no namespace", store.name)));
            }
            if let Some(file) = store.files.iter().find(|file| !is_plain(&file.name)) {
                return Err(wrong(format!("{:?} is no name of a file", file.name)));
            }
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, backup: &Path) -> Result<(), BackupError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| BackupError::Other(error.to_string()))?;
        files::write_synced(&backup.join(MANIFEST_FILE), &text)
    }

    pub(crate) fn summary(&self, name: &str) -> Summary {
        let files = || self.namespaces.iter().flat_map(|store| &store.files);
        Summary {
            name: name.to_owned(),
            created: self.created.clone(),
            broker: self.broker.clone(),
            format: self.format,
            namespaces: self.namespaces.len(),
            files: files().count(),
            bytes: files().map(|file| file.bytes).sum(),
            new_bytes: self.new_bytes,
        }
    }

    /// A file of the same store that is the same, if the two facts can say that.
    pub(super) fn same(&self, namespace: &str, name: &str, facts: &files::Facts) -> Option<&str> {
        let store = self.namespaces.iter().find(|store| store.name == namespace)?;
        let file = store.files.iter().find(|file| file.name == name)?;
        let is_same = file.bytes == facts.bytes && file.modified == facts.modified;
        is_same.then_some(file.sha256.as_str())
    }
}

/// Where the files of a store are, in a backup and in a data directory.
pub(crate) fn store_dir(data: &Path, namespace: &str) -> PathBuf {
    if namespace.is_empty() { data.to_owned() } else { data.join(NAMESPACES_DIR).join(namespace) }
}

/// A moment as manifests have it: with all its digits, so that texts have the order of moments.
pub(crate) fn moment(at: Timestamp) -> String {
    time::show_millis(at.as_amqp(), 3)
}

/// The name of a backup of a moment.
pub(crate) fn name(at: Timestamp) -> String {
    moment(at).chars().filter(char::is_ascii_alphanumeric).collect()
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// All backups in a directory, the oldest first.
pub(crate) fn all(directory: &Path) -> Vec<Summary> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut all: Vec<Summary> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| is_plain(name))?;
            Some(Manifest::read(&entry.path()).ok()?.summary(&name))
        })
        .collect();
    all.sort_by(|one, other| (&one.created, &one.name).cmp(&(&other.created, &other.name)));
    all
}
