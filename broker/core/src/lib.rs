//! The domain of the broker: queues and their messages, locks, deliveries, dead letters.
//!
//! Pure: a [`Broker`] takes `(now, command)` and yields rows to write and effects to carry out. It has
//! no clock, socket, file, thread, random number or `async` in it; time is an argument, tokens come
//! from an [`IdSource`], and the shell does the rest:
//!
//! 1. hand in commands with [`Broker::handle`];
//! 2. take the [`Turn`]: write its batch, and release each effect once the commit it waits for is
//!    durable;
//! 3. wait for a command, or for [`Broker::next_deadline`] and hand in [`Command::Tick`].
//!
//! Facts (the module `change`), not commands, are what memory and rows follow from. Only what is
//! volatile by design is lost with the process: locks, receivers, their demand.

#![warn(missing_docs)]
// Order is part of every result, a new state is a list of places to visit, and what is not an argument
// cannot be repeated (`clippy.toml` says what is meant).
#![deny(clippy::iter_over_hash_type, clippy::wildcard_enum_match_arm, clippy::disallowed_methods)]

pub mod broker;
mod change;
pub mod check;
pub mod command;
pub mod effect;
pub mod entity;
pub mod error;
pub mod filter;
pub mod id;
mod invariant;
pub mod message;
mod queue;
mod rows;
#[cfg(test)]
mod testing;
pub mod time;
pub mod topic;
pub mod transplant;

pub use peeklock_storage::CommitPosition;

pub use crate::broker::Broker;
pub use crate::broker::statistics::EntityStatistics;
pub use crate::broker::stats::{Counters, DurableEntity, DurableState, QueueStats};
pub use crate::command::{
    Command, Enlistment, PropertyChanges, ReadRequest, ReadRows, ReceiveMode, Scan, SessionRequest,
    Settlement, SubscriberWish,
};
pub use crate::effect::{
    Browsed, ClosedLinks, Counts, Delivery, Effect, EffectKind, MessageLock, MessageState,
    QueueDescription, Reply, SessionLock, Turn,
};
pub use crate::entity::access::{AccessKey, AccessRights, AccessRule, AccessRuleChange, KeyChange};
pub use crate::entity::counters::{DeadLetterReason, EntityCounters};
pub use crate::entity::kind::EntityKind;
pub use crate::entity::namespace::Namespace;
pub use crate::entity::path::{Address, EntityPath, PathError, Subqueue};
pub use crate::entity::settings::{BrokerSettings, EntityStatus, QueueSettings, Remarks};
pub use crate::error::{Error, LoadError};
pub use crate::id::{
    EntityId, IdSource, LockToken, MessageSessionId, Origin, ReadId, ReceiverId, SeededIds,
    SequenceNumber, TransactionId,
};
pub use crate::message::{IncomingMessage, StoredMessage};
pub use crate::queue::oldest::OldestMessage;
pub use crate::time::{Span, Timestamp};
pub use crate::topic::command::{TopicCommand, TopicDescription, TopicReply};
pub use crate::topic::rules::{Correlation, Rule, RuleDescription, RuleFilter, SqlText};
pub use crate::topic::settings::TopicSettings;
