//! Everything that can have happened: the facts. A command that is not refused comes to a list of
//! these; memory and rows follow from them alone.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::ReceiveMode;
use crate::effect::MessageLock;
use crate::entity::counters::DeadLetterReason;
use crate::entity::kind::EntityKind;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, LockToken, MessageSessionId, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::receiver::Demand;
use crate::time::Timestamp;
use crate::topic::rules::Rule;

/// One fact.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// There is a new queue, topic or subscription, and its subqueues.
    QueueCreated {
        entity: EntityId,
        dead_letter: EntityId,
        transfer_dead_letter: EntityId,
        path: EntityPath,
        kind: EntityKind,
        settings: Box<QueueSettings>,
        at: Timestamp,
    },
    /// A queue and its subqueues are gone, with all they held.
    QueueDeleted {
        entity: EntityId,
        dead_letter: EntityId,
        transfer_dead_letter: EntityId,
        /// Whether they may have held anything, ever.
        was_used: bool,
    },
    /// A queue or subqueue behaves differently from now on.
    SettingsChanged { entity: EntityId, settings: Box<QueueSettings>, at: Timestamp },
    /// A queue holds a new message, at the end.
    Accepted {
        entity: EntityId,
        sequence: SequenceNumber,
        message: Arc<StoredMessage>,
        /// The section that replaces the message's own, if it was changed before it came here.
        application_properties: Option<Bytes>,
        /// The session it belongs to, where sessions matter.
        session: Option<MessageSessionId>,
    },
    /// A message took a number of a queue and went on at once, without being held there.
    Passed { entity: EntityId, sequence: SequenceNumber },
    /// A queue holds a new message that is not due yet. The message says when it is.
    Scheduled { entity: EntityId, sequence: SequenceNumber, message: Arc<StoredMessage> },
    /// A scheduled message is due, or not wanted any more. If it is due, it arrives with another fact.
    Unscheduled {
        entity: EntityId,
        sequence: SequenceNumber,
        due: Timestamp,
        size: u64,
        /// The session it belongs to, where sessions matter.
        session: Option<MessageSessionId>,
    },
    /// A message that was held is set aside until it is asked for by number.
    Deferred {
        entity: EntityId,
        sequence: SequenceNumber,
        message: Arc<StoredMessage>,
        /// The section that replaces the message's own from now on, if it was changed.
        application_properties: Option<Bytes>,
    },
    /// A client that asked for a deferred message holds it. Not written either.
    Fetched { entity: EntityId, sequence: SequenceNumber, lock: MessageLock },
    /// Message-ids that are taken in go into a new bucket from now on.
    BucketOpened { entity: EntityId, start: Timestamp },
    /// A queue took a message with this id in.
    Remembered { entity: EntityId, bucket: Timestamp, id: String, at: Timestamp },
    /// The ids in these buckets may come again.
    BucketsForgotten { entity: EntityId, first: Timestamp, last: Timestamp },
    /// A receiver holds a message. Not written: a crash frees all locks.
    Locked { entity: EntityId, sequence: SequenceNumber, lock: MessageLock },
    /// A lock lasts longer. Not written either.
    Renewed { entity: EntityId, token: LockToken, until: Timestamp },
    /// A lock became part of a transaction: only that may settle it. Not written either.
    Enlisted { entity: EntityId, token: LockToken },
    /// The transaction was rolled back.
    Withdrawn { entity: EntityId, token: LockToken },
    /// A locked message is free again.
    Returned {
        entity: EntityId,
        sequence: SequenceNumber,
        /// The new number of failed deliveries, if this was one.
        attempts: Option<u32>,
        /// The section that replaces the message's own from now on, if it was changed.
        application_properties: Option<Bytes>,
    },
    /// A message is gone: completed, or delivered to a receiver that wanted no lock.
    Removed { entity: EntityId, sequence: SequenceNumber },
    /// A message left for the dead-letter subqueue, where it keeps its number.
    DeadLettered {
        entity: EntityId,
        to: EntityId,
        sequence: SequenceNumber,
        attempts: u32,
        message: Arc<StoredMessage>,
        application_properties: Bytes,
        /// Why, as it is counted.
        reason: DeadLetterReason,
    },
    /// Something about topics.
    OfTopic(TopicChange),
    /// A message can no longer be read: its row is damaged, or not there.
    Lost { entity: EntityId, sequence: SequenceNumber, row_exists: bool },
    /// Something happened to a message session.
    OfSession { entity: EntityId, session: MessageSessionId, change: SessionChange },
}

/// What can have happened to a message session.
#[derive(Clone, Debug)]
pub(crate) enum SessionChange {
    /// A receiver holds it. Not written: a crash frees all locks.
    Locked {
        receiver: ReceiverId,
        mode: ReceiveMode,
        until: Timestamp,
        /// What it wanted while it waited.
        demand: Demand,
    },
    /// Its lock lasts longer. Not written either.
    Renewed { until: Timestamp },
    /// Nobody holds it any more, and what of it was locked is free again, uncounted.
    Released,
    /// It has another state, or none.
    StateSet {
        state: Option<Bytes>,
        /// Octets of the state before, if there was one.
        bytes_before: Option<u64>,
        at: Timestamp,
    },
}

impl SessionChange {
    /// Whether it leaves a trace in the rows.
    pub(crate) const fn is_written(&self) -> bool {
        match self {
            SessionChange::Locked { .. }
            | SessionChange::Renewed { .. }
            | SessionChange::Released => false,
            SessionChange::StateSet { .. } => true,
        }
    }
}

/// A fact about topics, subscriptions and rules.
#[derive(Clone, Debug)]
pub(crate) enum TopicChange {
    /// A rule is in force.
    RuleAdded { topic: EntityId, subscription: EntityId, rule: Box<Rule> },
    /// A rule is gone.
    RuleRemoved { topic: EntityId, subscription: EntityId, name: Arc<str> },
    /// Some subscriptions got a message as it is. The topic, which gave it its last number, keeps it
    /// for them, and they have the same number for it.
    Published {
        topic: EntityId,
        sequence: SequenceNumber,
        message: Arc<StoredMessage>,
        subscriptions: Vec<EntityId>,
    },
    /// Nobody holds a message any more that a topic kept.
    BodyGone { topic: EntityId, sequence: SequenceNumber, size: u64 },
    /// A subscription got a message that it could only bury. The message took the subscription's next
    /// number.
    Buried {
        subscription: EntityId,
        /// The dead-letter subqueue.
        to: EntityId,
        sequence: SequenceNumber,
        message: Arc<StoredMessage>,
        /// The application-properties section that says why.
        section: Bytes,
        /// Why, as it is counted.
        reason: DeadLetterReason,
    },
}
