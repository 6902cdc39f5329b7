//! One queue or topic of a backup, put as it was into a data directory that no broker has.
//!
//! What belongs to an entity, and in which order it has to come, is for the core to say,
//! `peeklock_core::transplant`. Here stores are opened, and what it says is written.

#[cfg(feature = "rocksdb")]
mod stores;

use std::path::PathBuf;

use peeklock_core::Counts;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::transplant::Part;
use serde::Serialize;

#[cfg(feature = "rocksdb")]
pub(crate) use self::stores::restore_entity;
use crate::check::Report;

/// What is to be restored, and where to.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(dead_code, reason = "there is nothing to restore into without a store on disk")
)]
pub(crate) struct Order {
    pub(crate) backup: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// Empty for the default one.
    pub(crate) namespace: String,
    pub(crate) entity: EntityPath,
    pub(crate) name: Option<EntityPath>,
    /// Whether all of the namespace is looked at afterwards.
    pub(crate) check: bool,
}

/// What was restored.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    /// When the backup was made.
    pub(crate) created: String,
    /// The entity, and behind a topic its subscriptions.
    pub(crate) entities: Vec<RestoredPart>,
    /// How the namespace is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<Report>,
}

/// A queue, a topic or a subscription.
#[derive(Debug, Serialize)]
pub(crate) struct RestoredPart {
    pub(crate) name: String,
    pub(crate) counts: RestoredCounts,
    pub(crate) bytes: u64,
    /// To where it passes messages on, and no entity is there.
    pub(crate) missing_targets: Vec<String>,
}

/// Its messages. Those that are active include the deferred ones, as everywhere.
#[derive(Debug, Serialize)]
pub(crate) struct RestoredCounts {
    pub(crate) active: u64,
    pub(crate) deferred: u64,
    pub(crate) dead_letter: u64,
    pub(crate) scheduled: u64,
    pub(crate) transfer_dead_letter: u64,
}

impl From<&Part> for RestoredPart {
    fn from(part: &Part) -> Self {
        let Counts { active, deferred, dead_letter, scheduled, transfer_dead_letter, .. } =
            part.counts;
        let counts =
            RestoredCounts { active, deferred, dead_letter, scheduled, transfer_dead_letter };
        Self {
            name: part.path.to_string(),
            counts,
            bytes: part.bytes,
            missing_targets: part.missing_targets.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Says that there is nothing to restore into.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn restore_entity(_: &Order) -> Result<Restored, super::BackupError> {
    let what = "this build keeps messages in memory only".to_owned();
    Err(super::BackupError::Other(what))
}
