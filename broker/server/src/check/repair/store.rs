//! The stores of a data directory, one after the other, with a copy of them made before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use peeklock_storage::Store;
use peeklock_storage::rocks::{Options, Reserve, RocksStore};

use super::super::look::{look, namespaces};
use super::super::report::{Report, Verdict};
use super::{RepairError, Writer, fix};
use crate::backup::manifest::{NAMESPACES_DIR, name, store_dir};
use crate::backup::{BackupError, files};
use crate::clock::Clock;

/// Repairs all stores of a data directory if all that is wrong with them can be, after copying them. Says
/// how they are then, and where the copy is.
pub(crate) fn repair(data_dir: &Path) -> Result<(Report, Option<PathBuf>), BackupError> {
    let before = look(data_dir)?;
    if before.verdict != Verdict::Repairable {
        return Ok((before, None));
    }
    let mut copy = data_dir.as_os_str().to_owned();
    copy.push(format!(".before-repair-{}", name(Clock::real().now())));
    let copy = PathBuf::from(copy);
    let namespaces = namespaces(data_dir)?;
    keep(data_dir, &copy, &namespaces)?;
    for namespace in namespaces {
        let dir = store_dir(data_dir, &namespace);
        let options = Options { reserve: Reserve::NONE, ..Options::default() };
        let store = RocksStore::open(&dir, options)?;
        let fixed = fix(&mut Writer::new(&store));
        store.close()?;
        match fixed {
            Ok(_) => {}
            Err(RepairError::Store(error)) => return Err(error.into()),
            Err(error) => return Err(BackupError::Other(error.to_string())),
        }
    }
    Ok((look(data_dir)?, Some(copy)))
}

/// Links what does not change, and copies the rest.
fn keep(data_dir: &Path, copy: &Path, namespaces: &[String]) -> Result<(), BackupError> {
    for namespace in namespaces {
        let (from, to) = (store_dir(data_dir, namespace), store_dir(copy, namespace));
        fs::create_dir_all(&to).map_err(BackupError::file(&to))?;
        for name in files::list(&from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            if !files::is_immutable(&name) || !files::link(&from, &to)? {
                fs::copy(&from, &to).map_err(BackupError::file(&to))?;
                let file = File::open(&to).and_then(|file| file.sync_all());
                file.map_err(BackupError::file(&to))?;
            }
        }
        files::sync_dir(&to)?;
    }
    let namespaces = copy.join(NAMESPACES_DIR);
    for dir in [namespaces.as_path(), copy].into_iter().filter(|dir| dir.is_dir()) {
        files::sync_dir(dir)?;
    }
    Ok(())
}
