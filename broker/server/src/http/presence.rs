//! Whether a peer is still there while a request of its waits.
//!
//! hyper looks for the end of a connection during a request only when it has read nothing behind that
//! request. Clients that do not wait for answers, and some that end a body with a line feed, would take
//! messages with them for as long as a request may wait: so somebody else looks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Octets that are read ahead. A peer that has more to say than this behind a request that waits is
/// not looked after further.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// What a connection and its requests know of the peer. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Presence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether a request wants to know. There is one at a time.
    asked: AtomicBool,
    left: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { asked: AtomicBool::new(false), left: watch::Sender::new(false) }
    }
}

impl Presence {
    /// From now on somebody looks, until this is dropped.
    pub(super) fn watch(&self) -> Watch<'_> {
        self.0.asked.store(true, Ordering::Relaxed);
        Watch(&self.0)
    }
}

/// See [`Presence::watch`].
#[derive(Debug)]
pub(super) struct Watch<'a>(&'a Shared);

impl Watch<'_> {
    /// Waits until the peer is gone.
    pub(super) async fn left(&self) {
        let mut left = self.0.left.subscribe();
        if left.wait_for(|left| *left).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Looks once more.
    pub(super) async fn has_left(&self) -> bool {
        // The connection is looked at when all its futures have had their turn.
        tokio::task::yield_now().await;
        *self.0.left.borrow()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.asked.store(false, Ordering::Relaxed);
    }
}

/// A connection that is read ahead while somebody wants to know whether its peer is there.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    presence: Presence,
    ahead: BytesMut,
    ended: bool,
}

impl<S: AsyncRead + Unpin> Watched<S> {
    pub(super) fn new(stream: S, presence: Presence) -> Self {
        Self { stream, presence, ahead: BytesMut::new(), ended: false }
    }

    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        let is_asked = self.presence.0.asked.load(Ordering::Relaxed);
        while is_asked && !self.ended && self.ahead.len() < AHEAD_BYTES_MAX {
            let mut octets = [0; 1024];
            let mut buffer = ReadBuf::new(&mut octets);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.ahead.extend_from_slice(buffer.filled());
                }
                // An error is an end, too.
                Poll::Ready(_) => {
                    self.ended = true;
                    self.presence.0.left.send_replace(true);
                }
            }
            // Whoever waits to read would not be told of it by the stream any more.
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.get(..count).unwrap_or_default());
            self.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper does this at the end of each of its turns, whether there is anything to write or not: after
    /// the request has said that it waits.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.look_ahead(cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_read_and_the_end_is_seen_before_it() {
        let (mut peer, stream) = tokio::io::duplex(64 * 1024);
        let presence = Presence::default();
        let mut watched = Watched::new(stream, presence.clone());
        peer.write_all(b"one").await.unwrap();
        watched.flush().await.unwrap();
        assert!(watched.ahead.is_empty(), "nobody has asked");
        let watch = presence.watch();
        watched.flush().await.unwrap();
        assert!(watched.ahead == "one" && !watch.has_left().await);
        peer.write_all(b"two").await.unwrap();
        drop(peer);
        watched.flush().await.unwrap();
        watch.left().await;
        assert!(watch.has_left().await);
        drop(watch);
        let mut octets = Vec::new();
        watched.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets, b"onetwo");
    }

    #[tokio::test]
    async fn not_everything_is_read_ahead() {
        let (mut peer, stream) = tokio::io::duplex(64 * 1024);
        let presence = Presence::default();
        let mut watched = Watched::new(stream, presence.clone());
        let sent = vec![b'x'; 60_000];
        peer.write_all(&sent).await.unwrap();
        drop(peer);
        let watch = presence.watch();
        watched.flush().await.unwrap();
        assert_eq!(watched.ahead.len(), AHEAD_BYTES_MAX);
        assert!(!watch.has_left().await);
        let mut octets = Vec::new();
        watched.read_to_end(&mut octets).await.unwrap();
        assert_eq!(octets, sent);
    }
}
