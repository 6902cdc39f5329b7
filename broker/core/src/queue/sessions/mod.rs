//! The message sessions of a queue: which have something to deliver, who holds which, who waits.
//!
//! Messages of a session queue lie in the rows as those of any other, with an index row each. Memory
//! holds a record a session, as far as it matters now: held sessions, and as many of the others as
//! there is room for. A session without a record has no messages, unless `incomplete` is set: then
//! the index is swept for such sessions, a page at a time, when somebody waits for one.
//!
//! What a record knows of the store is one number, [`Record::disk_from`]: below it every message of
//! the session is in memory. What happens to records is written down in `changed`, and looked at
//! when the queue gives out messages, so that the listing is put right once and not at every step.

mod directory;
pub(crate) mod paging;
mod record;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peeklock_storage::CommitPosition;

use self::directory::Sweep;
pub(crate) use self::record::{Holder, KnownState, Record};
pub(crate) use self::waiting::{WaitId, Waiter, Waiting};
use super::{Queue, Shelf};
use crate::change::SessionChange;
use crate::error::Error;
use crate::id::{MessageSessionId, ReadId, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::receiver::Wish;
use crate::time::Timestamp;

/// Where a record is kept. Used again after it was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SessionSlot(u32);

/// A row of the index that came or went with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum IndexChange {
    Added {
        session: MessageSessionId,
        sequence: SequenceNumber,
        size: u64,
    },
    Removed {
        session: MessageSessionId,
        sequence: SequenceNumber,
    },
    /// The message is set aside.
    Shelved {
        session: MessageSessionId,
        sequence: SequenceNumber,
        size: u64,
        shelf: Shelf,
    },
    /// It is not any more.
    Unshelved {
        session: MessageSessionId,
        sequence: SequenceNumber,
    },
}

/// All that is known of the message sessions of a queue.
#[derive(Debug)]
pub(crate) struct Sessions {
    records: Vec<Option<Record>>,
    free: Vec<u32>,
    by_id: BTreeMap<MessageSessionId, SessionSlot>,
    /// Sessions that nobody holds and that have messages, by the lowest number they may have.
    available: BTreeSet<(SequenceNumber, SessionSlot)>,
    /// Sessions with ready messages in memory.
    warm: BTreeSet<SessionSlot>,
    /// Sessions that something happened to.
    changed: Vec<SessionSlot>,
    /// Sessions that were given back just now.
    released: Vec<SessionSlot>,
    /// Sessions that wait for their turn to be read.
    starved: VecDeque<SessionSlot>,
    /// Sessions whose receivers could have more, were it not for a bound on what a turn expires.
    paused: VecDeque<SessionSlot>,
    /// When session locks end.
    ends: BTreeSet<(Timestamp, SessionSlot)>,
    pub(crate) waiting: Waiting,
    sweep: Sweep,
    /// Pages of sessions that are being read.
    pub(crate) pages_under_way: usize,
    /// Sessions whose state is being looked at, so that who sets it waits in line.
    pub(crate) state_reads: BTreeMap<MessageSessionId, ReadId>,
    /// Where lists of sessions stopped a short while ago.
    pub(crate) list_ends: VecDeque<ListEnd>,
    /// What the rows of the index do not show yet.
    index_changes: Vec<IndexChange>,
    /// Octets that records take.
    memory: usize,
    /// No message has a lower number.
    head: SequenceNumber,
}

/// Where a list of sessions stopped, so that the next part need not pass over all before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListEnd {
    pub(crate) at: Timestamp,
    pub(crate) updated_after: Option<Timestamp>,
    pub(crate) passed: u32,
    pub(crate) last: MessageSessionId,
}

impl Sessions {
    pub(super) fn new(head: SequenceNumber, has_messages: bool) -> Self {
        Sessions {
            records: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            available: BTreeSet::new(),
            warm: BTreeSet::new(),
            changed: Vec::new(),
            released: Vec::new(),
            starved: VecDeque::new(),
            paused: VecDeque::new(),
            ends: BTreeSet::new(),
            waiting: Waiting::default(),
            sweep: Sweep::new(has_messages),
            pages_under_way: 0,
            state_reads: BTreeMap::new(),
            list_ends: VecDeque::new(),
            index_changes: Vec::new(),
            memory: 0,
            head,
        }
    }

    pub(super) const fn memory(&self) -> usize {
        self.memory
    }

    pub(super) const fn head(&self) -> SequenceNumber {
        self.head
    }

    pub(crate) fn slot(&self, session: &MessageSessionId) -> Option<SessionSlot> {
        self.by_id.get(session).copied()
    }

    pub(crate) fn record(&self, slot: SessionSlot) -> &Record {
        self.try_record(slot).expect("a slot in use has a record")
    }

    fn try_record(&self, slot: SessionSlot) -> Option<&Record> {
        self.records.get(slot.0 as usize).and_then(Option::as_ref)
    }

    fn try_record_mut(&mut self, slot: SessionSlot) -> Option<&mut Record> {
        self.records.get_mut(slot.0 as usize).and_then(Option::as_mut)
    }

    pub(super) fn record_mut(&mut self, slot: SessionSlot) -> &mut Record {
        self.try_record_mut(slot).expect("a slot in use has a record")
    }

    /// A message of it is in memory from now on.
    pub(super) fn arrived(&mut self, slot: SessionSlot) {
        self.record_mut(slot).resident += 1;
    }

    /// Notes that something happened to a session, unless nothing can follow from it.
    pub(super) fn note(&mut self, slot: SessionSlot) {
        if !self.record(slot).is_quiet() {
            self.change(slot);
        }
    }

    /// A record, noting that something happened to it.
    pub(super) fn change(&mut self, slot: SessionSlot) -> &mut Record {
        let record = self.records[slot.0 as usize].as_mut().expect("a slot in use has a record");
        if !record.changed {
            record.changed = true;
            self.changed.push(slot);
        }
        record
    }

    fn create(
        &mut self,
        session: MessageSessionId,
        disk_from: Option<SequenceNumber>,
        is_sure: bool,
    ) -> SessionSlot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.records.push(None);
            u32::try_from(self.records.len() - 1).expect("records are limited")
        });
        let slot = SessionSlot(index);
        let record = Record::new(session.clone(), disk_from, is_sure);
        self.memory += record.memory();
        self.records[index as usize] = Some(record);
        self.by_id.insert(session, slot);
        self.change(slot);
        slot
    }

    fn drop_record(&mut self, slot: SessionSlot) {
        let record = self.records[slot.0 as usize].take().expect("a record is dropped once");
        self.memory -= record.memory();
        self.by_id.remove(&record.id);
        if let Some(first) = record.listed_at {
            self.available.remove(&(first, slot));
        }
        self.warm.remove(&slot);
        self.free.push(slot.0);
    }

    /// Whether somebody holds the session now.
    pub(crate) fn is_held(&self, session: &MessageSessionId, now: Timestamp) -> bool {
        self.holder(session).is_some_and(|holder| now < holder.until)
    }

    pub(crate) fn holder(&self, session: &MessageSessionId) -> Option<&Holder> {
        self.record(self.slot(session)?).holder.as_ref()
    }

    /// Until when the lock lasts that a session's messages are under.
    pub(super) fn until(&self, slot: SessionSlot) -> Timestamp {
        self.record(slot).holder.as_ref().map_or(Timestamp(0), |holder| holder.until)
    }

    /// Receivers that hold a session or wait for one.
    pub(crate) fn receiver_count(&self) -> usize {
        self.ends.len() + self.waiting.len()
    }

    /// How many sessions are held.
    pub(crate) fn held_count(&self) -> usize {
        self.ends.len()
    }

    /// How many are in memory.
    pub(crate) fn known_count(&self) -> usize {
        self.by_id.len()
    }

    /// Deliveries that receivers want and have not got yet, those included that wait for a session.
    pub(crate) fn demand_left(&self) -> u64 {
        let held = self.ends.iter().filter_map(|(_, slot)| self.record(*slot).holder.as_ref());
        let left = held.map(|holder| holder.demand.left());
        left.fold(self.waiting.demand_left(), u64::saturating_add)
    }

    /// Those that hold a session, in the order of the sessions' ids.
    pub(crate) fn holders(&self) -> impl Iterator<Item = (SessionSlot, &Holder)> {
        let holder = |slot: &SessionSlot| Some((*slot, self.record(*slot).holder.as_ref()?));
        self.by_id.values().filter_map(holder)
    }

    pub(crate) fn first_deadline(&self) -> Option<Timestamp> {
        let lock = self.ends.first().map(|(until, _)| *until);
        match (lock, self.waiting.first_end()) {
            (Some(lock), Some(wait)) => Some(lock.min(wait)),
            (lock, wait) => lock.or(wait),
        }
    }

    /// A session whose lock is over.
    pub(crate) fn expired(&self, now: Timestamp) -> Option<SessionSlot> {
        self.ends.first().filter(|(until, _)| *until <= now).map(|(_, slot)| *slot)
    }

    fn hold(&mut self, session: &MessageSessionId, holder: Holder) {
        let slot = self.slot(session).unwrap_or_else(|| {
            let disk_from = self.sweep.incomplete.then_some(SequenceNumber::FIRST);
            self.create(session.clone(), disk_from, false)
        });
        self.ends.insert((holder.until, slot));
        let before = self.change(slot).holder.replace(holder);
        assert!(before.is_none(), "a session has one holder");
        self.relist(slot);
    }

    fn renew(&mut self, session: &MessageSessionId, until: Timestamp) {
        let slot = self.slot(session).expect("a session that is held is known");
        let holder = self.record_mut(slot).holder.as_mut().expect("only a held session is renewed");
        let before = std::mem::replace(&mut holder.until, until);
        self.ends.remove(&(before, slot));
        self.ends.insert((until, slot));
    }

    fn end_hold(&mut self, slot: SessionSlot) {
        let record = self.change(slot);
        let holder = record.holder.take().expect("only a held session is released");
        record.state = KnownState::Unknown;
        self.ends.remove(&(holder.until, slot));
        self.released.push(slot);
    }

    pub(crate) fn demand(&mut self, slot: SessionSlot, wish: Wish) {
        if let Some(holder) = &mut self.change(slot).holder {
            holder.demand.set(wish);
        }
    }

    pub(crate) fn given(
        &mut self,
        slot: SessionSlot,
        bytes: u64,
        after: CommitPosition,
    ) -> CommitPosition {
        let holder = self.record_mut(slot).holder.as_mut().expect("messages go to who holds");
        holder.demand.given(bytes, after)
    }

    /// Takes the next session that something happened to. Until [`Sessions::looked_at`] more of the
    /// same is not noted.
    pub(crate) fn take_changed(&mut self) -> Option<SessionSlot> {
        self.changed.pop()
    }

    /// Notes that there is more to give out of a session than this turn may.
    pub(crate) fn pause(&mut self, slot: SessionSlot) {
        let record = self.record_mut(slot);
        if !record.paused {
            record.paused = true;
            self.paused.push_back(slot);
        }
    }

    /// Has the session looked at again that was left off first. Says whether there was one.
    pub(crate) fn resume(&mut self) -> bool {
        while let Some(slot) = self.paused.pop_front() {
            if let Some(record) = self.try_record_mut(slot)
                && record.paused
            {
                record.paused = false;
                self.change(slot);
                return true;
            }
        }
        false
    }

    /// Puts the listing right. `nothing_on_disk` says whether all messages are in memory.
    fn looked_at(&mut self, slot: SessionSlot, nothing_on_disk: bool) {
        let Some(record) = self.try_record_mut(slot) else { return };
        record.changed = false;
        self.relist(slot);
        let record = self.record(slot);
        if record.is_idle() {
            self.drop_record(slot);
        } else if record.is_guess() {
            // Who wants one that has messages finds it by the index.
            self.drop_record(slot);
            if !nothing_on_disk {
                self.sweep.forget();
            }
        }
    }

    fn relist(&mut self, slot: SessionSlot) {
        let record = self.record_mut(slot);
        let first = if record.holder.is_some() { None } else { record.first() };
        let before = std::mem::replace(&mut record.listed_at, first);
        let is_warm = record.ready.len() > 0;
        let was_warm = std::mem::replace(&mut record.warm, is_warm);
        if before != first {
            if let Some(before) = before {
                self.available.remove(&(before, slot));
            }
            if let Some(first) = first {
                self.available.insert((first, slot));
            }
        }
        if is_warm != was_warm {
            if is_warm {
                self.warm.insert(slot);
            } else {
                self.warm.remove(&slot);
            }
        }
    }

    /// Who has waited longest, and the session it can have.
    pub(crate) fn first_match(&self) -> Option<(WaitId, &MessageSessionId)> {
        let wait = self.waiting.first()?;
        let (_, slot) = self.available.first()?;
        Some((wait, &self.record(*slot).id))
    }

    /// Ends the demand of a holder that drains, if it has been given all there is. Says who, and
    /// which commit its last delivery waits for.
    pub(crate) fn take_drained(
        &mut self,
        slot: SessionSlot,
    ) -> Option<(ReceiverId, CommitPosition)> {
        let record = self.try_record_mut(slot)?;
        // Whatever could be given has been. More may come only from the store.
        let nothing_left = record.disk_from.is_none();
        let holder = record.holder.as_mut()?;
        Some((holder.receiver, holder.demand.take_drained(nothing_left)?))
    }

    /// What the rows of the index do not show yet.
    pub(crate) fn take_index_changes(&mut self) -> impl Iterator<Item = IndexChange> + '_ {
        self.index_changes.drain(..)
    }

    /// A message in memory is gone for good.
    pub(super) fn gone(&mut self, slot: SessionSlot, sequence: SequenceNumber) {
        let record = self.record_mut(slot);
        record.resident -= 1;
        record.note_gone(sequence);
        let session = record.id.clone();
        self.index_changes.push(IndexChange::Removed { session, sequence });
        self.sweep.note_gone(sequence);
        self.note(slot);
    }

    /// A message that only the store holds is gone for good.
    pub(crate) fn gone_from_disk(&mut self, session: MessageSessionId, sequence: SequenceNumber) {
        if let Some(slot) = self.slot(&session) {
            let record = self.change(slot);
            record.note_gone(sequence);
            record.is_sure = false;
        }
        self.index_changes.push(IndexChange::Removed { session, sequence });
        self.sweep.note_gone(sequence);
    }

    /// A message that was set aside is not any more.
    pub(super) fn unshelved(&mut self, slot: SessionSlot, sequence: SequenceNumber) {
        let session = self.record(slot).id.clone();
        self.index_changes.push(IndexChange::Unshelved { session, sequence });
    }

    /// Nothing is on disk only: all sessions with messages are known.
    pub(super) fn all_in_memory(&mut self) {
        self.sweep.complete();
    }
}

impl Queue {
    pub(crate) const fn has_sessions(&self) -> bool {
        self.sessions.is_some()
    }

    /// Whether somebody holds a session of this queue now.
    pub(crate) fn session_held(
        &self,
        now: Timestamp,
        session: &MessageSessionId,
    ) -> Result<(), Error> {
        let sessions = self.sessions.as_ref().ok_or(NO_SESSIONS)?;
        if sessions.is_held(session, now) { Ok(()) } else { Err(Error::SessionLockLost) }
    }

    /// When the lock of a session ends, if somebody holds it.
    pub(crate) fn session_end(&self, session: &MessageSessionId) -> Option<Timestamp> {
        Some(self.sessions.as_ref()?.holder(session)?.until)
    }

    /// What a session's holder has locked, in order.
    pub(crate) fn locked_in_session(&self, slot: SessionSlot) -> Vec<SequenceNumber> {
        let locked = |sessions: &Sessions| sessions.record(slot).locked.iter().collect();
        self.sessions.as_deref().map(locked).unwrap_or_default()
    }

    /// Puts the listing of sessions right after messages were forgotten.
    pub(crate) fn settle_sessions(&mut self) {
        while let Some(slot) = self.sessions.as_mut().and_then(|known| known.take_changed()) {
            self.session_looked_at(slot);
        }
    }

    /// Puts the listing of a session right after something happened to it.
    pub(crate) fn session_looked_at(&mut self, slot: SessionSlot) {
        let nothing_on_disk = self.count == self.entries.len() as u64;
        if let Some(sessions) = &mut self.sessions {
            sessions.looked_at(slot, nothing_on_disk);
        }
    }

    /// What the next message is to a session's holder, if it wants one and it is in memory.
    pub(crate) fn next_in_session(&self, slot: SessionSlot) -> Option<SequenceNumber> {
        let record = self.sessions.as_ref()?.try_record(slot)?;
        let wants = record.holder.as_ref().is_some_and(|holder| holder.demand.is_open());
        if wants { record.next() } else { None }
    }

    /// Applies a fact about a session.
    pub(super) fn apply_to_session(
        &mut self,
        session: &MessageSessionId,
        change: &SessionChange,
        position: CommitPosition,
    ) {
        let sessions = self.sessions.as_mut().expect("facts about sessions need sessions");
        match change {
            SessionChange::Locked { receiver, mode, until, demand } => {
                let demand = demand.clone();
                let holder = Holder { receiver: *receiver, mode: *mode, until: *until, demand };
                sessions.hold(session, holder);
            }
            SessionChange::Renewed { until } => sessions.renew(session, *until),
            SessionChange::Released => {
                let slot = sessions.slot(session).expect("a session that is held is known");
                let locked: Vec<_> = sessions.record(slot).locked.iter().collect();
                sessions.end_hold(slot);
                for sequence in locked {
                    self.give_back(sequence, None, None, position);
                }
            }
            SessionChange::StateSet { state, bytes_before, .. } => {
                let bytes = state.as_ref().map(|state| state.len() as u64);
                if let Some(slot) = sessions.slot(session) {
                    sessions.record_mut(slot).state = KnownState::Bytes(bytes);
                }
                self.bytes = self.bytes - bytes_before.unwrap_or(0) + bytes.unwrap_or(0);
            }
        }
    }

    /// What is said of a lock that is not in force.
    pub(crate) const fn lock_lost(&self) -> Error {
        if self.has_sessions() { Error::SessionLockLost } else { Error::MessageLockLost }
    }

    /// The session a message belongs to, where sessions matter.
    pub(crate) fn session_of(&self, message: &StoredMessage) -> Option<MessageSessionId> {
        if self.has_sessions() { message.facts().session() } else { None }
    }

    /// A message of a session is set aside, where sessions matter.
    pub(super) fn shelve_in_session(
        &mut self,
        sequence: SequenceNumber,
        message: &StoredMessage,
        shelf: Shelf,
    ) {
        let session = self.session_of(message);
        if let Some((sessions, session)) = self.sessions.as_mut().zip(session) {
            let size = message.size();
            let change = IndexChange::Shelved { session, sequence, size, shelf };
            sessions.index_changes.push(change);
        }
    }

    /// A scheduled message of a session is due, or not wanted any more.
    pub(super) fn unschedule_in_session(
        &mut self,
        sequence: SequenceNumber,
        session: Option<&MessageSessionId>,
    ) {
        if let Some((sessions, session)) = self.sessions.as_mut().zip(session) {
            let change = IndexChange::Unshelved { session: session.clone(), sequence };
            sessions.index_changes.push(change);
        }
    }

    /// Says what does not fit together.
    pub(super) fn check_sessions(&self) -> Result<(), String> {
        let Some(sessions) = &self.sessions else { return Ok(()) };
        sessions.check()?;
        let mut resident = BTreeMap::<SessionSlot, usize>::new();
        for (sequence, entry) in self.entries.iter().chain(&self.apart) {
            let slot = entry.session.ok_or_else(|| format!("{sequence} is in no session"))?;
            *resident.entry(slot).or_default() += 1;
            let record = sessions.try_record(slot).ok_or("a message without its session")?;
            let listed = match entry.standing {
                super::Standing::Ready => record.ready.iter().any(|other| other == *sequence),
                super::Standing::Locked(_) => record.locked.iter().any(|other| other == *sequence),
                super::Standing::Doomed => self.doomed.contains(sequence),
            };
            if !listed {
                return Err(format!("{sequence} is not where its session says"));
            }
        }
        for (slot, record) in sessions.all() {
            if record.resident != resident.get(&slot).copied().unwrap_or(0) {
                return Err(format!("session {}: {} in memory", record.id, record.resident));
            }
            let in_order = record.ready.len() + record.locked.len();
            if record.resident < in_order {
                return Err(format!("session {}: {in_order} in order", record.id));
            }
            if record.holder.is_none() && record.locked.len() > 0 {
                return Err(format!("session {} is free, its messages are not", record.id));
            }
        }
        Ok(())
    }
}

/// What is said to those who ask for sessions where there are none.
pub(crate) const NO_SESSIONS: Error =
    Error::NotAllowed("The entity does not require sessions, so it has none.");

impl Sessions {
    fn all(&self) -> impl Iterator<Item = (SessionSlot, &Record)> {
        self.by_id.values().map(|slot| (*slot, self.record(*slot)))
    }

    fn check(&self) -> Result<(), String> {
        if !self.changed.is_empty() || !self.released.is_empty() || !self.index_changes.is_empty() {
            return Err("sessions were changed and not looked at".into());
        }
        let mut held = 0;
        let (mut listed, mut warm, mut memory) = (0, 0, 0);
        for (slot, record) in self.all() {
            let first = if record.holder.is_some() { None } else { record.first() };
            if record.listed_at != first
                || first.is_some_and(|first| !self.available.contains(&(first, slot)))
            {
                return Err(format!("session {} is not listed as it stands", record.id));
            }
            if record.warm != (record.ready.len() > 0) || record.warm != self.warm.contains(&slot) {
                return Err(format!("session {}: warm {}", record.id, record.warm));
            }
            if let Some(holder) = &record.holder {
                held += 1;
                if !self.ends.contains(&(holder.until, slot)) {
                    return Err(format!("the lock of session {} does not end", record.id));
                }
                let is_stuck = holder.demand.is_open()
                    && record.disk_from.is_some()
                    && record.next().is_none()
                    && record.page.is_none()
                    && !self.starved.contains(&slot);
                if is_stuck {
                    return Err(format!("session {} is not being read", record.id));
                }
            } else if record.is_idle() || record.is_guess() {
                return Err(format!("session {} is of no interest", record.id));
            }
            listed += usize::from(record.listed_at.is_some());
            warm += usize::from(record.warm);
            memory += record.memory();
        }
        let counted = (held, listed, warm, memory);
        let expected = (self.ends.len(), self.available.len(), self.warm.len(), self.memory);
        if counted != expected {
            return Err(format!("held, listed, warm, memory {counted:?}, not {expected:?}"));
        }
        if self.waiting.len() > 0 && !self.available.is_empty() {
            return Err("somebody waits, and there is a session".into());
        }
        if self.waiting.len() > 0 && self.sweep.is_needed() && !self.sweep.is_parked {
            return Err("somebody waits, and nobody looks for a session".into());
        }
        Ok(())
    }
}
