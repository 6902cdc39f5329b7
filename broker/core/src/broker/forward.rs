//! Messages that go on by themselves: from a queue to the one it forwards to, and dead letters to the
//! one that collects them.
//!
//! What is sent to a queue that holds nothing is kept only where it comes to rest, in the same commit.
//! Everything else that such a queue holds (what was there before, what came while something stood in
//! the way, dead letters) is passed on from its front, so that the order stays. What cannot go on is
//! dead-lettered: by a queue to its dead-letter subqueue, by that to the transfer dead-letter subqueue,
//! from where nothing goes on.

use std::sync::Arc;

use bytes::Bytes;

use super::arrive::Arrival;
use super::dedup::{Lookup, Sieve};
use super::read::{Purpose, RETRY_AFTER};
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReadRequest;
use crate::effect::Browsed;
use crate::entity::counters::DeadLetterReason;
use crate::entity::path::Subqueue;
use crate::error::Error;
use crate::id::{EntityId, ReadId, SequenceNumber};
use crate::message::{IncomingMessage, StoredMessage};
use crate::queue::{Decision, Offer, Queue};

/// Over how many entities a message may be forwarded, as in Service Bus.
const HOPS_MAX: u8 = 4;

/// Messages an entity passes on in one turn, so that a turn stays short; the rest follow at once.
const FORWARDS_MAX: usize = 100;

/// Octets of them, but for the first: what a page has.
const FORWARD_BYTES_MAX: u64 = 1024 * 1024;

/// A lookup for what an entity passes on.
#[derive(Debug)]
pub(super) struct ForwardRead {
    entity: EntityId,
    target: EntityId,
    lookups: Vec<Lookup>,
}

/// Why a message cannot go on.
struct Obstacle {
    /// As it is counted.
    cause: DeadLetterReason,
    /// As its dead letter says it.
    reason: &'static str,
    description: String,
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Self {
        let (cause, reason) = match &error {
            Error::EntityNotFound(_) => (DeadLetterReason::TargetNotFound, "amqp:not-found"),
            Error::EntityDisabled(_) => {
                (DeadLetterReason::TargetDisabled, "com.microsoft:entity-disabled")
            }
            Error::EntityFull { .. } => {
                (DeadLetterReason::TargetFull, "amqp:resource-limit-exceeded")
            }
            Error::MessageTooLarge { .. } => {
                (DeadLetterReason::MessageSize, "amqp:link:message-size-exceeded")
            }
            Error::MessageLockLost
            | Error::MessageNotFound(_)
            | Error::SessionLockLost
            | Error::SessionCannotBeLocked(_)
            | Error::Timeout(_)
            | Error::EntityExists(_)
            | Error::SubscriptionInUse(_)
            | Error::ManageRequired(_)
            | Error::TransactionUnknown
            | Error::TransactionTimeout
            | Error::TransactionRolledBack(_)
            | Error::NotAllowed(_)
            | Error::QuotaExceeded(_)
            | Error::InvalidRule(_)
            | Error::NotImplemented(_)
            | Error::InvalidArgument(_)
            | Error::ServerBusy(_)
            | Error::StoreUnavailable => (DeadLetterReason::TargetRefused, "amqp:not-allowed"),
        };
        Obstacle { cause, reason, description: error.to_string() }
    }
}

impl Broker {
    /// Follows a message over the entities that pass it on at once, and says where it comes to rest:
    /// where nothing forwards, where something is in front of it, or where something is in the way.
    /// Nowhere if it is a duplicate of one that was there.
    ///
    /// What a topic gave to a subscription is not given to another topic at once, but passed on from
    /// where it is: so the copies of one message are never more than one topic makes.
    pub(super) fn follow(&mut self, entity: EntityId, arrival: &mut Arrival) -> Option<EntityId> {
        let mut rest = entity;
        let mut sieve = Sieve::default();
        let is_copy = self.topic_of(entity).is_some();
        while let Ok(queue) = self.queue(rest)
            && queue.passes_on()
            && queue.count() == 0
            && let Ok(next) = self.next_hop(queue, &arrival.message, arrival.hops)
            && !(is_copy && self.queue(next).is_ok_and(Queue::is_topic))
            && !self.must_look_up(next, [&arrival.message], &sieve)
        {
            if self.is_duplicate(next, &arrival.message, &mut sieve) {
                return None;
            }
            self.counters.forwarded_at_once += 1;
            self.count_forwarded(rest, next);
            rest = next;
            arrival.hops += 1;
        }
        Some(rest)
    }

    /// Passes on what an entity holds, as far as it is in memory.
    pub(super) fn forward_held(&mut self, entity: EntityId) {
        if self.queue(entity).is_ok_and(Queue::passes_on) {
            self.forward_sifted(entity, &mut Sieve::default());
        }
    }

    fn forward_sifted(&mut self, entity: EntityId, sieve: &mut Sieve) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(queue) = queue_mut(&mut self.queues, entity)
            && queue.passes_on()
            && queue.forward_at.is_none()
            && !queue.forward_waits
            && let Offer::Message(sequence) = queue.offer()
        {
            if count == FORWARDS_MAX || FORWARD_BYTES_MAX <= bytes {
                queue.forward_at = Some(self.now);
                return;
            }
            let size = self.forward(entity, sequence, sieve);
            count += 1;
            bytes += size;
        }
    }

    /// Looks up whether what is next was at the target before. Until that is known it waits.
    fn look_up_held(&mut self, entity: EntityId, target: EntityId) {
        let (mut lookups, mut request) = (Vec::new(), ReadRequest::default());
        let (Ok(queue), Ok(of)) = (self.queue(entity), self.queue(target)) else { return };
        for message in queue.next_bodies(FORWARDS_MAX) {
            self.ask_for_id(of, message.facts().message_id(), &mut lookups, &mut request);
        }
        let read = ReadId(self.next_read);
        self.begin_lookup(target, read);
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.forward_waits = true;
        }
        self.start_read(request, Purpose::Forward(ForwardRead { entity, target, lookups }));
    }

    /// What held messages waited for has come, or could not be read.
    pub(super) fn held_looked_up(
        &mut self,
        read: ReadId,
        of: ForwardRead,
        gets: Option<Vec<Option<Bytes>>>,
    ) {
        let ForwardRead { entity, target, lookups } = of;
        let retry_at = self.now.plus(RETRY_AFTER);
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.forward_waits = false;
            if gets.is_none() {
                queue.forward_at = Some(retry_at);
            }
        }
        if let Some(gets) = gets {
            let mut sieve = Sieve::new(lookups, &mut gets.into_iter());
            self.forward_sifted(entity, &mut sieve);
        }
        self.end_lookup(target, read);
        self.wake(entity);
    }

    /// Passes a message on, or gives it up, or lets it wait. Says how big it is.
    fn forward(&mut self, entity: EntityId, sequence: SequenceNumber, sieve: &mut Sieve) -> u64 {
        let Ok(queue) = self.queue(entity) else { return 0 };
        let content = queue.content(sequence).expect("what is offered has a body");
        let size = content.message.size();
        if content.expires_at.is_some_and(|at| at <= self.now) {
            self.expire(entity, sequence);
            return size;
        }
        let header = content.message.header();
        let dead_letter_of = self.dead_letter_of(queue);
        // Its way as a dead letter is another one, but only once: it may come round in a circle.
        let hops = match (dead_letter_of, header.dead_letter_source) {
            (Some(_), None) => 0,
            (Some(_), Some(_)) | (None, _) => header.hops,
        };
        let message = StoredMessage::clone(&content.message).into_incoming();
        match self.next_hop(queue, &message, hops) {
            Ok(target) if self.must_look_up(target, [&message], sieve) => {
                self.look_up_held(entity, target);
            }
            Ok(target) if self.is_duplicate(target, &message, sieve) => {
                self.commit(&Change::Removed { entity, sequence });
            }
            Ok(target) => {
                let arrival = Arrival {
                    message,
                    hops: hops + 1,
                    dead_letter_source: dead_letter_of.or(header.dead_letter_source),
                    enqueue_sequence: Some(header.enqueue_sequence),
                    application_properties: content.application_properties,
                    expires_by: None,
                };
                self.commit(&Change::Removed { entity, sequence });
                self.counters.forwarded += 1;
                self.count_forwarded(entity, target);
                self.note_use(target);
                self.arrive(target, arrival);
            }
            Err(Obstacle { cause, reason, description }) => {
                let Ok(queue) = self.queue(entity) else { return 0 };
                let to = self.given_up_to(queue);
                match queue.decide_undeliverable(sequence, to, cause, reason, &description) {
                    Decision::Change(change) => self.commit(&change),
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
                cause: DeadLetterReason::HopCount,
                reason: "MaxTransferHopCountExceeded",
                description: format!(
                    "The maximum number of allowed hops when forwarding between entities has been \
                     exceeded. This value is set to {HOPS_MAX}."
                ),
            });
        }
        let path = queue.forwards_to().expect("only what forwards asks where to");
        let entity = self.resolve(path)?;
        let target = self.sendable(entity)?;
        if target.settings().requires_session && message.facts().session().is_none() {
            return Err(Obstacle {
                cause: DeadLetterReason::SessionIdMissing,
                reason: "Session ID is null.",
                description: "Session enabled entity doesn't allow a message whose session \
                              identifier is null."
                    .into(),
            });
        }
        self.may_admit(entity, std::slice::from_ref(message))?;
        Ok(entity)
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
