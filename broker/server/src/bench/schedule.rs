//! When each message of an open-loop run is due, and a timer fine enough to meet it.
//!
//! A moment is computed from the message's number, never from the moment before, so that lateness
//! does not add up: a sender that was held up sends what it owes at once, and the latency of those
//! messages counts from when they were due (otherwise a slow broker would hide its own slowness).

use std::io;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The due times of one sender among several that share a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Instant,
    rate: NonZeroU32,
    senders: u32,
    index: u32,
}

impl Schedule {
    pub(super) fn new(start: Instant, rate: NonZeroU32, senders: u32, index: u32) -> Self {
        Self { start, rate, senders: senders.max(1), index }
    }

    /// When the sender's message `number` is due. Senders take turns.
    pub(super) fn due(&self, number: u64) -> Instant {
        let turn = u128::from(number) * u128::from(self.senders) + u128::from(self.index);
        let nanoseconds = turn * 1_000_000_000 / u128::from(self.rate.get());
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        self.start + Duration::from_nanos(nanoseconds)
    }
}

/// Wakes at a moment within microseconds. Tokio's own timers count in milliseconds, which at 2,000
/// messages per second is two messages.
#[derive(Debug)]
pub(super) struct FineTimer {
    #[cfg(target_os = "linux")]
    descriptor: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    #[cfg(target_os = "linux")]
    armed_for: Option<Instant>,
}

#[cfg(target_os = "linux")]
impl FineTimer {
    pub(super) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types whose descriptor may change; OwnedFd's cannot"
        )]
        let descriptor = tokio::io::unix::AsyncFd::new(descriptor)?;
        Ok(Self { descriptor, armed_for: None })
    }

    /// Returns at `at`, or at once when that has passed. Dropping the future loses nothing.
    pub(super) async fn sleep_until(&mut self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if self.armed_for != Some(at) {
            self.arm(left)?;
            self.armed_for = Some(at);
        }
        loop {
            let mut ready = self.descriptor.readable().await?;
            let mut expirations = [0; 8];
            match ready.try_io(|inner| Ok(rustix::io::read(inner.get_ref(), &mut expirations)?)) {
                Ok(result) => {
                    self.armed_for = None;
                    return result.map(drop);
                }
                Err(_would_block) => {}
            }
        }
    }

    fn arm(&self, left: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let spec = Itimerspec { it_interval: once, it_value: left };
        timerfd_settime(self.descriptor.get_ref(), TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl FineTimer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns at `at`, to the millisecond.
    pub(super) async fn sleep_until(&mut self, at: Instant) -> io::Result<()> {
        tokio::time::sleep_until(at.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: u32, senders: u32, index: u32) -> Schedule {
        let rate = NonZeroU32::new(rate).expect("not zero");
        Schedule::new(Instant::now(), rate, senders, index)
    }

    #[test]
    fn a_rate_that_divides_nothing_evenly_does_not_drift() {
        let schedule = schedule(3, 1, 0);
        assert_eq!(schedule.due(3), schedule.start + Duration::from_secs(1));
        assert_eq!(schedule.due(3_000_000), schedule.start + Duration::from_secs(1_000_000));
    }

    #[test]
    fn senders_take_turns() {
        let start = Instant::now();
        let rate = NonZeroU32::new(4).expect("not zero");
        let mut due: Vec<Duration> = (0..2)
            .map(|index| Schedule::new(start, rate, 2, index))
            .flat_map(|schedule| [0, 1].map(|number| schedule.due(number) - start))
            .collect();
        due.sort_unstable();
        assert_eq!(due, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[tokio::test]
    async fn the_timer_never_wakes_early_and_can_be_asked_again() {
        let mut timer = FineTimer::new().expect("a timer");
        for microseconds in [300, 700, 0] {
            let at = Instant::now() + Duration::from_micros(microseconds);
            timer.sleep_until(at).await.expect("sleeps");
            assert!(at <= Instant::now());
        }
    }

    #[tokio::test]
    async fn a_dropped_wait_does_not_shorten_the_next() {
        let mut timer = FineTimer::new().expect("a timer");
        let near = Instant::now() + Duration::from_micros(200);
        let far = Instant::now() + Duration::from_millis(20);
        tokio::select! {
            biased;
            result = timer.sleep_until(near) => result.expect("sleeps"),
            () = tokio::task::yield_now() => {}
        }
        std::thread::sleep(Duration::from_micros(400));
        timer.sleep_until(far).await.expect("sleeps");
        assert!(far <= Instant::now());
    }
}
