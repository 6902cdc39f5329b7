//! The targets on generated input: enough of it to have seen everything there is to see.

use super::*;

/// Octets that are the same on every machine (xorshift).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[2]
    })
    .take(len)
    .collect()
}

fn run(target: fn(&[u8]) -> Seen, seeds: u64, len: usize) -> Seen {
    let mut total = Seen::default();
    for seed in 0..seeds {
        let seen = std::panic::catch_unwind(|| target(&noise(seed, len)));
        let seen = seen.unwrap_or_else(|_| panic!("seed {seed} of {len} octets"));
        total.opened += seen.opened;
        total.deliveries += seen.deliveries;
        total.long += seen.long;
        total.settled += seen.settled;
        total.drained += seen.drained;
        total.detached += seen.detached;
        total.ended += seen.ended;
        total.stale += seen.stale;
        total.fatal += seen.fatal;
    }
    total
}

#[test]
fn a_peer_without_manners_breaks_nothing() {
    let seen = run(connection, 5000, 1500);
    assert!(4000 < seen.opened, "{seen:?}");
    assert!(1000 < seen.deliveries.min(seen.stale), "{seen:?}");
    assert!(100 < seen.detached.min(seen.ended).min(seen.fatal), "{seen:?}");
    assert!(20 < seen.settled.min(seen.drained), "{seen:?}");
}

#[test]
fn two_ends_understand_each_other_however_the_octets_are_cut() {
    let seen = run(pair, 300, 6000);
    assert_eq!(seen.opened, 600);
    assert!(1000 < seen.deliveries.min(seen.settled).min(seen.long), "{seen:?}");
    assert!(100 < seen.detached.min(seen.ended).min(seen.drained), "{seen:?}");
}
