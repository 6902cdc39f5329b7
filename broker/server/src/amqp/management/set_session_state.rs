//! `com.microsoft:set-session-state`: what to keep with a session that is held; null to remove it.

use peeklock_core::command::Command;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let key = "session-state";
    let state = match request.field(key) {
        None => None,
        Some(Value::Binary(octets)) => Some(octets.clone()),
        Some(_) => return Err(wrong(key, "binary or null")),
    };
    Ok(Command::SetSessionState {
        origin: context.origin,
        entity: context.entity,
        session: request.needed_session()?,
        state,
    })
}

pub(super) fn response(properties: Properties) -> Message {
    response::ok(properties, 200, "OK", Map::new())
}
