//! Serial numbers after RFC 1982: delivery-ids, transfer-ids and link delivery-counts.

/// A wrapping 32 bit counter. It has no `Ord`: `<` on such numbers is wrong near the wrap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SerialNumber(pub u32);

/// Half of the number space: RFC 1982 leaves the order of two numbers this far apart undefined.
const HALF: u32 = 1 << 31;

impl SerialNumber {
    /// The number `n` steps later.
    #[must_use]
    pub fn advanced_by(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// How many steps lead from `earlier` to `self`.
    pub fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether `self` comes before `other`, each being within half of the space of the other.
    pub fn is_before(self, other: Self) -> bool {
        let distance = other.distance_from(self);
        distance != 0 && distance < HALF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_comparing_go_on_over_the_wrap() {
        let late = SerialNumber(0xffff_fff0);
        let early = late.advanced_by(0x20);
        assert_eq!(early, SerialNumber(0x10));
        assert_eq!(early.distance_from(late), 0x20);
        assert!(late.is_before(early));
        assert!(!early.is_before(late));
        assert!(!late.is_before(late));
    }

    #[test]
    fn numbers_half_the_space_apart_have_no_order() {
        let here = SerialNumber(7);
        let far = here.advanced_by(HALF);
        assert!(!here.is_before(far) && !far.is_before(here));
        assert!(here.is_before(here.advanced_by(HALF - 1)));
    }
}
