//! `com.microsoft:renew-session-lock`: a full lock duration from now.

use peeklock_core::command::Command;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::Request;
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    Ok(Command::RenewSessionLock {
        origin: context.origin,
        entity: context.entity,
        session: request.needed_session()?,
    })
}

pub(super) fn response(properties: Properties, until: Timestamp) -> Message {
    let body = Map::new().with("expiration", Value::Timestamp(until.as_amqp()));
    response::ok(properties, 200, "OK", body)
}
