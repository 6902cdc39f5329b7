//! Sessions without a record: when there may be some, and how they are found.

use std::collections::BTreeSet;

use bytes::Bytes;
use peeklock_storage::Key;

use super::{IndexChange, SessionSlot, Sessions};
use crate::command::{ReadRequest, Scan};
use crate::entity::settings::BrokerSettings;
use crate::id::{EntityId, MessageSessionId, ReadId, SequenceNumber};
use crate::queue::{Queue, Room};
use crate::rows;

/// The search for sessions that have messages and no record: through the index from one end to the
/// other, as far as somebody needs it, again and again.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Whether there may be such sessions.
    pub(super) incomplete: bool,
    /// Up to and with which session the index was looked at.
    after: Option<MessageSessionId>,
    /// Whether a session was left without a record since the search last began at the start.
    forgotten: bool,
    read: Option<ReadId>,
    /// Whether reading has to wait, because it failed.
    pub(super) is_parked: bool,
    /// Messages that are gone since the part was asked for that is being read. It may still show them.
    gone: BTreeSet<SequenceNumber>,
}

impl Sweep {
    pub(super) const fn new(incomplete: bool) -> Self {
        Sweep {
            incomplete,
            after: None,
            forgotten: true,
            read: None,
            is_parked: false,
            gone: BTreeSet::new(),
        }
    }

    pub(super) const fn is_needed(&self) -> bool {
        self.incomplete && self.read.is_none()
    }

    pub(super) fn complete(&mut self) {
        if self.incomplete {
            // A read under way does no harm: what it finds is gone, or has a record.
            let (read, gone) = (self.read, std::mem::take(&mut self.gone));
            *self = Sweep { read, gone, ..Sweep::new(false) };
        }
    }

    pub(super) const fn forget(&mut self) {
        self.incomplete = true;
        self.forgotten = true;
    }

    pub(super) fn note_gone(&mut self, sequence: SequenceNumber) {
        if self.read.is_some() {
            self.gone.insert(sequence);
        }
    }
}

/// Sessions that are remembered even when memory is used up, so that receivers find work without
/// reading for each session.
const RECORDS_MIN: usize = 64;

impl Sessions {
    /// The record that a new message goes to, if its session is to have one.
    pub(super) fn slot_for_arrival(
        &mut self,
        session: &MessageSessionId,
        room: Room,
    ) -> Option<SessionSlot> {
        if let Some(slot) = self.slot(session) {
            return Some(slot);
        }
        let is_wanted = self.waiting.len() > 0;
        let free_count = self.by_id.len() - self.ends.len();
        let fits = free_count < room.settings.sessions_known_max
            && (!room.full || free_count < RECORDS_MIN);
        // As long as some sessions are not known, new ones join them: else those that come later would
        // be served first, for ever.
        if is_wanted || (fits && !self.sweep.incomplete) {
            let disk_from = self.sweep.incomplete.then_some(SequenceNumber::FIRST);
            return Some(self.create(session.clone(), disk_from, false));
        }
        self.sweep.forget();
        None
    }

    /// Plans the next part of the search, if somebody waits for what it may find.
    pub(crate) fn plan_sweep(
        &mut self,
        entity: EntityId,
        read: ReadId,
        settings: &BrokerSettings,
        may_read: bool,
    ) -> Option<ReadRequest> {
        if self.waiting.len() == 0 || !self.available.is_empty() || !self.sweep.is_needed() {
            return None;
        }
        self.sweep.is_parked = !may_read;
        if !may_read {
            return None;
        }
        if self.sweep.after.is_none() {
            self.sweep.forgotten = false;
        }
        self.sweep.read = Some(read);
        let scan = Scan {
            table: rows::SESSION_TABLE,
            range: rows::session_index_behind(entity, self.sweep.after.as_ref()),
            rows_max: settings.page_rows_max,
            bytes_max: settings.page_bytes_max,
        };
        Some(ReadRequest { scans: vec![scan], gets: Vec::new() })
    }

    /// Takes in what the search found.
    pub(crate) fn sweep_done(
        &mut self,
        read: ReadId,
        found: Option<Vec<(Key, Bytes)>>,
        settings: &BrokerSettings,
    ) {
        if self.sweep.read != Some(read) {
            return;
        }
        self.sweep.read = None;
        let gone = std::mem::take(&mut self.sweep.gone);
        let Some(found) = found else { return };
        if !self.sweep.incomplete {
            return;
        }
        let is_cut_off = rows::is_cut_off(&found, settings.page_rows_max, settings.page_bytes_max);
        let mut last = None;
        for (key, _) in &found {
            let Some((session, sequence)) = rows::session_and_sequence(key) else { continue };
            if !gone.contains(&sequence) && self.slot(&session).is_none() {
                self.create(session.clone(), Some(sequence), true);
            }
            last = Some(session);
        }
        if is_cut_off && last.as_ref().is_some_and(|session| self.slot(session).is_none()) {
            // All that was seen of it is gone. There may be more of it.
            self.sweep.forgotten = true;
        }
        self.sweep.after = last.filter(|_| is_cut_off);
        if self.sweep.after.is_none() {
            self.sweep.incomplete = self.sweep.forgotten;
        }
    }

    pub(crate) fn sweeps_under_way(&self) -> usize {
        usize::from(self.sweep.read.is_some())
    }

    pub(crate) const fn any_released(&self) -> bool {
        !self.released.is_empty()
    }

    pub(super) fn take_released(&mut self) -> Vec<SessionSlot> {
        std::mem::take(&mut self.released)
    }
}

impl Queue {
    /// Takes in a message of a session: in memory if there is room, else only counted.
    pub(in crate::queue) fn arrive_in_session(
        &mut self,
        sequence: SequenceNumber,
        mut entry: crate::queue::Entry,
        session: &MessageSessionId,
        room: Room,
    ) {
        self.note_first(sequence, entry.body.as_ref().map(|body| body.message.enqueued_at()));
        let sessions = self.sessions.as_mut().expect("the message belongs to a session");
        if self.count == 0 {
            sessions.head = sequence;
        }
        self.count += 1;
        self.bytes += entry.size;
        self.next_sequence = self.next_sequence.max(sequence.next());
        let (session_id, size) = (session.clone(), entry.size);
        sessions.index_changes.push(IndexChange::Added { session: session_id, sequence, size });
        let Some(slot) = sessions.slot_for_arrival(session, room) else { return };
        let record = sessions.record_mut(slot);
        if record.disk_from.is_some() {
            if let Some(page) = &mut record.page {
                page.note_arrival(sequence);
            }
            if !record.is_sure {
                sessions.change(slot).is_sure = true;
            }
            return;
        }
        let goes_out_at_once = record.ready.first().is_none()
            && record.holder.as_ref().is_some_and(|holder| holder.demand.is_open());
        let spacious = !room.full
            && self.memory.total() < room.settings.window_bytes_max
            && self.entries.len() < room.settings.window_count_max;
        if spacious || goes_out_at_once {
            entry.session = Some(slot);
            self.insert(sequence, entry, true);
        } else {
            let record = sessions.change(slot);
            (record.disk_from, record.is_sure) = (Some(sequence), true);
        }
    }

    /// Forgets the ready messages of one session; they can be read again. Says whether there were
    /// any to forget.
    pub(in crate::queue) fn evict_session(&mut self) -> bool {
        let Some(sessions) = &self.sessions else { return false };
        let is_idle = |slot: &&SessionSlot| {
            let record = sessions.record(**slot);
            // Who wants messages gets these next.
            record.ready.len() > 0
                && record.holder.as_ref().is_none_or(|holder| !holder.demand.is_open())
        };
        let Some(slot) = sessions.warm.iter().rev().find(is_idle).copied() else { return false };
        self.forget_ready(slot);
        true
    }

    fn forget_ready(&mut self, slot: SessionSlot) {
        while let Some(sessions) = &self.sessions
            && let Some(sequence) = sessions.record(slot).ready.last()
        {
            self.forget_in_session(sequence);
        }
    }

    /// Forgets a ready message of a session.
    pub(in crate::queue) fn forget_in_session(&mut self, sequence: SequenceNumber) {
        let entry = self.detach(sequence);
        let slot = entry.session.expect("the message belongs to a session");
        let sessions = self.sessions.as_mut().expect("the message belongs to a session");
        let record = sessions.change(slot);
        record.ready.remove(sequence);
        record.resident -= 1;
        record.disk_from = Some(record.disk_from.map_or(sequence, |disk| disk.min(sequence)));
        record.is_sure = true;
        if let Some(page) = &mut record.page {
            page.void();
        }
    }

    /// Makes the sessions that were given back, and that nobody took, known no more, if others are not
    /// known either: so every session has its turn.
    pub(crate) fn forget_released(&mut self) {
        let Some(sessions) = &mut self.sessions else { return };
        let incomplete = sessions.sweep.incomplete;
        for slot in sessions.take_released() {
            if incomplete {
                self.forget_session(slot);
            }
        }
    }

    fn forget_session(&mut self, slot: SessionSlot) {
        let Some(sessions) = &self.sessions else { return };
        let is_free = sessions
            .try_record(slot)
            .is_some_and(|record| record.holder.is_none() && record.resident == record.ready.len());
        if !is_free {
            return;
        }
        self.forget_ready(slot);
        if let Some(sessions) = &mut self.sessions {
            // What was noted by forgetting its messages goes with it.
            sessions.changed.retain(|other| *other != slot);
            sessions.drop_record(slot);
            sessions.sweep.forget();
        }
    }
}
