//! `com.microsoft:receive-by-sequence-number`: deferred messages, all that were asked for or none.

use bytes::Bytes;
use peeklock_core::command::{Command, ReceiveMode};
use peeklock_core::effect::Delivery;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let key = "receiver-settle-mode";
    let mode = match request.integer(key)? {
        Some(0) => ReceiveMode::ReceiveAndDelete,
        Some(1) | None => ReceiveMode::PeekLock,
        Some(_) => return Err(wrong(key, "0 or 1")),
    };
    // The Go SDK names the link of its session alone.
    let by_link = || {
        let link = request.associated_link()?;
        let holder = context.holders.iter().find(|holder| *holder.link == *link)?;
        Some(holder.session.clone())
    };
    Ok(Command::ReceiveDeferred {
        origin: context.origin,
        entity: context.entity,
        sequences: request.sequence_numbers()?,
        mode,
        session: request.session()?.or_else(by_link),
    })
}

/// The token stands beside the message and in it: Go looks only there.
pub(super) fn response(
    properties: Properties,
    deliveries: &[Delivery],
    encode: impl Fn(&Delivery) -> Bytes,
) -> Message {
    let entry = |delivery: &Delivery| {
        let map = Map::new().with("message", encode(delivery));
        Value::Map(match delivery.lock {
            Some(lock) => map.with("lock-token", Value::Uuid(lock.token.0)),
            None => map,
        })
    };
    let messages: Vec<Value> = deliveries.iter().map(entry).collect();
    response::ok(properties, 200, "OK", Map::new().with("messages", messages))
}
