//! Deliveries of which the settlement is to be told, until it comes.

use std::collections::{HashMap, VecDeque};

use peeklock_core::LockToken;

use super::Given;

/// How many are remembered. Beyond it those are forgotten that were delivered first: most of what is never
/// settled is among them.
const UNSETTLED_MAX: usize = 16 * 1024;

/// By the locks of the messages.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    each: HashMap<LockToken, Given>,
    /// In the order in which they came, with some that are settled.
    order: VecDeque<LockToken>,
}

impl Unsettled {
    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    pub(crate) fn insert(&mut self, token: LockToken, given: Given) {
        while UNSETTLED_MAX <= self.each.len() {
            let Some(oldest) = self.order.pop_front() else { break };
            self.each.remove(&oldest);
        }
        if 2 * UNSETTLED_MAX <= self.order.len() {
            let each = &self.each;
            self.order.retain(|token| each.contains_key(token));
        }
        self.each.insert(token, given);
        self.order.push_back(token);
    }

    pub(crate) fn remove(&mut self, token: LockToken) -> Option<Given> {
        if self.each.is_empty() {
            // As it nearly always is: then nothing is to be looked for.
            return None;
        }
        let given = self.each.remove(&token);
        if self.each.is_empty() {
            self.order.clear();
        }
        given
    }

    /// Takes over all that another one remembers.
    pub(super) fn take_over(&mut self, mut other: Self) {
        for token in other.order {
            if let Some(given) = other.each.remove(&token) {
                self.insert(token, given);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::TraceContext;
    use super::*;

    fn token(number: usize) -> LockToken {
        LockToken((number as u128).to_be_bytes())
    }

    fn given() -> Given {
        let context = TraceContext { trace: 1, parent: 1, message_id: None };
        Given { context, at: UNIX_EPOCH, how: "none" }
    }

    #[test]
    fn what_is_never_settled_is_forgotten_in_the_end() {
        let mut unsettled = Unsettled::default();
        for number in 0..=UNSETTLED_MAX {
            unsettled.insert(token(number), given());
        }
        assert!(unsettled.remove(token(0)).is_none(), "there was one too many");
        assert!(unsettled.remove(token(1)).is_some());
        assert!(unsettled.remove(token(1)).is_none(), "once");
        assert!(unsettled.remove(token(UNSETTLED_MAX)).is_some());
    }

    #[test]
    fn what_is_settled_takes_no_room() {
        let mut unsettled = Unsettled::default();
        unsettled.insert(token(0), given());
        for number in 1..5 * UNSETTLED_MAX {
            unsettled.insert(token(number), given());
            assert!(unsettled.remove(token(number)).is_some());
        }
        assert!(unsettled.order.len() <= 2 * UNSETTLED_MAX && unsettled.each.len() == 1);
        assert!(unsettled.remove(token(0)).is_some() && unsettled.is_empty());
        assert!(unsettled.order.is_empty());
    }

    #[test]
    fn another_takes_over_what_is_left() {
        let (mut old, mut new) = (Unsettled::default(), Unsettled::default());
        for number in 0..10 {
            old.insert(token(number), given());
        }
        old.remove(token(5));
        new.take_over(old);
        let left = (0..10).filter(|number| new.remove(token(*number)).is_some());
        assert_eq!(left.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    }
}
