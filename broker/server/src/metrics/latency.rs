//! How long peers wait: for answers to what they send and settle, and for messages.
//!
//! Nothing here is done for each message but a search among a few bounds. The clock is read once for the
//! commands of one read of a connection, and once a turn. The histograms are those of the store, which count
//! many of a size at once: those of the crate prometheus took a twentieth of a message's processor time.

use std::collections::VecDeque;
use std::sync::Arc;

use peeklock_core::{Command, Delivery, Timestamp};
use peeklock_storage::CommitPosition;
use peeklock_storage::statistics::{Histogram, Statistics};
use tokio::time::Instant;

use super::{Metrics, Page, families};

/// Milliseconds, which is as exact as a message says when it came. A message may wait for a receiver for
/// days: what is over an hour is all the same.
const DELIVERY_MILLIS: &[u64] =
    &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 600_000, 3_600_000];

/// All namespaces together.
pub(super) struct Latencies {
    accept_micros: Histogram,
    settle_micros: Histogram,
    delivery_millis: Histogram,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self {
            // As for commits, of which most of the time is made.
            accept_micros: Histogram::new(Statistics::COMMIT_MICROS),
            settle_micros: Histogram::new(Statistics::COMMIT_MICROS),
            delivery_millis: Histogram::new(DELIVERY_MILLIS),
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.family(&families::ACCEPT_DURATION).counts(&[], &self.accept_micros.counts(), 1e6);
        page.family(&families::SETTLE_DURATION).counts(&[], &self.settle_micros.counts(), 1e6);
        page.family(&families::DELIVERY_DURATION).counts(&[], &self.delivery_millis.counts(), 1e3);
    }
}

/// Sends and settlements that came together and wait for their answers.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    sends: u32,
    settlements: u32,
}

/// What a driver knows of those who wait.
pub(crate) struct Stopwatch {
    metrics: Arc<Metrics>,
    /// In this turn.
    asked: Vec<Asked>,
    /// In the order of what they wait for.
    waiting: VecDeque<(CommitPosition, Asked)>,
    /// Deliveries that are not counted yet, all of which waited as many milliseconds. Those of a turn
    /// mostly did, and the histogram takes them at once.
    delivered: (u64, u64),
}

impl Stopwatch {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, asked: Vec::new(), waiting: VecDeque::new(), delivered: (0, 0) }
    }

    /// Whether deliveries are to be told.
    pub(crate) fn is_running(&self) -> bool {
        self.metrics.is_enabled()
    }

    /// Commands came, at a time that is told if anything is counted.
    pub(crate) fn came(&mut self, at: Option<Instant>, commands: &[Command]) {
        let Some(at) = at else { return };
        let mut asked = Asked { at, sends: 0, settlements: 0 };
        for command in commands {
            match command {
                Command::Send { .. } | Command::SendTo { .. } => asked.sends += 1,
                Command::Settle { origin: Some(_), .. } | Command::UpdateDisposition { .. } => {
                    asked.settlements += 1;
                }
                _ => {}
            }
        }
        if asked.sends + asked.settlements != 0 {
            self.asked.push(asked);
        }
    }

    /// What came in this turn is answered when this is on disk.
    pub(crate) fn wait_for(&mut self, position: CommitPosition) {
        let last = self.waiting.back().map_or(position, |(last, _)| position.max(*last));
        self.waiting.extend(self.asked.drain(..).map(|asked| (last, asked)));
    }

    /// Everything up to here is on disk, answered and delivered.
    pub(crate) fn durable(&mut self, through: CommitPosition) {
        self.count_delivered();
        self.durable_at(through, Instant::now);
    }

    /// Asks for the time only if somebody waits for that.
    fn durable_at(&mut self, through: CommitPosition, now: impl FnOnce() -> Instant) {
        if self.waiting.front().is_none_or(|(position, _)| through < *position) {
            return;
        }
        let now = now();
        let Latencies { accept_micros, settle_micros, .. } = &self.metrics.latencies;
        while let Some((position, asked)) = self.waiting.front() {
            if through < *position {
                break;
            }
            let took = now.saturating_duration_since(asked.at);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            accept_micros.observe_many(micros, asked.sends.into());
            settle_micros.observe_many(micros, asked.settlements.into());
            self.waiting.pop_front();
        }
    }

    /// A message is handed to the connection of its receiver. Only the first time tells how long it has
    /// waited.
    pub(crate) fn delivered(&mut self, delivery: &Delivery, now: Timestamp) {
        if delivery.attempts == 0 {
            self.delivered_after(now.0.saturating_sub(delivery.message.enqueued_at().0));
        }
    }

    fn delivered_after(&mut self, millis: u64) {
        if self.delivered.0 != millis {
            self.count_delivered();
            self.delivered.0 = millis;
        }
        self.delivered.1 += 1;
    }

    fn count_delivered(&mut self) {
        let (millis, count) = std::mem::take(&mut self.delivered);
        self.metrics.latencies.delivery_millis.observe_many(millis, count);
    }

    /// Nobody who waits is answered any more.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peeklock_core::{EntityId, LockToken, Origin, Settlement};
    use smallvec::SmallVec;

    use super::*;
    use crate::config::MetricsSettings;

    fn send() -> Command {
        let origin = Origin { connection: 1, link: 1, delivery: 1 };
        Command::Send { origin, entity: EntityId(1), messages: SmallVec::new(), transaction: None }
    }

    fn settle(origin: Option<Origin>) -> Command {
        let token = LockToken::from_random([0; 16]);
        let settlement = Settlement::Complete;
        Command::Settle { origin, entity: EntityId(1), token, settlement, transaction: None }
    }

    fn counted(histogram: &Histogram) -> u64 {
        histogram.counts().buckets().map(|(_, count)| count).sum()
    }

    #[test]
    fn whoever_waits_is_counted_when_it_is_answered() {
        let metrics = Metrics::new(MetricsSettings::default());
        let Latencies { accept_micros, settle_micros, .. } = &metrics.latencies;
        let mut stopwatch = Stopwatch::new(Arc::clone(&metrics));
        let origin = Some(Origin { connection: 1, link: 1, delivery: 1 });
        let begun = Instant::now();
        stopwatch.came(Some(begun), &[send(), send(), settle(origin), settle(None)]);
        stopwatch.wait_for(CommitPosition(3));
        let later = |millis| begun + Duration::from_millis(millis);
        stopwatch.came(Some(later(1)), &[send()]);
        // A turn that wrote nothing may wait for an earlier one all the same.
        stopwatch.wait_for(CommitPosition(2));
        stopwatch.durable_at(CommitPosition(2), || later(2));
        assert_eq!((counted(accept_micros), counted(settle_micros)), (0, 0));
        stopwatch.durable_at(CommitPosition(3), || later(3));
        assert_eq!((counted(accept_micros), counted(settle_micros)), (3, 1));
        assert_eq!(accept_micros.counts().sum(), 2 * 3_000 + 2_000);
        assert_eq!(settle_micros.counts().sum(), 3_000);
        stopwatch.came(None, &[send()]);
        stopwatch.came(Some(begun), &[send()]);
        stopwatch.wait_for(CommitPosition(4));
        stopwatch.forget();
        stopwatch.durable_at(CommitPosition(9), || later(9));
        assert_eq!(counted(accept_micros), 3);
    }

    #[test]
    fn deliveries_are_counted_with_the_turn() {
        let metrics = Metrics::new(MetricsSettings::default());
        let histogram = &metrics.latencies.delivery_millis;
        let mut stopwatch = Stopwatch::new(Arc::clone(&metrics));
        for millis in [0, 0, 7, 7, 7, 0] {
            stopwatch.delivered_after(millis);
        }
        stopwatch.durable(CommitPosition(0));
        stopwatch.durable(CommitPosition(0));
        assert_eq!((counted(histogram), histogram.counts().sum()), (6, 21));
        stopwatch.delivered_after(3);
        stopwatch.durable(CommitPosition(0));
        assert_eq!((counted(histogram), histogram.counts().sum()), (7, 24));
    }
}
