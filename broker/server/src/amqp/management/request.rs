//! A request as it came: every client writes its numbers and texts in types of its own.

use std::time::Duration;

use peeklock_core::id::{LockToken, MessageSessionId, SequenceNumber};
use peeklock_protocol::message::Message;
use peeklock_protocol::value::{Str, Value};

use super::super::condition::Refusal;

/// .NET and Python write uint, Java long, Go ulong, and Go the bare key as well.
const SERVER_TIMEOUT: [&str; 2] = ["com.microsoft:server-timeout", "server-timeout"];

/// A look at the parts of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a>(&'a Message);

impl<'a> Request<'a> {
    pub(super) fn new(message: &'a Message) -> Self {
        Self(message)
    }

    pub(super) fn operation(self) -> Result<&'a str, Refusal> {
        self.0
            .application_property("operation")
            .and_then(Value::as_str)
            .ok_or_else(|| Refusal::argument("The operation is missing."))
    }

    /// How long the client is ready to wait. A hint: what is no number of milliseconds is none.
    pub(super) fn server_timeout(self) -> Option<Duration> {
        let millis = |key| self.0.application_property(key).and_then(Value::as_u64);
        SERVER_TIMEOUT.into_iter().find_map(millis).map(Duration::from_millis)
    }

    /// The name of the link through which the client got what it asks about, if it says so.
    pub(super) fn associated_link(self) -> Option<&'a str> {
        self.0.application_property("associated-link-name").and_then(Value::as_str)
    }

    /// What the body's map says, null being nothing.
    pub(super) fn field(self, key: &str) -> Option<&'a Value> {
        self.0.body.as_value()?.get(key).filter(|value| !value.is_null())
    }

    /// A text, copied out of the request.
    pub(super) fn text(self, key: &str) -> Result<Option<Str>, Refusal> {
        self.field(key)
            .map(|value| value.as_str().map(Str::from).ok_or_else(|| wrong(key, "a string")))
            .transpose()
    }

    /// An integer of any width.
    pub(super) fn integer(self, key: &str) -> Result<Option<i64>, Refusal> {
        self.field(key)
            .map(|value| value.as_i64().ok_or_else(|| wrong(key, "an integer")))
            .transpose()
    }

    /// `session-id`, if there is one. The empty text is an id.
    pub(super) fn session(self) -> Result<Option<MessageSessionId>, Refusal> {
        let key = "session-id";
        let id = self.text(key)?;
        id.map(|id| MessageSessionId::new(&id).ok_or_else(|| wrong(key, "up to 128 characters")))
            .transpose()
    }

    pub(super) fn needed_session(self) -> Result<MessageSessionId, Refusal> {
        self.session()?.ok_or_else(|| wrong("session-id", "a string"))
    }

    /// `sequence-numbers`: at least one. The core says how many are too many.
    pub(super) fn sequence_numbers(self) -> Result<Vec<SequenceNumber>, Refusal> {
        let key = "sequence-numbers";
        let numbers = self.field(key).map(Value::items).unwrap_or_default();
        if numbers.is_empty() {
            return Err(wrong(key, "an array of long with at least one element"));
        }
        let number = |value: &Value| value.as_i64().ok_or_else(|| wrong(key, "an array of long"));
        // No message has a number below one, and zero names none.
        let sequence = |number: i64| SequenceNumber(u64::try_from(number).unwrap_or(0));
        numbers.iter().map(|value| number(value).map(sequence)).collect()
    }

    /// `lock-tokens`: at least one uuid. The core says how many are too many.
    pub(super) fn lock_tokens(self) -> Result<Vec<LockToken>, Refusal> {
        let key = "lock-tokens";
        let tokens = self.field(key).map(Value::items).unwrap_or_default();
        if tokens.is_empty() {
            return Err(wrong(key, "an array of uuid with at least one element"));
        }
        let token = |value: &Value| value.as_uuid().map(LockToken);
        tokens
            .iter()
            .map(|value| token(value).ok_or_else(|| wrong(key, "an array of uuid")))
            .collect()
    }
}

/// A field that is not what it must be.
pub(super) fn wrong(key: &str, wanted: &str) -> Refusal {
    Refusal::argument(format!("The field '{key}' must be {wanted}."))
}
