//! Messages that are passed on.

use peeklock_core::LockToken;

use super::state::{Ends, Lock};
use super::{At, Body, End, Model, Part, Shelf, State};

/// A message, as it is shown to a client.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) body: Body,
    pub(crate) at: At,
    pub(crate) shelf: Shelf,
    pub(crate) number: u64,
    pub(crate) attempts: u32,
    pub(crate) enqueued: u64,
    /// The number it got where it was taken in first.
    pub(crate) taken_in_as: u64,
    /// The queue whose dead letter it was.
    pub(crate) source: Option<usize>,
    /// Its application properties, as far as they are text.
    pub(crate) properties: String,
}

/// One delivery, as its client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    pub(crate) shown: Sighting,
    /// The lock and its end; nothing for receive-and-delete.
    pub(crate) lock: Option<(LockToken, u64)>,
    /// The session its receiver holds.
    pub(crate) session: Option<u64>,
}

impl Model {
    /// A link passed a message on.
    pub(crate) fn delivered(&mut self, delivered: &Delivered) {
        let Sighting { body, at, number, .. } = delivered.shown;
        self.seen.delivered += 1;
        let state = self.passed_on(delivered, Shelf::Active);
        assert_eq!(
            delivered.session.is_some(),
            at.1 == Part::Main && self.rules[at.0].requires_session,
            "message {body} came with or without a session against the rules"
        );
        if let Some(session) = delivered.session {
            let own = self.known(body).sent.session;
            assert_eq!(
                own,
                Some(session),
                "message {body} came to the holder of a session not its"
            );
            self.check_session_order(body, at, session, number);
            self.seen.session_deliveries += 1;
        }
        if at.1 == Part::Main && self.passed_on.insert((at.0, number)) {
            let last = self.furthest.insert((at.0, delivered.session), number).unwrap_or(0);
            assert!(last < number, "message {number} of {at:?} is passed on after message {last}");
        }
        self.seen.dead_letter_deliveries += u64::from(at.1 == Part::DeadLetter);
        self.seen.expired_to_dead_letter += u64::from(state.reason == Some("TTLExpiredException"));
        self.seen.dead_letters_forwarded += u64::from(state.source.is_some());
        self.seen.forwarded += u64::from(state.hops != 0);
        self.count_copy(body);
        self.seen.not_forwarded += u64::from(state.at.1 == Part::Transfer);
        self.seen.too_many_hops += u64::from(state.reason == Some("MaxTransferHopCountExceeded"));
    }

    /// A deferred message was fetched.
    pub(crate) fn fetched(&mut self, delivered: &Delivered) {
        self.seen.fetched += 1;
        self.passed_on(delivered, Shelf::Deferred);
        let turn = self.turn;
        self.change(delivered.shown.body).moved = turn;
    }

    fn passed_on(&mut self, delivered: &Delivered, shelf: Shelf) -> State {
        let shown = &delivered.shown;
        assert_eq!(shown.shelf, shelf, "message {} was delivered as {:?}", shown.body, shown.shelf);
        let state = self.sighted(shown);
        assert!(
            state.lock.is_none(),
            "message {} was delivered at {}, while {:?} holds it",
            shown.body,
            self.now,
            state.lock
        );
        assert!(
            !(shelf == Shelf::Active && shown.at.1 == Part::Main && state.is_stale(self.now)),
            "message {} was delivered at {}, after it expired: {state:?}",
            shown.body,
            self.now
        );
        let rules = self.rules[shown.at.0];
        assert!(
            shown.at.1 != Part::Main
                || shelf == Shelf::Deferred
                || shown.attempts < rules.attempts_max,
            "message {} should have been dead-lettered after {} failed deliveries",
            shown.body,
            shown.attempts
        );
        let lock = delivered.lock.map(|(token, until)| {
            let ends = self.lock_end(shown, until);
            Lock { token, ends, enlisted: None }
        });
        if let Some(lock) = lock {
            self.change(shown.body).lock = Some(lock);
        } else {
            self.seen.taken += 1;
            self.change_for_good(shown.body).shelf = Shelf::Gone(End::Taken);
        }
        state
    }

    /// Messages of a session are locked with it, others for themselves.
    fn lock_end(&self, shown: &Sighting, until: u64) -> Ends {
        let (queue, part) = shown.at;
        if part == Part::Main && self.rules[queue].requires_session {
            let session = self.known(shown.body).sent.session.expect("it is in a session queue");
            return Ends::WithHold(self.hold_in_force(queue, session));
        }
        let expected = self.now + self.rules[queue].lock_duration;
        assert_eq!(until, expected, "the lock of message {} is too short or long", shown.body);
        Ends::At(until)
    }

    /// A message was seen: it must exist, there, as it is shown.
    fn sighted(&mut self, shown: &Sighting) -> State {
        let outcomes = self.outcomes(shown.body, self.now);
        let fitting = outcomes.iter().find(|state| fits(state, shown));
        let Some(state) = fitting else { self.cannot_be(shown, &outcomes) };
        let mut state = state.clone();
        state.is_sure = true;
        if state.shelf == Shelf::Active {
            state.attempts = (shown.attempts, shown.attempts);
        }
        if shown.at.1 == Part::Main {
            state.enqueued = (shown.enqueued, shown.enqueued);
        }
        let before = self.state(shown.body).clone();
        if (before.at, before.shelf) != (state.at, state.shelf) {
            state.moved = self.turn;
        }
        if before.attempts != state.attempts {
            state.counted = self.turn;
        }
        self.count_outcome(&before, &state);
        if before.shelf == Shelf::Underway {
            self.has_come(shown.body);
        }
        self.taken_in_as(shown.body, shown.taken_in_as);
        *self.change(shown.body) = state.clone();
        self.numbered(shown.body, shown.at.0, shown.number);
        state
    }

    fn count_outcome(&mut self, before: &State, after: &State) {
        if before.shelf == Shelf::Scheduled && after.shelf == Shelf::Active {
            self.seen.activated += 1;
        }
        if before.lock.is_some() && after.lock.is_none() {
            self.seen.expired += 1;
        }
        if before.at != after.at && after.reason == Some("MaxDeliveryCountExceeded") {
            self.seen.dead_lettered_by_attempts += 1;
        }
    }

    pub(super) fn cannot_be(&self, shown: &Sighting, outcomes: &[State]) -> ! {
        let Sighting { body, at, number, .. } = shown;
        let now = self.now;
        for state in outcomes {
            let is_here = state.at.0 == at.0 && (state.shelf == shown.shelf || state.is_gone());
            if let Some(known) = state.number.filter(|known| is_here && known != number) {
                panic!("message {body} is there twice, as number {known} too: {shown:?}");
            }
            if let Some(lock) = state.lock {
                panic!("message {body} was delivered at {now}, while {lock:?} holds it: {shown:?}");
            }
            match state.shelf {
                Shelf::Gone(end) if outcomes.len() == 1 => {
                    panic!("message {body} came back after it was {end:?}: {shown:?}")
                }
                Shelf::Nowhere => {
                    panic!("message {body} is there, and was not taken in: {shown:?}")
                }
                Shelf::Scheduled if now < state.enqueued.0 && shown.shelf == Shelf::Active => {
                    panic!("message {body} is there at {now}, before its time: {state:?}")
                }
                Shelf::Underway if outcomes.len() == 1 => {
                    panic!("copy {body} is there, and it was not published: {shown:?}")
                }
                Shelf::Underway
                | Shelf::Active
                | Shelf::Deferred
                | Shelf::Scheduled
                | Shelf::Gone(_) => {}
            }
        }
        panic!(
            "message {body} is in {at:?} as number {number} at {now}: {shown:?}; it can only be one \
             of {outcomes:?}, sent as {:?}",
            self.known(*body)
        )
    }

    /// A receiver was told that there is nothing more for it.
    pub(crate) fn drained(&mut self, at: At, session: Option<u64>, is_hungry: bool) {
        self.seen.drained += 1;
        if !is_hungry {
            return;
        }
        let everything = || self.live.iter().copied();
        let left = match session {
            None => everything().find(|body| self.is_available(*body, at).is_some()),
            Some(session) => {
                self.of_session(session).find(|body| self.is_available(*body, at).is_some())
            }
        };
        if let Some(body) = left {
            panic!(
                "{at:?} was drained in turn {} at {}, and message {body} is left: {:?}",
                self.turn,
                self.now,
                self.known(body)
            );
        }
    }
}

pub(super) fn fits(state: &State, shown: &Sighting) -> bool {
    let Sighting { at, shelf, number, attempts, enqueued, source, properties, .. } = shown;
    let is_dead = at.1 != Part::Main;
    let has_reason = |reason: &str| properties.contains(reason);
    state.at == *at
        && state.shelf == *shelf
        && state.number.is_none_or(|known| known == *number)
        && (state.attempts.0..=state.attempts.1).contains(attempts)
        && (is_dead || (state.enqueued.0..=state.enqueued.1).contains(enqueued))
        && state.source == *source
        && (!is_dead || state.reason.is_none_or(has_reason))
}
