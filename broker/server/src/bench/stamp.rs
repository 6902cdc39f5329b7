//! The time stamp at the front of each body: which run, which sender, which message, and when it
//! was due. It is what end-to-end latency and the search for lost and repeated messages rest on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Marks a body as ours; a queue may hold messages of other programs.
const MAGIC: [u8; 4] = *b"PLKB";

/// What the front of a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Messages of an earlier run may still be in the queue; they have another number.
    pub(super) run: u64,
    pub(super) sender: u32,
    /// Counts from 0 for each sender.
    pub(super) number: u64,
    /// When the message was to be sent, in nanoseconds on the run's clock.
    pub(super) due: u64,
}

impl Stamp {
    pub(super) const LEN: usize = 32;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.sender.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.run.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..].copy_from_slice(&self.due.to_be_bytes());
        bytes
    }

    /// The stamp at the front of a body, or `None` when the body is not one of ours.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let rest = body.strip_prefix(&MAGIC)?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (run, rest) = rest.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (due, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            run: u64::from_be_bytes(*run),
            sender: u32::from_be_bytes(*sender),
            number: u64::from_be_bytes(*number),
            due: u64::from_be_bytes(*due),
        })
    }
}

/// One clock for all connections of a run: monotonic, with its beginning known in wall time so that
/// a script can relate a moment to one of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    start_wall: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        let start_wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_wall }
    }

    /// A number no other run has: the nanosecond it began, and the process it ran in.
    pub(super) fn run_id(&self) -> u64 {
        let nanoseconds = u64::try_from(self.start_wall.as_nanos()).unwrap_or(u64::MAX);
        nanoseconds ^ u64::from(std::process::id()).rotate_left(48)
    }

    pub(super) fn nanoseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970, with fractions.
    pub(super) fn wall_milliseconds(&self, at: Instant) -> f64 {
        (self.start_wall + at.saturating_duration_since(self.start)).as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_wire() {
        let stamp = Stamp { run: 7, sender: 3, number: u64::MAX, due: 12_345 };
        let mut body = stamp.encode().to_vec();
        body.extend([0; 100]);
        assert_eq!(Stamp::decode(&body), Some(stamp));
    }

    #[test]
    fn foreign_and_short_bodies_have_no_stamp() {
        let stamp = Stamp { run: 7, sender: 3, number: 1, due: 2 }.encode();
        assert_eq!(Stamp::decode(b"hello"), None);
        assert_eq!(Stamp::decode(&[0; 64]), None);
        assert_eq!(Stamp::decode(&stamp[..Stamp::LEN - 1]), None);
    }

    #[test]
    fn the_clock_counts_from_its_start() {
        let clock = Clock::start();
        assert_eq!(clock.nanoseconds(clock.start + Duration::from_micros(5)), 5_000);
        let later = Clock { start: clock.start + Duration::from_micros(5), ..clock };
        assert_eq!(later.nanoseconds(clock.start), 0);
    }
}
