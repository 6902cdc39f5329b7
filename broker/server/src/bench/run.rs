//! A run from beginning to end: start the connections, move through the phases, gather the counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::arguments::{Apart, Extent, Plan};
use super::failure::Failure;
use super::process::Sample;
use super::progress::Progress;
use super::report::{Load, Process, Report, Run, Window, check};
use super::shared::{Phase, Shared, Totals};
use super::statistics::Statistics;
use super::{idle, receiver, sender, slow};

/// How often the run looks whether a phase is over: rarely enough to cost nothing next to the load.
const TICK: Duration = Duration::from_millis(5);

/// A run in which nothing moves for so long will not end by itself: longer than a broker may take
/// to open a large store or to stop writes while it compacts.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// A queue from which nothing has come for so long counts as empty.
const QUIET_AFTER: Duration = Duration::from_secs(2);

/// How long connections get to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(40);

type Ended = (Statistics, Result<(), Failure>);

/// Does what the plan says.
pub(super) async fn run(plan: Plan) -> Result<Report, Failure> {
    match plan.apart {
        Some(Apart::Idle(connections)) => idle::run(plan, connections).await,
        Some(Apart::Slow(connections)) => slow::run(plan, connections).await,
        None => Conductor::new(plan).run().await,
    }
}

/// CPU time and memory of the broker and of this process at one moment.
struct Samples {
    broker: Option<(u32, Sample)>,
    client: Option<(u32, Sample)>,
}

impl Samples {
    fn take(plan: &Plan) -> Result<Self, Failure> {
        let sample = |pid| Sample::take(pid).map(|sample| (pid, sample));
        let broker = plan.pid.map(sample).transpose()?;
        // Without /proc the run still measures everything else.
        Ok(Self { broker, client: sample(std::process::id()).ok() })
    }
}

struct Conductor {
    shared: Arc<Shared>,
    senders: JoinSet<Ended>,
    receivers: JoinSet<Ended>,
    statistics: Statistics,
    failures: Vec<Failure>,
    progress: Progress,
    ticks: Interval,
    load_start: Instant,
    moved: (Totals, Instant),
}

impl Conductor {
    fn new(plan: Plan) -> Self {
        let progress = Progress::new(&plan);
        let statistics = Statistics::new(plan.senders);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shared: Arc::new(Shared::new(plan)),
            senders: JoinSet::new(),
            receivers: JoinSet::new(),
            statistics,
            failures: Vec::new(),
            progress,
            ticks,
            load_start: Instant::now(),
            moved: (Totals::default(), Instant::now()),
        }
    }

    async fn run(mut self) -> Result<Report, Failure> {
        self.connect().await;
        self.load_start = Instant::now();
        self.moved = (self.shared.totals(), self.load_start);
        let plan = &self.shared.plan;
        let (warm_up, extent) = (plan.warm_up, plan.extent);
        let (sends, receives) = (0 < plan.senders, 0 < plan.receivers);
        if self.failures.is_empty() && !warm_up.is_zero() {
            self.shared.enter(Phase::WarmUp);
            self.until(|run| warm_up <= run.load_start.elapsed()).await;
        }
        let before = Samples::take(&self.shared.plan)?;
        let start = Instant::now();
        self.shared.enter(Phase::Measuring);
        match extent {
            Extent::For(length) => self.until(|_| length <= start.elapsed()).await,
            Extent::UntilQuiet => self.until(|run| QUIET_AFTER <= run.moved.1.elapsed()).await,
            Extent::Count(_) if sends => {
                self.until(|run| run.senders.is_empty() && (!receives || run.shared.is_at_rest()))
                    .await;
            }
            Extent::Count(_) => self.until(|run| run.receivers.is_empty()).await,
        }
        let window = Window { start, end: Instant::now(), fixed: matches!(extent, Extent::For(_)) };
        let after = Samples::take(&self.shared.plan);
        self.shared.enter(Phase::Finishing);
        self.until(|run| run.senders.is_empty()).await;
        if sends && receives {
            self.until(|run| run.shared.is_at_rest()).await;
        }
        self.shared.enter(Phase::Stopping);
        self.join_all().await;
        self.progress.finish();
        Ok(self.report(window, &before, &after?))
    }

    /// Starts every connection and waits until each has its link.
    async fn connect(&mut self) {
        let (ready, mut readiness) = mpsc::channel(64);
        let plan = &self.shared.plan;
        let connections = plan.senders + plan.receivers;
        for index in 0..plan.receivers {
            self.receivers.spawn(receiver::run(Arc::clone(&self.shared), index, ready.clone()));
        }
        for index in 0..plan.senders {
            self.senders.spawn(sender::run(Arc::clone(&self.shared), index, ready.clone()));
        }
        drop(ready);
        let mut open = 0;
        while open < connections && self.failures.is_empty() {
            tokio::select! {
                Some(()) = readiness.recv() => open += 1,
                Some(ended) = self.senders.join_next() => self.gather(ended),
                Some(ended) = self.receivers.join_next() => self.gather(ended),
            }
        }
    }

    /// Lets the run go on until `done`, until a connection fails, or until nothing moves any more.
    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut ticks_to_show = 0_u32;
        while self.failures.is_empty() {
            while let Some(ended) = self.senders.try_join_next() {
                self.gather(ended);
            }
            while let Some(ended) = self.receivers.try_join_next() {
                self.gather(ended);
            }
            let totals = self.shared.totals();
            if totals != self.moved.0 {
                self.moved = (totals, Instant::now());
            }
            if done(self) {
                return;
            }
            if STALLED_AFTER < self.moved.1.elapsed() {
                // Held back by an idle queue is fine; held back with work under way is not.
                let idle =
                    self.senders.is_empty() && matches!(self.shared.plan.extent, Extent::For(_));
                if !idle {
                    self.failures.push(Failure::Stalled(STALLED_AFTER));
                }
            }
            if ticks_to_show == 0 {
                self.progress.show(totals, self.load_start.elapsed());
                ticks_to_show = 20;
            }
            ticks_to_show -= 1;
            self.ticks.tick().await;
        }
    }

    async fn join_all(&mut self) {
        let joining = async {
            while let Some(ended) = self.senders.join_next().await {
                Self::gather_into(&mut self.statistics, &mut self.failures, ended);
            }
            while let Some(ended) = self.receivers.join_next().await {
                Self::gather_into(&mut self.statistics, &mut self.failures, ended);
            }
        };
        if tokio::time::timeout(CLOSE_WITHIN, joining).await.is_err() {
            self.failures.push(Failure::Silence(CLOSE_WITHIN, "closing the connections"));
        }
    }

    fn gather(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        Self::gather_into(&mut self.statistics, &mut self.failures, ended);
    }

    fn gather_into(
        statistics: &mut Statistics,
        failures: &mut Vec<Failure>,
        ended: Result<Ended, tokio::task::JoinError>,
    ) {
        match ended {
            Ok((part, result)) => {
                statistics.merge(&part);
                failures.extend(result.err());
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn report(self, window: Window, before: &Samples, after: &Samples) -> Report {
        let plan = &self.shared.plan;
        let load = Load::new(&self.statistics, window, &self.shared.clock);
        let messages = load.messages();
        let process = |before: &Option<(u32, Sample)>, after: &Option<(u32, Sample)>| {
            let ((pid, before), (_, after)) = (before.as_ref()?, after.as_ref()?);
            Some(Process::new(*pid, before, after, messages))
        };
        let mut errors: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        errors.dedup(); // Many connections often fail of one cause.
        errors.extend(check(plan, &self.statistics));
        Report {
            run: Run::new(plan, self.statistics.settle_mode),
            load: Some(load),
            idle: None,
            slow: None,
            broker: process(&before.broker, &after.broker),
            client: process(&before.client, &after.client),
            errors,
        }
    }
}
