//! Every deadline of a connection: the handshake's, the peer's silence, our own, and the wait for
//! the peer's close.

use std::time::{Duration, Instant};

use super::fault::error;
use super::{Connection, Phase};
use crate::condition;
use crate::frame::write_empty_frame;
use crate::limits;

#[derive(Debug)]
pub(super) struct Timers {
    handshake_deadline: Option<Instant>,
    /// The peer must not be silent for longer.
    idle_timeout: Option<Duration>,
    last_received: Instant,
    /// We must not be silent for longer: half of what the peer announced (§2.4.5).
    heartbeat_interval: Option<Duration>,
    last_sent: Instant,
    close_deadline: Option<Instant>,
}

impl Timers {
    pub(super) fn new(now: Instant, idle_timeout: Option<Duration>, handshake: Duration) -> Self {
        Self {
            handshake_deadline: now.checked_add(handshake),
            idle_timeout: idle_timeout.filter(|timeout| !timeout.is_zero()),
            last_received: now,
            heartbeat_interval: None,
            last_sent: now,
            close_deadline: None,
        }
    }

    /// Half of our own limit, so that a peer which sends just in time is in time (§2.4.5).
    pub(super) fn announced_idle_time_out(&self) -> Option<u32> {
        let half = self.idle_timeout? / 2;
        Some(u32::try_from(half.as_millis()).unwrap_or(u32::MAX))
    }

    /// The peer's open has come. `false`: it asks for more heartbeats than are reasonable.
    #[must_use]
    pub(super) fn opened(&mut self, idle_time_out: Option<u32>) -> bool {
        self.handshake_deadline = None;
        let Some(millis) = idle_time_out.filter(|millis| *millis != 0) else { return true };
        if millis < limits::IDLE_TIME_OUT_MILLIS_MIN {
            return false;
        }
        self.heartbeat_interval = Some(Duration::from_millis(u64::from(millis)) / 2);
        true
    }

    pub(super) fn received(&mut self, now: Instant) {
        self.last_received = now;
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Our close is out: from the first look at the clock on, the peer has this long to answer.
    pub(super) fn wait_for_close(&mut self, now: Instant) {
        if self.close_deadline.is_none() {
            self.close_deadline = now.checked_add(limits::CLOSE_ANSWER_WAIT);
        }
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.last_received.checked_add(self.idle_timeout?)
    }

    fn heartbeat_due(&self) -> Option<Instant> {
        self.last_sent.checked_add(self.heartbeat_interval?)
    }
}

impl Connection {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let timers = &self.timers;
        match self.phase {
            Phase::Closed => None,
            // Not set means nobody has looked at the clock since: as soon as possible.
            Phase::Closing => timers.close_deadline.or(Some(timers.last_received)),
            Phase::Open => {
                // While output waits to be written, an empty frame behind it would help nobody.
                let heartbeat = timers.heartbeat_due().filter(|_| self.output.is_empty());
                [timers.idle_deadline(), heartbeat].into_iter().flatten().min()
            }
            Phase::Header | Phase::Sasl(_) | Phase::AmqpHeader | Phase::Opening => {
                timers.handshake_deadline
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        match self.phase {
            Phase::Closed => {}
            Phase::Closing => {
                self.timers.wait_for_close(now);
                if passed(self.timers.close_deadline) {
                    self.finish(None);
                }
            }
            Phase::Open => {
                if passed(self.timers.idle_deadline()) {
                    self.reached.idle += 1;
                    self.fail(error(
                        condition::RESOURCE_LIMIT_EXCEEDED,
                        "nothing was received within the idle time-out",
                    ));
                } else if self.output.is_empty() && passed(self.timers.heartbeat_due()) {
                    self.flush();
                    if self.output.is_empty() {
                        self.write_heartbeat();
                    }
                    self.timers.sent(now);
                }
            }
            Phase::Header | Phase::Sasl(_) | Phase::AmqpHeader | Phase::Opening => {
                if passed(self.timers.handshake_deadline) {
                    self.reached.handshake += 1;
                    self.fail(error(
                        condition::RESOURCE_LIMIT_EXCEEDED,
                        "the connection was not opened in time",
                    ));
                }
            }
        }
    }

    /// §2.4.5: a frame of a header alone.
    fn write_heartbeat(&mut self) {
        self.output.append(write_empty_frame);
    }
}
