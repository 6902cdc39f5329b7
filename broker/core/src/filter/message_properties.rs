//! The properties of an encoded message.

use std::borrow::Cow;
use std::cell::OnceCell;

use peeklock_protocol::message::{
    Entry, Header, MapSection, MessageId, Properties as Fields, Sections,
};
use peeklock_protocol::value::{Str, Value};

use super::datum::timespan;
use super::name::{self, Name};
use super::properties::Properties;
use super::system::SystemProperty;
use crate::id::SequenceNumber;
use crate::message::{IncomingMessage, StoredMessage};
use crate::time::Timestamp;

const TICKS_PER_MILLISECOND: i64 = 10_000;

/// What a message does not say of itself, but the entity that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it was accepted.
    pub enqueued_at: Timestamp,
    /// The first moment at which it is of no use any more, if it is the entity that says so.
    pub expires_at: Option<Timestamp>,
    /// Its number in the entity that holds it.
    pub sequence: SequenceNumber,
    /// Its number in the entity that took it in.
    pub enqueue_sequence: SequenceNumber,
    /// Deliveries that were tried so far.
    pub attempts: u32,
}

impl Arrival {
    /// Of a message that has just come to an entity and got its number there.
    pub const fn new(enqueued_at: Timestamp, sequence: SequenceNumber) -> Self {
        Arrival { enqueued_at, expires_at: None, sequence, enqueue_sequence: sequence, attempts: 0 }
    }
}

/// The properties of one message. Nothing is read before it is asked for, and nothing twice, however
/// many filters ask.
///
/// A part of the message that cannot be read, such as text that is not UTF-8, is as good as missing:
/// no filter could mean it.
#[derive(Debug)]
pub struct MessageProperties<'m> {
    message: &'m [u8],
    sections: &'m Sections,
    arrival: Arrival,
    /// The application-properties section in place of the message's own.
    replaced: Option<&'m [u8]>,
    system: OnceCell<SystemValues>,
    /// In the order of their names' hashes, then of their folded names; those that share one, in the
    /// order of the message.
    user: OnceCell<Vec<UserProperty<'m>>>,
}

type SystemValues = [Option<Value>; SystemProperty::COUNT];

#[derive(Debug)]
struct UserProperty<'m> {
    hash: u64,
    folded: Cow<'m, str>,
    key: &'m str,
    entry: Entry<'m>,
    value: OnceCell<Option<Value>>,
}

impl<'m> MessageProperties<'m> {
    /// Of a message and the places of its sections.
    pub fn new(message: &'m [u8], sections: &'m Sections, arrival: Arrival) -> Self {
        let (system, user) = (OnceCell::new(), OnceCell::new());
        MessageProperties { message, sections, arrival, replaced: None, system, user }
    }

    /// Of a message on its way in.
    pub fn of_incoming(message: &'m IncomingMessage, arrival: Arrival) -> Self {
        Self::new(message.bytes(), message.sections(), arrival)
    }

    /// Of a message that an entity holds.
    pub fn of_stored(message: &'m StoredMessage, arrival: Arrival) -> Self {
        Self::new(message.bytes(), message.sections(), arrival)
    }

    /// The same with other application-properties, if there are such.
    #[must_use]
    pub fn replacing(self, application_properties: Option<&'m [u8]>) -> Self {
        MessageProperties { replaced: application_properties, ..self }
    }

    fn section(&self, place: Option<std::ops::Range<usize>>) -> Option<&'m [u8]> {
        self.message.get(place?)
    }

    fn read_system(&self) -> SystemValues {
        use SystemProperty as System;

        let section = |place| self.section(place);
        let header = section(self.sections.header()).and_then(|s| Header::decode(s).ok());
        let header = header.unwrap_or_default();
        let fields = section(self.sections.properties()).and_then(|s| Fields::decode_slice(s).ok());
        let fields = fields.unwrap_or_default();
        let annotations = section(self.sections.message_annotations());
        let annotations = annotations.and_then(|section| MapSection::parse(section).ok());
        let annotation =
            |key| annotations.as_ref()?.get(key).ok()??.value().ok().filter(|v| !v.is_null());
        let number = |number: u64| Some(Value::Long(i64::try_from(number).unwrap_or(i64::MAX)));
        let moment = |moment: Timestamp| Some(Value::Timestamp(moment.as_amqp()));
        let ttl = header.ttl.map(i64::from);

        let mut values = [const { None }; SystemProperty::COUNT];
        let mut set = |property: SystemProperty, value: Option<Value>| {
            values[property as usize] = value;
        };
        set(System::MessageId, fields.message_id.as_ref().map(id_text));
        set(System::CorrelationId, fields.correlation_id.as_ref().map(id_text));
        set(System::To, fields.to.map(Value::String));
        set(System::ReplyTo, fields.reply_to.map(Value::String));
        set(System::Label, fields.subject.map(Value::String));
        set(System::SessionId, fields.group_id.map(Value::String));
        set(System::ReplyToSessionId, fields.reply_to_group_id.map(Value::String));
        set(System::ContentType, fields.content_type.map(|v| Value::String(v.into())));
        set(System::PartitionKey, annotation("x-opt-partition-key"));
        set(System::ViaPartitionKey, annotation("x-opt-via-partition-key"));
        set(System::TimeToLive, ttl.map(|ttl| timespan(ttl * TICKS_PER_MILLISECOND)));
        set(System::ScheduledEnqueueTimeUtc, annotation("x-opt-scheduled-enqueue-time"));
        set(System::EnqueuedTimeUtc, moment(self.arrival.enqueued_at));
        set(System::SequenceNumber, number(self.arrival.sequence.0));
        set(System::EnqueuedSequenceNumber, number(self.arrival.enqueue_sequence.0));
        set(System::DeliveryCount, number(self.arrival.attempts.into()));
        let by_ttl = ttl.map(|ttl| self.arrival.enqueued_at.as_amqp().saturating_add(ttl));
        let expires_at = self.arrival.expires_at.map(Timestamp::as_amqp).or(by_ttl);
        set(System::ExpiresAtUtc, expires_at.map(Value::Timestamp));
        set(System::Size, number(self.message.len() as u64));
        // What a filter sees is active: neither deferred nor scheduled any more.
        set(System::State, Some(Value::Int(0)));
        set(System::DeadLetterSource, annotation("x-opt-deadletter-source"));
        set(System::Priority, Some(Value::Ubyte(header.priority.unwrap_or(4))));
        let is_durable = header.durable.unwrap_or(false);
        let mode = if is_durable { "PERSISTENT" } else { "NON_PERSISTENT" };
        set(System::DeliveryMode, Some(mode.into()));
        set(System::CreationTime, fields.creation_time.map(|moment| Value::Long(moment.0)));
        let user_id = fields.user_id.and_then(|octets| Str::from_utf8(octets).ok());
        set(System::UserId, user_id.map(Value::String));
        set(System::GroupSequence, fields.group_sequence.map(|number| Value::Uint(number.0)));
        values
    }

    fn read_user(&self) -> Vec<UserProperty<'m>> {
        let own = self.section(self.sections.application_properties());
        let section = self.replaced.or(own);
        let Some(Ok(section)) = section.map(MapSection::parse) else { return Vec::new() };
        let property = |entry: Entry<'m>| {
            let key = entry.key().ok()??;
            let folded = name::fold(key);
            let hash = name::hash(&folded);
            Some(UserProperty { hash, folded, key, entry, value: OnceCell::new() })
        };
        let mut properties: Vec<_> =
            section.entries().filter_map(|entry| property(entry.ok()?)).collect();
        properties.sort_by(|a, b| a.place().cmp(&b.place()));
        properties
    }
}

impl UserProperty<'_> {
    /// What they are sorted by.
    fn place(&self) -> (u64, &str) {
        (self.hash, &self.folded)
    }
}

/// An id of any type is text to Service Bus.
fn id_text(id: &MessageId) -> Value {
    match id {
        MessageId::String(text) => Value::String(text.clone()),
        MessageId::Ulong(_) | MessageId::Uuid(_) | MessageId::Binary(_) => (&*id.text()).into(),
    }
}

impl Properties for MessageProperties<'_> {
    fn system(&self, property: SystemProperty) -> Option<&Value> {
        self.system.get_or_init(|| self.read_system()).get(property as usize)?.as_ref()
    }

    fn user(&self, name: &Name) -> Option<&Value> {
        let properties = self.user.get_or_init(|| self.read_user());
        let place = (name.hash(), name.folded());
        let first = properties.partition_point(|property| property.place() < place);
        let same = properties.get(first..)?.iter().take_while(|property| property.place() == place);
        let mut found = None;
        for property in same {
            if property.key == name.as_str() {
                found = Some(property);
                break;
            }
            if !name.is_exact() {
                found = found.or(Some(property));
            }
        }
        let property = found?;
        property.value.get_or_init(|| property.entry.value().ok()).as_ref()
    }
}
