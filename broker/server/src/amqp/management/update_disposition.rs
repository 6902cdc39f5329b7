//! `com.microsoft:update-disposition`: settlement by lock token, when the link is gone.

use peeklock_core::command::{Command, PropertyChanges, Settlement};
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Str, Value};

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, response};

/// What SDKs allow for reason and description; longer ones of other clients are cut.
const TEXT_CHARS_MAX: usize = 4096;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let status = request.field("disposition-status").and_then(Value::as_str);
    let settlement = match status {
        Some("completed") => Settlement::Complete,
        Some("abandoned") => Settlement::Abandon { changes: changes(request)? },
        // The misspelling is the wire's.
        Some("defered" | "deferred") => Settlement::Defer { changes: changes(request)? },
        Some("suspended") => Settlement::DeadLetter {
            reason: request.text("deadletter-reason")?.map(cut),
            description: request.text("deadletter-description")?.map(cut),
            changes: changes(request)?,
        },
        Some(_) | None => {
            let wanted = "'completed', 'abandoned', 'defered' or 'suspended'";
            return Err(wrong("disposition-status", wanted));
        }
    };
    Ok(Command::UpdateDisposition {
        origin: context.origin,
        entity: context.entity,
        tokens: request.lock_tokens()?,
        settlement,
        session: request.session()?,
        transaction: context.transaction,
    })
}

pub(super) fn response(properties: Properties) -> Message {
    response::ok(properties, 200, "OK", Map::new())
}

/// `properties-to-modify`: application properties to set, of the simple types these can have.
fn changes(request: Request<'_>) -> Result<PropertyChanges, Refusal> {
    let key = "properties-to-modify";
    let Some(value) = request.field(key) else { return Ok(PropertyChanges::new()) };
    let map = value.as_map().ok_or_else(|| wrong(key, "a map"))?;
    map.iter()
        .map(|(name, value)| {
            let name = name.as_str().ok_or_else(|| wrong(key, "a map with texts as keys"))?;
            match value {
                Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_) => {
                    Err(wrong(key, "a map with simple values"))
                }
                simple => Ok((Str::from(name), simple.clone())),
            }
        })
        .collect()
}

fn cut(text: Str) -> Str {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => Str::from(text.get(..end).unwrap_or_default()),
        None => text,
    }
}
