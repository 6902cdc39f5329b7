//! `com.microsoft:get-message-sessions`: the sessions there are, page by page.

use peeklock_core::command::Command;
use peeklock_core::id::MessageSessionId;
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Array, ElementType, Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

/// The last millisecond of the year 9999. Clients send it, or the first one of the year after, to ask
/// for all sessions that have messages or a state.
const ALL_SESSIONS: i64 = 253_402_300_799_999;

/// Sessions in one answer at most; SDKs ask for 100 at a time.
const COUNT_MAX: u32 = 1000;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let updated_after = match request.field("last-updated-time").map(Value::as_timestamp) {
        None => None,
        Some(Some(time)) if ALL_SESSIONS <= time => None,
        Some(Some(time)) => Some(Timestamp(u64::try_from(time).unwrap_or(0))),
        Some(None) => return Err(wrong("last-updated-time", "a timestamp")),
    };
    let number = |key: &str, missing: u32| match request.integer(key)? {
        None => Ok(missing),
        Some(number) => u32::try_from(number).map_err(|_| wrong(key, "a number from zero")),
    };
    Ok(Command::ListSessions {
        origin: context.origin,
        entity: context.entity,
        updated_after,
        skip: number("skip", 0)?,
        count_max: number("top", COUNT_MAX)?.min(COUNT_MAX),
    })
}

/// The odd name of the list is the wire's. Nothing found is no list at all: Python fails on an array
/// without elements.
pub(super) fn response(
    properties: Properties,
    sessions: &[MessageSessionId],
    skip: u32,
) -> Message {
    if sessions.is_empty() {
        return response::ok(properties, 204, "No Content", Map::new());
    }
    let ids = sessions.iter().map(|session| Value::from(session.as_str())).collect();
    let ids = Array::new(ElementType::String, ids).expect("all elements are strings");
    let skip = i32::try_from(skip).unwrap_or(i32::MAX);
    response::ok(properties, 200, "OK", Map::new().with("skip", skip).with("sessions-ids", ids))
}
