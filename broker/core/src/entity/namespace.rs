//! The container of all entities that a host name stands for: which path is which entity.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::entity::path::{EntityPath, Subqueue};
use crate::id::EntityId;

/// The entities of one namespace by name. Names compare without regard to case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    queues: BTreeMap<Arc<str>, QueueEntities>,
}

/// A queue and its subqueues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueEntities {
    pub(crate) main: EntityId,
    pub(crate) dead_letter: EntityId,
    pub(crate) transfer_dead_letter: EntityId,
}

impl QueueEntities {
    /// All of them.
    pub(crate) const fn all(&self) -> [EntityId; 3] {
        [self.main, self.dead_letter, self.transfer_dead_letter]
    }
}

impl Namespace {
    /// Which entity a path names, if there is one.
    pub fn resolve(&self, path: &EntityPath) -> Option<EntityId> {
        let entities = self.queue(path)?;
        match path.subqueue() {
            Subqueue::Main => Some(entities.main),
            Subqueue::DeadLetter => Some(entities.dead_letter),
            Subqueue::TransferDeadLetter => Some(entities.transfer_dead_letter),
        }
    }

    /// The queue a path belongs to, whatever part of it is named.
    pub(crate) fn queue(&self, path: &EntityPath) -> Option<QueueEntities> {
        self.queues.get(path.folded_name()).copied()
    }

    /// How many queues there are, without the probe.
    pub(crate) fn queue_count(&self) -> usize {
        let probe = usize::from(self.queues.contains_key(EntityPath::probe().folded_name()));
        self.queues.len() - probe
    }

    /// All of them but the probe, in the order of their names as they are compared.
    pub(crate) fn iter(&self) -> impl Iterator<Item = QueueEntities> {
        let probe = EntityPath::probe();
        let is_meant = move |(name, _): &(&Arc<str>, _)| *name != probe.folded_name();
        self.queues.iter().filter(is_meant).map(|(_, entities)| *entities)
    }

    /// Those behind a path in that order, which need not be there any more.
    pub(crate) fn behind(&self, path: Option<&EntityPath>) -> impl Iterator<Item = QueueEntities> {
        let from = path.map_or(Bound::Unbounded, |path| Bound::Excluded(&**path.folded_name()));
        self.queues.range::<str, _>((from, Bound::Unbounded)).map(|(_, entities)| *entities)
    }

    /// Those below a path, in the order of their names: a topic's subscriptions.
    pub(crate) fn below(&self, path: &EntityPath) -> impl Iterator<Item = QueueEntities> {
        let prefix = format!("{}/", path.folded_name());
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let found: Vec<_> = self
            .queues
            .range::<str, _>(from)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .map(|(_, entities)| *entities)
            .collect();
        found.into_iter()
    }

    pub(crate) fn remove(&mut self, path: &EntityPath) {
        let before = self.queues.remove(path.folded_name());
        assert!(before.is_some(), "only a path that names an entity is freed");
    }

    pub(crate) fn insert(&mut self, path: &EntityPath, entities: QueueEntities) {
        let before = self.queues.insert(Arc::clone(path.folded_name()), entities);
        assert_eq!(before, None, "a path names one entity");
    }
}
