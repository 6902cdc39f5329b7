//! Requests that send: a message from headers and a body, or many from a JSON array.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use peeklock_core::IncomingMessage;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{self, Map, Symbol, Value};
use serde_json::Value as Json;
use smallvec::{SmallVec, smallvec};

use super::super::atom::error::Fault;
use super::limits::{BATCH_MESSAGES_MAX, ID_CHARS_MAX};
use super::moment::{self, Lifetime};
use super::properties;

const BATCH_TYPE: &str = "application/vnd.microsoft.servicebus.json";
pub(super) const BROKER_PROPERTIES: &str = "brokerproperties";
pub(super) const PARTITION_KEY: &str = "x-opt-partition-key";
pub(super) const VIA_PARTITION_KEY: &str = "x-opt-via-partition-key";
const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";

type Messages = SmallVec<[IncomingMessage; 1]>;

/// Whether the body of a request is a batch.
pub(super) fn is_batch(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = given.and_then(|value| value.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(BATCH_TYPE)
}

/// The messages of a request.
pub(super) fn messages(
    headers: &HeaderMap,
    body: Bytes,
    now: Timestamp,
) -> Result<Messages, Fault> {
    if is_batch(headers) {
        return batch(&body, now);
    }
    let mut sent = Sent { body, ..Sent::default() };
    for value in headers.get_all(BROKER_PROPERTIES) {
        let given: serde_json::Map<String, Json> = serde_json::from_slice(value.as_bytes())
            .map_err(|error| invalid(format!("The BrokerProperties cannot be read: {error}.")))?;
        sent.broker_properties(given)?;
    }
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        sent.content_type = Some(symbol(text(kind.as_bytes(), "Content-Type")?)?);
    }
    for (name, value) in headers {
        if properties::is_property(name.as_str()) {
            let value = properties::of_header(text(value.as_bytes(), name.as_str())?);
            // A header that comes again replaces what came before.
            sent.properties.insert(name.as_str(), value);
        }
    }
    Ok(smallvec![sent.message(now)?])
}

/// A JSON array of messages: good ones, all of them, or none is taken.
fn batch(body: &[u8], now: Timestamp) -> Result<Messages, Fault> {
    let unreadable = |error| invalid(format!("The batch cannot be read: {error}."));
    let items: Vec<serde_json::Map<String, Json>> =
        serde_json::from_slice(body).map_err(unreadable)?;
    if items.is_empty() || BATCH_MESSAGES_MAX < items.len() {
        let text = format!("A batch has 1 to {BATCH_MESSAGES_MAX} messages.");
        return Err(invalid(text));
    }
    items.into_iter().map(|item| element(item)?.message(now)).collect()
}

fn element(item: serde_json::Map<String, Json>) -> Result<Sent, Fault> {
    let mut sent = Sent::default();
    for (name, value) in item {
        match (name.as_str(), value) {
            (_, Json::Null) => {}
            ("Body", Json::String(body)) => sent.body = Bytes::from(body),
            ("BrokerProperties", Json::Object(given)) => sent.broker_properties(given)?,
            ("UserProperties", Json::Object(given)) => {
                // Keys of an object differ, so none of them has to be looked for.
                let entries = given.into_iter().map(|(key, value)| {
                    let value = properties::of_json(value);
                    let wrong = || invalid(format!("The property '{key}' is no text or number."));
                    Ok((Value::from(key.as_str()), value.ok_or_else(wrong)?))
                });
                sent.properties = entries.collect::<Result<_, Fault>>()?;
            }
            ("Body" | "BrokerProperties" | "UserProperties", _) => {
                return Err(invalid(format!("The '{name}' of a message has the wrong type.")));
            }
            _ => {}
        }
    }
    Ok(sent)
}

/// A message, as the sender describes it.
#[derive(Default)]
struct Sent {
    message_id: Option<String>,
    to: Option<String>,
    label: Option<String>,
    reply_to: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<Symbol>,
    session_id: Option<String>,
    reply_to_session_id: Option<String>,
    partition_key: Option<String>,
    via_partition_key: Option<String>,
    lifetime: Option<Lifetime>,
    scheduled: Option<Timestamp>,
    properties: Map,
    body: Bytes,
}

impl Sent {
    /// Takes over what is known; clients also send back what they received, so that the rest is ignored.
    fn broker_properties(&mut self, given: serde_json::Map<String, Json>) -> Result<(), Fault> {
        for (name, value) in given {
            let lower = name.to_ascii_lowercase();
            let place = match lower.as_str() {
                "messageid" => &mut self.message_id,
                "to" => &mut self.to,
                "label" => &mut self.label,
                "replyto" => &mut self.reply_to,
                "correlationid" => &mut self.correlation_id,
                "sessionid" => &mut self.session_id,
                "replytosessionid" => &mut self.reply_to_session_id,
                "partitionkey" => &mut self.partition_key,
                "viapartitionkey" => &mut self.via_partition_key,
                "contenttype" => {
                    self.content_type =
                        scalar(&name, value)?.map(|text| symbol(&text)).transpose()?;
                    continue;
                }
                "timetolive" => {
                    self.lifetime = lifetime(&name, value, |text| {
                        let seconds = text.parse().ok().and_then(Lifetime::of_seconds);
                        seconds.or_else(|| Lifetime::parse_time_span(text))
                    })?;
                    continue;
                }
                "timetolivetimespan" => {
                    self.lifetime = lifetime(&name, value, Lifetime::parse_time_span)?;
                    continue;
                }
                "scheduledenqueuetimeutc" => {
                    let at = scalar(&name, value)?.map(|text| moment::parse(&text));
                    self.scheduled = at.map(|at| at.ok_or_else(|| wrong(&name))).transpose()?;
                    continue;
                }
                _ => continue,
            };
            *place = scalar(&name, value)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        for (name, id) in [
            ("MessageId", &self.message_id),
            ("SessionId", &self.session_id),
            ("ReplyToSessionId", &self.reply_to_session_id),
            ("PartitionKey", &self.partition_key),
            ("ViaPartitionKey", &self.via_partition_key),
        ] {
            if id.as_ref().is_some_and(|id| ID_CHARS_MAX < id.chars().count()) {
                let text = format!("The {name} is longer than {ID_CHARS_MAX} characters.");
                return Err(invalid(text));
            }
        }
        if let (Some(session), Some(partition)) = (&self.session_id, &self.partition_key)
            && session != partition
        {
            return Err(invalid("The PartitionKey has to be the SessionId where both are set."));
        }
        Ok(())
    }

    fn message(self, now: Timestamp) -> Result<IncomingMessage, Fault> {
        self.check()?;
        let mut header = Header::default();
        let mut properties = Properties {
            message_id: Some(MessageId::String(self.message_id.unwrap_or_else(new_id).into())),
            to: self.to.map(Into::into),
            subject: self.label.map(Into::into),
            reply_to: self.reply_to.map(Into::into),
            correlation_id: self.correlation_id.map(|id| MessageId::String(id.into())),
            content_type: self.content_type,
            group_id: self.session_id.map(Into::into),
            reply_to_group_id: self.reply_to_session_id.map(Into::into),
            ..Properties::default()
        };
        if let Some(Lifetime::For(span)) = self.lifetime {
            header.ttl = Some(u32::try_from(span.0).unwrap_or(u32::MAX));
            // What does not fit into the header stands here, as the SDKs have it.
            if u64::from(u32::MAX) <= span.0 {
                properties.creation_time = Some(value::Timestamp(now.as_amqp()));
                properties.absolute_expiry_time = Some(value::Timestamp(now.plus(span).as_amqp()));
            }
        }
        let mut annotations = Map::new();
        if let Some(at) = self.scheduled {
            let key = Symbol::from_static(SCHEDULED_ENQUEUE_TIME);
            annotations.insert(key, Value::Timestamp(at.as_amqp()));
        }
        let keys =
            [(PARTITION_KEY, self.partition_key), (VIA_PARTITION_KEY, self.via_partition_key)];
        for (name, key) in keys {
            if let Some(key) = key {
                annotations.insert(Symbol::from_static(name), key);
            }
        }
        let some = |map: Map| (!map.is_empty()).then_some(map);
        let message = Message {
            header: Some(header),
            message_annotations: some(annotations),
            properties: Some(properties),
            application_properties: some(self.properties),
            ..Message::data(self.body)
        };
        IncomingMessage::from_wire(&message.to_bytes()).map_err(|error| invalid(error.to_string()))
    }
}

/// Who sets no id gets one that nobody else has.
fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The text of a member; numbers will do.
fn scalar(name: &str, value: Json) -> Result<Option<String>, Fault> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text)),
        Json::Number(number) => Ok(Some(number.to_string())),
        Json::Bool(_) | Json::Array(_) | Json::Object(_) => Err(wrong(name)),
    }
}

fn lifetime(
    name: &str,
    value: Json,
    parse: impl FnOnce(&str) -> Option<Lifetime>,
) -> Result<Option<Lifetime>, Fault> {
    let text = scalar(name, value)?;
    text.map(|text| parse(&text).ok_or_else(|| wrong(name))).transpose()
}

fn symbol(text: &str) -> Result<Symbol, Fault> {
    Symbol::try_from(text.to_owned()).map_err(|_| wrong("Content-Type"))
}

fn text<'a>(value: &'a [u8], name: &str) -> Result<&'a str, Fault> {
    std::str::from_utf8(value).map_err(|_| invalid(format!("The header {name} is no text.")))
}

fn wrong(name: &str) -> Fault {
    invalid(format!("The value of {name} is not valid."))
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::invalid(text)
}
