//! Which messages of a queue are meant: all, or those that a condition holds for.

use clap::Args;
use peeklock_core::filter::SqlFilter;

use super::failure::Failure;
use super::messaging::Messaging;
use super::output;
use super::peek::{Browser, lets_through, selector};
use super::show::{REASON, Received};

/// What is meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArguments {
    /// Only what this condition holds for, as in "color = 'red' AND price > 5"
    #[arg(long, value_name = "CONDITION", value_parser = is_selector)]
    filter: Option<String>,
    /// Only dead letters with this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Not more than so many
    #[arg(long, short = 'n', value_name = "N")]
    pub(super) count: Option<u64>,
}

fn is_selector(text: &str) -> Result<String, String> {
    selector(text).map(|_| text.to_owned())
}

impl SelectionArguments {
    /// The condition for a link; none if everything is meant.
    pub(super) fn selector(&self) -> Option<String> {
        let reason =
            self.reason.as_ref().map(|text| format!("{REASON} = '{}'", text.replace('\'', "''")));
        match (&self.filter, reason) {
            (None, None) => None,
            (Some(filter), None) => Some(filter.clone()),
            (None, Some(reason)) => Some(reason),
            (Some(filter), Some(reason)) => Some(format!("{reason} AND ({filter})")),
        }
    }

    /// The same condition, to look at messages with.
    pub(super) fn filter(&self) -> Result<Option<Box<SqlFilter>>, Failure> {
        self.selector().map(|text| selector(&text).map_err(Failure::Argument)).transpose()
    }

    /// Looks at all messages that are meant and may be received: those that are scheduled or deferred
    /// are not among them.
    pub(super) async fn look(
        &self,
        messaging: &mut Messaging<'_>,
        address: &str,
        session: Option<String>,
    ) -> Result<Found, Failure> {
        let filter = self.filter()?;
        let most = self.count.unwrap_or(u64::MAX);
        let mut browser = Browser::new(address.to_owned(), session, 0);
        let bar = output::progress(None, "looked at");
        let mut found = Found { count: 0, last: -1 };
        while found.count < most
            && let Some(received) = browser.next(messaging, u64::MAX).await?
        {
            bar.inc(1);
            let is_meant = filter.as_ref().is_none_or(|filter| lets_through(filter, &received));
            if is_meant && received.state() == "active" {
                found.count += 1;
                found.last = found.last.max(received.sequence().unwrap_or(found.last));
            }
        }
        bar.finish_and_clear();
        Ok(found)
    }
}

/// What is there when a command begins. What comes later is not meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) count: u64,
    /// The highest sequence number among them.
    last: i64,
}

impl Found {
    /// Whether a message has come since.
    pub(super) fn is_before(&self, received: &Received) -> bool {
        received.sequence().is_some_and(|number| self.last < number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_and_filter_hold_together() {
        let text = |filter: Option<&str>, reason: Option<&str>| {
            let (filter, reason) = (filter.map(str::to_owned), reason.map(str::to_owned));
            let selection = SelectionArguments { filter, reason, count: None };
            selection.filter().expect("valid");
            selection.selector()
        };
        assert_eq!(text(None, None), None);
        assert_eq!(text(None, Some("it's")).as_deref(), Some("DeadLetterReason = 'it''s'"));
        let both = text(Some("a = 1 OR b = 2"), Some("x"));
        assert_eq!(both.as_deref(), Some("DeadLetterReason = 'x' AND (a = 1 OR b = 2)"));
        assert!(is_selector("a = ").is_err());
    }
}
