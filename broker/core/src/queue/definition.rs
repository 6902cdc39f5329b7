//! What is written of a queue itself: what it is, and what it counts.

use crate::entity::kind::EntityKind;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, SequenceNumber};
use crate::time::Timestamp;

/// What a queue is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Definition {
    pub(crate) entity: EntityId,
    /// Where its dead letters go; `None` for a subqueue.
    pub(crate) dead_letter: Option<EntityId>,
    /// Where messages go that it could not pass on; `None` for a subqueue.
    pub(crate) transfer_dead_letter: Option<EntityId>,
    pub(crate) path: EntityPath,
    pub(crate) kind: EntityKind,
    pub(crate) settings: QueueSettings,
    pub(crate) created_at: Timestamp,
    /// When the settings were last changed.
    pub(crate) updated_at: Timestamp,
}

/// What is exact after every commit, and written with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    /// What the next message gets. All messages have lower ones.
    pub(crate) next_sequence: SequenceNumber,
    /// No message has a lower one, and no row at or above it was ever removed behind another that
    /// is still there, unless we hold that one in memory: where reading may start.
    pub(crate) head: SequenceNumber,
    /// How many messages are to be delivered, or are locked.
    pub(crate) count: u64,
    /// How many are set aside.
    pub(crate) deferred_count: u64,
    /// How many are not due yet.
    pub(crate) scheduled_count: u64,
    /// How many of those to be delivered, or locked, expire.
    pub(crate) expiring_count: u64,
    /// Octets of all of them.
    pub(crate) bytes: u64,
    /// Those of them that are in the rows of its topic.
    pub(crate) shared_bytes: u64,
    /// When it was last used. Written when something else is.
    pub(crate) accessed_at: Timestamp,
}

impl Numbers {
    /// Of a queue that was just created.
    pub(crate) const fn new(at: Timestamp) -> Self {
        Numbers {
            next_sequence: SequenceNumber::FIRST,
            head: SequenceNumber::FIRST,
            count: 0,
            deferred_count: 0,
            scheduled_count: 0,
            expiring_count: 0,
            bytes: 0,
            shared_bytes: 0,
            accessed_at: at,
        }
    }
}
