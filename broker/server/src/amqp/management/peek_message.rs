//! `com.microsoft:peek-message`: a look at messages that leaves them as they are.

use bytes::Bytes;
use peeklock_core::command::Command;
use peeklock_core::id::SequenceNumber;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

/// Messages in one answer at most. The service stops at about as many; clients ask again.
const COUNT_MAX: u32 = 250;

/// Octets in one answer, unless the first message alone has more. It is one delivery, and waits in
/// memory for the peer's credit.
const BYTES_MAX: usize = 1024 * 1024;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    // Whatever lies below the first message means from the start: SDKs begin with 0, 1 or less.
    let from = request.integer("from-sequence-number")?.unwrap_or(0);
    let count = match request.integer("message-count")? {
        None => 1,
        Some(count) if 0 < count => u32::try_from(count).unwrap_or(COUNT_MAX).min(COUNT_MAX),
        Some(_) => return Err(wrong("message-count", "greater than zero")),
    };
    Ok(Command::Browse {
        origin: context.origin,
        entity: context.entity,
        from: SequenceNumber(u64::try_from(from).unwrap_or(0)),
        count_max: count,
        bytes_max: BYTES_MAX,
        session: request.session()?,
    })
}

/// A list, not an array: JavaScript calls array methods on what its decoder makes of it.
pub(super) fn response(
    properties: Properties,
    messages: impl ExactSizeIterator<Item = Bytes>,
) -> Message {
    if messages.len() == 0 {
        return response::ok(properties, 204, "No Content", Map::new());
    }
    let messages: Vec<Value> =
        messages.map(|message| Value::Map(Map::new().with("message", message))).collect();
    response::ok(properties, 200, "OK", Map::new().with("messages", messages))
}
