//! What an operator can ask of the process as a whole, and what those who ask have to know of it.

use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use crate::reload::Reloaded;
use crate::telemetry::LogLevel;

/// Reloads that may wait; whoever comes when there are more waits to ask.
const RELOADS_MAX: usize = 4;

/// Somebody who wants the configuration read again, and to hear what came of it.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Why the configuration stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReloaded {
    #[error("there is no configuration file to read again")]
    NoFile,
    #[error("{0}")]
    Wrong(String),
    #[error("the broker is stopping")]
    Stopping,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Life {
    level: LogLevel,
    /// Turns true once.
    draining: watch::Sender<bool>,
    reloads: mpsc::Sender<ReloadRequest>,
}

impl Life {
    /// Gives also those who ask for a reload, for whoever does that.
    pub(crate) fn new(level: LogLevel) -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (reloads, asked) = mpsc::channel(RELOADS_MAX);
        (Self { level, draining: watch::Sender::new(false), reloads }, asked)
    }

    pub(crate) fn log_level(&self) -> &LogLevel {
        &self.level
    }

    /// Whether the broker is about to stop: nobody should be sent here any more.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Makes the broker drain and stop; false if it does already.
    pub(crate) fn drain(&self) -> bool {
        let is_news = self.draining.send_if_modified(|draining| !std::mem::replace(draining, true));
        if is_news {
            info!("the broker drains: it is not ready any more, and stops after that");
        }
        is_news
    }

    /// Waits until somebody has asked for that.
    pub(crate) async fn drained(&self) {
        // We hold the sender, so there is always somebody who could ask.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// Reads the configuration again.
    pub(crate) async fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let (done, came_of_it) = oneshot::channel();
        self.reloads.send(done).await.map_err(|_| NotReloaded::Stopping)?;
        came_of_it.await.unwrap_or(Err(NotReloaded::Stopping))
    }
}
