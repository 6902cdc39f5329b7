//! Who gets how much of the memory.

use super::machine;

/// The part of the machine's memory that the broker takes if nobody says how much: the rest is for
/// the system, and for its cache of the files the broker writes.
const OF_MACHINE: Part = Part(3, 4);

/// What is assumed of a machine that does not tell how much it has.
const MACHINE: u64 = 2 << 30;

/// Rows that are not in files yet, and blocks of files, of the first store and of all others together.
const STORE: Part = Part(3, 10);

/// Messages and their bookkeeping in the core, at most and if nobody says how much.
const MESSAGES_MAX: Part = Part(3, 10);
const MESSAGES: Part = Part(3, 20);

/// What comes in and goes out on connections. What is left is for what cannot be counted: the code, the
/// lists of entities and links, and what the allocator keeps.
const CONNECTIONS: Part = Part(3, 10);

/// Bodies of HTTP requests, which wait for what is behind them.
const BODIES: Part = Part(1, 10);

/// So many of so many.
#[derive(Clone, Copy)]
pub(super) struct Part(pub(super) u64, pub(super) u64);

impl Part {
    pub(super) const fn of(self, whole: u64) -> u64 {
        whole / self.1 * self.0
    }
}

/// The ceiling of the process and what is below it, in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// All memory of the process.
    pub ceiling: u64,
    /// Of it, for the store's tables in memory and its cache.
    pub store: u64,
    /// The most that messages in the core may have, as a setting.
    pub messages_max: u64,
    /// What they have without one.
    pub messages: u64,
    /// What all connections may hold together.
    pub connections: u64,
    /// What the bodies of HTTP requests may have.
    pub bodies: u64,
}

impl Shares {
    /// The least ceiling: the store alone takes a hundred megabytes while it writes what came at once.
    pub const CEILING_MIN: u64 = 256 << 20;

    /// Shares a ceiling out.
    pub const fn of(ceiling: u64) -> Self {
        Self {
            ceiling,
            store: STORE.of(ceiling),
            messages_max: MESSAGES_MAX.of(ceiling),
            messages: MESSAGES.of(ceiling),
            connections: CONNECTIONS.of(ceiling),
            bodies: BODIES.of(ceiling),
        }
    }

    /// A ceiling that suits this machine, or the container the broker runs in.
    pub fn of_machine() -> Self {
        let ceiling = OF_MACHINE.of(machine::memory().unwrap_or(MACHINE));
        Self::of(ceiling.max(Self::CEILING_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shares_together_leave_something_for_the_rest() {
        for ceiling in [Shares::CEILING_MIN, 4 << 30, 1 << 40] {
            let shares = Shares::of(ceiling);
            let shared = shares.store + shares.messages + shares.connections + shares.bodies;
            assert!(shared <= ceiling / 100 * 86, "{shares:?}");
            assert!(shares.messages <= shares.messages_max, "{shares:?}");
        }
        assert!(Shares::CEILING_MIN <= Shares::of_machine().ceiling);
    }
}
