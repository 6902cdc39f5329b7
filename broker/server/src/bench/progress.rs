//! The progress bar: on a terminal only, so that logs and pipes stay clean.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::arguments::{Extent, Plan};
use super::shared::Totals;

/// Draws on standard error when that is a terminal; otherwise does nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    unit: Unit,
}

/// What the bar's length counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Milliseconds,
    Accepted,
    Received,
    /// The end is not known.
    Nothing,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        let (unit, len) = match plan.extent {
            Extent::For(time) => {
                let whole = (plan.warm_up + time).as_millis();
                (Unit::Milliseconds, Some(u64::try_from(whole).unwrap_or(u64::MAX)))
            }
            Extent::Count(count) if 0 < plan.senders => (Unit::Accepted, Some(count)),
            Extent::Count(count) => (Unit::Received, Some(count)),
            Extent::UntilQuiet => (Unit::Nothing, None),
        };
        // indicatif hides the bar by itself when the target is not a terminal.
        let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {percent}% {msg}");
        bar.set_style(style.expect("a constant template that is known to parse"));
        Self { bar, unit }
    }

    pub(super) fn show(&self, totals: Totals, since_start: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        let position = match self.unit {
            Unit::Milliseconds => u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX),
            Unit::Accepted => totals.accepted,
            Unit::Received => totals.received,
            Unit::Nothing => 0,
        };
        self.bar.set_position(position.min(self.bar.length().unwrap_or(u64::MAX)));
        let Totals { accepted, received, completed } = totals;
        self.bar.set_message(format!(
            "{accepted} accepted, {received} received, {completed} completed"
        ));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
