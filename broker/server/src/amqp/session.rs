//! Message sessions on the wire: the filter that asks for one, and the attach reply that grants it.

use peeklock_core::{MessageSessionId, SessionLock, SessionRequest, Span, Timestamp};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::AttachReply;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Str, Symbol, Value};

const SESSION_FILTER: &str = "com.microsoft:session-filter";
/// The descriptor of the same filter, for clients that describe it: Go and Rust.
const SESSION_FILTER_CODE: u64 = 0x0137_0000_000C;
/// The descriptor of a filter for sessions that several receivers share.
const NON_EXCLUSIVE_FILTER_CODE: u64 = 0x0137_0000_000E;

/// Link property with which a client says for how many milliseconds it waits for a session.
const TIMEOUT: &str = "com.microsoft:timeout";
/// Without one: what SDKs wait by themselves.
const WAIT: Span = Span::from_secs(60);
/// A day: a waiting attach costs next to nothing, but what nobody asks for any more should go.
const WAIT_MAX: Span = Span::from_secs(24 * 3600);

const LOCKED_UNTIL: &str = "com.microsoft:locked-until-utc";
/// .NET counts in tenths of microseconds from the first year.
const TICKS_PER_MILLI: i64 = 10_000;
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;

/// A session filter as it came: the answer must have the same key and the same shape, plain or
/// described, or clients cannot read it.
#[derive(Clone, Debug)]
pub(super) struct SessionFilter {
    /// The name of the link.
    pub(super) link: Str,
    key: Value,
    /// The descriptor, if the filter had one.
    descriptor: Option<Value>,
    source: Source,
}

/// Finds out which session a link asks for, if it asks for one.
pub(super) fn requested(
    attach: &Attach,
    source: &Source,
) -> Result<Option<(SessionRequest, SessionFilter)>, ErrorInfo> {
    let Some(filters) = &source.filter else { return Ok(None) };
    for (key, value) in filters {
        let (descriptor, id) = match value.as_described() {
            Some((descriptor, id)) => (Some(descriptor), id),
            None => (None, value),
        };
        if descriptor.and_then(Value::as_u64) == Some(NON_EXCLUSIVE_FILTER_CODE) {
            let text = "Sessions that several receivers share are not supported.";
            return Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text));
        }
        let is_described = descriptor.and_then(Value::as_u64) == Some(SESSION_FILTER_CODE);
        if !is_described && !key.is_text(SESSION_FILTER) {
            continue;
        }
        let request = match id {
            Value::Null => SessionRequest::NextAvailable { wait: wait(attach) },
            id => SessionRequest::Named(named(id)?),
        };
        let (key, descriptor) = (key.clone(), descriptor.cloned());
        let link = attach.name.clone();
        let filter = SessionFilter { link, key, descriptor, source: source.clone() };
        return Ok(Some((request, filter)));
    }
    Ok(None)
}

fn named(id: &Value) -> Result<MessageSessionId, ErrorInfo> {
    id.as_str().and_then(MessageSessionId::new).ok_or_else(|| {
        let text = "A session id is a string of up to 128 characters.";
        ErrorInfo::new(condition::INVALID_FIELD, text)
    })
}

fn wait(attach: &Attach) -> Span {
    let millis = attach.properties.as_ref().and_then(|all| all.get(TIMEOUT)?.as_u64());
    millis.map_or(WAIT, Span).min(WAIT_MAX)
}

/// The reply that grants a session.
pub(super) fn granted(filter: SessionFilter, lock: &SessionLock) -> AttachReply {
    let id = Value::from(lock.session.as_str());
    let value = match filter.descriptor {
        Some(descriptor) => Value::Described(Box::new((descriptor, id))),
        None => id,
    };
    let source = filter.source.with_filter(Map::new().with(filter.key, value));
    let properties = Map::new().with(Symbol::from_static(LOCKED_UNTIL), ticks(lock.until));
    AttachReply {
        source: Some(source.into()),
        properties: Some(properties),
        ..AttachReply::default()
    }
}

/// A long, because JavaScript takes nothing else.
fn ticks(moment: Timestamp) -> i64 {
    moment.as_amqp().saturating_mul(TICKS_PER_MILLI).saturating_add(TICKS_BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::performative::Role;

    use super::*;

    fn attach(key: &'static str, filter: Value, timeout: Option<Value>) -> (Attach, Source) {
        let source =
            Source::new("q").with_filter(Map::new().with(Symbol::from_static(key), filter));
        let mut attach = Attach::new("link", 0, Role::Receiver);
        attach.source = Some(source.clone().into());
        attach.properties =
            timeout.map(|timeout| Map::new().with(Symbol::from_static(TIMEOUT), timeout));
        (attach, source)
    }

    fn described(code: u64, value: Value) -> Value {
        Value::Described(Box::new((Value::Ulong(code), value)))
    }

    #[track_caller]
    fn check(key: &'static str, filter: Value, timeout: Option<Value>, wanted: &SessionRequest) {
        let (attach, source) = attach(key, filter.clone(), timeout);
        let (request, found) = requested(&attach, &source).unwrap().unwrap();
        assert_eq!(request, *wanted);
        let session = MessageSessionId::new("granted").unwrap();
        let reply = granted(found, &SessionLock { session, until: Timestamp(0) });
        let echoed = reply.source.unwrap().view().filter.clone().unwrap();
        let expected = match filter {
            Value::Described(parts) => described(parts.0.as_u64().unwrap(), "granted".into()),
            _ => "granted".into(),
        };
        assert_eq!(echoed, Map::new().with(Symbol::from_static(key), expected));
        let until = Value::Long(TICKS_BEFORE_1970);
        let properties = Map::new().with(Symbol::from_static(LOCKED_UNTIL), until);
        assert_eq!(reply.properties, Some(properties));
    }

    #[test]
    fn filters_of_every_client_are_understood_and_echoed_in_their_shape() {
        let named = SessionRequest::Named(MessageSessionId::new("s").unwrap());
        let empty = SessionRequest::Named(MessageSessionId::new("").unwrap());
        let next = |wait| SessionRequest::NextAvailable { wait };
        check(SESSION_FILTER, "s".into(), None, &named);
        check(SESSION_FILTER, "".into(), None, &empty);
        check(SESSION_FILTER, Value::Null, None, &next(WAIT));
        check(SESSION_FILTER, Value::Null, Some(Value::Uint(500)), &next(Span(500)));
        check(SESSION_FILTER, Value::Null, Some(Value::Long(i64::MAX)), &next(WAIT_MAX));
        check(SESSION_FILTER, described(SESSION_FILTER_CODE, "s".into()), None, &named);
        check(SESSION_FILTER, described(SESSION_FILTER_CODE, Value::Null), None, &next(WAIT));
        check("other", described(SESSION_FILTER_CODE, "s".into()), None, &named);
    }

    #[test]
    fn what_asks_for_no_session_and_what_cannot_be_had() {
        let (plain, source) = attach("other", "s".into(), None);
        assert!(requested(&plain, &source).unwrap().is_none());
        assert!(requested(&plain, &Source::new("q")).unwrap().is_none());
        let long = Value::from("x".repeat(129));
        let shared = described(NON_EXCLUSIVE_FILTER_CODE, Value::List(Vec::new()));
        for (filter, condition) in [
            (long, "amqp:invalid-field"),
            (Value::Int(1), "amqp:invalid-field"),
            (shared, "amqp:not-implemented"),
        ] {
            let (attach, source) = attach(SESSION_FILTER, filter, None);
            assert_eq!(requested(&attach, &source).unwrap_err().condition, *condition);
        }
    }
}
