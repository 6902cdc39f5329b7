//! What makes a message active, wherever it comes from: sent, due, forwarded, committed.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use crate::change::Change;
use crate::id::{EntityId, SequenceNumber};
use crate::message::{IncomingMessage, RowHeader};
use crate::time::Timestamp;

/// A message about to become active. Whether the entity may take it was decided before.
pub(super) struct Arrival {
    pub(super) message: IncomingMessage,
    /// Over how many entities it was forwarded so far.
    pub(super) hops: u8,
    /// The entity whose dead letter it was.
    pub(super) dead_letter_source: Option<EntityId>,
    /// The number it got where it was taken in first, unless that is here.
    pub(super) enqueue_sequence: Option<SequenceNumber>,
    /// The section that replaces the message's own.
    pub(super) application_properties: Option<Bytes>,
    /// When it expires at the latest, whatever it says itself and where it comes to rest.
    pub(super) expires_by: Option<Timestamp>,
}

impl Arrival {
    /// One that comes from outside.
    pub(super) const fn new(message: IncomingMessage) -> Self {
        Arrival {
            message,
            hops: 0,
            dead_letter_source: None,
            enqueue_sequence: None,
            application_properties: None,
            expires_by: None,
        }
    }

    /// A message made of this one, which comes the same way.
    pub(super) const fn copy(&self, message: IncomingMessage) -> Self {
        Arrival {
            message,
            hops: self.hops,
            dead_letter_source: self.dead_letter_source,
            enqueue_sequence: self.enqueue_sequence,
            application_properties: None,
            expires_by: self.expires_by,
        }
    }
}

impl Broker {
    /// Makes a message active, at the end of an entity or, if that one passes it on at once, of the one
    /// where it comes to rest. Says which number it got at the first of them.
    pub(super) fn arrive(&mut self, entity: EntityId, mut arrival: Arrival) -> SequenceNumber {
        let queue = self.queue(entity).expect("messages arrive at entities we have");
        let sequence = queue.next_sequence();
        if queue.forwards_messages() {
            let rest = self.follow(entity, &mut arrival);
            if rest != Some(entity) {
                self.commit(&Change::Passed { entity, sequence });
                arrival.enqueue_sequence.get_or_insert(sequence);
                if let Some(rest) = rest {
                    self.note_use(rest);
                    self.rest(rest, arrival);
                }
                return sequence;
            }
        }
        self.rest(entity, arrival)
    }

    /// Makes a message active here, or in the subscriptions of a topic.
    fn rest(&mut self, entity: EntityId, arrival: Arrival) -> SequenceNumber {
        let queue = self.queue(entity).expect("messages arrive at entities we have");
        if queue.is_topic() {
            return self.publish(entity, arrival);
        }
        let sequence = queue.next_sequence();
        let session = if queue.has_sessions() { arrival.message.facts().session() } else { None };
        let expires_at = arrival.message.facts().expires_at(self.now, queue.settings());
        let expires_at = expires_at.into_iter().chain(arrival.expires_by).min();
        let Arrival { message, hops, dead_letter_source, enqueue_sequence, .. } = arrival;
        let application_properties = arrival.application_properties;
        let enqueue_sequence = enqueue_sequence.unwrap_or(sequence);
        let header = RowHeader {
            hops,
            dead_letter_source,
            expires_at,
            ..RowHeader::new(enqueue_sequence, self.now)
        };
        let message = Arc::new(message.into_stored(header));
        let accepted =
            Change::Accepted { entity, sequence, message, application_properties, session };
        self.commit(&accepted);
        sequence
    }
}
