//! Where a row lives: a [`Table`] and an order-preserving [`Key`].

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

/// Rows of one table share a life cycle, and with it the settings of the engine below.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Bodies. A key is written once and removed once, and never used again: removal drops exactly
    /// one write, so a rewritten row would come back from the dead.
    Message,
    /// Small rows that may be overwritten: counters, marks, timers, definitions.
    State,
    /// Message-id windows. Best removed by range.
    Dedup,
    /// Partition logs: appended in key order, trimmed by range from the front.
    Log,
}

impl Table {
    /// Every table, in the order of [`Table::index`].
    pub const ALL: [Table; 4] = [Table::Message, Table::State, Table::Dedup, Table::Log];

    /// A dense number for arrays with one place a table.
    pub const fn index(self) -> usize {
        match self {
            Table::Message => 0,
            Table::State => 1,
            Table::Dedup => 2,
            Table::Log => 3,
        }
    }

    /// The name on disk. Changing one loses the table.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Message => "message",
            Table::State => "state",
            Table::Dedup => "dedup",
            Table::Log => "log",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The key of a row. Keys order as their octets do, and integers are pushed big-endian, so rows
/// with growing numbers lie in growing order.
///
/// Keys up to 24 octets need no allocation; that is entity, kind, time and number with room left.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(SmallVec<[u8; 24]>);

impl Key {
    /// The empty key: the start of a chain of `with_*` calls, and lower than every other.
    pub fn new() -> Self {
        Key(SmallVec::new())
    }

    /// Appends one octet.
    #[must_use]
    pub fn with_u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends two octets, big-endian.
    #[must_use]
    pub fn with_u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends four octets, big-endian.
    #[must_use]
    pub fn with_u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends eight octets, big-endian.
    #[must_use]
    pub fn with_u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends octets as they are. Only for the end of a key: nothing says where they stop.
    #[must_use]
    pub fn with_bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends octets with their length in front, for the middle of a key. Rows of one value lie
    /// together; values of different length order by length first.
    #[must_use]
    pub fn with_sized_bytes(self, bytes: &[u8]) -> Self {
        let len =
            u16::try_from(bytes.len()).expect("key parts are bounded by their entity's limits");
        self.with_u16(len).with_bytes(bytes)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the parts back in the order they were pushed.
    pub fn reader(&self) -> KeyReader<'_> {
        KeyReader { rest: &self.0 }
    }

    /// The lowest key above this one: where to continue a scan after its last row.
    #[must_use]
    pub fn successor(&self) -> Key {
        self.clone().with_u8(0)
    }

    /// All keys that begin with this one.
    ///
    /// A prefix of nothing but `0xFF` (or of nothing) has no key above all of its own; such a range
    /// is never needed, because every prefix we use ends in the kind of a row.
    pub fn prefix_range(&self) -> Range<Key> {
        let mut end = self.0.clone();
        while end.last() == Some(&0xFF) {
            end.pop();
        }
        let last = end.last_mut().expect("a prefix has an octet below 0xFF");
        *last += 1;
        self.clone()..Key(end)
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key(SmallVec::from_slice(bytes))
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hex without separators: keys appear in errors and logs.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Takes a key apart. Every method answers `None` once the key is too short, and then for good.
#[derive(Clone, Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// One octet.
    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two octets, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight octets, big-endian.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// What [`Key::with_sized_bytes`] pushed.
    pub fn sized_bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u16()?);
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Everything not read yet.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(entity: u32, kind: u8, number: u64) -> Key {
        Key::new().with_u32(entity).with_u8(kind).with_u64(number)
    }

    #[test]
    fn keys_order_as_their_numbers_do() {
        let rows = [
            row(1, 1, 0),
            row(1, 1, 255),
            row(1, 1, 256),
            row(1, 1, u64::MAX),
            row(1, 2, 0),
            row(256, 0, 0),
        ];
        assert!(rows.is_sorted());
        assert!(Key::new() < rows[0]);
    }

    #[test]
    fn nothing_fits_between_a_key_and_its_successor() {
        let key = row(1, 1, 255);
        assert!(key < key.successor());
        assert!(key.successor() < key.clone().with_u8(0).with_u8(0));
        assert!(key.successor() < row(1, 1, 256));
    }

    #[track_caller]
    fn check_prefix(prefix: &[u8], end: &[u8]) {
        let range = Key::from(prefix).prefix_range();
        assert_eq!(range.start.as_bytes(), prefix);
        assert_eq!(range.end.as_bytes(), end);
    }

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        check_prefix(&[1, 2], &[1, 3]);
        check_prefix(&[1, 0xFF], &[2]);
        check_prefix(&[0xFF, 0xFF, 0xFF, 0xFF, 1], &[0xFF, 0xFF, 0xFF, 0xFF, 2]);
        check_prefix(&[0], &[1]);
    }

    #[test]
    #[should_panic(expected = "an octet below 0xFF")]
    fn a_prefix_without_an_end_is_our_bug() {
        let _ = Key::from(&[0xFF, 0xFF][..]).prefix_range();
    }

    #[test]
    fn a_reader_returns_what_was_pushed() {
        let key = row(7, 6, 9).with_u16(3).with_sized_bytes(b"session").with_bytes(b"tail");
        let mut reader = key.reader();
        assert_eq!((reader.u32(), reader.u8(), reader.u64()), (Some(7), Some(6), Some(9)));
        assert_eq!((reader.u16(), reader.sized_bytes()), (Some(3), Some(&b"session"[..])));
        assert!(!reader.is_empty());
        assert_eq!(reader.rest(), b"tail");
    }

    #[test]
    fn a_reader_stops_at_the_end() {
        let key = Key::new().with_u16(500).with_u8(1);
        let mut reader = key.reader();
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.sized_bytes(), None);
    }

    #[test]
    fn ordinary_keys_do_not_allocate() {
        assert!(!row(1, 1, 1).with_u64(1).0.spilled());
        assert_eq!(size_of::<Key>(), 32);
        assert_eq!(format!("{}", row(1, 2, 3)), "00000001020000000000000003");
    }
}
