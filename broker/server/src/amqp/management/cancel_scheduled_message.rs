//! `com.microsoft:cancel-scheduled-message`: scheduled messages are removed, all or none.

use peeklock_core::command::Command;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::Map;

use super::super::condition::Refusal;
use super::request::Request;
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    Ok(Command::CancelScheduled {
        origin: context.origin,
        entity: context.entity,
        sequences: request.sequence_numbers()?,
    })
}

pub(super) fn response(properties: Properties) -> Message {
    response::ok(properties, 200, "OK", Map::new())
}
