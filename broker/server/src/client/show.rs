//! A received message, for people and for programs.

use std::fmt::Write as _;

use bytes::Bytes;
use peeklock_protocol::message::{Body, Message, MessageId};
use peeklock_protocol::value::{Map, Value};

use super::failure::Failure;
use super::json::{MessageLine, Typed};
use super::{damaged, output, typed};

/// What the broker says about a message, in annotations of its own. A message that is sent again must
/// not claim them.
const BROKERS: [&str; 7] = [
    "x-opt-sequence-number",
    "x-opt-enqueue-sequence-number",
    "x-opt-enqueued-time",
    "x-opt-locked-until",
    "x-opt-lock-token",
    "x-opt-message-state",
    "x-opt-deadletter-source",
];

/// What a message is scheduled with; the second is that of JMS.
const SCHEDULES: [&str; 2] = ["x-opt-scheduled-enqueue-time", "x-opt-delivery-time"];

/// Why the broker or a receiver gave a message up, and what they said about it.
pub(super) const REASON: &str = "DeadLetterReason";
pub(super) const DESCRIPTION: &str = "DeadLetterErrorDescription";

/// A message as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// What can be read of it.
    pub(super) message: Message,
    pub(super) bytes: Bytes,
    /// Whether that is all.
    pub(super) is_whole: bool,
}

impl Received {
    pub(super) fn of(bytes: &Bytes) -> Self {
        let bytes = bytes.clone();
        match Message::decode(&bytes) {
            Ok(message) => Self { message, bytes, is_whole: true },
            Err(_) => Self { message: damaged::readable(&bytes), bytes, is_whole: false },
        }
    }

    /// It as a line.
    pub(super) fn line(&self) -> MessageLine {
        if self.is_whole {
            return MessageLine::of(&self.message);
        }
        MessageLine::of_damaged(&self.message, &self.bytes)
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&Value> {
        self.message.message_annotations.as_ref()?.get(key)
    }

    pub(super) fn sequence(&self) -> Option<i64> {
        self.annotation("x-opt-sequence-number")?.as_i64()
    }

    pub(super) fn id(&self) -> Option<String> {
        let id = self.message.properties.as_ref()?.message_id.as_ref();
        id.map(|id| id.text().into_owned())
    }

    pub(super) fn attempts(&self) -> u32 {
        self.message.header.as_ref().and_then(|header| header.delivery_count).unwrap_or(0)
    }

    /// An application property as text, empty if there is none.
    pub(super) fn property(&self, key: &str) -> String {
        self.message.application_property(key).map(typed::show).unwrap_or_default()
    }

    /// When it came, or is to come.
    pub(super) fn time(&self, key: &str) -> String {
        self.annotation(key).map(typed::show).unwrap_or_default()
    }

    /// What the state of a message that was peeked is called.
    pub(super) fn state(&self) -> &'static str {
        match self.annotation("x-opt-message-state").and_then(Value::as_i64) {
            Some(1) => "deferred",
            Some(2) => "scheduled",
            _ => "active",
        }
    }

    /// Writes it: a line of JSON, or some lines of text.
    pub(super) fn print(&self, json: bool) -> Result<(), Failure> {
        if json {
            return output::print_json(&self.line());
        }
        output::write(&self.text())
    }

    fn text(&self) -> Vec<u8> {
        let mut head = format!("#{}", self.sequence().unwrap_or(0));
        let mut part = |name: &str, value: &str| {
            if !value.is_empty() {
                // A string takes whatever is written.
                let _ = write!(head, "  {name}={}", output::one_line(value));
            }
        };
        let properties = self.message.properties.clone().unwrap_or_default();
        let id = |id: &Option<MessageId>| {
            id.as_ref().map(|id| id.text().into_owned()).unwrap_or_default()
        };
        part("id", &id(&properties.message_id));
        part("session", properties.group_id.as_deref().unwrap_or_default());
        part("subject", properties.subject.as_deref().unwrap_or_default());
        part("to", properties.to.as_deref().unwrap_or_default());
        part("reply-to", properties.reply_to.as_deref().unwrap_or_default());
        part("correlation-id", &id(&properties.correlation_id));
        part("content-type", properties.content_type.as_deref().unwrap_or_default());
        part("enqueued", &self.time("x-opt-enqueued-time"));
        part("scheduled", &self.time("x-opt-scheduled-enqueue-time"));
        if 0 < self.attempts() {
            part("attempts", &self.attempts().to_string());
        }
        if self.state() != "active" {
            part("state", self.state());
        }
        if !self.is_whole {
            part("readable", "in part");
        }
        let mut out = head.into_bytes();
        out.push(b'\n');
        for (key, value) in self.message.application_properties.iter().flatten() {
            let (key, value) = (typed::show(key), typed::show(value));
            let line = format!("  {}: {}\n", output::one_line(&key), output::one_line(&value));
            out.extend(line.into_bytes());
        }
        out.extend(self.body());
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
        out
    }

    /// The body as it is, or as JSON if it is a value.
    pub(super) fn body(&self) -> Vec<u8> {
        if !self.is_whole
            && let Some(octets) = damaged::body(&self.bytes, &self.message.body)
        {
            return octets.to_vec();
        }
        let json = |value: &Value| serde_json::to_vec(&Typed(value.clone())).unwrap_or_default();
        match &self.message.body {
            Body::Empty => Vec::new(),
            Body::Data(parts) => parts.concat(),
            Body::Value(Value::String(text)) => text.as_bytes().to_vec(),
            Body::Value(value) => json(value),
            Body::Sequence(parts) => {
                json(&Value::List(parts.iter().cloned().map(Value::List).collect()))
            }
        }
    }
}

/// A message as its sender had it: to be sent again, without what the broker has said about it.
/// `scheduled` leaves the time in that it is scheduled for.
pub(super) fn as_sent(message: &Message, scheduled: bool) -> Message {
    let mut message = message.clone();
    message.delivery_annotations = None;
    if let Some(header) = &mut message.header {
        header.delivery_count = None;
        header.first_acquirer = None;
    }
    if message.header.as_ref() == Some(&peeklock_protocol::message::Header::default()) {
        message.header = None;
    }
    let goes = |key: &Value| key.as_str().is_some_and(|key| is_brokers(key, scheduled));
    let kept: Option<Map> = message
        .message_annotations
        .map(|map| map.into_iter().filter(|(key, _)| !goes(key)).collect());
    message.message_annotations = kept.filter(|map| !map.is_empty());
    message
}

/// Whether a message that is sent again must not have this annotation.
pub(super) fn is_brokers(key: &str, scheduled: bool) -> bool {
    BROKERS.contains(&key) || (!scheduled && SCHEDULES.contains(&key))
}
