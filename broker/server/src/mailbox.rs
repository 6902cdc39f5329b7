//! What the driver leaves for a connection: a list and one wake a turn.
//!
//! A mailbox has no capacity of its own because what can stand in it is bounded elsewhere: a reply
//! for each request the connection has open, and deliveries up to the demand it has announced.

use std::sync::{Arc, Mutex, PoisonError};

use peeklock_core::{EffectKind, Origin};
use tokio::sync::Notify;

use crate::faults::Sudden;

/// One thing for a connection to act on.
#[derive(Debug)]
pub(crate) enum Letter {
    Effect(EffectKind),
    /// The answer to [`crate::driver::Input::CatchUp`].
    CaughtUp {
        to: Origin,
    },
    /// Something goes wrong now, because a test wants it.
    Fault(Sudden),
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn has_arrived(mailbox: &Mailbox) -> bool {
        pin!(mailbox.arrived()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn only_the_first_letter_asks_for_a_wake() {
        let mailbox = Mailbox::default();
        let mut letters = Vec::new();
        for _ in 0..2 {
            assert!(mailbox.put(Letter::StoreLost));
            assert!(!mailbox.put(Letter::StoreLost));
            mailbox.take(&mut letters);
            assert_eq!(letters.drain(..).count(), 2);
        }
        mailbox.take(&mut letters);
        assert!(letters.is_empty());
    }

    #[test]
    fn a_wake_is_kept_for_a_connection_that_is_busy_and_counts_once() {
        let mailbox = Mailbox::default();
        mailbox.put(Letter::StoreLost);
        assert!(!has_arrived(&mailbox));
        mailbox.wake();
        mailbox.wake();
        assert!(has_arrived(&mailbox));
        assert!(!has_arrived(&mailbox));
    }
}
