//! What a request is told that gets nothing else: the one table from errors to HTTP.

use std::time::SystemTime;

use axum::http::StatusCode;
use peeklock_core::error::Error;

use super::super::authorize::Unauthorized;
use super::super::body::BodyError;
use super::xml::{Writer, XmlError};
use crate::clock;

const MORE: &str = "To know more visit https://aka.ms/sbResourceMgrExceptions.";

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    /// What SDKs look at where the status says too little.
    pub(crate) sub_code: Option<u32>,
    pub(crate) detail: String,
    /// Seconds after which it is worth another try.
    pub(crate) retry_after: Option<u64>,
}

impl Fault {
    pub(in crate::http) fn new(
        status: StatusCode,
        sub_code: u32,
        detail: impl Into<String>,
    ) -> Self {
        Self { sub_code: Some(sub_code), ..Self::plain(status, detail) }
    }

    /// One whose status says enough.
    fn plain(status: StatusCode, detail: impl Into<String>) -> Self {
        // What is too much for now is less in a moment.
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, sub_code: None, detail: detail.into(), retry_after }
    }

    /// What was sent makes no sense.
    pub(in crate::http) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 40000, detail)
    }

    /// A property that cannot have this value.
    pub(in crate::http) fn property(name: &str, why: &str) -> Self {
        Self::invalid(format!("The value of the property {name} is not valid: {why}."))
    }

    /// There is nothing to change at this path.
    pub(in crate::http) fn missing(path: &str) -> Self {
        let detail = format!("Not Found. The messaging entity '{path}' could not be found. {MORE}");
        Self::new(StatusCode::NOT_FOUND, 40400, detail)
    }

    /// There is nothing to delete at this path.
    pub(in crate::http) fn not_hosted() -> Self {
        Self::plain(StatusCode::NOT_FOUND, "No service is hosted at the specified address.")
    }

    pub(in crate::http) fn precondition() -> Self {
        let detail = "The If-Match header has to be '*': other conditions cannot be met.";
        Self::plain(StatusCode::PRECONDITION_FAILED, detail)
    }

    pub(in crate::http) fn method() -> Self {
        let detail = "The specified HTTP verb is not valid for this address.";
        Self::plain(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    pub(in crate::http) fn too_large() -> Self {
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, "The body of the request is too large.")
    }

    /// The body of a request did not come as it has to.
    pub(in crate::http) fn unread(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::too_large(),
            BodyError::Late | BodyError::Broken => Self::invalid(error.to_string()),
            BodyError::NoRoom => {
                Self::from(Error::ServerBusy("Too many messages are on their way in."))
            }
        }
    }

    /// An answer of the core that does not fit its question.
    pub(in crate::http) fn internal() -> Self {
        let detail = "The broker could not process the request. Please try again.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 50000, detail)
    }

    /// The document, as SDKs expect it. What they show to people can be found in the logs again.
    pub(in crate::http) fn document(&self, host: &str, path: &str) -> String {
        self.describe(host, path, rand::random(), clock::time_of_day())
    }

    fn describe(&self, host: &str, path: &str, tracking: u128, now: SystemTime) -> String {
        let sub_code = self.sub_code.map_or_else(String::new, |code| format!("SubCode={code}. "));
        let text = self.detail.trim_end_matches('.');
        let time = humantime::format_rfc3339_seconds(now).to_string();
        let time = time.trim_end_matches('Z');
        let hex = format!("{tracking:032x}");
        let (first, rest) = hex.split_at(8);
        let (second, rest) = rest.split_at(4);
        let (third, rest) = rest.split_at(4);
        let (fourth, fifth) = rest.split_at(4);
        let detail = format!(
            "{sub_code}{text}. TrackingId:{first}-{second}-{third}-{fourth}-{fifth}_G0, \
             SystemTracker:{host}:{path}, Timestamp:{time}"
        );
        let mut writer = Writer::default();
        writer.open("Error", &[]);
        writer.value("Code", self.status.as_u16());
        writer.leaf("Detail", &detail);
        writer.close("Error");
        writer.finish()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::EntityNotFound(path) => Self::missing(&path),
            Error::EntityExists(path) => Self::new(
                StatusCode::CONFLICT,
                40900,
                format!("Conflict. The messaging entity '{path}' already exists. {MORE}"),
            ),
            // Nothing else is not allowed than one entity more.
            Error::QuotaExceeded(_) | Error::EntityFull { .. } | Error::NotAllowed(_) => {
                Self::new(StatusCode::FORBIDDEN, 40300, text)
            }
            Error::EntityDisabled(_) => Self::new(StatusCode::FORBIDDEN, 40301, text),
            Error::ServerBusy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, 50004, text),
            Error::StoreUnavailable => Self::new(StatusCode::INTERNAL_SERVER_ERROR, 50000, text),
            Error::MessageLockLost
            | Error::MessageNotFound(_)
            | Error::MessageTooLarge { .. }
            | Error::SessionLockLost
            | Error::SessionCannotBeLocked(_)
            | Error::Timeout(_)
            | Error::SubscriptionInUse(_)
            | Error::ManageRequired(_)
            | Error::TransactionUnknown
            | Error::TransactionTimeout
            | Error::TransactionRolledBack(_)
            | Error::NotImplemented(_)
            | Error::InvalidArgument(_)
            | Error::InvalidRule(_) => Self::invalid(text),
        }
    }
}

impl From<XmlError> for Fault {
    fn from(error: XmlError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<Unauthorized> for Fault {
    fn from(error: Unauthorized) -> Self {
        Self::plain(error.status(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fault_reads_as_that_of_the_service() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let fault = Fault::from(Error::EntityExists("a<b".into()));
        assert_eq!(
            fault.describe("broker:5300", "a<b", 0x1234 << 96, now),
            "<Error><Code>409</Code><Detail>SubCode=40900. Conflict. The messaging entity \
             'a&lt;b' already exists. To know more visit \
             https://aka.ms/sbResourceMgrExceptions. TrackingId:00001234-0000-0000-0000-000000000000\
             _G0, SystemTracker:broker:5300:a&lt;b, Timestamp:2023-11-14T22:13:20</Detail></Error>"
        );
        let text = Fault::not_hosted().describe("h", "q", 0, now);
        assert!(text.contains("<Detail>No service is hosted at the specified address. Tracking"));
    }

    #[test]
    fn every_kind_of_error_has_a_status_that_sdks_understand() {
        for (error, status, sub_code) in [
            (Error::EntityNotFound("q".into()), 404, 40400),
            (Error::QuotaExceeded("No."), 403, 40300),
            (Error::NotAllowed("No."), 403, 40300),
            (Error::InvalidArgument("No."), 400, 40000),
            (Error::InvalidRule("x".into()), 400, 40000),
            (Error::ServerBusy("Wait."), 503, 50004),
            (Error::StoreUnavailable, 500, 50000),
        ] {
            let fault = Fault::from(error);
            assert_eq!((fault.status.as_u16(), fault.sub_code), (status, Some(sub_code)));
        }
    }
}
