//! What a fact makes of a queue in memory.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::CommitPosition;

use super::lock::Held;
use super::ready::ReadyOrder;
use super::sessions::{SessionSlot, Sessions};
use super::{Body, Entry, Queue, Room, Shelf, Standing, Traces};
use crate::change::{Change, TopicChange};
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;

impl Queue {
    /// Applies a fact about this queue as the source, which may differ from what `room` would allow
    /// for. Says which rows the message had besides its own. A fact that does not fit is our bug, and
    /// stopping beats guessing.
    pub(crate) fn apply(
        &mut self,
        change: &Change,
        position: CommitPosition,
        room: Room,
    ) -> Traces {
        match change {
            Change::QueueCreated { .. } | Change::QueueDeleted { .. } => Traces::default(),
            Change::OfTopic(TopicChange::Buried { sequence, message, section, .. }) => {
                self.apply_arrival(*sequence, 0, message, section, position, room);
                Traces::default()
            }
            Change::OfTopic(_) => unreachable!("rules and bodies are not a queue's"),
            Change::SettingsChanged { settings, at, .. } => {
                self.definition.settings = QueueSettings::clone(settings);
                self.definition.updated_at = *at;
                self.change_duplicate_window(*at);
                Traces::default()
            }
            Change::BucketOpened { start, .. } => {
                self.known_ids().open(*start);
                Traces::default()
            }
            Change::Remembered { bucket, id, at, .. } => {
                self.known_ids().remember(*bucket, id, *at);
                Traces::default()
            }
            Change::BucketsForgotten { last, .. } => {
                self.known_ids().forget(*last);
                Traces::default()
            }
            Change::Accepted { sequence, message, application_properties, session, .. } => {
                assert_eq!(*sequence, self.next_sequence, "numbers have no gaps");
                let mut entry = fresh_entry(message, position);
                if let Some(section) = application_properties {
                    entry.overlay(section);
                }
                entry.traces.expires_at =
                    self.note_expiry(*sequence, message, room.settings.timers_max);
                let traces = entry.traces;
                match session {
                    Some(session) => self.arrive_in_session(*sequence, entry, session, room),
                    None => self.arrive(*sequence, entry, room),
                }
                traces
            }
            Change::Passed { sequence, .. } => {
                assert_eq!(*sequence, self.next_sequence, "numbers have no gaps");
                self.next_sequence = sequence.next();
                Traces::default()
            }
            Change::Scheduled { sequence, message, .. } => {
                let (due, size) = (message.enqueued_at(), message.size());
                self.schedule(*sequence, due, size, room.settings.timers_max);
                self.shelve_in_session(*sequence, message, Shelf::Scheduled);
                Traces::default()
            }
            Change::Unscheduled { sequence, due, size, session, .. } => {
                self.unschedule(*sequence, *due, *size);
                self.unschedule_in_session(*sequence, session.as_ref());
                Traces::default()
            }
            Change::Deferred { sequence, message, .. } => {
                let traces = self.defer(*sequence, message.size());
                self.shelve_in_session(*sequence, message, Shelf::Deferred);
                traces
            }
            Change::Fetched { sequence, lock, .. } => {
                self.lock_apart(*sequence, *lock);
                Traces::default()
            }
            Change::Locked { sequence, lock, .. } => {
                let until = if self.sessions.is_some() { Held::NO_END } else { lock.until };
                let held = Held { sequence: *sequence, until, enlisted: false };
                self.locks.insert(lock.token, held);
                self.place(*sequence, Standing::Locked(lock.token));
                if room.tight {
                    self.drop_body(*sequence);
                }
                Traces::default()
            }
            Change::Renewed { token, until, .. } => {
                self.locks.renew(*token, *until);
                Traces::default()
            }
            Change::Enlisted { token, .. } => {
                self.locks.set_enlisted(*token, true);
                Traces::default()
            }
            Change::Withdrawn { token, .. } => {
                self.locks.set_enlisted(*token, false);
                Traces::default()
            }
            Change::Returned { sequence, attempts, application_properties, .. } => {
                self.give_back(*sequence, *attempts, application_properties.as_ref(), position)
            }
            Change::Removed { sequence, .. }
            | Change::DeadLettered { sequence, .. }
            | Change::Lost { sequence, .. } => self.remove(*sequence),
            Change::OfSession { session, change, .. } => {
                self.apply_to_session(session, change, position);
                Traces::default()
            }
        }
    }

    /// Takes in a message of its topic, which keeps the row.
    pub(crate) fn apply_shared(
        &mut self,
        topic: EntityId,
        sequence: SequenceNumber,
        body: &Body,
        position: CommitPosition,
        room: Room,
    ) {
        let mut entry = fresh_entry(&body.message, position);
        entry.traces.shared = Some(topic);
        entry.body = Some(body.clone());
        self.join_run(sequence, entry.size);
        self.arrive(sequence, entry, room);
    }

    /// Takes in a message from another entity, with the number it had there.
    pub(crate) fn apply_arrival(
        &mut self,
        sequence: SequenceNumber,
        attempts: u32,
        message: &Arc<StoredMessage>,
        application_properties: &Bytes,
        position: CommitPosition,
        room: Room,
    ) {
        let mut entry = fresh_entry(message, position);
        entry.attempts = attempts;
        entry.traces.marked = attempts != 0;
        entry.overlay(application_properties);
        self.arrive(sequence, entry, room);
    }

    pub(super) fn give_back(
        &mut self,
        sequence: SequenceNumber,
        attempts: Option<u32>,
        application_properties: Option<&Bytes>,
        position: CommitPosition,
    ) -> Traces {
        if self.stands_apart(sequence) {
            let is_overlaid = application_properties.is_some();
            return self.set_aside_again(sequence, attempts, is_overlaid, position);
        }
        let entry = self.entries.get_mut(&sequence).expect("a returned message is in memory");
        let traces = entry.traces;
        if let Some(attempts) = attempts {
            entry.attempts = attempts;
            entry.traces.marked = true;
            entry.visible_after = position;
        }
        if let Some(section) = application_properties {
            entry.traces.overlaid = true;
            entry.visible_after = position;
            if let Some(body) = &mut entry.body {
                self.memory -= body.memory();
                body.application_properties = Some(section.clone());
                self.memory += body.memory();
            }
        }
        let failed_too_often = self.failed_too_often(attempts);
        let standing = if failed_too_often { Standing::Doomed } else { Standing::Ready };
        self.place(sequence, standing);
        if !failed_too_often {
            let entry = &self.entries[&sequence];
            self.note_ready(sequence, entry.size, entry.traces.shared);
        }
        self.recall_expiry(sequence);
        if self.sessions.is_some() && !failed_too_often && self.entries[&sequence].body.is_none() {
            // What is ready in a session has its body; without it, it is read again as a whole.
            self.forget_in_session(sequence);
        }
        traces
    }

    /// Whether so many failed deliveries are too many.
    pub(crate) fn failed_too_often(&self, attempts: Option<u32>) -> bool {
        self.definition.dead_letter.is_some()
            && attempts.is_some_and(|attempts| self.definition.settings.attempts_max <= attempts)
    }

    /// Keeps a message in memory. The caller has seen to it that it belongs there.
    pub(super) fn insert(&mut self, sequence: SequenceNumber, entry: Entry, in_order: bool) {
        self.watch.touch(sequence);
        self.memory += entry.memory();
        if let Some((slot, sessions)) = in_session(entry.session, &mut self.sessions) {
            sessions.arrived(slot);
        }
        match entry.standing {
            Standing::Ready if in_order => {
                self.ready_bytes += entry.size;
                self.order_of(entry.session).insert(sequence);
            }
            Standing::Ready => self.window.tail_count += 1,
            Standing::Doomed => {
                self.doomed.insert(sequence);
            }
            Standing::Locked(_) => unreachable!("no message arrives locked"),
        }
        let session = entry.session;
        let before = self.entries.insert(sequence, entry);
        assert!(before.is_none(), "a number is given to one message");
        self.note_session(session);
    }

    /// Changes where a message stands. With [`Queue::insert`] and [`Queue::detach`] the only writer of
    /// `standing`, so the ready order, the doomed and the lock table cannot drift from it.
    pub(super) fn place(&mut self, sequence: SequenceNumber, standing: Standing) {
        let entry = self.entries.get_mut(&sequence).expect("only messages in memory move");
        let before = std::mem::replace(&mut entry.standing, standing);
        if before == Standing::Ready {
            self.ready_bytes -= entry.size;
        }
        if standing == Standing::Ready {
            self.ready_bytes += entry.size;
        }
        let session = entry.session;
        self.leave(sequence, before, session);
        match standing {
            Standing::Ready => self.order_of(session).insert(sequence),
            Standing::Doomed => {
                self.doomed.insert(sequence);
            }
            Standing::Locked(token) => {
                assert!(self.locks.held(token).is_some(), "a lock is in the table first");
                assert_eq!(before, Standing::Ready, "locked while not ready");
                if let Some((slot, sessions)) = in_session(session, &mut self.sessions) {
                    sessions.record_mut(slot).locked.insert(sequence);
                }
            }
        }
        self.note_session(session);
    }

    pub(super) fn note_session(&mut self, session: Option<SessionSlot>) {
        if let Some((slot, sessions)) = in_session(session, &mut self.sessions) {
            sessions.note(slot);
        }
    }

    pub(super) fn leave(
        &mut self,
        sequence: SequenceNumber,
        standing: Standing,
        session: Option<SessionSlot>,
    ) {
        match standing {
            Standing::Ready => self.order_of(session).remove(sequence),
            Standing::Doomed => {
                self.doomed.remove(&sequence);
            }
            Standing::Locked(token) => {
                self.locks.remove(token);
                if let Some((slot, sessions)) = in_session(session, &mut self.sessions) {
                    sessions.record_mut(slot).locked.remove(sequence);
                }
            }
        }
    }

    /// The order that a ready message stands in: the queue's, or its session's.
    pub(super) fn order_of(&mut self, session: Option<SessionSlot>) -> &mut ReadyOrder {
        match in_session(session, &mut self.sessions) {
            Some((slot, sessions)) => &mut sessions.record_mut(slot).ready,
            None => &mut self.ready,
        }
    }

    /// Takes a message out for good.
    pub(super) fn remove(&mut self, sequence: SequenceNumber) -> Traces {
        self.oldest.gone(sequence);
        if let Some(traces) = self.remove_apart(sequence) {
            return traces;
        }
        let entry = self.take_from_tail(sequence).unwrap_or_else(|| {
            let entry = self.detach(sequence);
            self.leave(sequence, entry.standing, entry.session);
            entry
        });
        self.forget_expiry(sequence, entry.traces);
        self.leave_run(sequence, entry.traces, entry.size);
        self.watch.touch(sequence);
        self.count -= 1;
        self.bytes -= entry.size;
        if let Some((slot, sessions)) = in_session(entry.session, &mut self.sessions) {
            sessions.gone(slot, sequence);
            if self.count == self.entries.len() as u64 {
                sessions.all_in_memory();
            }
        }
        entry.traces
    }

    /// Takes a message out of memory, leaving the order it stood in to the caller.
    pub(super) fn detach(&mut self, sequence: SequenceNumber) -> Entry {
        let entry = self.entries.remove(&sequence).expect("only messages in memory leave");
        self.memory -= entry.memory();
        if entry.standing == Standing::Ready {
            self.ready_bytes -= entry.size;
        }
        entry
    }

    pub(super) fn drop_body(&mut self, sequence: SequenceNumber) {
        let entry = self.entries.get_mut(&sequence).expect("only messages in memory have bodies");
        if let Some(body) = entry.body.take() {
            self.memory -= body.memory();
        }
    }
}

/// The session of a message, where sessions matter.
pub(super) fn in_session(
    session: Option<SessionSlot>,
    sessions: &mut Option<Box<Sessions>>,
) -> Option<(SessionSlot, &mut Sessions)> {
    Some((session?, sessions.as_deref_mut()?))
}

fn fresh_entry(message: &Arc<StoredMessage>, position: CommitPosition) -> Entry {
    Entry {
        standing: Standing::Ready,
        attempts: 0,
        traces: Traces::default(),
        session: None,
        size: message.size(),
        visible_after: position,
        body: Some(Body {
            message: Arc::clone(message),
            application_properties: None,
            charge: None,
        }),
    }
}
