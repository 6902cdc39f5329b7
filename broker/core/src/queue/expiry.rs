//! Messages that are of use for a while only: until when, and what becomes of them then.
//!
//! A queue's messages expire; dead letters and what is set aside do not. A message that expires has a
//! due time (`timers.rs`) as long as it is to be delivered or locked. Nobody is given one that is over,
//! whether its time was called or not.

use super::timers::Timer;
use super::window::Zone;
use super::{Queue, Standing, Traces};
use crate::id::SequenceNumber;
use crate::message::StoredMessage;
use crate::time::Timestamp;

/// Where a message is that may have expired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whereabouts {
    /// In memory, and nobody holds it.
    Ready,
    /// Somebody holds it, or it is leaving already. Who gives it back looks again.
    Held,
    /// Only the store has it, if it is there at all.
    Disk,
    /// It is gone.
    Gone,
}

impl Queue {
    /// Until when a message of this queue is of use. Dead letters always are.
    pub(crate) fn expiry_of(&self, message: &StoredMessage) -> Option<Timestamp> {
        message.header().expires_at.filter(|_| self.definition.dead_letter.is_some())
    }

    /// Notes when a new message expires.
    pub(super) fn note_expiry(
        &mut self,
        sequence: SequenceNumber,
        message: &StoredMessage,
        timers_max: usize,
    ) -> Option<Timestamp> {
        let at = self.expiry_of(message)?;
        self.expiring_count += 1;
        self.expiries.add(Timer { at, sequence }, message.size(), timers_max);
        Some(at)
    }

    /// A message that expired while it was held has to leave once it is given back.
    pub(super) fn recall_expiry(&mut self, sequence: SequenceNumber) {
        let Some(entry) = self.entries.get(&sequence) else { return };
        if let Some(at) = entry.traces.expires_at {
            self.expiries.recall(Timer { at, sequence }, entry.size);
        }
    }

    /// A message is gone from where it could expire.
    pub(super) fn forget_expiry(&mut self, sequence: SequenceNumber, traces: Traces) {
        if let Some(at) = traces.expires_at {
            self.expiring_count -= 1;
            self.expiries.forget(Timer { at, sequence });
        }
    }

    /// Looks for a message.
    pub(crate) fn whereabouts(&self, sequence: SequenceNumber) -> Whereabouts {
        if self.stands_apart(sequence) {
            return Whereabouts::Held;
        }
        if let Some(entry) = self.entries.get(&sequence) {
            return match entry.standing {
                Standing::Ready => Whereabouts::Ready,
                Standing::Locked(_) | Standing::Doomed => Whereabouts::Held,
            };
        }
        let zone = self.window.zone(sequence, self.next_sequence);
        if self.has_sessions() || zone == Zone::Disk {
            Whereabouts::Disk
        } else {
            Whereabouts::Gone
        }
    }

    /// A ready message has to leave, and cannot before its body was read.
    pub(crate) fn condemn(&mut self, sequence: SequenceNumber) {
        self.place(sequence, Standing::Doomed);
    }

    /// Whether a message in memory is of no use any more.
    pub(crate) fn has_expired(&self, sequence: SequenceNumber, now: Timestamp) -> bool {
        let expires_at = self.entry(sequence).and_then(|entry| entry.traces.expires_at);
        expires_at.is_some_and(|at| at <= now)
    }
}
