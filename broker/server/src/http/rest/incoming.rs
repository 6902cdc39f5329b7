//! Requests that send: a message from headers and a body, or many from a JSON array.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use peeklock_core::IncomingMessage;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{self, Map, Symbol, Value};
use smallvec::{SmallVec, smallvec};

use super::super::atom::error::Fault;
use super::json::{self, BrokerProperties, Element, Unread};
use super::limits::{BATCH_MESSAGES_MAX, ID_CHARS_MAX};
use super::moment::{self, Lifetime};
use super::properties;

const BATCH_TYPE: &str = "application/vnd.microsoft.servicebus.json";
pub(super) const BROKER_PROPERTIES: &str = "brokerproperties";
pub(super) const PARTITION_KEY: &str = "x-opt-partition-key";
pub(super) const VIA_PARTITION_KEY: &str = "x-opt-via-partition-key";
const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";

pub(super) type Messages = SmallVec<[IncomingMessage; 1]>;

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
        let given = serde_json::from_slice(value.as_bytes())
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

/// A JSON array of messages: good ones, all of them, or none is taken. They become what the core takes
/// one by one, as that is smaller than what they were.
fn batch(body: &[u8], now: Timestamp) -> Result<Messages, Fault> {
    let mut messages = Messages::new();
    json::each_element(body, BATCH_MESSAGES_MAX, |element| {
        messages.push(Sent::from_element(element)?.message(now)?);
        Ok(())
    })
    .map_err(|unread| match unread {
        Unread::Malformed(error) => invalid(format!("The batch cannot be read: {error}.")),
        Unread::Refused(fault) => fault,
    })?;
    if messages.is_empty() {
        return Err(invalid(format!("A batch has 1 to {BATCH_MESSAGES_MAX} messages.")));
    }
    Ok(messages)
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
    fn from_element(element: Element) -> Result<Self, Fault> {
        let Element { body, broker_properties, properties } = element;
        let mut sent = Self { body: Bytes::from(body), properties, ..Self::default() };
        sent.broker_properties(broker_properties)?;
        Ok(sent)
    }

    /// Takes over what is given.
    fn broker_properties(&mut self, given: BrokerProperties) -> Result<(), Fault> {
        let BrokerProperties {
            message_id,
            to,
            label,
            reply_to,
            correlation_id,
            session_id,
            reply_to_session_id,
            partition_key,
            via_partition_key,
            content_type,
            time_to_live,
            time_to_live_time_span,
            scheduled_enqueue_time,
        } = given;
        for (place, given) in [
            (&mut self.message_id, message_id),
            (&mut self.to, to),
            (&mut self.label, label),
            (&mut self.reply_to, reply_to),
            (&mut self.correlation_id, correlation_id),
            (&mut self.session_id, session_id),
            (&mut self.reply_to_session_id, reply_to_session_id),
            (&mut self.partition_key, partition_key),
            (&mut self.via_partition_key, via_partition_key),
        ] {
            // Of several headers, the last that says it.
            if given.is_some() {
                *place = given;
            }
        }
        if let Some(kind) = content_type {
            self.content_type = Some(symbol(&kind)?);
        }
        if let Some(text) = time_to_live {
            let seconds = text.parse().ok().and_then(Lifetime::of_seconds);
            let lifetime = seconds.or_else(|| Lifetime::parse_time_span(&text));
            self.lifetime = Some(lifetime.ok_or_else(|| wrong("TimeToLive"))?);
        }
        if let Some(text) = time_to_live_time_span {
            let lifetime = Lifetime::parse_time_span(&text);
            self.lifetime = Some(lifetime.ok_or_else(|| wrong("TimeToLiveTimeSpan"))?);
        }
        if let Some(text) = scheduled_enqueue_time {
            let at = moment::parse(&text);
            self.scheduled = Some(at.ok_or_else(|| wrong("ScheduledEnqueueTimeUtc"))?);
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
