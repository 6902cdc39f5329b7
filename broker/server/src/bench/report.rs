//! What a run found, as a table and as JSON, and whether it can be trusted: a run whose counts do
//! not add up is an error, however good its figures look.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::arguments::{Extent, Mode, Plan, SettleMode};
use super::process::Sample;
use super::stamp::Clock;
use super::statistics::{Meter, Percentiles, Statistics};

/// Everything that is printed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) run: Run,
    /// Absent when connections were only held.
    pub(super) load: Option<Load>,
    /// Present when connections were only held.
    pub(super) idle: Option<Idle>,
    /// Present when peers took their time.
    pub(super) slow: Option<Slow>,
    /// The broker's process, with `--pid`.
    pub(super) broker: Option<Process>,
    /// This process.
    pub(super) client: Option<Process>,
    /// Why the run cannot be trusted; empty when it can.
    pub(super) errors: Vec<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) address: String,
    pub(super) target: String,
    pub(super) source: String,
    pub(super) senders: u32,
    pub(super) receivers: u32,
    pub(super) size_bytes: usize,
    pub(super) credit: u32,
    pub(super) in_flight: u32,
    pub(super) rate: Option<u32>,
    pub(super) mode: Mode,
    /// As the broker offered it; absent without receivers.
    pub(super) settle_mode: Option<SettleMode>,
    pub(super) warm_up_seconds: f64,
}

/// What moved.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Load {
    /// Length of the measured phase.
    pub(super) seconds: f64,
    pub(super) accepted: Count,
    /// Of this run.
    pub(super) received: Count,
    /// Messages that were in the queue before.
    pub(super) foreign: Count,
    pub(super) completed: Count,
    pub(super) rejected: u64,
    pub(super) released: u64,
    pub(super) repeated: u64,
    pub(super) completions_refused: u64,
    pub(super) accept_latency_ms: Option<Percentiles>,
    pub(super) end_to_end_latency_ms: Option<Percentiles>,
}

/// One kind of event.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Count {
    /// In the measured phase.
    pub(super) measured: u64,
    /// Warm-up and the end of the run included.
    pub(super) total: u64,
    pub(super) per_second: f64,
    /// Milliseconds since 1970.
    pub(super) first_at_unix_ms: Option<f64>,
}

/// What connections that do nothing cost the broker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Idle {
    pub(super) connections: u32,
    pub(super) held_seconds: f64,
    /// To open all of them.
    pub(super) open_seconds: f64,
    /// The broker's memory at the end, less that before the first; with `--pid`.
    pub(super) memory_growth_kib: Option<i64>,
    pub(super) memory_kib_per_connection: Option<f64>,
}

/// Peers that never came to the point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Slow {
    pub(super) connections: u32,
    /// The warm-up included.
    pub(super) held_seconds: f64,
    /// That they said.
    pub(super) octets: u64,
    /// How often the broker had enough of one.
    pub(super) cut_off: u64,
}

/// A process over the measured phase.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) cpu_seconds: f64,
    /// Per message completed, or accepted when nothing was received.
    pub(super) cpu_us_per_message: Option<f64>,
    pub(super) memory_before_kib: u64,
    pub(super) memory_kib: u64,
    /// Since the process began.
    pub(super) memory_peak_kib: u64,
}

/// The measured phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// The run had a fixed length, so rates are over it; else they are up to the last event.
    pub(super) fixed: bool,
}

impl Run {
    pub(super) fn new(plan: &Plan, settle_mode: Option<SettleMode>) -> Self {
        Self {
            address: plan.address.clone(),
            target: plan.target.clone(),
            source: plan.source.clone(),
            senders: plan.senders,
            receivers: plan.receivers,
            size_bytes: plan.size,
            credit: plan.credit,
            in_flight: plan.in_flight,
            rate: plan.rate.map(std::num::NonZeroU32::get),
            mode: plan.mode,
            settle_mode,
            warm_up_seconds: plan.warm_up.as_secs_f64(),
        }
    }
}

impl Load {
    pub(super) fn new(statistics: &Statistics, window: Window, clock: &Clock) -> Self {
        let length = window.end.saturating_duration_since(window.start);
        let count = |meter: &Meter| Count {
            measured: meter.measured,
            total: meter.total,
            per_second: meter.rate(window.start, window.fixed.then_some(length)),
            first_at_unix_ms: meter.first.map(|first| clock.wall_milliseconds(first)),
        };
        Self {
            seconds: length.as_secs_f64(),
            accepted: count(&statistics.accepted),
            received: count(&statistics.received),
            foreign: count(&statistics.foreign),
            completed: count(&statistics.completed),
            rejected: statistics.rejected,
            released: statistics.released,
            repeated: statistics.repeated,
            completions_refused: statistics.completions_refused,
            accept_latency_ms: statistics.accept_latency.percentiles(),
            end_to_end_latency_ms: statistics.end_to_end_latency.percentiles(),
        }
    }

    fn moved_anything(&self) -> bool {
        [self.accepted, self.received, self.foreign, self.completed].iter().any(|c| c.total != 0)
    }

    /// The messages that CPU time is divided by.
    pub(super) fn messages(&self) -> u64 {
        if self.completed.total == 0 { self.accepted.measured } else { self.completed.measured }
    }
}

impl Process {
    pub(super) fn new(pid: u32, before: &Sample, after: &Sample, messages: u64) -> Self {
        let cpu = after.cpu_since(before);
        #[expect(clippy::cast_precision_loss, reason = "a quotient needs no more than 53 bits")]
        let per_message = |cpu: Duration| cpu.as_secs_f64() * 1e6 / messages as f64;
        Self {
            pid,
            cpu_seconds: cpu.as_secs_f64(),
            cpu_us_per_message: (messages != 0).then(|| per_message(cpu)),
            memory_before_kib: before.resident_kib,
            memory_kib: after.resident_kib,
            memory_peak_kib: after.resident_peak_kib,
        }
    }
}

/// What does not add up.
pub(super) fn check(plan: &Plan, statistics: &Statistics) -> Vec<String> {
    let mut errors = Vec::new();
    let mut expect = |holds: bool, what: &dyn Fn() -> String| {
        if !holds {
            errors.push(what());
        }
    };
    let s = statistics;
    let why = || s.first_refusal.as_deref().unwrap_or("no reason given").to_owned();
    expect(s.rejected == 0, &|| format!("{} sends were rejected: {}", s.rejected, why()));
    expect(s.released == 0, &|| {
        format!("{} sends were neither accepted nor rejected: {}", s.released, why())
    });
    let outcomes = s.accepted.total + s.rejected + s.released;
    expect(outcomes == s.sent, &|| {
        format!("{} sends, but {outcomes} outcomes: the rest is unknown", s.sent)
    });
    expect(s.completions_refused == 0, &|| {
        format!("{} completions were refused: {}", s.completions_refused, why())
    });
    let settled = s.completed.total + s.completions_refused;
    expect(settled == s.deliveries, &|| {
        format!("{} deliveries, but {settled} were settled to the end", s.deliveries)
    });
    expect(s.repeated == 0, &|| format!("{} messages came more than once", s.repeated));
    if 0 < plan.senders && 0 < plan.receivers {
        let (accepted, distinct) = (s.accepted.total, s.distinct());
        expect(accepted <= distinct, &|| {
            format!("{accepted} messages were accepted, but only {distinct} received")
        });
    }
    if let Extent::Count(count) = plan.extent {
        if plan.senders == 0 {
            let received = s.deliveries;
            expect(received == count, &|| format!("{received} of {count} messages received"));
        } else {
            let sent = s.sent;
            expect(count <= sent, &|| format!("{sent} of {count} messages sent"));
        }
    }
    expect(0 < s.sent + s.deliveries, &|| "nothing was sent and nothing received".to_owned());
    errors
}

impl Report {
    pub(super) fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.fmt(f)?;
        if let Some(load) = self.load.as_ref().filter(|load| load.moved_anything()) {
            load.fmt(f)?;
        }
        if let Some(idle) = &self.idle {
            idle.fmt(f)?;
        }
        if let Some(slow) = &self.slow {
            slow.fmt(f)?;
        }
        if let Some(broker) = &self.broker {
            writeln!(f, "broker  {broker}")?;
        }
        if let Some(client) = self.client.filter(|client| client.cpu_us_per_message.is_some()) {
            writeln!(f, "client  {client}")?;
        }
        for error in &self.errors {
            writeln!(f, "ERROR   {error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.address)?;
        if 0 < self.senders {
            write!(f, "{} sending to {}, ", self.senders, self.target)?;
        }
        if 0 < self.receivers {
            let mode = match (self.mode, self.settle_mode) {
                (Mode::ReceiveAndDelete, _) => "receive and delete",
                (Mode::PeekLock, Some(SettleMode::Second)) => "peek-lock, answered",
                (Mode::PeekLock, Some(SettleMode::First)) => "peek-lock, not answered",
                (Mode::PeekLock, None) => "peek-lock",
            };
            let Self { receivers, source, credit, .. } = self;
            write!(f, "{receivers} receiving from {source} ({mode}, credit {credit}), ")?;
        }
        write!(f, "{} bytes", self.size_bytes)?;
        match self.rate {
            Some(rate) => writeln!(f, ", paced to {rate}/s"),
            None => writeln!(f, ", up to {} sends in flight", self.in_flight),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<18}{:>12}{:>12}", "", "messages", "per second")?;
        let rows = [
            ("accepted", self.accepted),
            ("received", self.received),
            ("of earlier runs", self.foreign),
            ("completed", self.completed),
        ];
        for (name, count) in rows.into_iter().filter(|(_, count)| count.total != 0) {
            writeln!(f, "{name:<18}{:>12}{:>12.0}", count.measured, count.per_second)?;
        }
        writeln!(f, "in {:.3} s", self.seconds)?;
        let rows = [
            ("send to accepted", self.accept_latency_ms),
            ("end to end", self.end_to_end_latency_ms),
        ];
        if rows.iter().any(|(_, latency)| latency.is_some()) {
            write!(f, "\n{:<18}", "latency, ms")?;
            for column in ["p50", "p95", "p99", "p99.9", "max"] {
                write!(f, "{column:>10}")?;
            }
            writeln!(f)?;
        }
        for (name, latency) in rows {
            let Some(p) = latency else { continue };
            write!(f, "{name:<18}")?;
            for value in [p.p50, p.p95, p.p99, p.p999, p.max] {
                write!(f, "{value:>10.3}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, held_seconds, open_seconds, .. } = self;
        write!(f, "\n{connections} connections opened in {open_seconds:.3} s, ")?;
        writeln!(f, "held for {held_seconds:.1} s")?;
        if let (Some(growth), Some(each)) = (self.memory_growth_kib, self.memory_kib_per_connection)
        {
            writeln!(f, "the broker grew by {growth} KiB: {each:.1} KiB a connection")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, held_seconds, octets, cut_off } = self;
        write!(f, "\n{connections} connections said {octets} octets in {held_seconds:.1} s, ")?;
        writeln!(f, "and were cut off {cut_off} times\n")
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s of CPU", self.cpu_seconds)?;
        if let Some(each) = self.cpu_us_per_message {
            write!(f, ", {each:.2} µs a message")?;
        }
        let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
        let (before, after) = (mib(self.memory_before_kib), mib(self.memory_kib));
        write!(f, "; memory {before} before, {after} after, {} peak", mib(self.memory_peak_kib))
    }
}

#[cfg(test)]
mod tests;
