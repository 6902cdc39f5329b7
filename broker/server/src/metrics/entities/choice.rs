//! Which entities are shown when there are more than the configuration wants.
//!
//! Those that hold the most messages, then those with the most traffic. The better half of the places goes
//! by that rank alone, so whatever grows to matter is seen at once. The other half goes first to those that
//! were shown before, and only then by rank: so an entity has to fall far behind before it is dropped, and
//! does not come and go with every message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use peeklock_core::{EntityId, EntityStatistics};

use super::Told;

/// An entity by its namespace and its number there.
type Named = (Arc<str>, EntityId);

/// How many are shown, and what a scrape remembers for the next one.
pub(crate) struct EntitiesShown {
    count_max: usize,
    /// Which were shown; nothing if all were.
    before: Mutex<Option<HashSet<Named>>>,
    looks: AtomicUsize,
}

impl EntitiesShown {
    /// So many at the most, all namespaces together; with 0 only totals are left.
    pub(crate) fn new(count_max: usize) -> Self {
        Self { count_max, before: Mutex::new(None), looks: AtomicUsize::new(0) }
    }

    /// For each namespace, which of its entities are shown, in their order.
    pub(super) fn choose(&self, told: &[Told]) -> Vec<Vec<usize>> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if told.iter().map(|told| told.entities.len()).sum::<usize>() <= self.count_max {
            *before = None;
            return told.iter().map(|told| (0..told.entities.len()).collect()).collect();
        }
        let key = |(namespace, at): (usize, usize)| {
            let told: &Told = &told[namespace];
            (Arc::clone(&told.name), told.entities[at].entity)
        };
        let mut ranked: Vec<(usize, usize)> = told
            .iter()
            .enumerate()
            .flat_map(|(namespace, told)| (0..told.entities.len()).map(move |at| (namespace, at)))
            .collect();
        ranked.sort_by_cached_key(|(namespace, at)| rank(&told[*namespace].entities[*at]));
        let mut chosen = ranked.split_off(self.count_max.div_ceil(2));
        std::mem::swap(&mut chosen, &mut ranked);
        let was_shown = |place: &(usize, usize)| {
            before.as_ref().is_none_or(|before| before.contains(&key(*place)))
        };
        let (kept, others): (Vec<_>, Vec<_>) = ranked.into_iter().partition(was_shown);
        chosen.extend(kept.into_iter().chain(others));
        chosen.truncate(self.count_max);
        *before = Some(chosen.iter().map(|place| key(*place)).collect());
        chosen.sort_unstable();
        let mut by_namespace = vec![Vec::new(); told.len()];
        for (namespace, at) in chosen {
            by_namespace[namespace].push(at);
        }
        by_namespace
    }

    /// Where to go on with what is looked up a few at a time.
    pub(super) fn next_look(&self, count: usize) -> usize {
        self.looks.fetch_add(count, Ordering::Relaxed)
    }
}

/// The lower, the more it matters.
fn rank(entity: &EntityStatistics) -> (u64, u64) {
    let counters = &entity.counters;
    let traffic = counters.incoming.saturating_add(counters.outgoing);
    (u64::MAX - entity.messages(), u64::MAX - traffic)
}
