//! The locks of a queue: by token, because any client may settle by token through any link, and by
//! the time at which they end.

use std::collections::VecDeque;

use crate::id::{LockToken, SequenceNumber, TokenMap};
use crate::time::Timestamp;

/// A lock in force, or past its end and not yet cleared away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) sequence: SequenceNumber,
    /// The first moment at which the lock is gone.
    pub(crate) until: Timestamp,
    /// Whether a transaction is to settle it, and nobody else.
    pub(crate) enlisted: bool,
}

impl Held {
    /// The end of a lock that has none of its own: it lasts as long as the lock of its session.
    pub(crate) const NO_END: Timestamp = Timestamp(u64::MAX);
}

/// All locks of a queue.
///
/// Locks of one duration end in the order in which they were taken, so their ends are a ring. A lock
/// that was settled or renewed leaves its record behind, to be dropped when its turn comes or when
/// such records outnumber the locks.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockTable {
    held: TokenMap<Held>,
    ends: VecDeque<(Timestamp, LockToken)>,
}

impl LockTable {
    /// Records left behind that are not worth a clean-up.
    const STALE_MIN: usize = 64;

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn held(&self, token: LockToken) -> Option<Held> {
        self.held.get(&token).copied()
    }

    pub(crate) fn insert(&mut self, token: LockToken, held: Held) {
        let before = self.held.insert(token, held);
        assert_eq!(before, None, "a token is drawn once");
        if held.until != Held::NO_END {
            self.record_end(held.until, token);
        }
    }

    /// Lets a lock end later; never earlier, so that a moment is recorded once for a lock.
    pub(crate) fn renew(&mut self, token: LockToken, until: Timestamp) {
        let held = self.held.get_mut(&token).expect("only a lock in force is renewed");
        assert!(held.until <= until, "a renewed lock does not end earlier");
        if held.until != until {
            held.until = until;
            self.record_end(until, token);
            self.clean_up();
        }
    }

    /// Says whether a transaction is to settle the lock.
    pub(crate) fn set_enlisted(&mut self, token: LockToken, enlisted: bool) {
        let held = self.held.get_mut(&token).expect("only a lock in force is enlisted");
        assert_ne!(held.enlisted, enlisted, "a lock is in one transaction");
        held.enlisted = enlisted;
    }

    /// How many locks are in transactions. Looks at all of them: for checks.
    pub(crate) fn enlisted_count(&self) -> usize {
        // A count does not depend on the order.
        self.held.values().filter(|held| held.enlisted).count()
    }

    pub(crate) fn remove(&mut self, token: LockToken) {
        let held = self.held.remove(&token);
        assert!(held.is_some(), "only a lock in force is ended");
        // Clients mostly settle in the order of delivery, and then nothing is left behind.
        if self.ends.front().is_some_and(|(_, first)| *first == token) {
            self.ends.pop_front();
        }
        self.clean_up();
    }

    /// No lock ends before this moment. Early when the first record is a stale one.
    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        self.ends.front().map(|(until, _)| *until)
    }

    /// A lock that is over, which the caller then removes.
    pub(crate) fn expired(&mut self, now: Timestamp) -> Option<(LockToken, SequenceNumber)> {
        while let Some((until, token)) = self.ends.front().copied() {
            if now < until {
                return None;
            }
            match self.held(token) {
                Some(held) if held.until == until => return Some((token, held.sequence)),
                Some(_) | None => self.ends.pop_front(),
            };
        }
        None
    }

    fn record_end(&mut self, until: Timestamp, token: LockToken) {
        // The duration may have been shortened a while ago: then, and only then, not at the end.
        let at = match self.ends.back() {
            Some((last, _)) if until < *last => self.ends.partition_point(|(end, _)| *end <= until),
            Some(_) | None => self.ends.len(),
        };
        self.ends.insert(at, (until, token));
    }

    fn clean_up(&mut self) {
        if self.ends.len() <= 2 * self.held.len() + Self::STALE_MIN {
            return;
        }
        let held = &self.held;
        self.ends.retain(|(until, token)| held.get(token).is_some_and(|held| held.until == *until));
    }

    /// Says what does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let in_force = self
            .ends
            .iter()
            .filter(|(until, token)| self.held(*token).is_some_and(|held| held.until == *until))
            .count();
        let endless = self.held.values().filter(|held| held.until == Held::NO_END).count();
        if in_force + endless != self.held.len() {
            return Err(format!("{} locks, but {in_force} ends of locks", self.held.len()));
        }
        if !self.ends.iter().is_sorted_by_key(|(until, _)| *until) {
            return Err("ends of locks out of order".into());
        }
        if 2 * self.held.len() + Self::STALE_MIN < self.ends.len() {
            return Err(format!("{} ends kept for {} locks", self.ends.len(), self.held.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{IdSource, SeededIds};

    fn table(ends: &[u64]) -> (LockTable, Vec<LockToken>) {
        let (mut table, mut ids) = (LockTable::default(), SeededIds::new(1));
        let tokens = ends.iter().zip(1..).map(|(end, number)| {
            let token = ids.lock_token();
            let sequence = SequenceNumber(number);
            let held = Held { sequence, until: Timestamp(*end), enlisted: false };
            table.insert(token, held);
            token
        });
        let tokens = tokens.collect();
        (table, tokens)
    }

    #[track_caller]
    fn expire_all(table: &mut LockTable, now: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some((token, sequence)) = table.expired(Timestamp(now)) {
            table.remove(token);
            table.check().unwrap();
            expired.push(sequence.0);
        }
        expired
    }

    #[test]
    fn locks_end_in_order_whatever_their_duration() {
        let (mut table, _) = table(&[100, 200, 50, 150]);
        assert_eq!(table.first_end(), Some(Timestamp(50)));
        assert_eq!(expire_all(&mut table, 49), [0; 0]);
        assert_eq!(expire_all(&mut table, 150), [3, 1, 4]);
        assert_eq!(expire_all(&mut table, 1_000), [2]);
        assert_eq!(table.first_end(), None);
    }

    #[test]
    fn a_renewed_lock_ends_later_and_once() {
        let (mut table, tokens) = table(&[100, 100]);
        table.renew(tokens[0], Timestamp(180));
        table.renew(tokens[0], Timestamp(180));
        assert_eq!(expire_all(&mut table, 100), [2]);
        assert_eq!(expire_all(&mut table, 179), [0; 0]);
        assert_eq!(expire_all(&mut table, 180), [1]);
    }

    #[test]
    fn settled_and_renewed_locks_leave_no_growing_trail() {
        let (mut table, tokens) = table(&[100; 3]);
        for until in 101..10_000 {
            table.renew(tokens[1], Timestamp(until));
            table.check().unwrap();
        }
        table.remove(tokens[2]);
        table.remove(tokens[1]);
        assert_eq!((table.len(), table.held(tokens[1])), (1, None));
        assert_eq!(expire_all(&mut table, 100), [1]);
    }
}
