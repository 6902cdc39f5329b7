//! The order in which messages are delivered: that of their sequence numbers.

use std::collections::{BTreeSet, VecDeque};

use crate::id::SequenceNumber;

/// The ready messages of a queue. Almost all arrive at the end and leave at the front, so those are a
/// plain ring; the few that come back to their old place are kept apart, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadyOrder {
    fresh: VecDeque<SequenceNumber>,
    returned: BTreeSet<SequenceNumber>,
}

impl ReadyOrder {
    /// The message that is next.
    pub(crate) fn first(&self) -> Option<SequenceNumber> {
        match (self.fresh.front(), self.returned.first()) {
            (Some(fresh), Some(returned)) => Some(*fresh.min(returned)),
            (fresh, returned) => fresh.or(returned).copied(),
        }
    }

    /// The first message that is not below `from`.
    pub(crate) fn next_from(&self, from: SequenceNumber) -> Option<SequenceNumber> {
        let fresh = self.fresh.get(self.fresh.partition_point(|sequence| *sequence < from));
        let returned = self.returned.range(from..).next();
        match (fresh, returned) {
            (Some(fresh), Some(returned)) => Some(*fresh.min(returned)),
            (fresh, returned) => fresh.or(returned).copied(),
        }
    }

    /// The message that is last.
    pub(crate) fn last(&self) -> Option<SequenceNumber> {
        self.fresh.back().max(self.returned.last()).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.fresh.len() + self.returned.len()
    }

    pub(crate) fn insert(&mut self, sequence: SequenceNumber) {
        if self.fresh.back().is_none_or(|last| *last < sequence) {
            self.fresh.push_back(sequence);
        } else {
            self.returned.insert(sequence);
        }
    }

    /// Takes a message out, wherever it is. Cheap at both ends, which is where it happens.
    pub(crate) fn remove(&mut self, sequence: SequenceNumber) {
        if self.fresh.front() == Some(&sequence) {
            self.fresh.pop_front();
        } else if self.fresh.back() == Some(&sequence) {
            self.fresh.pop_back();
        } else if !self.returned.remove(&sequence) {
            let at = self.fresh.binary_search(&sequence).expect("a ready message is in the order");
            self.fresh.remove(at);
        }
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SequenceNumber> {
        let mut fresh = self.fresh.iter().copied().peekable();
        let mut returned = self.returned.iter().copied().peekable();
        std::iter::from_fn(move || match (fresh.peek(), returned.peek()) {
            (Some(f), Some(r)) if r < f => returned.next(),
            (Some(_), _) => fresh.next(),
            (None, _) => returned.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(numbers: &[u64]) -> ReadyOrder {
        let mut order = ReadyOrder::default();
        for number in numbers {
            order.insert(SequenceNumber(*number));
        }
        order
    }

    fn numbers(order: &ReadyOrder) -> Vec<u64> {
        order.iter().map(|sequence| sequence.0).collect()
    }

    #[test]
    fn returned_messages_take_their_old_place() {
        let mut order = order(&[5, 6, 9, 2, 7, 10]);
        assert_eq!(numbers(&order), [2, 5, 6, 7, 9, 10]);
        assert_eq!(order.len(), 6);
        let next = |from| order.next_from(SequenceNumber(from)).map(|sequence| sequence.0);
        assert_eq!(
            [1, 2, 3, 8, 10, 11].map(next),
            [Some(2), Some(2), Some(5), Some(9), Some(10), None]
        );
        for expected in [2, 5, 6, 7, 9, 10] {
            let first = order.first().unwrap();
            assert_eq!(first.0, expected);
            order.remove(first);
        }
        assert_eq!(order.first(), None);
    }

    #[test]
    fn any_message_can_be_taken_out() {
        let mut order = order(&[1, 2, 3, 4, 5]);
        order.remove(SequenceNumber(3));
        order.remove(SequenceNumber(5));
        order.insert(SequenceNumber(3));
        order.remove(SequenceNumber(1));
        assert_eq!(numbers(&order), [2, 3, 4]);
    }

    #[test]
    #[should_panic(expected = "a ready message is in the order")]
    fn taking_out_what_is_not_there_is_our_bug() {
        order(&[1, 3]).remove(SequenceNumber(2));
    }
}
