//! The server's clock: the only place that reads the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peeklock_core::Timestamp;

/// For texts that people read; everything that decides takes [`now`].
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

pub(crate) fn now() -> Timestamp {
    let since = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long until `moment`; zero when it is past.
pub(crate) fn until(moment: Timestamp) -> Duration {
    Duration::from_millis(moment.0.saturating_sub(now().0))
}
