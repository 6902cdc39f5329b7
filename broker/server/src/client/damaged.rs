//! Messages with parts that are not what they should be: a text that is not UTF-8, a string where a
//! symbol belongs. The broker looks into no more of a message than it needs, so it takes and keeps
//! them as they are. So do we: what can be read is shown, and the rest stays octets.

use bytes::{Bytes, BytesMut};
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::message::{
    Body, Entry, Header, MapSection, MapSectionKind, MapSectionWriter, Message, Sections,
};
use peeklock_protocol::value::{Map, RawValue, Value};

use super::show::is_brokers;

/// The sections, and the entries of maps, that can be read.
pub(super) fn readable(message: &Bytes) -> Message {
    let Ok(sections) = Sections::index(message) else { return Message::default() };
    let part = |range: Option<_>| range.map(|range| message.slice(range));
    // A section is a message as well.
    let alone =
        |range| part(range).and_then(|section| Message::decode(&section).ok()).unwrap_or_default();
    let map = |range| part(range).and_then(|section| entries(&section));
    Message {
        header: alone(sections.header()).header,
        delivery_annotations: map(sections.delivery_annotations()),
        message_annotations: map(sections.message_annotations()),
        properties: alone(sections.properties()).properties,
        application_properties: map(sections.application_properties()),
        body: alone(sections.body()).body,
        footer: map(sections.footer()),
    }
}

fn entries(section: &Bytes) -> Option<Map> {
    let value = |octets: &[u8]| {
        let raw = RawValue::new(Bytes::copy_from_slice(octets));
        raw.and_then(|raw| raw.decode()).ok()
    };
    let entry = |entry: Entry<'_>| {
        let key = entry.raw().strip_suffix(entry.raw_value())?;
        Some((value(key)?, value(entry.raw_value())?))
    };
    let section = MapSection::parse(section).ok()?;
    let read: Vec<(Value, Value)> =
        section.entries().map_while(Result::ok).filter_map(entry).collect();
    Some(read.into())
}

/// The octets of the body, if it cannot be read.
pub(super) fn body(message: &Bytes, read: &Body) -> Option<Bytes> {
    let range = Sections::index(message).ok()?.body().filter(|_| *read == Body::Empty)?;
    Some(message.slice(range))
}

/// The message as its sender had it, see [`super::show::as_sent`]: what is left is not touched.
pub(super) fn as_sent(message: &Bytes, scheduled: bool) -> Result<Bytes, DecodeError> {
    let sections = Sections::index(message)?;
    let mut out = BytesMut::with_capacity(message.len());
    if let Some(range) = sections.header() {
        let section = message.slice(range);
        match Header::decode(&section) {
            Ok(header) => {
                let header = Header { delivery_count: None, first_acquirer: None, ..header };
                if header != Header::default() {
                    header.encode(&mut out);
                }
            }
            Err(_) => out.extend_from_slice(&section),
        }
    }
    if let Some(range) = sections.message_annotations() {
        let section = message.slice(range);
        let mut kept = Vec::new();
        for entry in MapSection::parse(&section)?.entries() {
            let entry = entry?;
            let key = entry.key().ok().flatten();
            if !key.is_some_and(|key| is_brokers(key, scheduled)) {
                kept.push(entry);
            }
        }
        if !kept.is_empty() {
            let mut writer = MapSectionWriter::new(&mut out, MapSectionKind::MessageAnnotations);
            for entry in &kept {
                writer.raw_entry(entry);
            }
            writer.finish();
        }
    }
    let rest = [
        sections.properties(),
        sections.application_properties(),
        sections.body(),
        sections.footer(),
    ];
    for range in rest.into_iter().flatten() {
        out.extend_from_slice(&message.slice(range));
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::value::Symbol;

    use super::*;

    /// Application properties `a: "\xff", b: 1`, and a value that is no text either.
    const DAMAGED: &[u8] =
        b"\x00\x53\x74\xc1\x0c\x04\xa1\x01a\xa1\x01\xff\xa1\x01b\x54\x01\x00\x53\x77\xa1\x01\xfe";

    fn received() -> Bytes {
        let annotations = Map::new()
            .with(Symbol::from_static("x-opt-sequence-number"), 7_i64)
            .with(Symbol::from_static("x-mine"), 8);
        let head = Message {
            header: Some(Header { delivery_count: Some(2), ..Header::default() }),
            message_annotations: Some(annotations),
            ..Message::default()
        };
        [&head.to_bytes(), DAMAGED].concat().into()
    }

    #[test]
    fn what_can_be_read_is_read() {
        let message = received();
        assert!(Message::decode(&message).is_err());
        let read = readable(&message);
        assert_eq!(read.header.and_then(|header| header.delivery_count), Some(2));
        let sequence =
            read.message_annotations.as_ref().and_then(|m| m.get("x-opt-sequence-number"));
        assert_eq!(sequence, Some(&Value::Long(7)));
        assert_eq!(read.application_properties, Some(Map::new().with("b", 1_i32)));
        assert_eq!(read.body, Body::Empty);
        assert_eq!(body(&message, &read.body).as_deref(), DAMAGED.get(DAMAGED.len() - 6..));
        assert_eq!(readable(&Bytes::from_static(b"x")), Message::default());
    }

    #[test]
    fn what_is_sent_again_is_what_was_sent() {
        let sent = as_sent(&received(), false).expect("sections are in order");
        let annotations = Map::new().with(Symbol::from_static("x-mine"), 8);
        let head = Message { message_annotations: Some(annotations), ..Message::default() };
        assert_eq!(sent, [&head.to_bytes(), DAMAGED].concat());
        assert!(as_sent(&Bytes::from_static(b"x"), false).is_err());
    }
}
