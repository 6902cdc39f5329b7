//! Numbers for dashboards and tests. The core keeps plain counters; what becomes of them is the
//! shell's.

use std::ops::Range;

use super::Broker;
use crate::entity::kind::EntityKind;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, SequenceNumber};
use crate::time::Timestamp;
use crate::topic::rules::Rule;

/// What happened since the process began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages taken in.
    pub accepted: u64,
    /// Deliveries made.
    pub delivered: u64,
    /// Messages removed because a receiver was done with them, or had wanted no lock.
    pub completed: u64,
    /// Deliveries given up by their receivers.
    pub abandoned: u64,
    /// Messages set aside by those who held them.
    pub deferred: u64,
    /// Deliveries given back uncounted.
    pub released: u64,
    /// Locks that ran out.
    pub locks_expired: u64,
    /// Messages moved to a dead-letter subqueue.
    pub dead_lettered: u64,
    /// Messages dropped because they were there before.
    pub duplicates: u64,
    /// Transactions that were committed.
    pub transactions_committed: u64,
    /// Transactions that were rolled back, whoever wanted it.
    pub transactions_rolled_back: u64,
    /// Copies that subscriptions got of messages, dead ones included.
    pub copied: u64,
    /// Messages of topics that nobody held any more, found by looking for them.
    pub swept: u64,
    /// Messages passed on from where they were held.
    pub forwarded: u64,
    /// Messages that went on at once, without being held; a message counts for each step.
    pub forwarded_at_once: u64,
    /// Messages that were of no use any more.
    pub expired: u64,
    /// Messages removed many at a time, because somebody asked for that.
    pub batch_deleted: u64,
    /// Scheduled messages that became active.
    pub activated: u64,
    /// Pages asked of the store.
    pub pages_read: u64,
    /// Messages whose rows could not be read. Anything but zero means a damaged store.
    pub damaged: u64,
}

/// How a queue stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueStats {
    /// Its path.
    pub path: EntityPath,
    /// Messages to be delivered, or locked. What is deferred is counted apart.
    pub active_count: u64,
    /// Messages set aside.
    pub deferred_count: u64,
    /// Messages not due yet.
    pub scheduled_count: u64,
    /// Messages in its dead-letter subqueue.
    pub dead_letter_count: u64,
    /// Messages in its transfer dead-letter subqueue.
    pub transfer_dead_letter_count: u64,
    /// Octets of all of them.
    pub bytes: u64,
    /// Messages locked now.
    pub locked_count: u64,
    /// Messages of it in memory, with or without their bodies.
    pub resident_count: u64,
    /// Receivers it serves.
    pub receiver_count: u64,
}

/// What survives a crash, for comparing: a broker loaded from the rows has the same.
#[derive(Clone, PartialEq, Debug)]
pub struct DurableState {
    /// What the next entity gets.
    pub next_entity: EntityId,
    /// All entities, by id.
    pub entities: Vec<DurableEntity>,
    /// The rules of all subscriptions, by id and name.
    pub rules: Vec<(EntityId, Rule)>,
}

/// What survives of one entity. Its messages are rows, and compared as such.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DurableEntity {
    /// Its number.
    pub entity: EntityId,
    /// Its path.
    pub path: EntityPath,
    /// What it is.
    pub kind: EntityKind,
    /// How it behaves.
    pub settings: QueueSettings,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
    /// When it was last used, as its row says.
    pub accessed_at: Timestamp,
    /// What its next message gets.
    pub next_sequence: SequenceNumber,
    /// How many messages it has to deliver.
    pub count: u64,
    /// How many are set aside.
    pub deferred_count: u64,
    /// How many are not due yet.
    pub scheduled_count: u64,
    /// How many of those to deliver expire.
    pub expiring_count: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Octets of those that are in the rows of its topic.
    pub shared_bytes: u64,
    /// Of a topic: numbers among which there may be messages that nobody holds.
    pub stale: Vec<Range<SequenceNumber>>,
    /// Which buckets of message-ids it has, behind the moment before which all are forgotten.
    pub id_buckets: Vec<Timestamp>,
}

impl Broker {
    /// What happened since the process began.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Octets of memory that messages and their bookkeeping take, by our own reckoning.
    pub fn resident_bytes(&self) -> usize {
        self.memory + self.shared_memory.bytes()
    }

    /// How all queues stand, but for the probe.
    pub fn queue_stats(&self) -> impl Iterator<Item = QueueStats> {
        self.queues.iter().flatten().filter_map(|queue| {
            queue.definition.dead_letter.filter(|_| !queue.definition.path.is_probe())?;
            let entities = queue.entities();
            let counts = self.counts(entities).ok()?;
            Some(QueueStats {
                path: queue.definition.path.clone(),
                active_count: queue.count(),
                deferred_count: counts.deferred,
                scheduled_count: counts.scheduled,
                dead_letter_count: counts.dead_letter,
                transfer_dead_letter_count: counts.transfer_dead_letter,
                bytes: self.held_bytes(entities).ok()?,
                locked_count: queue.locks.len() as u64,
                resident_count: queue.resident_count() as u64,
                receiver_count: queue.receiver_count() as u64,
            })
        })
    }

    /// What would survive a crash, once everything handed out so far is durable.
    pub fn durable_state(&self) -> DurableState {
        let entities = self.queues.iter().flatten().map(|queue| DurableEntity {
            entity: queue.id(),
            path: queue.definition.path.clone(),
            kind: queue.definition.kind,
            settings: queue.settings().clone(),
            created_at: queue.definition.created_at,
            updated_at: queue.definition.updated_at,
            accessed_at: queue.noted_at,
            next_sequence: queue.next_sequence(),
            count: queue.count(),
            deferred_count: queue.deferred_count(),
            scheduled_count: queue.scheduled_count(),
            expiring_count: queue.numbers().expiring_count,
            bytes: queue.bytes(),
            shared_bytes: queue.shared_bytes(),
            stale: self
                .topics
                .get(queue.id())
                .map_or_else(Vec::new, |topic| topic.bodies.stale().collect()),
            id_buckets: queue.duplicates.as_ref().map_or_else(Vec::new, |duplicates| {
                std::iter::once(duplicates.floor()).chain(duplicates.starts()).collect()
            }),
        });
        DurableState {
            next_entity: EntityId(u32::try_from(self.queues.len()).unwrap_or(u32::MAX)),
            entities: entities.collect(),
            rules: self.all_rules(),
        }
    }
}
