//! Which queue has to be looked at when, without looking at all of them.

use std::collections::BTreeSet;

use super::idle::idle_deadline;
use super::{Broker, queue_mut};
use crate::id::EntityId;
use crate::queue::Queue;
use crate::queue::duplicates::Duplicates;
use crate::time::Timestamp;

/// One planned look a queue, never later than its first deadline. It may be earlier: locks are
/// mostly settled long before they end, and moving the plan each time would cost more than one look
/// too many in a lock's duration.
#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines(BTreeSet<(Timestamp, EntityId)>);

impl Deadlines {
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Plans a look at a queue, unless there is one in time.
    pub(super) fn plan(&mut self, queue: &mut Queue) {
        let Some(at) = first_deadline(queue) else { return };
        if queue.wake_at.is_some_and(|planned| planned <= at) {
            return;
        }
        if let Some(planned) = queue.wake_at.replace(at) {
            self.0.remove(&(planned, queue.id()));
        }
        self.0.insert((at, queue.id()));
    }

    /// Gives up the plan of a queue that is gone.
    pub(super) fn forget(&mut self, queue: &Queue) {
        if let Some(planned) = queue.wake_at {
            self.0.remove(&(planned, queue.id()));
        }
    }

    fn take_due(&mut self, now: Timestamp) -> Option<EntityId> {
        let (at, entity) = *self.0.first()?;
        (at <= now && self.0.remove(&(at, entity))).then_some(entity)
    }

    /// Says whether every queue is looked at in time.
    pub(super) fn check(&self, queue: &Queue) -> Result<(), String> {
        let path = &queue.definition.path;
        let planned = queue.wake_at;
        if planned.is_some_and(|at| !self.0.contains(&(at, queue.id()))) {
            return Err(format!("{path}: a planned look is not in the plan"));
        }
        match first_deadline(queue) {
            Some(at) if planned.is_none_or(|planned| at < planned) => {
                Err(format!("{path}: the deadline {at} would be missed"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn first_deadline(queue: &Queue) -> Option<Timestamp> {
    let deadlines = [
        queue.locks.first_end(),
        queue.window.retry_at,
        idle_deadline(queue),
        queue.forward_at,
        queue.go_on_at,
        queue.sweep_at,
        queue.selecting.again_at,
        queue.browsers.again_at,
        queue.expiries.first_at(),
        queue.activations.first_at(),
        queue.sessions.as_ref().and_then(|sessions| sessions.first_deadline()),
        queue.duplicates.as_ref().and_then(Duplicates::first_end),
    ];
    deadlines.into_iter().flatten().min()
}

impl Broker {
    /// Does what is due, but for at most so many locks a turn; the rest is due at once again.
    pub(super) fn tick(&mut self) {
        self.expire_transactions();
        let mut expiries_left = self.settings.expiries_max;
        while expiries_left > 0
            && let Some(entity) = self.deadlines.take_due(self.now)
        {
            let Some(queue) = queue_mut(&mut self.queues, entity) else { continue };
            queue.wake_at = None;
            queue.window.retry_at.take_if(|at| *at <= self.now);
            queue.forward_at.take_if(|at| *at <= self.now);
            queue.go_on_at.take_if(|at| *at <= self.now);
            queue.selecting.again_at.take_if(|at| *at <= self.now);
            queue.browsers.again_at.take_if(|at| *at <= self.now);
            queue.expiries.retry(self.now);
            queue.activations.retry(self.now);
            while expiries_left > 0
                && let Some(queue) = queue_mut(&mut self.queues, entity)
                && let Some((_, sequence)) = queue.locks.expired(self.now)
            {
                expiries_left -= 1;
                let change = queue.decide_expiry(sequence);
                self.count_lost_lock(entity);
                self.commit(&change);
            }
            self.expire_sessions(entity, &mut expiries_left);
            self.forget_outdated_ids(entity);
            self.delete_if_idle(entity);
            self.sweep_if_due(entity);
            self.expire_due(entity, &mut expiries_left);
            // What is due is being read from here on, so that it is not due any more.
            self.plan_activations(entity);
            self.wake(entity);
            self.plan_deadline(entity);
        }
    }

    pub(super) fn plan_deadline(&mut self, entity: EntityId) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            self.deadlines.plan(queue);
        }
    }
}
