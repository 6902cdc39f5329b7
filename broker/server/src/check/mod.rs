//! Stores looked at while no broker has them: whether their rows fit together.
//!
//! What fits is for the core to say, `peeklock_core::check`; what a log should look like is the store's
//! business. Here both are asked for each store of a data directory, and told.

#[cfg(feature = "rocksdb")]
mod look;
mod repair;
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(dead_code, reason = "there is nothing to look at without a store on disk")
)]
mod report;
mod writer;

#[cfg(feature = "rocksdb")]
pub(crate) use self::look::{look, look_at};
#[cfg(feature = "rocksdb")]
pub(crate) use self::repair::repair;
pub(crate) use self::report::{Report, Verdict};
#[cfg(feature = "rocksdb")]
pub(crate) use self::writer::Writer;

/// Says that there is nothing to look at.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn look(_: &std::path::Path) -> Result<Report, crate::backup::BackupError> {
    let what = "this build keeps messages in memory only".to_owned();
    Err(crate::backup::BackupError::Other(what))
}

/// Says that there is nothing to repair.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn repair(
    data_dir: &std::path::Path,
) -> Result<(Report, Option<std::path::PathBuf>), crate::backup::BackupError> {
    look(data_dir).map(|report| (report, None))
}
