//! Everything the broker asks of its shell: answers to give, messages to deliver, rows to read.
//!
//! An effect says which commit it waits for. Releasing it earlier would promise what a crash can
//! take back.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::{Batch, CommitPosition};

use crate::command::ReadRequest;
use crate::error::Error;
use crate::id::{EntityId, LockToken, Origin, ReadId, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::time::{Span, Timestamp};

/// What came of the commands since the turn before.
#[derive(Debug)]
pub struct Turn {
    /// Where the batch stands in the order of commits; the position before when it is empty.
    pub position: CommitPosition,
    /// What to write, as one.
    pub batch: Batch,
    /// What to do, in this order as far as the positions allow.
    pub effects: Vec<Effect>,
}

/// One thing to do.
#[derive(Debug)]
pub struct Effect {
    /// Not before this commit is durable. Zero means at once.
    pub after: CommitPosition,
    /// What.
    pub kind: EffectKind,
}

/// What the shell can be asked to do.
#[derive(Debug)]
pub enum EffectKind {
    /// Answer a command.
    Reply {
        /// Who asked.
        to: Origin,
        /// What came of it.
        result: Result<Reply, Error>,
    },
    /// Pass a message on.
    Deliver {
        /// To whom.
        receiver: ReceiverId,
        /// What.
        delivery: Delivery,
    },
    /// Everything there was has been delivered, and demand ended.
    Drained {
        /// Who asked.
        receiver: ReceiverId,
    },
    /// The entity is not there any more, or does not serve this receiver any more.
    ReceiverClosed {
        /// Who.
        receiver: ReceiverId,
        /// Why.
        error: Error,
    },
    /// Read rows, and hand them in as [`Command::ReadDone`](crate::command::Command::ReadDone).
    Read {
        /// Which read.
        read: ReadId,
        /// What to read.
        request: ReadRequest,
    },
}

/// The good answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The queue is there, as declared.
    QueueEnsured {
        /// Its number.
        entity: EntityId,
    },
    /// Messages may be sent.
    SenderOpened {
        /// Where to.
        entity: EntityId,
        /// Octets a message may have.
        message_bytes_max: u64,
    },
    /// The receiver is known.
    ReceiverOpened {
        /// Where from.
        entity: EntityId,
        /// How long its locks will last.
        lock_duration: Span,
    },
    /// The entity is there.
    ManagementOpened {
        /// Its number.
        entity: EntityId,
    },
    /// The messages are kept.
    Accepted,
    /// The locks are ended as wished.
    Settled,
    /// The locks last longer.
    Renewed {
        /// Until when, in the order of the tokens.
        until: Vec<Timestamp>,
    },
    /// What was found, in order of sequence numbers; empty when there was nothing.
    Browsed {
        /// The messages.
        messages: Vec<Browsed>,
    },
}

/// One attempt to pass one message to one receiver.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it comes from.
    pub entity: EntityId,
    /// Its number there.
    pub sequence: SequenceNumber,
    /// The message as it was sent.
    pub message: Arc<StoredMessage>,
    /// How many deliveries failed before this one.
    pub attempts: u32,
    /// The lock, unless the message is gone from the entity with this delivery.
    pub lock: Option<MessageLock>,
    /// The application-properties section to send in place of the message's own.
    pub application_properties: Option<Bytes>,
    /// How it stood when it was delivered.
    pub state: MessageState,
}

/// A message looked at.
#[derive(Clone, Debug)]
pub struct Browsed {
    /// Its number.
    pub sequence: SequenceNumber,
    /// The message as it was sent.
    pub message: Arc<StoredMessage>,
    /// How many deliveries failed so far.
    pub attempts: u32,
    /// The application-properties section to show in place of the message's own.
    pub application_properties: Option<Bytes>,
    /// How it stands.
    pub state: MessageState,
}

/// A client's claim on a message, with an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageLock {
    /// Its name.
    pub token: LockToken,
    /// The first moment at which it is gone.
    pub until: Timestamp,
}

/// How a message stands, as clients are told. The numbers are the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum MessageState {
    /// To be delivered, or locked.
    Active = 0,
    /// Set aside until it is asked for by number.
    Deferred = 1,
    /// Not due yet.
    Scheduled = 2,
}

impl MessageState {
    /// The number the wire uses.
    pub const fn as_amqp(self) -> i32 {
        match self {
            MessageState::Active => 0,
            MessageState::Deferred => 1,
            MessageState::Scheduled => 2,
        }
    }
}
