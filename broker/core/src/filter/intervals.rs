//! Many intervals, and which of them a value lies in.

use std::ops::Range;

use bytes::Bytes;
use peeklock_protocol::value::Value;

use super::datum::Datum;

/// A value, by its place among those of its kind. Values that SQL filters take for equal have the same
/// place, and one that is less never has a later one. Numbers of all types are put where the nearest
/// double is, so some that differ share a place: intervals of keys hold too much rather than too little.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    /// The bits of a double, such that they order as doubles do.
    Number(i64),
    Text(Bytes),
}

/// Which values compare with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bool,
    Number,
    Text,
}

/// Of one kind, with both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    pub(crate) low: Key,
    pub(crate) high: Key,
}

/// Intervals of filters, by the filters' numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intervals {
    /// In order. As a tree: the middle one of a range is above those before and behind it.
    entries: Vec<(Interval, usize)>,
    /// For each entry, which one from there down reaches highest.
    highest: Vec<usize>,
}

impl Key {
    /// None of a value that has no order, or is no number.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        if let Value::String(text) = value {
            return Some(Key::Text(text.as_bytes().clone()));
        }
        let datum = Datum::from(value);
        if let Datum::Bool(value) = datum {
            return Some(Key::Bool(value));
        }
        if let Datum::Text(text) = datum {
            return Some(Key::Text(Bytes::copy_from_slice(text.as_bytes())));
        }
        datum.as_double().filter(|number| !number.is_nan()).map(Key::number)
    }

    fn number(number: f64) -> Self {
        // Minus zero becomes zero. The bits of negative numbers run backwards.
        let bits = (number + 0.0).to_bits().cast_signed();
        Key::Number(if bits < 0 { bits ^ i64::MAX } else { bits })
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Key::Bool(_) => Kind::Bool,
            Key::Number(_) => Kind::Number,
            Key::Text(_) => Kind::Text,
        }
    }
}

impl Interval {
    /// All of a kind.
    pub(crate) fn all(kind: Kind) -> Self {
        let (low, high) = match kind {
            Kind::Bool => (Key::Bool(false), Key::Bool(true)),
            Kind::Number => (Key::number(f64::NEG_INFINITY), Key::number(f64::INFINITY)),
            Kind::Text => (Key::Text(Bytes::new()), after(&[])),
        };
        Interval { low, high }
    }

    pub(crate) fn point(key: Key) -> Self {
        Interval { low: key.clone(), high: key }
    }

    /// All texts that begin so.
    pub(crate) fn prefix(text: &str) -> Self {
        Interval { low: Key::Text(text.to_owned().into()), high: after(text.as_bytes()) }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.low.kind()
    }
}

/// Behind every text that begins so: no text has such an octet.
fn after(prefix: &[u8]) -> Key {
    Key::Text([prefix, &[0xff]].concat().into())
}

impl Intervals {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn insert(&mut self, intervals: Vec<Interval>, number: usize) {
        self.entries.extend(intervals.into_iter().map(|interval| (interval, number)));
        self.entries.sort();
        self.arrange();
    }

    pub(crate) fn remove(&mut self, number: usize) {
        self.entries.retain(|(_, other)| *other != number);
        self.arrange();
    }

    /// Adds the numbers of those that a key lies in, some perhaps twice.
    pub(crate) fn find(&self, key: &Key, found: &mut Vec<usize>) {
        self.find_below(0..self.entries.len(), key, found);
    }

    /// Ranges halve: this calls itself no more than 64 times deep.
    fn find_below(&self, range: Range<usize>, key: &Key, found: &mut Vec<usize>) {
        let middle = usize::midpoint(range.start, range.end);
        if range.is_empty() || self.entries[self.highest[middle]].0.high < *key {
            return;
        }
        self.find_below(range.start..middle, key, found);
        let (interval, number) = &self.entries[middle];
        if interval.low <= *key {
            if *key <= interval.high {
                found.push(*number);
            }
            self.find_below(middle + 1..range.end, key, found);
        }
    }

    fn arrange(&mut self) {
        self.highest = (0..self.entries.len()).collect();
        self.arrange_below(0..self.entries.len());
    }

    fn arrange_below(&mut self, range: Range<usize>) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        let middle = usize::midpoint(range.start, range.end);
        let before = self.arrange_below(range.start..middle);
        let behind = self.arrange_below(middle + 1..range.end);
        let below = [before, Some(middle), behind].into_iter().flatten();
        let highest = below.max_by_key(|at| &self.entries[*at].0.high)?;
        self.highest[middle] = highest;
        Some(highest)
    }
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::value::Symbol;

    use super::*;
    use crate::testing::Dice;

    #[test]
    fn keys_order_as_values_do() {
        let ascending: [Value; 9] = [
            f64::NEG_INFINITY.into(),
            (-2.5_f64).into(),
            Value::Int(-1),
            0.0_f64.into(),
            0.1_f32.into(),
            Value::Ubyte(1),
            Value::Long(1 << 53),
            Value::Ulong(u64::MAX),
            f64::INFINITY.into(),
        ];
        assert!(ascending.is_sorted_by_key(|value| Key::of(value).unwrap()));
        let key = |value: Value| Key::of(&value);
        assert_eq!(key((-0.0_f64).into()), key(Value::Int(0)));
        assert_eq!(key(5.0_f32.into()), key(Value::Decimal32([0x32, 0x80, 0, 5])));
        assert_eq!(key("red".into()), key(Symbol::from_static("red").into()));
        assert_ne!(key(true.into()), key(Value::Int(1)));
        for nothing in [f64::NAN.into(), Value::Null, Value::Uuid([0; 16])] {
            assert_eq!(key(nothing), None);
        }
    }

    #[test]
    fn every_interval_around_a_key_is_found() {
        let mut dice = Dice::new(5);
        let mut number =
            |below| Key::number([-3.5, 0.0, 1e300][dice.below(3)] + to_f64(dice.below(below)));
        let mut intervals = Intervals::default();
        let mut known: Vec<(Interval, usize)> = Vec::new();
        for id in 0..300 {
            let made = [(number(40), number(40)), (number(40), number(8))];
            let made = made.map(|(low, high)| Interval { low, high });
            known.extend(made.iter().cloned().map(|interval| (interval, id)));
            intervals.insert(made.to_vec(), id);
            if id % 3 == 0 {
                known.retain(|(_, other)| *other != id / 2);
                intervals.remove(id / 2);
            }
            let key = number(40);
            let mut found = Vec::new();
            intervals.find(&key, &mut found);
            found.sort_unstable();
            let around =
                known.iter().filter(|(interval, _)| interval.low <= key && key <= interval.high);
            assert_eq!(found, around.map(|(_, id)| *id).collect::<Vec<_>>());
        }
        (0..300).for_each(|id| intervals.remove(id));
        assert!(intervals.is_empty());
    }

    fn to_f64(number: usize) -> f64 {
        u32::try_from(number).unwrap().into()
    }
}
