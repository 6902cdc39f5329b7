//! How many messages of each kind a queue says it has.

use peeklock_core::Counts;

use super::{Model, Part, Shelf, State};

impl Model {
    /// A queue was described. Messages that may have moved by themselves count or do not.
    pub(crate) fn described(&mut self, queue: usize, counts: &Counts) {
        self.seen.described += 1;
        let is_in = |state: &State, part: Part, shelves: &[Shelf]| {
            state.at == (queue, part) && shelves.contains(&state.shelf)
        };
        let set_aside = [Shelf::Deferred];
        let there = [Shelf::Active, Shelf::Deferred];
        let scheduled = [Shelf::Scheduled];
        for (what, count, part, shelves) in [
            ("active", counts.active, Part::Main, &there[..]),
            ("deferred", counts.deferred, Part::Main, &set_aside),
            ("scheduled", counts.scheduled, Part::Main, &scheduled),
            ("dead", counts.dead_letter, Part::DeadLetter, &there),
            ("given up", counts.transfer_dead_letter, Part::Transfer, &there),
        ] {
            let (mut least, mut most) = (0, 0);
            for (body, known) in &self.messages {
                let outcomes = self.outcomes(*body, self.now);
                let found = outcomes.iter().filter(|state| is_in(state, part, shelves)).count();
                let is_certain = found == outcomes.len() && known.state.get().is_sure;
                least += u64::from(is_certain);
                most += u64::from(found != 0);
            }
            assert!(
                (least..=most).contains(&count),
                "queue {queue} says that {count} messages are {what}, not {least} to {most}"
            );
            self.seen.counted_exactly += u64::from(least == most && count != 0);
        }
    }
}
