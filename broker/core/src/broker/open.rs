//! Declaring entities, and opening links to them.

use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReceiveMode;
use crate::effect::Reply;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::id::{EntityId, ReceiverId};

impl Broker {
    pub(super) fn ensure_queue(
        &mut self,
        path: EntityPath,
        settings: QueueSettings,
    ) -> Result<Reply, Error> {
        settings.validate()?;
        if path.subqueue() != Subqueue::Main || EntityPath::for_new_entity(path.name()).is_err() {
            return Err(Error::InvalidArgument("The name of the queue is not valid."));
        }
        let at = self.now;
        if let Some(entities) = self.namespace.queue(&path) {
            for entity in entities.all() {
                if *self.queue(entity)?.settings() != settings {
                    let settings = Box::new(settings.clone());
                    self.commit(&Change::SettingsChanged { entity, settings, at });
                }
            }
            return Ok(Reply::QueueEnsured { entity: entities.main });
        }
        let Some(next) = u32::try_from(self.queues.len()).ok().filter(|id| *id < u32::MAX - 3)
        else {
            return Err(Error::NotAllowed("There are too many entities."));
        };
        let [entity, dead_letter, transfer_dead_letter] =
            [0, 1, 2].map(|offset| EntityId(next + offset));
        self.commit(&Change::QueueCreated {
            entity,
            dead_letter,
            transfer_dead_letter,
            path,
            settings: Box::new(settings),
            at,
        });
        Ok(Reply::QueueEnsured { entity })
    }

    pub(super) fn open_sender(&self, path: &EntityPath) -> Result<Reply, Error> {
        let entity = self.resolve(path)?;
        let queue = self.queue(entity)?;
        if queue.definition.dead_letter.is_none() {
            return Err(Error::NotAllowed("Messages cannot be sent to a subqueue."));
        }
        Ok(Reply::SenderOpened { entity, message_bytes_max: queue.settings().message_bytes_max })
    }

    pub(super) fn open_receiver(
        &mut self,
        receiver: ReceiverId,
        path: &EntityPath,
        mode: ReceiveMode,
    ) -> Result<Reply, Error> {
        let entity = self.resolve(path)?;
        if self.receivers.contains_key(&receiver) {
            return Err(Error::InvalidArgument("The receiver is open already."));
        }
        let receivers_max = self.settings.receivers_max;
        let queue = queue_mut(&mut self.queues, entity)
            .ok_or_else(|| Error::EntityNotFound(path.to_string()))?;
        if receivers_max <= queue.receivers.len() {
            return Err(Error::ServerBusy("There are too many receivers."));
        }
        let slot = queue.receivers.open(receiver, mode);
        let lock_duration = queue.settings().lock_duration;
        self.receivers.insert(receiver, (entity, slot));
        Ok(Reply::ReceiverOpened { entity, lock_duration, session: None })
    }

    pub(super) fn open_management(&self, path: &EntityPath) -> Result<Reply, Error> {
        let entity = self.resolve(path)?;
        let message_bytes_max = self.queue(entity)?.settings().message_bytes_max;
        Ok(Reply::ManagementOpened { entity, message_bytes_max })
    }

    pub(super) fn close_receiver(&mut self, receiver: ReceiverId) {
        if let Some((entity, slot)) = self.receivers.remove(&receiver)
            && let Some(queue) = queue_mut(&mut self.queues, entity)
        {
            queue.receivers.close(slot);
        }
    }

    pub(super) fn demand(&mut self, receiver: ReceiverId, limit: u64, drain: bool) {
        if let Some((entity, slot)) = self.receivers.get(&receiver).copied()
            && let Some(queue) = queue_mut(&mut self.queues, entity)
        {
            queue.receivers.demand(slot, limit, drain);
            self.wake(entity);
        }
    }
}
