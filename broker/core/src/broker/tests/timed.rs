//! Messages with times on them, for the tests of what happens then.

use peeklock_protocol::message::{Header, Message};
use peeklock_protocol::value::{Map, Symbol, Value};

use crate::command::Command;
use crate::effect::Reply;
use crate::id::{EntityId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, wire_message};
use crate::time::{Span, Timestamp};

/// A message with sections before its one data section, which is as [`wire_message`] writes it.
pub(in crate::broker) fn message_with(sections: &Message, body: &str) -> IncomingMessage {
    let wire = [&sections.to_bytes()[..], &wire_message(body.as_bytes())].concat();
    IncomingMessage::from_wire(&wire).unwrap()
}

/// A message that is of use for so long.
pub(super) fn mortal_message(span: Span, body: &str) -> IncomingMessage {
    let ttl = Some(u32::try_from(span.0).unwrap());
    let header = Some(Header { ttl, ..Header::default() });
    message_with(&Message { header, ..Message::default() }, body)
}

/// A message that names the time at which it is to become active.
pub(super) fn due_message(due: Timestamp, body: &str) -> IncomingMessage {
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    let annotations = Map::new().with(key, Value::Timestamp(due.as_amqp()));
    let sections = Message::default().with_message_annotations(annotations);
    message_with(&sections, body)
}

pub(super) fn schedule(
    world: &mut World,
    entity: EntityId,
    due: &[(Timestamp, &str)],
) -> Vec<SequenceNumber> {
    let messages = due.iter().map(|(at, body)| due_message(*at, body)).collect();
    let schedule = |origin| Command::Schedule { origin, entity, messages, transaction: None };
    match world.ask(schedule) {
        Ok(Reply::Scheduled { sequences }) => sequences,
        other => panic!("{other:?}"),
    }
}
