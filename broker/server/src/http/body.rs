//! Reading a body within bounds.

use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
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
    /// Others have all the room that there is for bodies.
    #[error("Too many messages are on their way in.")]
    NoRoom,
}

/// Reads a body of at most `max` bytes. A handler that takes no body need not call it.
pub(crate) async fn read_body<B>(body: B, max: usize) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes, Error = axum::Error>,
{
    read_body_in(body, max, |_| true).await
}

/// The same where there has to be room: before octets are kept, `has_room` hears how many that makes.
pub(crate) async fn read_body_in<B>(
    body: B,
    max: usize,
    mut has_room: impl FnMut(usize) -> bool,
) -> Result<Bytes, BodyError>
where
    B: HttpBody<Data = Bytes, Error = axum::Error>,
{
    // Copied: chunks of an octet each would keep all that came between them.
    let mut kept = BytesMut::new();
    each_chunk(body, max, |chunk| {
        if !has_room(kept.len() + chunk.len()) {
            return Err(BodyError::NoRoom);
        }
        kept.extend_from_slice(&chunk);
        Ok(())
    })
    .await?;
    Ok(kept.freeze())
}

/// Reads a body of at most `max` bytes to its end, and keeps nothing of it. Only behind its end it is
/// seen that a peer has left.
pub(crate) async fn skip_body<B>(body: B, max: usize) -> Result<(), BodyError>
where
    B: HttpBody<Data = Bytes, Error = axum::Error>,
{
    each_chunk(body, max, |_| Ok(())).await
}

async fn each_chunk<B>(
    body: B,
    max: usize,
    mut take: impl FnMut(Bytes) -> Result<(), BodyError>,
) -> Result<(), BodyError>
where
    B: HttpBody<Data = Bytes, Error = axum::Error>,
{
    let whole = async {
        let mut body = pin!(body);
        let mut left = max;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                debug!(%error, "the body of a request cannot be read");
                BodyError::Broken
            })?;
            // Trailers say nothing that we would listen to.
            let Ok(chunk) = frame.into_data() else { continue };
            left = left.checked_sub(chunk.len()).ok_or(BodyError::TooLarge)?;
            take(chunk)?;
        }
        Ok(())
    };
    tokio::time::timeout(BODY_WITHIN, whole).await.unwrap_or(Err(BodyError::Late))
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
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
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
        assert_eq!(skip_body(Body::from("four"), 4).await, Ok(()));
        assert_eq!(skip_body(Body::from("fives"), 4).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn room_is_asked_for_what_has_come() {
        let body = || {
            let chunks = ["one", "", "three"].map(|chunk| Ok::<_, axum::Error>(Bytes::from(chunk)));
            Body::from_stream(futures_util::stream::iter(chunks))
        };
        let mut asked = Vec::new();
        let read = read_body_in(body(), 100, |octets| {
            asked.push(octets);
            true
        });
        assert_eq!(read.await, Ok(Bytes::from_static(b"onethree")));
        assert_eq!(asked, [3, 3, 8]);
        let read = read_body_in(body(), 100, |octets| octets < 8).await;
        assert_eq!(read, Err(BodyError::NoRoom));
    }
}
