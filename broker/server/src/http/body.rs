//! Reading a body within bounds.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::debug;

/// From the head of a request to the end of its body. The largest message takes a line of 30 Mbit/s
/// for so long; a peer that sends a byte now and then holds a connection no longer.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Octets that are read of a body that nobody wants any more, and for how long: a client that is still
/// writing when its connection ends mostly does not read why. Enough for a message that is somewhat too
/// large.
const UNWANTED_BYTES_MAX: usize = 4 * 1024 * 1024;
const UNWANTED_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than the handler takes, whatever its `Content-Length` said.
    #[error("The body of the request is too large.")]
    TooLarge,
    /// It did not come in time.
    #[error("The body of the request did not come in time.")]
    Late,
    /// The peer left, or its chunks are wrong.
    #[error("The body of the request cannot be read.")]
    Broken,
}

/// Reads a body of at most `max` bytes. A handler that takes no body need not call it.
pub(crate) async fn read_body<B>(body: B, max: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes, Error = axum::Error>,
{
    let whole = Limited::new(body, max).collect();
    match tokio::time::timeout(BODY_WITHIN, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(error)) => {
            debug!(%error, "the body of a request cannot be read");
            Err(BodyError::Broken)
        }
        Err(_) => Err(BodyError::Late),
    }
}

/// Reads what is left of a body, within bounds, and forgets it.
pub(crate) async fn discard(mut body: Body) {
    let all = async {
        let mut left = UNWANTED_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let octets = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(octets) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // What has not come by then does not come.
    let _ = tokio::time::timeout(UNWANTED_WITHIN, all).await;
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        };
        (status, self.to_string()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound() {
        assert_eq!(read_body(Body::from("four"), 4).await, Ok(Bytes::from_static(b"four")));
        assert_eq!(read_body(Body::from("fives"), 4).await, Err(BodyError::TooLarge));
    }
}
