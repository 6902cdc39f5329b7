//! How backups went.

use prometheus::{IntCounter, IntGauge, Registry};

use super::families;

/// Counted by whoever makes backups.
pub(crate) struct BackupCounts {
    made: IntCounter,
    failed: IntCounter,
    last: IntGauge,
}

impl Default for BackupCounts {
    /// That nobody sees.
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

impl BackupCounts {
    pub(super) fn new(registry: &Registry) -> Self {
        let results = families::BACKUPS.counters(registry);
        let last = families::LAST_BACKUP.gauges(registry);
        Self {
            made: results.with_label_values(&["ok"]),
            failed: results.with_label_values(&["failed"]),
            last: last.with_label_values::<&str>(&[]),
        }
    }

    /// One is whole, as of this moment in milliseconds since 1970.
    pub(crate) fn made(&self, at: u64) {
        self.made.inc();
        self.found(at);
    }

    /// One was there when the broker began.
    pub(crate) fn found(&self, at: u64) {
        self.last.set(i64::try_from(at / 1000).unwrap_or(i64::MAX));
    }

    /// One came to nothing.
    pub(crate) fn failed(&self) {
        self.failed.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_counted_by_how_they_went() {
        let counts = BackupCounts::default();
        counts.found(1_000);
        counts.made(5_000);
        counts.failed();
        counts.failed();
        assert_eq!((counts.made.get(), counts.failed.get(), counts.last.get()), (1, 2, 5));
    }
}
