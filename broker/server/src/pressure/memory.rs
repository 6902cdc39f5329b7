//! What connections hold in memory, all of them together, and when that is too much.
//!
//! Each connection says at the end of a turn how much it holds: parts of messages, messages that the
//! core has not answered, and what is not written yet. While all of them hold less than their share
//! nobody is held back. Above it those are who hold more than a fair part of it; near the ceiling of
//! the process, whoever sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use super::Shares;
use super::machine;
use super::shares::Part;

/// A change below it is not told to the others: a connection that sends small messages then touches
/// nothing that others touch. Where there are thousands of connections it is a quarter of a fair part.
const STEP_MAX: usize = 16 * 1024;

/// What every connection may hold however many there are: some small messages.
const FAIR_MIN: usize = 4 * 1024;

/// How often the memory of the process is looked at. It takes some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where the process is said to have too much memory, of its ceiling. What is on its way to the store
/// by then is copied once more, and some more comes in before anybody looks.
const OVER: Part = Part(7, 8);

/// See the module.
pub(crate) struct Memory {
    shares: Shares,
    /// By all connections.
    held: AtomicUsize,
    connections: AtomicUsize,
    /// The process has about as much as its ceiling.
    over: AtomicBool,
}

impl Memory {
    pub(crate) fn new(shares: Shares) -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Self { shares, held: zero(), connections: zero(), over: AtomicBool::new(false) })
    }

    /// For one more connection.
    pub(crate) fn holding(self: &Arc<Self>) -> Holding {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Holding { memory: Arc::clone(self), bytes: 0 }
    }

    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Octets that all connections hold.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether connections hold all they may.
    pub(crate) fn is_short(&self) -> bool {
        self.is_over() || self.shares.connections <= self.held() as u64
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn fair(&self) -> usize {
        let share = usize::try_from(self.shares.connections).unwrap_or(usize::MAX);
        (share / self.connections.load(Ordering::Relaxed).max(1)).max(FAIR_MIN)
    }

    /// Notes how much memory the process has.
    pub(crate) fn note_resident(&self, resident: u64) {
        self.over.store(OVER.of(self.shares.ceiling) < resident, Ordering::Relaxed);
    }
}

/// What one connection holds. It is given back when this is dropped.
pub(crate) struct Holding {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Holding {
    /// Says how much it is now.
    pub(crate) fn set(&mut self, bytes: usize) {
        let change = bytes.abs_diff(self.bytes);
        if change == 0 || (bytes != 0 && change < STEP_MAX && change < self.memory.fair() / 4) {
            return;
        }
        if self.bytes < bytes {
            self.memory.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Whether the connection may take in more.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_with(|| self.bytes)
    }

    /// Whether it may if it holds so much, which is only asked when it matters.
    pub(crate) fn has_room_with(&self, bytes: impl FnOnce() -> usize) -> bool {
        !self.memory.is_short() || (!self.memory.is_over() && bytes() <= self.memory.fair())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at the memory of the process until the broker stops, and says when it runs short and when that
/// is over. Blocks: on a thread of its own it is heard while all others are busy, which is when it counts.
pub(crate) fn watch(memory: &Memory, stop: &watch::Receiver<bool>) {
    let mut was_short = false;
    while !*stop.borrow() {
        std::thread::sleep(LOOK_EVERY);
        let resident = machine::resident();
        if let Some(resident) = resident {
            memory.note_resident(resident);
        }
        let (is_short, held) = (memory.is_short(), memory.held());
        let Shares { ceiling, connections: share, .. } = memory.shares;
        if is_short && !was_short {
            warn!(
                limit = "memory",
                held, share, resident, ceiling, "memory runs short, senders are held back"
            );
        } else if was_short && !is_short {
            info!(limit = "memory", held, share, resident, ceiling, "there is memory again");
        }
        was_short = is_short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 3 << 20;

    fn memory() -> Arc<Memory> {
        let memory = Memory::new(Shares::of(10 << 20));
        assert!(usize::try_from(memory.shares.connections).unwrap().abs_diff(SHARE) < 1024);
        memory
    }

    #[test]
    fn who_holds_more_than_a_fair_part_is_held_back_once_it_is_all_taken() {
        let memory = memory();
        let mut others: Vec<_> = (0..8).map(|_| memory.holding()).collect();
        let mut large = memory.holding();
        large.set(SHARE / 2);
        assert!(large.has_room(), "nobody needs it");
        for one in &mut others {
            one.set(SHARE / 12);
        }
        assert!(memory.is_short());
        assert!(!large.has_room());
        assert!(others.iter().all(Holding::has_room));
        large.set(0);
        assert!(!memory.is_short() && large.has_room());
    }

    #[test]
    fn near_the_ceiling_nobody_takes_in_more() {
        let memory = memory();
        let small = memory.holding();
        assert!(small.has_room());
        memory.note_resident(10 << 20);
        assert!(memory.is_short() && !small.has_room());
        memory.note_resident(8 << 20);
        assert!(small.has_room());
    }

    #[test]
    fn what_is_held_is_given_back_and_small_changes_are_not_told() {
        let memory = memory();
        let (mut one, mut other) = (memory.holding(), memory.holding());
        one.set(STEP_MAX);
        other.set(STEP_MAX * 2);
        assert_eq!(memory.held(), STEP_MAX * 3);
        one.set(STEP_MAX + 1);
        assert_eq!(memory.held(), STEP_MAX * 3);
        one.set(0);
        assert_eq!(memory.held(), STEP_MAX * 2);
        drop(other);
        assert_eq!((memory.held(), memory.connections.load(Ordering::Relaxed)), (0, 1));
    }
}
