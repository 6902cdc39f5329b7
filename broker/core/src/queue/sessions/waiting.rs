//! Receivers that wait for a session, first come, first served.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::ReceiveMode;
use crate::id::{Origin, ReceiverId};
use crate::queue::receiver::{Demand, Wish};
use crate::time::{Span, Timestamp};

/// Names a receiver that waits, in the order in which they came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WaitId(u64);

/// Who waits, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) origin: Origin,
    pub(crate) receiver: ReceiverId,
    pub(crate) mode: ReceiveMode,
    pub(crate) wait: Span,
    pub(crate) until: Timestamp,
    /// What it wants as soon as it has a session.
    pub(crate) demand: Demand,
}

/// All that wait at one queue. Waiting costs nothing but its place here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    next: u64,
    waiters: BTreeMap<WaitId, Waiter>,
    ends: BTreeSet<(Timestamp, WaitId)>,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Deliveries that all of them want.
    pub(super) fn demand_left(&self) -> u64 {
        self.waiters.values().map(|waiter| waiter.demand.left()).fold(0, u64::saturating_add)
    }

    pub(crate) fn push(&mut self, waiter: Waiter) -> WaitId {
        let id = WaitId(self.next);
        self.next += 1;
        self.ends.insert((waiter.until, id));
        self.waiters.insert(id, waiter);
        id
    }

    pub(crate) fn demand(&mut self, id: WaitId, wish: Wish) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            waiter.demand.set(wish);
        }
    }

    pub(crate) fn remove(&mut self, id: WaitId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.ends.remove(&(waiter.until, id));
        Some(waiter)
    }

    pub(super) fn first(&self) -> Option<WaitId> {
        self.waiters.first_key_value().map(|(id, _)| *id)
    }

    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Takes one whose time is over.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Option<Waiter> {
        let (until, id) = *self.ends.first()?;
        if until <= now { self.remove(id) } else { None }
    }

    /// Takes whoever has waited longest.
    pub(crate) fn take_first(&mut self) -> Option<Waiter> {
        let id = self.first()?;
        self.remove(id)
    }
}
