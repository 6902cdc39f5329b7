//! What a crash leaves.

use super::state::{Durable, State, Told};
use super::{Body, End, Fleeting, Model, Shelf, Turn};

/// What a client is told once an effect is let out.
#[derive(Clone, Debug)]
pub(crate) enum Receipt {
    Message(Body, Box<Told>),
    SessionState((usize, u64), Turn),
    Presence(Fleeting, Turn),
}

impl Model {
    /// What an effect that was decided now says of a message.
    pub(crate) fn receipt(&self, body: Body) -> Receipt {
        let mut body = body;
        // The word on a duplicate is a word on the original.
        while let Shelf::Gone(End::DuplicateOf(original)) = self.state(body).shelf {
            body = original;
        }
        Receipt::Message(body, Box::new(Told { turn: self.turn, state: self.state(body).clone() }))
    }

    /// What a look at a message says: that it is there, and no more.
    pub(crate) fn receipt_of_a_look(&self, body: Body) -> Receipt {
        let state = self.state(body).clone();
        Receipt::Message(body, Box::new(Told { turn: state.changed, state }))
    }

    pub(crate) fn session_receipt(&self, queue: usize, session: u64) -> Receipt {
        let changed = self.session_states.get(&(queue, session));
        let changed = changed.map_or(0, |state| state.value.get().changed);
        Receipt::SessionState((queue, session), changed)
    }

    /// The same for an answer to what was asked then: it may be older than a later change.
    pub(crate) fn session_receipt_since(
        &self,
        queue: usize,
        session: u64,
        asked_in: Turn,
    ) -> Option<Receipt> {
        let state = self.session_states.get(&(queue, session))?;
        let is_known = state.value.get().changed < asked_in;
        is_known.then(|| self.session_receipt(queue, session))
    }

    /// An effect was let out: what it says must stay.
    pub(crate) fn told(&mut self, receipt: Receipt) {
        match receipt {
            Receipt::Message(body, told) => {
                let known = self.messages.get_mut(&body).expect("it was decided about");
                if known.told.as_ref().is_none_or(|before| before.turn <= told.turn) {
                    known.told = Some(*told);
                }
            }
            Receipt::Presence(what, changed) => self.told_of_presence(what, changed),
            Receipt::SessionState(key, changed) => {
                if let Some(state) = self.session_states.get_mut(&key) {
                    state.told = state.told.max(changed);
                }
            }
        }
    }

    /// Everything after the turn `kept` is gone: all locks, holds and open transactions, and what the
    /// later turns had changed.
    pub(crate) fn crashed(&mut self, kept: Turn) {
        self.seen.crashes += 1;
        let now = self.now;
        let bodies: Vec<Body> = self.messages.keys().copied().collect();
        for body in &bodies {
            let known = self.messages.get_mut(body).expect("it was listed");
            let before = known.state.get().changed;
            known.state.roll_back(kept);
            let rolled_back = known.state.get();
            let told = known.told.as_ref();
            if let Some(Told { state, turn }) = told {
                assert!(
                    state.changed <= kept,
                    "a client was told of message {body} what is lost after a crash: {:?}",
                    state.shelf
                );
                if kept < *turn && rolled_back.changed <= state.changed {
                    known.state = Durable::new(state.clone());
                }
            }
            self.seen.taken_back += u64::from(known.state.get().changed < before);
            let state = known.state.get().clone();
            let unlocked = self.unlocked(state, now);
            let known = self.messages.get_mut(body).expect("it was listed");
            known.state = Durable::new(unlocked);
            known.told = None;
        }
        self.owners.clear();
        for (body, known) in &self.messages {
            for number in &known.state.get().numbers {
                self.owners.insert(*number, *body);
            }
        }
        let is_there = |body: &Body| !self.messages[body].state.get().is_gone();
        self.live = bodies.into_iter().filter(is_there).collect();
        self.by_session.values_mut().for_each(Vec::clear);
        for body in &self.live {
            if let Some(session) = self.messages[body].sent.session {
                self.by_session.entry(session).or_default().push(*body);
            }
        }
        for (key, state) in &mut self.session_states {
            assert!(state.told <= kept, "the state of session {key:?} was set, and is lost");
            state.value.roll_back(kept);
        }
        for entry in self.remembered.values_mut() {
            entry.roll_back(kept);
        }
        // All that is there is free, and comes in its order again.
        self.passed_on.clear();
        self.furthest.clear();
        self.held.clear();
        self.holds.clear();
        self.freed_at.clear();
        self.transactions.clear();
        self.durable = kept;
        self.topics_crashed(kept);
    }

    /// Locks are gone. The end of one that ran out may have been counted before the crash, or not.
    fn unlocked(&self, mut state: State, now: u64) -> State {
        if let Some(lock) = state.lock.take()
            && self.is_over(&lock, now)
        {
            state.attempts.1 = state.attempts.1.saturating_add(1);
        }
        state
    }
}
