//! The broker as it was, from its rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use peeklock_storage::{Key, Store, StoreError, Table};

use super::{Broker, queue_mut};
use crate::entity::namespace::QueueEntities;
use crate::entity::path::Subqueue;
use crate::entity::settings::BrokerSettings;
use crate::error::LoadError;
use crate::id::{EntityId, IdSource};
use crate::queue::{Definition, Queue};
use crate::rows::{self, StateRow};
use crate::time::Timestamp;

/// Rows and octets of the state that are read at once.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 4 << 20;

impl Broker {
    /// What [`Broker::load`] wants of a store. It blocks.
    pub fn state_rows(store: &dyn Store) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let mut range = rows::state_range();
        let mut rows = Vec::new();
        loop {
            let page = store.scan(Table::State, &range, PAGE_ROWS, PAGE_BYTES)?;
            let Some((last, _)) = page.last() else { return Ok(rows) };
            range.start = last.successor();
            rows.extend(page);
        }
    }

    /// Which rows [`Broker::load`] wants, of [`peeklock_storage::Table::State`]. They are few: one
    /// an entity, whatever it holds.
    pub fn load_range() -> std::ops::Range<Key> {
        rows::state_range()
    }

    /// The broker as it was when the last durable turn was taken, less what is volatile: locks are
    /// free, receivers gone. Reads no message.
    pub fn load(
        settings: BrokerSettings,
        ids: Box<dyn IdSource + Send>,
        state_rows: impl IntoIterator<Item = (Key, Bytes)>,
    ) -> Result<Self, LoadError> {
        let mut broker = Broker::new(settings, ids);
        let mut next_entity = EntityId(1);
        let (mut definitions, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        let mut buckets = BTreeMap::new();
        let (mut rules, mut stale) = (Vec::new(), Vec::new());
        for (key, row) in state_rows {
            match rows::read_state_row(&key, &row)? {
                StateRow::NextEntity(id) => next_entity = id,
                StateRow::Definition(definition) => {
                    definitions.insert(definition.entity, definition);
                }
                StateRow::Rule(subscription, rule) => rules.push((subscription, rule)),
                StateRow::Stale(topic, range) => stale.push((topic, range)),
                StateRow::Numbers(entity, counted) => {
                    numbers.insert(entity, counted);
                }
                StateRow::Buckets(entity, floor, starts) => {
                    buckets.insert(entity, (floor, starts));
                }
            }
        }
        let mut loaded = BTreeMap::new();
        for (entity, definition) in definitions {
            if next_entity <= entity {
                return Err(LoadError::Inconsistent(format!("entity {entity} has a future id")));
            }
            let Some(numbers) = numbers.remove(&entity) else {
                return Err(LoadError::Inconsistent(format!("entity {entity} has no numbers")));
            };
            let mut queue = Queue::load(definition, numbers);
            if let Some((floor, starts)) = buckets.remove(&entity)
                && !queue.load_duplicates(floor, starts)
            {
                let what = format!("entity {entity} has seen ids that it is not to look at");
                return Err(LoadError::Inconsistent(what));
            }
            loaded.insert(entity, queue);
        }
        if let Some(entity) = numbers.keys().next() {
            return Err(LoadError::Inconsistent(format!("entity {entity} has no definition")));
        }
        if let Some(entity) = buckets.keys().next() {
            return Err(LoadError::Inconsistent(format!(
                "entity {entity} has ids and nothing else"
            )));
        }
        for queue in loaded.values() {
            let Definition { entity, dead_letter, transfer_dead_letter, path, .. } =
                &queue.definition;
            let (Some(dead_letter), Some(transfer_dead_letter)) =
                (*dead_letter, *transfer_dead_letter)
            else {
                continue;
            };
            for (subqueue, kind) in [
                (dead_letter, Subqueue::DeadLetter),
                (transfer_dead_letter, Subqueue::TransferDeadLetter),
            ] {
                let is_there = loaded
                    .get(&subqueue)
                    .is_some_and(|other| other.definition.path == path.with_subqueue(kind));
                if !is_there {
                    return Err(LoadError::Inconsistent(format!("{path} lacks a subqueue")));
                }
            }
            if dead_letter.0 != entity.0 + 1 || transfer_dead_letter.0 != entity.0 + 2 {
                return Err(LoadError::Inconsistent(format!("{path} has its subqueues elsewhere")));
            }
            if broker.namespace.resolve(path).is_some() {
                return Err(LoadError::Inconsistent(format!("{path} is there twice")));
            }
            let entities = QueueEntities { main: *entity, dead_letter, transfer_dead_letter };
            broker.namespace.insert(path, entities);
        }
        broker.queues =
            (0..next_entity.0).map(|id| loaded.remove(&EntityId(id)).map(Box::new)).collect();
        broker.load_topics(rules, stale)?;
        for entity in 0..next_entity.0 {
            let entity = EntityId(entity);
            if let Some(queue) = queue_mut(&mut broker.queues, entity)
                && queue.passes_on()
                && queue.count() != 0
            {
                // Nobody asks for what goes on by itself.
                queue.forward_at = Some(Timestamp::default());
            }
            broker.plan_deadline(entity);
        }
        Ok(broker)
    }
}
