//! Messages that are removed many at a time. Clients hear how many, not which.

use super::{At, End, Model, Shelf, State};

/// What was asked of one place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deletions {
    /// Messages enqueued before this may be gone.
    before: u64,
    /// So many are gone at least, for clients were told so, and at most.
    count: (u64, u64),
}

impl Model {
    pub(crate) fn asked_to_delete(&mut self, at: At, count_max: u32, before: u64) {
        let deletions = self.deletions.entry(at).or_default();
        deletions.before = deletions.before.max(before);
        deletions.count.1 += u64::from(count_max);
    }

    pub(crate) fn deleted(&mut self, at: At, (count_max, count): (u32, u32)) {
        assert!(count <= count_max, "more was deleted than asked for");
        self.seen.batch_deleted += u64::from(count);
        self.deletions.entry(at).or_default().count.1 -= u64::from(count_max - count);
    }

    pub(crate) fn told_of_deletion(&mut self, at: At, count: u32) {
        self.deletions.entry(at).or_default().count.0 += u64::from(count);
    }

    /// A free message, if it may be among those that were removed.
    pub(super) fn removed(&self, state: &State) -> Option<State> {
        let deletions = self.deletions.get(&state.at)?;
        let may_be = state.enqueued.0 < deletions.before;
        may_be.then(|| State { shelf: Shelf::Gone(End::Deleted), ..state.clone() })
    }

    /// No more and no fewer are missing than clients were told of.
    pub(super) fn check_deletions(&self) {
        for (at, deletions) in &self.deletions {
            let is_missing = |state: &State| state.at == *at && state.shelf == Shelf::Active;
            let missing = self.messages.values().filter(|known| is_missing(known.state.get()));
            let count = missing.count() as u64;
            let (least, most) = deletions.count;
            assert!(
                (least..=most).contains(&count),
                "{count} messages of {at:?} are missing, not {least} to {most}"
            );
        }
    }
}
