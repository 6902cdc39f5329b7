//! The map sections: annotations, application-properties and footer. Entries are read, replaced
//! and added one by one; those that nobody asks for are never decoded.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::descriptor;
use crate::codec::{
    DecodeError, Reader, code, consumed, patch_compound, put_descriptor, put_string, put_symbol,
    read_descriptor,
};
use crate::value::{Str, Value};

/// Which of the map sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSectionKind {
    /// §3.2.2.
    DeliveryAnnotations,
    /// §3.2.3.
    MessageAnnotations,
    /// §3.2.5.
    ApplicationProperties,
    /// §3.2.9.
    Footer,
}

impl MapSectionKind {
    fn descriptor(self) -> u64 {
        match self {
            Self::DeliveryAnnotations => descriptor::DELIVERY_ANNOTATIONS,
            Self::MessageAnnotations => descriptor::MESSAGE_ANNOTATIONS,
            Self::ApplicationProperties => descriptor::APPLICATION_PROPERTIES,
            Self::Footer => descriptor::FOOTER,
        }
    }

    /// Annotations have symbols as keys (§3.2.10), application properties have strings (§3.2.5).
    fn put_key(self, out: &mut BytesMut, key: &str) {
        match self {
            Self::ApplicationProperties => put_string(out, key),
            Self::DeliveryAnnotations | Self::MessageAnnotations | Self::Footer => {
                put_symbol(out, key);
            }
        }
    }
}

/// A map section as its bytes.
#[derive(Clone, Debug)]
pub struct MapSection<'a> {
    count: u32,
    items: &'a [u8],
}

/// One entry as its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    raw: &'a [u8],
    key_len: usize,
}

/// The entries of a map section in order. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    r: Reader<'a>,
    pairs_left: u32,
}

impl<'a> MapSection<'a> {
    /// Reads the head of a section, its descriptor included.
    pub fn parse(section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::from_slice(section);
        let wanted = "map section";
        match read_descriptor(&mut r, wanted)? {
            Some(0x71 | 0x72 | 0x74 | 0x78) => {}
            Some(code) => return Err(DecodeError::UnexpectedDescriptor { wanted, code }),
            None => return Err(DecodeError::UnknownDescriptor { wanted }),
        }
        let head = r.map_head()?;
        let items = r.take(head.len)?;
        r.expect_end()?;
        Ok(Self { count: head.count, items })
    }

    /// The entries in order.
    pub fn entries(&self) -> Entries<'a> {
        Entries { r: Reader::from_slice(self.items), pairs_left: self.count / 2 }
    }

    /// The first entry under this key.
    pub fn get(&self, key: &str) -> Result<Option<Entry<'a>>, DecodeError> {
        for entry in self.entries() {
            let entry = entry?;
            if entry.key()? == Some(key) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(left) = self.pairs_left.checked_sub(1) else {
            // Octets behind the last entry are an error, told once.
            let rest = self.r.rest();
            self.r = Reader::from_slice(&[]);
            return (!rest.is_empty()).then_some(Err(DecodeError::TrailingBytes));
        };
        self.pairs_left = left;
        let found = self.read();
        if found.is_err() {
            self.pairs_left = 0;
            self.r = Reader::from_slice(&[]);
        }
        Some(found)
    }
}

impl<'a> Entries<'a> {
    fn read(&mut self) -> Result<Entry<'a>, DecodeError> {
        let before = self.r.rest();
        let key_len = self.r.value_slice()?.len();
        self.r.skip_value()?;
        Ok(Entry { raw: consumed(before, self.r.rest()), key_len })
    }
}

impl<'a> Entry<'a> {
    /// Key and value as they came.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The key's text. A key of another type, which annotations may have, has none.
    pub fn key(&self) -> Result<Option<&'a str>, DecodeError> {
        let (key, _) = self.split();
        let mut r = Reader::from_slice(key);
        let octets = match r.u8()? {
            code::STRING_8 | code::SYMBOL_8 => {
                let len = r.u8()?;
                r.take(usize::from(len))?
            }
            code::STRING_32 | code::SYMBOL_32 => {
                let len = r.u32()?;
                r.take_u32(len)?
            }
            _ => return Ok(None),
        };
        std::str::from_utf8(octets).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// The value as it came.
    pub fn raw_value(&self) -> &'a [u8] {
        self.split().1
    }

    /// The value.
    pub fn value(&self) -> Result<Value, DecodeError> {
        Value::decode(&mut Reader::from_slice(self.raw_value()))
    }

    fn split(&self) -> (&'a [u8], &'a [u8]) {
        self.raw.split_at_checked(self.key_len).unwrap_or((self.raw, &[]))
    }
}

/// Writes a map section entry by entry.
#[derive(Debug)]
pub struct MapSectionWriter<'a> {
    out: &'a mut BytesMut,
    kind: MapSectionKind,
    start: usize,
    count: u32,
}

impl<'a> MapSectionWriter<'a> {
    /// Begins a section at the end of `out`.
    pub fn new(out: &'a mut BytesMut, kind: MapSectionKind) -> Self {
        put_descriptor(out, kind.descriptor());
        let start = out.len();
        out.put_slice(&[code::MAP_8, 0, 0]);
        Self { out, kind, start, count: 0 }
    }

    /// Adds an entry whose key has the type the section wants: ASCII for all but application
    /// properties.
    pub fn entry(&mut self, key: &str, value: &Value) -> &mut Self {
        self.kind.put_key(self.out, key);
        value.encode(self.out);
        self.count += 2;
        self
    }

    /// Adds an entry as it came.
    pub fn raw_entry(&mut self, entry: &Entry<'_>) -> &mut Self {
        self.out.put_slice(entry.raw());
        self.count += 2;
        self
    }

    /// Ends the section.
    pub fn finish(self) {
        patch_compound(self.out, self.start, self.count, code::MAP_32);
    }
}

/// Appends a section of `kind` with the entries of `original`, if there is one, and `changes` put
/// in their place or at the end. What is not changed keeps its bytes and its order.
pub fn merge(
    kind: MapSectionKind,
    original: Option<&[u8]>,
    changes: &[(Str, Value)],
    out: &mut BytesMut,
) -> Result<(), DecodeError> {
    // Both sides may be long and come from a peer, so each key is looked up, not searched for.
    let latest: BTreeMap<&str, &Value> =
        changes.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let mut pending = latest.clone();
    let mut writer = MapSectionWriter::new(out, kind);
    if let Some(section) = original {
        for entry in MapSection::parse(section)?.entries() {
            let entry = entry?;
            match entry.key()? {
                Some(key) if latest.contains_key(key) => {
                    // A second entry with the same key goes: its value is no longer true.
                    if let Some(value) = pending.remove(key) {
                        writer.entry(key, value);
                    }
                }
                _ => {
                    writer.raw_entry(&entry);
                }
            }
        }
    }
    for (key, _) in changes {
        if let Some(value) = pending.remove(key.as_str()) {
            writer.entry(key, value);
        }
    }
    writer.finish();
    Ok(())
}

/// An application-properties section that is `original`, if there is one, with `changes`.
pub fn merge_application_properties(
    original: Option<&[u8]>,
    changes: &[(Str, Value)],
) -> Result<Bytes, DecodeError> {
    let mut out = BytesMut::with_capacity(original.map_or(0, <[u8]>::len) + 64);
    merge(MapSectionKind::ApplicationProperties, original, changes, &mut out)?;
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    /// `a: smallint 1`, `b: timespan described by a symbol`, `c: int 3 in the long form`.
    const SECTION: &[u8] = &hex!(
        "00 53 74 c1 1c 06 a1 01 61 54 01 a1 01 62 00 a3 03 78 3a 79 55 05
         b1 00 00 00 01 63 71 00 00 00 03"
    );

    #[test]
    fn entries_are_read_one_by_one() {
        let section = MapSection::parse(SECTION).unwrap();
        let keys: Vec<_> = section.entries().map(|e| e.unwrap().key().unwrap().unwrap()).collect();
        assert_eq!(keys, ["a", "b", "c"]);
        let c = section.get("c").unwrap().unwrap();
        assert_eq!(c.value(), Ok(Value::Int(3)));
        assert_eq!(c.raw_value(), hex!("71 00 00 00 03"));
        assert_eq!(section.get("d"), Ok(None));
    }

    #[test]
    fn a_merge_keeps_the_other_entries_byte_for_byte() {
        let changes = [("a".into(), Value::from("new")), ("d".into(), Value::Bool(true))];
        let merged = merge_application_properties(Some(SECTION), &changes).unwrap();
        let expected = hex!(
            "00 53 74 c1 23 08 a1 01 61 a1 03 6e 65 77 a1 01 62 00 a3 03 78 3a 79 55 05
             b1 00 00 00 01 63 71 00 00 00 03 a1 01 64 41"
        );
        assert_eq!(merged[..], expected, "wrote {merged:02x?}");
        assert_eq!(merge_application_properties(Some(SECTION), &[]).unwrap()[..], *SECTION);
    }

    #[test]
    fn the_last_of_equal_changes_wins_and_equal_entries_become_one() {
        let section = hex!("00 53 74 c1 0b 04 a1 01 61 52 01 a1 01 61 52 02");
        let changes = [("a".into(), Value::Uint(3)), ("a".into(), Value::Uint(4))];
        let merged = merge_application_properties(Some(&section), &changes).unwrap();
        assert_eq!(merged[..], hex!("00 53 74 c1 06 02 a1 01 61 52 04"));
        let fresh = merge_application_properties(None, &changes).unwrap();
        assert_eq!(fresh, merged);
    }

    #[test]
    fn keys_have_the_type_of_their_section() {
        let mut out = BytesMut::new();
        let mut writer = MapSectionWriter::new(&mut out, MapSectionKind::MessageAnnotations);
        writer.entry("x", &Value::Long(1));
        writer.finish();
        assert_eq!(out[..], hex!("00 53 72 c1 06 02 a3 01 78 55 01"));
    }

    #[test]
    fn a_long_section_gets_the_long_form() {
        let changes = [("k".into(), Value::from("v".repeat(300)))];
        let merged = merge_application_properties(None, &changes).unwrap();
        assert_eq!(merged[..12], hex!("00 53 74 d1 00 00 01 38 00 00 00 02"));
        let section = MapSection::parse(&merged).unwrap();
        assert_eq!(section.get("k").unwrap().unwrap().value(), Ok(changes[0].1.clone()));
    }

    #[test]
    fn a_damaged_section_is_an_error_and_an_end() {
        let short = hex!("00 53 74 c1 06 04 a1 01 61 52 01");
        let mut entries = MapSection::parse(&short).unwrap().entries();
        assert!(entries.next().unwrap().is_ok());
        assert_eq!(entries.next(), Some(Err(DecodeError::UnexpectedEnd)));
        assert_eq!(entries.next(), None);
        let long = hex!("00 53 74 c1 07 02 a1 01 61 52 01 40");
        assert_eq!(
            MapSection::parse(&long).unwrap().entries().last(),
            Some(Err(DecodeError::TrailingBytes))
        );
        assert!(MapSection::parse(&hex!("00 53 73 c1 01 00")).is_err());
        let utf8 = hex!("00 53 74 c1 06 02 a1 01 ff 52 01");
        assert_eq!(merge_application_properties(Some(&utf8), &[]), Err(DecodeError::InvalidUtf8));
    }

    #[test]
    fn a_key_that_is_no_text_is_kept() {
        let section = hex!("00 53 72 c1 05 02 53 01 52 01");
        let mut out = BytesMut::new();
        let changes = [("a".into(), Value::Null)];
        merge(MapSectionKind::MessageAnnotations, Some(&section), &changes, &mut out).unwrap();
        assert_eq!(out[..], hex!("00 53 72 c1 09 04 53 01 52 01 a3 01 61 40"));
    }
}
