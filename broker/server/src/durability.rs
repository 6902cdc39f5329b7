//! The durability gate: one submit a turn, and effects held until the batch they wait for is on disk.
//!
//! Nothing else releases an effect that promises durability. The store's writer thread reports once
//! a group; the report wakes the driver once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peeklock_core::{Effect, EffectKind};
use peeklock_storage::{CommitPosition, Done, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

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

/// What has been submitted and is not yet on disk.
///
/// As long as that fills the window the driver takes no new work. Nobody is overtaken in front of the
/// store, so what waits there is what everybody waits for; in front of the driver each entity has its
/// turn. A slow disk slows clients down instead of filling memory.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    batches: VecDeque<Submitted>,
    bytes: usize,
    /// How long a commit takes, of late.
    commit: Duration,
}

#[derive(Debug)]
struct Submitted {
    position: CommitPosition,
    bytes: usize,
    at: Instant,
}

impl InFlight {
    /// The window of a store that is quick: one half is synced while the other gathers, and either takes
    /// a fast disk a millisecond. With half of it a queue at full speed is a tenth slower, with more of
    /// it no faster.
    const WINDOW_MIN: usize = 512 * 1024;

    /// A store that takes longer has more for each microsecond, or groups would be too small for its
    /// disk. Half of that goes into a group, which most disks write in less time than it was added for,
    /// so the window does not grow by its own size.
    const WINDOW_PER_MICROSECOND: usize = 256;

    /// The window of a store that hardly answers.
    const WINDOW_MAX: usize = 8 * 1024 * 1024;

    /// A new commit counts for one part of so many.
    const SMOOTHING: u32 = 8;

    /// What the writer's queue holds. More may be asked of it in one turn than the window leaves free:
    /// one message of 100 MiB, or as many dead-lettered ones as locks expire at a time.
    const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

    /// Whether the store takes a batch of this size now. It must not be asked to refuse one: the core
    /// has applied it already. Like the store, this lets any batch into an empty queue.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= Self::QUEUE_BYTES_MAX
    }

    pub(crate) fn add(&mut self, position: CommitPosition, bytes: usize, at: Instant) {
        self.batches.push_back(Submitted { position, bytes, at });
        self.bytes += bytes;
    }

    pub(crate) fn settle(&mut self, durable: CommitPosition, now: Instant) {
        let count = self.batches.partition_point(|submitted| submitted.position <= durable);
        // The youngest has waited for its own commit only, the others for the one before as well.
        if let Some(youngest) =
            self.batches.drain(..count).inspect(|it| self.bytes -= it.bytes).last()
        {
            let took = now.saturating_duration_since(youngest.at);
            self.commit = (self.commit * (Self::SMOOTHING - 1) + took) / Self::SMOOTHING;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.window() <= self.bytes
    }

    fn window(&self) -> usize {
        let microseconds = usize::try_from(self.commit.as_micros()).unwrap_or(usize::MAX);
        let window = microseconds.saturating_mul(Self::WINDOW_PER_MICROSECOND);
        window.clamp(Self::WINDOW_MIN, Self::WINDOW_MAX)
    }
}

#[cfg(test)]
mod tests {
    use peeklock_core::{Origin, Reply};

    use super::*;

    fn effect(after: u64, name: u32) -> Effect {
        let to = Origin { connection: 1, link: 1, delivery: name };
        let kind = EffectKind::Reply { to, result: Ok(Reply::Accepted) };
        Effect { after: CommitPosition(after), kind }
    }

    fn names(kinds: impl IntoIterator<Item = EffectKind>) -> Vec<u32> {
        let name = |kind| match kind {
            EffectKind::Reply { to, .. } => to.delivery,
            other => panic!("{other:?}"),
        };
        kinds.into_iter().map(name).collect()
    }

    #[test]
    fn what_is_durable_passes_and_the_rest_waits_in_order() {
        let mut gate = Gate::default();
        let durable = CommitPosition(2);
        for (after, name, passes) in
            [(0, 1, true), (2, 2, true), (3, 3, false), (5, 4, false), (3, 5, false)]
        {
            let passed = gate.pass(effect(after, name), durable);
            assert_eq!(names(passed), if passes { vec![name] } else { vec![] });
        }
        assert!(gate.release(CommitPosition(2)).is_none());
        assert_eq!(gate.release(CommitPosition(4)).map(names), Some(vec![3, 5]));
        assert!(gate.release(CommitPosition(4)).is_none());
        assert_eq!(gate.release(CommitPosition(9)).map(names), Some(vec![4]));
        assert!(gate.release(CommitPosition(9)).is_none());
    }

    #[test]
    fn bytes_in_flight_end_with_their_batch() {
        let now = Instant::now();
        let mut in_flight = InFlight::default();
        in_flight.add(CommitPosition(1), InFlight::WINDOW_MIN - 1, now);
        assert!(!in_flight.is_full());
        in_flight.add(CommitPosition(2), 1, now);
        assert!(in_flight.is_full());
        in_flight.settle(CommitPosition(0), now);
        assert!(in_flight.is_full());
        in_flight.settle(CommitPosition(1), now);
        assert!(!in_flight.is_full());
        in_flight.settle(CommitPosition(9), now);
        assert_eq!((in_flight.bytes, in_flight.batches.len()), (0, 0));
    }

    #[test]
    fn a_slow_store_has_a_larger_window_as_long_as_it_is_slow() {
        let mut now = Instant::now();
        let mut in_flight = InFlight::default();
        let mut commit = |milliseconds| {
            for position in 1..100 {
                // The older ones of a group waited for another one before.
                in_flight.add(CommitPosition(2 * position), 1, now);
                now += Duration::from_secs(1);
                in_flight.add(CommitPosition(2 * position + 1), 1, now);
                now += Duration::from_millis(milliseconds);
                in_flight.settle(CommitPosition(2 * position + 1), now);
            }
            in_flight.window() / 1024
        };
        assert_eq!(commit(1), 512);
        assert!((2499..=2500).contains(&commit(10)));
        assert_eq!(commit(1000), 8192);
        assert!((1000..=1001).contains(&commit(4)));
        assert_eq!(commit(0), 512);
    }

    #[test]
    fn a_batch_of_any_size_goes_into_an_empty_queue_and_no_other() {
        let mut in_flight = InFlight::default();
        assert!(in_flight.admits(usize::MAX));
        in_flight.add(CommitPosition(1), 1, Instant::now());
        assert!(in_flight.admits(InFlight::QUEUE_BYTES_MAX - 1));
        assert!(!in_flight.admits(InFlight::QUEUE_BYTES_MAX));
        assert!(!in_flight.admits(usize::MAX));
    }

    fn done(through: u64, result: Result<(), StoreError>) -> Done {
        Done { through: CommitPosition(through), result }
    }

    #[tokio::test]
    async fn a_report_wakes_whoever_comes_later() {
        let progress = Progress::default();
        progress.report(done(3, Ok(())));
        progress.report(done(2, Ok(())));
        progress.changed().await;
        assert_eq!((progress.through(), progress.failure()), (CommitPosition(3), None));
    }

    #[test]
    fn the_first_failure_is_kept_and_takes_nothing_back() {
        let progress = Progress::default();
        let failure = StoreError::Unknown("first".into());
        progress.report(done(3, Ok(())));
        progress.report(done(7, Err(failure.clone())));
        progress.report(done(8, Err(StoreError::Unknown("second".into()))));
        assert_eq!((progress.through(), progress.failure()), (CommitPosition(3), Some(failure)));
    }
}
