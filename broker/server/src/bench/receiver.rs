//! A connection that receives, and completes what it received.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use peeklock_protocol::connection::{Event, LinkId};
use peeklock_protocol::delivery::{Delivery, DeliveryId};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::ReceiverSettleMode;
use tokio::sync::{mpsc, watch};

use super::arguments::{Extent, Plan, SettleMode};
use super::client::{self, Client};
use super::failure::Failure;
use super::shared::{Phase, Shared};
use super::stamp::Stamp;
use super::statistics::Statistics;
use super::{link, message};
use crate::client::amqp::describe;

/// How long a broker may take to use up or give back credit at the end. What it sends after that is
/// never seen, and shows in the counts.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

struct Receiver {
    shared: Arc<Shared>,
    client: Client,
    link: LinkId,
    /// The broker answers each completion.
    second: bool,
    /// Messages still to be asked for, when the run has a count and no senders.
    quota: Option<u64>,
    completions_pending: u64,
    drained: bool,
}

/// Runs one receiver to its end. Its counts come back whatever happens.
pub(super) async fn run(
    shared: Arc<Shared>,
    index: u32,
    ready: mpsc::Sender<()>,
) -> (Statistics, Result<(), Failure>) {
    let mut statistics = Statistics::new(shared.plan.senders);
    let result = receive_all(shared, index, ready, &mut statistics).await;
    (statistics, result)
}

async fn receive_all(
    shared: Arc<Shared>,
    index: u32,
    ready: mpsc::Sender<()>,
    statistics: &mut Statistics,
) -> Result<(), Failure> {
    let plan = &shared.plan;
    let (mut client, session) = client::open(plan).await?;
    let attach = link::receiver(plan, shared.run, index);
    let (link, reply) = client.attach(session, attach).await?;
    let quota = match plan.extent {
        Extent::Count(count) if plan.senders == 0 => {
            Some(Plan::share(count, plan.receivers, index))
        }
        Extent::Count(_) | Extent::For(_) | Extent::UntilQuiet => None,
    };
    let second = reply.rcv_settle_mode == Some(ReceiverSettleMode::Second);
    statistics.settle_mode = Some(if second { SettleMode::Second } else { SettleMode::First });
    let mut receiver = Receiver {
        client,
        link,
        second,
        quota,
        completions_pending: 0,
        drained: false,
        shared: Arc::clone(&shared),
    };
    let mut phase = shared.watch_phase();
    let _ = ready.send(()).await; // The run may have given up already.
    // The phase only moves on: an error would mean that the run itself is gone.
    let under_load = phase.wait_for(|phase| Phase::WarmUp <= *phase);
    let _ = under_load.await;
    receiver.receive_until_done(&mut phase, statistics).await?;
    let draining = receiver.drain(statistics);
    // What the broker has not given back within that time is its own affair.
    if let Ok(result) = tokio::time::timeout(DRAIN_WITHIN, draining).await {
        result?;
    }
    Ok(receiver.client.close().await?)
}

impl Receiver {
    async fn receive_until_done(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
        statistics: &mut Statistics,
    ) -> Result<(), Failure> {
        loop {
            self.handle_events(statistics)?;
            self.grant_credit()?;
            let complete = self.quota == Some(0)
                && self.client.connection().credit(self.link) == 0
                && self.completions_pending == 0;
            if complete || self.shared.phase() == Phase::Stopping {
                return Ok(());
            }
            let wake = async {
                drop(phase.changed().await);
                Ok(())
            };
            self.client.exchange(wake).await?;
        }
    }

    /// Asks for no more, and takes what the broker sends until it says that this was all.
    async fn drain(&mut self, statistics: &mut Statistics) -> Result<(), Failure> {
        let credit = self.client.connection().credit(self.link);
        if credit == 0 {
            self.drained = true;
        } else {
            let drain = self.client.connection().set_credit_drain(self.link, credit);
            drain.map_err(stale)?;
        }
        while !self.drained || 0 < self.completions_pending {
            self.client.exchange(std::future::pending()).await?;
            self.handle_events(statistics)?;
        }
        Ok(())
    }

    /// Tops the credit up once half of it is used, so that the broker never runs out of it and a
    /// flow is written for many messages, not for each.
    fn grant_credit(&mut self) -> Result<(), Failure> {
        let left = self.client.connection().credit(self.link);
        let granted = self.shared.plan.credit;
        if granted / 2 < left {
            return Ok(());
        }
        let wanted = match &mut self.quota {
            None => granted,
            Some(quota) => {
                let more = u64::from(granted - left).min(*quota);
                *quota -= more;
                left + u32::try_from(more).unwrap_or(0)
            }
        };
        if wanted != left {
            self.client.connection().set_credit(self.link, wanted).map_err(stale)?;
        }
        Ok(())
    }

    fn handle_events(&mut self, statistics: &mut Statistics) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(event) = self.client.event()? {
            match event {
                Event::Delivery(delivery) => self.handle_delivery(&delivery, now, statistics),
                Event::Oversize { link, id, settled, .. } => {
                    statistics.foreign.record(now, self.is_measuring());
                    self.settle(link, id, settled, now, statistics);
                }
                Event::SettledBySender { state, .. } => {
                    self.handle_final_word(state, now, statistics);
                }
                Event::Drained { .. } => self.drained = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn handle_delivery(&mut self, delivery: &Delivery, now: Instant, statistics: &mut Statistics) {
        let measured = self.is_measuring();
        let stamp = message::body(&delivery.payload).and_then(Stamp::decode);
        let ours = stamp.filter(|stamp| {
            stamp.run == self.shared.run && self.shared.was_sent(stamp.sender, stamp.number)
        });
        match ours {
            Some(stamp) => {
                if statistics.see(stamp.sender, stamp.number) {
                    statistics.received.record(now, measured);
                    self.shared.received_of_run.fetch_add(1, Ordering::Relaxed);
                }
                if measured {
                    let arrived = self.shared.clock.nanoseconds(now);
                    let latency = arrived.saturating_sub(stamp.due);
                    statistics.end_to_end_latency.record_nanoseconds(latency);
                }
            }
            None => statistics.foreign.record(now, measured),
        }
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        self.settle(delivery.link, delivery.id, delivery.settled, now, statistics);
    }

    fn settle(
        &mut self,
        link: LinkId,
        id: DeliveryId,
        settled: bool,
        now: Instant,
        statistics: &mut Statistics,
    ) {
        statistics.deliveries += 1;
        if !settled {
            let accepted = DeliveryState::Accepted;
            let settle = self.client.connection().settle_incoming(link, id, accepted, !self.second);
            if settle.is_err() {
                // The link ended in the same read. The event behind this one says why.
                return;
            }
        }
        if self.second && !settled {
            self.completions_pending += 1;
            self.shared.completions_pending.fetch_add(1, Ordering::Relaxed);
        } else {
            self.completed(now, statistics);
        }
    }

    fn handle_final_word(
        &mut self,
        state: Option<DeliveryState>,
        now: Instant,
        statistics: &mut Statistics,
    ) {
        self.completions_pending = self.completions_pending.saturating_sub(1);
        match state {
            // A broker may leave the state out: it is the one it was given.
            Some(DeliveryState::Accepted) | None => self.completed(now, statistics),
            Some(DeliveryState::Rejected(error)) => {
                statistics.completions_refused += 1;
                statistics.refused(|| describe(error.as_ref()));
            }
            Some(other) => {
                statistics.completions_refused += 1;
                statistics.refused(|| format!("a completion was answered with {other:?}"));
            }
        }
        self.shared.completions_pending.fetch_sub(1, Ordering::Relaxed);
    }

    fn completed(&self, now: Instant, statistics: &mut Statistics) {
        statistics.completed.record(now, self.is_measuring());
        self.shared.completed.fetch_add(1, Ordering::Relaxed);
    }

    fn is_measuring(&self) -> bool {
        self.shared.phase() == Phase::Measuring
    }
}

fn stale(error: impl std::fmt::Display) -> Failure {
    Failure::Violation(error.to_string())
}
