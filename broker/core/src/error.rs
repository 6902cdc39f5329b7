//! What can be refused, in Service Bus words. `Display` is written for the client that is refused;
//! it tells nothing but what the client asked for and the limits that are public anyway.
//!
//! How each becomes an AMQP condition is the server's business, in one table.

use std::fmt;

use crate::time::Span;

/// How long a client waited, as .NET writes it: `00:00:59.900`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTime(pub Span);

impl fmt::Display for WaitTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span(millis) = self.0;
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let (minutes, seconds) = (seconds / 60, seconds % 60);
        write!(f, "{:02}:{:02}:{seconds:02}.{millis:03}", minutes / 60, minutes % 60)
    }
}

/// Why a command was refused. It then changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such entity, or no such subqueue of it. Clients match this text.
    #[error("The messaging entity '{0}' could not be found.")]
    EntityNotFound(String),
    /// The lock expired, was settled, or never was.
    #[error(
        "The lock supplied is invalid. Either the lock expired, or the message has already been \
         removed from the queue."
    )]
    MessageLockLost,
    /// No message has this number.
    #[error("The message with sequence number {0} could not be found.")]
    MessageNotFound(u64),
    /// A message is bigger than the entity takes.
    #[error(
        "The received message (size: {size} bytes) exceeds the limit of {limit} bytes allowed on \
         '{path}'."
    )]
    MessageTooLarge {
        /// Its octets.
        size: u64,
        /// The octets allowed.
        limit: u64,
        /// By which entity.
        path: String,
    },
    /// The entity holds all it may.
    #[error(
        "The maximum entity size has been reached or exceeded for Queue: '{path}'. Size of entity \
         in bytes:{size}, Max entity size in bytes:{limit}."
    )]
    EntityFull {
        /// Which.
        path: String,
        /// The octets it holds.
        size: u64,
        /// The octets it may hold.
        limit: u64,
    },
    /// The session lock expired, was given back, or belongs to somebody else.
    #[error("The session lock has expired on the MessageSession. Accept a new MessageSession.")]
    SessionLockLost,
    /// The session belongs to another receiver now.
    #[error(
        "The requested session '{0}' cannot be accepted. It may be locked by another receiver."
    )]
    SessionCannotBeLocked(String),
    /// Nothing came up in the time the client wanted to wait.
    #[error("The operation did not complete within the allotted timeout of {0}.")]
    Timeout(WaitTime),
    /// The entity is switched off, or that side of it.
    #[error("The messaging entity '{0}' is currently disabled.")]
    EntityDisabled(String),
    /// There is an entity of that name.
    #[error("The messaging entity '{0}' already exists.")]
    EntityExists(String),
    /// Somebody receives from the subscription, who would not go with what was asked for.
    #[error("The subscription '{0}' is in use.")]
    SubscriptionInUse(String),
    /// What was asked for takes a right to the entity that the client did not show.
    #[error("Unauthorized access. 'Manage' claim(s) are required to create or delete '{0}'.")]
    ManageRequired(String),
    /// There is no such transaction, or not on this connection.
    #[error("The transaction is unknown, was ended, or belongs to another connection.")]
    TransactionUnknown,
    /// The transaction was open for too long and was rolled back.
    #[error("The transaction timed out and was rolled back.")]
    TransactionTimeout,
    /// Something the transaction depended on is gone, so it was rolled back.
    #[error("The transaction was rolled back: {0}")]
    TransactionRolledBack(String),
    /// The entity does not do that.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// There are as many as there may be.
    #[error("{0}")]
    QuotaExceeded(&'static str),
    /// The filter or action of a rule is not one.
    #[error("The rule is not valid: {0}.")]
    InvalidRule(String),
    /// The broker does not do that yet.
    #[error("{0} is not implemented.")]
    NotImplemented(&'static str),
    /// What was asked makes no sense, whatever the state.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// Too much at once. Worth trying again.
    #[error("The request was terminated because the entity is being throttled. {0}")]
    ServerBusy(&'static str),
    /// The rows could not be read. Worth trying again.
    #[error("The store did not answer. Please try again.")]
    StoreUnavailable,
}

/// Why the state could not be loaded. The store holds what this release did not write, or lost rows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LoadError {
    /// A row is not of a form this release reads.
    #[error("row {key} of the broker's state cannot be read: {what}")]
    UnreadableRow {
        /// The row's key in hex.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Rows do not fit together.
    #[error("the broker's state does not fit together: {0}")]
    Inconsistent(String),
}
