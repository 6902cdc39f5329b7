//! Messages that are not to be delivered before their time, and deferred ones that are not there.

use super::{At, Body, End, Model, Shelf, Turn};

impl Model {
    /// Messages were taken in until their time, under these numbers.
    pub(crate) fn scheduled(&mut self, bodies: &[Body], numbers: &[u64]) {
        assert_eq!(bodies.len(), numbers.len(), "a number for each message");
        for (body, number) in bodies.iter().zip(numbers) {
            self.take_in(*body);
            self.scheduled_as(*body, *number);
        }
    }

    /// The number given out for a message. One that was dropped has none of its own.
    pub(super) fn scheduled_as(&mut self, body: Body, number: u64) {
        let state = self.state(body);
        if state.shelf == Shelf::Scheduled && state.is_sure {
            let queue = state.at.0;
            self.numbered(body, queue, number);
        }
    }

    /// Scheduled messages were cancelled.
    pub(crate) fn cancelled(&mut self, queue: usize, bodies: &[(Body, u64)]) {
        for (body, number) in bodies {
            let state = self.state(*body);
            assert!(
                state.shelf == Shelf::Scheduled && state.at.0 == queue,
                "message {number} of queue {queue} was cancelled, and is not scheduled: {state:?}"
            );
            self.seen.cancelled += 1;
            self.change_for_good(*body).shelf = Shelf::Gone(End::Cancelled);
        }
    }

    /// Whether all of these can be cancelled now.
    pub(crate) fn can_be_cancelled(&self, bodies: &[(Body, u64)]) -> bool {
        bodies.iter().all(|(body, number)| {
            let state = self.certain(*body);
            state.is_some_and(|state| {
                state.shelf == Shelf::Scheduled && state.number == Some(*number)
            })
        })
    }

    /// A cancellation was refused. At some time since one of them was not waiting for its time.
    pub(crate) fn not_cancelled(&mut self, bodies: &[(Body, u64)], could_be: bool) {
        self.seen.not_cancelled += 1;
        assert!(
            !could_be || !self.can_be_cancelled(bodies),
            "all of {bodies:?} are scheduled, and could not be cancelled"
        );
    }

    /// Whether all of these can be fetched now.
    pub(crate) fn can_be_fetched(&self, bodies: &[(Body, u64)], at: At) -> bool {
        bodies.iter().all(|(body, number)| {
            let state = self.certain(*body);
            state.is_some_and(|state| {
                state.shelf == Shelf::Deferred
                    && state.at == at
                    && state.lock.is_none()
                    && state.number == Some(*number)
                    && !state.may_be_stale(self.now)
            })
        })
    }

    /// Deferred messages were asked for and not found. That must have been so at some time since.
    pub(crate) fn not_fetched(&mut self, bodies: &[(Body, u64)], at: At, was: Option<Turn>) {
        self.seen.not_fetched += 1;
        let Some(asked_in) = was else { return };
        let has_moved = |(body, _): &(Body, u64)| asked_in <= self.state(*body).settled_in();
        assert!(
            bodies.iter().any(has_moved) || !self.can_be_fetched(bodies, at),
            "all of {bodies:?} are deferred at {at:?}, and were not found: {:?}",
            bodies.iter().map(|(body, _)| self.known(*body)).collect::<Vec<_>>()
        );
    }
}
