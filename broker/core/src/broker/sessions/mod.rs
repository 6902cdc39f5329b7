//! Message sessions: who gets one, for how long, and what becomes of it then. Giving out their
//! messages is `serve.rs`, their states are `state.rs`, lists of them `list.rs`.

#[cfg(test)]
mod backlog;
mod browse;
#[cfg(test)]
mod history;
mod list;
mod serve;
mod state;
#[cfg(test)]
mod tests;

use peeklock_storage::CommitPosition;

pub(super) use self::browse::SessionBrowse;
pub(super) use self::list::Listing;
pub(super) use self::state::StateWish;
use super::{Broker, Seat, queue_mut};
use crate::change::{Change, SessionChange};
use crate::command::{ReceiveMode, SessionRequest};
use crate::effect::{EffectKind, Reply, SessionLock};
use crate::entity::path::EntityPath;
use crate::error::{Error, WaitTime};
use crate::id::{EntityId, MessageSessionId, Origin, ReceiverId};
use crate::queue::receiver::Demand;
use crate::queue::sessions::{NO_SESSIONS, SessionSlot, Waiter};
use crate::time::Span;

/// What the service says. Clients show it to people.
const SESSION_RECEIVER_ON_PLAIN_ENTITY: Error = Error::NotAllowed(
    "A sessionful message receiver cannot be created on an entity that does not require sessions. \
     Ensure RequiresSession is set to true when creating a Queue or Subscription to enable \
     sessionful behavior.",
);

impl Broker {
    /// Opens a receiver that wants a session. Answers by itself, at once or when it has one.
    pub(super) fn open_session_receiver(
        &mut self,
        origin: Origin,
        receiver: ReceiverId,
        path: &EntityPath,
        mode: ReceiveMode,
        request: SessionRequest,
    ) {
        let entity = match self.may_open_session_receiver(receiver, path) {
            Ok(entity) => entity,
            Err(error) => return self.reply_at_once(origin, Err(error)),
        };
        match request {
            SessionRequest::Named(session) => {
                self.expire_overdue(entity);
                let is_held = self.queue(entity).is_ok_and(|queue| {
                    let sessions = queue.sessions.as_ref();
                    sessions.is_some_and(|sessions| sessions.holder(&session).is_some())
                });
                if is_held {
                    let error = Error::SessionCannotBeLocked(session.to_string());
                    return self.reply_at_once(origin, Err(error));
                }
                let (wait, until, demand) = (Span(0), self.now, Demand::default());
                let waiter = Waiter { origin, receiver, mode, wait, until, demand };
                self.hold_session(entity, session, waiter);
            }
            SessionRequest::NextAvailable { wait } => {
                let (until, demand) = (self.now.plus(wait), Demand::default());
                let waiter = Waiter { origin, receiver, mode, wait, until, demand };
                let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
                let Some(sessions) = &mut queue.sessions else { return };
                let wait = sessions.waiting.push(waiter);
                self.receivers.insert(receiver, (entity, Seat::Waiting(wait)));
            }
        }
        self.wake(entity);
    }

    fn may_open_session_receiver(
        &self,
        receiver: ReceiverId,
        path: &EntityPath,
    ) -> Result<EntityId, Error> {
        let entity = self.resolve(path)?;
        let sessions = self.open_to_receivers(entity)?.sessions.as_ref();
        let sessions = sessions.ok_or(SESSION_RECEIVER_ON_PLAIN_ENTITY)?;
        if self.receivers.contains_key(&receiver) {
            return Err(Error::InvalidArgument("The receiver is open already."));
        }
        if self.settings.receivers_max <= sessions.receiver_count() {
            return Err(Error::ServerBusy("There are too many receivers."));
        }
        Ok(entity)
    }

    /// Gives a session that nobody holds to a receiver, and tells it.
    fn hold_session(&mut self, entity: EntityId, session: MessageSessionId, waiter: Waiter) {
        let Waiter { origin, receiver, mode, demand, .. } = waiter;
        let Ok(queue) = self.queue(entity) else { return };
        let lock_duration = queue.settings().lock_duration;
        let until = self.now.plus(lock_duration);
        let held = session.clone();
        let change = SessionChange::Locked { receiver, mode, until, demand };
        self.commit(&Change::OfSession { entity, session: held, change });
        let Ok(queue) = self.queue(entity) else { return };
        if let Some(slot) = queue.sessions.as_ref().and_then(|sessions| sessions.slot(&session)) {
            self.receivers.insert(receiver, (entity, Seat::Session(slot)));
        }
        let lock = SessionLock { session, until };
        let reply = Reply::ReceiverOpened { entity, lock_duration, session: Some(lock) };
        self.reply_at_once(origin, Ok(reply));
        self.plan_deadline(entity);
    }

    /// Takes a session back from a receiver that leaves. What it had locked is free, uncounted.
    pub(super) fn release_session(&mut self, entity: EntityId, slot: SessionSlot) {
        let Ok(queue) = self.queue(entity) else { return };
        let Some(sessions) = &queue.sessions else { return };
        let session = sessions.record(slot).id.clone();
        self.commit(&Change::OfSession { entity, session, change: SessionChange::Released });
    }

    /// Ends a session lock that is over: what was locked has failed, and the receiver is told.
    fn expire_session(&mut self, entity: EntityId, slot: SessionSlot) -> usize {
        let Ok(queue) = self.queue(entity) else { return 0 };
        let locked = queue.locked_in_session(slot);
        for sequence in &locked {
            let Ok(queue) = self.queue(entity) else { return 0 };
            let change = queue.decide_expiry(*sequence);
            self.count_lost_lock(entity);
            self.commit(&change);
        }
        self.lose_session(entity, slot, Error::SessionLockLost);
        locked.len()
    }

    /// Takes a session away from its receiver.
    fn lose_session(&mut self, entity: EntityId, slot: SessionSlot, error: Error) {
        let Ok(queue) = self.queue(entity) else { return };
        let Some(sessions) = &queue.sessions else { return };
        let Some(holder) = &sessions.record(slot).holder else { return };
        let receiver = holder.receiver;
        self.release_session(entity, slot);
        self.receivers.remove(&receiver);
        self.emit(CommitPosition(0), EffectKind::ReceiverClosed { receiver, error });
    }

    /// Takes every session away, and sends those away that wait for one: the entity serves nobody any
    /// more.
    pub(super) fn close_session_receivers(&mut self, entity: EntityId, error: &Error) {
        while let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
        {
            if let Some(waiter) = sessions.waiting.take_first() {
                self.receivers.remove(&waiter.receiver);
                self.reply_at_once(waiter.origin, Err(error.clone()));
                continue;
            }
            let Some(slot) = sessions.holders().next().map(|(slot, _)| slot) else { break };
            self.lose_session(entity, slot, error.clone());
        }
        self.wake(entity);
    }

    /// Ends the session locks and the waits of a queue that are over, but no more than so many locks.
    pub(super) fn expire_sessions(&mut self, entity: EntityId, expiries_left: &mut usize) {
        while *expiries_left > 0
            && let Ok(queue) = self.queue(entity)
            && let Some(sessions) = &queue.sessions
            && let Some(slot) = sessions.expired(self.now)
        {
            let count = self.expire_session(entity, slot);
            *expiries_left = expiries_left.saturating_sub(count.max(1));
        }
        while let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
            && let Some(waiter) = sessions.waiting.take_expired(self.now)
        {
            self.receivers.remove(&waiter.receiver);
            let error = Error::Timeout(WaitTime(waiter.wait));
            self.reply_at_once(waiter.origin, Err(error));
        }
    }

    /// Ends all session locks that are over though their time was not called yet.
    fn expire_overdue(&mut self, entity: EntityId) {
        let mut all = usize::MAX;
        self.expire_sessions(entity, &mut all);
    }

    pub(super) fn renew_session(
        &mut self,
        entity: EntityId,
        session: MessageSessionId,
    ) -> Result<Reply, Error> {
        let queue = self.receivable(entity)?;
        queue.session_held(self.now, &session)?;
        let renewed = self.now.plus(queue.settings().lock_duration);
        let sessions = queue.sessions.as_ref().ok_or(NO_SESSIONS)?;
        let holder = sessions.holder(&session).ok_or(Error::SessionLockLost)?;
        // A lock taken when locks lasted longer does not get shorter by being renewed.
        let until = holder.until.max(renewed);
        let change = SessionChange::Renewed { until };
        self.commit(&Change::OfSession { entity, session, change });
        self.plan_deadline(entity);
        Ok(Reply::SessionRenewed { until })
    }
}
