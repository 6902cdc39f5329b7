//! Which messages are taken in. What then becomes of them is `arrive.rs`.

use smallvec::SmallVec;

use super::Broker;
use super::arrive::Arrival;
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::queue::Queue;

/// What the service says. Clients show it to people.
const SESSION_ID_MISSING: &str = "The SessionId was not set on a message, and it cannot be sent to \
    the entity. Entities that have session support enabled can only receive messages that have the \
    SessionId set to a valid value.";

impl Broker {
    /// All or none.
    pub(super) fn send(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> Result<Reply, Error> {
        self.take_in(entity, messages).map(|_| Reply::Accepted)
    }

    /// Takes messages in, all or none, and says which numbers they have.
    pub(super) fn take_in(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> Result<SmallVec<[SequenceNumber; 1]>, Error> {
        let queue = self.sendable(entity)?;
        self.may_take(queue, &messages)?;
        Ok(self.accept(entity, messages))
    }

    /// Takes in what was found fit.
    pub(super) fn accept(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> SmallVec<[SequenceNumber; 1]> {
        let mut sequences = SmallVec::with_capacity(messages.len());
        for message in messages {
            let due = message.facts().scheduled_enqueue_time().filter(|due| self.now < *due);
            sequences.push(match due {
                Some(due) => self.set_aside_until(entity, due, message),
                None => self.arrive(entity, Arrival::new(message)),
            });
            self.counters.accepted += 1;
        }
        sequences
    }

    /// Whether an entity takes all of these.
    pub(super) fn may_take<'a>(
        &self,
        queue: &Queue,
        messages: impl IntoIterator<Item = &'a IncomingMessage>,
    ) -> Result<(), Error> {
        let settings = queue.settings();
        let path = || queue.definition.path.to_string();
        let mut total = 0_u64;
        for message in messages {
            if queue.has_sessions() && message.facts().session().is_none() {
                return Err(Error::NotAllowed(SESSION_ID_MISSING));
            }
            let (size, limit) = (message.size(), settings.message_bytes_max);
            if limit < size {
                return Err(Error::MessageTooLarge { size, limit, path: path() });
            }
            total = total.saturating_add(size);
        }
        let size = self.held_bytes(queue.entities())?;
        let limit = settings.entity_bytes_max;
        if limit < size.saturating_add(total) {
            return Err(Error::EntityFull { path: path(), size, limit });
        }
        Ok(())
    }
}
