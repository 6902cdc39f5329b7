//! How fast messages may come.

use std::time::{Duration, Instant};

/// Tokens that come at a rate, and are taken by messages. It may owe as many as come in a second: a
/// sender uses up the credit it was given, and is held back by getting no more.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u32,
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: f64::from(per_second), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let most = f64::from(self.per_second);
        self.tokens = passed.as_secs_f64().mul_add(most, self.tokens).min(most);
        self.at = now;
    }

    /// Takes tokens for so many messages, or none when too many are owed already.
    pub(super) fn take(&mut self, count: u32, now: Instant) -> bool {
        self.refill(now);
        let may = -f64::from(self.per_second) < self.tokens;
        if may {
            self.tokens -= f64::from(count);
        }
        may
    }

    /// The same where no credit says beforehand how many may come: then none are taken while any are owed,
    /// so that those who wait for credit get theirs. Otherwise says how long that will be so.
    pub(super) fn take_uncredited(&mut self, count: u32, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens <= 0.0 {
            return Err(Duration::from_secs_f64(-self.tokens / f64::from(self.per_second)));
        }
        self.tokens -= f64::from(count);
        Ok(())
    }

    /// Whether there is anything left to give credit for.
    pub(super) fn is_above(&mut self, now: Instant) -> bool {
        self.refill(now);
        0.0 < self.tokens
    }

    /// Whether it is as if nothing had come.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        f64::from(self.per_second) <= self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_ends_at_the_rate_and_messages_are_refused_a_second_later() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        assert!((0..10).all(|_| rate.take(1, start)));
        assert!(!rate.is_above(start));
        assert!((0..10).all(|_| rate.take(1, start)), "what came with the credit it had");
        assert!(!rate.take(1, start));
        assert!(rate.take(1, start + Duration::from_millis(100)));
        assert!(!rate.is_above(start + Duration::from_secs(1)));
        assert!(rate.is_above(start + Duration::from_millis(1_200)));
        let later = start + Duration::from_secs(100);
        assert!(rate.take(100, later), "a batch larger than the rate is owed");
        assert!(!rate.take(1, later));
    }
    #[test]
    fn who_needs_no_credit_is_refused_as_soon_as_anything_is_owed() {
        let start = Instant::now();
        let mut rate = Rate::new(10, start);
        assert_eq!(rate.take_uncredited(100, start), Ok(()));
        assert_eq!(rate.take_uncredited(1, start), Err(Duration::from_secs(9)));
        let later = start + Duration::from_secs(8);
        assert_eq!(rate.take_uncredited(1, later), Err(Duration::from_secs(1)), "however long ago");
        assert!(!rate.is_above(later), "nobody has credit meanwhile either");
        assert_eq!(rate.take_uncredited(1, later + Duration::from_millis(1_100)), Ok(()));
    }
}
