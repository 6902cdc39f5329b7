//! Who is told about commits, and the check that positions rise.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::batch::{CommitPosition, ShardId};
use crate::store::{Done, OnDone};

type Report = Arc<dyn Fn(Done) + Send + Sync>;

/// The registered reports of all shards.
#[derive(Default)]
pub(crate) struct Reports {
    by_shard: RwLock<BTreeMap<ShardId, Report>>,
}

impl Reports {
    pub(crate) fn register(&self, shard: ShardId, report: OnDone) {
        let mut by_shard = self.by_shard.write().unwrap_or_else(PoisonError::into_inner);
        by_shard.insert(shard, Arc::from(report));
    }

    /// Forgets everybody: their process has crashed.
    pub(crate) fn clear(&self) {
        self.by_shard.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells a shard, with no lock held.
    pub(crate) fn tell(&self, shard: ShardId, done: Done) {
        let by_shard = self.by_shard.read().unwrap_or_else(PoisonError::into_inner);
        let report = by_shard.get(&shard).cloned();
        drop(by_shard);
        if let Some(report) = report {
            report(done);
        }
    }
}

/// The highest position of each shard. Few shards, so a list beats a map.
#[derive(Default, Debug)]
pub(crate) struct Positions(Vec<(ShardId, CommitPosition)>);

impl Positions {
    /// Takes the shard's next position.
    pub(crate) fn advance(&mut self, shard: ShardId, position: CommitPosition) {
        match self.0.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, last)) => {
                assert!(
                    *last < position,
                    "positions of a shard must rise: {position:?} after {last:?}"
                );
                *last = position;
            }
            None => self.0.push((shard, position)),
        }
    }

    #[cfg(feature = "rocksdb")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ShardId, CommitPosition)> {
        self.0.iter().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
