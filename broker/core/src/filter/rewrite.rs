//! A message with the changes of an action in it.

use bytes::{BufMut, BytesMut};
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::message::{
    Header, MapSection, MapSectionKind, MapSectionWriter, MessageId, Properties as Fields, Sections,
};
use peeklock_protocol::value::{Str, Symbol, Value};

use super::action::PropertyChange;
use super::datum::Datum;
use super::name::Name;
use super::system::SystemProperty;

/// Writes the message anew with these changes. Sections without a change keep their octets.
pub fn rewrite(
    message: &[u8],
    sections: &Sections,
    changes: &[PropertyChange],
) -> Result<BytesMut, DecodeError> {
    let plan = Plan::new(changes);
    let section =
        |place: Option<std::ops::Range<usize>>| place.and_then(|place| message.get(place));
    let mut out = BytesMut::with_capacity(message.len() + 256);
    let header = section(sections.header());
    match plan.ttl {
        Some(TimeToLive(ttl)) => {
            let old = header.map_or_else(|| Ok(Header::default()), Header::decode)?;
            Header { ttl, ..old }.encode(&mut out);
        }
        None => out.put_slice(header.unwrap_or_default()),
    }
    out.put_slice(section(sections.delivery_annotations()).unwrap_or_default());
    let annotations = section(sections.message_annotations());
    map(MapSectionKind::MessageAnnotations, annotations, &plan.annotations, &mut out)?;
    let properties = section(sections.properties());
    if plan.fields.is_empty() {
        out.put_slice(properties.unwrap_or_default());
    } else {
        let mut fields = properties.map_or_else(|| Ok(Fields::default()), Fields::decode_slice)?;
        for (property, text) in plan.fields {
            set_field(&mut fields, property, text)?;
        }
        fields.encode(&mut out);
    }
    let application = section(sections.application_properties());
    map(MapSectionKind::ApplicationProperties, application, &plan.user, &mut out)?;
    out.put_slice(section(sections.body()).unwrap_or_default());
    out.put_slice(section(sections.footer()).unwrap_or_default());
    Ok(out)
}

/// A new time to live, in milliseconds; none if it goes.
struct TimeToLive(Option<u32>);

/// The system properties that are annotations on the wire.
const ANNOTATIONS: [(SystemProperty, &str); 3] = [
    (SystemProperty::PartitionKey, "x-opt-partition-key"),
    (SystemProperty::ViaPartitionKey, "x-opt-via-partition-key"),
    (SystemProperty::ScheduledEnqueueTimeUtc, "x-opt-scheduled-enqueue-time"),
];

/// The changes by the section they belong to.
#[derive(Default)]
struct Plan<'c> {
    ttl: Option<TimeToLive>,
    annotations: Vec<(Name, Option<&'c Value>)>,
    fields: Vec<(SystemProperty, Option<&'c Value>)>,
    user: Vec<(Name, Option<&'c Value>)>,
}

impl<'c> Plan<'c> {
    fn new(changes: &'c [PropertyChange]) -> Self {
        let mut plan = Plan::default();
        for change in changes {
            match change {
                PropertyChange::User { name, value } => {
                    plan.user.push((name.clone(), value.as_ref()));
                }
                PropertyChange::System { property, value } => {
                    plan.system(*property, value.as_ref());
                }
            }
        }
        plan
    }

    fn system(&mut self, property: SystemProperty, value: Option<&'c Value>) {
        if property == SystemProperty::TimeToLive {
            self.ttl = Some(TimeToLive(value.map(milliseconds)));
        } else if let Some((_, key)) = ANNOTATIONS.iter().find(|(known, _)| *known == property) {
            self.annotations.push((Name::new(key), value));
        } else {
            self.fields.push((property, value));
        }
    }
}

/// Of a timespan, as long as a header can say; a span that is over is the shortest.
fn milliseconds(timespan: &Value) -> u32 {
    let Datum::Span(ticks) = Datum::from(timespan) else { return u32::MAX };
    u32::try_from((ticks / 10_000).max(0)).unwrap_or(u32::MAX)
}

fn set_field(
    fields: &mut Fields,
    property: SystemProperty,
    value: Option<&Value>,
) -> Result<(), DecodeError> {
    let text = value.and_then(Value::as_str).map(Str::from);
    let texts = [
        (SystemProperty::To, &mut fields.to),
        (SystemProperty::ReplyTo, &mut fields.reply_to),
        (SystemProperty::Label, &mut fields.subject),
        (SystemProperty::SessionId, &mut fields.group_id),
        (SystemProperty::ReplyToSessionId, &mut fields.reply_to_group_id),
    ];
    let ids = [
        (SystemProperty::MessageId, &mut fields.message_id),
        (SystemProperty::CorrelationId, &mut fields.correlation_id),
    ];
    if let Some((_, field)) = texts.into_iter().find(|(known, _)| *known == property) {
        *field = text;
    } else if let Some((_, field)) = ids.into_iter().find(|(known, _)| *known == property) {
        *field = text.map(MessageId::String);
    } else {
        assert_eq!(property, SystemProperty::ContentType, "set by an action, and in no section");
        let symbol = text.map(|text| Symbol::from_ascii(text.as_bytes().clone()));
        fields.content_type = symbol.transpose()?;
    }
    Ok(())
}

/// A map section with changes: in the place of the old entry and under its spelling, else at the end.
fn map(
    kind: MapSectionKind,
    original: Option<&[u8]>,
    changes: &[(Name, Option<&Value>)],
    out: &mut BytesMut,
) -> Result<(), DecodeError> {
    if changes.is_empty() {
        out.put_slice(original.unwrap_or_default());
        return Ok(());
    }
    let mut is_pending = vec![true; changes.len()];
    let mut writer = MapSectionWriter::new(out, kind);
    if let Some(section) = original {
        for entry in MapSection::parse(section)?.entries() {
            let entry = entry?;
            let key = entry.key()?.map(|key| (key, Name::new(key)));
            let change = key.and_then(|(key, name)| {
                Some((key, changes.iter().position(|(changed, _)| changed.is_same(&name))?))
            });
            let Some((key, index)) = change else {
                writer.raw_entry(&entry);
                continue;
            };
            // A second entry whose name differs in case only goes: its value is no longer true.
            if let (Some(value), true) = (changes[index].1, is_pending[index]) {
                writer.entry(key, value);
            }
            is_pending[index] = false;
        }
    }
    for ((name, value), is_pending) in changes.iter().zip(is_pending) {
        if let (Some(value), true) = (value, is_pending) {
            writer.entry(name.as_str(), value);
        }
    }
    writer.finish();
    Ok(())
}
