//! How much memory messages take. A body that several queues share is counted once for all of them.

use std::iter::Sum;
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Octets of memory of one queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Memory {
    /// What it keeps for itself.
    pub(crate) own: usize,
    /// Bodies that others may keep too.
    pub(crate) shared: usize,
}

impl Memory {
    /// What it would take if it shared nothing.
    pub(crate) const fn total(self) -> usize {
        self.own + self.shared
    }
}

impl AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.own += other.own;
        self.shared += other.shared;
    }
}

impl SubAssign for Memory {
    fn sub_assign(&mut self, other: Self) {
        self.own -= other.own;
        self.shared -= other.shared;
    }
}

impl Sum for Memory {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Memory::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// What all shared bodies of a broker take. Only the broker's task changes it; it is atomic so that the
/// broker can be handed to that task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<AtomicUsize>);

impl Account {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A body's part of an account, for as long as one of the queues keeps it.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    account: Account,
}

impl Charge {
    pub(crate) fn new(bytes: usize, account: &Account) -> Self {
        account.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { bytes, account: account.clone() }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_lasts_as_long_as_somebody_keeps_it() {
        let account = Account::default();
        let one = Arc::new(Charge::new(100, &account));
        let two = Arc::clone(&one);
        let other = Charge::new(20, &account);
        assert_eq!(account.bytes(), 120);
        drop(one);
        assert_eq!(account.bytes(), 120);
        drop(two);
        assert_eq!((account.bytes(), other.bytes()), (20, 20));
    }
}
