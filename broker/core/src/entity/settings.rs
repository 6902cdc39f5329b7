//! What a queue is told to be like. Numbers and bounds are those of Service Bus Premium.

use crate::error::Error;
use crate::time::Span;

/// How a queue behaves. Its dead-letter subqueue follows the same settings, as far as they concern it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueSettings {
    /// How long a peek-lock lasts unless renewed.
    pub lock_duration: Span,
    /// After how many failed deliveries a message moves to the dead-letter subqueue.
    pub attempts_max: u32,
    /// Octets the queue and its dead-letter subqueue may hold together.
    pub entity_bytes_max: u64,
    /// Octets one message may have, sections and all.
    pub message_bytes_max: u64,
}

impl QueueSettings {
    /// Service Bus takes locks from five seconds; shorter ones are useful to tests of clients.
    pub const LOCK_DURATION_MIN: Span = Span(100);
    /// Five minutes, as in Service Bus.
    pub const LOCK_DURATION_MAX: Span = Span::from_secs(300);
    /// The largest message Service Bus Premium can be set to take.
    pub const MESSAGE_BYTES_CEILING: u64 = 100 * 1024 * 1024;

    /// Says which bound is broken, if one is.
    pub fn validate(&self) -> Result<(), Error> {
        if self.lock_duration < Self::LOCK_DURATION_MIN
            || Self::LOCK_DURATION_MAX < self.lock_duration
        {
            return Err(Error::InvalidArgument("The lock duration must be 0.1 to 300 seconds."));
        }
        if self.attempts_max == 0 || i32::try_from(self.attempts_max).is_err() {
            return Err(Error::InvalidArgument("The maximum delivery count must be at least 1."));
        }
        if self.message_bytes_max == 0 || Self::MESSAGE_BYTES_CEILING < self.message_bytes_max {
            return Err(Error::InvalidArgument("The maximum message size must be 1 B to 100 MiB."));
        }
        if self.entity_bytes_max == 0 {
            return Err(Error::InvalidArgument("The maximum entity size must not be zero."));
        }
        Ok(())
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            lock_duration: Span::from_secs(60),
            attempts_max: 10,
            entity_bytes_max: 80 * 1024 * 1024 * 1024,
            message_bytes_max: 1024 * 1024,
        }
    }
}

/// How much the broker may hold in memory and in flight. The defaults suit two cores and 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerSettings {
    /// Octets of messages and their bookkeeping in memory, over all entities. Beyond it every entity
    /// still gets one page at a time. 128 MiB: the consumer of a queue that is not far behind never
    /// reads the store, and a backlog of any size stays below the memory we promise.
    pub cache_bytes_max: usize,
    /// Octets of ready messages one entity keeps in memory. An eighth of the cache, so that one
    /// entity with a backlog cannot push out all others.
    pub window_bytes_max: usize,
    /// Messages one entity keeps in memory, locked ones included: at some 200 octets of bookkeeping
    /// each, 13 MB. Receivers that lock this many get no more until they settle some.
    pub window_count_max: usize,
    /// Rows of a page. 1024 rows of 1 KiB are about 10 ms of the fastest consumer: several reads long.
    pub page_rows_max: usize,
    /// Octets of a page: what 1024 messages of 1 KiB need.
    pub page_bytes_max: usize,
    /// Receivers one entity serves: the number of concurrent receives Service Bus allows.
    pub receivers_max: usize,
    /// Lock tokens in one request: a lock on each of 4096 messages is more than any client holds.
    pub tokens_max: usize,
    /// Locks that expire in one turn, so that a turn stays short; the rest follow at once.
    pub expiries_max: usize,
    /// Messages one browse returns, whatever was asked for.
    pub browse_count_max: u32,
    /// Octets of messages one browse returns, but for the first. It is one message to the client.
    pub browse_bytes_max: usize,
    /// Octets of bodies read for one request to settle several locks, but for the first.
    pub settle_bytes_max: u64,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        BrokerSettings {
            cache_bytes_max: 128 * 1024 * 1024,
            window_bytes_max: 16 * 1024 * 1024,
            window_count_max: 65_536,
            page_rows_max: 1024,
            page_bytes_max: 1024 * 1024,
            receivers_max: 5000,
            tokens_max: 4096,
            expiries_max: 1000,
            browse_count_max: 1000,
            browse_bytes_max: 4 * 1024 * 1024,
            settle_bytes_max: 16 * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_bounds() {
        assert_eq!(QueueSettings::default().validate(), Ok(()));
    }

    #[test]
    fn bounds_are_checked() {
        let settings = QueueSettings::default();
        let broken = [
            QueueSettings { lock_duration: Span(99), ..settings },
            QueueSettings { lock_duration: Span(300_001), ..settings },
            QueueSettings { attempts_max: 0, ..settings },
            QueueSettings { attempts_max: 1 << 31, ..settings },
            QueueSettings { message_bytes_max: 0, ..settings },
            QueueSettings { message_bytes_max: (100 << 20) + 1, ..settings },
            QueueSettings { entity_bytes_max: 0, ..settings },
        ];
        for settings in broken {
            assert!(matches!(settings.validate(), Err(Error::InvalidArgument(_))), "{settings:?}");
        }
    }
}
