//! Copies an entity from one store into another: a queue, or a topic with its subscriptions, as it is.
//!
//! It gets other ids there; all else stays, sequence numbers, delivery counts and times among it. Three
//! steps make that safe against an end at any moment. First ids are reserved, and noted as those of a
//! copy under way. Then rows are copied page by page; the broker passes over rows of entities that it
//! does not know. Last of all come the rows that make the entity one of the broker's, in one batch that
//! also removes the note. What a copy leaves that was interrupted, the next one removes, or a repair:
//! and nobody else ever gets those ids.
//!
//! Nothing is written here: [`Transplant::next_batch`] says what is to be.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use peeklock_storage::{Batch, Key, Store, StoreError, Table};

use crate::broker::Broker;
use crate::effect::Counts;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, PathError};
use crate::entity::settings::BrokerSettings;
use crate::error::{Error, LoadError};
use crate::id::{EntityId, SeededIds};
use crate::message::StoredMessage;
use crate::queue::{Definition, Numbers};
use crate::rows::{self, StateRow};
use crate::time::Timestamp;

/// Rows and octets that are read at once, and octets that are written at once.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 4 << 20;

/// What is to be copied.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The queue or topic.
    pub entity: EntityPath,
    /// What it is to be called, if not as it was.
    pub name: Option<EntityPath>,
    /// The entity counts as used then: one that is deleted when idle would not stay otherwise.
    pub now: Timestamp,
}

/// Something that is copied: a queue, a topic or a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is called now.
    pub path: EntityPath,
    /// Its messages, by kind.
    pub counts: Counts,
    /// Octets of all that it holds; of a topic, with its subscriptions.
    pub bytes: u64,
    /// To where it passes on messages or dead letters, and no entity is there.
    pub missing_targets: Vec<EntityPath>,
}

/// Why something is not copied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransplantError {
    /// There is no such entity, or it cannot be where it is to go.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The name cannot be one of an entity.
    #[error("{0}: {1}")]
    Name(String, PathError),
    /// The store it is in.
    #[error("what is copied from cannot be read: {0}")]
    Source(LoadError),
    /// The store it is to go to.
    #[error("what is copied to cannot be read: {0}")]
    Target(LoadError),
    /// A row is not of a form that this release knows.
    #[error("row {key} of table {table} cannot be read: {what}")]
    UnreadableRow {
        /// Its table.
        table: Table,
        /// Its key.
        key: Key,
        /// What is wrong.
        what: &'static str,
    },
    /// A store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module.
pub struct Transplant<'a> {
    source: &'a dyn Store,
    parts: Vec<Part>,
    /// Whose dead letters messages are: what entities of the source are in the target.
    sources: BTreeMap<EntityId, EntityId>,
    reservation: Option<Batch>,
    /// What is still to be copied, the last first.
    stretches: Vec<Stretch>,
    ending: Option<Batch>,
}

/// Rows of an entity in a table, and whose they are to be.
struct Stretch {
    table: Table,
    range: Range<Key>,
    entity: EntityId,
}

impl<'a> Transplant<'a> {
    /// Looks whether it can be done. Nobody may write to either store meanwhile, nor until the end.
    pub fn plan(
        source: &'a dyn Store,
        target: &dyn Store,
        wish: &Wish,
    ) -> Result<Self, TransplantError> {
        let rows = Broker::state_rows(source)?;
        let from = load(rows.clone()).map_err(TransplantError::Source)?;
        let to = load(Broker::state_rows(target)?).map_err(TransplantError::Target)?;
        let kin = Kin::of(&from, wish)?;
        let names = kin.names.iter().zip(&kin.entities);
        let names: Vec<_> = names
            .map(|(name, entities)| Ok((name, from.queue(entities.main)?.settings())))
            .collect::<Result<_, Error>>()?;
        let ids = to.room_for(names.into_iter())?;
        let moves = kin.moves(&ids);
        let mut sources = to.namesakes(&from);
        sources.extend(&moves);
        Ok(Self {
            source,
            parts: kin.parts(&from, &to)?,
            sources,
            reservation: Some(reservation(target, &ids)?),
            stretches: stretches(&moves),
            ending: Some(ending(&rows, &kin, &moves, wish.now)?),
        })
    }

    /// What is copied: a topic before its subscriptions.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What is to be written next; nothing when all is there. Each batch has to be durable before the
    /// next is asked for.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TransplantError> {
        if let Some(first) = self.reservation.take() {
            return Ok(Some(first));
        }
        let mut batch = Batch::default();
        while batch.bytes() < PAGE_BYTES
            && let Some(mut stretch) = self.stretches.pop()
        {
            let page = self.source.scan(stretch.table, &stretch.range, PAGE_ROWS, PAGE_BYTES)?;
            let Some((last, _)) = page.last() else { continue };
            stretch.range.start = last.successor();
            for (key, row) in &page {
                self.copy(&stretch, key, row, &mut batch)?;
            }
            self.stretches.push(stretch);
        }
        Ok(if batch.is_empty() { self.ending.take() } else { Some(batch) })
    }

    fn copy(
        &self,
        stretch: &Stretch,
        key: &Key,
        row: &Bytes,
        batch: &mut Batch,
    ) -> Result<(), TransplantError> {
        let table = stretch.table;
        let unreadable = |what| TransplantError::UnreadableRow { table, key: key.clone(), what };
        let to = rows::key_for(key, stretch.entity).ok_or_else(|| unreadable("it is nobody's"))?;
        let row = match table {
            Table::Message => {
                // Somebody else may have that id here.
                let source = |id| self.sources.get(&id).copied().unwrap_or(EntityId::NOBODY);
                StoredMessage::row_with_source(row, source).map_err(unreadable)?
            }
            Table::State | Table::Dedup | Table::Log => row.clone(),
        };
        batch.put(table, to, row);
        Ok(())
    }
}

/// The entities that go together, and what they are to be called.
struct Kin {
    entities: Vec<QueueEntities>,
    names: Vec<EntityPath>,
}

impl Kin {
    fn of(from: &Broker, wish: &Wish) -> Result<Self, TransplantError> {
        let entities = from.kin(&wish.entity)?;
        let name = |entities: &QueueEntities| {
            let path = &from.queue(entities.main)?.definition.path;
            renamed(path, wish.name.as_ref())
        };
        let names = entities.iter().map(name).collect::<Result<_, TransplantError>>()?;
        Ok(Self { entities, names })
    }

    /// Which id each gets.
    fn moves(&self, ids: &Range<EntityId>) -> BTreeMap<EntityId, EntityId> {
        let old = self.entities.iter().flat_map(QueueEntities::all);
        old.zip((ids.start.0..ids.end.0).map(EntityId)).collect()
    }

    /// What an entity is to be called, with its subqueue.
    fn name_of(&self, definition: &Definition) -> Option<EntityPath> {
        let is_it = |entities: &QueueEntities| entities.all().contains(&definition.entity);
        let place = self.entities.iter().position(is_it)?;
        Some(self.names.get(place)?.with_subqueue(definition.path.subqueue()))
    }

    fn parts(&self, from: &Broker, to: &Broker) -> Result<Vec<Part>, Error> {
        let part = |(path, entities): (&EntityPath, &QueueEntities)| {
            let settings = from.queue(entities.main)?.settings();
            let targets = [&settings.forward_to, &settings.forward_dead_letters_to];
            let is_missing = |target: &&EntityPath| !to.has(target) && !self.names.contains(target);
            Ok(Part {
                path: path.clone(),
                counts: from.counts(*entities)?,
                bytes: from.held_bytes(*entities)?,
                missing_targets: targets
                    .into_iter()
                    .flatten()
                    .filter(is_missing)
                    .cloned()
                    .collect(),
            })
        };
        self.names.iter().zip(&self.entities).map(part).collect()
    }
}

/// The broker that a store makes, for looking at it. What its configuration says does not matter here.
fn load(rows: Vec<(Key, Bytes)>) -> Result<Broker, LoadError> {
    Broker::load(BrokerSettings::default(), Box::new(SeededIds::new(0)), rows)
}

/// A path below another name: a subscription stays what it is called below its topic.
fn renamed(path: &EntityPath, name: Option<&EntityPath>) -> Result<EntityPath, TransplantError> {
    let Some(name) = name else { return Ok(path.clone()) };
    let named = match path.subscription() {
        Some((_, subscription)) => EntityPath::for_subscription(name, subscription),
        None => EntityPath::for_new_entity(&name.to_string()),
    };
    named.map_err(|error| TransplantError::Name(name.to_string(), error))
}

/// Takes ids, and removes what a copy has left that was interrupted.
fn reservation(target: &dyn Store, ids: &Range<EntityId>) -> Result<Batch, TransplantError> {
    let mut batch = Batch::default();
    let (table, key) = (Table::State, rows::copy_key());
    if let Some(row) = target.get(table, &key)? {
        let what = "it does not say which ids a copy has reserved";
        let left = rows::read_copy(&row);
        let left = left.ok_or(TransplantError::UnreadableRow { table, key, what })?;
        rows::remove_entities(left, &mut batch);
    }
    rows::put_next_entity(ids.end, &mut batch);
    rows::put_copy(ids, &mut batch);
    Ok(batch)
}

fn stretches(moves: &BTreeMap<EntityId, EntityId>) -> Vec<Stretch> {
    let of_tables = |(old, new): (&EntityId, &EntityId)| {
        let (range, entity) = (rows::entity_range(*old), *new);
        rows::ENTITY_TABLES.map(|table| Stretch { table, range: range.clone(), entity })
    };
    moves.iter().rev().flat_map(of_tables).collect()
}

/// The rows that make the entities those of the broker.
fn ending(
    state: &[(Key, Bytes)],
    kin: &Kin,
    moves: &BTreeMap<EntityId, EntityId>,
    now: Timestamp,
) -> Result<Batch, TransplantError> {
    let mut batch = Batch::default();
    for (key, row) in state {
        let Some(entity) = rows::owner_in_state(key).and_then(|owner| moves.get(&owner)) else {
            continue;
        };
        match rows::read_state_row(key, row).map_err(TransplantError::Source)? {
            StateRow::Definition(definition) => {
                if let Some(definition) = moved(definition, kin, moves) {
                    rows::persist_definition(&definition, &mut batch);
                }
            }
            StateRow::Numbers(_, numbers) => {
                let accessed_at = numbers.accessed_at.max(now);
                rows::persist_numbers(*entity, &Numbers { accessed_at, ..numbers }, &mut batch);
            }
            StateRow::Buckets(..) | StateRow::Rule(..) | StateRow::Stale(..) => {
                if let Some(key) = rows::state_key_for(key, *entity) {
                    batch.put(Table::State, key, row.clone());
                }
            }
            StateRow::NextEntity(_) => {}
        }
    }
    batch.remove(Table::State, rows::copy_key());
    Ok(batch)
}

/// The definition of an entity with its new name and ids.
fn moved(
    definition: Definition,
    kin: &Kin,
    moves: &BTreeMap<EntityId, EntityId>,
) -> Option<Definition> {
    let id = |old: EntityId| moves.get(&old).copied();
    Some(Definition {
        entity: id(definition.entity)?,
        dead_letter: definition.dead_letter.and_then(id),
        transfer_dead_letter: definition.transfer_dead_letter.and_then(id),
        path: kin.name_of(&definition)?,
        kind: match definition.kind {
            EntityKind::Subscription { topic } => EntityKind::Subscription { topic: id(topic)? },
            kind @ (EntityKind::Queue | EntityKind::Topic) => kind,
        },
        ..definition
    })
}
