//! Everything the broker asks of its shell: answers to give, messages to deliver, rows to read.
//!
//! An effect says which commit it waits for. Releasing it earlier would promise what a crash can
//! take back.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_protocol::value::Str;
use peeklock_storage::{Batch, CommitPosition};

use crate::command::ReadRequest;
use crate::entity::access::AccessRule;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::id::{
    EntityId, LockToken, MessageSessionId, Origin, ReadId, ReceiverId, SequenceNumber,
    TransactionId,
};
use crate::message::StoredMessage;
use crate::time::{Span, Timestamp};
use crate::topic::command::TopicReply;

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
    /// Links to an entity have to go, whoever holds them: this is for all connections. The broker knows
    /// its receivers, and closes each by `ReceiverClosed`.
    EntityClosed {
        /// Which entity: a queue or one of its subqueues.
        entity: EntityId,
        /// Which links.
        scope: ClosedLinks,
        /// Why.
        error: Error,
    },
    /// Who may do what at an entity is different from now on.
    AccessChanged {
        /// Which entity.
        path: EntityPath,
        /// All its rules; none when it is gone.
        rules: Vec<AccessRule>,
    },
    /// Read rows, and hand them in as [`Command::ReadDone`](crate::command::Command::ReadDone).
    Read {
        /// Which read.
        read: ReadId,
        /// What to read.
        request: ReadRequest,
    },
}

/// Which links of an entity are meant, besides its receivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedLinks {
    /// Those that send to it.
    Senders,
    /// Those, and the links to and from its management node.
    All,
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
        /// The message session it holds, if it asked for one.
        session: Option<SessionLock>,
    },
    /// There is such a subscription.
    SubscriptionFound {
        /// Where it is.
        path: EntityPath,
        /// The JMS selector that says what it gets, if it does not get everything.
        selector: Option<Str>,
        /// Whether somebody receives from it, who only looks not counted.
        in_use: bool,
    },
    /// The entity is there.
    ManagementOpened {
        /// Its number.
        entity: EntityId,
        /// Octets a message may have that is to be scheduled.
        message_bytes_max: u64,
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
    /// About topics, subscriptions and rules.
    OfTopic(TopicReply),
    /// The queue is gone.
    QueueDeleted,
    /// What the queue is like and how it stands.
    QueueDescribed(Box<QueueDescription>),
    /// What the queues asked for are like, and how they stand.
    QueuesListed {
        /// In the order of their names.
        queues: Vec<QueueDescription>,
    },
    /// The session lock lasts longer.
    SessionRenewed {
        /// Until when.
        until: Timestamp,
    },
    /// The state is kept, or removed.
    SessionStateSet,
    /// The state of the session, if it has one.
    SessionState {
        /// The octets.
        state: Option<Bytes>,
    },
    /// The sessions asked for.
    Sessions {
        /// In their order.
        sessions: Vec<MessageSessionId>,
        /// How many to pass over to go on behind these.
        skip: u32,
    },
    /// The messages are kept until their time.
    Scheduled {
        /// Their numbers, in their order.
        sequences: Vec<SequenceNumber>,
    },
    /// The scheduled messages are gone.
    ScheduledCancelled,
    /// The deferred messages asked for, in the order of the question.
    DeferredReceived {
        /// The messages.
        deliveries: Vec<Delivery>,
    },
    /// Messages were removed.
    BatchDeleted {
        /// How many.
        count: u32,
    },
    /// The transaction is open.
    Declared {
        /// Its number.
        transaction: TransactionId,
    },
    /// The transaction is over, as wished.
    Discharged,
    /// It will be done when the transaction is committed.
    Enlisted,
}

/// What a queue is like and how it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueDescription {
    /// Its path, as it was created.
    pub path: EntityPath,
    /// How it behaves.
    pub settings: QueueSettings,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub accessed_at: Timestamp,
    /// How many messages of each kind there are.
    pub counts: Counts,
    /// Octets it holds, with its subqueues.
    pub bytes: u64,
}

/// Messages of a queue, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// To be delivered, locked, or deferred.
    pub active: u64,
    /// Of these, deferred.
    pub deferred: u64,
    /// In the dead-letter subqueue.
    pub dead_letter: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// On their way to another entity.
    pub transfer: u64,
    /// In the transfer dead-letter subqueue.
    pub transfer_dead_letter: u64,
}

/// A receiver's claim on a message session, with an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionLock {
    /// Which session.
    pub session: MessageSessionId,
    /// The first moment at which it is gone.
    pub until: Timestamp,
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
    /// The lock, unless the message is gone from the entity with this delivery, or the receiver only
    /// looks.
    pub lock: Option<MessageLock>,
    /// The application-properties section to send in place of the message's own.
    pub application_properties: Option<Bytes>,
    /// How it stood when it was delivered.
    pub state: MessageState,
    /// The entity whose dead letter it was, if it was forwarded from there.
    pub dead_letter_source: Option<Arc<str>>,
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
    /// The entity whose dead letter it was, if it was forwarded from there.
    pub dead_letter_source: Option<Arc<str>>,
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
