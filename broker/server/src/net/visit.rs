//! One connection from its first byte on: finds out what it speaks, and hands it to whoever speaks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use super::connection;
use super::sniff::{self, Protocol};
use crate::amqp::Endpoint;
use crate::http::{self, HttpContext, HttpPeer};

/// A connection that was let in.
pub(super) struct Visit {
    pub(super) id: u64,
    pub(super) http: HttpContext,
    pub(super) routes: Router,
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
        let first = tokio::select! {
            first = tokio::time::timeout(self.handshake_within, sniff::peek(&stream)) => first,
            _ = self.stop.wait_for(|stop| *stop) => return,
        };
        match first {
            Ok(Ok(Some(Protocol::Amqp))) => self.amqp(stream).await,
            Ok(Ok(Some(Protocol::Http))) => self.http(stream).await,
            Ok(Ok(Some(Protocol::Tls))) => debug!("the peer speaks TLS, there is no certificate"),
            Ok(Ok(None)) => debug!("the peer said nothing and left"),
            Ok(Err(error)) => debug!(%error, "the connection was lost"),
            Err(_) => debug!("the peer said nothing in time"),
        }
    }

    async fn amqp(self, stream: TcpStream) {
        let settings = Arc::clone(&self.http.settings);
        let endpoint = Endpoint::new(self.id, settings, self.over_limit);
        connection::run(stream, endpoint, self.http.shard.clone(), self.stop.clone()).await;
    }

    async fn http(self, stream: TcpStream) {
        let peer = HttpPeer { over_limit: self.over_limit };
        let (routes, stop) = (self.routes.clone(), self.stop.clone());
        http::serve(stream, routes, peer, self.handshake_within, stop).await;
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
