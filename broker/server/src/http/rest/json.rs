//! The JSON of requests that send, read into what a message can have and nothing else: what is unknown
//! is passed over and not kept, what has another type than it should is refused where it begins.
//!
//! The parser counts levels, so what is passed over has an end to its depth as well.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use peeklock_protocol::value::{Map, Value};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use super::limits::PROPERTIES_IN_MAX;
use super::properties;

/// A message of a batch.
#[derive(Default)]
pub(super) struct Element {
    pub(super) body: String,
    pub(super) broker_properties: BrokerProperties,
    pub(super) properties: Map,
}

/// What a sender says of a message to the broker: texts, also where numbers were written.
#[derive(Default)]
pub(super) struct BrokerProperties {
    pub(super) message_id: Option<String>,
    pub(super) to: Option<String>,
    pub(super) label: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) reply_to_session_id: Option<String>,
    pub(super) partition_key: Option<String>,
    pub(super) via_partition_key: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) time_to_live: Option<String>,
    pub(super) time_to_live_time_span: Option<String>,
    pub(super) scheduled_enqueue_time: Option<String>,
}

impl BrokerProperties {
    /// Where a member is kept; clients also send back what they received, so that there are others.
    fn place(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "messageid" => &mut self.message_id,
            "to" => &mut self.to,
            "label" => &mut self.label,
            "replyto" => &mut self.reply_to,
            "correlationid" => &mut self.correlation_id,
            "sessionid" => &mut self.session_id,
            "replytosessionid" => &mut self.reply_to_session_id,
            "partitionkey" => &mut self.partition_key,
            "viapartitionkey" => &mut self.via_partition_key,
            "contenttype" => &mut self.content_type,
            "timetolive" => &mut self.time_to_live,
            "timetolivetimespan" => &mut self.time_to_live_time_span,
            "scheduledenqueuetimeutc" => &mut self.scheduled_enqueue_time,
            _ => return None,
        })
    }
}

/// Reads an array, an element at a time: each goes on to `take`, which may have an error of its own.
pub(super) fn each_element<E>(
    json: &[u8],
    elements_max: usize,
    take: impl FnMut(Element) -> Result<(), E>,
) -> Result<(), Unread<E>> {
    let mut own = None;
    let mut parser = serde_json::Deserializer::from_slice(json);
    let elements = Elements { left: elements_max, take, own: &mut own };
    let read = parser.deserialize_seq(elements).and_then(|()| parser.end());
    match own {
        Some(error) => Err(Unread::Refused(error)),
        None => read.map_err(Unread::Malformed),
    }
}

/// Why not all of an array was read.
pub(super) enum Unread<E> {
    Malformed(serde_json::Error),
    /// By whoever took the elements.
    Refused(E),
}

struct Elements<'a, F, E> {
    left: usize,
    take: F,
    own: &'a mut Option<E>,
}

impl<'de, F: FnMut(Element) -> Result<(), E>, E> Visitor<'de> for Elements<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(left) = self.left.checked_sub(1) {
            let Some(element) = elements.next_element()? else { return Ok(()) };
            if let Err(error) = (self.take)(element) {
                *self.own = Some(error);
                return Err(A::Error::custom("refused"));
            }
            self.left = left;
        }
        elements.next_element::<Never>().map(|_| ())
    }
}

/// What is not there any more. It is not looked at.
struct Never;

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("there are more messages than a batch has"))
    }
}

/// Reads an object, one member at a time, into what is there before it.
struct Members<T> {
    what: &'static str,
    into: PhantomData<T>,
}

trait Object: Default {
    /// Reads the value of the member with this name.
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, rest: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: Object> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = members.next_key::<String>()? {
            object.member(&name, &mut members)?;
        }
        Ok(object)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Members { what: "a message", into: PhantomData })
    }
}

impl Object for Element {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, rest: &mut A) -> Result<(), A::Error> {
        match name {
            "Body" => self.body = rest.next_value::<Option<_>>()?.unwrap_or_default(),
            "BrokerProperties" => {
                self.broker_properties = rest.next_value::<Option<_>>()?.unwrap_or_default();
            }
            "UserProperties" => {
                let properties: Option<Properties> = rest.next_value()?;
                let properties = properties.unwrap_or_default().0.into_iter();
                self.properties =
                    properties.map(|(name, value)| (Value::from(name), value)).collect();
            }
            _ => {
                let Ignored = rest.next_value()?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for BrokerProperties {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Members { what: "an object", into: PhantomData })
    }
}

impl Object for BrokerProperties {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, rest: &mut A) -> Result<(), A::Error> {
        match self.place(name) {
            Some(place) => {
                *place = match rest.next_value::<Scalar>()?.0 {
                    Json::Null => None,
                    Json::String(text) => Some(text),
                    Json::Number(number) => Some(number.to_string()),
                    Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
                        return Err(A::Error::custom(format_args!("{name} is no text")));
                    }
                };
            }
            None => {
                let Ignored = rest.next_value()?;
            }
        }
        Ok(())
    }
}

/// Application properties. A name that comes again replaces what came before.
#[derive(Default)]
struct Properties(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Members { what: "an object", into: PhantomData })
    }
}

impl Object for Properties {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, rest: &mut A) -> Result<(), A::Error> {
        if PROPERTIES_IN_MAX <= self.0.len() {
            return Err(A::Error::custom("a message has too many properties"));
        }
        let Some(value) = properties::of_json(rest.next_value::<Scalar>()?.0) else {
            let error = format_args!("the property {name:?} is no text or number");
            return Err(A::Error::custom(error));
        };
        self.0.insert(name.to_owned(), value);
        Ok(())
    }
}

/// A value that is neither an array nor an object.
struct Scalar(Json);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar(Json::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar(value.into()))
    }
}

/// Any value, passed over. The one of serde knows no depth that is too much.
struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(IgnoredVisitor)
    }
}

struct IgnoredVisitor;

impl<'de> Visitor<'de> for IgnoredVisitor {
    type Value = Ignored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Ignored, E> {
        Ok(Ignored)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ignored, A::Error> {
        while items.next_element::<Ignored>()?.is_some() {}
        Ok(Ignored)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Ignored, A::Error> {
        while members.next_entry::<Ignored, Ignored>()?.is_some() {}
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many elements were taken, and whether all of it was good.
    fn read(json: &str) -> (usize, bool) {
        let mut taken = 0;
        let read = each_element(json.as_bytes(), 3, |_| {
            taken += 1;
            if taken == 3 && json.contains("refuse") { Err(()) } else { Ok(()) }
        });
        (taken, read.is_ok())
    }

    #[test]
    fn elements_are_taken_as_they_come_and_not_beyond_the_last() {
        for (json, expected) in [
            ("[]", (0, true)),
            (" [ {} , {} , {} ] ", (3, true)),
            ("[{},{},{},{}]", (3, false)),
            // What is behind the last one is not even looked at.
            ("[{},{},{},{{{{", (3, false)),
            ("[{},7,{}]", (1, false)),
            ("[{},{},{\"refuse\":1}]", (3, false)),
            ("[{}]x", (1, false)),
            ("[{}", (1, false)),
            ("{}", (0, false)),
            ("", (0, false)),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    fn element(json: &str) -> Option<Element> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn what_is_unknown_is_passed_over_to_a_depth() {
        let nested = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(element(&nested(100)).is_some());
        assert!(element(&nested(200)).is_none());
        let nested = |depth| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(element(&nested(100)).is_some());
        assert!(element(&nested(200)).is_none());
        let all = r#"{"a":[null,true,-1,1,1.5,"\u00e9",{"b":{}}],"Body":null,"BrokerProperties":null,
            "UserProperties":null,"body":7}"#;
        assert!(element(all).is_some_and(|element| element.body.is_empty()));
    }

    #[test]
    fn members_have_their_types() {
        let json = r#"{"Body":"b","BrokerProperties":{"LABEL":7,"To":"t","ReplyTo":null,"Other":{}},
            "UserProperties":{"b":1,"a":"x","b":2}}"#;
        let Element { body, broker_properties: broker, properties } = element(json).unwrap();
        assert_eq!(body, "b");
        let label = broker.label.as_deref();
        assert_eq!((label, broker.to.as_deref(), broker.reply_to), (Some("7"), Some("t"), None));
        assert_eq!(properties, Map::new().with("a", "x").with("b", 2));
        for json in [
            r#"{"Body":7}"#,
            r#"{"Body":["#,
            r#"{"BrokerProperties":[]}"#,
            r#"{"BrokerProperties":{"Label":{}}}"#,
            r#"{"BrokerProperties":{"Label":true}}"#,
            r#"{"UserProperties":7}"#,
            r#"{"UserProperties":{"a":[]}}"#,
            "[]",
            "null",
        ] {
            assert!(element(json).is_none(), "{json}");
        }
        let many = |count: usize| {
            let all: Vec<String> = (0..count).map(|number| format!("\"{number}\":1")).collect();
            element(&format!("{{\"UserProperties\":{{{}}}}}", all.join(",")))
        };
        assert!(many(PROPERTIES_IN_MAX).is_some());
        assert!(many(PROPERTIES_IN_MAX + 1).is_none());
    }
}
