//! What kinds of entities there are.

use crate::id::EntityId;

/// What an entity is. Its subqueues are of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntityKind {
    /// Holds messages for its receivers.
    Queue,
    /// Takes messages in, and gives copies of them to its subscriptions.
    Topic,
    /// Holds the copies that its rules let through.
    Subscription {
        /// Whose.
        topic: EntityId,
    },
}
