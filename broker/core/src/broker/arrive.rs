//! What makes a message active, wherever it comes from: sent, due, forwarded, committed.

use std::sync::Arc;

use super::Broker;
use crate::change::Change;
use crate::id::{EntityId, SequenceNumber};
use crate::message::{IncomingMessage, RowHeader};

/// A message about to become active. Whether the entity may take it was decided before.
pub(super) struct Arrival {
    message: IncomingMessage,
}

impl Arrival {
    /// One that comes from outside.
    pub(super) const fn new(message: IncomingMessage) -> Self {
        Arrival { message }
    }
}

impl Broker {
    /// Makes a message active, at the end of an entity. Says which number it got.
    pub(super) fn arrive(&mut self, entity: EntityId, arrival: Arrival) -> SequenceNumber {
        let queue = self.queue(entity).expect("messages arrive at entities we have");
        let sequence = queue.next_sequence();
        let header = RowHeader::new(sequence, self.now);
        let message = Arc::new(arrival.message.into_stored(header));
        self.commit(&Change::Accepted { entity, sequence, message });
        sequence
    }
}
