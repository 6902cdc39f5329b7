//! Accepts connections up to the limit and starts a task for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span, warn};

use super::connection;
use crate::amqp::{Endpoint, EndpointSettings};
use crate::driver::ShardHandle;

/// Pause after a failed accept (usually: out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections over the limit are told so in AMQP. Any more are dropped at once, so that
/// refusing costs no more than serving.
const REFUSED_POLITELY_MAX: usize = 64;

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) shard: ShardHandle,
    pub(crate) settings: Arc<EndpointSettings>,
    pub(crate) connections_max: usize,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) next_id: Arc<AtomicU64>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) tasks: TaskTracker,
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
        let open = self.connections.fetch_add(1, Ordering::AcqRel) + 1;
        let counted = Counted(Arc::clone(&self.connections));
        let over_limit = self.connections_max < open;
        if over_limit {
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
        let endpoint = Endpoint::new(id, Arc::clone(&self.settings), over_limit);
        let work = connection::run(stream, endpoint, self.shard.clone(), self.stop.clone());
        let span = info_span!("connection", id, %peer);
        self.tasks.spawn(
            async move {
                work.await;
                drop(counted);
            }
            .instrument(span),
        );
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
