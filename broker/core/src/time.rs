//! Moments and spans as plain numbers. There is no way to read a clock here: the time comes in with
//! every call, so that a test, a simulation or a replica decides what time it is.

use std::fmt;
use std::time::Duration;

/// A moment, in milliseconds since 1970 in UTC: the resolution of an AMQP timestamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment a span later, or the last one there is.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Timestamp(self.0.saturating_add(span.0))
    }

    /// How long ago an earlier moment was; nothing if it is not earlier.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The number as AMQP writes it, which is signed.
    pub fn as_amqp(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(pub u64);

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Span(seconds.saturating_mul(1000))
    }

    /// The same span for those who sleep.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_wrap() {
        assert_eq!(Timestamp(u64::MAX).plus(Span(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(7)), Span(0));
        assert_eq!(Timestamp(7).since(Timestamp(5)), Span(2));
        assert_eq!(Timestamp(u64::MAX).as_amqp(), i64::MAX);
        assert_eq!(Span::from_secs(60).as_duration(), Duration::from_mins(1));
    }
}
