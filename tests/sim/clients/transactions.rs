//! Transactions.

use peeklock_core::{Command, Enlistment, Origin, TransactionId};

use super::Asked;
use crate::model::Wish;
use crate::workload::Workload;
use crate::world::World;

/// Transactions open at a time.
const OPEN_MAX: usize = 4;

impl World {
    pub(super) fn declare_transaction(&mut self) {
        if self.open_transactions.len() < OPEN_MAX {
            let origin = self.ask(Asked::Declare);
            self.handle(Command::Declare { origin });
        }
    }

    pub(super) fn settle_with_transaction(&mut self, workload: &Workload) {
        let Some(transaction) = self.draws.pick(&self.open_transactions) else { return };
        if self.held.is_empty() {
            return;
        }
        let index = self.draws.index(self.held.len() as u64);
        if self.is_fleeting(self.held[index].at.0) {
            return;
        }
        let held = self.held.swap_remove(index);
        let wish = match self.draws.below(6) + u64::from(workload.defers) {
            0..=3 => Wish::Complete,
            4 => Wish::Abandon,
            5 => Wish::DeadLetter,
            _ => Wish::Defer,
        };
        self.settle(held, wish, Some(transaction));
        if self.draws.once_in(4) {
            // Whoever settles the same without the transaction must be refused while it is open.
            self.settle(held, Wish::Complete, None);
        }
    }

    pub(super) fn discharge(&mut self) {
        if self.open_transactions.is_empty() {
            return;
        }
        let index = self.draws.index(self.open_transactions.len() as u64);
        let transaction = self.open_transactions.swap_remove(index);
        let fail = self.draws.once_in(4);
        self.discharge_one(transaction, fail);
    }

    pub(crate) fn discharge_one(&mut self, transaction: u64, fail: bool) {
        let origin = self.ask(Asked::Discharge { transaction, fail });
        let transaction = TransactionId(transaction);
        self.handle(Command::Discharge { origin, transaction, fail });
    }

    /// One from before a crash, or one that ended, is unknown.
    pub(super) fn discharge_stale(&mut self) {
        if let Some((start, transaction)) = self.draws.pick(&self.ended_transactions) {
            let origin = Origin { connection: start, ..self.ask(Asked::Stale) };
            let transaction = TransactionId(transaction);
            self.handle(Command::Discharge { origin, transaction, fail: false });
        }
    }
}

pub(super) const fn enlistment(transaction: u64) -> Enlistment {
    Enlistment { transaction: TransactionId(transaction), answered: true }
}
