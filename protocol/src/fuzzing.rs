//! What the fuzz targets in `protocol/fuzz` run on arbitrary bytes. A plain test replays their
//! corpora through the same functions. Each panics when a promise is broken.

use bytes::{Bytes, BytesMut};

use crate::codec::Reader;
use crate::frame::{FrameHeader, ProtocolHeader};
use crate::limits;
use crate::message::{
    MapSection, Message, Properties, Sections, envelope, merge_application_properties,
};
use crate::performative::Performative;
use crate::sasl::SaslFrame;
use crate::transaction::Coordination;
use crate::value::{RawValue, Value};

/// Frame and protocol heads: what is accepted is within its bounds.
pub fn frame(data: &[u8]) {
    let Some((head, body)) = data.split_first_chunk::<8>() else { return };
    let header = ProtocolHeader::parse(*head);
    assert_eq!(header.to_octets(), *head);
    if let Ok(frame) = FrameHeader::parse(head, 65_536) {
        assert!((8..=65_536).contains(&frame.size));
        assert!((8..=1_020).contains(&frame.body_offset()));
        assert!(frame.body_offset() <= usize::try_from(frame.size).expect("below 65,537"));
        performatives(body);
    }
}

/// Values: decoding and skipping agree, and what was decoded survives being encoded.
pub fn value(data: &[u8]) {
    let mut r = Reader::from_slice(data);
    let mut skipping = Reader::from_slice(data);
    let skipped = RawValue::read(&mut skipping);
    match Value::decode(&mut r) {
        Ok(value) => {
            assert_eq!(r.remaining(), skipping.remaining(), "skipping went elsewhere");
            let encoded = value.to_bytes();
            let again = Value::decode(&mut Reader::new(&encoded));
            assert_eq!(again.as_ref(), Ok(&value));
            assert_eq!(value.to_bytes(), encoded);
            assert_eq!(skipped.map(|raw| raw.decode()), Ok(Ok(value)));
        }
        // Skipping looks at structure only, so it may accept text that is none.
        Err(error) => {
            if let Ok(raw) = skipped {
                assert_eq!(raw.decode(), Err(error));
            }
        }
    }
}

/// Frame bodies: a performative or SASL frame that was decoded survives being encoded.
pub fn performatives(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok((performative, payload)) = Performative::decode(&body) {
        assert!(body.ends_with(&payload));
        let mut out = BytesMut::new();
        performative.encode(&mut out);
        let again = Performative::decode(&out.freeze());
        assert_eq!(again, Ok((performative, Bytes::new())));
    }
    if let Ok(frame) = SaslFrame::decode(&body) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(SaslFrame::decode(&out.freeze()), Ok(frame));
    }
}

/// Messages: sections tile the message, and their readers agree with one another.
pub fn message_sections(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    if let Ok(request) = Coordination::decode(&message) {
        assert_eq!(Coordination::decode(&request.to_bytes()), Ok(request));
    }
    let Ok(sections) = Sections::index(&message) else {
        assert!(Message::decode(&message).is_err(), "decoded what has no sections");
        return;
    };
    let places = [
        sections.header(),
        sections.delivery_annotations(),
        sections.message_annotations(),
        sections.properties(),
        sections.application_properties(),
        sections.body(),
        sections.footer(),
    ];
    let end = places.iter().flatten().fold(0, |at, place| {
        assert_eq!(place.start, at, "sections leave a gap or overlap");
        place.end
    });
    assert_eq!(end, message.len());

    for place in [sections.message_annotations(), sections.footer()].into_iter().flatten() {
        let section = message.slice(place);
        if let Ok(map) = MapSection::parse(&section) {
            let _entries: usize = map.entries().filter_map(Result::ok).count();
        }
    }
    if let Some(place) = sections.properties() {
        let section = message.slice(place);
        assert_eq!(Properties::decode(&section), Properties::decode_slice(&section));
    }
    if let Some(place) = sections.application_properties() {
        merged(&message.slice(place));
    }
    if let Ok(decoded) = Message::decode(&message) {
        assert_eq!(sections.check_body(&message), Ok(()));
        assert_eq!(Message::decode(&decoded.to_bytes()), Ok(decoded));
    }
}

/// A merge without changes keeps every entry, and a change can be read back.
fn merged(section: &[u8]) {
    let Ok(same) = merge_application_properties(Some(section), &[]) else { return };
    let read = |section: &[u8]| -> Vec<Vec<u8>> {
        let map = MapSection::parse(section).expect("it was merged");
        map.entries().map(|entry| entry.expect("it was merged").raw().to_vec()).collect()
    };
    assert_eq!(read(&same), read(section));
    let change = [("DeadLetterReason".into(), Value::from("x"))];
    let changed = merge_application_properties(Some(section), &change).expect("it was merged");
    let map = MapSection::parse(&changed).expect("it was merged");
    let found = map.get("DeadLetterReason").expect("it was merged").expect("it was set");
    assert_eq!(found.value(), Ok(Value::from("x")));
}

/// Envelopes: what was split can be joined and split again.
pub fn envelope(data: &[u8]) {
    let outer = Bytes::copy_from_slice(data);
    let Ok(messages) = envelope::split(&outer, limits::ENVELOPE_MESSAGES_MAX) else { return };
    assert!(messages.iter().map(Bytes::len).sum::<usize>() <= outer.len());
    let joined = envelope::join(&[], &messages);
    assert_eq!(envelope::split(&joined, messages.len()), Ok(messages.clone()));
    for message in &messages {
        message_sections(message);
    }
}

/// The engine against a peer without manners.
pub fn connection(data: &[u8]) {
    crate::connection::fuzzing::connection(data);
}

/// A client against a server, with the octets cut at random.
pub fn pair(data: &[u8]) {
    crate::connection::fuzzing::pair(data);
}

/// A target and its name, which is also the name of its corpus folder.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("value", value),
    ("performatives", performatives),
    ("message_sections", message_sections),
    ("envelope", envelope),
    ("connection", connection),
    ("pair", pair),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Whatever a fuzzer once found interesting, and what was recorded from real peers.
    #[test]
    fn the_corpora_replay() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut replayed = 0;
            for file in fs::read_dir(folder).unwrap() {
                target(&fs::read(file.unwrap().path()).unwrap());
                replayed += 1;
            }
            assert!(replayed >= 4, "the corpus of {name} holds {replayed} files");
        }
    }
}
