//! Messages that go on by themselves: from a queue to the one it forwards to, and dead letters to the
//! one that collects them.
//!
//! What is sent to a queue that holds nothing is kept only where it comes to rest, in the same commit.
//! Everything else that such a queue holds (what was there before, what came while something stood in
//! the way, dead letters) is passed on from its front, so that the order stays. What cannot go on is
//! dead-lettered: by a queue to its dead-letter subqueue, by that to the transfer dead-letter subqueue,
//! from where nothing goes on.

use std::sync::Arc;

use super::arrive::Arrival;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::effect::Browsed;
use crate::entity::path::Subqueue;
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::message::{IncomingMessage, StoredMessage};
use crate::queue::{Decision, Offer, Queue};

/// Over how many entities a message may be forwarded, as in Service Bus.
const HOPS_MAX: u8 = 4;

/// Messages an entity passes on in one turn, so that a turn stays short; the rest follow at once.
const FORWARDS_MAX: usize = 100;

/// Octets of them, but for the first: what a page has.
const FORWARD_BYTES_MAX: u64 = 1024 * 1024;

/// Why a message cannot go on, as its dead letter says it.
struct Obstacle {
    reason: &'static str,
    description: String,
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        let reason = match &error {
            Error::EntityNotFound(_) => "amqp:not-found",
            Error::EntityDisabled(_) => "com.microsoft:entity-disabled",
            Error::EntityFull { .. } => "amqp:resource-limit-exceeded",
            Error::MessageTooLarge { .. } => "amqp:link:message-size-exceeded",
            Error::MessageLockLost
            | Error::MessageNotFound(_)
            | Error::SessionLockLost
            | Error::SessionCannotBeLocked(_)
            | Error::Timeout(_)
            | Error::EntityExists(_)
            | Error::TransactionUnknown
            | Error::TransactionTimeout
            | Error::TransactionRolledBack(_)
            | Error::NotAllowed(_)
            | Error::NotImplemented(_)
            | Error::InvalidArgument(_)
            | Error::ServerBusy(_)
            | Error::StoreUnavailable => "amqp:not-allowed",
        };
        Obstacle { reason, description: error.to_string() }
    }
}

impl Broker {
    /// Follows a message over the entities that pass it on at once, and says where it comes to rest:
    /// where nothing forwards, where something is in front of it, or where something is in the way.
    pub(super) fn follow(&self, entity: EntityId, arrival: &mut Arrival) -> EntityId {
        let mut rest = entity;
        while let Ok(queue) = self.queue(rest)
            && queue.passes_on()
            && queue.count() == 0
            && let Ok(next) = self.next_hop(queue, &arrival.message, arrival.hops)
        {
            rest = next;
            arrival.hops += 1;
        }
        rest
    }

    /// Passes on what an entity holds, as far as it is in memory.
    pub(super) fn forward_held(&mut self, entity: EntityId) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(queue) = queue_mut(&mut self.queues, entity)
            && queue.passes_on()
            && queue.forward_at.is_none()
            && let Offer::Message(sequence) = queue.offer()
        {
            if count == FORWARDS_MAX || FORWARD_BYTES_MAX <= bytes {
                queue.forward_at = Some(self.now);
                return;
            }
            count += 1;
            bytes += self.forward(entity, sequence);
        }
    }

    /// Passes a message on, or gives it up. Says how big it is.
    fn forward(&mut self, entity: EntityId, sequence: SequenceNumber) -> u64 {
        let Ok(queue) = self.queue(entity) else { return 0 };
        let content = queue.content(sequence).expect("what is offered has a body");
        let size = content.message.size();
        let header = content.message.header();
        let dead_letter_of = self.dead_letter_of(queue);
        // Its way as a dead letter is another one, but only once: it may come round in a circle.
        let hops = match (dead_letter_of, header.dead_letter_source) {
            (Some(_), None) => 0,
            (Some(_), Some(_)) | (None, _) => header.hops,
        };
        let message = StoredMessage::clone(&content.message).into_incoming();
        match self.next_hop(queue, &message, hops) {
            Ok(target) => {
                let arrival = Arrival {
                    message,
                    hops: hops + 1,
                    dead_letter_source: dead_letter_of.or(header.dead_letter_source),
                    enqueue_sequence: Some(header.enqueue_sequence),
                    application_properties: content.application_properties,
                };
                self.commit(&Change::Removed { entity, sequence });
                self.counters.forwarded += 1;
                self.note_use(target);
                self.arrive(target, arrival);
            }
            Err(Obstacle { reason, description }) => {
                let to = self.given_up_to(queue);
                match queue.decide_undeliverable(sequence, to, reason, &description) {
                    Decision::Change(change) => {
                        self.counters.dead_lettered += 1;
                        self.commit(&change);
                    }
                    Decision::BodyMissing => unreachable!("what is offered has a body"),
                }
            }
        }
        size
    }

    /// Where an entity passes a message on to, or why it cannot.
    fn next_hop(
        &self,
        queue: &Queue,
        message: &IncomingMessage,
        hops: u8,
    ) -> Result<EntityId, Obstacle> {
        if HOPS_MAX <= hops {
            return Err(Obstacle {
                reason: "MaxTransferHopCountExceeded",
                description: format!(
                    "The maximum number of allowed hops when forwarding between entities has been \
                     exceeded. This value is set to {HOPS_MAX}."
                ),
            });
        }
        let path = queue.forwards_to().expect("only what forwards asks where to");
        let target = self.sendable(self.resolve(path)?)?;
        if target.settings().requires_session && message.facts().session().is_none() {
            return Err(Obstacle {
                reason: "Session ID is null.",
                description: "Session enabled entity doesn't allow a message whose session \
                              identifier is null."
                    .into(),
            });
        }
        self.may_take(target, [message])?;
        Ok(target.id())
    }

    /// Whose dead letters an entity holds, if it holds any.
    fn dead_letter_of(&self, queue: &Queue) -> Option<EntityId> {
        let path = &queue.definition.path;
        let is_dead_letter = path.subqueue() == Subqueue::DeadLetter;
        is_dead_letter.then(|| self.namespace.queue(path).map(|entities| entities.main))?
    }

    /// Where messages go that an entity cannot pass on.
    fn given_up_to(&self, queue: &Queue) -> EntityId {
        let entities = self.namespace.queue(&queue.definition.path);
        let entities = entities.expect("entities we have are in the namespace");
        match queue.definition.path.subqueue() {
            Subqueue::Main => entities.dead_letter,
            Subqueue::DeadLetter | Subqueue::TransferDeadLetter => entities.transfer_dead_letter,
        }
    }

    /// The name of the entity whose dead letter a message was, unless that entity is gone.
    pub(super) fn dead_letter_source(&self, message: &StoredMessage) -> Option<Arc<str>> {
        let source = self.queue(message.header().dead_letter_source?).ok()?;
        Some(source.definition.path.name().into())
    }

    /// Says of messages whose dead letters they were.
    pub(super) fn name_sources(&self, messages: &mut [Browsed]) {
        for browsed in messages {
            browsed.dead_letter_source = self.dead_letter_source(&browsed.message);
        }
    }
}
