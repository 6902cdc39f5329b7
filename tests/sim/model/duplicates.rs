//! Which message-ids a queue remembers.

use super::state::Durable;
use super::{Body, Model};

/// When an id was last accepted: at the earliest and at the latest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    accepted: (u64, u64),
    by: Option<Body>,
}

pub(super) enum Verdict {
    No,
    /// The window is kept in parts, so that it may last an eighth longer than asked for.
    Maybe,
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
        } else if self.now <= last + window + window / 8 {
            Verdict::Maybe
        } else {
            Verdict::No
        }
    }

    pub(super) fn remember(&mut self, body: Body, queue: usize, may_be_dropped: bool) {
        let Some(id) = self.known(body).sent.message_id else { return };
        if self.rules[queue].duplicate_window.is_none() {
            return;
        }
        let empty = Durable::new(Remembered { accepted: (0, 0), by: None });
        let entry = self.remembered.entry((queue, id)).or_insert(empty);
        let entry = entry.change(self.turn, self.durable);
        let first = if may_be_dropped { entry.accepted.0 } else { self.now };
        *entry = Remembered { accepted: (first, self.now), by: Some(body) };
    }
}
