//! Error conditions (§2.8.15–18, §4.5.8 and the Service Bus ones) and the error that carries them.

use bytes::BytesMut;

use crate::codec::{Composite, DecodeError, Reader, Wire, composite};
use crate::value::{Map, Str, Symbol};

composite! {
    /// §2.8.14 error. Always written with all three elements: pyamqp reads them by position.
    pub struct ErrorInfo = "amqp:error:list" 0x1d {
        /// What went wrong, for programs.
        pub condition: Symbol = "condition",
        /// What went wrong, for people.
        pub description: Option<Str> = "description",
        /// More about it.
        pub info: Option<Map> = "info",
    }
}

impl ErrorInfo {
    /// An error with a text for people.
    pub fn new(condition: &'static str, description: impl Into<Str>) -> Self {
        Self {
            condition: Symbol::from_static(condition),
            description: Some(description.into()),
            info: None,
        }
    }
}

impl Wire for ErrorInfo {
    const TYPE: &'static str = "error";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::read_described(r)
    }
    fn write(&self, out: &mut BytesMut) {
        self.write_described(out);
    }
}

macro_rules! conditions {
    ($($(#[$meta:meta])* $name:ident = $text:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            $(#[$meta])*
            pub const $name: &str = $text;
        )*

        /// Every condition named here.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

conditions! {
    INTERNAL_ERROR = "amqp:internal-error";
    NOT_FOUND = "amqp:not-found";
    UNAUTHORIZED_ACCESS = "amqp:unauthorized-access";
    DECODE_ERROR = "amqp:decode-error";
    RESOURCE_LIMIT_EXCEEDED = "amqp:resource-limit-exceeded";
    NOT_ALLOWED = "amqp:not-allowed";
    INVALID_FIELD = "amqp:invalid-field";
    NOT_IMPLEMENTED = "amqp:not-implemented";
    RESOURCE_LOCKED = "amqp:resource-locked";
    PRECONDITION_FAILED = "amqp:precondition-failed";
    RESOURCE_DELETED = "amqp:resource-deleted";
    ILLEGAL_STATE = "amqp:illegal-state";
    FRAME_SIZE_TOO_SMALL = "amqp:frame-size-too-small";
    CONNECTION_FORCED = "amqp:connection:forced";
    CONNECTION_FRAMING_ERROR = "amqp:connection:framing-error";
    CONNECTION_REDIRECT = "amqp:connection:redirect";
    SESSION_WINDOW_VIOLATION = "amqp:session:window-violation";
    SESSION_ERRANT_LINK = "amqp:session:errant-link";
    SESSION_HANDLE_IN_USE = "amqp:session:handle-in-use";
    SESSION_UNATTACHED_HANDLE = "amqp:session:unattached-handle";
    LINK_DETACH_FORCED = "amqp:link:detach-forced";
    LINK_TRANSFER_LIMIT_EXCEEDED = "amqp:link:transfer-limit-exceeded";
    LINK_MESSAGE_SIZE_EXCEEDED = "amqp:link:message-size-exceeded";
    LINK_REDIRECT = "amqp:link:redirect";
    LINK_STOLEN = "amqp:link:stolen";
    TRANSACTION_UNKNOWN_ID = "amqp:transaction:unknown-id";
    TRANSACTION_ROLLBACK = "amqp:transaction:rollback";
    TRANSACTION_TIMEOUT = "amqp:transaction:timeout";
    TIMEOUT = "com.microsoft:timeout";
    MESSAGE_NOT_FOUND = "com.microsoft:message-not-found";
    SESSION_NOT_FOUND = "com.microsoft:session-not-found";
    MESSAGE_LOCK_LOST = "com.microsoft:message-lock-lost";
    SESSION_LOCK_LOST = "com.microsoft:session-lock-lost";
    SESSION_CANNOT_BE_LOCKED = "com.microsoft:session-cannot-be-locked";
    STORE_LOCK_LOST = "com.microsoft:store-lock-lost";
    PARTITION_NOT_OWNED = "com.microsoft:partition-not-owned";
    ENTITY_DISABLED = "com.microsoft:entity-disabled";
    ENTITY_ALREADY_EXISTS = "com.microsoft:entity-already-exists";
    SERVER_BUSY = "com.microsoft:server-busy";
    ARGUMENT_ERROR = "com.microsoft:argument-error";
    ARGUMENT_OUT_OF_RANGE = "com.microsoft:argument-out-of-range";
    AUTH_FAILED = "com.microsoft:auth-failed";
    MICROSOFT_PRECONDITION_FAILED = "com.microsoft:precondition-failed";
    OPERATION_CANCELLED = "com.microsoft:operation-cancelled";
    CONTAINER_CLOSE = "com.microsoft:container-close";
    NO_MATCHING_SUBSCRIPTION = "com.microsoft:no-matching-subscription";
    /// Sent by clients in `rejected`; the broker never sends it.
    DEAD_LETTER = "com.microsoft:dead-letter";
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn an_error_is_always_written_with_three_elements() {
        let mut out = BytesMut::new();
        ErrorInfo { condition: "a".into(), description: None, info: None }.write(&mut out);
        assert_eq!(out[..], hex!("00 53 1d c0 06 03 a3 01 61 40 40"));
    }

    #[test]
    fn a_short_error_is_read_and_one_without_condition_refused() {
        let short = hex!("00 53 1d c0 04 01 a3 01 61");
        let error = ErrorInfo::read(&mut Reader::from_slice(&short)).unwrap();
        assert_eq!(error, ErrorInfo { condition: "a".into(), description: None, info: None });
        let none = hex!("00 53 1d 45");
        assert_eq!(
            ErrorInfo::read(&mut Reader::from_slice(&none)),
            Err(DecodeError::MissingField { field: "condition" })
        );
    }
}
