//! The rows that say which entities there are.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use peeklock_storage::{Key, StoreError, Table};

use super::{Check, Problem, Severity, Walked};
use crate::broker::Broker;
use crate::entity::kind::EntityKind;
use crate::entity::settings::BrokerSettings;
use crate::id::{EntityId, SeededIds, SequenceNumber};
use crate::queue::{Definition, Numbers};
use crate::rows::{self, StateRow};
use crate::time::Timestamp;

/// An entity, and what was found of it so far.
pub(super) struct Known {
    pub(super) definition: Definition,
    pub(super) numbers: Numbers,
    /// When each of its buckets of message-ids began.
    pub(super) buckets: BTreeSet<Timestamp>,
    /// Of a topic: where it is known that there may be messages that nobody holds.
    pub(super) stale: Vec<Range<SequenceNumber>>,
    pub(super) found: Found,
    /// Something of it could not be read, so its numbers cannot be compared.
    pub(super) is_partial: bool,
}

/// What an entity has by its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    pub(super) count: u64,
    pub(super) deferred_count: u64,
    pub(super) scheduled_count: u64,
    pub(super) expiring_count: u64,
    pub(super) bytes: u64,
    pub(super) shared_bytes: u64,
    /// Of the messages to be delivered.
    pub(super) lowest: Option<SequenceNumber>,
    /// Of all.
    pub(super) highest: Option<SequenceNumber>,
}

impl Found {
    pub(super) fn active(&mut self, sequence: SequenceNumber, size: u64) {
        self.count += 1;
        self.bytes += size;
        self.lowest = Some(self.lowest.map_or(sequence, |lowest| lowest.min(sequence)));
        self.number(sequence);
    }

    pub(super) fn number(&mut self, sequence: SequenceNumber) {
        self.highest = self.highest.max(Some(sequence));
    }
}

impl Known {
    /// Whether it is a queue, a topic or a subscription, and not what belongs to one.
    pub(super) fn is_main(&self) -> bool {
        self.definition.dead_letter.is_some()
    }

    pub(super) fn is_main_topic(&self) -> bool {
        self.is_main() && self.definition.kind == EntityKind::Topic
    }

    pub(super) fn topic(&self) -> Option<EntityId> {
        match self.definition.kind {
            EntityKind::Subscription { topic } if self.is_main() => Some(topic),
            EntityKind::Subscription { .. } | EntityKind::Queue | EntityKind::Topic => None,
        }
    }

    pub(super) fn has_sessions(&self) -> bool {
        self.is_main() && self.definition.settings.requires_session
    }
}

impl Check<'_> {
    /// Says whether all entities are known now.
    pub(super) fn read_state(&mut self) -> Result<bool, StoreError> {
        let (mut rows, mut is_readable) = (Vec::new(), true);
        let mut all: Vec<StateRow> = Vec::new();
        let walked = self.walk(Table::State, rows::state_range(), None, |check, key, row| {
            check.totals.rows += 1;
            match rows::read_state_row(key, row) {
                Ok(read) => all.push(read),
                Err(error) => {
                    is_readable = false;
                    let (severity, problem) = (Severity::Damaged, Problem::UnreadableRow);
                    check.find(severity, problem, None, error.to_string(), vec![]);
                }
            }
            rows.push((key.clone(), row.clone()));
            Ok(())
        })?;
        if walked == Walked::Partly || !is_readable || !self.load(rows) {
            return Ok(false);
        }
        let mut numbers: Vec<(EntityId, Numbers)> = Vec::new();
        let (mut buckets, mut stale) = (Vec::new(), Vec::new());
        let mut definitions = Vec::new();
        for row in all {
            match row {
                StateRow::Definition(definition) => definitions.push(definition),
                StateRow::Numbers(entity, counted) => numbers.push((entity, counted)),
                StateRow::Buckets(entity, _, starts) => buckets.push((entity, starts)),
                StateRow::Stale(topic, range) => stale.push((topic, range)),
                StateRow::NextEntity(_) | StateRow::Rule(..) => {}
            }
        }
        for definition in definitions {
            let entity = definition.entity;
            // Without numbers the broker does not start, which was told.
            let Some((_, counted)) = numbers.iter().find(|(of, _)| *of == entity) else { continue };
            let (numbers, found) = (*counted, Found::default());
            self.totals.entities += u64::from(definition.dead_letter.is_some());
            let known = Known {
                definition,
                numbers,
                buckets: BTreeSet::new(),
                stale: Vec::new(),
                found,
                is_partial: false,
            };
            self.entities.insert(entity, known);
        }
        for (entity, starts) in buckets {
            if let Some(known) = self.entities.get_mut(&entity) {
                known.buckets.extend(starts);
            }
        }
        for (topic, range) in stale {
            if let Some(known) = self.entities.get_mut(&topic) {
                known.stale.push(range);
            }
        }
        Ok(true)
    }

    /// Does what the broker does when it starts.
    fn load(&mut self, rows: Vec<(Key, Bytes)>) -> bool {
        let ids = Box::new(SeededIds::new(0));
        let loaded = Broker::load(BrokerSettings::default(), ids, rows);
        if let Err(error) = &loaded {
            self.find(Severity::Damaged, Problem::Entities, None, error.to_string(), vec![]);
        }
        loaded.is_ok()
    }
}
