//! Which message-ids a queue remembers.

use super::state::Durable;
use super::{Body, Model};

/// Later than any run.
const FOREVER: u64 = u64::MAX / 2;

/// When an id was last accepted: at the earliest and at the latest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    accepted: (u64, u64),
    by: Option<Body>,
}

pub(super) enum Verdict {
    No,
    /// It is known only about when its forerunner came.
    Maybe(Body),
    Yes(Body),
}

impl Model {
    pub(super) fn is_duplicate(&self, queue: usize, message_id: Option<u64>) -> Verdict {
        let Some(window) = self.rules[queue].duplicate_window else { return Verdict::No };
        let Some(id) = message_id else { return Verdict::No };
        let Some(entry) = self.remembered.get(&(queue, id)) else { return Verdict::No };
        let Remembered { accepted: (first, last), by } = *entry.get();
        let Some(by) = by else { return Verdict::No };
        if self.now < first + window {
            Verdict::Yes(by)
        } else if self.now < last + window {
            Verdict::Maybe(by)
        } else {
            Verdict::No
        }
    }

    /// An id is taken in: now, or some time from now on by a queue it is forwarded to.
    pub(super) fn remember(&mut self, body: Body, queue: usize, is_underway: bool) {
        let Some(id) = self.known(body).sent.message_id else { return };
        if self.rules[queue].duplicate_window.is_none() {
            return;
        }
        let empty = Durable::new(Remembered { accepted: (0, 0), by: None });
        let entry = self.remembered.entry((queue, id)).or_insert(empty);
        let entry = entry.change(self.turn, self.durable);
        let accepted = if is_underway { (entry.accepted.0, FOREVER) } else { (self.now, self.now) };
        *entry = Remembered { accepted, by: Some(body) };
    }
}
