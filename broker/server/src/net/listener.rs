//! Accepts connections up to the limit and starts a task for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span, warn};

use super::network::AllowedNetworks;
use super::tls::Tls;
use super::visit::{Counted, Visit};
use crate::metrics::{Limit, Metrics};
use crate::namespaces::Namespaces;

/// Pause after a failed accept (usually: out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections over the limit are told so in what they speak. Any more are dropped at once, so that
/// refusing costs no more than serving.
const REFUSED_POLITELY_MAX: usize = 64;

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) namespaces: Namespaces,
    pub(crate) tls: Option<Arc<Tls>>,
    /// From where peers may connect at all.
    pub(crate) networks: Arc<AllowedNetworks>,
    /// Whether peers on other machines may go without TLS.
    pub(crate) plain_text: bool,
    pub(crate) connections_max: usize,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) next_id: Arc<AtomicU64>,
    pub(crate) handshake_within: Duration,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) tasks: TaskTracker,
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves one listener until the broker stops.
pub(crate) async fn serve(listener: TcpListener, mut door: Door) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = door.stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => door.admit(stream, peer),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Door {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        // Before anything is read, and before it counts for anything.
        if !self.networks.allow(peer.ip()) {
            self.metrics.limit_hit(Limit::AllowedNetworks);
            info!(%peer, "the peer is in no allowed network, it is cut off");
            return;
        }
        let (counted, open) = Counted::one(&self.connections);
        let over_limit = self.connections_max < open;
        if over_limit {
            self.metrics.limit_hit(Limit::Connections);
            warn!(%peer, limit = self.connections_max, "too many connections, one is refused");
        }
        if self.connections_max + REFUSED_POLITELY_MAX < open {
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%peer, %error, "a socket could not be set up");
            return;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let visit = Visit {
            id,
            address: peer.ip(),
            namespaces: self.namespaces.clone(),
            tls: self.tls.clone(),
            // By where the peer is: the address of a listener tells nothing of that.
            plain_text: self.plain_text || peer.ip().to_canonical().is_loopback(),
            over_limit,
            handshake_within: self.handshake_within,
            stop: self.stop.clone(),
            _counted: counted,
        };
        let span = info_span!("connection", id, %peer, identity = tracing::field::Empty);
        self.tasks.spawn(visit.serve(stream).instrument(span));
    }
}
