//! Streams of random numbers split from one seed, so that one more draw for faults leaves the
//! workload as it was.

pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // FNV-1a of the name keeps the streams of one seed apart.
        let tag = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ tag)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        // SplitMix64: small, fast, good enough, and the same everywhere.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which must not be zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// True once in `often` draws on average; never for zero.
    pub(crate) fn once_in(&mut self, often: u64) -> bool {
        often != 0 && self.below(often) == 0
    }

    /// An index into so many things.
    pub(crate) fn index(&mut self, count: u64) -> usize {
        usize::try_from(self.below(count)).expect("things in memory can be counted")
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.index((from.len() as u64).max(1));
        from.get(index).copied()
    }

    /// An index drawn by weight.
    pub(crate) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}
