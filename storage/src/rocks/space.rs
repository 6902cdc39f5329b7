//! Keeps room on the disk: sends stop before it is full, because a full disk stops everything, the
//! removals that would free it included.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::io_error;
use crate::batch::StoreError;

/// How much must stay free for sends to be allowed: the larger of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// Octets.
    pub bytes: u64,
    /// Hundredths of the file system.
    pub percent: u8,
}

impl Reserve {
    /// Two gigabytes are what compaction, a full log and four memtables may need at once; five
    /// hundredths keep a large disk from the last stretch, where file systems become slow.
    pub const DEFAULT: Reserve = Reserve { bytes: 2 << 30, percent: 5 };

    /// Sends go on until the disk is full. For tests, and for disks that hold nothing else.
    pub const NONE: Reserve = Reserve { bytes: 0, percent: 0 };

    fn of(self, total: u64) -> u64 {
        self.bytes.max(total / 100 * u64::from(self.percent))
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Whether sends are allowed, as of the last look.
pub(super) struct SpaceGate {
    dir: PathBuf,
    reserve: Reserve,
    is_open: AtomicBool,
    free: AtomicU64,
    /// What must be left of this file system.
    needed: AtomicU64,
}

impl SpaceGate {
    pub(super) fn new(dir: &Path, reserve: Reserve) -> Result<Self, StoreError> {
        let gate = SpaceGate {
            dir: dir.to_owned(),
            reserve,
            is_open: AtomicBool::new(true),
            free: AtomicU64::new(0),
            needed: AtomicU64::new(0),
        };
        gate.look()?;
        Ok(gate)
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// What must be left for sends to be allowed.
    pub(super) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// Asks the file system. Without an answer the gate is closed: better to take nothing in than to
    /// find the disk full.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        let answer = free_and_total(&self.dir);
        let (free, total) = *answer.as_ref().unwrap_or(&(0, 0));
        let is_open = answer.is_ok() && is_enough(free, self.reserve.of(total), self.is_open());
        self.free.store(free, Ordering::Relaxed);
        self.needed.store(self.reserve.of(total), Ordering::Relaxed);
        self.is_open.store(is_open, Ordering::Relaxed);
        answer.map(|_| ())
    }
}

/// An open gate closes below the reserve; a closed one opens a sixteenth above it, so that it does
/// not flap around the line.
fn is_enough(free: u64, reserve: u64, was_open: bool) -> bool {
    let needed = if was_open { reserve } else { reserve.saturating_add(reserve / 16) };
    needed <= free
}

fn free_and_total(dir: &Path) -> Result<(u64, u64), StoreError> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|error| io_error("ask for the free space of", dir, &error.into()))?;
    let octets = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((octets(stat.f_bavail), octets(stat.f_blocks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_the_larger_of_the_two() {
        let reserve = Reserve { bytes: 1_000, percent: 5 };
        assert_eq!(reserve.of(10_000), 1_000);
        assert_eq!(reserve.of(100_000), 5_000);
        assert_eq!(Reserve::NONE.of(u64::MAX), 0);
    }

    #[test]
    fn a_closed_gate_opens_above_the_line_it_closed_at() {
        assert!(is_enough(1_600, 1_600, true));
        assert!(!is_enough(1_599, 1_600, true));
        assert!(!is_enough(1_699, 1_600, false));
        assert!(is_enough(1_700, 1_600, false));
    }

    #[test]
    fn the_gate_follows_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let gate = SpaceGate::new(dir.path(), Reserve::NONE).unwrap();
        assert!(gate.is_open() && 0 < gate.free());
        let gate = SpaceGate::new(dir.path(), Reserve { bytes: u64::MAX, percent: 0 }).unwrap();
        assert!(!gate.is_open());

        let gate = SpaceGate::new(dir.path(), Reserve::NONE).unwrap();
        dir.close().unwrap();
        assert!(gate.look().is_err());
        assert!(!gate.is_open());
    }
}
