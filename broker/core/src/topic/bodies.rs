//! How long a topic keeps the row of a message that its subscriptions hold without copies.
//!
//! Of the newest messages it is counted how many hold them, and the row goes with the last of these.
//! Counts are not written: who has none (after a start, say) cannot tell who was the last. Then the
//! stretch of numbers around is noted as stale, in the same commit, and looked at later
//! (`broker/topics/sweep.rs`): what nobody holds there goes then.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::id::SequenceNumber;

/// Messages whose holders are counted, over all topics: a few megabytes.
const COUNTED_MAX: usize = 1 << 18;
/// And at least for each topic, however many there are.
const COUNTED_MIN: usize = 256;
/// Numbers that a stretch has, at least.
const STRETCH_LEN: u64 = 1024;

/// What is known of the messages of one topic.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    counted: BTreeMap<SequenceNumber, Counted>,
    /// Where messages may be that nobody holds: beginnings and ends.
    stale: BTreeMap<SequenceNumber, SequenceNumber>,
    /// The stretch that is being looked at.
    looking_at: Option<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    holders: usize,
    size: u64,
}

#[derive(Clone, Debug)]
struct Look {
    range: Range<SequenceNumber>,
    /// Whether somebody gave up a message there since it began.
    is_outdated: bool,
}

/// What it means that one more does not hold a message any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Others hold it.
    Held,
    /// It was the last, and the message has so many octets.
    Last { size: u64 },
    /// Nobody knows.
    Unknown,
}

impl Bodies {
    /// A message was given to so many.
    pub(crate) fn insert(
        &mut self,
        sequence: SequenceNumber,
        holders: usize,
        size: u64,
        topic_count: usize,
    ) {
        self.counted.insert(sequence, Counted { holders, size });
        if (COUNTED_MAX / topic_count.max(1)).max(COUNTED_MIN) < self.counted.len() {
            self.counted.pop_first();
        }
    }

    /// One of its holders gave a message up.
    pub(crate) fn leave(&mut self, sequence: SequenceNumber) -> Left {
        let Some(counted) = self.counted.get_mut(&sequence) else { return Left::Unknown };
        counted.holders -= 1;
        if counted.holders > 0 {
            return Left::Held;
        }
        let size = counted.size;
        self.counted.remove(&sequence);
        Left::Last { size }
    }

    /// From here on nobody knows how many hold these.
    pub(crate) fn forget(&mut self, range: &Range<SequenceNumber>) {
        if range.start < range.end {
            let mut behind = self.counted.split_off(&range.start);
            self.counted.append(&mut behind.split_off(&range.end));
        }
    }

    pub(crate) fn is_counted(&self, sequence: SequenceNumber) -> bool {
        self.counted.contains_key(&sequence)
    }

    /// The stretch around a message.
    pub(crate) const fn stretch(sequence: SequenceNumber) -> Range<SequenceNumber> {
        let start = sequence.0 - sequence.0 % STRETCH_LEN;
        SequenceNumber(start)..SequenceNumber(start + STRETCH_LEN)
    }

    /// Notes that somebody gave up these messages, by a stretch in which they are. Says what is new and
    /// has to be written.
    pub(crate) fn mark(
        &mut self,
        gone: &Range<SequenceNumber>,
        stretch: Range<SequenceNumber>,
    ) -> Option<Range<SequenceNumber>> {
        if let Some(look) = &mut self.looking_at
            && look.range.start < gone.end
            && gone.start < look.range.end
        {
            look.is_outdated = true;
        }
        let known = self.stale.range(..=gone.start).next_back();
        let is_known = known.is_some_and(|(_, end)| gone.end <= *end);
        (!is_known).then(|| self.add_stale(stretch))
    }

    /// Of stretches with the same beginning the longer one counts.
    fn add_stale(&mut self, range: Range<SequenceNumber>) -> Range<SequenceNumber> {
        let end = self.stale.entry(range.start).or_insert(range.end);
        *end = range.end.max(*end);
        range.start..*end
    }

    /// All stretches as they are written.
    pub(crate) fn stale(&self) -> impl Iterator<Item = Range<SequenceNumber>> {
        self.stale.iter().map(|(start, end)| *start..*end)
    }

    /// Brings a stretch back.
    pub(crate) fn load(&mut self, range: Range<SequenceNumber>) {
        self.add_stale(range);
    }

    /// Begins to look at the first part of the next stretch from a number on, if nothing is being
    /// looked at.
    pub(crate) fn begin_look(&mut self, from: SequenceNumber) -> Option<Range<SequenceNumber>> {
        if self.looking_at.is_some() {
            return None;
        }
        let (start, end) = self.stale.range(from..).next()?;
        let end = SequenceNumber(start.0 + STRETCH_LEN).min(*end);
        let range = *start..end;
        self.looking_at = Some(Look { range: range.clone(), is_outdated: false });
        Some(range)
    }

    /// It could not be looked at.
    pub(crate) fn give_up_look(&mut self) {
        self.looking_at = None;
    }

    pub(crate) const fn is_looking(&self) -> bool {
        self.looking_at.is_some()
    }

    /// What was looked at has nothing in it any more that nobody holds, but for what happened since.
    /// Says which stretches there are now in place of the one that began there.
    pub(crate) fn end_look(&mut self) -> (SequenceNumber, Vec<Range<SequenceNumber>>) {
        let look = self.looking_at.take().expect("a look ends once");
        let Range { start, end } = look.range;
        let stretch_end = self.stale.remove(&start).expect("what is looked at is a stretch");
        let mut left = Vec::new();
        if look.is_outdated {
            left.push(self.add_stale(start..end));
        }
        if end < stretch_end {
            left.push(self.add_stale(end..stretch_end));
        }
        (start, left)
    }

    /// Whether somebody has to look.
    pub(crate) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> SequenceNumber {
        SequenceNumber(number)
    }

    fn one(n: u64) -> Range<SequenceNumber> {
        number(n)..number(n + 1)
    }

    fn stale(bodies: &Bodies) -> Vec<(u64, u64)> {
        bodies.stale().map(|range| (range.start.0, range.end.0)).collect()
    }

    #[test]
    fn the_last_holder_is_known_if_all_were_counted() {
        let mut bodies = Bodies::default();
        bodies.insert(number(5), 2, 70, 1);
        assert_eq!(bodies.leave(number(5)), Left::Held);
        assert_eq!(bodies.leave(number(5)), Left::Last { size: 70 });
        assert_eq!(bodies.leave(number(5)), Left::Unknown);
        for sequence in 10..20 {
            bodies.insert(number(sequence), 1, 1, 1);
        }
        bodies.forget(&(number(12)..number(15)));
        let known: Vec<_> = (0..30).filter(|n| bodies.is_counted(number(*n))).collect();
        assert_eq!(known, [10, 11, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn only_so_many_are_counted() {
        let mut bodies = Bodies::default();
        for sequence in 0..1000 {
            bodies.insert(number(sequence), 1, 1, COUNTED_MAX);
        }
        assert_eq!(bodies.counted.len(), COUNTED_MIN);
        assert!(!bodies.is_counted(number(0)) && bodies.is_counted(number(999)));
    }

    #[test]
    fn a_stretch_is_noted_once_until_it_was_looked_at() {
        let mut bodies = Bodies::default();
        let mut mark = |n| bodies.mark(&one(n), Bodies::stretch(number(n)));
        assert_eq!(mark(5), Some(number(0)..number(1024)));
        assert_eq!(mark(6), None);
        assert_eq!(mark(2000), Some(number(1024)..number(2048)));
        assert_eq!(bodies.begin_look(number(0)), Some(number(0)..number(1024)));
        assert_eq!(bodies.begin_look(number(0)), None, "one at a time");
        assert_eq!(bodies.end_look(), (number(0), vec![]));
        assert_eq!(stale(&bodies), [(1024, 2048)]);
    }

    #[test]
    fn a_stretch_that_ends_too_early_says_nothing_about_the_rest() {
        let mut bodies = Bodies::default();
        let range = |start, end| number(start)..number(end);
        assert_eq!(bodies.mark(&range(50, 60), range(50, 60)), Some(range(50, 60)));
        assert_eq!(bodies.mark(&range(55, 70), range(55, 70)), Some(range(55, 70)));
        assert_eq!(bodies.mark(&range(50, 65), range(50, 65)), Some(range(50, 65)));
        assert_eq!(bodies.mark(&range(56, 66), range(56, 66)), None);
        assert_eq!(bodies.mark(&one(80), Bodies::stretch(number(80))), Some(range(0, 1024)));
        assert_eq!(stale(&bodies), [(0, 1024), (50, 65), (55, 70)]);
    }

    #[test]
    fn what_happens_while_somebody_looks_is_looked_at_again() {
        let mut bodies = Bodies::default();
        bodies.mark(&(number(100)..number(5000)), number(100)..number(5000));
        assert_eq!(bodies.begin_look(number(0)), Some(number(100)..number(1124)));
        assert_eq!(bodies.mark(&one(200), Bodies::stretch(number(200))), None);
        let both = vec![number(100)..number(1124), number(1124)..number(5000)];
        assert_eq!(bodies.end_look(), (number(100), both));
        assert_eq!(bodies.begin_look(number(101)), Some(number(1124)..number(2148)));
        assert_eq!(bodies.end_look(), (number(1124), vec![number(2148)..number(5000)]));
        assert_eq!(stale(&bodies), [(100, 1124), (2148, 5000)]);
    }
}
