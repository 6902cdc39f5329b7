//! Giving deferred messages to those who ask for them by number.

use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReceiveMode;
use crate::effect::{Delivery, MessageLock, MessageState, Reply};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, SequenceNumber};
use crate::queue::paging::PageRow;
use crate::queue::{Decision, Queue, Traces};

impl Broker {
    /// All or none of the messages that were read. They are as they were read.
    pub(super) fn give_deferred(
        &mut self,
        origin: Origin,
        entity: EntityId,
        found: Vec<PageRow>,
        mode: ReceiveMode,
        session: Option<&MessageSessionId>,
    ) {
        if let Err(error) = self.may_give_deferred(entity, &found, session) {
            return self.reply_at_once(origin, Err(error));
        }
        let gone = self.bury_deferred(entity, &found, session);
        if let Some(sequence) = gone {
            return self.reply_at_once(origin, Err(Error::MessageNotFound(sequence.0)));
        }
        let give = |row: PageRow| {
            let traces = Traces { deferred: true, ..row.traces };
            self.give_one(entity, row, traces, mode, session)
        };
        let deliveries = found.into_iter().map(give).collect();
        self.plan_deadline(entity);
        let result = Ok(Reply::DeferredReceived { deliveries });
        match mode {
            ReceiveMode::PeekLock => self.reply_at_once(origin, result),
            ReceiveMode::ReceiveAndDelete => self.reply_after_commit(origin, result),
        }
    }

    fn may_give_deferred(
        &self,
        entity: EntityId,
        found: &[PageRow],
        session: Option<&MessageSessionId>,
    ) -> Result<(), Error> {
        let queue = self.may_receive_deferred(entity, session)?;
        match found.iter().find(|row| !queue.is_of_session(row, session)) {
            Some(row) => Err(Error::MessageNotFound(row.sequence.0)),
            None => Ok(()),
        }
    }

    /// Where there are message sessions, theirs must be held by somebody.
    pub(super) fn may_receive_deferred(
        &self,
        entity: EntityId,
        session: Option<&MessageSessionId>,
    ) -> Result<&Queue, Error> {
        let queue = self.receivable(entity)?;
        match session {
            None if queue.has_sessions() => Err(Error::SessionLockLost),
            Some(session) => queue.session_held(self.now, session).map(|()| queue),
            None => Ok(queue),
        }
    }

    /// A deferred message that expired, or failed too often just before a crash, leaves when it is
    /// touched. Says which did, if one did.
    fn bury_deferred(
        &mut self,
        entity: EntityId,
        found: &[PageRow],
        session: Option<&MessageSessionId>,
    ) -> Option<SequenceNumber> {
        let mut gone = None;
        for row in found {
            let queue = self.queue(entity).ok()?;
            let failed_too_often = queue.failed_too_often(Some(row.attempts));
            let expires_at = row.body.as_ref().and_then(|body| queue.expiry_of(&body.message));
            let is_over = expires_at.is_some_and(|at| at <= self.now);
            if !failed_too_often && !is_over {
                continue;
            }
            let traces = Traces { deferred: true, ..row.traces };
            self.set_apart(entity, row.clone(), traces, session);
            if failed_too_often {
                let decision =
                    self.queue(entity).map(|queue| queue.decide_doomed(self.now, row.sequence));
                if let Ok(Decision::Change(change)) = decision {
                    self.commit(&change);
                }
            } else {
                self.expire(entity, row.sequence);
            }
            gone.get_or_insert(row.sequence);
        }
        gone
    }

    /// Locks a message that was read by its number, or takes it out for good.
    pub(super) fn give_one(
        &mut self,
        entity: EntityId,
        row: PageRow,
        traces: Traces,
        mode: ReceiveMode,
        session: Option<&MessageSessionId>,
    ) -> Delivery {
        let (sequence, attempts) = (row.sequence, row.attempts);
        let body = row.body.clone().expect("what cannot be read is not found");
        let state = if traces.deferred { MessageState::Deferred } else { MessageState::Active };
        self.set_apart(entity, row, traces, session);
        let lock = match mode {
            ReceiveMode::PeekLock => {
                let queue = self.queue(entity).expect("its messages were found");
                let until = match session.and_then(|session| queue.session_end(session)) {
                    Some(until) => until,
                    None => self.now.plus(queue.settings().lock_duration),
                };
                let lock = MessageLock { token: self.ids.lock_token(), until };
                self.commit(&Change::Fetched { entity, sequence, lock });
                Some(lock)
            }
            ReceiveMode::ReceiveAndDelete => {
                self.commit(&Change::Removed { entity, sequence });
                None
            }
        };
        self.count_delivery(entity, lock.is_none());
        let dead_letter_source = self.dead_letter_source(&body.message);
        Delivery {
            entity,
            sequence,
            message: body.message,
            attempts,
            lock,
            application_properties: body.application_properties,
            state,
            dead_letter_source,
        }
    }

    /// Puts a message that was read by number in memory.
    pub(super) fn set_apart(
        &mut self,
        entity: EntityId,
        row: PageRow,
        traces: Traces,
        session: Option<&MessageSessionId>,
    ) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let before = queue.memory();
        queue.set_apart(row, traces, session);
        self.memory = self.memory - before + queue.memory();
        self.wake(entity);
    }
}
