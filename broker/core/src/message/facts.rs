//! What a sender writes on a message and an entity acts on. Read when it is asked for: most messages
//! have little of it, and most entities want to know none of it.
//!
//! Sections are not looked into when a message comes in. One that cannot be read says nothing here;
//! its receiver gets it as it came.

use peeklock_protocol::message::{Header, MapSection, Properties, Sections};
use peeklock_protocol::value::Value;

use crate::id::MessageSessionId;
use crate::time::{Span, Timestamp};

const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";

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
        u64::try_from(self.properties()?.absolute_expiry_time?.0).ok().map(Timestamp)
    }

    /// When it is to be delivered, if its sender named a time.
    pub fn scheduled_enqueue_time(&self) -> Option<Timestamp> {
        let section = self.message.get(self.sections.message_annotations()?)?;
        let entry = MapSection::parse(section).ok()?.get(SCHEDULED_ENQUEUE_TIME).ok()??;
        let Value::Timestamp(millis) = entry.value().ok()? else { return None };
        u64::try_from(millis).ok().map(Timestamp)
    }
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::message::Message;

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
    fn a_bare_message_says_nothing() {
        let bytes = crate::testing::wire_message(b"x");
        let sections = Sections::index(&bytes).unwrap();
        let facts = Facts::new(&bytes, &sections);
        assert_eq!(facts.session(), None);
        assert_eq!(facts.message_id(), None);
        assert_eq!(facts.time_to_live(), None);
    }
}
