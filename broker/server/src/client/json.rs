//! Messages as JSON, one a line: every section, with types where JSON has none of its own, so that
//! what is written can be read back as it was.
//!
//! Text, truth and null are JSON's; any other value of AMQP is an object with its type,
//! `{"int": 5}`. What has no such form is kept as the octets of its encoding, `{"amqp": "…"}`; so is a
//! message that cannot be read as a whole.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use peeklock_protocol::message::{Body, Header, Message, MessageId, Properties};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::value::{F32, F64, Map, RawValue, Str, Symbol, Timestamp, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::typed;

/// A message as a line.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MessageLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<HeaderLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_annotations: Option<Symbols>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_annotations: Option<Symbols>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<PropertiesLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_properties: Option<Strings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<BodyLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    footer: Option<Symbols>,
    /// All of a message of which only the other sections can be read, in base64. It alone counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    amqp: Option<String>,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HeaderLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_acquirer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_count: Option<u32>,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PropertiesLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Typed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Typed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Typed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absolute_expiry_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to_group_id: Option<String>,
}

/// One data section is text if it can be, and base64 otherwise.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyLine {
    Text(String),
    Base64(String),
    Data(Vec<String>),
    Sequence(Vec<Vec<Typed>>),
    Value(Typed),
}

impl MessageLine {
    pub(super) fn of(message: &Message) -> Self {
        Self {
            header: message.header.as_ref().map(|header| HeaderLine {
                durable: header.durable,
                priority: header.priority,
                ttl: header.ttl,
                first_acquirer: header.first_acquirer,
                delivery_count: header.delivery_count,
            }),
            delivery_annotations: message.delivery_annotations.clone().map(Symbols),
            message_annotations: message.message_annotations.clone().map(Symbols),
            properties: message.properties.as_ref().map(PropertiesLine::of),
            application_properties: message.application_properties.clone().map(Strings),
            body: BodyLine::of(&message.body),
            footer: message.footer.clone().map(Symbols),
            amqp: None,
        }
    }

    /// The same for what can be read of a message.
    pub(super) fn of_damaged(message: &Message, octets: &[u8]) -> Self {
        Self { amqp: Some(STANDARD.encode(octets)), ..Self::of(message) }
    }

    /// The octets of a message that cannot be read.
    pub(super) fn octets(&self) -> Result<Option<Bytes>, String> {
        let octets = self.amqp.as_ref().map(|text| STANDARD.decode(text)).transpose();
        octets.map(|octets| octets.map(Bytes::from)).map_err(|_| "this is no base64".to_owned())
    }

    pub(super) fn message(self) -> Result<Message, String> {
        Ok(Message {
            header: self.header.map(|header| Header {
                durable: header.durable,
                priority: header.priority,
                ttl: header.ttl,
                first_acquirer: header.first_acquirer,
                delivery_count: header.delivery_count,
            }),
            delivery_annotations: self.delivery_annotations.map(|map| map.0),
            message_annotations: self.message_annotations.map(|map| map.0),
            properties: self.properties.map(PropertiesLine::properties).transpose()?,
            application_properties: self.application_properties.map(|map| map.0),
            body: self.body.map_or(Ok(Body::Empty), BodyLine::body)?,
            footer: self.footer.map(|map| map.0),
        })
    }
}

impl PropertiesLine {
    fn of(of: &Properties) -> Self {
        let id = |id: &Option<MessageId>| id.clone().map(|id| Typed(id.into()));
        let text = |text: &Option<Str>| text.as_ref().map(ToString::to_string);
        let symbol = |text: &Option<Symbol>| text.as_ref().map(ToString::to_string);
        Self {
            message_id: id(&of.message_id),
            user_id: of.user_id.clone().map(|octets| Typed(Value::Binary(octets))),
            to: text(&of.to),
            subject: text(&of.subject),
            reply_to: text(&of.reply_to),
            correlation_id: id(&of.correlation_id),
            content_type: symbol(&of.content_type),
            content_encoding: symbol(&of.content_encoding),
            absolute_expiry_time: of.absolute_expiry_time.map(|moment| moment.0),
            creation_time: of.creation_time.map(|moment| moment.0),
            group_id: text(&of.group_id),
            group_sequence: of.group_sequence.map(|number| number.0),
            reply_to_group_id: text(&of.reply_to_group_id),
        }
    }

    fn properties(self) -> Result<Properties, String> {
        let id = |id: Option<Typed>| match id.map(|id| id.0) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(MessageId::String(text))),
            Some(Value::Ulong(number)) => Ok(Some(MessageId::Ulong(number))),
            Some(Value::Uuid(octets)) => Ok(Some(MessageId::Uuid(octets))),
            Some(Value::Binary(octets)) => Ok(Some(MessageId::Binary(octets))),
            Some(_) => Err("an id is a string, ulong, uuid or binary".to_owned()),
        };
        let symbol = |text: Option<String>| {
            let symbol = text.map(Symbol::try_from).transpose();
            symbol.map_err(|_| "a content type or encoding is not ASCII".to_owned())
        };
        let user_id = match self.user_id.map(|id| id.0) {
            None => None,
            Some(Value::Binary(octets)) => Some(octets),
            Some(Value::String(text)) => Some(text.as_bytes().clone()),
            Some(_) => return Err("a user id is binary".to_owned()),
        };
        Ok(Properties {
            message_id: id(self.message_id)?,
            user_id,
            to: self.to.map(Str::from),
            subject: self.subject.map(Str::from),
            reply_to: self.reply_to.map(Str::from),
            correlation_id: id(self.correlation_id)?,
            content_type: symbol(self.content_type)?,
            content_encoding: symbol(self.content_encoding)?,
            absolute_expiry_time: self.absolute_expiry_time.map(Timestamp),
            creation_time: self.creation_time.map(Timestamp),
            group_id: self.group_id.map(Str::from),
            group_sequence: self.group_sequence.map(SerialNumber),
            reply_to_group_id: self.reply_to_group_id.map(Str::from),
        })
    }
}

impl BodyLine {
    fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Empty => None,
            Body::Data(parts) => Some(match parts.as_slice() {
                [part] => match std::str::from_utf8(part) {
                    Ok(text) => Self::Text(text.to_owned()),
                    Err(_) => Self::Base64(STANDARD.encode(part)),
                },
                parts => Self::Data(parts.iter().map(|part| STANDARD.encode(part)).collect()),
            }),
            Body::Sequence(parts) => {
                let part = |part: &Vec<Value>| part.iter().cloned().map(Typed).collect();
                Some(Self::Sequence(parts.iter().map(part).collect()))
            }
            Body::Value(value) => Some(Self::Value(Typed(value.clone()))),
        }
    }

    fn body(self) -> Result<Body, String> {
        let octets = |text: &String| {
            let octets = STANDARD.decode(text);
            octets.map(Bytes::from).map_err(|_| "a body is not base64".to_owned())
        };
        Ok(match self {
            Self::Text(text) => Body::Data(vec![text.into()]),
            Self::Base64(text) => Body::Data(vec![octets(&text)?]),
            Self::Data(parts) => {
                Body::Data(parts.iter().map(octets).collect::<Result<Vec<_>, String>>()?)
            }
            Self::Sequence(parts) => {
                let part = |part: Vec<Typed>| part.into_iter().map(|value| value.0).collect();
                Body::Sequence(parts.into_iter().map(part).collect())
            }
            Self::Value(value) => Body::Value(value.0),
        })
    }
}

/// A value, see the module.
#[derive(Clone, Debug)]
pub(super) struct Typed(pub(super) Value);

/// A map whose keys are symbols, or one as it is.
#[derive(Debug)]
struct Symbols(Map);

/// A map whose keys are text, or one as it is.
#[derive(Debug)]
struct Strings(Map);

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn tagged<S: Serializer>(
            serializer: S,
            kind: &str,
            value: &(impl Serialize + ?Sized),
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(kind, value)?;
            map.end()
        }
        // JSON has no infinities and no way to say which of many nothings a number is.
        let finite =
            |number: f64| number.is_finite() && (number != 0.0 || number.is_sign_positive());
        match &self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::String(text) => serializer.serialize_str(text),
            Value::Ubyte(number) => tagged(serializer, "ubyte", number),
            Value::Ushort(number) => tagged(serializer, "ushort", number),
            Value::Uint(number) => tagged(serializer, "uint", number),
            Value::Ulong(number) => tagged(serializer, "ulong", number),
            Value::Byte(number) => tagged(serializer, "byte", number),
            Value::Short(number) => tagged(serializer, "short", number),
            Value::Int(number) => tagged(serializer, "int", number),
            Value::Long(number) => tagged(serializer, "long", number),
            Value::Double(number) if finite(number.get()) => {
                tagged(serializer, "double", &number.get())
            }
            Value::Timestamp(millis) => tagged(serializer, "timestamp", millis),
            Value::Uuid(octets) => tagged(serializer, "uuid", &typed::show_uuid(octets)),
            Value::Binary(octets) => tagged(serializer, "binary", &STANDARD.encode(octets)),
            Value::Symbol(text) => tagged(serializer, "symbol", text.as_str()),
            Value::List(items) => {
                let items: Vec<Typed> = items.iter().cloned().map(Typed).collect();
                tagged(serializer, "list", &items)
            }
            Value::Map(map) => tagged(serializer, "map", &Pairs(map)),
            Value::Float(_)
            | Value::Double(_)
            | Value::Decimal32(_)
            | Value::Decimal64(_)
            | Value::Decimal128(_)
            | Value::Char(_)
            | Value::Array(_)
            | Value::Described(_) => {
                tagged(serializer, "amqp", &STANDARD.encode(self.0.to_bytes()))
            }
        }
    }
}

/// The entries of any map.
struct Pairs<'m>(&'m Map);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pairs = serializer.serialize_seq(Some(self.0.len()))?;
        for (key, value) in self.0 {
            pairs.serialize_element(&(Typed(key.clone()), Typed(value.clone())))?;
        }
        pairs.end()
    }
}

/// An object if all keys are of the one kind that an object stands for, else pairs.
fn serialize_named<S: Serializer>(
    map: &Map,
    is_name: impl Fn(&Value) -> bool,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if !map.iter().all(|(key, _)| is_name(key)) {
        return Pairs(map).serialize(serializer);
    }
    let mut object = serializer.serialize_map(Some(map.len()))?;
    for (key, value) in map {
        object.serialize_entry(key.as_str().unwrap_or_default(), &Typed(value.clone()))?;
    }
    object.end()
}

impl Serialize for Symbols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_named(&self.0, |key| matches!(key, Value::Symbol(_)), serializer)
    }
}

impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_named(&self.0, |key| matches!(key, Value::String(_)), serializer)
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TypedVisitor)
    }
}

struct TypedVisitor;

impl<'de> Visitor<'de> for TypedVisitor {
    type Value = Typed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, truth, null, a number, or an object with a type and a value")
    }

    fn visit_unit<E>(self) -> Result<Typed, E> {
        Ok(Typed(Value::Null))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Typed, E> {
        Ok(Typed(Value::Bool(truth)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Typed, E> {
        Ok(Typed(Value::from(text)))
    }

    // People write bare numbers; the broker compares all kinds of them alike.
    fn visit_i64<E>(self, number: i64) -> Result<Typed, E> {
        Ok(Typed(Value::Long(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Typed, E> {
        Ok(Typed(i64::try_from(number).map_or(Value::Ulong(number), Value::Long)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Typed, E> {
        Ok(Typed(Value::Double(F64::from(number))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Typed, A::Error> {
        let wrong = |kind: &str| de::Error::custom(format!("this is no {kind}"));
        let Some(kind) = map.next_key::<String>()? else {
            return Err(de::Error::custom("a value has a type"));
        };
        let octets = |text: String| STANDARD.decode(text).map_err(|_| wrong("base64"));
        let value = match kind.as_str() {
            "ubyte" => Value::Ubyte(map.next_value()?),
            "ushort" => Value::Ushort(map.next_value()?),
            "uint" => Value::Uint(map.next_value()?),
            "ulong" => Value::Ulong(map.next_value()?),
            "byte" => Value::Byte(map.next_value()?),
            "short" => Value::Short(map.next_value()?),
            "int" => Value::Int(map.next_value()?),
            "long" => Value::Long(map.next_value()?),
            "float" => Value::Float(F32::from(map.next_value::<f32>()?)),
            "double" => Value::Double(F64::from(map.next_value::<f64>()?)),
            "timestamp" => Value::Timestamp(map.next_value()?),
            "uuid" => {
                let text: String = map.next_value()?;
                Value::Uuid(typed::uuid(&text).ok_or_else(|| wrong("uuid"))?)
            }
            "binary" => Value::Binary(octets(map.next_value()?)?.into()),
            "symbol" => {
                let text: String = map.next_value()?;
                Value::Symbol(text.try_into().map_err(|_| wrong("symbol"))?)
            }
            "list" => {
                let items: Vec<Typed> = map.next_value()?;
                Value::List(items.into_iter().map(|item| item.0).collect())
            }
            "map" => {
                let pairs: Vec<(Typed, Typed)> = map.next_value()?;
                Value::Map(pairs.into_iter().map(|(key, value)| (key.0, value.0)).collect())
            }
            "amqp" => {
                let encoded = octets(map.next_value()?)?;
                let value = RawValue::new(encoded.into()).and_then(|raw| raw.decode());
                value.map_err(|_| wrong("encoded value"))?
            }
            _ => return Err(de::Error::custom(format!("{kind:?} is no type of AMQP"))),
        };
        match map.next_key::<String>()? {
            None => Ok(Typed(value)),
            Some(_) => Err(de::Error::custom("a value has one type")),
        }
    }
}

struct NamedVisitor(fn(String) -> Option<Value>);

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Map;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or a list of pairs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Map, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, value)) = object.next_entry::<String, Typed>()? {
            let key = self.0(name).ok_or_else(|| de::Error::custom("a name is not ASCII"))?;
            entries.push((key, value.0));
        }
        Ok(entries.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Map, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = pairs.next_element::<(Typed, Typed)>()? {
            entries.push((key.0, value.0));
        }
        Ok(entries.into())
    }
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = |name: String| Symbol::try_from(name).ok().map(Value::Symbol);
        deserializer.deserialize_any(NamedVisitor(key)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedVisitor(|name| Some(Value::from(name)))).map(Self)
    }
}

#[cfg(test)]
mod tests;
