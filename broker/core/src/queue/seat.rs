//! Receivers of a queue, wherever they are served: with all others in turn, or by their session.

use peeklock_storage::CommitPosition;

use super::Queue;
use super::receiver::Wish;
use crate::broker::Seat;
use crate::time::Timestamp;

impl Queue {
    /// Until when a message is locked that is delivered now.
    pub(crate) fn lock_end(&self, now: Timestamp, seat: Seat) -> Timestamp {
        match (seat, &self.sessions) {
            (Seat::Session(slot), Some(sessions)) => sessions.until(slot),
            (Seat::Session(_) | Seat::Round(_) | Seat::Browser(_) | Seat::Waiting(_), _) => {
                now.plus(self.settings().lock_duration)
            }
        }
    }

    /// Counts a delivery that waits for a commit. Says which one it waits for then: messages of a
    /// session do not overtake each other.
    pub(crate) fn note_given(
        &mut self,
        seat: Seat,
        bytes: u64,
        after: CommitPosition,
    ) -> CommitPosition {
        match (seat, &mut self.sessions) {
            (Seat::Round(slot), _) => {
                self.receivers.given(slot, bytes, after);
                after
            }
            (Seat::Session(slot), Some(sessions)) => sessions.given(slot, bytes, after),
            (Seat::Session(_) | Seat::Browser(_) | Seat::Waiting(_), _) => {
                unreachable!("nobody to deliver to")
            }
        }
    }

    /// Says what a receiver wants. Who has no session yet wants nothing yet.
    pub(crate) fn note_demand(&mut self, seat: Seat, wish: Wish) {
        match (seat, &mut self.sessions) {
            (Seat::Round(slot), _) => self.receivers.demand(slot, wish),
            (Seat::Browser(receiver), _) => self.browsers.demand(receiver, wish),
            (Seat::Session(slot), Some(sessions)) => sessions.demand(slot, wish),
            (Seat::Waiting(wait), Some(sessions)) => sessions.waiting.demand(wait, wish),
            (Seat::Session(_) | Seat::Waiting(_), None) => {}
        }
    }
}
