//! Locks that are ended and prolonged.

use peeklock_core::LockToken;

use super::state::Ends;
use super::{Body, End, Model, Part, Shelf};

/// What a client that holds a message asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Complete,
    Abandon,
    Release,
    DeadLetter,
    Defer,
}

impl Model {
    /// Whether a lock is in force, for whoever does not settle with a transaction.
    pub(crate) fn holds(&self, body: Body, token: LockToken) -> bool {
        self.in_force(body, token)
            && self.state(body).lock.is_some_and(|lock| lock.enlisted.is_none())
    }

    /// Whether a lock is in force, enlisted or not.
    pub(super) fn in_force(&self, body: Body, token: LockToken) -> bool {
        let Some(known) = self.messages.get(&body) else { return false };
        let lock = known.state.get().lock.filter(|lock| lock.token == token);
        lock.is_some_and(|lock| !self.is_over(&lock, self.now))
    }

    /// A settlement was done.
    pub(crate) fn settled(&mut self, body: Body, token: LockToken, wish: Wish) {
        assert!(
            self.holds(body, token),
            "{wish:?} of message {body} was done without a lock: {:?}",
            self.known(body)
        );
        self.settle(body, wish);
    }

    pub(super) fn settle(&mut self, body: Body, wish: Wish) {
        let state = self.state(body).clone();
        match wish {
            Wish::Complete => {
                self.seen.completed += 1;
                self.change_for_good(body).shelf = Shelf::Gone(End::Completed);
            }
            Wish::Abandon => {
                self.seen.abandoned += 1;
                self.change_for_good(body).fail_once();
            }
            Wish::Release => self.seen.released += 1,
            Wish::DeadLetter => {
                self.seen.dead_lettered += 1;
                let dead = state.buried(None);
                *self.change(body) = dead;
                self.change_for_good(body);
            }
            Wish::Defer => {
                self.seen.deferred += 1;
                if state.shelf != Shelf::Deferred {
                    self.change_for_good(body).shelf = Shelf::Deferred;
                }
            }
        }
        self.change(body).lock = None;
    }

    /// A settlement or renewal was refused because the lock is lost.
    pub(crate) fn lock_lost(&mut self, body: Body, token: LockToken) {
        self.seen.lock_lost += 1;
        assert!(
            !self.holds(body, token),
            "at {} the lock of message {body} was lost before its time: {:?}",
            self.now,
            self.known(body)
        );
    }

    /// The same, where it was to be enlisted.
    pub(crate) fn lock_lost_to(&mut self, body: Body, token: LockToken, transaction: u64) {
        let lock = self.messages.get(&body).and_then(|known| known.state.get().lock);
        let is_enlisted_there = lock.is_some_and(|lock| lock.enlisted == Some(transaction));
        if !is_enlisted_there {
            self.lock_lost(body, token);
        }
    }

    pub(crate) fn renewed(&mut self, body: Body, token: LockToken, until: u64) {
        self.seen.renewed += 1;
        assert!(self.in_force(body, token), "message {body} was renewed without a lock");
        let state = self.state(body);
        let queue = state.at.0;
        let expected = self.now + self.rules[queue].lock_duration;
        assert_eq!(until, expected, "the lock of message {body} was not renewed from now");
        let lock = self.change(body).lock.as_mut();
        lock.expect("it is in force").ends = Ends::At(until);
    }

    /// Whether it may be refused as not allowed: a dead letter cannot die again, and what is
    /// enlisted is settled when its transaction ends.
    pub(crate) fn may_be_forbidden(&self, body: Body, wish: Wish) -> bool {
        let state = self.state(body);
        let is_dead = wish == Wish::DeadLetter && state.at.1 != Part::Main;
        is_dead || state.lock.is_some_and(|lock| lock.enlisted.is_some())
    }
}
