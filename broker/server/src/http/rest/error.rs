//! What the core refuses, as these requests are answered: in the same words as the management API, with
//! statuses of their own.

use axum::http::StatusCode;
use peeklock_core::error::Error;

use super::super::atom::error::Fault;
use crate::pressure::TooFast;

/// The one table from errors of the core to answers about messages.
pub(super) fn fault(error: Error) -> Fault {
    let text = error.to_string();
    let (status, sub_code) = match &error {
        // The texts of these are written for the management API already.
        Error::EntityNotFound(_) | Error::ServerBusy(_) | Error::StoreUnavailable => {
            return Fault::from(error);
        }
        Error::MessageLockLost | Error::MessageNotFound(_) => (StatusCode::NOT_FOUND, 40400),
        Error::MessageTooLarge { .. } | Error::EntityFull { .. } | Error::QuotaExceeded(_) => {
            (StatusCode::FORBIDDEN, 40300)
        }
        Error::EntityDisabled(_) => (StatusCode::FORBIDDEN, 40301),
        Error::EntityExists(_) => (StatusCode::CONFLICT, 40900),
        Error::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, 50100),
        Error::SessionLockLost
        | Error::SessionCannotBeLocked(_)
        | Error::Timeout(_)
        | Error::SubscriptionInUse(_)
        | Error::ManageRequired(_)
        | Error::TransactionUnknown
        | Error::TransactionTimeout
        | Error::TransactionRolledBack(_)
        | Error::NotAllowed(_)
        | Error::InvalidArgument(_)
        | Error::InvalidRule(_) => (StatusCode::BAD_REQUEST, 40000),
    };
    Fault::new(status, sub_code, text)
}

/// The same for a request that has found its entity before.
pub(super) fn gone(error: Error) -> Fault {
    match error {
        Error::EntityNotFound(_) => Fault::new(StatusCode::GONE, 41000, error.to_string()),
        error => fault(error),
    }
}

/// Whoever sends does so too fast. Not 503: the broker is well, and who watches it is to see that.
pub(super) fn too_fast(too_fast: TooFast) -> Fault {
    let fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, 50004, too_fast.to_string());
    // Whole seconds, and none too few.
    let TooFast(wait) = too_fast;
    Fault { retry_after: Some(wait.as_secs().saturating_add(1)), ..fault }
}

/// The body, or the message in it, is larger than its entity takes.
pub(super) fn too_large(limit: usize) -> Fault {
    let text = format!("The body of the request exceeds the limit of {limit} bytes.");
    Fault::new(StatusCode::FORBIDDEN, 40300, text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn statuses_are_those_of_the_service() {
        let full = Error::EntityFull { path: "q".into(), size: 2, limit: 1 };
        let large = Error::MessageTooLarge { size: 2, limit: 1, path: "q".into() };
        for (error, status, sub_code) in [
            (Error::EntityNotFound("q".into()), 404, 40400),
            (Error::MessageLockLost, 404, 40400),
            (Error::MessageNotFound(1), 404, 40400),
            (full, 403, 40300),
            (large, 403, 40300),
            (Error::EntityDisabled("q".into()), 403, 40301),
            (Error::NotAllowed("No."), 400, 40000),
            (Error::InvalidArgument("No."), 400, 40000),
            (Error::ServerBusy("Wait."), 503, 50004),
            (Error::StoreUnavailable, 500, 50000),
        ] {
            let fault = fault(error);
            assert_eq!((fault.status.as_u16(), fault.sub_code), (status, Some(sub_code)));
        }
        assert_eq!(fault(Error::ServerBusy("Wait.")).retry_after, Some(1));
        let slow = too_fast(TooFast(Duration::from_millis(1_500)));
        assert_eq!(
            (slow.status.as_u16(), slow.sub_code, slow.retry_after),
            (429, Some(50004), Some(2))
        );
        assert_eq!(gone(Error::EntityNotFound("q".into())).status, StatusCode::GONE);
        assert_eq!(gone(Error::MessageLockLost).status, StatusCode::NOT_FOUND);
    }
}
