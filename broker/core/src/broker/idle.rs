//! When entities were last used, and deleting those that nobody uses.
//!
//! Use is every command about the messages of an entity, having receivers or scheduled messages, and
//! forwarding. It is noted in memory at once; the row says it when it is written anyway, and at most
//! a minute late when nothing else changes.

use super::{Broker, queue_mut};
use crate::command::Command;
use crate::entity::kind::EntityKind;
use crate::id::EntityId;
use crate::queue::Queue;
use crate::time::{Span, Timestamp};

/// How old the row's moment of the last use may get while the entity is only read.
const NOTED_WITHIN: Span = Span::from_secs(60);

impl Broker {
    /// Notes the use a command makes of an entity.
    pub(super) fn note_command(&mut self, command: &Command) {
        let entity = if let Command::CloseReceiver { receiver } = command {
            self.receivers.get(receiver).map(|(entity, _)| *entity)
        } else {
            command.entity()
        };
        let Some(entity) = entity else { return };
        self.note_use(entity);
    }

    /// Notes that an entity is being used.
    pub(super) fn note_use(&mut self, entity: EntityId) {
        let now = self.now;
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        queue.accessed_at = now;
        queue.idle_since = Some(now);
        let kind = queue.definition.kind;
        if NOTED_WITHIN <= now.since(queue.noted_at) {
            self.touch(entity);
        }
        if let EntityKind::Subscription { topic } = kind {
            self.note_use(topic);
        }
    }

    /// Deletes a queue that was not used for as long as its settings say.
    pub(super) fn delete_if_idle(&mut self, entity: EntityId) {
        let now = self.now;
        let Ok(queue) = self.queue(entity) else { return };
        if idle_deadline(queue).is_none_or(|at| now < at) {
            return;
        }
        let Some(entities) = self.namespace.queue(&queue.definition.path) else { return };
        let mut in_use = queue.idle_since.is_none() || queue.scheduled_count() != 0;
        in_use |= queue.forwards_messages() || self.has_subscribers(entity);
        let mut last = Timestamp(0);
        for queue in entities.all().iter().filter_map(|entity| self.queue(*entity).ok()) {
            in_use |= queue.receiver_count() != 0;
            last = last.max(queue.idle_since.unwrap_or_default());
        }
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        queue.idle_since = Some(if in_use { now } else { last });
        if idle_deadline(queue).is_some_and(|at| at <= now) {
            self.remove_queue(entities);
        }
    }
}

/// When a queue is idle for long enough, unless it is used before. Time in which the broker did not
/// run does not count: nobody could use it then. So after a start it begins with the first look,
/// which is due at once.
pub(super) fn idle_deadline(queue: &Queue) -> Option<Timestamp> {
    let span = queue.settings().auto_delete_on_idle?;
    queue.definition.dead_letter?;
    Some(queue.idle_since.map_or(Timestamp(0), |since| since.plus(span)))
}
