//! Looking, without changing anything.

use std::fs;
use std::path::Path;

use peeklock_core::check::check;
use peeklock_storage::rocks::RocksReader;
use peeklock_storage::{StoreError, format};

use super::report::{Report, StoreReport, Told, Verdict};
use crate::backup::BackupError;
use crate::backup::manifest::{NAMESPACES_DIR, store_dir};

/// Looks at all stores of a data directory.
pub(crate) fn look(data_dir: &Path) -> Result<Report, BackupError> {
    look_at(data_dir, namespaces(data_dir)?)
}

/// Looks at the stores of these namespaces.
pub(crate) fn look_at(
    data_dir: &Path,
    namespaces: impl IntoIterator<Item = String>,
) -> Result<Report, BackupError> {
    let reports = namespaces.into_iter().map(|namespace| {
        let dir = store_dir(data_dir, &namespace);
        store(namespace, &dir)
    });
    Ok(Report::of(reports.collect::<Result<_, _>>()?))
}

/// The default namespace, which is the empty name, and those that have a folder.
pub(super) fn namespaces(data_dir: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = vec![String::new()];
    let dir = data_dir.join(NAMESPACES_DIR);
    if dir.is_dir() {
        for entry in fs::read_dir(&dir).map_err(BackupError::file(&dir))? {
            let name = entry.map_err(BackupError::file(&dir))?.file_name();
            names.extend(name.into_string());
        }
    }
    names.sort();
    Ok(names)
}

fn store(namespace: String, dir: &Path) -> Result<StoreReport, BackupError> {
    let mut report = StoreReport::new(namespace, format::readable_version(dir)?);
    let reader = match RocksReader::open(dir) {
        Ok(reader) => reader,
        // A broker has it, or it is of another release: nothing is known of it.
        Err(error @ (StoreError::InUse { .. } | StoreError::Newer { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            report.tell(damage("unreadable_store", error.to_string(), false));
            return Ok(report);
        }
    };
    if let Some(error) = reader.log_damage() {
        let what = format!("{error}; what is said here is of what stands before it");
        report.tell(damage("damaged_log", what, true));
    }
    let totals = check(&reader, &mut |finding| report.find(&finding))?;
    report.count(totals);
    Ok(report)
}

fn damage(problem: &'static str, what: String, has_fix: bool) -> Told {
    Told { verdict: Verdict::Damaged, problem, entity: None, what, has_fix }
}
