//! Whether a send and a receive succeed: a message of the broker's own goes through the core and the
//! store of a namespace and comes back, on disk each time.
//!
//! It goes by way of a queue that no list shows ([`EntityPath::probe`]), which is made when it is
//! missing and goes when nobody has asked for a day.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peeklock_core::message::IncomingMessage;
use peeklock_core::{Command, EntityId, EntityPath, Error, Reply};
use peeklock_protocol::message::{Body, Message};
use peeklock_storage::Store;
use smallvec::smallvec;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::http::gateway::{Gateway, NotReceived};

/// A message that takes longer than that to come back is no help to anybody who waits for it.
const WITHIN: Duration = Duration::from_secs(2);

/// For how long an answer is good. Whoever asks more often costs no more.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A bad one is looked at again sooner: those who wait for the broker wait for that.
const BAD_FOR: Duration = Duration::from_millis(200);

/// Messages of probes that were given up, which are taken out of the way at once.
const LEFT_BEHIND_MAX: usize = 32;

/// Why a send or a receive would not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unready {
    #[error("sends are not taken: free disk space is below the reserve")]
    DiskFull,
    #[error("a message was not sent: {0}")]
    NotSent(Error),
    #[error("a message was not received: {0}")]
    NotReceived(Error),
    #[error("a message that was sent did not come back")]
    Lost,
    #[error("a message did not come back in time")]
    Late,
}

/// See the module. Clones share what was found out.
#[derive(Clone)]
pub(crate) struct Probe {
    gateway: Gateway,
    store: Arc<dyn Store>,
    last: Arc<Mutex<Option<Looked>>>,
}

struct Looked {
    at: Instant,
    outcome: Result<(), Unready>,
}

impl Looked {
    fn is_good(&self) -> bool {
        let span = if self.outcome.is_ok() { GOOD_FOR } else { BAD_FOR };
        self.at.elapsed() < span
    }
}

impl Probe {
    pub(crate) fn new(gateway: Gateway, store: Arc<dyn Store>) -> Self {
        Self { gateway, store, last: Arc::default() }
    }

    /// Sends and receives, unless somebody has just done that. However many ask, one message at a time
    /// is under way.
    pub(crate) async fn outcome(&self) -> Result<(), Unready> {
        // Costs nothing, and is known at once.
        if !self.store.sends_allowed() {
            return Err(Unready::DiskFull);
        }
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.is_good()) {
            return last.outcome.clone();
        }
        let outcome = tokio::time::timeout(WITHIN, self.send_and_receive()).await;
        let outcome = outcome.unwrap_or(Err(Unready::Late));
        let was_good = last.as_ref().is_none_or(|last| last.outcome.is_ok());
        match &outcome {
            Err(unready) if was_good => warn!(reason = %unready, "the broker is not ready"),
            Ok(()) if !was_good => info!("the broker is ready again"),
            Ok(()) | Err(_) => {}
        }
        *last = Some(Looked { at: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn send_and_receive(&self) -> Result<(), Unready> {
        let entity = self.entity().await.map_err(Unready::NotSent)?;
        // No two are the same, so an older one is not taken for this one.
        let mark: [u8; 16] = rand::random();
        let body = Body::Data(vec![Bytes::copy_from_slice(&mark)]);
        let sent = Message { body, ..Message::default() }.to_bytes();
        let message = IncomingMessage::from_wire(&sent).map_err(|_| Unready::Lost)?;
        let messages = smallvec![message];
        let send = |origin| Command::Send { origin, entity, messages, transaction: None };
        self.gateway.ask(send).await.map_err(Unready::NotSent)?;
        for _ in 0..LEFT_BEHIND_MAX {
            let received = self.gateway.receive_own(EntityPath::probe()).await;
            let held = received.map_err(|error| match error {
                NotReceived::Refused(error) | NotReceived::Ended(error) => {
                    Unready::NotReceived(error)
                }
            })?;
            let Some(held) = held else { return Err(Unready::Lost) };
            let delivery = self.gateway.complete(held).await.map_err(Unready::NotReceived)?;
            if delivery.message.bytes() == &sent[..] {
                return Ok(());
            }
        }
        Err(Unready::Lost)
    }

    /// The queue, which is made when it is missing.
    async fn entity(&self) -> Result<EntityId, Error> {
        let path = EntityPath::probe();
        let opened = self.gateway.ask(|origin| Command::OpenSender { origin, path }).await;
        let opened = match opened {
            Err(Error::EntityNotFound(_)) => {
                let (path, is_topic, receiver) = (EntityPath::probe(), false, None);
                let make = |origin| Command::OpenTemporary { origin, path, is_topic, receiver };
                self.gateway.ask(make).await?
            }
            opened => opened?,
        };
        match opened {
            Reply::SenderOpened { entity, .. } => Ok(entity),
            _ => Err(Error::StoreUnavailable),
        }
    }
}
