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
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(2));
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
}
