//! What entities let clients do: nothing is sent to or taken from one that is switched off, and its
//! links are closed when it is.

use super::Broker;
use crate::effect::{ClosedLinks, EffectKind};
use crate::entity::kind::EntityKind;
use crate::entity::settings::EntityStatus;
use crate::error::Error;
use crate::id::EntityId;
use crate::queue::Queue;

/// What the service says of a queue whose messages go on by themselves.
const FORWARDS: Error = Error::NotAllowed(
    "Cannot create a message receiver on an entity with auto-forwarding enabled.",
);

impl Broker {
    /// An entity that clients may send to now.
    pub(super) fn sendable(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.queue(entity)?;
        if queue.definition.dead_letter.is_none() {
            return Err(Error::NotAllowed("Messages cannot be sent to a subqueue."));
        }
        if matches!(queue.definition.kind, EntityKind::Subscription { .. }) {
            return Err(Error::NotAllowed("Messages are sent to topics, not to subscriptions."));
        }
        if !queue.settings().status.takes_sends() {
            return Err(disabled(queue));
        }
        Ok(queue)
    }

    /// An entity whose messages clients may receive, look at and settle now.
    pub(super) fn receivable(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.queue(entity)?;
        if queue.settings().status.gives_messages() { Ok(queue) } else { Err(disabled(queue)) }
    }

    /// An entity that receivers may be opened on now.
    pub(super) fn open_to_receivers(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.receivable(entity)?;
        if queue.is_topic() {
            return Err(Error::EntityNotFound(queue.definition.path.to_string()));
        }
        if queue.forwards_messages() { Err(FORWARDS) } else { Ok(queue) }
    }

    /// An entity that does anything at all for clients.
    pub(super) fn enabled(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.queue(entity)?;
        let is_enabled = queue.settings().status != EntityStatus::Disabled;
        if is_enabled { Ok(queue) } else { Err(disabled(queue)) }
    }

    /// Closes the links that an entity would not let anybody open any more.
    pub(super) fn close_refused_links(&mut self, entity: EntityId) {
        if let Err(error) = self.open_to_receivers(entity) {
            self.close_receivers(entity, &error);
        }
        let Ok(queue) = self.queue(entity) else { return };
        let scope = match queue.settings().status {
            EntityStatus::Active | EntityStatus::ReceiveDisabled => return,
            EntityStatus::SendDisabled => ClosedLinks::Senders,
            EntityStatus::Disabled => ClosedLinks::All,
        };
        let error = disabled(queue);
        self.emit(self.open_position(), EffectKind::EntityClosed { entity, scope, error });
    }
}

fn disabled(queue: &Queue) -> Error {
    Error::EntityDisabled(queue.definition.path.to_string())
}
