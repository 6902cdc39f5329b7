//! `com.microsoft:renew-lock`: a full lock duration from now, for all tokens or none.

use peeklock_core::command::Command;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Array, ElementType, Map, Value};

use super::super::condition::Refusal;
use super::request::Request;
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    Ok(Command::RenewLocks {
        origin: context.origin,
        entity: context.entity,
        tokens: request.lock_tokens()?,
    })
}

/// In the order of the tokens, as an array of timestamp: .NET and Go cast to it.
pub(super) fn response(properties: Properties, until: &[Timestamp]) -> Message {
    let expirations = until.iter().map(|until| Value::Timestamp(until.as_amqp())).collect();
    let expirations =
        Array::new(ElementType::Timestamp, expirations).expect("all elements are timestamps");
    response::ok(properties, 200, "OK", Map::new().with("expirations", expirations))
}
