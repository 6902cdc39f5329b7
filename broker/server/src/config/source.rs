//! Where a configuration came from, so that it can be read again while the broker runs.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{ConfigError, Overrides, Settings};

/// What [`super::load`] was given, and what the file said then. It holds keys, so it shows nothing.
#[derive(Clone, Default)]
pub struct Source {
    pub(super) overrides: Overrides,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The file, if there is one, and what was in it.
    pub(super) file: Option<(PathBuf, String)>,
}

impl Source {
    /// The configuration file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// What was in the file when it was read.
    pub(crate) fn text(&self) -> Option<&str> {
        self.file.as_ref().map(|(_, text)| text.as_str())
    }

    /// Reads everything again.
    pub fn load(&self) -> Result<Settings, ConfigError> {
        super::load(&self.overrides, self.environment.iter().cloned())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path()).finish_non_exhaustive()
    }
}
