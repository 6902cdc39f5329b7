//! What makes a message active, wherever it comes from: sent, due, forwarded, committed.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use crate::change::Change;
use crate::id::{EntityId, SequenceNumber};
use crate::message::{IncomingMessage, RowHeader};

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

    /// Makes a message active here.
    fn rest(&mut self, entity: EntityId, arrival: Arrival) -> SequenceNumber {
        let queue = self.queue(entity).expect("messages arrive at entities we have");
        let sequence = queue.next_sequence();
        let session = if queue.has_sessions() { arrival.message.facts().session() } else { None };
        let expires_at = arrival.message.facts().expires_at(self.now, queue.settings());
        let Arrival { message, hops, dead_letter_source, enqueue_sequence, application_properties } =
            arrival;
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
