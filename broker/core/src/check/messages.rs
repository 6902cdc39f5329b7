//! The messages of an entity: counted, and each with the rows that it needs besides its own.

use bytes::Bytes;
use peeklock_storage::{Batch, Key, Op, StoreError, Table};

use super::{Check, Problem, Severity, Walked};
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::timers::{Timer, TimerKind};
use crate::queue::{IndexChange, Numbers, Shelf};
use crate::rows;

/// Rows that messages of an entity should have besides their own, as far as they are there.
#[derive(Clone, Copy, Default)]
pub(super) struct Companions {
    pub(super) expiries: u64,
    pub(super) activations: u64,
    pub(super) in_sessions: u64,
    pub(super) shelved: u64,
}

const SHELVES: [Shelf; 3] = [Shelf::Active, Shelf::Scheduled, Shelf::Deferred];

impl Check<'_> {
    pub(super) fn entity(&mut self, entity: EntityId) -> Result<(), StoreError> {
        let mut companions = Companions::default();
        let mut is_whole = true;
        for shelf in SHELVES {
            // Its messages are those of its subscriptions, and were looked at.
            if shelf == Shelf::Active && self.known(entity).is_main_topic() {
                continue;
            }
            let range = rows::shelf_key(entity, shelf, SequenceNumber(0))
                ..rows::shelf_key(entity, shelf, SequenceNumber(u64::MAX));
            let walked = self.walk(Table::Message, range, Some(entity), |check, key, row| {
                check.totals.rows += 1;
                check.message(entity, shelf, (key, row), &mut companions)
            })?;
            is_whole &= walked == Walked::All;
        }
        is_whole &= self.besides(entity, companions)? == Walked::All;
        if is_whole && !self.known(entity).is_partial {
            self.numbers(entity);
        }
        Ok(())
    }

    fn message(
        &mut self,
        entity: EntityId,
        shelf: Shelf,
        (key, row): (&Key, &Bytes),
        companions: &mut Companions,
    ) -> Result<(), StoreError> {
        let Some(sequence) = super::number_of(key) else {
            let what = "its key is not that of a message";
            self.find_unreadable(Severity::Damaged, entity, (Table::Message, key, row), what);
            return Ok(());
        };
        let size = StoredMessage::size_of_row(row);
        self.totals.messages += 1;
        self.totals.bytes += size;
        let found = &mut self.known_mut(entity).found;
        match shelf {
            Shelf::Active => found.active(sequence, size),
            Shelf::Scheduled => found.scheduled_count += 1,
            Shelf::Deferred => found.deferred_count += 1,
        }
        if shelf != Shelf::Active {
            found.bytes += size;
            found.number(sequence);
        }
        let message = match StoredMessage::from_row(row.clone()) {
            Ok(message) => message,
            Err(what) => {
                // Whether it has a due time is not known, so they are not compared.
                self.known_mut(entity).is_partial = true;
                let row = (Table::Message, key, row);
                self.find_unreadable(Severity::Damaged, entity, row, what);
                return Ok(());
            }
        };
        let timer = match shelf {
            Shelf::Active if self.known(entity).is_main() => {
                message.expires_at().map(|at| (TimerKind::Expiry, at))
            }
            Shelf::Scheduled => Some((TimerKind::Activation, message.enqueued_at())),
            Shelf::Active | Shelf::Deferred => None,
        };
        if let Some((kind, at)) = timer {
            let is_there = self.has_timer(entity, kind, Timer { at, sequence }, size)?;
            match kind {
                TimerKind::Expiry => {
                    self.known_mut(entity).found.expiring_count += 1;
                    companions.expiries += u64::from(is_there);
                }
                TimerKind::Activation => companions.activations += u64::from(is_there),
            }
        }
        if self.known(entity).has_sessions() {
            let is_there = self.has_session_entry(entity, shelf, sequence, &message)?;
            match shelf {
                Shelf::Active => companions.in_sessions += u64::from(is_there),
                Shelf::Scheduled | Shelf::Deferred => companions.shelved += u64::from(is_there),
            }
        }
        Ok(())
    }

    fn has_timer(
        &mut self,
        entity: EntityId,
        kind: TimerKind,
        timer: Timer,
        size: u64,
    ) -> Result<bool, StoreError> {
        let key = rows::timer_key(entity, kind, timer);
        if self.get(Table::State, &key)?.is_some() {
            return Ok(true);
        }
        let mut batch = Batch::default();
        rows::put_timer(entity, kind, timer, size, &mut batch);
        let what = format!("message {} has no row for its due time", timer.sequence);
        let problem = Problem::MissingTimer;
        self.find(Severity::Repairable, problem, Some(entity), what, batch.into_ops());
        Ok(false)
    }

    fn has_session_entry(
        &mut self,
        entity: EntityId,
        shelf: Shelf,
        sequence: SequenceNumber,
        message: &StoredMessage,
    ) -> Result<bool, StoreError> {
        let Some(session) = message.facts().session() else {
            let what = format!("message {sequence} has no session");
            self.find(Severity::Damaged, Problem::NoSession, Some(entity), what, vec![]);
            return Ok(false);
        };
        let size = message.size();
        let entry = match shelf {
            Shelf::Active => IndexChange::Added { session, sequence, size },
            Shelf::Scheduled | Shelf::Deferred => {
                IndexChange::Shelved { session, sequence, size, shelf }
            }
        };
        let mut batch = Batch::default();
        rows::persist_session_index(entity, std::iter::once(entry), &mut batch);
        let ops = batch.into_ops();
        let [Op::Put { table, key, .. }] = &ops[..] else { return Ok(true) };
        if self.get(*table, key)?.is_some() {
            return Ok(true);
        }
        let what = format!("message {sequence} is not in the index of its session");
        let problem = Problem::MissingSessionEntry;
        self.find(Severity::Repairable, problem, Some(entity), what, ops);
        Ok(false)
    }

    /// Compares what an entity counts with what was found.
    fn numbers(&mut self, entity: EntityId) {
        let known = self.known(entity);
        let (said, found) = (known.numbers, known.found);
        let next = found.highest.map_or(said.next_sequence, SequenceNumber::next);
        let is = Numbers {
            next_sequence: said.next_sequence.max(next),
            head: found.lowest.map_or(said.head, |lowest| said.head.min(lowest)),
            count: found.count,
            deferred_count: found.deferred_count,
            scheduled_count: found.scheduled_count,
            expiring_count: found.expiring_count,
            bytes: found.bytes,
            shared_bytes: found.shared_bytes,
            accessed_at: said.accessed_at,
        };
        if is != said {
            let what = format!("it counts {said:?}, and has {is:?}");
            let mut batch = Batch::default();
            rows::persist_numbers(entity, &is, &mut batch);
            // What was counted and is not there, somebody has accepted.
            let all = |numbers: &Numbers| {
                numbers.count + numbers.deferred_count + numbers.scheduled_count
            };
            let is_lost = all(&is) < all(&said);
            let severity = if is_lost { Severity::Damaged } else { Severity::Repairable };
            let problem = Problem::Numbers;
            self.find(severity, problem, Some(entity), what, batch.into_ops());
        }
    }
}
