//! Many SQL filters at the price of those that come into question.

use std::collections::BTreeMap;

use super::anchor::{Anchor, may_fail};
use super::correlation::Field;
use super::error::EvaluationError;
use super::evaluate::Allowance;
use super::intervals::{Intervals, Key, Kind};
use super::properties::Properties;
use super::sql::SqlFilter;

/// SQL filters, distinct ones once, by what they ask of one property: of a thousand filters that ask for
/// a region each, a message runs those that ask for its own. What it runs is decided by running it: the
/// index leaves out only what would come to false, or to unknown.
#[derive(Clone, Debug)]
pub struct SqlIndex<T> {
    /// By the filters' canonical form.
    numbers: BTreeMap<Box<str>, usize>,
    /// By number.
    filters: Vec<Option<Distinct<T>>>,
    /// Numbers that are not in use.
    free: Vec<usize>,
    /// By property and kind of value.
    anchored: BTreeMap<(Field, Kind), Anchored>,
    /// Those that ask nothing of one property alone. They are always run.
    unanchored: Vec<usize>,
}

/// All filters with the same canonical form.
#[derive(Clone, Debug)]
struct Distinct<T> {
    filter: SqlFilter,
    ids: Vec<T>,
}

/// Filters that ask for values of one kind of one property.
#[derive(Clone, Debug, Default)]
struct Anchored {
    intervals: Intervals,
    /// Those that have to be run if the property is missing or of another kind: what they ask of it is
    /// then unknown, not false, and what comes next may fail.
    fallible: Vec<usize>,
}

/// What came of a message, in the order of the filters' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches<T> {
    /// The filters that let it through.
    pub through: Vec<T>,
    /// Those that have no outcome, and why.
    pub failed: Vec<(T, EvaluationError)>,
}

impl<T: Clone + Ord> SqlIndex<T> {
    /// An index without filters.
    pub const fn new() -> Self {
        SqlIndex {
            numbers: BTreeMap::new(),
            filters: Vec::new(),
            free: Vec::new(),
            anchored: BTreeMap::new(),
            unanchored: Vec::new(),
        }
    }

    /// How many filters there are, equal ones counted as often as they were added.
    pub fn len(&self) -> usize {
        self.filters.iter().flatten().map(|distinct| distinct.ids.len()).sum()
    }

    /// Whether there are no filters.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Adds a filter under a name.
    pub fn insert(&mut self, filter: SqlFilter, id: T) {
        if let Some(number) = self.numbers.get(filter.canonical()) {
            let distinct = self.filters[*number].as_mut().expect("numbers in use have a filter");
            distinct.ids.push(id);
            return;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.filters.push(None);
            self.filters.len() - 1
        });
        self.numbers.insert(filter.canonical().into(), number);
        match Anchor::of(filter.condition()).map(Anchor::bounded) {
            Some(anchor) => self.anchor(&anchor, number, may_fail(filter.condition())),
            None => self.unanchored.push(number),
        }
        self.filters[number] = Some(Distinct { filter, ids: vec![id] });
    }

    fn anchor(&mut self, anchor: &Anchor, number: usize, may_fail: bool) {
        for kind in [Kind::Bool, Kind::Number, Kind::Text] {
            let of_kind = anchor.intervals.iter().filter(|interval| interval.kind() == kind);
            let of_kind: Vec<_> = of_kind.cloned().collect();
            if of_kind.is_empty() {
                continue;
            }
            let anchored = self.anchored.entry((anchor.field.clone(), kind)).or_default();
            anchored.intervals.insert(of_kind, number);
            if may_fail {
                anchored.fallible.push(number);
            }
        }
    }

    /// Takes away a filter that was added under this name, if it was.
    pub fn remove(&mut self, filter: &SqlFilter, id: &T) -> bool {
        let Some(number) = self.numbers.get(filter.canonical()).copied() else { return false };
        let distinct = self.filters[number].as_mut().expect("numbers in use have a filter");
        let Some(at) = distinct.ids.iter().position(|known| known == id) else { return false };
        distinct.ids.remove(at);
        if distinct.ids.is_empty() {
            self.numbers.remove(filter.canonical());
            self.filters[number] = None;
            self.free.push(number);
            self.unanchored.retain(|other| *other != number);
            if let Some(Anchor { field, .. }) = Anchor::of(filter.condition()) {
                for kind in [Kind::Bool, Kind::Number, Kind::Text] {
                    self.forget(&(field.clone(), kind), number);
                }
            }
        }
        true
    }

    fn forget(&mut self, place: &(Field, Kind), number: usize) {
        let Some(anchored) = self.anchored.get_mut(place) else { return };
        anchored.intervals.remove(number);
        anchored.fallible.retain(|other| *other != number);
        if anchored.intervals.is_empty() {
            self.anchored.remove(place);
        }
    }

    /// What comes of a message. `newid()` draws from `new_id`; all filters share the allowance.
    pub fn matches(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
        allowance: &mut Allowance,
    ) -> Matches<T> {
        let mut matches = Matches { through: Vec::new(), failed: Vec::new() };
        for number in self.in_question(properties) {
            let distinct = self.filters[number].as_ref().expect("numbers in use have a filter");
            match distinct.filter.matches_within(properties, new_id, allowance) {
                Ok(true) => matches.through.extend_from_slice(&distinct.ids),
                Ok(false) => {}
                Err(error) => {
                    let failed = distinct.ids.iter().map(|id| (id.clone(), error.clone()));
                    matches.failed.extend(failed);
                }
            }
        }
        matches.through.sort_unstable();
        matches.failed.sort_by(|(a, _), (b, _)| a.cmp(b));
        matches
    }

    /// The filters that are neither false nor unknown for certain, in order.
    pub(super) fn in_question(&self, properties: &dyn Properties) -> Vec<usize> {
        let mut numbers = self.unanchored.clone();
        for ((field, kind), anchored) in &self.anchored {
            match field.value(properties).and_then(Key::of) {
                Some(key) if key.kind() == *kind => anchored.intervals.find(&key, &mut numbers),
                _ => numbers.extend_from_slice(&anchored.fallible),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

impl<T: Clone + Ord> Default for SqlIndex<T> {
    fn default() -> Self {
        Self::new()
    }
}
