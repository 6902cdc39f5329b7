//! `com.microsoft:schedule-message`: messages that are not to be delivered before their time.

use peeklock_core::IncomingMessage;
use peeklock_core::command::Command;
use peeklock_core::id::SequenceNumber;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Array, Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

/// Messages in one request: as many as lock tokens, and more than fit into what SDKs send at once.
const MESSAGES_MAX: usize = 4096;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let key = "messages";
    let items = request.field(key).map(Value::items).unwrap_or_default();
    if items.is_empty() || MESSAGES_MAX < items.len() {
        return Err(wrong(key, "a list of 1 to 4096 messages"));
    }
    let messages = items
        .iter()
        .map(|item| {
            // Session and partition key stand in the message itself, too; SDKs repeat them here.
            let encoded = item.get("message").and_then(Value::as_binary);
            let encoded = encoded.ok_or_else(|| wrong(key, "a list of maps with a 'message'"))?;
            IncomingMessage::from_wire(encoded).map_err(|error| Refusal::undecodable(&error))
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    Ok(Command::Schedule {
        origin: context.origin,
        entity: context.entity,
        messages,
        transaction: context.transaction,
    })
}

/// In the order of the messages, as an array of long: .NET and Go cast to it.
pub(super) fn response(properties: Properties, sequences: &[SequenceNumber]) -> Message {
    let numbers = Array::longs(sequences.iter().map(|sequence| sequence.as_amqp()));
    response::ok(properties, 200, "OK", Map::new().with("sequence-numbers", numbers))
}
