//! The credit of a connection's links that is not used yet, for those who watch the broker.
//!
//! It is reckoned with plain numbers, one for each role, whenever the credit of a link is looked at or used
//! anyway, and told to the metrics at the end of a turn. So a message costs two additions, and a turn at
//! most two atomic ones.

use std::sync::Arc;

use crate::metrics::{CreditRole, Metrics};

/// See the module. What was told is taken back with it.
pub(super) struct Credits {
    now: [i64; CreditRole::COUNT],
    told: [i64; CreditRole::COUNT],
    metrics: Arc<Metrics>,
}

impl Credits {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let none = [0; CreditRole::COUNT];
        Self { now: none, told: none, metrics }
    }

    /// A link that was known to have so much has this much.
    pub(super) fn note(&mut self, role: CreditRole, known: &mut u32, credit: u32) {
        self.now[role as usize] += i64::from(credit) - i64::from(*known);
        *known = credit;
    }

    /// One of it was used.
    pub(super) fn note_used(&mut self, role: CreditRole, known: &mut u32) {
        let left = known.saturating_sub(1);
        self.note(role, known, left);
    }

    /// At the end of a turn.
    pub(super) fn tell(&mut self) {
        if self.now != self.told {
            let changes = CreditRole::ALL.into_iter().zip(self.now).zip(self.told);
            for ((role, now), told) in changes {
                self.metrics.add_credit(role, now - told);
            }
            self.told = self.now;
        }
    }
}

impl Drop for Credits {
    fn drop(&mut self) {
        self.now = [0; CreditRole::COUNT];
        self.tell();
    }
}
