//! How many messages of each kind a queue says it has.

use peeklock_core::Counts;

use super::{Model, Part, Shelf, State};

const SET_ASIDE: &[Shelf] = &[Shelf::Deferred];
const THERE: &[Shelf] = &[Shelf::Active, Shelf::Deferred];
const SCHEDULED: &[Shelf] = &[Shelf::Scheduled];

impl Model {
    /// A queue was described. Messages that may have moved by themselves count or do not.
    pub(crate) fn described(&mut self, queue: usize, counts: &Counts) {
        self.seen.described += 1;
        let kinds = [
            ("active", counts.active, Part::Main, THERE),
            ("deferred", counts.deferred, Part::Main, SET_ASIDE),
            ("scheduled", counts.scheduled, Part::Main, SCHEDULED),
            ("dead", counts.dead_letter, Part::DeadLetter, THERE),
            ("given up", counts.transfer_dead_letter, Part::Transfer, THERE),
        ];
        let mut bounds = [(0, 0); 5];
        for body in &self.live {
            let outcomes = self.outcomes(*body, self.now);
            let is_sure = self.state(*body).is_sure;
            for ((_, _, part, shelves), (least, most)) in kinds.iter().zip(&mut bounds) {
                let is_in =
                    |state: &&State| state.at == (queue, *part) && shelves.contains(&state.shelf);
                let found = outcomes.iter().filter(is_in).count();
                *least += u64::from(found == outcomes.len() && is_sure);
                *most += u64::from(found != 0);
            }
        }
        for ((what, count, ..), (least, most)) in kinds.into_iter().zip(bounds) {
            assert!(
                (least..=most).contains(&count),
                "queue {queue} says that {count} messages are {what}, not {least} to {most}"
            );
            self.seen.counted_exactly += u64::from(least == most && count != 0);
        }
    }
}
