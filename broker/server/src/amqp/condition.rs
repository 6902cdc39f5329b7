//! The one table from what went wrong to what the peer is told: on a link, on a delivery, or in the
//! answer to a `$management` request.

use std::fmt;
use std::time::SystemTime;

use peeklock_core::error::Error;
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::condition::{self, ErrorInfo};

use crate::auth::Denied;
use crate::clock;

/// How far the damage goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One message, or one request.
    Delivery,
    /// The link: it cannot be opened, or is of no use any more.
    Link,
}

/// What a peer is told when it does not get what it asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    condition: &'static str,
    scope: Scope,
    status: i32,
    text: Text,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Text {
    Plain(String),
    /// Java and JavaScript match this text to tell a missing entity from other not-found errors.
    NoEntity {
        path: String,
    },
    Denied(Denied),
}

impl Refusal {
    fn new(condition: &'static str, scope: Scope, status: i32, text: impl Into<String>) -> Self {
        Self { condition, scope, status, text: Text::Plain(text.into()) }
    }

    /// What the core refused.
    pub fn of(error: &Error) -> Self {
        use Scope::{Delivery, Link};
        let (condition, scope, status) = match error {
            Error::EntityNotFound(path) => {
                let text = Text::NoEntity { path: path.clone() };
                return Self { condition: condition::NOT_FOUND, scope: Link, status: 404, text };
            }
            Error::MessageLockLost => (condition::MESSAGE_LOCK_LOST, Delivery, 410),
            Error::MessageNotFound(_) => (condition::MESSAGE_NOT_FOUND, Delivery, 404),
            Error::MessageTooLarge { .. } => (condition::LINK_MESSAGE_SIZE_EXCEEDED, Delivery, 403),
            Error::EntityFull { .. } | Error::QuotaExceeded(_) => {
                (condition::RESOURCE_LIMIT_EXCEEDED, Delivery, 403)
            }
            Error::SessionLockLost => (condition::SESSION_LOCK_LOST, Link, 410),
            Error::SessionCannotBeLocked(_) => (condition::SESSION_CANNOT_BE_LOCKED, Link, 410),
            Error::Timeout(_) => (condition::TIMEOUT, Link, 408),
            Error::EntityDisabled(_) => (condition::ENTITY_DISABLED, Link, 400),
            Error::SubscriptionInUse(_) => (condition::RESOURCE_LOCKED, Link, 409),
            Error::ManageRequired(_) => (condition::UNAUTHORIZED_ACCESS, Link, 401),
            Error::EntityExists(_) => (condition::ENTITY_ALREADY_EXISTS, Delivery, 409),
            Error::TransactionUnknown => (condition::TRANSACTION_UNKNOWN_ID, Delivery, 400),
            Error::TransactionTimeout => (condition::TRANSACTION_TIMEOUT, Delivery, 400),
            Error::TransactionRolledBack(_) => (condition::TRANSACTION_ROLLBACK, Delivery, 400),
            Error::NotAllowed(_) => (condition::NOT_ALLOWED, Delivery, 400),
            Error::NotImplemented(_) => (condition::NOT_IMPLEMENTED, Delivery, 501),
            Error::InvalidArgument(_) | Error::InvalidRule(_) => {
                (condition::ARGUMENT_ERROR, Delivery, 400)
            }
            Error::ServerBusy(_) => (condition::SERVER_BUSY, Delivery, 503),
            // Every SDK takes an internal error as worth another try.
            Error::StoreUnavailable => (condition::INTERNAL_ERROR, Delivery, 500),
        };
        Self::new(condition, scope, status, error.to_string())
    }

    /// A right that the peer does not have.
    pub fn denied(denied: &Denied) -> Self {
        Self {
            condition: condition::UNAUTHORIZED_ACCESS,
            scope: Scope::Link,
            status: 401,
            text: Text::Denied(denied.clone()),
        }
    }

    /// A message or request that cannot be read.
    pub fn undecodable(error: &DecodeError) -> Self {
        Self::new(condition::DECODE_ERROR, Scope::Delivery, 400, error.to_string())
    }

    /// A request that lacks something, or has it in a form that cannot be meant.
    pub fn argument(text: impl Into<String>) -> Self {
        Self::new(condition::ARGUMENT_ERROR, Scope::Delivery, 400, text)
    }

    /// Something the broker does not do.
    pub fn not_implemented(text: impl Into<String>) -> Self {
        Self::new(condition::NOT_IMPLEMENTED, Scope::Delivery, 501, text)
    }

    /// Something that this broker, as it runs, does not let anybody do.
    pub fn not_allowed(text: impl Into<String>) -> Self {
        Self::new(condition::NOT_ALLOWED, Scope::Delivery, 400, text)
    }

    /// The time that the peer gave is over.
    pub fn timeout() -> Self {
        let text = "The operation did not complete within the time given by the client.";
        Self::new(condition::TIMEOUT, Scope::Delivery, 408, text)
    }

    /// An answer of ours that does not fit its question.
    pub fn internal() -> Self {
        let text = "The broker could not process the request. Please try again.";
        Self::new(condition::INTERNAL_ERROR, Scope::Delivery, 500, text)
    }

    /// The error condition.
    pub fn condition(&self) -> &'static str {
        self.condition
    }

    /// How far it goes.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The status code of a `$management` response.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// The error as it goes into a detach or a rejection. `host` is what the peer calls the broker.
    pub fn error_info(&self, host: &str) -> ErrorInfo {
        ErrorInfo::new(self.condition, self.description(host))
    }

    /// The text for the peer, with a tracking id that is unique.
    pub fn description(&self, host: &str) -> String {
        self.describe(host, TrackingId(rand::random()), clock::time_of_day())
    }

    fn describe(&self, host: &str, tracking: TrackingId, now: SystemTime) -> String {
        let text = match &self.text {
            Text::Plain(text) => text.clone(),
            Text::NoEntity { path } => format!(
                "The messaging entity 'sb://{host}/{path}' could not be found. To know more visit \
                 https://aka.ms/sbResourceMgrExceptions."
            ),
            Text::Denied(Denied { action, resource }) => format!(
                "Unauthorized access. '{action}' claim(s) are required to perform this operation. \
                 Resource: 'sb://{host}/{resource}'."
            ),
        };
        let time = humantime::format_rfc3339_seconds(now);
        format!("{text} TrackingId:{tracking}, SystemTracker:peeklock, Timestamp:{time}")
    }
}

/// Lets people find an error in the logs that a client has shown them.
#[derive(Clone, Copy)]
struct TrackingId(u128);

impl fmt::Display for TrackingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peeklock_core::Span;
    use peeklock_core::error::WaitTime;

    use super::*;
    use crate::auth::Action;

    const TAIL: &str = " TrackingId:0000000000000000000000000000beef, SystemTracker:peeklock, \
        Timestamp:2023-11-14T22:13:20Z";

    #[track_caller]
    fn check(refusal: &Refusal, condition: &str, scope: Scope, status: i32, text: &str) {
        assert_eq!(
            (refusal.condition(), refusal.scope(), refusal.status()),
            (condition, scope, status)
        );
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let described = refusal.describe("broker", TrackingId(0xbeef), now);
        assert_eq!(described, format!("{text}{TAIL}"));
    }

    #[test]
    fn the_table() {
        use Scope::{Delivery, Link};
        check(
            &Refusal::of(&Error::EntityNotFound("eu/orders".into())),
            "amqp:not-found",
            Link,
            404,
            "The messaging entity 'sb://broker/eu/orders' could not be found. To know more visit \
             https://aka.ms/sbResourceMgrExceptions.",
        );
        let lost = Error::MessageLockLost;
        check(
            &Refusal::of(&lost),
            "com.microsoft:message-lock-lost",
            Delivery,
            410,
            &lost.to_string(),
        );
        let too_large = Error::MessageTooLarge { size: 9, limit: 8, path: "q".into() };
        check(
            &Refusal::of(&too_large),
            "amqp:link:message-size-exceeded",
            Delivery,
            403,
            &too_large.to_string(),
        );
        let full = Error::EntityFull { path: "q".into(), size: 9, limit: 8 };
        check(
            &Refusal::of(&full),
            "amqp:resource-limit-exceeded",
            Delivery,
            403,
            &full.to_string(),
        );
        for (error, condition, status) in [
            (Error::SessionLockLost, "com.microsoft:session-lock-lost", 410),
            (
                Error::SessionCannotBeLocked("s".into()),
                "com.microsoft:session-cannot-be-locked",
                410,
            ),
            (Error::Timeout(WaitTime(Span(59_900))), "com.microsoft:timeout", 408),
            (Error::EntityDisabled("q".into()), "com.microsoft:entity-disabled", 400),
            (Error::SubscriptionInUse("s".into()), "amqp:resource-locked", 409),
            (Error::ManageRequired("s".into()), "amqp:unauthorized-access", 401),
        ] {
            check(&Refusal::of(&error), condition, Link, status, &error.to_string());
        }
        for (error, condition, status) in [
            (Error::EntityExists("q".into()), "com.microsoft:entity-already-exists", 409),
            (Error::TransactionUnknown, "amqp:transaction:unknown-id", 400),
            (Error::TransactionTimeout, "amqp:transaction:timeout", 400),
            (Error::TransactionRolledBack("x".into()), "amqp:transaction:rollback", 400),
            (Error::MessageNotFound(7), "com.microsoft:message-not-found", 404),
            (Error::QuotaExceeded("No."), "amqp:resource-limit-exceeded", 403),
            (Error::InvalidRule("x".into()), "com.microsoft:argument-error", 400),
            (Error::NotAllowed("No."), "amqp:not-allowed", 400),
            (Error::NotImplemented("It"), "amqp:not-implemented", 501),
            (Error::InvalidArgument("No."), "com.microsoft:argument-error", 400),
            (Error::ServerBusy("Wait."), "com.microsoft:server-busy", 503),
            (Error::StoreUnavailable, "amqp:internal-error", 500),
        ] {
            check(&Refusal::of(&error), condition, Delivery, status, &error.to_string());
        }
        check(
            &Refusal::denied(&Denied { action: Action::Send, resource: "orders".into() }),
            "amqp:unauthorized-access",
            Link,
            401,
            "Unauthorized access. 'Send' claim(s) are required to perform this operation. Resource: \
             'sb://broker/orders'.",
        );
    }

    #[test]
    fn the_error_of_a_refusal_is_tracked() {
        let refusal = Refusal::of(&Error::MessageLockLost);
        let (one, other) = (refusal.error_info("h"), refusal.error_info("h"));
        assert_eq!(one.condition, *"com.microsoft:message-lock-lost");
        assert_ne!(one.description, other.description);
    }
}
