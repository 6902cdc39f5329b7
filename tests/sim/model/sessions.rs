//! Sessions: who holds them, in which order their messages come, and what their holders keep there.

use bytes::Bytes;

use super::state::{Durable, Ends};
use super::{At, Body, Model, Part, Shelf, Turn};

/// A receiver's claim on a session.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    queue: usize,
    session: u64,
    /// The first moment at which it is gone.
    pub(super) until: u64,
}

/// What the holders of a session keep there.
#[derive(Clone, Debug)]
pub(crate) struct SessionState {
    pub(super) value: Durable<Kept>,
    /// The last change a client was told of.
    pub(super) told: Turn,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Kept {
    octets: Option<Bytes>,
    set_at: u64,
    pub(super) changed: Turn,
}

/// What a client asked of the list of sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) queue: usize,
    pub(crate) updated_after: Option<u64>,
    pub(crate) asked_in: Turn,
}

impl Model {
    pub(super) fn of_session(&self, session: u64) -> impl Iterator<Item = Body> {
        self.by_session.get(&session).into_iter().flatten().copied()
    }

    /// The hold on a session, if somebody has it now.
    fn holder(&self, queue: usize, session: u64) -> Option<u64> {
        let hold = *self.held.get(&(queue, session))?;
        (self.now < self.holds[&hold].until).then_some(hold)
    }

    pub(crate) fn is_held(&self, queue: usize, session: u64) -> bool {
        self.holder(queue, session).is_some()
    }

    pub(super) fn hold_in_force(&self, queue: usize, session: u64) -> u64 {
        let hold = self.holder(queue, session);
        hold.unwrap_or_else(|| panic!("session {session} of queue {queue} is held by nobody"))
    }

    /// A receiver was given a session: the one it named, or one that has messages.
    pub(crate) fn session_opened(
        &mut self,
        receiver: u64,
        (queue, session): (usize, u64),
        named: Option<u64>,
        until: u64,
    ) {
        self.seen.sessions_opened += 1;
        assert!(
            self.holder(queue, session).is_none(),
            "session {session} of queue {queue} was given out twice"
        );
        assert_eq!(named.unwrap_or(session), session, "another session was asked for");
        let expected = self.now + self.rules[queue].lock_duration;
        assert_eq!(until, expected, "the hold on session {session} is too short or long");
        self.seen.next_sessions += u64::from(named.is_none());
        if named.is_none() {
            let at = (queue, Part::Main);
            assert!(
                self.of_session(session).any(|body| self.may_be_available(body, at)),
                "session {session} of queue {queue} has no messages, and nobody named it"
            );
        }
        self.freed_at.insert((queue, session), until);
        assert!(self.holds.insert(receiver, Hold { queue, session, until }).is_none());
        self.held.insert((queue, session), receiver);
    }

    fn may_be_available(&self, body: Body, at: At) -> bool {
        self.outcomes(body, self.now)
            .iter()
            .any(|state| state.at == at && state.shelf == Shelf::Active && state.lock.is_none())
    }

    /// A receiver was refused the session it named.
    pub(crate) fn session_refused(&mut self, queue: usize, session: u64) {
        self.seen.sessions_refused += 1;
        self.hold_in_force(queue, session);
    }

    /// A receiver that took any session got none in its time, of which each was held or empty when
    /// it began to wait.
    pub(crate) fn session_timed_out(&mut self, queue: usize, waited: (u64, u64), asked_in: Turn) {
        self.seen.session_waits += 1;
        let (since, until) = waited;
        assert!(until <= self.now, "waiting for a session was given up too soon");
        let at = (queue, Part::Main);
        for (session, bodies) in &self.by_session {
            let was_held = self.freed_at.get(&(queue, *session)).is_some_and(|at| since <= *at);
            if was_held || self.is_held(queue, *session) {
                continue;
            }
            let waits = |body: &&Body| {
                let state = self.is_available(**body, at);
                state.is_some_and(|state| state.settled_in() < asked_in)
            };
            if let Some(body) = bodies.iter().find(waits) {
                panic!(
                    "nobody was given session {session} of queue {queue}, in which message {body} \
                     waits: {:?}",
                    self.known(*body)
                );
            }
        }
    }

    /// A client closed its receiver: the session is free, and nothing counts as failed. Says whether
    /// it held one.
    pub(crate) fn session_closed(&mut self, receiver: u64) {
        let Some(hold) = self.holds.get(&receiver).cloned() else { return };
        if hold.until <= self.now || self.held.get(&(hold.queue, hold.session)) != Some(&receiver) {
            return;
        }
        self.held.remove(&(hold.queue, hold.session));
        self.freed_at.insert((hold.queue, hold.session), self.now);
        for body in self.of_session(hold.session).collect::<Vec<_>>() {
            let lock = self.state(body).lock;
            if lock.is_some_and(|lock| lock.ends == Ends::WithHold(receiver)) {
                self.change(body).lock = None;
            }
        }
    }

    /// The broker closed a receiver because its hold is over.
    pub(crate) fn session_lost(&mut self, receiver: u64) {
        self.seen.sessions_lost += 1;
        let hold = self.holds.get(&receiver).expect("only who holds a session loses it");
        assert!(hold.until <= self.now, "at {} {hold:?} was lost before its time", self.now);
    }

    pub(crate) fn session_renewed(&mut self, queue: usize, session: u64, until: u64) {
        self.seen.sessions_renewed += 1;
        let expected = self.now + self.rules[queue].lock_duration;
        assert_eq!(until, expected, "the hold on session {session} was not renewed from now");
        let hold = self.hold_in_force(queue, session);
        self.holds.get_mut(&hold).expect("it is in force").until = until;
        self.freed_at.insert((queue, session), until);
    }

    /// Something that needs the session to be held was refused.
    pub(crate) fn session_lock_lost(&mut self, queue: usize, session: u64) {
        self.seen.session_lock_lost += 1;
        assert!(
            self.holder(queue, session).is_none(),
            "session {session} of queue {queue} is held, and was said to be lost"
        );
    }

    pub(crate) fn state_set(&mut self, queue: usize, session: u64, octets: Option<Bytes>) {
        self.seen.states_set += 1;
        self.hold_in_force(queue, session);
        let (turn, durable, now) = (self.turn, self.durable, self.now);
        let empty = || SessionState { value: Durable::new(Kept::default()), told: 0 };
        let state = self.session_states.entry((queue, session)).or_insert_with(empty);
        let is_nothing_new = state.value.get().octets.is_none() && octets.is_none();
        let kept = state.value.change(turn, durable);
        if !is_nothing_new {
            *kept = Kept { octets, set_at: now, changed: turn };
        }
    }

    /// Says what was kept when it was asked for. What was set since may be answered or not.
    pub(crate) fn state_got(
        &mut self,
        queue: usize,
        session: u64,
        (asked_in, was_held): (Turn, bool),
        octets: Option<&Bytes>,
    ) {
        self.seen.states_got += 1;
        if !was_held {
            self.hold_in_force(queue, session);
        }
        let kept = self.session_states.get(&(queue, session)).map(|state| state.value.get());
        if kept.is_some_and(|kept| asked_in <= kept.changed) {
            return;
        }
        let kept = kept.and_then(|kept| kept.octets.as_ref());
        assert_eq!(octets, kept, "the state of session {session} of queue {queue} is another");
    }

    /// A list of sessions, whole and in order. Without changes since it was asked for it is exact: it
    /// is read a part at a time, so what becomes active meanwhile may be in a part that was read.
    pub(crate) fn listed(&mut self, listing: &Listing, sessions: &[u64]) {
        self.seen.listed += 1;
        let queue = listing.queue;
        let has_changed =
            self.messages.values().any(|known| listing.asked_in <= known.state.get().settled_in())
                || self
                    .session_states
                    .values()
                    .any(|state| listing.asked_in <= state.value.get().changed);
        if has_changed {
            return;
        }
        self.seen.listed_exactly += 1;
        let at = (queue, Part::Main);
        let all: Vec<u64> = self.by_session.keys().copied().collect();
        for session in all {
            let state = self.session_states.get(&(queue, session)).map(|state| state.value.get());
            let state = state.filter(|state| state.octets.is_some());
            let is_listed = sessions.contains(&session);
            let (must, may) = match listing.updated_after {
                Some(after) => {
                    let is_later = state.is_some_and(|state| after < state.set_at);
                    (is_later, is_later)
                }
                None => (
                    state.is_some() || self.of_session(session).any(|body| self.is_in(body, at)),
                    state.is_some()
                        || self.of_session(session).any(|body| self.may_be_in(body, at)),
                ),
            };
            assert!(is_listed || !must, "session {session} of queue {queue} is not listed");
            assert!(
                may || !is_listed,
                "session {session} of queue {queue} is listed without cause"
            );
        }
    }

    fn is_in(&self, body: Body, at: At) -> bool {
        self.certain(body).is_some_and(|state| state.at == at && state.shelf == Shelf::Active)
    }

    /// Whether sessions with deferred or scheduled messages alone are listed is left open.
    fn may_be_in(&self, body: Body, at: At) -> bool {
        let outcomes = self.outcomes(body, self.now);
        outcomes.iter().any(|state| state.at == at && state.is_taken_in())
    }

    /// Within a session nothing overtakes: of what can be delivered the lowest number comes first.
    pub(super) fn check_session_order(&self, body: Body, at: At, session: u64, number: u64) {
        for other in self.of_session(session).filter(|other| *other != body) {
            if let Some(waiting) = self.is_available(other, at)
                && let Some(earlier) = waiting.number
            {
                assert!(
                    number < earlier,
                    "message {number} of session {session} came before message {earlier}: {waiting:?}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use peeklock_core::LockToken;

    use super::super::receiving::{Delivered, Sighting};
    use super::super::{Rules, Sent};
    use super::*;

    const QUEUE: usize = 0;
    const SESSION: u64 = 3;
    const LISTING: Listing = Listing { queue: QUEUE, updated_after: None, asked_in: 2 };

    /// A message that was scheduled in turn 1, became active and was delivered in turn 3.
    fn active_since_turn_3() -> Model {
        let mut model = Model::new(vec![Rules::SESSIONS]);
        (model.now, model.turn) = (10, 1);
        let sent = Sent { queue: QUEUE, session: Some(SESSION), due: Some(20), ..Sent::default() };
        model.sent(&[(1, sent)]);
        model.scheduled(&[1], &[1]);
        (model.now, model.turn) = (20, 3);
        let until = 20 + Rules::SESSIONS.lock_duration;
        model.session_opened(1, (QUEUE, SESSION), Some(SESSION), until);
        let shown = Sighting {
            body: 1,
            at: (QUEUE, Part::Main),
            shelf: Shelf::Active,
            number: 2,
            attempts: 0,
            enqueued: 20,
            taken_in_as: 2,
            source: None,
            properties: String::new(),
        };
        let lock = Some((LockToken::from_random([1; 16]), until));
        model.delivered(&Delivered { shown, lock, session: Some(SESSION) });
        model.turn = 4;
        model
    }

    #[test]
    fn a_list_that_was_asked_for_before_a_message_became_active_need_not_show_its_session() {
        active_since_turn_3().listed(&LISTING, &[]);
    }

    #[test]
    #[should_panic(expected = "session 3 of queue 0 is not listed")]
    fn a_list_that_was_asked_for_later_must() {
        active_since_turn_3().listed(&Listing { asked_in: 4, ..LISTING }, &[]);
    }
}
