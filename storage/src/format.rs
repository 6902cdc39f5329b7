//! In which form a store is on disk: a number in a file of its folder.
//!
//! The number stands for all that a release must know to read a store: tables, keys, rows and what they
//! mean together. It grows when an older release would misread what a newer one has written; fields at
//! the end of a row that older releases pass over do not need that. A folder without the file is of
//! version 1, which had no file at first.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::batch::StoreError;

/// What this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The name of the file.
pub const FORMAT_FILE: &str = "FORMAT";

/// A folder with a file of this name holds the beginning of a restored store, and is not opened.
pub const UNFINISHED_FILE: &str = "RESTORE-UNFINISHED";

/// The version of the store in a folder. An empty folder is of version 1 as well.
pub fn version(dir: &Path) -> Result<u32, StoreError> {
    let path = dir.join(FORMAT_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(failed("read", &path, &error)),
    };
    text.trim().parse().ok().filter(|version| 0 < *version).ok_or_else(|| StoreError::Open {
        dir: dir.to_owned(),
        what: format!("the file {FORMAT_FILE} does not say a version"),
    })
}

/// The same, if this release can read it.
pub fn readable_version(dir: &Path) -> Result<u32, StoreError> {
    if dir.join(UNFINISHED_FILE).exists() {
        let what = "it was not restored to its end; restore into an empty folder again".to_owned();
        return Err(StoreError::Open { dir: dir.to_owned(), what });
    }
    let found = version(dir)?;
    if FORMAT < found {
        return Err(StoreError::Newer { dir: dir.to_owned(), found, known: FORMAT });
    }
    Ok(found)
}

/// Before a store is opened for writing: refuses a newer one, and sees to it that there is the file. A
/// change of the form has its upgrade here, one step from version to version. Entities that are restored
/// by themselves come as rows of the backup's version: the second version has to see to these as well.
pub fn prepare(dir: &Path) -> Result<(), StoreError> {
    readable_version(dir)?;
    if dir.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    let path = dir.join(FORMAT_FILE);
    let write = || -> io::Result<()> {
        let new = dir.join("FORMAT.new");
        let mut file = File::create(&new)?;
        file.write_all(format!("{FORMAT}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| failed("write", &path, &error))
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io {
        doing: format!("{doing} {}", path.display()),
        kind: error.kind(),
        what: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_version_is_of_the_first_and_says_so_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(version(dir.path()), Ok(1));
        assert!(!dir.path().join(FORMAT_FILE).exists(), "looking changes nothing");
        prepare(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(), "1\n");
        prepare(dir.path()).unwrap();
        assert_eq!(readable_version(dir.path()), Ok(1));
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT_FILE), "7\n").unwrap();
        let error = prepare(dir.path()).unwrap_err();
        assert_eq!(
            error,
            StoreError::Newer { dir: dir.path().to_owned(), found: 7, known: FORMAT }
        );
        let text = error.to_string();
        assert!(text.contains("version 7") && text.contains("version 1"), "{text}");
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(), "7\n");
    }

    #[test]
    fn what_is_no_version_is_not_taken_for_one() {
        for text in ["", "one", "0", "-1", "1 2"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FORMAT_FILE), text).unwrap();
            assert!(matches!(prepare(dir.path()), Err(StoreError::Open { .. })), "{text:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_restored_store_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(UNFINISHED_FILE), "").unwrap();
        assert!(matches!(prepare(dir.path()), Err(StoreError::Open { .. })));
    }
}
