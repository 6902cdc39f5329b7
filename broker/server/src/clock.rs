//! The server's clock: a value that is handed down, and the only place that reads the time of day.
//!
//! The real form shows the time of day. The steerable one can be stopped, moved forward and let run
//! again, so that a test need not wait for a lock to end; whoever waits for a moment learns of such a
//! step by [`Clock::changes`]. The clock is for what the broker promises: locks, tokens and all else
//! that has a [`Timestamp`]. The network and the disk keep to real time, whatever the clock shows.

use std::future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peeklock_core::{Span, Timestamp};
use tokio::sync::watch;

/// The end of the year 9999, which is the last moment that the date types of most clients have. Every
/// clock stands still there.
const LATEST: Timestamp = Timestamp(253_402_300_799_999);

/// For texts that people read and compare with other logs; everything that decides asks a [`Clock`].
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}

fn real_time() -> Timestamp {
    let since = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).min(LATEST)
}

/// See the module. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Form);

#[derive(Clone, Debug)]
enum Form {
    Real,
    Steerable(watch::Sender<Setting>),
}

/// How a steerable clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// It showed `shown` when the real time was `since`.
    Running {
        shown: Timestamp,
        since: Timestamp,
    },
    Frozen(Timestamp),
}

/// What can be done to a steerable clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stops it, where it stands or at a moment that is not earlier.
    Freeze {
        /// Where, if not where it stands.
        at: Option<Timestamp>,
    },
    /// Moves it forward; it stays frozen or goes on, as before.
    Advance(Span),
    /// Lets it run on from where it stands.
    Resume,
}

/// What a steerable clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The moment.
    pub time: Timestamp,
    /// Whether it stands still.
    pub frozen: bool,
}

/// A step was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// The clock is a real one.
    #[error("The clock of this broker cannot be steered: it runs without virtual time.")]
    Real,
    /// Time never goes back.
    #[error("The clock cannot go back: it shows {now} since 1970 already.")]
    Backwards {
        /// What it shows.
        now: Timestamp,
    },
    /// Clients could not show such a date.
    #[error("The clock cannot go beyond the year 9999.")]
    TooFar,
}

impl Setting {
    fn now(self, real: Timestamp) -> Timestamp {
        self.unbounded(real).min(LATEST)
    }

    /// What it would show if time had no end.
    fn unbounded(self, real: Timestamp) -> Timestamp {
        match self {
            Self::Running { shown, since } => shown.plus(real.since(since)),
            Self::Frozen(at) => at,
        }
    }

    fn stepped(self, step: Step, real: Timestamp) -> Result<Self, SteerError> {
        let now = self.now(real);
        let next = match (self, step) {
            (_, Step::Freeze { at }) => Self::Frozen(at.unwrap_or(now)),
            (Self::Frozen(at), Step::Advance(by)) => Self::Frozen(at.plus(by)),
            (Self::Running { .. }, Step::Advance(by)) => {
                Self::Running { shown: now.plus(by), since: real }
            }
            (_, Step::Resume) => Self::Running { shown: now, since: real },
        };
        if next.unbounded(real) < now {
            return Err(SteerError::Backwards { now });
        }
        if LATEST < next.unbounded(real) {
            return Err(SteerError::TooFar);
        }
        Ok(next)
    }

    fn reading(self, real: Timestamp) -> Reading {
        Reading { time: self.now(real), frozen: matches!(self, Self::Frozen(_)) }
    }
}

impl Clock {
    /// The time of day.
    pub fn real() -> Self {
        Self(Form::Real)
    }

    /// A clock that shows the time of day until it is steered.
    pub fn steerable() -> Self {
        let real = real_time();
        Self(Form::Steerable(watch::Sender::new(Setting::Running { shown: real, since: real })))
    }

    /// What it shows.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Form::Real => real_time(),
            Form::Steerable(setting) => setting.borrow().now(real_time()),
        }
    }

    /// How long until `moment`, zero when it is past; nothing when it does not come by waiting,
    /// because the clock is frozen before it or never shows it. In either case [`Clock::changes`] says
    /// when to ask again.
    pub fn until(&self, moment: Timestamp) -> Option<Duration> {
        if LATEST < moment {
            return None;
        }
        let setting = match &self.0 {
            Form::Real => return Some(moment.since(real_time()).as_duration()),
            Form::Steerable(setting) => *setting.borrow(),
        };
        let left = moment.since(setting.now(real_time()));
        match setting {
            Setting::Frozen(_) if left != Span(0) => None,
            Setting::Frozen(_) | Setting::Running { .. } => Some(left.as_duration()),
        }
    }

    /// For those who wait for a moment: tells of every step made from now on.
    pub fn changes(&self) -> ClockChanges {
        match &self.0 {
            Form::Real => ClockChanges(None),
            Form::Steerable(setting) => ClockChanges(Some(setting.subscribe())),
        }
    }

    /// What it shows and whether it stands still, if it can be steered.
    pub fn reading(&self) -> Result<Reading, SteerError> {
        match &self.0 {
            Form::Real => Err(SteerError::Real),
            Form::Steerable(setting) => Ok(setting.borrow().reading(real_time())),
        }
    }

    /// Makes a step, and tells all who wait.
    pub fn steer(&self, step: Step) -> Result<Reading, SteerError> {
        let Form::Steerable(setting) = &self.0 else { return Err(SteerError::Real) };
        let mut outcome = Err(SteerError::Real);
        // The real time is read under the lock: what was shown before is never later than that.
        setting.send_if_modified(|setting| {
            let real = real_time();
            let next = setting.stepped(step, real);
            outcome = next.map(|next| next.reading(real));
            next.map(|next| *setting = next).is_ok()
        });
        outcome
    }
}

/// See [`Clock::changes`].
#[derive(Debug)]
pub struct ClockChanges(Option<watch::Receiver<Setting>>);

impl ClockChanges {
    /// Waits for a step that was not reported yet; for ever at a real clock. Can be cancelled.
    pub async fn changed(&mut self) {
        if let Some(setting) = &mut self.0
            && setting.changed().await.is_ok()
        {
            return;
        }
        future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const START: Setting = Setting::Running { shown: Timestamp(1000), since: Timestamp(1000) };

    /// Steps, each with the real time at which it is made; then what is shown at the end.
    #[track_caller]
    fn check(steps: &[(u64, Step)], at: u64, time: u64, frozen: bool) {
        let mut setting = START;
        for (real, step) in steps {
            setting = setting.stepped(*step, Timestamp(*real)).unwrap();
        }
        assert_eq!(setting.reading(Timestamp(at)), Reading { time: Timestamp(time), frozen });
    }

    const FREEZE: Step = Step::Freeze { at: None };

    fn freeze_at(at: u64) -> Step {
        Step::Freeze { at: Some(Timestamp(at)) }
    }

    fn advance(by: u64) -> Step {
        Step::Advance(Span(by))
    }

    #[test]
    fn a_running_clock_keeps_its_distance_to_the_real_time() {
        check(&[], 1000, 1000, false);
        check(&[], 1700, 1700, false);
        check(&[(1100, advance(50))], 1100, 1150, false);
        check(&[(1100, advance(50)), (1200, advance(5))], 1300, 1355, false);
    }

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        check(&[(1100, FREEZE)], 9000, 1100, true);
        check(&[(1100, FREEZE), (1200, FREEZE)], 9000, 1100, true);
        check(&[(1100, freeze_at(5000))], 1100, 5000, true);
        check(&[(1100, freeze_at(1100))], 1200, 1100, true);
        check(&[(1100, FREEZE), (1200, advance(7)), (1300, advance(0))], 9000, 1107, true);
        check(&[(1100, FREEZE), (1200, freeze_at(1300))], 9000, 1300, true);
    }

    #[test]
    fn a_clock_runs_on_from_where_it_stands() {
        check(&[(1100, FREEZE), (1500, Step::Resume)], 1500, 1100, false);
        check(&[(1100, FREEZE), (1500, Step::Resume)], 1600, 1200, false);
        check(&[(1100, FREEZE), (1200, advance(900)), (1500, Step::Resume)], 1600, 2100, false);
        check(&[(1100, Step::Resume)], 1600, 1600, false);
    }

    #[test]
    fn time_goes_neither_back_nor_out_of_bounds() {
        // As when the machine's own clock is set back.
        check(&[], 900, 1000, false);
        let frozen = Setting::Frozen(Timestamp(1000));
        let real = Timestamp(1500);
        let back = |now| Err(SteerError::Backwards { now: Timestamp(now) });
        assert_eq!(START.stepped(freeze_at(1499), real), back(1500));
        assert_eq!(frozen.stepped(freeze_at(999), real), back(1000));
        for setting in [START, frozen] {
            for step in [advance(u64::MAX), advance(LATEST.0), freeze_at(LATEST.0 + 1)] {
                assert_eq!(setting.stepped(step, real), Err(SteerError::TooFar), "{step:?}");
            }
        }
        assert_eq!(frozen.stepped(freeze_at(LATEST.0), real), Ok(Setting::Frozen(LATEST)));
    }

    #[test]
    fn a_running_clock_stands_still_at_the_end_of_the_last_year() {
        let to_the_end = [(1100, freeze_at(LATEST.0)), (1200, Step::Resume)];
        check(&to_the_end, 1200, LATEST.0, false);
        check(&to_the_end, 1201, LATEST.0, false);
        check(&to_the_end, u64::MAX, LATEST.0, false);
        check(&[(1100, advance(LATEST.0 - 1101))], 1101, LATEST.0, false);
        check(&[(1100, advance(LATEST.0 - 1101))], 1103, LATEST.0, false);
        // It can still be steered, as far as that goes.
        let [to, on] = to_the_end;
        check(&[to, on, (1300, FREEZE), (1400, Step::Resume)], 1500, LATEST.0, false);
        check(&[to, on, (1300, advance(0))], 1500, LATEST.0, false);
        let setting = Setting::Running { shown: LATEST, since: Timestamp(1200) };
        assert_eq!(setting.stepped(advance(1), Timestamp(1300)), Err(SteerError::TooFar));
        // Nobody waits for what does not come.
        for clock in [Clock::real(), Clock::steerable()] {
            assert!(clock.until(LATEST).is_some());
            assert_eq!(clock.until(LATEST.plus(Span(1))), None);
        }
    }

    #[test]
    fn a_moment_behind_a_frozen_clock_has_come_and_one_before_it_does_not_come() {
        let clock = Clock::steerable();
        let Reading { time, frozen: true } = clock.steer(FREEZE).unwrap() else { panic!() };
        assert_eq!(clock.now(), time);
        assert_eq!(clock.until(Timestamp(time.0 - 1)), Some(Duration::ZERO));
        assert_eq!(clock.until(time), Some(Duration::ZERO));
        assert_eq!(clock.until(time.plus(Span(1))), None);
        clock.steer(advance(1)).unwrap();
        assert_eq!(clock.until(time.plus(Span(1))), Some(Duration::ZERO));
        clock.steer(Step::Resume).unwrap();
        assert!(clock.until(time.plus(Span::from_secs(3600))).is_some());
    }

    fn has_changed(changes: &mut ClockChanges) -> bool {
        pin!(changes.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn those_who_wait_hear_of_every_step_that_was_made() {
        let clock = Clock::steerable();
        let mut changes = clock.changes();
        assert!(!has_changed(&mut changes));
        for step in [FREEZE, advance(5), Step::Resume] {
            clock.clone().steer(step).unwrap();
            assert!(has_changed(&mut changes), "{step:?}");
            assert!(!has_changed(&mut changes), "{step:?}");
        }
        clock.steer(freeze_at(0)).unwrap_err();
        assert!(!has_changed(&mut changes));
    }

    #[test]
    fn a_real_clock_cannot_be_steered() {
        let clock = Clock::real();
        let before = real_time();
        assert!(before <= clock.now() && clock.now() <= real_time());
        assert_eq!(clock.until(Timestamp(0)), Some(Duration::ZERO));
        for step in [FREEZE, advance(5), Step::Resume] {
            assert_eq!(clock.steer(step), Err(SteerError::Real));
        }
        assert_eq!(clock.reading(), Err(SteerError::Real));
        assert!(!has_changed(&mut clock.changes()));
    }
}
