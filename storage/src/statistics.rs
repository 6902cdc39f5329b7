//! Counting by size, for whoever wants to know how a store is doing.
//!
//! It knows nothing of how its numbers are shown.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts values by size. Bounds are fixed beforehand, so counting is a search among a dozen numbers
/// and two additions, and takes no lock.
#[derive(Debug)]
pub struct Histogram {
    /// The largest value of each bucket but the last, which has the rest.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing counted yet. The bounds rise.
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted(), "{bounds:?}");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        self.observe_many(value, 1);
    }

    /// Counts a value that came so many times.
    pub fn observe_many(&self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        self.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
    }

    /// What was counted so far. Somebody may be counting meanwhile: the sum is then a little ahead or
    /// behind.
    pub fn counts(&self) -> Counts {
        Counts {
            bounds: self.bounds,
            each: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// What a store counts while it writes.
#[derive(Debug)]
pub struct Statistics {
    /// Microseconds that it took to write and sync a group of batches.
    pub commit_micros: Histogram,
    /// Batches of a group.
    pub group_batches: Histogram,
    /// Octets of a group.
    pub group_bytes: Histogram,
    /// Writes that failed. Each made it necessary to open the store again.
    pub failures: AtomicU64,
}

impl Statistics {
    /// From a disk with a cache of its own (0.1 ms) to one that hardly works any more: alerts want to
    /// tell 10 ms from 20, and nobody wants to tell 11 ms from 12.
    pub const COMMIT_MICROS: &'static [u64] = &[
        100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
        1_000_000, 2_000_000, 5_000_000, 10_000_000,
    ];
    /// Up to the most that a group may have.
    pub const GROUP_BATCHES: &'static [u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    /// From a settlement to the most that a group of more than one batch may have.
    pub const GROUP_BYTES: &'static [u64] =
        &[256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            commit_micros: Histogram::new(Self::COMMIT_MICROS),
            group_batches: Histogram::new(Self::GROUP_BATCHES),
            group_bytes: Histogram::new(Self::GROUP_BYTES),
            failures: AtomicU64::new(0),
        }
    }
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    bounds: &'static [u64],
    each: Vec<u64>,
    sum: u64,
}

impl Counts {
    /// Nothing, in buckets with these bounds.
    pub fn none(bounds: &'static [u64]) -> Self {
        Self { bounds, each: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// Adds what another one with the same bounds has counted.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (count, more) in self.each.iter_mut().zip(&other.each) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// Each bucket's largest value, and how many values it has that no earlier one has. The last has no
    /// bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(self.each.iter().copied())
    }

    /// All values together.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&[10, 20]);
        for (value, times) in [(0, 1), (10, 2), (11, 3), (20, 0), (21, 4), (1_000, 1)] {
            histogram.observe_many(value, times);
        }
        histogram.observe(20);
        let counts = histogram.counts();
        assert_eq!(counts.buckets().collect::<Vec<_>>(), [(Some(10), 3), (Some(20), 4), (None, 5)]);
        assert_eq!(counts.sum(), 20 + 33 + 84 + 1_000 + 20);
        let mut twice = Counts::none(&[10, 20]);
        twice.add(&counts);
        twice.add(&counts);
        assert_eq!(twice.buckets().map(|(_, count)| count).sum::<u64>(), 24);
        assert_eq!(twice.sum(), 2 * counts.sum());
    }
}
