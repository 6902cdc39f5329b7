//! Whether the rows of a store fit together, and what would make them.
//!
//! | Where | What |
//! |---|---|
//! | `state` | the rows that say which entities there are |
//! | `topic` | messages that topics keep for their subscriptions |
//! | `messages` | the messages of an entity, and what each of them needs besides |
//! | `besides` | rows about messages, and whether these are there |
//!
//! Rows are read in the order of their keys and looked up one by one; what is kept in memory is one
//! entry an entity, and of a topic some thousand numbers at a time. Nothing is written: a [`Finding`]
//! says what would have to be.

mod besides;
mod messages;
mod state;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use peeklock_storage::{Key, Op, Store, StoreError, Table};

use self::state::Known;
use crate::id::{EntityId, SequenceNumber};
use crate::rows;

/// Rows and octets that are read at once.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 4 << 20;

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// All messages are there; what stands beside them can be made from them.
    Repairable,
    /// Something that was accepted cannot be read, or is not there.
    Damaged,
}

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Problem {
    /// A part of a table cannot be read: the engine says why.
    UnreadableTable,
    /// A row is not of a form that this release knows.
    UnreadableRow,
    /// Entities do not fit together: the broker does not start.
    Entities,
    /// Rows of an entity that is not there.
    Orphans,
    /// An entity counts wrongly.
    Numbers,
    /// A message has no row that says when it is due.
    MissingTimer,
    /// A due time of a message that is not there.
    DanglingTimer,
    /// A message is not in the index of its session.
    MissingSessionEntry,
    /// The index of a session has a message that is not there.
    DanglingSessionEntry,
    /// A message without a session where all have one.
    NoSession,
    /// A row about a message that is not there.
    DanglingRow,
    /// A subscription holds a message that its topic does not have.
    MissingBody,
    /// A topic keeps a message that nobody holds.
    UnheldBody,
}

impl Problem {
    /// Its name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnreadableTable => "unreadable_table",
            Self::UnreadableRow => "unreadable_row",
            Self::Entities => "entities",
            Self::Orphans => "orphans",
            Self::Numbers => "numbers",
            Self::MissingTimer => "missing_timer",
            Self::DanglingTimer => "dangling_timer",
            Self::MissingSessionEntry => "missing_session_entry",
            Self::DanglingSessionEntry => "dangling_session_entry",
            Self::NoSession => "no_session",
            Self::DanglingRow => "dangling_row",
            Self::MissingBody => "missing_body",
            Self::UnheldBody => "unheld_body",
        }
    }
}

/// Something that does not fit.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub problem: Problem,
    /// The entity's path, if it is one's.
    pub entity: Option<String>,
    /// The same in words.
    pub what: String,
    /// What to write so that it fits; nothing where that would be a guess.
    pub fix: Vec<Op>,
    /// Octets that the fix takes away and that nobody can read: to be kept elsewhere.
    pub set_aside: Option<(Table, Key, Bytes)>,
}

/// What was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Queues, topics and subscriptions.
    pub entities: u64,
    /// Of all of them, in every state.
    pub messages: u64,
    /// Octets of the messages, each counted once.
    pub bytes: u64,
    /// Rows of all tables.
    pub rows: u64,
}

/// Looks at all rows of a store that nobody writes to, and tells each thing that does not fit. The error
/// is one of the store as such; a part of it that cannot be read is a finding.
pub fn check(store: &dyn Store, tell: &mut dyn FnMut(Finding)) -> Result<Totals, StoreError> {
    let mut check = Check { store, tell, totals: Totals::default(), entities: BTreeMap::new() };
    if !check.read_state()? {
        // Without knowing which entities there are, all rows would look like those of none.
        return Ok(check.totals);
    }
    let entities: Vec<EntityId> = check.entities.keys().copied().collect();
    for entity in &entities {
        if check.known(*entity).is_main_topic() {
            check.topic(*entity)?;
        }
    }
    for entity in &entities {
        check.entity(*entity)?;
    }
    check.orphans()?;
    Ok(check.totals)
}

struct Check<'a> {
    store: &'a dyn Store,
    tell: &'a mut dyn FnMut(Finding),
    totals: Totals,
    entities: BTreeMap<EntityId, Known>,
}

/// Whether a walk got to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walked {
    All,
    /// A part could not be read, and was told.
    Partly,
}

impl Check<'_> {
    fn known(&self, entity: EntityId) -> &Known {
        &self.entities[&entity]
    }

    fn known_mut(&mut self, entity: EntityId) -> &mut Known {
        self.entities.get_mut(&entity).expect("it is one of those that were read")
    }

    fn path(&self, entity: EntityId) -> Option<String> {
        self.entities.get(&entity).map(|known| known.definition.path.to_string())
    }

    fn find(
        &mut self,
        severity: Severity,
        problem: Problem,
        entity: Option<EntityId>,
        what: String,
        fix: Vec<Op>,
    ) {
        let entity = entity.and_then(|entity| self.path(entity));
        (self.tell)(Finding { severity, problem, entity, what, fix, set_aside: None });
    }

    /// A row that no release could have written so, which is to go and to be kept elsewhere.
    fn find_unreadable(
        &mut self,
        severity: Severity,
        entity: EntityId,
        (table, key, row): (Table, &Key, &Bytes),
        what: &str,
    ) {
        let entity = self.path(entity);
        let what = format!("row {key} of table {table} cannot be read: {what}");
        let fix = vec![Op::Remove { table, key: key.clone() }];
        let set_aside = Some((table, key.clone(), row.clone()));
        let problem = Problem::UnreadableRow;
        (self.tell)(Finding { severity, problem, entity, what, fix, set_aside });
    }

    /// Reads a range page by page. What cannot be read is told and ends it.
    fn walk(
        &mut self,
        table: Table,
        mut range: Range<Key>,
        entity: Option<EntityId>,
        mut visit: impl FnMut(&mut Self, &Key, &Bytes) -> Result<(), StoreError>,
    ) -> Result<Walked, StoreError> {
        loop {
            let page = match self.store.scan(table, &range, PAGE_ROWS, PAGE_BYTES) {
                Ok(page) => page,
                Err(error @ StoreError::Corrupt { .. }) => {
                    let what = format!("{error}; nothing behind it is looked at");
                    self.find(Severity::Damaged, Problem::UnreadableTable, entity, what, vec![]);
                    return Ok(Walked::Partly);
                }
                Err(error) => return Err(error),
            };
            let Some((last, _)) = page.last() else { return Ok(Walked::All) };
            range.start = last.successor();
            for (key, row) in &page {
                visit(self, key, row)?;
            }
        }
    }

    /// A row, or nothing where it cannot be read: whoever walks over it tells.
    fn get(&self, table: Table, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(table, key) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            other => other,
        }
    }

    /// Rows of entities that are not there. Ids are not used again, so nobody misses them.
    fn orphans(&mut self) -> Result<(), StoreError> {
        for table in Table::ALL {
            // The rows of no entity are those of the state.
            let mut start = Key::new().with_u32(1);
            loop {
                let range = start.clone()..Key::new().with_u32(u32::MAX);
                let first = match self.store.scan(table, &range, 1, usize::MAX) {
                    Ok(first) => first,
                    // Told by whoever walked there; what stands behind it is not found.
                    Err(StoreError::Corrupt { .. }) => break,
                    Err(error) => return Err(error),
                };
                let Some((key, _)) = first.first() else { break };
                let Some(entity) = key.reader().u32() else {
                    let what = format!("row {key} of table {table} belongs to nobody");
                    let fix = vec![Op::Remove { table, key: key.clone() }];
                    self.find(Severity::Repairable, Problem::Orphans, None, what, fix);
                    start = key.successor();
                    continue;
                };
                let range = Key::new().with_u32(entity)..Key::new().with_u32(entity + 1);
                start = range.end.clone();
                if !self.entities.contains_key(&EntityId(entity)) {
                    let what = if rows::is_about_copy(entity) {
                        "an entity was to be restored, which was interrupted".to_owned()
                    } else {
                        format!("rows of entity {entity} in table {table}, which is gone")
                    };
                    let fix = vec![Op::RemoveRange { table, range }];
                    self.find(Severity::Repairable, Problem::Orphans, None, what, fix);
                }
            }
        }
        Ok(())
    }
}

/// The number that a row about a message has, if its key is that of one.
fn number_of(key: &Key) -> Option<SequenceNumber> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()?;
    let number = reader.u64()?;
    reader.is_empty().then_some(SequenceNumber(number))
}

/// Of an entity's row: which of its kinds it is.
fn kind_of(key: &Key) -> Option<u8> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()
}
