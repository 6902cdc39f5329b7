//! What a run counts: events in and outside the measured time, latencies, and which messages came
//! back. Each connection counts for itself; the parts are merged when all are done.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::arguments::SettleMode;

/// Latencies from a microsecond to an hour, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u64>);

/// One row of a report, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latency {
    pub(super) fn new() -> Self {
        const HOUR: u64 = 3_600_000_000_000;
        let histogram = Histogram::new_with_bounds(1_000, HOUR, 3);
        Self(histogram.expect("constant bounds within what a histogram can hold"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.record_nanoseconds(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn record_nanoseconds(&mut self, latency: u64) {
        self.0.saturating_record(latency);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// `None` when nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        #[expect(clippy::cast_precision_loss, reason = "an hour of nanoseconds fits 53 bits")]
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at = |quantile| milliseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1e6,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.0.max()),
        })
    }
}

/// Counts one kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// All of them, the warm-up and what came after the measured time included.
    pub(super) total: u64,
    pub(super) measured: u64,
    pub(super) first: Option<Instant>,
    /// Of the measured ones.
    pub(super) last_measured: Option<Instant>,
}

impl Meter {
    pub(super) fn record(&mut self, at: Instant, measured: bool) {
        self.total += 1;
        self.first.get_or_insert(at);
        if measured {
            self.measured += 1;
            self.last_measured = Some(at);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.measured += other.measured;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last_measured = self.last_measured.max(other.last_measured);
    }

    /// Events per second over `window`, or up to the last event when the run had no fixed length.
    pub(super) fn rate(&self, start: Instant, window: Option<Duration>) -> f64 {
        let until_last = || self.last_measured.map(|last| last.saturating_duration_since(start));
        let seconds = window.or_else(until_last).unwrap_or_default().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
        let count = self.measured as f64;
        if 0.0 < seconds { count / seconds } else { 0.0 }
    }
}

/// Which messages of one sender have been seen: a bit each.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Answers whether the bit was clear.
    fn set(&mut self, number: u64) -> bool {
        let Ok(word) = usize::try_from(number / 64) else { return false };
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        let clear = self.0[word] & bit == 0;
        self.0[word] |= bit;
        clear
    }

    /// Takes over the other's bits and answers how many both had.
    fn merge(&mut self, other: &Self) -> u64 {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut both = 0;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            both += u64::from((*mine & theirs).count_ones());
            *mine |= theirs;
        }
        both
    }
}

/// What one connection, or all of them, saw.
#[derive(Clone, Debug)]
pub(super) struct Statistics {
    /// Handed to the connection; each ends in one of the three outcomes below.
    pub(super) sent: u64,
    pub(super) accepted: Meter,
    pub(super) rejected: u64,
    /// Released or modified, which a broker uses to refuse without blame.
    pub(super) released: u64,
    /// All that came, repeated and foreign ones included.
    pub(super) deliveries: u64,
    /// Messages of this run, each counted the first time it came.
    pub(super) received: Meter,
    /// Messages of this run that came more than once.
    pub(super) repeated: u64,
    /// Messages that were in the queue before; all of them when there are no senders.
    pub(super) foreign: Meter,
    /// Settled for good, of this run and foreign.
    pub(super) completed: Meter,
    pub(super) completions_refused: u64,
    pub(super) accept_latency: Latency,
    pub(super) end_to_end_latency: Latency,
    /// What the broker offered a receiver, which counts when it differs from what was asked.
    pub(super) settle_mode: Option<SettleMode>,
    /// The first thing a broker said when it refused something.
    pub(super) first_refusal: Option<String>,
    seen: Vec<Bits>,
}

impl Statistics {
    pub(super) fn new(senders: u32) -> Self {
        Self {
            sent: 0,
            accepted: Meter::default(),
            rejected: 0,
            released: 0,
            deliveries: 0,
            received: Meter::default(),
            repeated: 0,
            foreign: Meter::default(),
            completed: Meter::default(),
            completions_refused: 0,
            accept_latency: Latency::new(),
            end_to_end_latency: Latency::new(),
            settle_mode: None,
            first_refusal: None,
            seen: vec![Bits::default(); usize::try_from(senders).unwrap_or(0)],
        }
    }

    /// Notes that a message of this run came. The caller has checked that it was ever sent, so what
    /// stands in a message cannot make the bits grow. Answers whether it came for the first time.
    pub(super) fn see(&mut self, sender: u32, number: u64) -> bool {
        let seen = usize::try_from(sender).ok().and_then(|sender| self.seen.get_mut(sender));
        let new = seen.is_some_and(|bits| bits.set(number));
        self.repeated += u64::from(!new);
        new
    }

    pub(super) fn refused(&mut self, what: impl FnOnce() -> String) {
        self.first_refusal.get_or_insert_with(what);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.accepted.merge(&other.accepted);
        self.rejected += other.rejected;
        self.released += other.released;
        self.deliveries += other.deliveries;
        self.received.merge(&other.received);
        self.repeated += other.repeated;
        self.foreign.merge(&other.foreign);
        self.completed.merge(&other.completed);
        self.completions_refused += other.completions_refused;
        self.accept_latency.merge(&other.accept_latency);
        self.end_to_end_latency.merge(&other.end_to_end_latency);
        self.settle_mode = self.settle_mode.or(other.settle_mode);
        if self.first_refusal.is_none() {
            self.first_refusal.clone_from(&other.first_refusal);
        }
        // A message that two receivers got once each was received twice all the same.
        for (mine, theirs) in self.seen.iter_mut().zip(&other.seen) {
            self.repeated += mine.merge(theirs);
        }
    }

    /// How many different messages of this run came.
    pub(super) fn distinct(&self) -> u64 {
        self.seen.iter().flat_map(|bits| &bits.0).map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_latencies_are_those_of_one_histogram() {
        let (mut left, mut right, mut whole) = (Latency::new(), Latency::new(), Latency::new());
        for microseconds in 1..=1_000 {
            let half = if microseconds % 2 == 0 { &mut left } else { &mut right };
            half.record(Duration::from_micros(microseconds));
            whole.record(Duration::from_micros(microseconds));
        }
        left.merge(&right);
        assert_eq!(left.percentiles(), whole.percentiles());
        let percentiles = left.percentiles().expect("recorded");
        assert_eq!(percentiles.count, 1_000);
        assert!((percentiles.p50 - 0.5).abs() < 0.001, "{percentiles:?}");
        assert!((percentiles.p99 - 0.99).abs() < 0.001, "{percentiles:?}");
        assert!((percentiles.max - 1.0).abs() < 0.001, "{percentiles:?}");
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles_and_a_huge_value_is_kept_at_the_bound() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), None);
        latency.record_nanoseconds(u64::MAX);
        assert!(3_599_000.0 < latency.percentiles().expect("recorded").max);
    }

    #[test]
    fn a_rate_is_over_the_window_or_up_to_the_last_event() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.record(start, false);
        for second in 1..=4 {
            meter.record(start + Duration::from_secs(second), true);
        }
        assert_eq!((meter.total, meter.measured), (5, 4));
        assert!((meter.rate(start, None) - 1.0).abs() < 1e-9);
        assert!((meter.rate(start, Some(Duration::from_secs(8))) - 0.5).abs() < 1e-9);
        assert!(Meter::default().rate(start, None).abs() < 1e-9);
    }

    #[test]
    fn a_message_seen_by_two_receivers_is_repeated() {
        let (mut left, mut right) = (Statistics::new(2), Statistics::new(2));
        assert!(left.see(0, 0) && left.see(0, 100) && left.see(1, 0));
        assert!(right.see(0, 100) && right.see(0, 200));
        assert!(!right.see(0, 200));
        left.merge(&right);
        assert_eq!((left.distinct(), left.repeated), (4, 2));
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_first_refusal() {
        let now = Instant::now();
        let (mut left, mut right) = (Statistics::new(1), Statistics::new(1));
        left.accepted.record(now, true);
        right.accepted.record(now + Duration::from_secs(1), true);
        right.accepted.record(now + Duration::from_secs(2), false);
        right.rejected = 1;
        right.refused(|| "full".to_owned());
        right.refused(|| "later".to_owned());
        left.merge(&right);
        assert_eq!((left.accepted.total, left.accepted.measured, left.rejected), (3, 2, 1));
        assert_eq!(left.accepted.first, Some(now));
        assert_eq!(left.accepted.last_measured, Some(now + Duration::from_secs(1)));
        assert_eq!(left.first_refusal.as_deref(), Some("full"));
    }
}
