//! The durability gate: one submit a turn, and effects held until the batch they wait for is on disk.
//!
//! Nothing else releases an effect that promises durability. The store's writer thread reports once
//! a group; the report wakes the driver once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use peeklock_core::{Effect, EffectKind};
use peeklock_storage::{CommitPosition, Done, StoreError};
use tokio::sync::Notify;

/// What the store's writer thread tells the driver: how far it got, or that it failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    through: AtomicU64,
    failure: Mutex<Option<StoreError>>,
    changed: Notify,
}

impl Progress {
    /// Called by the store, once a group.
    pub(crate) fn report(&self, done: Done) {
        match done.result {
            Ok(()) => {
                self.shared.through.fetch_max(done.through.0, Ordering::AcqRel);
            }
            Err(error) => {
                let mut failure =
                    self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
            }
        }
        self.shared.changed.notify_one();
    }

    /// Everything up to this position is on disk.
    pub(crate) fn through(&self) -> CommitPosition {
        CommitPosition(self.shared.through.load(Ordering::Acquire))
    }

    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}

/// Effects that wait for their position, in the order in which they may go.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: BTreeMap<CommitPosition, Vec<EffectKind>>,
}

impl Gate {
    /// Gives an effect back at once when what it waits for is durable already, else keeps it.
    pub(crate) fn pass(&mut self, effect: Effect, durable: CommitPosition) -> Option<EffectKind> {
        if effect.after <= durable {
            return Some(effect.kind);
        }
        self.waiting.entry(effect.after).or_default().push(effect.kind);
        None
    }

    /// The effects of the oldest position that has become durable.
    pub(crate) fn release(&mut self, durable: CommitPosition) -> Option<Vec<EffectKind>> {
        let oldest = self.waiting.first_entry()?;
        (*oldest.key() <= durable).then(|| oldest.remove())
    }
}

/// How much has been submitted and is not yet on disk. The driver takes no new work above
/// [`InFlight::BYTES_MAX`], so that a slow disk slows clients down instead of filling memory.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    batches: std::collections::VecDeque<(CommitPosition, usize)>,
    bytes: usize,
}

impl InFlight {
    /// Half of what the writer's queue holds, so that the store never has to refuse a batch that
    /// the core has already applied.
    pub(crate) const BYTES_MAX: usize = 32 * 1024 * 1024;

    pub(crate) fn add(&mut self, position: CommitPosition, bytes: usize) {
        self.batches.push_back((position, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn settle(&mut self, durable: CommitPosition) {
        while let Some((position, bytes)) = self.batches.front().copied() {
            if durable < position {
                break;
            }
            self.bytes -= bytes;
            self.batches.pop_front();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        Self::BYTES_MAX <= self.bytes
    }
}
