//! Which messages are taken in. What then becomes of them is `arrive.rs`.

use smallvec::SmallVec;

use super::Broker;
use super::arrive::Arrival;
use crate::effect::Reply;
use crate::error::Error;
use crate::id::EntityId;
use crate::message::IncomingMessage;
use crate::queue::Queue;

impl Broker {
    /// All or none.
    pub(super) fn send(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> Result<Reply, Error> {
        let queue = self.sendable(entity)?;
        self.may_take(queue, &messages)?;
        self.accept(entity, messages);
        Ok(Reply::Accepted)
    }

    /// Takes in what was found fit.
    pub(super) fn accept(&mut self, entity: EntityId, messages: SmallVec<[IncomingMessage; 1]>) {
        for message in messages {
            self.arrive(entity, Arrival::new(message));
            self.counters.accepted += 1;
        }
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
