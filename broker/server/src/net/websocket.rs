//! A WebSocket as a transport: its binary messages, one after the other, are the stream of bytes. Where
//! a message ends means nothing, in either direction.
//!
//! Compression is never agreed on, so a message is as large as its bytes on the wire. Pings are
//! answered below; a flood of them is one pong at a time.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use futures_util::{Sink, SinkExt, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use tracing::debug;

use super::transport::{CLOSE_WITHIN, Ready, Transport, once};

/// The read buffer of a connection, there from the first byte on.
const READ_BUFFER: usize = 8 * 1024;

/// Bytes of several messages that are read together.
const READ_MAX: usize = 64 * 1024;

/// The largest message we send. Clients read in pieces of about that size.
const WRITE_MAX: usize = 64 * 1024;

/// What may wait for the socket: a message and its head, behind one that did not fit, and a pong.
const WRITE_BUFFER_MAX: usize = 4 * WRITE_MAX;

/// Some clients put several AMQP frames into a message. Four of the largest are more than any of them
/// gathers, and a message must be whole in memory before it is read.
const FRAMES_PER_MESSAGE: usize = 4;

/// The least that a message may have, however small the frames are.
const MESSAGE_MAX_FLOOR: usize = 64 * 1024;

/// See the module.
pub(crate) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// Why to tell the peer that the socket closes.
    close: CloseCode,
}

fn bounds(frame_size_max: u32) -> WebSocketConfig {
    let frame_size_max = usize::try_from(frame_size_max).unwrap_or(usize::MAX);
    let message_max = frame_size_max.saturating_mul(FRAMES_PER_MESSAGE).max(MESSAGE_MAX_FLOOR);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .max_message_size(Some(message_max))
        .max_frame_size(Some(message_max))
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> WebSocket<S> {
    /// Over a stream on which the handshake is done.
    pub(super) async fn new(stream: S, frame_size_max: u32) -> Self {
        let config = Some(bounds(frame_size_max));
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
        Self { stream, close: CloseCode::Normal }
    }

    /// As a client: asks the other end for AMQP at an address.
    pub(crate) async fn ask_for(stream: S, address: &str, frame_size_max: u32) -> io::Result<Self> {
        let refused = |error| match error {
            Error::Io(error) => error,
            error => io::Error::new(ErrorKind::ConnectionAborted, error),
        };
        let mut request = address.into_client_request().map_err(refused)?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("amqp"));
        let config = Some(bounds(frame_size_max));
        let asked = client_async_with_config(request, stream, config).await;
        let (stream, _answer) = asked.map_err(refused)?;
        Ok(Self { stream, close: CloseCode::Normal })
    }

    /// Reads the messages that are there, so that one turn serves several.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        while taken < READ_MAX && self.close == CloseCode::Normal {
            let message = match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Ready(Some(Ok(message))) => message,
                // What was taken goes first. The stream has ended then, and says so again.
                Poll::Ready(Some(Err(error))) => match self.failed(error) {
                    Err(error) if taken == 0 => return Poll::Ready(Err(error)),
                    Ok(()) | Err(_) => break,
                },
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            };
            match message {
                Message::Binary(bytes) => {
                    buffer.put_slice(&bytes);
                    taken += bytes.len();
                }
                Message::Text(_) => {
                    debug!("the peer sent text on a WebSocket for AMQP");
                    self.close = CloseCode::Unsupported;
                }
                // Answered below. After a close nothing comes but the end of the stream.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_ready(context)) {
            return Poll::Ready(self.failed(error).map(|()| 0));
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = wanted.min(WRITE_MAX);
        let mut message = BytesMut::with_capacity(count);
        for slice in slices {
            let room = count - message.len();
            message.put_slice(slice.get(..room).unwrap_or(slice));
        }
        let sent = Pin::new(&mut self.stream).start_send(Message::Binary(message.freeze()));
        Poll::Ready(sent.or_else(|error| self.failed(error)).map(|()| count))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(flushed.or_else(|error| self.failed(error)))
    }

    /// A closed socket is the end of the stream and no failure.
    fn failed(&mut self, error: Error) -> io::Result<()> {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Ok(()),
            Error::Io(error) => Err(error),
            Error::Capacity(_) => {
                self.close = CloseCode::Size;
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
            error => {
                self.close = CloseCode::Protocol;
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for WebSocket<S> {
    async fn ready(&mut self, buffer: &mut BytesMut, read: bool, write: bool) -> io::Result<Ready> {
        poll_fn(|context| {
            if read && let Poll::Ready(count) = self.poll_read(context, buffer) {
                return Poll::Ready(count.map(Ready::Read));
            }
            if write && let Poll::Ready(done) = self.poll_flush(context) {
                return Poll::Ready(done.map(|()| Ready::Write));
            }
            Poll::Pending
        })
        .await
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        once(|context| self.poll_read(context, buffer))
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        once(|context| self.poll_write(context, slices))
    }

    fn try_flush(&mut self) -> io::Result<()> {
        once(|context| self.poll_flush(context))
    }

    async fn close(&mut self) {
        let farewell = CloseFrame { code: self.close, reason: "".into() };
        let close = async {
            // Fails when the peer has closed before: then its close is already answered.
            let _ = self.stream.send(Message::Close(Some(farewell))).await;
            let _ = self.stream.flush().await;
        };
        let _ = tokio::time::timeout(CLOSE_WITHIN, close).await;
    }
}
