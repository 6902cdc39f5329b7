//! What the driver leaves for a connection: a list and one wake a turn.
//!
//! A mailbox has no capacity of its own because what can stand in it is bounded elsewhere: a reply
//! for each request the connection has open, and deliveries up to the demand it has announced.

use std::sync::{Arc, Mutex, PoisonError};

use peeklock_core::EffectKind;
use tokio::sync::Notify;

/// One thing for a connection to act on.
#[derive(Debug)]
pub(crate) enum Letter {
    Effect(EffectKind),
    /// The store has failed: what was asked and not answered has an unknown outcome, and all state
    /// of the connection's links is void.
    StoreLost,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mailbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    letters: Mutex<Vec<Letter>>,
    arrived: Notify,
}

impl Mailbox {
    /// Adds a letter without waking the connection; true when it was the first.
    pub(crate) fn put(&self, letter: Letter) -> bool {
        let mut letters = self.shared.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push(letter);
        letters.len() == 1
    }

    pub(crate) fn wake(&self) {
        self.shared.arrived.notify_one();
    }

    /// Takes all letters; `into` must be empty and its buffer becomes the mailbox's next one.
    pub(crate) fn take(&self, into: &mut Vec<Letter>) {
        debug_assert!(into.is_empty(), "letters left from the turn before");
        let mut letters = self.shared.letters.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *letters, into);
    }

    pub(crate) async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }
}
