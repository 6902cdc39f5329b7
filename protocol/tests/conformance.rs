//! The tables our codecs are built from, against the XML that the specification is published with
//! (`spec/`): descriptors, fields, their order, types, defaults, and the encodings of §1.6.

#![expect(clippy::unwrap_used, reason = "a test that unwraps wrongly fails, and should")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hex_literal::hex;
use peeklock_protocol::codec::{self, CompositeSpec, FieldSpec, Reader};
use peeklock_protocol::frame::ProtocolHeader;
use peeklock_protocol::value::{ElementType, Symbol, Value};
use peeklock_protocol::{condition, limits};
use quick_xml::events::{BytesStart, Event};

const FILES: [&str; 5] = [
    include_str!("../spec/types.bare.xml"),
    include_str!("../spec/transport.bare.xml"),
    include_str!("../spec/messaging.bare.xml"),
    include_str!("../spec/transactions.bare.xml"),
    include_str!("../spec/security.bare.xml"),
];

/// Composites that the engine has no use for: the lifetime policies of dynamic nodes travel inside a
/// properties map.
const NOT_READ: [&str; 4] = [
    "delete-on-close",
    "delete-on-no-links",
    "delete-on-no-links-or-messages",
    "delete-on-no-messages",
];

type Attributes = BTreeMap<String, String>;

#[derive(Default)]
struct Type {
    attributes: Attributes,
    descriptor: Option<Attributes>,
    fields: Vec<Attributes>,
    choices: BTreeMap<String, String>,
    encodings: Vec<Attributes>,
}

struct Specification {
    types: BTreeMap<String, Type>,
    definitions: BTreeMap<String, String>,
}

fn attributes(tag: &BytesStart<'_>) -> Attributes {
    tag.attributes()
        .map(|attribute| {
            let attribute = attribute.unwrap();
            let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
            (text(attribute.key.as_ref()), text(&attribute.value))
        })
        .collect()
}

impl Specification {
    fn read() -> Self {
        let mut spec = Self { types: BTreeMap::new(), definitions: BTreeMap::new() };
        for file in FILES {
            let mut current = String::new();
            let mut reader = quick_xml::Reader::from_str(file);
            loop {
                let (Event::Start(tag) | Event::Empty(tag)) = (match reader.read_event().unwrap() {
                    Event::Eof => break,
                    event @ (Event::Start(_) | Event::Empty(_)) => event,
                    _ => continue,
                }) else {
                    unreachable!("the match lets nothing else through")
                };
                let found = attributes(&tag);
                let name = found.get("name").cloned();
                match tag.name().as_ref() {
                    b"type" => {
                        current = name.unwrap();
                        let new = Type { attributes: found, ..Type::default() };
                        assert!(spec.types.insert(current.clone(), new).is_none());
                    }
                    b"descriptor" => spec.open(&current).descriptor = Some(found),
                    b"field" => spec.open(&current).fields.push(found),
                    b"encoding" => spec.open(&current).encodings.push(found),
                    b"choice" => {
                        let value = found["value"].clone();
                        spec.open(&current).choices.insert(name.unwrap(), value);
                    }
                    b"definition" => {
                        spec.definitions.insert(name.unwrap(), found["value"].clone());
                    }
                    _ => {}
                }
            }
        }
        spec
    }

    fn open(&mut self, name: &str) -> &mut Type {
        self.types.get_mut(name).unwrap()
    }

    /// The primitive or composite type that a named type comes down to.
    fn resolve(&self, name: &str) -> String {
        let found = &self.types[name];
        match found.attributes["class"].as_str() {
            "restricted" => self.resolve(&found.attributes["source"]),
            _ => name.to_owned(),
        }
    }

    /// What the types that provide `role` come down to.
    fn providers(&self, role: &str) -> BTreeSet<String> {
        self.types
            .iter()
            .filter(|(_, found)| {
                let provides = found.attributes.get("provides").map_or("", String::as_str);
                provides.split(',').any(|provided| provided.trim() == role)
            })
            .map(|(name, _)| self.resolve(name))
            .collect()
    }

    fn default_value(&self, field: &Attributes) -> Option<Value> {
        let text = field.get("default")?;
        let type_name = &field["type"];
        let text = self.types[type_name].choices.get(text).unwrap_or(text);
        Some(match self.resolve(type_name).as_str() {
            "boolean" => Value::Bool(text.parse().unwrap()),
            "ubyte" => Value::Ubyte(text.parse().unwrap()),
            "ushort" => Value::Ushort(text.parse().unwrap()),
            "uint" => Value::Uint(text.parse().unwrap()),
            "symbol" => Value::Symbol(Symbol::try_from(text.clone()).unwrap()),
            other => panic!("no default of type {other} is known"),
        })
    }

    fn check_field(&self, ours: &FieldSpec, theirs: &Attributes) {
        let name = ours.name;
        let flag = |key| theirs.get(key).is_some_and(|text| text == "true");
        assert_eq!(ours.name, theirs["name"]);
        assert_eq!(ours.mandatory, flag("mandatory"), "{name} mandatory");
        assert_eq!(ours.multiple, flag("multiple"), "{name} multiple");
        assert_eq!(ours.default.map(|f| f()), self.default_value(theirs), "{name} default");
        if theirs["type"] == "*" {
            let allowed = self.providers(&theirs["requires"]);
            let only = allowed.iter().eq([ours.type_name]);
            assert!(ours.type_name == "*" || only, "{name} may be {allowed:?}");
        } else {
            assert_eq!(ours.type_name, self.resolve(&theirs["type"]), "{name} type");
        }
    }

    fn check_composite(&self, ours: &CompositeSpec, theirs: &Type) {
        let descriptor = theirs.descriptor.as_ref().unwrap();
        assert_eq!(ours.name, descriptor["name"]);
        assert_eq!(ours.code, code(&descriptor["code"]), "{}", ours.name);
        assert_eq!(ours.fields.len(), theirs.fields.len(), "{}", ours.name);
        for (ours, theirs) in ours.fields.iter().zip(&theirs.fields) {
            self.check_field(ours, theirs);
        }
    }
}

/// `0x00000000:0x00000010`: domain and number.
fn code(text: &str) -> u64 {
    let (domain, number) = text.split_once(':').unwrap();
    let part = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    part(domain) << 32 | part(number)
}

#[test]
fn every_composite_is_as_specified() {
    let spec = Specification::read();
    let ours = codec::composites();
    let mut left: BTreeSet<&str> = spec
        .types
        .iter()
        .filter(|(_, found)| found.attributes["class"] == "composite")
        .map(|(name, _)| name.as_str())
        .collect();
    for composite in &ours {
        let name = composite.name.split(':').nth(1).unwrap();
        assert!(left.remove(name), "{name} is no composite of the specification, or here twice");
        spec.check_composite(composite, &spec.types[name]);
    }
    assert_eq!(left.into_iter().collect::<Vec<_>>(), NOT_READ);
    let fields: usize = ours.iter().map(|composite| composite.fields.len()).sum();
    assert_eq!((ours.len(), fields), (29, 125), "the comparison lost some");
}

#[test]
fn every_descriptor_is_as_specified() {
    let spec = Specification::read();
    let theirs: BTreeSet<(u64, &str)> = spec
        .types
        .values()
        .filter_map(|found| found.descriptor.as_ref())
        .map(|descriptor| (code(&descriptor["code"]), descriptor["name"].as_str()))
        .collect();
    let ours: BTreeSet<(u64, &str)> = codec::descriptors().iter().copied().collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), codec::descriptors().len());
}

#[test]
fn every_condition_is_as_specified() {
    let spec = Specification::read();
    let theirs = spec.types.values().filter(|found| {
        found.attributes.get("provides").is_some_and(|provides| provides == "error-condition")
    });
    let names: BTreeSet<&str> =
        theirs.flat_map(|found| found.choices.values()).map(String::as_str).collect();
    let ours: BTreeSet<&str> =
        condition::ALL.iter().copied().filter(|name| name.starts_with("amqp:")).collect();
    assert_eq!(ours, names);
}

#[test]
fn every_definition_is_as_specified() {
    let spec = Specification::read();
    let number = |name: &str| spec.definitions[name].parse::<u32>().unwrap();
    assert_eq!(number("MIN-MAX-FRAME-SIZE"), limits::MIN_MAX_FRAME_SIZE);
    for (header, layer) in
        [(ProtocolHeader::Amqp, ""), (ProtocolHeader::Sasl, "SASL-"), (ProtocolHeader::Tls, "TLS-")]
    {
        let octets = header.to_octets();
        for (octet, part) in octets[5..].iter().zip(["MAJOR", "MINOR", "REVISION"]) {
            assert_eq!(u32::from(*octet), number(&format!("{layer}{part}")));
        }
    }
}

/// One element of `category` with a content of zeros that is valid for every type.
fn sample(octet: u8, category: &str, width: usize) -> Vec<u8> {
    let mut octets = vec![octet];
    match (category, width) {
        ("fixed" | "variable", _) => octets.resize(1 + width, 0),
        ("compound", 1) => octets.extend(hex!("01 00")),
        ("compound", 4) => octets.extend(hex!("00000004 00000000")),
        ("array", 1) => octets.extend(hex!("02 00 40")),
        ("array", 4) => octets.extend(hex!("00000005 00000000 40")),
        other => panic!("unknown encoding {other:?}"),
    }
    octets
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Ubyte(_) => "ubyte",
        Value::Ushort(_) => "ushort",
        Value::Uint(_) => "uint",
        Value::Ulong(_) => "ulong",
        Value::Byte(_) => "byte",
        Value::Short(_) => "short",
        Value::Int(_) => "int",
        Value::Long(_) => "long",
        Value::Float(_) => "float",
        Value::Double(_) => "double",
        Value::Decimal32(_) => "decimal32",
        Value::Decimal64(_) => "decimal64",
        Value::Decimal128(_) => "decimal128",
        Value::Char(_) => "char",
        Value::Timestamp(_) => "timestamp",
        Value::Uuid(_) => "uuid",
        Value::Binary(_) => "binary",
        Value::String(_) => "string",
        Value::Symbol(_) => "symbol",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Array(_) => "array",
        Value::Described(_) => "described",
    }
}

/// Each encoding decodes to its type, is skipped whole, may be an array's constructor, and every
/// octet that is not in the specification is refused.
#[test]
fn every_encoding_is_as_specified() {
    let spec = Specification::read();
    let mut known = BTreeSet::from([0]);
    for (name, found) in &spec.types {
        for encoding in &found.encodings {
            let octet = u8::from_str_radix(encoding["code"].trim_start_matches("0x"), 16).unwrap();
            assert!(known.insert(octet));
            let one = sample(octet, &encoding["category"], encoding["width"].parse().unwrap());
            let bytes = Bytes::from(one.clone());
            let mut r = Reader::new(&bytes);
            assert_eq!(type_name(&Value::decode(&mut r).unwrap()), name);
            r.expect_end().unwrap();
            peeklock_protocol::value::RawValue::new(bytes.clone()).unwrap();
            for cut in 0..one.len() {
                assert!(Value::decode(&mut Reader::from_slice(&one[..cut])).is_err());
            }

            let mut array = vec![0xe0, u8::try_from(one.len()).unwrap() + 1, 1];
            array.extend(&one);
            let array = Value::decode(&mut Reader::from_slice(&array)).unwrap();
            let array = array.as_array().unwrap();
            assert_eq!(type_name(&array.items()[0]), name);
            assert_ne!(array.element_type() == ElementType::Null, name != "null");
        }
    }
    assert_eq!(known.len(), 40, "the comparison lost some");
    for octet in 0..=u8::MAX {
        let padded = [&[octet][..], &[0; 32]].concat();
        let skipped = peeklock_protocol::value::RawValue::read(&mut Reader::from_slice(&padded));
        if !known.contains(&octet) {
            let unknown = codec::DecodeError::UnknownCode { code: octet };
            assert_eq!(skipped, Err(unknown.clone()));
            assert_eq!(Value::decode(&mut Reader::from_slice(&padded)), Err(unknown));
        }
    }
}
