//! Channel numbers and handles: the ones the peer chose, looked up by number, and the ones we
//! choose, taken from a pool. Memory goes with how many are in use, never with how large they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// From a number the peer chose to what it stands for: a sorted list, with the last hit kept,
/// because frames come in runs for the same link.
#[derive(Debug)]
pub(crate) struct NumberMap<V> {
    entries: Vec<(u32, V)>,
    last_hit: usize,
}

impl<V> Default for NumberMap<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), last_hit: 0 }
    }
}

impl<V: Copy> NumberMap<V> {
    pub(crate) fn get(&mut self, number: u32) -> Option<V> {
        if let Some((hit, value)) = self.entries.get(self.last_hit)
            && *hit == number
        {
            return Some(*value);
        }
        let index = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.last_hit = index;
        self.entries.get(index).map(|(_, value)| *value)
    }

    /// The caller has checked that the number is free; an old value would be replaced.
    pub(crate) fn insert(&mut self, number: u32, value: V) {
        match self.entries.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(index) => {
                if let Some(entry) = self.entries.get_mut(index) {
                    entry.1 = value;
                }
            }
            Err(index) => self.entries.insert(index, (number, value)),
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<V> {
        let index = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.entries.remove(index).1)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Numbers of our own choosing: always the smallest that is free, so that a peer with a small
/// `channel-max` or `handle-max` can be served as long as possible.
#[derive(Debug, Default)]
pub(crate) struct NumberPool {
    free: BinaryHeap<Reverse<u32>>,
    next: u32,
}

impl NumberPool {
    /// The smallest free number, unless it would be above `max`.
    pub(crate) fn take(&mut self, max: u32) -> Option<u32> {
        if let Some(Reverse(number)) = self.free.peek().copied() {
            if max < number {
                return None;
            }
            self.free.pop();
            return Some(number);
        }
        if max < self.next {
            return None;
        }
        let number = self.next;
        self.next = number.checked_add(1)?;
        Some(number)
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        self.free.push(Reverse(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_apart_numbers_cost_no_more_than_near_ones() {
        let mut map = NumberMap::default();
        map.insert(u32::MAX, 'z');
        map.insert(1, 'a');
        assert_eq!(map.get(u32::MAX), Some('z'));
        assert_eq!(map.get(1), Some('a'));
        assert_eq!(map.get(2), None);
        assert_eq!(map.remove(1), Some('a'));
        assert_eq!(map.get(u32::MAX), Some('z'));
        assert_eq!(map.entries.len(), 1);
    }

    #[test]
    fn the_pool_hands_out_the_smallest_and_keeps_to_the_maximum() {
        let mut pool = NumberPool::default();
        assert_eq!([pool.take(2), pool.take(2), pool.take(2)], [Some(0), Some(1), Some(2)]);
        assert_eq!(pool.take(2), None);
        pool.give_back(2);
        pool.give_back(0);
        assert_eq!(pool.take(2), Some(0));
        assert_eq!(pool.take(1), None);
        assert_eq!(pool.take(2), Some(2));
    }
}
