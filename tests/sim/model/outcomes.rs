//! What a message may have come to by itself: locks end, messages expire, scheduled ones are due.

use super::state::{Ends, Lock};
use super::{Body, End, Model, Part, Sent, Shelf, State};

const TOO_MANY_ATTEMPTS: &str = "MaxDeliveryCountExceeded";
const EXPIRED: &str = "TTLExpiredException";

impl Model {
    /// Everything that may be true of a message by now. The first is what it is if the broker did
    /// nothing but let locks end.
    pub(super) fn outcomes(&self, body: Body, now: u64) -> Vec<State> {
        let known = self.known(body);
        let mut found = Vec::new();
        let mut open = vec![known.state.get().clone()];
        while let Some(mut state) = open.pop() {
            if let Some(lock) = &state.lock {
                if !self.is_over(lock, now) {
                    found.push(state);
                    continue;
                }
                state.lock = None;
                state.fail_once();
            }
            if state.shelf == Shelf::Underway {
                open.extend(self.arrivals(body, now));
            }
            self.by_itself(&state, &known.sent, now, &mut open);
            found.push(state);
        }
        found
    }

    fn by_itself(&self, state: &State, sent: &Sent, now: u64, open: &mut Vec<State>) {
        let (queue, part) = state.at;
        match state.shelf {
            Shelf::Scheduled if state.enqueued.0 <= now => {
                let since = (state.enqueued.0, now);
                if self.is_topic(queue) {
                    let shelf = Shelf::Gone(End::Published);
                    open.push(State { shelf, enqueued: since, ..state.clone() });
                    return;
                }
                open.push(self.placed(state.clone(), sent, queue, since));
            }
            Shelf::Active => {
                open.extend(self.forwarded(state, sent, now));
                open.extend(self.removed(state));
                if part == Part::Main {
                    if self.rules[queue].attempts_max <= state.attempts.1 {
                        open.push(state.clone().buried(Some(TOO_MANY_ATTEMPTS)));
                    }
                    if state.may_be_stale(now) {
                        open.push(self.expired(state.clone()));
                    }
                }
            }
            // Fetched and failed once too often, or fetched too late.
            Shelf::Deferred if part == Part::Main => {
                if self.rules[queue].attempts_max <= state.attempts.1 {
                    open.push(state.clone().buried(Some(TOO_MANY_ATTEMPTS)));
                }
                if state.may_be_stale(now) {
                    open.push(self.expired(state.clone()));
                }
            }
            Shelf::Nowhere
            | Shelf::Underway
            | Shelf::Scheduled
            | Shelf::Deferred
            | Shelf::Gone(_) => {}
        }
    }

    fn expired(&self, state: State) -> State {
        if self.rules[state.at.0].dead_letter_on_expiry {
            state.buried(Some(EXPIRED))
        } else {
            State { shelf: Shelf::Gone(End::Expired), lock: None, ..state }
        }
    }

    /// Whether a lock ended by itself.
    pub(super) fn is_over(&self, lock: &Lock, now: u64) -> bool {
        match lock.ends {
            Ends::At(until) => until <= now,
            Ends::WithHold(hold) => self.holds[&hold].until <= now,
        }
    }

    /// The one thing that can be true of a message, if there is only one.
    pub(super) fn certain(&self, body: Body) -> Option<State> {
        if !self.state(body).is_sure {
            return None;
        }
        let mut outcomes = self.outcomes(body, self.now);
        if outcomes.len() == 1 { outcomes.pop() } else { None }
    }

    /// Whether a message can be given to a receiver there, for certain.
    pub(super) fn is_available(&self, body: Body, at: super::At) -> Option<State> {
        let state = self.state(body);
        if state.is_gone() || matches!(state.shelf, Shelf::Nowhere | Shelf::Underway) {
            return None;
        }
        self.certain(body)
            .filter(|state| state.at == at && state.shelf == Shelf::Active && state.lock.is_none())
    }
}
