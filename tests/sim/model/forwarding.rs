//! Where a message goes that becomes active, and where one goes that is dead.

use super::{End, Model, Part, Sent, Shelf, State};

/// Over so many queues a message is forwarded.
const HOPS_MAX: u32 = 4;

const TOO_MANY_HOPS: &str = "MaxTransferHopCountExceeded";
const NO_SESSION: &str = "Session ID is null.";

impl Model {
    /// A message that becomes active in a queue, between two moments.
    pub(super) fn placed(
        &self,
        state: State,
        sent: &Sent,
        queue: usize,
        enqueued: (u64, u64),
    ) -> State {
        let limit = self.rules[queue].time_to_live;
        State {
            shelf: Shelf::Active,
            at: (queue, Part::Main),
            number: None,
            attempts: (0, 0),
            lock: None,
            enqueued,
            time_to_live: sent.time_to_live.into_iter().chain(limit).min(),
            ..state
        }
    }

    /// Where a message goes on to by itself, sooner or later, and in order.
    pub(super) fn forwarded(&self, state: &State, sent: &Sent, now: u64) -> Option<State> {
        let (queue, part) = state.at;
        let rules = self.rules[queue];
        let (next, hops, source) = match part {
            Part::Main => (rules.forward_to?, state.hops, state.source),
            Part::DeadLetter => {
                // Its way as a dead letter is another one, but only once.
                let hops = if state.source.is_none() { 0 } else { state.hops };
                (rules.forward_dead_letters_to?, hops, Some(queue))
            }
            Part::Transfer => return None,
        };
        let refusal = if HOPS_MAX <= hops {
            Some(TOO_MANY_HOPS)
        } else if self.rules[next].requires_session && sent.session.is_none() {
            Some(NO_SESSION)
        } else {
            None
        };
        if refusal.is_some() {
            return Some(state.clone().buried(refusal));
        }
        let enqueued = (state.enqueued.0, now);
        let state = State { hops: hops + 1, source, ..state.clone() };
        if self.is_topic(next) {
            let shelf = Shelf::Gone(End::Published);
            return Some(State { shelf, enqueued, lock: None, ..state });
        }
        Some(self.placed(state, sent, next, enqueued))
    }
}
