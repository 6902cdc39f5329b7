//! The envelope of every response: strict where clients are.

use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};

use super::super::condition::Refusal;

/// An `int` status (Go asserts int32), a text that is never null (Java searches it), and a map.
pub(super) fn ok(properties: Properties, status: i32, text: &str, body: Map) -> Message {
    envelope(properties, status, text, body, None)
}

/// The same with the condition, which must be a symbol: .NET casts it.
pub(super) fn refused(properties: Properties, refusal: &Refusal, host: &str) -> Message {
    let condition = Symbol::from_static(refusal.condition());
    let text = refusal.description(host);
    envelope(properties, refusal.status(), &text, Map::new(), Some(condition))
}

fn envelope(
    properties: Properties,
    status: i32,
    text: &str,
    body: Map,
    condition: Option<Symbol>,
) -> Message {
    let mut map = Map::new().with("statusCode", status).with("statusDescription", text);
    if let Some(condition) = condition {
        map.insert("errorCondition", condition);
    }
    Message::value(Value::Map(body)).with_properties(properties).with_application_properties(map)
}
