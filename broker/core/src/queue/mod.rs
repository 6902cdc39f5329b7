//! A queue: which messages it holds, where each of them stands, who waits for them.
//!
//! `decide_*` read and may refuse; [`Queue::apply`] takes facts and cannot fail. A subqueue is a queue
//! like any other, but for having no dead-letter subqueue of its own.
//!
//! What is here is memory only. Rows are [`crate::rows`]'s; which entity is touched, effects and
//! time belong to the broker (`crate::broker`).

mod apply;
pub(crate) mod browsers;
pub(crate) mod charge;
mod check;
mod decide;
mod definition;
pub(crate) mod duplicates;
mod expiry;
pub(crate) mod lock;
pub(crate) mod oldest;
pub(crate) mod paging;
mod ready;
pub(crate) mod receiver;
pub(crate) mod runs;
mod seat;
pub(crate) mod selecting;
pub(crate) mod sessions;
mod shelf;
mod standing;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod timers;
mod watch;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::CommitPosition;

use self::browsers::Browsers;
use self::charge::Memory;
pub(crate) use self::decide::{DESCRIPTION_KEY, Decision, REASON_KEY};
pub(crate) use self::definition::{Definition, Numbers};
use self::duplicates::Duplicates;
pub(crate) use self::expiry::Whereabouts;
use self::lock::{Held, LockTable};
use self::oldest::Oldest;
use self::ready::ReadyOrder;
use self::receiver::Receivers;
use self::runs::Runs;
use self::selecting::Selecting;
pub(crate) use self::sessions::IndexChange;
use self::sessions::Sessions;
pub(crate) use self::shelf::Shelf;
pub(crate) use self::standing::{Body, Entry, Standing, Traces};
use self::timers::Timers;
use self::watch::Watch;
use self::window::Window;
pub(crate) use self::window::{Room, Zone};
use crate::entity::counters::EntityCounters;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, LockToken, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::time::Timestamp;

/// A queue or dead-letter subqueue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) definition: Definition,
    next_sequence: SequenceNumber,
    count: u64,
    deferred_count: u64,
    scheduled_count: u64,
    expiring_count: u64,
    bytes: u64,
    /// Octets of messages in the rows of its topic.
    shared_bytes: u64,
    /// When it was last used.
    pub(crate) accessed_at: Timestamp,
    /// When it was last used, as its row will say.
    pub(crate) noted_at: Timestamp,
    /// When it was last used since the broker was started.
    pub(crate) idle_since: Option<Timestamp>,
    entries: BTreeMap<SequenceNumber, Entry>,
    /// Messages in memory that are not in the order of delivery.
    apart: BTreeMap<SequenceNumber, Entry>,
    ready: ReadyOrder,
    doomed: BTreeSet<SequenceNumber>,
    pub(crate) locks: LockTable,
    pub(crate) receivers: Receivers,
    /// Who receives from it and will have nobody beside it.
    pub(crate) sole_receiver: Option<ReceiverId>,
    /// Receivers that only look.
    pub(crate) browsers: Browsers,
    /// What receivers with selectors have looked at.
    pub(crate) selecting: Selecting,
    pub(crate) window: Window,
    /// When messages expire.
    pub(crate) expiries: Timers,
    /// When scheduled messages become active.
    pub(crate) activations: Timers,
    /// The message-ids it has seen, if it is to drop duplicates.
    pub(crate) duplicates: Option<Duplicates>,
    /// Messages that are being read by number.
    pub(crate) watch: Watch,
    /// The message sessions, if all messages belong to one.
    pub(crate) sessions: Option<Box<Sessions>>,
    /// Octets that `entries` and `apart` take.
    memory: Memory,
    /// The topic, if it is a subscription and not a subqueue of one.
    topic: Option<EntityId>,
    /// Which of the topic's messages it holds.
    runs: Runs,
    /// When somebody looks for messages of this topic that nobody holds.
    pub(crate) sweep_at: Option<Timestamp>,
    /// Octets of the messages in the ready order.
    ready_bytes: u64,
    /// Passing messages on goes on then.
    pub(crate) forward_at: Option<Timestamp>,
    /// Giving out goes on then: so much had expired that others were to get their turn.
    pub(crate) go_on_at: Option<Timestamp>,
    /// Whether it waits to be told which messages are duplicates.
    pub(crate) forward_waits: bool,
    /// What happened here.
    pub(crate) tally: EntityCounters,
    oldest: Oldest,
    /// When the broker has planned to look at this queue's deadlines.
    pub(crate) wake_at: Option<Timestamp>,
    /// Whether the entity row is to be written this turn.
    pub(crate) dirty: bool,
}

/// What the queue would give to the next receiver.
pub(crate) enum Offer {
    /// Nothing that is in memory.
    Nothing,
    /// This one, but its body has to be read first.
    BodyMissing,
    /// This one.
    Message(SequenceNumber),
}

impl Queue {
    pub(crate) fn new(definition: Definition) -> Self {
        let numbers = Numbers::new(definition.created_at);
        let idle_since = Some(definition.created_at);
        Queue { idle_since, ..Queue::load(definition, numbers) }
    }

    /// A queue whose messages are all on disk.
    pub(crate) fn load(definition: Definition, numbers: Numbers) -> Self {
        // Dead letters have left their sessions.
        let sessions = (definition.settings.requires_session && definition.dead_letter.is_some())
            .then(|| Box::new(Sessions::new(numbers.head, numbers.count != 0)));
        let on_disk = (numbers.count != 0 && sessions.is_none())
            .then_some(numbers.head..numbers.next_sequence);
        let window = definition.dead_letter.and(definition.settings.duplicate_window);
        let topic = match definition.kind {
            EntityKind::Subscription { topic } => definition.dead_letter.and(Some(topic)),
            EntityKind::Queue | EntityKind::Topic => None,
        };
        Queue {
            definition,
            next_sequence: numbers.next_sequence,
            count: numbers.count,
            deferred_count: numbers.deferred_count,
            scheduled_count: numbers.scheduled_count,
            expiring_count: numbers.expiring_count,
            bytes: numbers.bytes,
            shared_bytes: numbers.shared_bytes,
            accessed_at: numbers.accessed_at,
            noted_at: numbers.accessed_at,
            idle_since: None,
            entries: BTreeMap::new(),
            apart: BTreeMap::new(),
            ready: ReadyOrder::default(),
            doomed: BTreeSet::new(),
            locks: LockTable::default(),
            receivers: Receivers::default(),
            sole_receiver: None,
            browsers: Browsers::default(),
            selecting: Selecting::default(),
            window: Window::new(on_disk),
            expiries: Timers::load(numbers.expiring_count),
            activations: Timers::load(numbers.scheduled_count),
            duplicates: window.map(Duplicates::new),
            watch: Watch::default(),
            sessions,
            memory: Memory::default(),
            topic,
            runs: Runs::default(),
            sweep_at: None,
            ready_bytes: 0,
            forward_at: None,
            go_on_at: None,
            forward_waits: false,
            tally: EntityCounters::default(),
            oldest: Oldest::default(),
            wake_at: None,
            dirty: false,
        }
    }

    pub(crate) const fn id(&self) -> EntityId {
        self.definition.entity
    }

    /// It and its subqueues. Only for a queue's own entity.
    pub(crate) fn entities(&self) -> QueueEntities {
        let Definition { entity, dead_letter, transfer_dead_letter, .. } = self.definition;
        let subqueues = dead_letter.zip(transfer_dead_letter);
        let (dead_letter, transfer_dead_letter) = subqueues.expect("a queue has subqueues");
        QueueEntities { main: entity, dead_letter, transfer_dead_letter }
    }

    /// Whether there may ever have been rows of messages or sessions. What is in a subqueue has a
    /// number of the queue.
    pub(crate) fn was_used(&self) -> bool {
        self.next_sequence != SequenceNumber::FIRST || self.sessions.is_some()
    }

    /// Whether it is a topic, which holds no messages but those that are not due yet.
    pub(crate) fn is_topic(&self) -> bool {
        self.is_of_topic() && self.definition.path.subqueue() == Subqueue::Main
    }

    /// Whether it is a topic or a subqueue of one.
    pub(crate) fn is_of_topic(&self) -> bool {
        self.definition.kind == EntityKind::Topic
    }

    /// Whether it is a queue whose messages go on by themselves.
    pub(crate) fn forwards_messages(&self) -> bool {
        self.settings().forward_to.is_some() && self.definition.path.subqueue() == Subqueue::Main
    }

    /// Where its messages go on to by themselves.
    pub(crate) fn forwards_to(&self) -> Option<&EntityPath> {
        match self.definition.path.subqueue() {
            Subqueue::Main => self.settings().forward_to.as_ref(),
            Subqueue::DeadLetter => self.settings().forward_dead_letters_to.as_ref(),
            Subqueue::TransferDeadLetter => None,
        }
    }

    /// Whether they do so now.
    pub(crate) fn passes_on(&self) -> bool {
        self.forwards_to().is_some() && self.settings().status.gives_messages()
    }

    /// Whether there is somewhere for all its messages to go: somebody waits, or they are passed on.
    pub(crate) fn is_wanted(&mut self) -> bool {
        self.receivers.any_waiting() || self.passes_on()
    }

    pub(crate) const fn settings(&self) -> &QueueSettings {
        &self.definition.settings
    }

    pub(crate) const fn next_sequence(&self) -> SequenceNumber {
        self.next_sequence
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Octets of the messages it has rows of its own for.
    pub(crate) const fn own_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.shared_bytes)
    }

    pub(crate) const fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// A topic keeps so much more, or less, for its subscriptions.
    pub(crate) const fn keep_bytes(&mut self, more: u64, less: u64) {
        self.bytes = (self.bytes + more).saturating_sub(less);
    }

    /// Gives no number any more below this one. Says whether that is new.
    pub(crate) fn skip_to(&mut self, next: SequenceNumber) -> bool {
        let is_new = self.next_sequence < next;
        self.next_sequence = self.next_sequence.max(next);
        is_new
    }

    pub(crate) const fn deferred_count(&self) -> u64 {
        self.deferred_count
    }

    pub(crate) const fn scheduled_count(&self) -> u64 {
        self.scheduled_count
    }

    /// Receivers it serves, or lets wait for a session.
    pub(crate) fn receiver_count(&self) -> usize {
        let with_sessions = self.sessions.as_ref().map_or(0, |known| known.receiver_count());
        self.receivers.len() + self.browsers.len() + with_sessions
    }

    /// The same without those that only look.
    pub(crate) fn consumer_count(&self) -> usize {
        self.receiver_count() - self.browsers.len()
    }

    /// Deliveries that they want and have not got yet. Who only looks is not asked.
    pub(crate) fn demand_left(&self) -> u64 {
        let with_sessions = self.sessions.as_ref().map_or(0, |known| known.demand_left());
        self.receivers.demand_left().saturating_add(with_sessions)
    }

    /// Messages in memory, with or without their bodies.
    pub(crate) fn resident_count(&self) -> usize {
        self.entries.len()
    }

    /// Octets of memory the messages take, but for what others keep too.
    pub(crate) fn memory(&self) -> usize {
        self.memory.own + self.sessions.as_ref().map_or(0, |sessions| sessions.memory())
    }

    /// The shared bodies it keeps in memory: what tells them apart, and their octets.
    pub(crate) fn charges(&self) -> impl Iterator<Item = (usize, usize)> {
        let entries = self.entries.values().chain(self.apart.values());
        let charges = entries.filter_map(|entry| entry.body.as_ref()?.charge.as_ref());
        charges.map(|charge| (Arc::as_ptr(charge).addr(), charge.bytes()))
    }

    /// Messages that only the store holds.
    pub(crate) fn on_disk_count(&self) -> u64 {
        self.count - self.resident_active()
    }

    /// Messages in memory that are to be delivered, or locked.
    fn resident_active(&self) -> u64 {
        (self.entries.len() + self.selecting.taken.len()) as u64
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            next_sequence: self.next_sequence,
            head: self.head(),
            count: self.count,
            deferred_count: self.deferred_count,
            scheduled_count: self.scheduled_count,
            expiring_count: self.expiring_count,
            bytes: self.bytes,
            shared_bytes: self.shared_bytes,
            accessed_at: self.accessed_at,
        }
    }

    /// No message has a lower number.
    pub(crate) fn head(&self) -> SequenceNumber {
        if let Some(sessions) = &self.sessions {
            return sessions.head();
        }
        let lowest = self.entries.first_key_value().map(|(sequence, _)| *sequence);
        let lowest = match (lowest, self.selecting.taken.first().copied()) {
            (Some(lowest), Some(taken)) => Some(lowest.min(taken)),
            (lowest, taken) => lowest.or(taken),
        };
        let on_disk = self.window.on_disk().map(|range| range.start);
        match (lowest, on_disk) {
            (Some(lowest), Some(on_disk)) => lowest.min(on_disk),
            (lowest, on_disk) => lowest.or(on_disk).unwrap_or(self.next_sequence),
        }
    }

    pub(crate) fn entry(&self, sequence: SequenceNumber) -> Option<&Entry> {
        self.entries.get(&sequence).or_else(|| self.apart.get(&sequence))
    }

    fn entry_mut(&mut self, sequence: SequenceNumber) -> Option<&mut Entry> {
        self.entries.get_mut(&sequence).or_else(|| self.apart.get_mut(&sequence))
    }

    /// A message that is known to be in memory.
    fn kept(&self, sequence: SequenceNumber) -> &Entry {
        self.entry(sequence).expect("the message is in memory")
    }

    pub(crate) fn entries_from(
        &self,
        from: SequenceNumber,
    ) -> impl Iterator<Item = (SequenceNumber, &Entry)> {
        self.entries.range(from..).map(|(sequence, entry)| (*sequence, entry))
    }

    /// Those of the messages in memory that lie in one order with what [`Queue::readable`] says.
    pub(crate) fn entries_in_order(
        &self,
        from: SequenceNumber,
    ) -> impl Iterator<Item = (SequenceNumber, &Entry)> {
        self.entries_from(from).take_while(|_| self.sessions.is_none())
    }

    /// The numbers whose messages have to be read to look at all. With sessions that is all of them:
    /// what is in memory is a bit of this session and a bit of that.
    pub(crate) fn readable(&self) -> Option<Range<SequenceNumber>> {
        let all = || (self.count != 0).then(|| self.head()..self.next_sequence);
        if self.sessions.is_some() { all() } else { self.on_disk() }
    }

    /// A message that has to leave and can, because its body is in memory.
    pub(crate) fn next_doomed(&self) -> Option<SequenceNumber> {
        let has_body = |sequence: &SequenceNumber| self.kept(*sequence).body.is_some();
        self.doomed.iter().copied().find(has_body)
    }

    pub(crate) fn offer(&self) -> Offer {
        match self.ready.first() {
            None => Offer::Nothing,
            Some(sequence) if self.entries[&sequence].body.is_none() => Offer::BodyMissing,
            Some(sequence) => Offer::Message(sequence),
        }
    }

    /// The messages that are next, as far as their bodies are in memory.
    pub(crate) fn next_bodies(&self, count_max: usize) -> impl Iterator<Item = &StoredMessage> {
        let next = self.ready.iter().take(count_max);
        next.filter_map(|sequence| Some(&*self.entries[&sequence].body.as_ref()?.message))
    }

    /// The numbers whose messages only the store holds.
    pub(crate) fn on_disk(&self) -> Option<Range<SequenceNumber>> {
        self.window.on_disk().cloned()
    }
}

/// What a delivery needs, taken in one look.
pub(crate) struct Content {
    pub(crate) message: Arc<StoredMessage>,
    pub(crate) application_properties: Option<Bytes>,
    pub(crate) attempts: u32,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) visible_after: CommitPosition,
}

impl Queue {
    /// A message whose body is in memory.
    pub(crate) fn content(&self, sequence: SequenceNumber) -> Option<Content> {
        let entry = self.entries.get(&sequence)?;
        let body = entry.body.as_ref()?;
        Some(Content {
            message: Arc::clone(&body.message),
            application_properties: body.application_properties.clone(),
            attempts: entry.attempts,
            expires_at: entry.traces.expires_at,
            visible_after: entry.visible_after,
        })
    }

    /// The lock a token names, if it is in force.
    pub(crate) fn lock_in_force(&self, now: Timestamp, token: LockToken) -> Option<Held> {
        // The timer may not have fired yet. The lock is gone all the same.
        self.locks.held(token).filter(|held| now < self.end_of(held))
    }

    /// When a lock ends: by itself, or with the lock of its session.
    fn end_of(&self, held: &Held) -> Timestamp {
        let session = || self.entry(held.sequence)?.session;
        match &self.sessions {
            None => held.until,
            Some(sessions) => session().map_or(held.until, |slot| sessions.until(slot)),
        }
    }
}
