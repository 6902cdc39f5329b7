//! What a sender writes on a message and an entity acts on. Read when it is asked for: most messages
//! have little of it, and most entities want to know none of it.
//!
//! Sections are not looked into when a message comes in. One that cannot be read says nothing here;
//! its receiver gets it as it came.

use peeklock_protocol::message::{Header, MapSection, Properties, Sections};
use peeklock_protocol::value::Value;

use crate::entity::settings::QueueSettings;
use crate::id::MessageSessionId;
use crate::time::{Span, Timestamp};

/// Where the time is in the list of properties (§3.2.4).
const ABSOLUTE_EXPIRY_TIME: u8 = 8;
const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";
/// The same as JMS clients write it.
const DELIVERY_TIME: &str = "x-opt-delivery-time";

/// A look at the sections of one message.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    message: &'a [u8],
    sections: &'a Sections,
}

impl<'a> Facts<'a> {
    pub(crate) const fn new(message: &'a [u8], sections: &'a Sections) -> Self {
        Facts { message, sections }
    }

    /// The properties section, decoded.
    pub fn properties(&self) -> Option<Properties> {
        Properties::decode_slice(self.message.get(self.sections.properties()?)?).ok()
    }

    /// The message session it belongs to: its group-id. An id that is too long is no id.
    pub fn session(&self) -> Option<MessageSessionId> {
        let section = self.message.get(self.sections.properties()?)?;
        MessageSessionId::new(Properties::group_id_in(section).ok()??)
    }

    /// Whether it belongs to one.
    pub fn has_session(&self) -> bool {
        let section = self.sections.properties().and_then(|range| self.message.get(range));
        let id = section.and_then(|section| Properties::group_id_in(section).ok().flatten());
        id.is_some_and(MessageSessionId::is_valid)
    }

    /// What duplicates are found by, whatever type the sender chose.
    pub fn message_id(&self) -> Option<String> {
        Some(self.properties()?.message_id?.text().into_owned())
    }

    /// For how long it is of use, by its header.
    pub fn time_to_live(&self) -> Option<Span> {
        let header = Header::decode(self.message.get(self.sections.header()?)?).ok()?;
        header.ttl.map(|millis| Span(u64::from(millis)))
    }

    /// Until when it is of use, by its properties. The SDKs write it for times to live that do not
    /// fit into the header.
    pub fn absolute_expiry(&self) -> Option<Timestamp> {
        let section = self.message.get(self.sections.properties()?)?;
        // Most messages have properties and no such time: look for it before decoding all of them.
        if !may_have_field(section, ABSOLUTE_EXPIRY_TIME) {
            return None;
        }
        u64::try_from(self.properties()?.absolute_expiry_time?.0).ok().map(Timestamp)
    }

    /// The first moment at which it is of no use any more, in an entity of these settings that it came
    /// to at this moment. The smallest of what the sender and the entity say counts.
    pub fn expires_at(&self, at: Timestamp, settings: &QueueSettings) -> Option<Timestamp> {
        // Senders that set no time to live write none, or zero. The longest the header can say stands
        // for whatever does not fit into it; else the header is the better witness, as it does not
        // depend on the sender's clock.
        let by_sender = match self.time_to_live().filter(|span| span.0 != 0) {
            Some(span) if span.0 < u64::from(u32::MAX) => Some(at.plus(span)),
            span => self.absolute_expiry().or(span.map(|span| at.plus(span))),
        };
        let by_entity = settings.default_time_to_live.map(|span| at.plus(span));
        match (by_sender, by_entity) {
            (Some(sender), Some(entity)) => Some(sender.min(entity)),
            (sender, entity) => sender.or(entity),
        }
    }

    /// When it is to be delivered, if its sender named a time.
    pub fn scheduled_enqueue_time(&self) -> Option<Timestamp> {
        let section = self.message.get(self.sections.message_annotations()?)?;
        let annotations = MapSection::parse(section).ok()?;
        if let Some(entry) = annotations.get(SCHEDULED_ENQUEUE_TIME).ok()? {
            let Value::Timestamp(millis) = entry.value().ok()? else { return None };
            return u64::try_from(millis).ok().map(Timestamp);
        }
        let time = annotations.get(DELIVERY_TIME).ok()??.value().ok()?;
        let (Value::Timestamp(millis) | Value::Long(millis)) = time else { return None };
        u64::try_from(millis).ok().map(Timestamp)
    }
}

/// Whether a section that is a list of at most 255 fields may have one at this index. A section that is
/// not what it should be may have anything: who decodes it will say.
fn may_have_field(section: &[u8], index: u8) -> bool {
    // The descriptor as a small ulong, then a list whose size is one octet, then its fields' count.
    let [0x00, 0x53, _, 0xc0, _, count, fields @ ..] = section else { return true };
    index < *count && !matches!(nth_field(fields, index), Some([0x40, ..]))
}

/// The octets from one field of a list on (§1.2).
fn nth_field(mut fields: &[u8], index: u8) -> Option<&[u8]> {
    for _ in 0..index {
        let (code, rest) = fields.split_first()?;
        let (width, skipped) = match code >> 4 {
            0x4 => (0, 0),
            0x5 => (0, 1),
            0x6 => (0, 2),
            0x7 => (0, 4),
            0x8 => (0, 8),
            0x9 => (0, 16),
            0xa | 0xc | 0xe => (1, usize::from(*rest.first()?)),
            0xb | 0xd | 0xf => {
                let size = u32::from_be_bytes(*rest.first_chunk::<4>()?);
                (4, usize::try_from(size).ok()?)
            }
            _ => return None,
        };
        fields = rest.get(width..)?.get(skipped..)?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::message::Message;
    use peeklock_protocol::value::{Map, Symbol};

    use super::*;

    #[test]
    fn a_message_tells_what_is_written_on_it() {
        let message = Message {
            header: Some(Header { ttl: Some(60_000), ..Header::default() }),
            properties: Some(Properties {
                message_id: Some("m-1".into()),
                group_id: Some("s-1".into()),
                ..Properties::default()
            }),
            ..Message::default()
        };
        let bytes = message.to_bytes();
        let sections = Sections::index(&bytes).unwrap();
        let facts = Facts::new(&bytes, &sections);
        assert_eq!(facts.session().unwrap().as_str(), "s-1");
        assert_eq!(facts.message_id().as_deref(), Some("m-1"));
        assert_eq!(facts.time_to_live(), Some(Span(60_000)));
        assert_eq!(facts.absolute_expiry(), None);
        assert_eq!(facts.scheduled_enqueue_time(), None);
    }

    #[test]
    fn a_message_names_its_time_in_either_way() {
        let own = (SCHEDULED_ENQUEUE_TIME, Value::Timestamp(2_000));
        let jms = (DELIVERY_TIME, Value::Long(3_000));
        let odd = (SCHEDULED_ENQUEUE_TIME, Value::Long(4_000));
        for (annotations, expected) in [
            (vec![own.clone()], Some(2_000)),
            (vec![jms.clone()], Some(3_000)),
            (vec![(DELIVERY_TIME, Value::Timestamp(5_000))], Some(5_000)),
            (vec![jms.clone(), own], Some(2_000)),
            (vec![odd], None),
            (vec![(DELIVERY_TIME, Value::from("soon"))], None),
            (vec![(DELIVERY_TIME, Value::Long(-1))], None),
        ] {
            let map = annotations
                .into_iter()
                .fold(Map::new(), |map, (key, value)| map.with(Symbol::from_static(key), value));
            let bytes = Message::default().with_message_annotations(map).to_bytes();
            let sections = Sections::index(&bytes).unwrap();
            let found = Facts::new(&bytes, &sections).scheduled_enqueue_time();
            assert_eq!(found, expected.map(Timestamp));
        }
    }

    #[test]
    fn a_bare_message_says_nothing() {
        let bytes = crate::testing::wire_message(b"x");
        let sections = Sections::index(&bytes).unwrap();
        let facts = Facts::new(&bytes, &sections);
        assert_eq!(facts.session(), None);
        assert_eq!(facts.message_id(), None);
        assert_eq!(facts.time_to_live(), None);
    }
}
