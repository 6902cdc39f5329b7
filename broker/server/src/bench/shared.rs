//! What the connections of a run have in common: the plan, the clock, the phase, and the totals
//! that say when the run is complete.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use super::arguments::Plan;
use super::stamp::Clock;

/// How far the run has come. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Links are being attached; nothing is sent and no credit granted.
    Connecting,
    /// Full load, not counted in rates and latencies.
    WarmUp,
    /// Full load, counted.
    Measuring,
    /// Nothing new is sent; what is under way comes to its end.
    Finishing,
    /// Give back unused credit and close.
    Stopping,
}

/// Counts that all connections add to as they go. Relaxed: each is only compared with others after
/// the run has come to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) received: u64,
    pub(super) completed: u64,
}

/// Owned by all connections of a run together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) clock: Clock,
    pub(super) run: u64,
    phase: watch::Sender<Phase>,
    load_start: OnceLock<Instant>,
    /// How many messages each sender has sent. A stamp with a higher number is not one of ours,
    /// whatever it says.
    sent: Vec<AtomicU64>,
    pub(super) accepted: AtomicU64,
    /// Of this run and foreign.
    pub(super) received: AtomicU64,
    /// Of this run alone, each message once for each receiver that got it.
    pub(super) received_of_run: AtomicU64,
    pub(super) completed: AtomicU64,
    /// Deliveries without a final word; the run is at rest when there are none.
    pub(super) completions_pending: AtomicU64,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Self {
        let clock = Clock::start();
        Self {
            run: clock.run_id(),
            clock,
            phase: watch::Sender::new(Phase::Connecting),
            load_start: OnceLock::new(),
            sent: (0..plan.senders).map(|_| AtomicU64::new(0)).collect(),
            accepted: AtomicU64::new(0),
            received: AtomicU64::new(0),
            received_of_run: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            completions_pending: AtomicU64::new(0),
            plan,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn enter(&self, phase: Phase) {
        if Phase::WarmUp <= phase {
            self.load_start.get_or_init(Instant::now);
        }
        self.phase.send_if_modified(|current| {
            let forward = *current < phase;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// When the first message of an open-loop run is due. Asked for only once load is under way.
    pub(super) fn load_start(&self) -> Instant {
        *self.load_start.get_or_init(Instant::now)
    }

    pub(super) fn note_sent(&self, sender: u32, count: u64) {
        if let Some(sent) = usize::try_from(sender).ok().and_then(|index| self.sent.get(index)) {
            sent.store(count, Ordering::Relaxed);
        }
    }

    /// Whether that sender has sent that message.
    pub(super) fn was_sent(&self, sender: u32, number: u64) -> bool {
        let sent = usize::try_from(sender).ok().and_then(|index| self.sent.get(index));
        sent.is_some_and(|sent| number < sent.load(Ordering::Relaxed))
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            completed: self.completed.load(Ordering::Relaxed),
        }
    }

    /// Everything accepted has been received, and every completion has its final word.
    pub(super) fn is_at_rest(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) <= self.received_of_run.load(Ordering::Relaxed)
            && self.completions_pending.load(Ordering::Relaxed) == 0
    }
}
