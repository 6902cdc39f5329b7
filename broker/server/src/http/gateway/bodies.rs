//! What the bodies of requests take of memory and processors, of all requests together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::rest::limits::{BODIES_KIB_MAX, READERS_MAX};

/// See the module. Clones share what there is.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    /// KiB that may be kept at all, and yet.
    kib_max: usize,
    kib: Arc<Semaphore>,
    /// How many more may be understood at once.
    readers: Arc<Semaphore>,
}

impl Bodies {
    /// They have so many octets of memory, of which no more are used than it takes.
    pub(super) fn new(memory: u64) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let kib_max = usize::try_from(memory / 1024).unwrap_or(usize::MAX).min(BODIES_KIB_MAX);
        Self { kib_max, kib: semaphore(kib_max), readers: semaphore(READERS_MAX) }
    }

    /// For one body; it has no room yet.
    pub(super) fn room(&self) -> Room {
        Room { kib_max: self.kib_max, all: Arc::clone(&self.kib), taken: None }
    }

    /// Waits for the turn to understand a large body.
    pub(super) async fn turn(&self) -> Turn {
        let turn = Arc::clone(&self.readers).acquire_owned().await;
        Turn { _turn: turn.expect("nobody closes it") }
    }

    #[cfg(test)]
    pub(super) fn kib_taken(&self) -> usize {
        self.kib_max - self.kib.available_permits()
    }
}

/// What one body has of the room for all. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    kib_max: usize,
    all: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes it large enough for so many octets; false if others have what it takes.
    pub(crate) fn grow_to(&mut self, octets: usize) -> bool {
        // A body that is larger than all room may be there alone.
        let wanted = octets.div_ceil(1024).min(self.kib_max);
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(missing) = wanted.checked_sub(held).filter(|missing| *missing != 0) else {
            return true;
        };
        let Ok(missing) = u32::try_from(missing) else { return false };
        let Ok(more) = Arc::clone(&self.all).try_acquire_many_owned(missing) else { return false };
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

/// The right to understand a large body.
#[derive(Debug)]
pub(crate) struct Turn {
    _turn: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_comes_and_for_no_more() {
        let bodies = Bodies::new(u64::MAX);
        let (mut one, mut other) = (bodies.room(), bodies.room());
        assert!(one.grow_to(0) && one.grow_to(1) && one.grow_to(1024));
        assert_eq!(bodies.kib_taken(), 1);
        assert!(one.grow_to(1025) && one.grow_to(1));
        assert_eq!(bodies.kib_taken(), 2, "it does not shrink");
        let rest = (BODIES_KIB_MAX - 2) * 1024;
        assert!(!other.grow_to(rest + 1));
        assert!(other.grow_to(rest));
        assert!(!one.grow_to(2049) && one.grow_to(2048));
        drop(other);
        assert!(one.grow_to(usize::MAX), "alone");
        drop(one);
        assert_eq!(bodies.kib_taken(), 0);
    }
}
