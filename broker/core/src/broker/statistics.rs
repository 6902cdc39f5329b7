//! How each entity stands and what happened there, for those who watch the broker: a page of entities at
//! a time, so that nobody waits long for a look at thousands.

use super::look::Viewer;
use super::{Broker, queue_mut};
use crate::entity::counters::{DeadLetterReason, EntityCounters};
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::EntityPath;
use crate::id::{EntityId, SequenceNumber};
use crate::queue::browsers::View;
use crate::queue::oldest::OldestMessage;

/// How a queue, topic or subscription stands, with its subqueues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityStatistics {
    /// Its number, which no other entity of this broker ever gets.
    pub entity: EntityId,
    /// Its path.
    pub path: EntityPath,
    /// What it is.
    pub kind: EntityKind,
    /// Whether all its messages are in sessions.
    pub requires_session: bool,
    /// Whether its messages or its dead letters go on by themselves.
    pub forwards: bool,
    /// Messages to be delivered, or locked.
    pub active: u64,
    /// Messages not due yet.
    pub scheduled: u64,
    /// Messages set aside, those among them that are locked included.
    pub deferred: u64,
    /// Messages in its dead-letter subqueue.
    pub dead_letter: u64,
    /// Messages on the way to another entity. There are none: what is passed on leaves the one and reaches
    /// the other at once.
    pub transfer: u64,
    /// Messages in its transfer dead-letter subqueue.
    pub transfer_dead_letter: u64,
    /// Octets of all of these; of a topic, with what its subscriptions hold.
    pub bytes: u64,
    /// Messages locked now, not counting those in subqueues.
    pub locked: u64,
    /// The oldest of the active messages.
    pub oldest: OldestMessage,
    /// Message sessions in memory: all that are held, and those with messages as far as there is room.
    pub sessions: u64,
    /// Message sessions held by receivers.
    pub locked_sessions: u64,
    /// Receivers it serves, or lets wait for a session; not those of its subqueues.
    pub receivers: u64,
    /// Deliveries that these want and have not got yet.
    pub demand: u64,
    /// What happened. With what left its subqueues by itself, but without what clients did there.
    pub counters: EntityCounters,
}

impl EntityStatistics {
    /// All messages, wherever they stand.
    pub const fn messages(&self) -> u64 {
        self.active
            + self.scheduled
            + self.deferred
            + self.dead_letter
            + self.transfer
            + self.transfer_dead_letter
    }
}

impl Broker {
    /// How the next entities behind a path stand, in the order of their paths, and no more than so many;
    /// fewer only at the end. The probe is none of them.
    /// Takes about the same time for each entity, whatever it holds, but for those with many receivers.
    pub fn entity_statistics(
        &self,
        after: Option<&EntityPath>,
        count_max: usize,
    ) -> Vec<EntityStatistics> {
        let behind = self.namespace.behind(after);
        behind.filter_map(|entities| self.statistics_of(entities)).take(count_max).collect()
    }

    fn statistics_of(&self, entities: QueueEntities) -> Option<EntityStatistics> {
        let queue = self.queue(entities.main).ok().filter(|one| !one.definition.path.is_probe())?;
        let counts = self.counts(entities).ok()?;
        let mut counters = queue.tally;
        for subqueue in [entities.dead_letter, entities.transfer_dead_letter] {
            counters.add_moves_of(&self.queue(subqueue).ok()?.tally);
        }
        let settings = queue.settings();
        let sessions = queue.sessions.as_deref();
        Some(EntityStatistics {
            entity: entities.main,
            path: queue.definition.path.clone(),
            kind: queue.definition.kind,
            requires_session: sessions.is_some(),
            forwards: settings.forward_to.is_some() || settings.forward_dead_letters_to.is_some(),
            active: queue.count(),
            scheduled: counts.scheduled,
            deferred: counts.deferred,
            dead_letter: counts.dead_letter,
            transfer: counts.transfer,
            transfer_dead_letter: counts.transfer_dead_letter,
            bytes: self.held_bytes(entities).ok()?,
            locked: queue.locks.len() as u64,
            oldest: queue.oldest_message(),
            sessions: sessions.map_or(0, |sessions| sessions.known_count() as u64),
            locked_sessions: sessions.map_or(0, |sessions| sessions.held_count() as u64),
            receivers: queue.receiver_count() as u64,
            demand: queue.demand_left(),
            counters,
        })
    }

    /// Counts something that happened at an entity.
    pub(super) fn tally(&mut self, entity: EntityId, count: impl FnOnce(&mut EntityCounters)) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            count(&mut queue.tally);
        }
    }

    /// Counts a message that has become a dead letter: the only way to become one is a fact, so none is
    /// left out.
    pub(super) fn count_dead_letter(&mut self, entity: EntityId, reason: DeadLetterReason) {
        self.counters.dead_lettered += 1;
        self.tally(entity, |tally| tally.dead_letter(reason));
    }

    /// Counts a message that left because it was of no use any more.
    pub(super) fn count_expired(&mut self, entity: EntityId) {
        self.counters.expired += 1;
        self.tally(entity, |tally| tally.expired += 1);
    }

    /// Counts a delivery. Without a lock it is the end of the message.
    pub(super) fn count_delivery(&mut self, entity: EntityId, is_end: bool) {
        self.counters.delivered += 1;
        self.counters.completed += u64::from(is_end);
        self.tally(entity, |tally| {
            tally.outgoing += 1;
            tally.completed += u64::from(is_end);
        });
    }

    /// Counts a lock of a message that ran out.
    pub(super) fn count_lost_lock(&mut self, entity: EntityId) {
        self.counters.locks_expired += 1;
        self.tally(entity, |tally| tally.lost_locks += 1);
    }

    /// Counts a message that one entity passes on and another takes.
    pub(super) fn count_forwarded(&mut self, from: EntityId, to: EntityId) {
        self.tally(from, |tally| tally.forwarded += 1);
        self.tally(to, |tally| tally.incoming += 1);
    }

    /// Finds out when the oldest message of an entity came, if only the store knows that. It is seen in
    /// the statistics then. Nobody waits for it, so it is left when the store has much to do.
    pub(super) fn find_oldest(&mut self, entity: EntityId) {
        if self.may_read_for_client().is_err() {
            return;
        }
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let from = queue.head();
        if queue.begin_oldest_look() {
            self.look_for_oldest(entity, from);
        }
    }

    /// A message and as many rows about others as there may be before it: of those that are set aside.
    fn look_for_oldest(&mut self, entity: EntityId, from: SequenceNumber) {
        let rows_max = self.settings.page_rows_max;
        self.browse_active(Viewer::Watch { entity, from }, entity, from, rows_max, 1);
    }

    /// What was found from a number on.
    pub(super) fn oldest_found(
        &mut self,
        entity: EntityId,
        from: SequenceNumber,
        view: Option<View>,
    ) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if let Some(View { messages, end }) = &view
            && messages.is_empty()
            && (from..queue.next_sequence()).contains(end)
            && from != *end
        {
            return self.look_for_oldest(entity, *end);
        }
        let first = view.and_then(|view| view.messages.into_iter().next());
        queue.end_oldest_look(first.map(|first| (first.sequence, first.message.enqueued_at())));
    }
}

/// What [`crate::invariant`] asks.
impl Broker {
    /// What happened at entities, those included that are gone, is what happened in all.
    pub(crate) fn check_tallies(&self) -> Result<(), String> {
        let mut sum = self.tally_of_gone;
        for queue in self.queues.iter().flatten() {
            sum += &queue.tally;
        }
        let all = self.counters;
        let pairs = [
            ("incoming", sum.incoming, all.accepted + all.copied + sum.forwarded),
            ("outgoing", sum.outgoing, all.delivered),
            ("completed", sum.completed, all.completed),
            ("abandoned", sum.abandoned, all.abandoned),
            ("deferred", sum.deferred, all.deferred),
            ("expired", sum.expired, all.expired),
            ("duplicates", sum.duplicates, all.duplicates),
            ("lost locks", sum.lost_locks, all.locks_expired),
            ("forwarded", sum.forwarded, all.forwarded + all.forwarded_at_once),
            ("dead-lettered", sum.all_dead_lettered(), all.dead_lettered),
        ];
        match pairs.into_iter().find(|(_, of_entities, in_all)| of_entities != in_all) {
            Some((what, of_entities, in_all)) => {
                Err(format!("{what}: {of_entities} at entities, {in_all} in all"))
            }
            None => Ok(()),
        }
    }
}
