//! Many correlation filters at the price of a few.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};

use smallvec::SmallVec;

use super::correlation::{CorrelationFilter, Field, FieldValue};
use super::properties::Properties;

/// Correlation filters by what they ask for. A message costs one look-up for each distinct set of
/// fields, of which there are usually a few, however many filters share it.
///
/// Peers choose what is looked up, but only who manages rules chooses what is in the tables: a plain
/// hash without a secret does, and repeats.
#[derive(Clone, Debug)]
pub struct CorrelationIndex<T> {
    groups: BTreeMap<Box<[Field]>, Group<T>>,
}

/// Filters about the same fields, by the values they ask for.
type Group<T> = HashMap<Box<[FieldValue]>, Vec<T>, BuildHasherDefault<DefaultHasher>>;

impl<T: Clone + Ord> CorrelationIndex<T> {
    /// An index without filters.
    pub const fn new() -> Self {
        CorrelationIndex { groups: BTreeMap::new() }
    }

    /// Whether there are no filters.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many distinct sets of fields there are, which is what a message costs.
    pub fn field_sets(&self) -> usize {
        self.groups.len()
    }

    /// Adds a filter under a name.
    pub fn insert(&mut self, filter: &CorrelationFilter, id: T) {
        let group = self.groups.entry(filter.fields().into()).or_default();
        group.entry(filter.values().into()).or_default().push(id);
    }

    /// Takes away a filter that was added under this name, if it was.
    pub fn remove(&mut self, filter: &CorrelationFilter, id: &T) -> bool {
        let Some(group) = self.groups.get_mut(filter.fields()) else { return false };
        let Some(ids) = group.get_mut(filter.values()) else { return false };
        let Some(at) = ids.iter().position(|known| known == id) else { return false };
        ids.remove(at);
        if ids.is_empty() {
            group.remove(filter.values());
        }
        if group.is_empty() {
            self.groups.remove(filter.fields());
        }
        true
    }

    /// The names of all filters that let a message through, in order.
    pub fn matches(&self, properties: &dyn Properties) -> Vec<T> {
        let mut found = Vec::new();
        for (fields, group) in &self.groups {
            let values: Option<SmallVec<[FieldValue; 4]>> =
                fields.iter().map(|field| FieldValue::of(field, properties)).collect();
            if let Some(ids) = values.and_then(|values| group.get(values.as_slice())) {
                found.extend_from_slice(ids);
            }
        }
        found.sort_unstable();
        found
    }
}

impl<T: Clone + Ord> Default for CorrelationIndex<T> {
    fn default() -> Self {
        Self::new()
    }
}
