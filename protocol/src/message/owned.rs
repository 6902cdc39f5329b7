//! Messages in their owned form: management requests and answers, claims, tests and load.

use bytes::{Bytes, BytesMut};

use super::{BodyKind, Header, Properties, Sections, descriptor};
use crate::codec::{DecodeError, Reader, put_binary, put_descriptor, read_binary, read_descriptor};
use crate::value::{Map, Value};

/// A message with every section decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// How to treat it.
    pub header: Option<Header>,
    /// For the next hop alone.
    pub delivery_annotations: Option<Map>,
    /// For the way.
    pub message_annotations: Option<Map>,
    /// What the sender says about it.
    pub properties: Option<Properties>,
    /// What the sender's application says about it.
    pub application_properties: Option<Map>,
    /// What it is there for.
    pub body: Body,
    /// For checks of the whole.
    pub footer: Option<Map>,
}

/// §3.2.6–8: the body of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// No body section at all: what the Python SDK sends for a body of `None`.
    #[default]
    Empty,
    /// Data sections.
    Data(Vec<Bytes>),
    /// Sequence sections.
    Sequence(Vec<Vec<Value>>),
    /// A value section.
    Value(Value),
}

impl Message {
    /// A message of one data section.
    pub fn data(payload: impl Into<Bytes>) -> Self {
        Self { body: Body::Data(vec![payload.into()]), ..Self::default() }
    }

    /// A message of one value section.
    pub fn value(value: impl Into<Value>) -> Self {
        Self { body: Body::Value(value.into()), ..Self::default() }
    }

    /// The same with properties.
    #[must_use]
    pub fn with_properties(mut self, properties: Properties) -> Self {
        self.properties = Some(properties);
        self
    }

    /// The same with application properties.
    #[must_use]
    pub fn with_application_properties(mut self, properties: Map) -> Self {
        self.application_properties = Some(properties);
        self
    }

    /// The same with message annotations.
    #[must_use]
    pub fn with_message_annotations(mut self, annotations: Map) -> Self {
        self.message_annotations = Some(annotations);
        self
    }

    /// The application property under this key.
    pub fn application_property(&self, key: &str) -> Option<&Value> {
        self.application_properties.as_ref()?.get(key)
    }

    /// Decodes every section.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let sections = Sections::index(message)?;
        let part = |range: Option<std::ops::Range<usize>>| range.map(|r| message.slice(r));
        Ok(Self {
            header: part(sections.header()).map(|s| Header::decode(&s)).transpose()?,
            delivery_annotations: read_map(part(sections.delivery_annotations()))?,
            message_annotations: read_map(part(sections.message_annotations()))?,
            properties: part(sections.properties()).map(|s| Properties::decode(&s)).transpose()?,
            application_properties: read_map(part(sections.application_properties()))?,
            body: match (sections.body_kind(), part(sections.body())) {
                (Some(kind), Some(body)) => read_body(kind, &body)?,
                _ => Body::Empty,
            },
            footer: read_map(part(sections.footer()))?,
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut BytesMut) {
        if let Some(header) = &self.header {
            header.encode(out);
        }
        put_map(out, descriptor::DELIVERY_ANNOTATIONS, self.delivery_annotations.as_ref());
        put_map(out, descriptor::MESSAGE_ANNOTATIONS, self.message_annotations.as_ref());
        if let Some(properties) = &self.properties {
            properties.encode(out);
        }
        put_map(out, descriptor::APPLICATION_PROPERTIES, self.application_properties.as_ref());
        self.body.encode(out);
        put_map(out, descriptor::FOOTER, self.footer.as_ref());
    }

    /// The message's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

impl Body {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Empty => {}
            Self::Data(parts) => {
                for part in parts {
                    put_descriptor(out, descriptor::DATA);
                    put_binary(out, part);
                }
            }
            Self::Sequence(parts) => {
                for part in parts {
                    put_descriptor(out, descriptor::SEQUENCE);
                    Value::List(part.clone()).encode(out);
                }
            }
            Self::Value(value) => {
                put_descriptor(out, descriptor::VALUE);
                value.encode(out);
            }
        }
    }

    /// The value of a value section.
    pub fn as_value(&self) -> Option<&Value> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }
}

fn put_map(out: &mut BytesMut, descriptor: u64, map: Option<&Map>) {
    if let Some(map) = map {
        put_descriptor(out, descriptor);
        map.encode(out);
    }
}

fn read_map(section: Option<Bytes>) -> Result<Option<Map>, DecodeError> {
    let Some(section) = section else { return Ok(None) };
    let mut r = Reader::new(&section);
    read_descriptor(&mut r, "map section")?;
    Map::read(&mut r).map(Some)
}

fn read_body(kind: BodyKind, body: &Bytes) -> Result<Body, DecodeError> {
    let mut r = Reader::new(body);
    let mut found = match kind {
        BodyKind::Data => Body::Data(Vec::new()),
        BodyKind::Sequence => Body::Sequence(Vec::new()),
        BodyKind::Value => Body::Empty,
    };
    while !r.is_empty() {
        read_descriptor(&mut r, "body")?;
        match &mut found {
            Body::Data(parts) => parts.push(read_binary(&mut r)?),
            Body::Sequence(parts) => match Value::decode(&mut r)? {
                Value::List(items) => parts.push(items),
                _ => return Err(DecodeError::InvalidField { field: "amqp-sequence" }),
            },
            Body::Empty | Body::Value(_) => found = Body::Value(Value::decode(&mut r)?),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Symbol;

    #[track_caller]
    fn check(message: &Message) {
        assert_eq!(Message::decode(&message.to_bytes()).as_ref(), Ok(message));
    }

    #[test]
    fn every_kind_of_body_both_ways() {
        check(&Message::default());
        check(&Message::data("payload"));
        check(&Message::value(Value::Null));
        check(&Message {
            body: Body::Data(vec![Bytes::new(), Bytes::new()]),
            ..Message::default()
        });
        let sequence = vec![vec![Value::Int(-1)], vec![]];
        check(&Message { body: Body::Sequence(sequence), ..Message::default() });
    }

    #[test]
    fn every_section_both_ways() {
        let annotations = Map::new().with(Symbol::from_static("x-opt-a"), 1_i64);
        let message = Message {
            header: Some(Header { delivery_count: Some(0), ..Header::default() }),
            delivery_annotations: Some(annotations.clone()),
            message_annotations: Some(annotations.clone()),
            properties: Some(Properties { message_id: Some("m".into()), ..Properties::default() }),
            application_properties: Some(Map::new().with("operation", "x")),
            body: Body::Value(Value::Map(Map::new().with("k", 5_i32))),
            footer: Some(annotations),
        };
        check(&message);
        assert_eq!(message.application_property("operation"), Some(&Value::from("x")));
    }
}
