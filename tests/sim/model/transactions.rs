//! Transactions: everything at once, or nothing.

use peeklock_core::LockToken;

use super::{Body, Model, Wish};

/// Two minutes, as in Service Bus.
const TRANSACTION_TIME: u64 = 120_000;

/// One that was declared and not ended.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    declared_at: u64,
    enlisted: Vec<Enlisted>,
}

/// What is to be done when it is committed.
#[derive(Clone, Debug)]
pub(crate) enum Enlisted {
    Sends(Vec<Body>),
    /// With the numbers that were given out.
    Schedules(Vec<Body>, Vec<u64>),
    Settlement(Body, LockToken, Wish),
}

impl Model {
    pub(crate) fn declared(&mut self, transaction: u64) {
        self.seen.declared += 1;
        let open = Open { declared_at: self.now, enlisted: Vec::new() };
        let before = self.transactions.insert(transaction, open);
        assert!(before.is_none(), "transaction {transaction} was declared twice");
    }

    fn open(&self, transaction: u64) -> Option<&Open> {
        let open = self.transactions.get(&transaction)?;
        (self.now < open.declared_at + TRANSACTION_TIME).then_some(open)
    }

    pub(crate) fn enlisted(&mut self, transaction: u64, what: Enlisted) {
        self.seen.enlisted += 1;
        assert!(self.open(transaction).is_some(), "transaction {transaction} is not open");
        if let Enlisted::Settlement(body, token, wish) = &what {
            assert!(
                self.holds(*body, *token),
                "{wish:?} of message {body} was enlisted without a lock: {:?}",
                self.known(*body)
            );
            let lock = self.change(*body).lock.as_mut();
            lock.expect("it is in force").enlisted = Some(transaction);
        }
        self.transactions.get_mut(&transaction).expect("it is open").enlisted.push(what);
    }

    /// It was committed, or given up as its client wished.
    pub(crate) fn discharged(&mut self, transaction: u64, fail: bool) -> Vec<Body> {
        assert!(self.open(transaction).is_some(), "transaction {transaction} is not open");
        if fail {
            self.seen.rolled_back += 1;
            self.roll_back(transaction);
            return Vec::new();
        }
        self.seen.committed += 1;
        if let Some((body, _)) = self.lost_lock(transaction) {
            panic!(
                "transaction {transaction} was committed, and the lock of message {body} is lost: {:?}",
                self.known(body)
            );
        }
        let open = self.transactions.remove(&transaction).expect("it is open");
        let mut touched = Vec::new();
        for what in open.enlisted {
            match what {
                Enlisted::Sends(bodies) => {
                    self.seen.sent_with_transactions += bodies.len() as u64;
                    self.accepted(&bodies);
                    touched.extend(bodies);
                }
                Enlisted::Schedules(bodies, numbers) => {
                    self.seen.sent_with_transactions += bodies.len() as u64;
                    self.scheduled(&bodies, &numbers);
                    touched.extend(bodies);
                }
                Enlisted::Settlement(body, _, wish) => {
                    self.seen.settled_with_transactions += 1;
                    self.settle(body, wish);
                    touched.push(body);
                }
            }
        }
        touched
    }

    fn lost_lock(&self, transaction: u64) -> Option<(Body, LockToken)> {
        let open = &self.transactions[&transaction];
        open.enlisted.iter().find_map(|what| match what {
            Enlisted::Settlement(body, token, _) => {
                (!self.in_force(*body, *token)).then_some((*body, *token))
            }
            Enlisted::Sends(_) | Enlisted::Schedules(..) => None,
        })
    }

    /// A commit was refused: a lock is lost.
    pub(crate) fn not_committed(&mut self, transaction: u64, why: &str) {
        self.seen.not_committed += 1;
        assert!(
            self.open(transaction).is_some() && self.lost_lock(transaction).is_some(),
            "transaction {transaction} could have been committed, and was not: {why}; {:?}",
            self.transactions.get(&transaction)
        );
        self.roll_back(transaction);
    }

    /// The store did not answer: the transaction is rolled back, or still open.
    pub(crate) fn commit_failed(&mut self, transaction: u64) {
        self.roll_back(transaction);
    }

    /// A transaction was said to be unknown or too late.
    pub(crate) fn not_open(&mut self, transaction: Option<u64>) {
        self.seen.transaction_unknown += 1;
        if let Some(transaction) = transaction {
            assert!(
                self.open(transaction).is_none(),
                "transaction {transaction} is open, and was said to be unknown"
            );
            self.roll_back(transaction);
        }
    }

    /// Everything asked with it has not been asked: locks are as they were, and their time runs on.
    pub(crate) fn roll_back(&mut self, transaction: u64) {
        let Some(open) = self.transactions.remove(&transaction) else { return };
        for what in open.enlisted {
            if let Enlisted::Settlement(body, token, _) = what
                && let Some(lock) = self.change(body).lock.as_mut()
                && lock.token == token
            {
                lock.enlisted = None;
            }
        }
    }
}
