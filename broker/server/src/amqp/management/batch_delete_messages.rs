//! `com.microsoft:batch-delete-messages`: the oldest messages that nobody holds are removed.

use peeklock_core::command::Command;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

/// Messages in one request, as in the Premium tier. SDKs repeat it until nothing is left.
const COUNT_MAX: u32 = 4000;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let count = match request.integer("message-count")? {
        Some(count) if 0 < count => u32::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX),
        Some(_) | None => return Err(wrong("message-count", "greater than zero")),
    };
    let key = "enqueued-time-utc";
    let before = match request.field(key).map(Value::as_timestamp) {
        // Without a time, what is there now.
        None => context.now,
        Some(Some(time)) => Timestamp(u64::try_from(time).unwrap_or(0)),
        Some(None) => return Err(wrong(key, "a timestamp")),
    };
    Ok(Command::DeleteBatch {
        origin: context.origin,
        entity: context.entity,
        count_max: count,
        before,
        session: request.session()?,
    })
}

pub(super) fn response(properties: Properties, count: u32) -> Message {
    let deleted = i32::try_from(count).unwrap_or(i32::MAX);
    let body = Map::new().with("message-count", deleted);
    if count == 0 {
        return response::ok(properties, 204, "No Content", body);
    }
    response::ok(properties, 200, "OK", body)
}
