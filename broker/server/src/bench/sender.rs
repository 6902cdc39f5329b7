//! A connection that sends: as fast as credit and the in-flight limit allow (closed loop), or when
//! each message is due (open loop).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use peeklock_protocol::connection::{Event, LinkId};
use peeklock_protocol::delivery::OutgoingDelivery;
use peeklock_protocol::delivery_state::DeliveryState;
use tokio::sync::{mpsc, watch};

use super::arguments::{Extent, Plan};
use super::client::{self, Client};
use super::failure::Failure;
use super::link;
use super::message::MessageTemplate;
use super::schedule::{FineTimer, Schedule};
use super::shared::{Phase, Shared};
use super::stamp::Stamp;
use super::statistics::Statistics;
use crate::client::amqp::describe;

/// Sends without an outcome, each with the moment its latency counts from. A slot's number is the
/// delivery-tag, so an outcome finds its slot without a search.
#[derive(Debug)]
struct Slots {
    since: Vec<Instant>,
    free: Vec<u32>,
    len_max: u32,
}

impl Slots {
    fn new(len_max: u32) -> Self {
        Self { since: Vec::new(), free: Vec::new(), len_max }
    }

    fn taken(&self) -> usize {
        self.since.len() - self.free.len()
    }

    fn take(&mut self, since: Instant) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            *self.since.get_mut(usize::try_from(slot).ok()?)? = since;
            return Some(slot);
        }
        let slot = u32::try_from(self.since.len()).ok().filter(|len| *len < self.len_max)?;
        self.since.push(since);
        Some(slot)
    }

    fn release(&mut self, tag: &[u8]) -> Option<Instant> {
        let slot = u32::from_be_bytes(tag.try_into().ok()?);
        let since = *self.since.get(usize::try_from(slot).ok()?)?;
        self.free.push(slot);
        Some(since)
    }
}

struct Sender {
    shared: Arc<Shared>,
    index: u32,
    client: Client,
    link: LinkId,
    slots: Slots,
    template: MessageTemplate,
    /// Messages to send in the measured phase, when the run has a count.
    quota: Option<u64>,
    /// Number of the next message.
    number: u64,
}

/// Runs one sender to its end. Its counts come back whatever happens.
pub(super) async fn run(
    shared: Arc<Shared>,
    index: u32,
    ready: mpsc::Sender<()>,
) -> (Statistics, Result<(), Failure>) {
    let mut statistics = Statistics::new(shared.plan.senders);
    let result = send_all(shared, index, ready, &mut statistics).await;
    (statistics, result)
}

async fn send_all(
    shared: Arc<Shared>,
    index: u32,
    ready: mpsc::Sender<()>,
    statistics: &mut Statistics,
) -> Result<(), Failure> {
    let plan = &shared.plan;
    let (mut client, session) = client::open(plan).await?;
    let attach = link::sender(&plan.target, shared.run, index);
    let (link, _) = client.attach(session, attach).await?;
    let quota = match plan.extent {
        Extent::Count(count) => Some(Plan::share(count, plan.senders, index)),
        Extent::For(_) | Extent::UntilQuiet => None,
    };
    let mut sender = Sender {
        index,
        client,
        link,
        slots: Slots::new(plan.in_flight),
        template: MessageTemplate::new(plan.size, plan.distinct_bodies, plan.sessions),
        quota,
        number: 0,
        shared: Arc::clone(&shared),
    };
    let mut phase = shared.watch_phase();
    let _ = ready.send(()).await; // The run may have given up already.
    // The phase only moves on: an error would mean that the run itself is gone.
    let under_load = phase.wait_for(|phase| Phase::WarmUp <= *phase);
    let _ = under_load.await;
    sender.send_until_done(&mut phase, statistics).await?;
    Ok(sender.client.close().await?)
}

impl Sender {
    async fn send_until_done(
        &mut self,
        phase: &mut watch::Receiver<Phase>,
        statistics: &mut Statistics,
    ) -> Result<(), Failure> {
        let rate = self.shared.plan.rate;
        let schedule = rate.map(|rate| {
            let start = self.shared.load_start();
            Schedule::new(start, rate, self.shared.plan.senders, self.index)
        });
        let mut timer = FineTimer::new()?;
        loop {
            let now = Instant::now();
            while let Some(event) = self.client.event()? {
                self.handle(event, now, statistics)?;
            }
            let next_due = self.send_what_may_go(schedule, statistics)?;
            let phase_now = self.shared.phase();
            let nothing_more = Phase::Finishing <= phase_now || self.quota == Some(0);
            if phase_now == Phase::Stopping || (nothing_more && self.slots.taken() == 0) {
                return Ok(());
            }
            let wake = async {
                match next_due {
                    Some(due) => tokio::select! {
                        result = timer.sleep_until(due) => result?,
                        _ = phase.changed() => {}
                    },
                    None => drop(phase.changed().await),
                }
                Ok(())
            };
            self.client.exchange(wake).await?;
        }
    }

    /// Sends until credit, slots, quota or schedule say stop; answers when the next one is due.
    fn send_what_may_go(
        &mut self,
        schedule: Option<Schedule>,
        statistics: &mut Statistics,
    ) -> Result<Option<Instant>, Failure> {
        loop {
            let before = self.number;
            let next_due = self.send_burst(schedule, statistics)?;
            let all_written = self.client.write()?;
            // The engine stops a burst when much waits to be written; then there may be more to do.
            if next_due.is_some() || before == self.number || !all_written {
                return Ok(next_due);
            }
        }
    }

    fn send_burst(
        &mut self,
        schedule: Option<Schedule>,
        statistics: &mut Statistics,
    ) -> Result<Option<Instant>, Failure> {
        loop {
            let phase = self.shared.phase();
            let measured = phase == Phase::Measuring;
            let allowed = measured || phase == Phase::WarmUp;
            if !allowed
                || self.quota == Some(0)
                || self.client.connection().sendable(self.link) == 0
            {
                return Ok(None);
            }
            let now = Instant::now();
            let due = schedule.map_or(now, |schedule| schedule.due(self.number));
            if now < due {
                return Ok(Some(due));
            }
            let Some(slot) = self.slots.take(due) else { return Ok(None) };
            self.send_one(slot, due)?;
            statistics.sent += 1;
            if let Some(quota) = self.quota.as_mut().filter(|_| measured) {
                *quota -= 1;
            }
        }
    }

    fn send_one(&mut self, slot: u32, due: Instant) -> Result<(), Failure> {
        let stamp = Stamp {
            run: self.shared.run,
            sender: self.index,
            number: self.number,
            due: self.shared.clock.nanoseconds(due),
        };
        let parts: [Bytes; 3] = self.template.parts(stamp);
        let tag = slot.to_be_bytes();
        let delivery = OutgoingDelivery {
            tag: &tag,
            message_format: 0,
            settled: false,
            state: None,
            parts: &parts,
        };
        let sent = self.client.connection().send(self.link, delivery);
        sent.map_err(|error| Failure::Violation(error.to_string()))?;
        self.number += 1;
        // Before a byte is written: a receiver may see the message at once.
        self.shared.note_sent(self.index, self.number);
        Ok(())
    }

    fn handle(
        &mut self,
        event: Event,
        now: Instant,
        statistics: &mut Statistics,
    ) -> Result<(), Failure> {
        let Event::Settled { link, id, tag, state, settled } = event else { return Ok(()) };
        if matches!(state, Some(DeliveryState::Received { .. })) && !settled {
            return Ok(()); // How far it has come, not how it ended.
        }
        let Some(since) = self.slots.release(&tag) else {
            return Err(Failure::Violation(format!("an outcome for the unknown tag {tag:?}")));
        };
        match state {
            Some(DeliveryState::Accepted) => {
                let measured = self.shared.phase() == Phase::Measuring;
                statistics.accepted.record(now, measured);
                if measured {
                    statistics.accept_latency.record(now.saturating_duration_since(since));
                }
                self.shared.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Some(DeliveryState::Rejected(error)) => {
                statistics.rejected += 1;
                statistics.refused(|| describe(error.as_ref()));
            }
            other => {
                statistics.released += 1;
                statistics.refused(|| format!("{other:?}"));
            }
        }
        if !settled {
            // The receiver wants us to settle first (§2.6.12).
            let settle = self.client.connection().settle_outgoing(link, id, None, true);
            settle.map_err(|error| Failure::Violation(error.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_once_its_outcome_is_known() {
        let now = Instant::now();
        let mut slots = Slots::new(2);
        assert_eq!((slots.take(now), slots.take(now), slots.take(now)), (Some(0), Some(1), None));
        assert_eq!(slots.release(&1_u32.to_be_bytes()), Some(now));
        assert_eq!((slots.taken(), slots.take(now), slots.taken()), (1, Some(1), 2));
    }

    #[test]
    fn a_tag_that_is_no_slot_is_not_released() {
        let mut slots = Slots::new(2);
        slots.take(Instant::now());
        assert_eq!(slots.release(&7_u32.to_be_bytes()), None);
        assert_eq!(slots.release(b"long tag"), None);
        assert_eq!(slots.taken(), 1);
    }
}
