//! What carries a connection to a broker: TCP, TLS over it, or a WebSocket in either.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;

use super::failure::Failure;
use super::server::Server;
use crate::net::transport::{Polled, Ready, Transport};
use crate::net::websocket::WebSocket;

/// How long a broker may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Where brokers and the service speak AMQP over WebSockets.
const WEBSOCKET_PATH: &str = "/$servicebus/websocket";

/// Bytes on the way, as they are or encrypted.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects to an address; with TLS to whoever is called `host`.
pub(crate) async fn connect(
    tls: Option<&Arc<ClientConfig>>,
    host: &str,
    address: &str,
) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(Either::Left(stream)) };
    let wrong = || io::Error::new(ErrorKind::InvalidInput, format!("{host:?} is no host's name"));
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
    let connector = TlsConnector::from(Arc::clone(config));
    Ok(Either::Right(Box::new(connector.connect(name, stream).await?)))
}

/// Connects to an address of the broker.
pub(super) async fn dial(server: &Server, address: &str) -> Result<Stream, Failure> {
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::Unreachable(format!("cannot connect to {address}: {why}"))
    };
    let connecting = connect(server.tls.as_ref(), &server.host, address);
    let timed = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    let connected =
        timed.map_err(|_elapsed| unreachable(&format!("no answer within {CONNECT_WITHIN:?}")))?;
    connected.map_err(|error| unreachable(&error))
}

/// See the module.
pub(crate) enum Carrier {
    Tcp(TcpStream),
    Tls(Polled<Box<TlsStream<TcpStream>>>),
    WebSocket(Box<WebSocket<Stream>>),
}

impl Carrier {
    /// Asks for a WebSocket on a stream, as SDKs do.
    pub(crate) async fn websocket(
        stream: Stream,
        host: &str,
        frame_size_max: u32,
    ) -> io::Result<Self> {
        let address = format!("ws://{host}{WEBSOCKET_PATH}");
        let socket = WebSocket::ask_for(stream, &address, frame_size_max).await?;
        Ok(Self::WebSocket(Box::new(socket)))
    }
}

impl From<Stream> for Carrier {
    fn from(stream: Stream) -> Self {
        match stream {
            Either::Left(stream) => Self::Tcp(stream),
            Either::Right(stream) => Self::Tls(Polled(stream)),
        }
    }
}

impl Transport for Carrier {
    async fn ready(&mut self, buffer: &mut BytesMut, read: bool, write: bool) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(buffer, read, write).await,
            Self::Tls(stream) => stream.ready(buffer, read, write).await,
            Self::WebSocket(socket) => socket.ready(buffer, read, write).await,
        }
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Transport::try_read(stream, buffer),
            Self::Tls(stream) => stream.try_read(buffer),
            Self::WebSocket(socket) => socket.try_read(buffer),
        }
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Transport::try_write(stream, slices),
            Self::Tls(stream) => stream.try_write(slices),
            Self::WebSocket(socket) => socket.try_write(slices),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => stream.try_flush(),
            Self::WebSocket(socket) => socket.try_flush(),
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Tcp(stream) => Transport::close(stream).await,
            Self::Tls(stream) => stream.close().await,
            Self::WebSocket(socket) => socket.close().await,
        }
    }
}
