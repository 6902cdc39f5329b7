//! `com.microsoft:get-session-state`: what is kept with a session that is held.

use bytes::Bytes;
use peeklock_core::command::Command;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::Request;
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    Ok(Command::GetSessionState {
        origin: context.origin,
        entity: context.entity,
        session: request.needed_session()?,
    })
}

/// The key is there in any case: null means that there is no state.
pub(super) fn response(properties: Properties, state: Option<Bytes>) -> Message {
    let state = Value::from(state);
    response::ok(properties, 200, "OK", Map::new().with("session-state", state))
}
