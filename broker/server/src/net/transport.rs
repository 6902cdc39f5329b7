//! What carries a connection: plain TCP, TLS, or a WebSocket in either. The task of a connection is
//! written once over all of them, and plain TCP costs what it cost alone.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// How long a peer gets to take the last words of a transport.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What [`Transport::ready`] has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// So many bytes were read; none at the end of the stream.
    Read(usize),
    /// What could not be written may be tried again.
    Write,
}

/// A stream of bytes in both directions. What is tried does not wait and says
/// [`ErrorKind::WouldBlock`].
pub(crate) trait Transport: Send {
    /// Waits until there is something to read, which it reads, or until it is worth writing again.
    /// Nothing is lost when the future is dropped.
    fn ready(
        &mut self,
        buffer: &mut BytesMut,
        read: bool,
        write: bool,
    ) -> impl Future<Output = io::Result<Ready>> + Send;

    /// Reads what is there already.
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Takes some of the bytes; they may stay in a buffer of the transport.
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Hands what was taken to the socket.
    fn try_flush(&mut self) -> io::Result<()>;

    /// Says the last words of the transport itself.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

impl Transport for TcpStream {
    async fn ready(&mut self, buffer: &mut BytesMut, read: bool, write: bool) -> io::Result<Ready> {
        let (mut reader, writer) = self.split();
        tokio::select! {
            count = reader.read_buf(buffer), if read => count.map(Ready::Read),
            ready = writer.writable(), if write => ready.map(|()| Ready::Write),
            else => std::future::pending().await,
        }
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.try_read_buf(buffer)
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(slices)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn close(&mut self) {}
}

/// A stream that is only polled, and has a buffer of its own for what is written: TLS.
pub(crate) struct Polled<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for Polled<S> {
    async fn ready(&mut self, buffer: &mut BytesMut, read: bool, write: bool) -> io::Result<Ready> {
        poll_fn(|context| {
            if read
                && let Poll::Ready(count) = poll_read_buf(Pin::new(&mut self.0), context, buffer)
            {
                return Poll::Ready(count.map(Ready::Read));
            }
            if write && let Poll::Ready(done) = Pin::new(&mut self.0).poll_flush(context) {
                return Poll::Ready(done.map(|()| Ready::Write));
            }
            Poll::Pending
        })
        .await
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        once(|context| poll_read_buf(Pin::new(&mut self.0), context, buffer))
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        once(|context| Pin::new(&mut self.0).poll_write_vectored(context, slices))
    }

    fn try_flush(&mut self) -> io::Result<()> {
        once(|context| Pin::new(&mut self.0).poll_flush(context))
    }

    async fn close(&mut self) {
        // A peer that is gone needs no good-bye, and one that does not read gets none.
        let _ = tokio::time::timeout(CLOSE_WITHIN, self.0.shutdown()).await;
    }
}

/// Polls once. Whoever wants to be woken polls again, in [`Transport::ready`].
pub(crate) fn once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

/// A stream of which the first bytes were read already.
pub(crate) struct Begun<S> {
    first: BytesMut,
    rest: S,
}

impl<S> Begun<S> {
    pub(crate) fn new(first: BytesMut, rest: S) -> Self {
        Self { first, rest }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }
}
