//! Opening and closing links to entities.

use super::{Broker, Seat, queue_mut};
use crate::command::ReceiveMode;
use crate::effect::Reply;
use crate::entity::kind::EntityKind;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::filter::SqlFilter;
use crate::id::{EntityId, ReceiverId};
use crate::queue::receiver::Wish;
use crate::time::Span;

/// What the service says. Clients show it to people.
const PLAIN_RECEIVER_ON_SESSION_ENTITY: &str = "It is not possible for an entity that requires \
    sessions to create a non-sessionful message receiver.";

/// How long what was made for a link is kept when nobody uses it and nobody deletes it. Whoever made it
/// may take a while to use it.
const TEMPORARY_IDLE: Span = Span::from_secs(24 * 3600);

impl Broker {
    pub(super) fn open_sender(&self, path: &EntityPath) -> Result<Reply, Error> {
        let entity = self.resolve(path)?;
        let queue = self.sendable(entity)?;
        Ok(Reply::SenderOpened { entity, message_bytes_max: queue.settings().message_bytes_max })
    }

    pub(super) fn open_receiver(
        &mut self,
        receiver: ReceiverId,
        path: &EntityPath,
        mode: ReceiveMode,
        selector: Option<Box<SqlFilter>>,
    ) -> Result<Reply, Error> {
        let entity = self.may_open_receiver(receiver, path)?;
        let queue = queue_mut(&mut self.queues, entity)
            .ok_or_else(|| Error::EntityNotFound(path.to_string()))?;
        let group = selector.map(|selector| queue.selecting.join(selector));
        let slot = queue.receivers.open(receiver, mode, group);
        let lock_duration = queue.settings().lock_duration;
        self.receivers.insert(receiver, (entity, Seat::Round(slot)));
        Ok(Reply::ReceiverOpened { entity, lock_duration, session: None })
    }

    /// Makes what a link asks to be made for it.
    pub(super) fn open_temporary(
        &mut self,
        path: &EntityPath,
        is_topic: bool,
        receiver: Option<(ReceiverId, ReceiveMode)>,
    ) -> Result<Reply, Error> {
        if self.namespace.queue(path).is_some() {
            return Err(Error::EntityExists(path.to_string()));
        }
        let kind = if is_topic { EntityKind::Topic } else { EntityKind::Queue };
        let settings = QueueSettings {
            // After a crash nobody comes to delete it.
            auto_delete_on_idle: Some(TEMPORARY_IDLE),
            ..QueueSettings::default()
        };
        self.new_entity(path.clone(), kind, settings)?;
        match receiver {
            Some((receiver, mode)) => self.open_receiver(receiver, path, mode, None),
            None => self.open_sender(path),
        }
    }

    /// The entity that a new receiver may be opened on, which asks for no session.
    pub(super) fn may_open_receiver(
        &self,
        receiver: ReceiverId,
        path: &EntityPath,
    ) -> Result<EntityId, Error> {
        let entity = self.resolve(path)?;
        let queue = self.open_to_receivers(entity)?;
        if self.receivers.contains_key(&receiver) {
            return Err(Error::InvalidArgument("The receiver is open already."));
        }
        if self.settings.receivers_max <= queue.receivers.len() + queue.browsers.len() {
            return Err(Error::ServerBusy("There are too many receivers."));
        }
        if queue.has_sessions() {
            return Err(Error::NotAllowed(PLAIN_RECEIVER_ON_SESSION_ENTITY));
        }
        Ok(entity)
    }

    pub(super) fn open_management(&self, path: &EntityPath) -> Result<Reply, Error> {
        let entity = self.resolve(path)?;
        let message_bytes_max = self.enabled(entity)?.settings().message_bytes_max;
        Ok(Reply::ManagementOpened { entity, message_bytes_max })
    }

    pub(super) fn close_receiver(&mut self, receiver: ReceiverId) {
        if let Some((entity, seat)) = self.receivers.remove(&receiver)
            && let Some(queue) = queue_mut(&mut self.queues, entity)
        {
            queue.sole_receiver.take_if(|sole| *sole == receiver);
            match seat {
                Seat::Round(slot) => {
                    if let Some(group) = queue.receivers.close(slot) {
                        queue.selecting.leave(group);
                    }
                }
                Seat::Browser(receiver) => queue.browsers.close(receiver),
                Seat::Session(slot) => self.release_session(entity, slot),
                Seat::Waiting(wait) => {
                    if let Some(sessions) = &mut queue.sessions {
                        sessions.waiting.remove(wait);
                    }
                }
            }
        }
    }

    pub(super) fn demand(&mut self, receiver: ReceiverId, wish: Wish) {
        if let Some((entity, seat)) = self.receivers.get(&receiver).copied()
            && let Some(queue) = queue_mut(&mut self.queues, entity)
        {
            queue.note_demand(seat, wish);
            self.wake(entity);
        }
    }
}
