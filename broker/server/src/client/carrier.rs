//! What carries a connection to the broker: TCP, or TLS over it.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::failure::Failure;
use super::server::Server;
use crate::net::transport::{Polled, Ready, Transport};

/// How long a broker may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// See the module.
pub(super) enum Carrier {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to an address of the broker.
pub(super) async fn dial(server: &Server, address: &str) -> Result<Carrier, Failure> {
    let unreachable = |why: &dyn std::fmt::Display| {
        Failure::Unreachable(format!("cannot connect to {address}: {why}"))
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let Some(connector) = &server.tls else { return Ok(Carrier::Tcp(stream)) };
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| Failure::Argument(format!("{:?} is no name of a host", server.host)))?;
        let stream = connector.connect(name, stream).await.map_err(|error| unreachable(&error))?;
        Ok(Carrier::Tls(Box::new(stream)))
    };
    let timed = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
    timed.map_err(|_elapsed| unreachable(&format!("no answer within {CONNECT_WITHIN:?}")))?
}

impl Transport for Carrier {
    async fn ready(&mut self, buffer: &mut BytesMut, read: bool, write: bool) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(buffer, read, write).await,
            Self::Tls(stream) => Polled(&mut **stream).ready(buffer, read, write).await,
        }
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Transport::try_read(stream, buffer),
            Self::Tls(stream) => Polled(&mut **stream).try_read(buffer),
        }
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => Transport::try_write(stream, slices),
            Self::Tls(stream) => Polled(&mut **stream).try_write(slices),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => Polled(&mut **stream).try_flush(),
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Tcp(stream) => Transport::close(stream).await,
            Self::Tls(stream) => Polled(&mut **stream).close().await,
        }
    }
}
