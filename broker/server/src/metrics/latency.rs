//! How long peers wait: for answers to what they send and settle, and for messages.
//!
//! Nothing here is done for each message but a search among a few bounds. The clock is read once for the
//! commands of one read of a connection, and once a turn.

use std::collections::VecDeque;

use peeklock_core::{Command, Delivery, Timestamp};
use peeklock_storage::CommitPosition;
use peeklock_storage::statistics::Statistics;
use prometheus::local::LocalHistogram;
use prometheus::{Histogram, Registry};
use tokio::time::Instant;

use super::page::as_f64;
use super::{Metrics, families};

/// As exact as a message says when it came, which is to a millisecond. A message may wait for a receiver
/// for days: what is over an hour is all the same.
const DELIVERY_SECONDS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0,
];

/// All namespaces together, in seconds.
pub(super) struct Latencies {
    accept: Histogram,
    settle: Histogram,
    delivery: Histogram,
}

impl Latencies {
    pub(super) fn new(registry: &Registry) -> Self {
        // As for commits, of which most of the time is made.
        let commits =
            || Statistics::COMMIT_MICROS.iter().map(|micros| as_f64(*micros) / 1e6).collect();
        Self {
            accept: families::ACCEPT_DURATION.histogram(registry, commits()),
            settle: families::SETTLE_DURATION.histogram(registry, commits()),
            delivery: families::DELIVERY_DURATION.histogram(registry, DELIVERY_SECONDS.to_vec()),
        }
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
    is_running: bool,
    /// Of this driver alone, and added to those of all once a turn: others would make each of these a
    /// matter of several processors.
    accept: LocalHistogram,
    settle: LocalHistogram,
    delivery: LocalHistogram,
    /// In this turn.
    asked: Vec<Asked>,
    /// In the order of what they wait for.
    waiting: VecDeque<(CommitPosition, Asked)>,
}

impl Stopwatch {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let Latencies { accept, settle, delivery } = &metrics.latencies;
        Self {
            is_running: metrics.is_enabled(),
            accept: accept.local(),
            settle: settle.local(),
            delivery: delivery.local(),
            asked: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether deliveries are to be told.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
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

    /// Everything up to here is on disk, and answered. What was counted in this turn is there to be seen.
    pub(crate) fn durable(&mut self, through: CommitPosition) {
        self.durable_at(through, Instant::now);
        self.delivery.flush();
    }

    /// Asks for the time only if somebody waits for that.
    fn durable_at(&mut self, through: CommitPosition, now: impl FnOnce() -> Instant) {
        if self.waiting.front().is_none_or(|(position, _)| through < *position) {
            return;
        }
        let now = now();
        while let Some((position, asked)) = self.waiting.front() {
            if through < *position {
                break;
            }
            let took = now.saturating_duration_since(asked.at).as_secs_f64();
            (0..asked.sends).for_each(|_| self.accept.observe(took));
            (0..asked.settlements).for_each(|_| self.settle.observe(took));
            self.waiting.pop_front();
        }
        self.accept.flush();
        self.settle.flush();
    }

    /// A message is handed to the connection of its receiver. Only the first time tells how long it has
    /// waited.
    pub(crate) fn delivered(&self, delivery: &Delivery, now: Timestamp) {
        if delivery.attempts == 0 {
            let waited = now.0.saturating_sub(delivery.message.enqueued_at().0);
            self.delivery.observe(as_f64(waited) / 1e3);
        }
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

    fn micros(histogram: &Histogram) -> f64 {
        (histogram.get_sample_sum() * 1e6).round()
    }

    #[test]
    fn whoever_waits_is_counted_when_it_is_answered() {
        let metrics = Metrics::new(MetricsSettings::default());
        let Latencies { accept, settle: settled, .. } = &metrics.latencies;
        let counted = |of: &Histogram| of.get_sample_count();
        let mut stopwatch = Stopwatch::new(&metrics);
        let origin = Some(Origin { connection: 1, link: 1, delivery: 1 });
        let begun = Instant::now();
        stopwatch.came(Some(begun), &[send(), send(), settle(origin), settle(None)]);
        stopwatch.wait_for(CommitPosition(3));
        let later = |millis| begun + Duration::from_millis(millis);
        stopwatch.came(Some(later(1)), &[send()]);
        // A turn that wrote nothing may wait for an earlier one all the same.
        stopwatch.wait_for(CommitPosition(2));
        stopwatch.durable_at(CommitPosition(2), || later(2));
        assert_eq!((counted(accept), counted(settled)), (0, 0));
        stopwatch.durable_at(CommitPosition(3), || later(3));
        assert_eq!((counted(accept), counted(settled)), (3, 1));
        assert_eq!(micros(accept).to_bits(), 8_000_f64.to_bits(), "two of 3 ms and one of 2");
        assert_eq!(micros(settled).to_bits(), 3_000_f64.to_bits());
        stopwatch.came(None, &[send()]);
        stopwatch.came(Some(begun), &[send()]);
        stopwatch.wait_for(CommitPosition(4));
        stopwatch.forget();
        stopwatch.durable_at(CommitPosition(9), || later(9));
        assert_eq!(counted(accept), 3);
    }
}
