//! A stored message as it goes out: the broker's header and annotations in front of the sections
//! that stay as they were sent.

use bytes::{Bytes, BytesMut};
use peeklock_core::{Browsed, Delivery, StoredMessage};
use peeklock_protocol::message::{Header, MapSection, MapSectionKind, MapSectionWriter};
use peeklock_protocol::value::Value;
use smallvec::SmallVec;
use tracing::debug;

/// Heads are built in chunks of this size, one allocation for some hundred messages.
const SCRATCH_SIZE: usize = 32 * 1024;

/// Room for one head without annotations of the sender.
const HEAD_SIZE: usize = 256;

/// Annotations that are the broker's: a message sent again with the ones it was received with must
/// not carry both.
const OWN_ANNOTATIONS: [&str; 7] = [
    "x-opt-sequence-number",
    "x-opt-enqueue-sequence-number",
    "x-opt-enqueued-time",
    "x-opt-locked-until",
    "x-opt-lock-token",
    "x-opt-message-state",
    "x-opt-deadletter-source",
];

/// The parts of a message, in order.
pub(super) type Parts = SmallVec<[Bytes; 4]>;

/// A delivery.
pub(super) fn delivery(delivery: &Delivery, scratch: &mut BytesMut) -> Parts {
    if scratch.capacity() < HEAD_SIZE {
        scratch.reserve(SCRATCH_SIZE);
    }
    let message = &*delivery.message;
    locked_head(delivery, scratch);
    let mut map = annotations(message, delivery.sequence.as_amqp(), scratch);
    locked_until(delivery, &mut map);
    dead_letter_source(delivery.dead_letter_source.as_deref(), &mut map);
    map.finish();
    let head = scratch.split().freeze();
    with_bare_message(head, message, delivery.application_properties.as_ref())
}

/// A message as peek shows it: one piece, no lock data, with its state.
pub(crate) fn browsed(browsed: &Browsed) -> Bytes {
    let message = &*browsed.message;
    let mut head = BytesMut::with_capacity(HEAD_SIZE);
    header(message, browsed.attempts, &mut head);
    let mut map = annotations(message, browsed.sequence.as_amqp(), &mut head);
    map.entry("x-opt-message-state", &Value::Int(browsed.state.as_amqp()));
    dead_letter_source(browsed.dead_letter_source.as_deref(), &mut map);
    map.finish();
    with_bare_message(head.freeze(), message, browsed.application_properties.as_ref())
        .concat()
        .into()
}

/// A deferred message asked for by number: one piece, with its lock and its state.
pub(crate) fn received(delivery: &Delivery) -> Bytes {
    let message = &*delivery.message;
    let mut head = BytesMut::with_capacity(HEAD_SIZE);
    locked_head(delivery, &mut head);
    let mut map = annotations(message, delivery.sequence.as_amqp(), &mut head);
    locked_until(delivery, &mut map);
    dead_letter_source(delivery.dead_letter_source.as_deref(), &mut map);
    map.entry("x-opt-message-state", &Value::Int(delivery.state.as_amqp()));
    map.finish();
    with_bare_message(head.freeze(), message, delivery.application_properties.as_ref())
        .concat()
        .into()
}

/// Header and, if there is a lock, the annotation that names it.
fn locked_head(delivery: &Delivery, out: &mut BytesMut) {
    header(&delivery.message, delivery.attempts, out);
    if let Some(lock) = &delivery.lock {
        let mut map = MapSectionWriter::new(out, MapSectionKind::DeliveryAnnotations);
        map.entry("x-opt-lock-token", &Value::Uuid(lock.token.0));
        map.finish();
    }
}

fn locked_until(delivery: &Delivery, map: &mut MapSectionWriter<'_>) {
    if let Some(lock) = &delivery.lock {
        map.entry("x-opt-locked-until", &Value::Timestamp(lock.until.as_amqp()));
    }
}

/// Where a dead letter that was forwarded comes from.
fn dead_letter_source(source: Option<&str>, map: &mut MapSectionWriter<'_>) {
    if let Some(source) = source {
        map.entry("x-opt-deadletter-source", &Value::from(source));
    }
}

/// The header is always there and always has its delivery-count, 0 included: .NET reads it without
/// asking.
fn header(message: &StoredMessage, attempts: u32, out: &mut BytesMut) {
    let sent = message.sections().header().and_then(|range| message.bytes().get(range));
    let mut header = sent.and_then(|section| Header::decode(section).ok()).unwrap_or_default();
    header.delivery_count = Some(attempts);
    header.encode(out);
}

/// The sender's annotations as they came, but for those that are ours, and ours.
fn annotations<'a>(
    message: &StoredMessage,
    sequence: i64,
    out: &'a mut BytesMut,
) -> MapSectionWriter<'a> {
    let mut map = MapSectionWriter::new(out, MapSectionKind::MessageAnnotations);
    let sent = message.sections().message_annotations();
    if let Some(section) = sent.and_then(|range| message.bytes().get(range)) {
        match MapSection::parse(section) {
            Ok(section) => {
                for entry in section.entries().map_while(Result::ok) {
                    let key = entry.key().ok().flatten();
                    if !key.is_some_and(|key| OWN_ANNOTATIONS.contains(&key)) {
                        map.raw_entry(&entry);
                    }
                }
            }
            // It was looked through when the message came in.
            Err(error) => debug!(%error, sequence, "a stored message has unreadable annotations"),
        }
    }
    let enqueued = message.enqueued_at().as_amqp();
    map.entry("x-opt-sequence-number", &Value::Long(sequence));
    map.entry("x-opt-enqueued-time", &Value::Timestamp(enqueued));
    let first = message.enqueue_sequence().as_amqp();
    map.entry("x-opt-enqueue-sequence-number", &Value::Long(first));
    map
}

/// Everything from the properties on goes out as it came in; a settlement may have replaced the
/// application properties.
fn with_bare_message(head: Bytes, message: &StoredMessage, replaced: Option<&Bytes>) -> Parts {
    let whole = message.shared_bytes();
    let sections = message.sections();
    let body = sections.body().or(sections.footer()).map_or(whole.len(), |range| range.start);
    let mut parts = Parts::new();
    parts.push(head);
    match replaced {
        None => {
            let first = sections.properties().or(sections.application_properties());
            let start = first.map_or(body, |range| range.start);
            parts.push(whole.slice(start..));
        }
        Some(replaced) => {
            if let Some(properties) = sections.properties() {
                parts.push(whole.slice(properties));
            }
            parts.push(replaced.clone());
            parts.push(whole.slice(body..));
        }
    }
    parts
}

#[cfg(test)]
mod tests;
