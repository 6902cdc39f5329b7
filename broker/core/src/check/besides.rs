//! Rows about messages, and whether these are there.

use bytes::Bytes;
use peeklock_storage::{Key, Op, StoreError, Table};

use super::messages::Companions;
use super::{Check, Problem, Severity, Walked, kind_of, number_of};
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::Shelf;
use crate::queue::timers::TimerKind;
use crate::rows;

/// The kinds of an entity's rows in the table of states, as [`crate::rows`] lists them.
const MARK: u8 = 2;
const PROPERTIES: u8 = 3;
const EXPIRY: u8 = 4;
const ACTIVATION: u8 = 5;
const IN_SESSION: u8 = 6;
const SESSION_STATE: u8 = 7;
const SESSION_OCTETS: u8 = 8;
const SHELVED: u8 = 9;
const RUN: u8 = 16;

impl Check<'_> {
    /// Looks at all other rows of an entity, of whose messages so many have what they need.
    pub(super) fn besides(
        &mut self,
        entity: EntityId,
        companions: Companions,
    ) -> Result<Walked, StoreError> {
        let mut counted = Companions::default();
        let all = rows::entity_range(entity);
        let state = self.walk(Table::State, all.clone(), Some(entity), |check, key, row| {
            check.totals.rows += 1;
            check.state_row(entity, key, row, &mut counted)
        })?;
        // As many as messages need, and each of those is there: then there are no others.
        let kinds = [
            (EXPIRY, counted.expiries, companions.expiries),
            (ACTIVATION, counted.activations, companions.activations),
            (IN_SESSION, counted.in_sessions, companions.in_sessions),
            (SHELVED, counted.shelved, companions.shelved),
        ];
        for (kind, counted, needed) in kinds {
            if counted != needed {
                self.dangling(entity, kind)?;
            }
        }
        let ids = self.walk(Table::Dedup, all.clone(), Some(entity), |check, key, row| {
            check.totals.rows += 1;
            check.id_row(entity, key, row);
            Ok(())
        })?;
        let log = self.walk(Table::Log, all, Some(entity), |check, key, row| {
            let row = (Table::Log, key, row);
            check.find_unreadable(Severity::Damaged, entity, row, "nothing is kept there");
            Ok(())
        })?;
        let is_whole = [state, ids, log].iter().all(|walked| *walked == Walked::All);
        Ok(if is_whole { Walked::All } else { Walked::Partly })
    }

    fn state_row(
        &mut self,
        entity: EntityId,
        key: &Key,
        row: &Bytes,
        counted: &mut Companions,
    ) -> Result<(), StoreError> {
        let unreadable = (Table::State, key, row);
        match kind_of(key) {
            Some(MARK | PROPERTIES) => {
                let is_readable = kind_of(key) != Some(MARK) || rows::read_mark(row).is_some();
                let Some(sequence) = number_of(key).filter(|_| is_readable) else {
                    let what = "it is not about a message";
                    self.find_unreadable(Severity::Repairable, entity, unreadable, what);
                    return Ok(());
                };
                if !self.is_there(entity, sequence)? {
                    self.dangling_row(entity, key, &format!("message {sequence} is not there"));
                }
            }
            Some(EXPIRY) => counted.expiries += 1,
            Some(ACTIVATION) => counted.activations += 1,
            Some(IN_SESSION) => counted.in_sessions += 1,
            Some(SHELVED) => counted.shelved += 1,
            Some(SESSION_STATE | SESSION_OCTETS) => self.session_state(entity, key, row)?,
            Some(RUN) if number_of(key).is_some() && rows::read_run(row).is_some() => {
                if self.known(entity).topic().is_none() {
                    self.dangling_row(entity, key, "it holds messages of no topic");
                }
            }
            _ => {
                let what = "it is of a kind or form that this release does not know";
                self.find_unreadable(Severity::Damaged, entity, unreadable, what);
            }
        }
        Ok(())
    }

    fn dangling_row(&mut self, entity: EntityId, key: &Key, why: &str) {
        let what = format!("row {key} is about nothing: {why}");
        let fix = vec![Op::Remove { table: Table::State, key: key.clone() }];
        self.find(Severity::Repairable, Problem::DanglingRow, Some(entity), what, fix);
    }

    /// Whether an entity has a message, to be delivered or deferred, of its own or of its topic.
    fn is_there(&self, entity: EntityId, sequence: SequenceNumber) -> Result<bool, StoreError> {
        for shelf in [Shelf::Active, Shelf::Deferred] {
            if self.get(Table::Message, &rows::shelf_key(entity, shelf, sequence))?.is_some() {
                return Ok(true);
            }
        }
        if self.known(entity).topic().is_none() {
            return Ok(false);
        }
        let scan = rows::run_scan(entity, &(sequence..sequence.next()), 1);
        let runs = match self.store.scan(scan.table, &scan.range, scan.rows_max, scan.bytes_max) {
            Err(StoreError::Corrupt { .. }) => Vec::new(),
            other => other?,
        };
        Ok(runs.iter().any(|(key, row)| {
            let (first, run) = (number_of(key), rows::read_run(row));
            first.zip(run).is_some_and(|(first, run)| run.numbers(first).any(|of| of == sequence))
        }))
    }

    /// A state and its octets go together.
    fn session_state(
        &mut self,
        entity: EntityId,
        key: &Key,
        row: &Bytes,
    ) -> Result<(), StoreError> {
        let Some(session) = rows::session_of(key) else {
            let row = (Table::State, key, row);
            self.find_unreadable(Severity::Damaged, entity, row, "its key names no session");
            return Ok(());
        };
        let (state, octets) =
            (rows::session_state_key(entity, &session), rows::session_octets_key(entity, &session));
        if *key == octets {
            if self.get(Table::State, &state)?.is_none() {
                self.dangling_row(entity, key, "the session has no state");
            }
            return Ok(());
        }
        let Some(said) = rows::read_session_state(row) else {
            let row = (Table::State, key, row);
            self.find_unreadable(Severity::Damaged, entity, row, "it is no state of a session");
            return Ok(());
        };
        // They count as the entity's octets do.
        self.known_mut(entity).found.bytes += said.bytes;
        let len = self.get(Table::State, &octets)?.map(|octets| octets.len() as u64);
        if len != Some(said.bytes) {
            let what = format!("the state of a session has {len:?} octets, not {}", said.bytes);
            self.find(Severity::Damaged, Problem::UnreadableRow, Some(entity), what, vec![]);
        }
        Ok(())
    }

    fn id_row(&mut self, entity: EntityId, key: &Key, row: &Bytes) {
        let mut reader = key.reader();
        let bucket = reader.u32().and_then(|_| reader.u64());
        let known = &self.known(entity).buckets;
        let is_known = bucket.is_some_and(|at| known.contains(&crate::time::Timestamp(at)));
        let why = match (is_known, rows::duplicates::read(row)) {
            (true, Some(_)) => return,
            (false, _) => "its bucket is not there",
            (true, None) => "it is no time",
        };
        let what = format!("row {key} of a message-id: {why}");
        let fix = vec![Op::Remove { table: Table::Dedup, key: key.clone() }];
        self.find(Severity::Repairable, Problem::DanglingRow, Some(entity), what, fix);
    }

    /// Looks for the message of each row of a kind of which there are too many.
    fn dangling(&mut self, entity: EntityId, kind: u8) -> Result<(), StoreError> {
        let range = Key::new().with_u32(entity.0).with_u8(kind).prefix_range();
        self.walk(Table::State, range, Some(entity), |check, key, row| {
            let is_needed = match kind {
                EXPIRY => check.is_due(entity, TimerKind::Expiry, key, row)?,
                ACTIVATION => check.is_due(entity, TimerKind::Activation, key, row)?,
                _ => check.is_in_session(entity, kind, key, row)?,
            };
            if !is_needed {
                let problem = match kind {
                    EXPIRY | ACTIVATION => Problem::DanglingTimer,
                    _ => Problem::DanglingSessionEntry,
                };
                let what = format!("row {key} is about a message that is not there");
                let fix = vec![Op::Remove { table: Table::State, key: key.clone() }];
                check.find(Severity::Repairable, problem, Some(entity), what, fix);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn is_due(
        &self,
        entity: EntityId,
        kind: TimerKind,
        key: &Key,
        row: &Bytes,
    ) -> Result<bool, StoreError> {
        let read = rows::read_timers(vec![(key.clone(), row.clone())]);
        let Some((timer, _)) = read.first() else { return Ok(false) };
        let shelf = match kind {
            TimerKind::Expiry => Shelf::Active,
            TimerKind::Activation => Shelf::Scheduled,
        };
        let key = rows::shelf_key(entity, shelf, timer.sequence);
        let Some(row) = self.get(Table::Message, &key)? else { return Ok(false) };
        // Of one that cannot be read nobody knows.
        let Ok(message) = StoredMessage::from_row(row) else { return Ok(true) };
        Ok(match kind {
            TimerKind::Expiry => {
                self.known(entity).is_main() && message.expires_at() == Some(timer.at)
            }
            TimerKind::Activation => message.enqueued_at() == timer.at,
        })
    }

    fn is_in_session(
        &self,
        entity: EntityId,
        kind: u8,
        key: &Key,
        row: &Bytes,
    ) -> Result<bool, StoreError> {
        let Some((session, sequence)) = rows::session_and_sequence(key) else { return Ok(false) };
        let shelf = if kind == SHELVED { rows::shelf_in_index(row) } else { Shelf::Active };
        let key = rows::shelf_key(entity, shelf, sequence);
        let Some(row) = self.get(Table::Message, &key)? else { return Ok(false) };
        let Ok(message) = StoredMessage::from_row(row) else { return Ok(true) };
        Ok(self.known(entity).has_sessions() && message.facts().session() == Some(session))
    }
}
