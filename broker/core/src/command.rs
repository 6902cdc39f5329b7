//! Everything that can be asked of the broker.
//!
//! Commands come from peers by way of the shell, so any of them may come at any time: for a receiver
//! that is gone, with a token that was never drawn, twice. A refused command changes nothing.

use std::ops::Range;

use bytes::Bytes;
use peeklock_protocol::value::{Str, Value};
use peeklock_storage::{Key, StoreError, Table};
use smallvec::SmallVec;

use crate::entity::access::AccessRuleChange;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::filter::SqlFilter;
use crate::id::{
    EntityId, LockToken, MessageSessionId, Origin, ReadId, ReceiverId, SequenceNumber,
    TransactionId,
};
use crate::message::IncomingMessage;
use crate::time::{Span, Timestamp};
use crate::topic::command::TopicCommand;

/// What is asked, and by whom.
#[derive(Debug)]
pub enum Command {
    /// Creates a queue when it is missing, and changes its settings when they differ. Answered by
    /// [`Reply::QueueEnsured`](crate::effect::Reply::QueueEnsured) if somebody asked.
    EnsureQueue {
        /// Who asked, if an answer is wanted.
        origin: Option<Origin>,
        /// The queue's own path: no subqueue.
        path: EntityPath,
        /// What it should be like.
        settings: QueueSettings,
    },
    /// Creates a queue that is not there yet. Answered by
    /// [`Reply::QueueEnsured`](crate::effect::Reply::QueueEnsured).
    CreateQueue {
        /// Who asked.
        origin: Origin,
        /// The queue's own path: no subqueue.
        path: EntityPath,
        /// What it should be like.
        settings: QueueSettings,
    },
    /// Changes the settings of a queue. Answered by
    /// [`Reply::QueueEnsured`](crate::effect::Reply::QueueEnsured).
    UpdateQueue {
        /// Who asked.
        origin: Origin,
        /// The queue's own path.
        path: EntityPath,
        /// What it should be like from now on, but for its access rules.
        settings: QueueSettings,
        /// The access rules it should have; nothing to leave those alone that it has.
        access_rules: Option<Vec<AccessRuleChange>>,
    },
    /// Deletes a queue, its subqueues and all they hold. Answered by
    /// [`Reply::QueueDeleted`](crate::effect::Reply::QueueDeleted).
    DeleteQueue {
        /// Who asked.
        origin: Origin,
        /// The queue's own path.
        path: EntityPath,
    },
    /// Asks what a queue is like and how it stands. Answered by
    /// [`Reply::QueueDescribed`](crate::effect::Reply::QueueDescribed).
    DescribeQueue {
        /// Who asked.
        origin: Origin,
        /// The queue's own path.
        path: EntityPath,
    },
    /// Asks what queues are like, in the order of their names. Answered by
    /// [`Reply::QueuesListed`](crate::effect::Reply::QueuesListed).
    ListQueues {
        /// Who asked.
        origin: Origin,
        /// How many to pass over.
        skip: usize,
        /// How many at most.
        count_max: usize,
    },
    /// About topics, subscriptions and rules.
    OfTopic(Box<TopicCommand>),
    /// Asks whether and where messages may be sent.
    OpenSender {
        /// Who asked.
        origin: Origin,
        /// Where to.
        path: EntityPath,
    },
    /// Makes a receiver known. It gets nothing before its first [`Command::Demand`].
    OpenReceiver {
        /// Who asked.
        origin: Origin,
        /// The new receiver.
        receiver: ReceiverId,
        /// Where from.
        path: EntityPath,
        /// What becomes of a message that is delivered.
        mode: ReceiveMode,
        /// Which message session it wants to hold. Not answered before it holds one or the time it
        /// waits is over; [`Command::CloseReceiver`] withdraws it.
        session: Option<SessionRequest>,
    },
    /// The same for a receiver that wants only some of the messages; the others stay for others.
    OpenSelectingReceiver {
        /// Who asked.
        origin: Origin,
        /// The new receiver.
        receiver: ReceiverId,
        /// Where from. An entity with message sessions serves no such receiver.
        path: EntityPath,
        /// What becomes of a message that is delivered.
        mode: ReceiveMode,
        /// Which messages it wants.
        selector: Box<SqlFilter>,
    },
    /// The same for a receiver that only looks: it is shown every active message once, also those that
    /// are locked, and they stay as they are.
    OpenBrowser {
        /// Who asked.
        origin: Origin,
        /// The new receiver.
        receiver: ReceiverId,
        /// Where. An entity with message sessions serves no such receiver.
        path: EntityPath,
        /// Which messages it wants to see; nothing for all.
        selector: Option<Box<SqlFilter>>,
    },
    /// Makes a receiver known that is a JMS client's, which makes the subscription of a topic that it
    /// receives from, unless it is there.
    OpenSubscriber {
        /// Who asked.
        origin: Origin,
        /// The new receiver.
        receiver: ReceiverId,
        /// What the client named: a topic, or something else.
        path: EntityPath,
        /// What becomes of a message that is delivered.
        mode: ReceiveMode,
        /// Which messages the subscription gets.
        selector: Option<Box<SqlFilter>>,
        /// What it wants besides.
        wish: Box<SubscriberWish>,
    },
    /// Makes a queue or topic for a link, and opens it: the one that sends to it, or a receiver of the
    /// queue. Answered as [`Command::OpenSender`] or [`Command::OpenReceiver`] is. Who made it deletes
    /// it.
    OpenTemporary {
        /// Who asked.
        origin: Origin,
        /// By [`EntityPath::for_temporary`].
        path: EntityPath,
        /// Whether it is a topic.
        is_topic: bool,
        /// Who receives from the queue, and what becomes of a message that is delivered; nobody if
        /// the link sends.
        receiver: Option<(ReceiverId, ReceiveMode)>,
    },
    /// Looks for a durable subscription that a JMS client made, whatever its topic. Answered by
    /// [`Reply::SubscriptionFound`](crate::effect::Reply::SubscriptionFound).
    FindSubscription {
        /// Who asked.
        origin: Origin,
        /// The whole name of the subscription.
        name: Box<str>,
    },
    /// Asks for an entity to browse and to settle at, without receiving.
    OpenManagement {
        /// Who asked.
        origin: Origin,
        /// Of what.
        path: EntityPath,
    },
    /// Forgets a receiver. Its locks stay until they expire, so that clients that come back can
    /// still settle.
    CloseReceiver {
        /// Which.
        receiver: ReceiverId,
    },
    /// Takes messages in, all or none.
    Send {
        /// Who asked.
        origin: Origin,
        /// Where to.
        entity: EntityId,
        /// In their order.
        messages: SmallVec<[IncomingMessage; 1]>,
        /// With which transaction, if with one: they are kept when it is committed.
        transaction: Option<Enlistment>,
    },
    /// The same by the name of an entity that nobody has opened before.
    SendTo {
        /// Who asked.
        origin: Origin,
        /// Where to.
        path: EntityPath,
        /// In their order.
        messages: SmallVec<[IncomingMessage; 1]>,
        /// With which transaction, if with one.
        transaction: Option<Enlistment>,
    },
    /// Says how many deliveries a receiver may have been given since it was opened, ever. Counting
    /// from the start means that demand and deliveries cannot cross on the way. May shrink.
    Demand {
        /// Who.
        receiver: ReceiverId,
        /// The total.
        limit: u64,
    },
    /// The same, and to say so once there is nothing more to deliver now; demand then ends.
    Drain {
        /// Who.
        receiver: ReceiverId,
        /// The total.
        limit: u64,
    },
    /// Says how many octets of messages a receiver may have been given since it was opened, ever. The
    /// message that passes the number still comes, so that none is too large for everybody. A receiver
    /// that never says it may be given any number: its demand in deliveries is all there is.
    DemandBytes {
        /// Who.
        receiver: ReceiverId,
        /// The total.
        limit: u64,
    },
    /// Gives a message back that a receiver which only looks was shown and did not get: it is shown
    /// again.
    ReturnBrowsed {
        /// Who.
        receiver: ReceiverId,
        /// Which message.
        sequence: SequenceNumber,
    },
    /// Ends a message lock.
    Settle {
        /// Who wants to hear of it. With a transaction always somebody: it says whose that is.
        origin: Option<Origin>,
        /// Where the message is.
        entity: EntityId,
        /// The lock.
        token: LockToken,
        /// What to do.
        settlement: Settlement,
        /// With which transaction, if with one: it is done when that is committed.
        transaction: Option<Enlistment>,
    },
    /// Ends several message locks, all or none.
    UpdateDisposition {
        /// Who asked.
        origin: Origin,
        /// Where the messages are.
        entity: EntityId,
        /// The locks.
        tokens: Vec<LockToken>,
        /// What to do with each.
        settlement: Settlement,
        /// The session that must be held, if the client named one.
        session: Option<MessageSessionId>,
        /// With which transaction, if with one: it is done when that is committed.
        transaction: Option<TransactionId>,
    },
    /// Gives locks a full duration from now, all or none.
    RenewLocks {
        /// Who asked.
        origin: Origin,
        /// Where the messages are.
        entity: EntityId,
        /// The locks.
        tokens: Vec<LockToken>,
    },
    /// Looks at messages, locked or not, without touching them.
    Browse {
        /// Who asked.
        origin: Origin,
        /// Where.
        entity: EntityId,
        /// The lowest number of interest.
        from: SequenceNumber,
        /// How many at most.
        count_max: u32,
        /// How many octets at most; the first message always comes.
        bytes_max: usize,
        /// Only messages of this session.
        session: Option<MessageSessionId>,
    },
    /// Gives a session lock a full duration from now.
    RenewSessionLock {
        /// Who asked.
        origin: Origin,
        /// Where the session is.
        entity: EntityId,
        /// Which.
        session: MessageSessionId,
    },
    /// Sets or removes the state of a session that is held.
    SetSessionState {
        /// Who asked.
        origin: Origin,
        /// Where the session is.
        entity: EntityId,
        /// Which.
        session: MessageSessionId,
        /// What to keep; nothing to remove it.
        state: Option<Bytes>,
    },
    /// Asks for the state of a session that is held.
    GetSessionState {
        /// Who asked.
        origin: Origin,
        /// Where the session is.
        entity: EntityId,
        /// Which.
        session: MessageSessionId,
    },
    /// Lists sessions in the order of their ids.
    ListSessions {
        /// Who asked.
        origin: Origin,
        /// Where.
        entity: EntityId,
        /// Only sessions whose state was set after this; nothing for all that have messages or a
        /// state.
        updated_after: Option<Timestamp>,
        /// How many to pass over.
        skip: u32,
        /// How many at most.
        count_max: u32,
    },
    /// Takes messages in that are not to be delivered before their time, all or none.
    Schedule {
        /// Who asked.
        origin: Origin,
        /// Where to.
        entity: EntityId,
        /// In their order. Each names its own time; one that is over, or none, means now.
        messages: Vec<IncomingMessage>,
        /// With which transaction, if with one: the numbers are given out at once.
        transaction: Option<TransactionId>,
    },
    /// Removes scheduled messages, all or none.
    CancelScheduled {
        /// Who asked.
        origin: Origin,
        /// Where they are.
        entity: EntityId,
        /// Their numbers.
        sequences: Vec<SequenceNumber>,
    },
    /// Asks for deferred messages by number, all or none.
    ReceiveDeferred {
        /// Who asked.
        origin: Origin,
        /// Where they are.
        entity: EntityId,
        /// Their numbers.
        sequences: Vec<SequenceNumber>,
        /// What becomes of them.
        mode: ReceiveMode,
        /// The session they are in, which must be held.
        session: Option<MessageSessionId>,
    },
    /// Removes the oldest messages that nobody holds.
    DeleteBatch {
        /// Who asked.
        origin: Origin,
        /// Where.
        entity: EntityId,
        /// How many at most.
        count_max: u32,
        /// Only messages enqueued before this.
        before: Timestamp,
        /// Only messages of this session.
        session: Option<MessageSessionId>,
    },
    /// Opens a transaction. It ends with [`Command::Discharge`], with its time, or with the link
    /// that declared it.
    Declare {
        /// Who asked. The connection and link own the transaction.
        origin: Origin,
    },
    /// Ends a transaction: everything asked with it happens at once, or nothing.
    Discharge {
        /// Who asked.
        origin: Origin,
        /// Which.
        transaction: TransactionId,
        /// Whether to give it up.
        fail: bool,
    },
    /// Keeps a transaction from being committed: a part of it was refused before it came here, and its
    /// client takes no notice of that.
    Spoil {
        /// The connection.
        connection: u64,
        /// Which.
        transaction: TransactionId,
        /// What was said of the refusal.
        why: String,
    },
    /// Rolls back every transaction of a link that is gone.
    CloseCoordinator {
        /// The connection.
        connection: u64,
        /// The link that declared them.
        link: u64,
    },
    /// Finds out when the oldest message of an entity came, if its statistics do not say it. They do
    /// then. Is no use of the entity, and has no answer.
    FindOldest {
        /// Which.
        entity: EntityId,
    },
    /// The shell's answer to [`EffectKind::Read`](crate::effect::EffectKind::Read).
    ReadDone {
        /// Which read.
        read: ReadId,
        /// What it found.
        result: Result<ReadRows, StoreError>,
    },
    /// Does what is due by now.
    Tick,
}

impl Command {
    /// The entity whose messages it is about, where a client names that by its number.
    pub fn entity(&self) -> Option<EntityId> {
        match self {
            Self::Send { entity, .. }
            | Self::Settle { entity, .. }
            | Self::UpdateDisposition { entity, .. }
            | Self::RenewLocks { entity, .. }
            | Self::Browse { entity, .. }
            | Self::RenewSessionLock { entity, .. }
            | Self::SetSessionState { entity, .. }
            | Self::GetSessionState { entity, .. }
            | Self::ListSessions { entity, .. }
            | Self::Schedule { entity, .. }
            | Self::CancelScheduled { entity, .. }
            | Self::ReceiveDeferred { entity, .. }
            | Self::DeleteBatch { entity, .. } => Some(*entity),
            Self::CloseReceiver { .. }
            | Self::EnsureQueue { .. }
            | Self::OfTopic(_)
            | Self::CreateQueue { .. }
            | Self::UpdateQueue { .. }
            | Self::DeleteQueue { .. }
            | Self::DescribeQueue { .. }
            | Self::ListQueues { .. }
            | Self::OpenSender { .. }
            | Self::OpenReceiver { .. }
            | Self::OpenSelectingReceiver { .. }
            | Self::OpenBrowser { .. }
            | Self::OpenSubscriber { .. }
            | Self::OpenTemporary { .. }
            | Self::SendTo { .. }
            | Self::FindSubscription { .. }
            | Self::OpenManagement { .. }
            | Self::Demand { .. }
            | Self::Drain { .. }
            | Self::DemandBytes { .. }
            | Self::ReturnBrowsed { .. }
            | Self::Declare { .. }
            | Self::Discharge { .. }
            | Self::Spoil { .. }
            | Self::CloseCoordinator { .. }
            | Self::FindOldest { .. }
            | Self::ReadDone { .. }
            | Self::Tick => None,
        }
    }
}

/// What a JMS client wants of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriberWish {
    /// The subscription, by [`EntityPath::for_jms_subscription`].
    pub subscription: EntityPath,
    /// Whether it is for one receiver at a time.
    pub exclusive: bool,
    /// Whether the client may make and delete subscriptions of this topic.
    pub may_create: bool,
    /// Whether it may do so with those of any topic.
    pub may_create_anywhere: bool,
    /// Whether it wants nothing where there is no topic, instead of what other receivers get.
    pub topic_only: bool,
}

/// A part of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enlistment {
    /// Of which.
    pub transaction: TransactionId,
    /// Whether the client hears of a refusal, and decides for itself what that means for the rest.
    /// What it would not hear of has to keep the transaction from being committed. What it has settled
    /// itself it does not come back to either: a rollback frees that.
    pub answered: bool,
}

/// Which message session a receiver wants to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionRequest {
    /// This one, at once or not at all.
    Named(MessageSessionId),
    /// Any that has messages and is not held.
    NextAvailable {
        /// How long to wait for one.
        wait: Span,
    },
}

/// What becomes of a message when it is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiveMode {
    /// It is locked for the receiver until settled or expired.
    PeekLock,
    /// It is gone.
    ReceiveAndDelete,
}

/// What a client wants done with a message it has locked.
#[derive(Clone, PartialEq, Debug)]
pub enum Settlement {
    /// Remove it: the work is done.
    Complete,
    /// Put it back, counting a failed delivery.
    Abandon {
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Set it aside until it is asked for by number.
    Defer {
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Move it to the dead-letter subqueue.
    DeadLetter {
        /// Why, in a word.
        reason: Option<Str>,
        /// Why, in a sentence.
        description: Option<Str>,
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Put it back as if it had not been delivered.
    Release,
}

/// Application properties to set or overwrite, in order.
pub type PropertyChanges = Vec<(Str, Value)>;

/// Rows the shell is asked to read. It need not know what they mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRequest {
    /// Ranges, each at one time, in this order.
    pub scans: Vec<Scan>,
    /// Single rows.
    pub gets: Vec<(Table, Key)>,
}

/// One range to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Of which table.
    pub table: Table,
    /// From the start, up to and without the end.
    pub range: Range<Key>,
    /// How many rows at most.
    pub rows_max: usize,
    /// How many octets of keys and values, counted as [`peeklock_storage::Store::scan`] does.
    pub bytes_max: usize,
}

/// What was found, in the order it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRows {
    /// A list of rows for each scan.
    pub scans: Vec<Vec<(Key, Bytes)>>,
    /// A row, if there, for each get.
    pub gets: Vec<Option<Bytes>>,
}
