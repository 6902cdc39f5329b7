//! What must be true when everything was received and completed.

use std::collections::BTreeMap;

use super::{At, Body, End, Model, Part, Shelf, State};

impl Model {
    /// Nothing that was taken in is missing, no send was torn apart, and numbers follow the order in
    /// which messages were taken in.
    pub(crate) fn check_at_the_end(&mut self) {
        for (body, known) in &self.messages {
            let state = known.state.get();
            let outcomes = self.outcomes(*body, self.now);
            let may_be_gone =
                |state: &State| state.is_gone() || state.shelf == Shelf::Nowhere || !state.is_sure;
            let is_still_to_come = state.shelf == Shelf::Underway && !self.must_have_come(*body);
            assert!(
                is_still_to_come
                    || state.shelf != Shelf::Underway && outcomes.iter().any(may_be_gone),
                "message {body} was accepted and is lost: {known:?}"
            );
            let is_over = |state: &State| state.shelf == Shelf::Gone(End::Expired);
            self.seen.found_expired += u64::from(outcomes.iter().any(is_over));
            let first = self.messages[&known.batch].state.get();
            assert_eq!(
                state.shelf == Shelf::Nowhere,
                first.shelf == Shelf::Nowhere,
                "message {body} was sent as one with {}, and only one of them was kept",
                known.batch
            );
        }
        self.check_deletions();
        self.check_order_of_numbers();
        self.check_order_of_due_times();
    }

    /// What was taken in first has the lower number, if it became active at once.
    fn check_order_of_numbers(&self) {
        let mut numbers: BTreeMap<_, Vec<(u64, u64, Body)>> = BTreeMap::new();
        for (body, known) in &self.messages {
            let state = known.state.get();
            if known.sent.due.is_none()
                && let (Some(rank), Some((queue, number))) = (state.rank, state.numbers.first())
                && state.source.is_none()
            {
                numbers.entry((known.sent.queue, *queue)).or_default().push((rank, *number, *body));
            }
        }
        for ((from, queue), mut ranked) in numbers {
            ranked.sort_unstable();
            for pair in ranked.windows(2) {
                assert!(
                    pair[0].1 < pair[1].1,
                    "queue {queue} numbered {pair:?}, which queue {from} took in in this order"
                );
            }
        }
    }

    /// What was due first has the lower number; of equal times, what was scheduled first.
    fn check_order_of_due_times(&self) {
        let mut numbers: BTreeMap<usize, Vec<(u64, u64, u64)>> = BTreeMap::new();
        for known in self.messages.values() {
            let state = known.state.get();
            let queue = known.sent.queue;
            if let (Some(due), [(first, scheduled), (second, active)]) =
                (known.sent.due, state.numbers.as_slice())
                && (*first, *second) == (queue, queue)
            {
                numbers.entry(queue).or_default().push((due, *scheduled, *active));
            }
        }
        for (queue, mut due) in numbers {
            due.sort_unstable();
            for pair in due.windows(2) {
                assert!(pair[0].2 < pair[1].2, "queue {queue} activated {pair:?} in another order");
            }
        }
    }

    /// Where every message was seen, every number of a queue is some message's.
    pub(crate) fn check_no_gaps(&self) {
        let mut next = BTreeMap::new();
        for (queue, number) in self.owners.keys() {
            let expected = next.insert(*queue, number + 1).unwrap_or(1);
            assert_eq!(expected, *number, "queue {queue} left out a number");
        }
    }

    /// Deferred messages that can still be fetched: where, their number, and their session.
    pub(crate) fn deferred(&self) -> Vec<(Body, At, u64, Option<u64>)> {
        let mut found = Vec::new();
        for (body, known) in &self.messages {
            let state = known.state.get();
            if state.shelf == Shelf::Deferred
                && let Some(number) = state.number
            {
                let (queue, part) = state.at;
                let is_in_session = part == Part::Main && self.rules[queue].requires_session;
                let session = known.sent.session.filter(|_| is_in_session);
                found.push((*body, state.at, number, session));
            }
        }
        found
    }

    /// For showing that it is noticed: a lie about a message that is there. Says whether one is.
    pub(crate) fn pretend(&mut self, lie: impl Fn(&mut State) -> bool) -> bool {
        let bodies: Vec<Body> = self.messages.keys().copied().collect();
        for body in bodies {
            let mut state = self.state(body).clone();
            if lie(&mut state) {
                *self.change(body) = state;
                self.live.insert(body);
                if let Some(session) = self.known(body).sent.session {
                    self.by_session.entry(session).or_default().push(body);
                }
                return true;
            }
        }
        false
    }
}
