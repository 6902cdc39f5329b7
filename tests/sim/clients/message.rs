//! Messages as clients write them: the body is a number and some filling.

use peeklock_core::{IncomingMessage, StoredMessage};
use peeklock_protocol::message::{Header, Message, Properties};
use peeklock_protocol::value::{Map, Symbol, Timestamp, Value};

use crate::model::filters::color_name;
use crate::model::{Body, Sent};

pub(crate) fn session_name(session: u64) -> String {
    format!("session-{session}")
}

pub(crate) fn session_number(name: &str) -> u64 {
    let number = name.strip_prefix("session-").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no session has the name {name}"))
}

pub(crate) fn write(body: Body, sent: &Sent, size: usize) -> IncomingMessage {
    let mut payload = body.to_be_bytes().to_vec();
    payload.resize(size + 8, 0xAA);
    let mut message = Message::data(payload);
    if let Some(span) = sent.time_to_live {
        let ttl = Some(u32::try_from(span).expect("clients write short times"));
        message.header = Some(Header { ttl, ..Header::default() });
    }
    if let Some(due) = sent.due {
        let due = Timestamp(i64::try_from(due).expect("runs are short"));
        let key = Symbol::from_static("x-opt-scheduled-enqueue-time");
        message.message_annotations = Some(Map::new().with(key, Value::Timestamp(due.0)));
    }
    if sent.session.is_some() || sent.message_id.is_some() {
        message.properties = Some(Properties {
            message_id: sent.message_id.map(|id| format!("m-{id}").as_str().into()),
            group_id: sent.session.map(|session| session_name(session).as_str().into()),
            ..Properties::default()
        });
    }
    let mut words = Map::new();
    if let Some(color) = sent.color {
        words = words.with("color", Value::from(color_name(color).as_str()));
    }
    if let Some(weight) = sent.weight {
        // Of whatever width.
        let small = i32::try_from(weight).expect("nothing is so heavy");
        let weight = if body.is_multiple_of(2) { Value::from(weight) } else { Value::from(small) };
        words = words.with("weight", weight);
    }
    if !words.is_empty() {
        message = message.with_application_properties(words);
    }
    IncomingMessage::from_wire(&message.to_bytes()).expect("a well-formed message")
}

pub(crate) fn body_of(message: &StoredMessage) -> Body {
    let bytes = message.bytes();
    let section = &bytes[message.sections().body().expect("every message has a body")];
    // Binary with one octet of length, or with four.
    let start = if section[3] == 0xa0 { 5 } else { 8 };
    Body::from_be_bytes(section[start..start + 8].try_into().expect("eight octets"))
}
