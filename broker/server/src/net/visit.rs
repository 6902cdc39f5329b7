//! One connection from its first byte on: finds out what it speaks, and hands it to whoever speaks it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::{debug, info};

use super::connection;
use super::sniff::{self, Protocol};
use super::tls::Tls;
use super::transport::{Begun, Polled, Transport};
use super::websocket::WebSocket;
use crate::amqp::Endpoint;
use crate::auth::Certificate;
use crate::http::{self, HttpPeer, Routes};
use crate::metrics::{Limit, Metrics, Protocol as Spoken};
use crate::namespaces::{Namespaces, Place};

/// Room for the first bytes inside TLS; the head of an ordinary request fits.
const FIRST_BYTES: usize = 2 * 1024;

/// A connection that was let in.
pub(super) struct Visit {
    pub(super) id: u64,
    pub(super) address: IpAddr,
    pub(super) namespaces: Namespaces,
    pub(super) tls: Option<Arc<Tls>>,
    /// Whether it may go without TLS.
    pub(super) plain_text: bool,
    /// There are too many connections, so this one is only told that.
    pub(super) over_limit: bool,
    /// For its first byte, and for each handshake after it.
    pub(super) handshake_within: Duration,
    pub(super) stop: watch::Receiver<bool>,
    /// Counts the connection for as long as it lives.
    pub(super) _counted: Counted,
}

impl Visit {
    /// Serves the connection to its end.
    pub(super) async fn serve(mut self, stream: TcpStream) {
        let Some(protocol) = self.in_time("a first byte", sniff::peek(&stream)).await else {
            return;
        };
        match (protocol, self.tls.clone()) {
            (None, _) => debug!("the peer said nothing and left"),
            (Some(Protocol::Tls), Some(tls)) => self.secure(stream, &tls).await,
            (Some(Protocol::Tls), None) => info!("the peer wants TLS, and there is no certificate"),
            (Some(Protocol::Amqp), _) if self.plain_text => {
                self.amqp(Spoken::Amqp, stream, BytesMut::new(), None, None).await;
            }
            (Some(Protocol::Amqp), _) => info!("the peer does not speak TLS, it is cut off"),
            (Some(Protocol::Http), _) => {
                let routes = if self.plain_text {
                    Routes::Of(self.namespaces.clone())
                } else {
                    http::refusing(http::NO_PLAIN_TEXT)
                };
                self.http(stream, routes, false).await;
            }
        }
    }

    async fn secure(mut self, stream: TcpStream, tls: &Tls) {
        let Some(mut stream) = self.in_time("a TLS handshake", tls.accept(stream)).await else {
            return;
        };
        let (_, session) = stream.get_ref();
        // The first one is the client's own. It was verified in the handshake.
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = match certificate.map(|der| Certificate::read(der)).transpose() {
            Ok(certificate) => certificate,
            Err(error) => {
                info!(%error, "the certificate of the peer cannot be read, it is cut off");
                return;
            }
        };
        let host = session.server_name().map(str::to_owned);
        let mut begun = BytesMut::with_capacity(FIRST_BYTES);
        if self.in_time("a first byte", stream.read_buf(&mut begun)).await.is_none() {
            return;
        }
        match begun.first().map(|first| Protocol::of(*first)) {
            Some(Protocol::Amqp) => {
                self.amqp(Spoken::AmqpTls, Polled(stream), begun, certificate, host).await;
            }
            Some(Protocol::Http) => {
                let routes = Routes::Of(self.namespaces.clone());
                self.http(Begun::new(begun, stream), routes, true).await;
            }
            Some(Protocol::Tls) => info!("the peer speaks TLS inside TLS, it is cut off"),
            None => debug!("the peer said nothing and left"),
        }
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.namespaces.default().settings().metrics
    }

    async fn amqp(
        &self,
        spoken: Spoken,
        transport: impl Transport,
        begun: BytesMut,
        certificate: Option<Certificate>,
        host: Option<String>,
    ) {
        let _counted = self.metrics().connection(spoken);
        let place = Place::new(self.namespaces.clone(), host.as_deref());
        let settings = Arc::clone(place.namespace().settings());
        let gone = place.namespace().gone();
        let endpoint = Endpoint::new(self.id, settings, self.over_limit, certificate);
        let endpoint = endpoint.from(self.address).at(place);
        connection::run(transport, begun, endpoint, gone).await;
    }

    async fn http<S>(&self, stream: S, routes: Routes, secure: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let routes =
            if self.over_limit { http::refusing(http::TOO_MANY_CONNECTIONS) } else { routes };
        let peer = HttpPeer::new(secure, self.address, self.stop.clone());
        let within = self.handshake_within;
        let spoken = if secure { Spoken::Https } else { Spoken::Http };
        let counted = self.metrics().connection(spoken);
        let upgraded = http::serve(stream, routes, peer, within, self.stop.clone()).await;
        drop(counted);
        if let Some((upgraded, host)) = upgraded {
            let frame_size_max = self.namespaces.default().settings().engine.max_frame_size;
            let socket = WebSocket::new(TokioIo::new(upgraded), frame_size_max).await;
            let spoken = if secure { Spoken::WebsocketTls } else { Spoken::Websocket };
            self.amqp(spoken, socket, BytesMut::new(), None, Some(host)).await;
        }
    }

    /// Waits for a step of the peer, not for ever, and not when the broker stops.
    async fn in_time<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = io::Result<T>>,
    ) -> Option<T> {
        let done = tokio::select! {
            done = tokio::time::timeout(self.handshake_within, work) => done,
            _ = self.stop.wait_for(|stop| *stop) => return None,
        };
        match done {
            Ok(Ok(done)) => return Some(done),
            // What a client has against our certificate stands here.
            Ok(Err(error)) => info!(%error, waiting_for = step, "the connection was lost"),
            Err(_) => {
                self.metrics().limit_hit(Limit::HandshakeTimeout);
                debug!(waiting_for = step, "the peer took too long, it is cut off");
            }
        }
        None
    }
}

/// Counts a connection for as long as it lives.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more; says how many there are now.
    pub(super) fn one(open: &Arc<AtomicUsize>) -> (Self, usize) {
        let now = open.fetch_add(1, Ordering::AcqRel) + 1;
        (Self(Arc::clone(open)), now)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
