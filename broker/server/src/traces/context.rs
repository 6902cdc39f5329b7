//! The context of a trace, as a message carries it.

use bytes::Bytes;
use peeklock_protocol::message::{MapSection, MessageId, Properties, Sections};

/// Application properties that have it. SDKs of Azure write both, with the same text.
const PROPERTIES: [&str; 2] = ["traceparent", "Diagnostic-Id"];

/// Characters of a message id that are told.
const ID_CHARS_MAX: usize = 128;

/// Of which trace a message is a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(super) trace: u128,
    /// The span that has sent it.
    pub(super) parent: u64,
    pub(super) message_id: Option<String>,
}

impl TraceContext {
    /// That of a message; nothing if it has none, or one that nobody records.
    pub(super) fn of(message: &[u8], sections: &Sections) -> Option<Self> {
        let section = message.get(sections.application_properties()?)?;
        let map = MapSection::parse(section).ok()?;
        let (trace, parent) = PROPERTIES.into_iter().find_map(|name| {
            let value = map.get(name).ok()??.value().ok()?;
            parse(value.as_str()?)
        })?;
        Some(Self { trace, parent, message_id: message_id(message, sections) })
    }

    /// That of a request.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let (trace, parent) = parse(text)?;
        Some(Self { trace, parent, message_id: None })
    }

    /// The same for a message of the request.
    pub(super) fn about(&self, message: &[u8], sections: &Sections) -> Self {
        Self { message_id: message_id(message, sections), ..*self }
    }

    /// Whether it is among the part of all traces that is told. It is so for all spans of a trace.
    pub(super) fn is_among(&self, ratio: f64) -> bool {
        // By the low half of the id, as others choose, in as many bits as the number has room for.
        let low = u64::try_from(self.trace & u128::from(u64::MAX)).unwrap_or(u64::MAX) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "it has 53 bits")]
        let place = low as f64 / (1_u64 << 53) as f64;
        place < ratio
    }
}

fn message_id(message: &[u8], sections: &Sections) -> Option<String> {
    let section = message.get(sections.properties()?)?;
    let properties = Properties::decode(&Bytes::copy_from_slice(section)).ok()?;
    properties.message_id.map(|id| shown(&id))
}

/// `00-TRACE-PARENT-FLAGS` of W3C Trace Context: the ids, if the trace is recorded. Later versions may
/// have more behind.
fn parse(text: &str) -> Option<(u128, u64)> {
    let mut parts = text.trim().split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (part.len() == digits && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let ends = parts.next().is_none();
    if version == "ff" || (version == "00" && !ends) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    is_sampled.then_some((trace, parent))
}

fn shown(id: &MessageId) -> String {
    let digits = |octet: &u8| [octet >> 4, octet & 0xf].map(u32::from);
    let digit = |number| char::from_digit(number, 16);
    let hex = |octets: &[u8]| octets.iter().flat_map(digits).filter_map(digit).collect::<String>();
    let text = match id {
        MessageId::String(text) => text.to_string(),
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(octets) => hex(octets),
        MessageId::Binary(octets) => hex(octets),
    };
    text.chars().take(ID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::message::Message;
    use peeklock_protocol::value::{Map, Value};

    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const PARENT: u64 = 0x00f0_67aa_0ba9_02b7;

    #[test]
    fn contexts_are_read_as_the_recommendation_has_them() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(good), Some((TRACE, PARENT)));
        assert_eq!(parse(&good.replace("-01", "-03")), Some((TRACE, PARENT)));
        // A later version may have more to say.
        assert_eq!(parse(&format!("cc{}-what", &good[2..])), Some((TRACE, PARENT)));
        for wrong in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &good.replace("00-4", "ff-4"),
            &good.replace("4bf", "4BF"),
            &good.replace("4bf", "4 f"),
            &good.replace("-01", "-00"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "|4bf92f3577b34da6a3ce929d0e0e4736.1.",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    fn of(key: &str, value: impl Into<Value>) -> Option<TraceContext> {
        let properties = Properties { message_id: Some(MessageId::Ulong(7)), ..Default::default() };
        let map = Map::new().with("other", 1_i32).with(key, value);
        let message = Message::data("body")
            .with_properties(properties)
            .with_application_properties(map)
            .to_bytes();
        TraceContext::of(&message, &Sections::index(&message).unwrap())
    }

    #[test]
    fn messages_carry_it_in_one_of_two_properties() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let message_id = Some("7".to_owned());
        let expected = Some(TraceContext { trace: TRACE, parent: PARENT, message_id });
        assert_eq!(of("traceparent", text), expected);
        assert_eq!(of("Diagnostic-Id", text), expected);
        assert_eq!(of("traceparent", 5_i32), None);
        assert_eq!(of("elsewhere", text), None);
        let asked = TraceContext::of_text(text).unwrap();
        assert_eq!(asked, TraceContext { trace: TRACE, parent: PARENT, message_id: None });
        let properties = Properties { message_id: Some(MessageId::Ulong(7)), ..Default::default() };
        let bare = Message::data("body").with_properties(properties).to_bytes();
        assert_eq!(Some(asked.about(&bare, &Sections::index(&bare).unwrap())), expected);
        let bare = Message::data("body").to_bytes();
        assert_eq!(TraceContext::of(&bare, &Sections::index(&bare).unwrap()), None);
    }

    #[test]
    fn a_part_of_all_traces_is_chosen_by_their_ids() {
        let of = |trace| TraceContext { trace, parent: 1, message_id: None };
        assert!(of(TRACE).is_among(1.0) && !of(TRACE).is_among(0.0));
        assert!(of(1).is_among(0.01) && !of(u128::from(u64::MAX)).is_among(0.99));
        assert!(of(u128::from(u64::MAX / 4)).is_among(0.26));
    }
}
