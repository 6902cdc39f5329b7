//! A message as an answer: its body, and all else in headers.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::Bytes;
use peeklock_core::{Delivery, StoredMessage};
use peeklock_protocol::message::{self, BodyKind, MapSection, Message, Properties};
use peeklock_protocol::value::Value;
use tracing::debug;

use super::incoming::{BROKER_PROPERTIES, PARTITION_KEY, VIA_PARTITION_KEY};
use super::limits::{PROPERTIES_OUT_BYTES_MAX, PROPERTIES_OUT_MAX, TEXT_OUT_BYTES_MAX};
use super::moment;
use super::properties::{self, quote};

/// What a message without a content type has, as in Service Bus.
const DEFAULT_TYPE: &str = "application/xml; charset=utf-8";
/// How Service Bus writes the longest time to live in seconds.
const FOREVER_SECONDS: &str = "922337203685.47754";

/// A delivery; `address` is that of its entity, for the lock it may have.
pub(super) fn response(delivery: &Delivery, address: &str) -> Response<Body> {
    let message = &*delivery.message;
    let known = message.facts().properties().unwrap_or_default();
    let mut response = Response::new(Body::from(body(message)));
    let headers = response.headers_mut();
    add_properties(delivery, headers);
    let given = known.content_type.as_ref();
    let kind = given.and_then(|kind| HeaderValue::try_from(kind.as_str()).ok());
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static(DEFAULT_TYPE)));
    // All of it is quoted or a number, so that a header can have it.
    if let Ok(value) = HeaderValue::try_from(broker_properties(delivery, &known)) {
        headers.insert(HeaderName::from_static(BROKER_PROPERTIES), value);
    }
    if let Some(lock) = &delivery.lock {
        let location = format!("{address}/messages/{}/{}", delivery.sequence, lock.token);
        if let Ok(location) = HeaderValue::try_from(location) {
            headers.insert(LOCATION, location);
        }
    }
    response
}

/// What the sender and the broker say about a message, in the order of the names.
fn broker_properties(delivery: &Delivery, known: &Properties) -> String {
    let message = &*delivery.message;
    let number = |number: u64| Some(number.to_string());
    let date = |millis: i64| moment::show(millis).map(|date| quote(&date));
    let short = |text: &str| (text.len() <= TEXT_OUT_BYTES_MAX).then(|| quote(text));
    let text = |text: Option<&str>| text.and_then(short);
    let id = |id: &Option<message::MessageId>| id.as_ref().and_then(|id| short(&id.text()));
    let key = |name| annotation(message, name).and_then(|key| short(key.as_str()?));
    let scheduled = message.facts().scheduled_enqueue_time();
    let lock = delivery.lock.as_ref();
    let state = format!("\"{:?}\"", delivery.state);
    let members = [
        ("CorrelationId", id(&known.correlation_id)),
        ("DeadLetterSource", text(delivery.dead_letter_source.as_deref())),
        // AMQP counts those before this one.
        ("DeliveryCount", number(u64::from(delivery.attempts) + 1)),
        ("EnqueuedSequenceNumber", number(message.enqueue_sequence().0)),
        ("EnqueuedTimeUtc", date(message.enqueued_at().as_amqp())),
        ("Label", text(known.subject.as_deref())),
        ("LockToken", lock.map(|lock| quote(&lock.token.to_string()))),
        ("LockedUntilUtc", lock.and_then(|lock| date(lock.until.as_amqp()))),
        // Clients expect one. Only senders over AMQP can leave it out.
        ("MessageId", id(&known.message_id).or_else(|| Some(quote("")))),
        ("PartitionKey", key(PARTITION_KEY)),
        ("ReplyTo", text(known.reply_to.as_deref())),
        ("ReplyToSessionId", text(known.reply_to_group_id.as_deref())),
        ("ScheduledEnqueueTimeUtc", scheduled.and_then(|at| date(at.as_amqp()))),
        ("SequenceNumber", number(delivery.sequence.0)),
        ("SessionId", text(known.group_id.as_deref())),
        ("State", Some(state)),
        ("TimeToLive", Some(time_to_live(message))),
        ("To", text(known.to.as_deref())),
        ("ViaPartitionKey", key(VIA_PARTITION_KEY)),
    ];
    let members = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let members: Vec<_> = members.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// In seconds.
fn time_to_live(message: &StoredMessage) -> String {
    let Some(expires_at) = message.expires_at() else { return FOREVER_SECONDS.to_owned() };
    let millis = expires_at.since(message.enqueued_at()).0;
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn annotation(message: &StoredMessage, name: &str) -> Option<Value> {
    let section = message.bytes().get(message.sections().message_annotations()?)?;
    MapSection::parse(section).ok()?.get(name).ok()??.value().ok()
}

/// Application properties as headers, as many as clients can read. What has no form as a header is left
/// out; the message is worth more than its labels.
fn add_properties(delivery: &Delivery, headers: &mut HeaderMap) {
    let replaced = delivery.application_properties.as_deref();
    let Some(section) = replaced.or(delivery.message.application_properties()) else { return };
    let Ok(section) = MapSection::parse(section) else { return };
    let (mut count, mut octets) = (0, 0);
    for entry in section.entries().map_while(Result::ok) {
        let Some(name) = entry.key().ok().flatten() else { continue };
        let header = entry.value().ok().and_then(|value| properties::header(name, &value));
        let Some((name, value)) = header else { continue };
        octets += name.as_str().len() + value.len();
        count += 1;
        if PROPERTIES_OUT_MAX < count || PROPERTIES_OUT_BYTES_MAX < octets {
            debug!(sequence = %delivery.sequence, "more properties than an answer may have");
            return;
        }
        headers.insert(name, value);
    }
}

/// The octets that the sender sent, or the text. What is neither goes out as AMQP encodes it.
fn body(message: &StoredMessage) -> Bytes {
    let sections = message.sections();
    let (Some(range), Some(kind)) = (sections.body(), sections.body_kind()) else {
        return Bytes::new();
    };
    let encoded = message.shared_bytes().slice(range);
    if kind == BodyKind::Sequence {
        return encoded;
    }
    match Message::decode(&encoded).map(|message| message.body) {
        Ok(message::Body::Data(parts)) => match <[Bytes; 1]>::try_from(parts) {
            Ok([part]) => part,
            Err(parts) => Bytes::from(parts.concat()),
        },
        Ok(message::Body::Value(Value::String(text))) => text.as_bytes().clone(),
        Ok(message::Body::Value(Value::Binary(octets))) => octets,
        Ok(message::Body::Value(Value::Null)) => Bytes::new(),
        Ok(message::Body::Value(_) | message::Body::Sequence(_) | message::Body::Empty)
        | Err(_) => encoded,
    }
}
