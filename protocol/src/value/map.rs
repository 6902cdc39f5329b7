//! Maps that keep the order they came in.

use bytes::BytesMut;

use super::{Value, decode, encode};
use crate::codec::{DecodeError, Reader};

/// Keys and values in order. §1.6.23 calls a map with two equal keys invalid; what such a map
/// means is left to its reader, and [`Map::get`] finds the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Map(Vec<(Value, Value)>);

impl Map {
    /// A map without entries.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of the first entry whose key is `key` as a string or as a symbol.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k.is_text(key)).map(|(_, value)| value)
    }

    /// Sets the entry with this very key, in its place or at the end.
    pub fn insert(&mut self, key: impl Into<Value>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// The same map with one more entry.
    #[must_use]
    pub fn with(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Adds an entry without looking for one with the same key.
    pub(crate) fn push(&mut self, key: Value, value: Value) {
        self.0.push((key, value));
    }

    /// Reads a map.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let head = r.map_head()?;
        decode::map(r, head)
    }

    /// Appends the map.
    pub fn encode(&self, out: &mut BytesMut) {
        encode::put_map(out, self);
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Value, Value)> {
        self.0.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<(Value, Value)>> for Map {
    fn from(entries: Vec<(Value, Value)>) -> Self {
        Self(entries)
    }
}

impl FromIterator<(Value, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl IntoIterator for Map {
    type Item = (Value, Value);
    type IntoIter = std::vec::IntoIter<(Value, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Value, Value);
    type IntoIter = std::slice::Iter<'a, (Value, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
