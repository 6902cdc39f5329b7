//! Which messages of its topic a subscription holds without a copy of its own.
//!
//! A message that a topic gives away as it is, is one row under the topic, with the topic's number for
//! it; whoever gets it has the same number for it, and a bit in a run. A run begins with the first such
//! message of a turn. Bits are set in that turn and only ever cleared afterwards: whoever finds one
//! clear, in memory or in the rows as they were at any moment since, knows that it stays so.
//!
//! A run is in memory as long as one of its messages is, or it was changed and a read is under way that
//! may have seen it as it was before. So what is in memory is what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use peeklock_storage::Batch;
use smallvec::{SmallVec, smallvec};

use super::{Queue, Traces};
use crate::id::{EntityId, SequenceNumber};
use crate::rows;

/// Words of bits in one run: its row stays below a hundred octets.
pub(crate) const RUN_WORDS_MAX: usize = 8;
/// Numbers that one run is about.
pub(crate) const RUN_LEN_MAX: u64 = 64 * RUN_WORDS_MAX as u64;

/// Which messages a subscription holds of those from a number on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Octets of the largest message there was in it.
    pub(crate) largest: u64,
    /// The lowest bit of the first word stands for the first number.
    pub(crate) words: SmallVec<[u64; 2]>,
}

impl Run {
    fn new() -> Self {
        Run { largest: 0, words: smallvec![] }
    }

    fn place(offset: u64) -> (usize, u64) {
        let word = usize::try_from(offset / 64).unwrap_or(usize::MAX);
        (word, 1 << (offset % 64))
    }

    fn set(&mut self, offset: u64, size: u64) {
        let (word, bit) = Self::place(offset);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
        self.largest = self.largest.max(size);
    }

    fn clear(&mut self, offset: u64) -> bool {
        let (word, bit) = Self::place(offset);
        let Some(word) = self.words.get_mut(word) else { return false };
        let was_set = *word & bit != 0;
        *word &= !bit;
        was_set
    }

    fn contains(&self, offset: u64) -> bool {
        let (word, bit) = Self::place(offset);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The numbers of its messages, in order, if this is its first number.
    pub(crate) fn numbers(&self, first: SequenceNumber) -> impl Iterator<Item = SequenceNumber> {
        let words = (0_u64..).zip(&self.words);
        words.flat_map(move |(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                (left != 0).then(|| {
                    left &= left - 1;
                    SequenceNumber(first.0 + index * 64 + u64::from(bit))
                })
            })
        })
    }
}

/// The runs of one subscription that are in memory, by their first number.
#[derive(Clone, Default, Debug)]
pub(crate) struct Runs {
    known: BTreeMap<SequenceNumber, KnownRun>,
    /// The one that takes in what arrives this turn.
    open: Option<SequenceNumber>,
    /// Those that were changed, or that may be of no use in memory any more.
    touched: BTreeSet<SequenceNumber>,
}

#[derive(Clone, Debug)]
struct KnownRun {
    run: Run,
    /// Whether it is not what its row says.
    is_changed: bool,
    /// Whether it has a row.
    is_written: bool,
}

impl Runs {
    /// A message arrives. Its number is above all that came before.
    fn add(&mut self, sequence: SequenceNumber, size: u64) {
        let open = self.open.filter(|first| sequence.0 - first.0 < RUN_LEN_MAX);
        let first = open.unwrap_or(sequence);
        self.open = Some(first);
        let known = self.known.entry(first).or_insert_with(|| KnownRun {
            run: Run::new(),
            is_changed: false,
            is_written: false,
        });
        known.run.set(sequence.0 - first.0, size);
        if !known.is_changed {
            known.is_changed = true;
            self.touched.insert(first);
        }
    }

    fn find(&self, sequence: SequenceNumber) -> Option<(SequenceNumber, &KnownRun)> {
        let (first, known) = self.known.range(..=sequence).next_back()?;
        (sequence.0 - first.0 < RUN_LEN_MAX).then_some((*first, known))
    }

    /// Whether a message is there, by a run in memory.
    fn contains(&self, sequence: SequenceNumber) -> bool {
        let found = self.find(sequence);
        found.is_some_and(|(first, known)| known.run.contains(sequence.0 - first.0))
    }

    /// A message is gone.
    fn clear(&mut self, sequence: SequenceNumber) {
        let (first, known) =
            self.known.range_mut(..=sequence).next_back().expect("its run is in memory");
        assert!(known.run.clear(sequence.0 - first.0), "it was in its run");
        if !known.is_changed {
            known.is_changed = true;
            self.touched.insert(*first);
        }
    }

    /// A message is not in memory any more.
    fn left(&mut self, sequence: SequenceNumber) {
        if let Some((first, _)) = self.find(sequence) {
            self.touched.insert(first);
        }
    }

    /// Takes in a run that was read, unless it is there.
    fn load(&mut self, first: SequenceNumber, run: Run) {
        self.known.entry(first).or_insert_with(|| {
            self.touched.insert(first);
            KnownRun { run, is_changed: false, is_written: true }
        });
    }

    /// Writes what was changed, and forgets what is of no use.
    fn flush(
        &mut self,
        entity: EntityId,
        may_forget: bool,
        is_used: impl Fn(Range<SequenceNumber>) -> bool,
        batch: &mut Batch,
    ) {
        self.open = None;
        for first in std::mem::take(&mut self.touched) {
            let Some(known) = self.known.get_mut(&first) else { continue };
            let is_empty = known.run.is_empty();
            if known.is_changed {
                known.is_changed = false;
                if !is_empty {
                    rows::put_run(entity, first, &known.run, batch);
                } else if known.is_written {
                    rows::remove_run(entity, first, batch);
                }
                known.is_written = !is_empty;
            }
            let end = SequenceNumber(first.0 + RUN_LEN_MAX);
            if !may_forget {
                self.touched.insert(first);
            } else if is_empty || !is_used(first..end) {
                self.known.remove(&first);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn resident_count(&self) -> usize {
        self.known.len()
    }
}

impl Queue {
    /// The topic whose messages it holds without copies, if it may.
    pub(crate) fn shares_with(&self) -> Option<EntityId> {
        self.topic.filter(|_| self.sessions.is_none())
    }

    /// A message that is gone had its place in a run.
    pub(super) fn leave_run(&mut self, sequence: SequenceNumber, traces: Traces, size: u64) {
        if traces.shared.is_some() {
            self.runs.clear(sequence);
            // A damaged row may have had another size when it came.
            self.shared_bytes = self.shared_bytes.saturating_sub(size);
        }
    }

    /// A message is only in the store from here on.
    pub(super) fn left_memory(&mut self, sequence: SequenceNumber, traces: Traces) {
        if traces.shared.is_some() {
            self.runs.left(sequence);
        }
    }

    /// A message arrives, of which the topic keeps the row.
    pub(super) fn join_run(&mut self, sequence: SequenceNumber, size: u64) {
        assert!(self.next_sequence <= sequence, "it is the newest");
        self.runs.add(sequence, size);
        self.shared_bytes += size;
    }

    /// Takes in a run that was read while that is known to be under way.
    pub(crate) fn load_run(&mut self, first: SequenceNumber, run: Run) {
        self.runs.load(first, run);
    }

    /// Whether a message is in a run in memory.
    pub(crate) fn is_in_run(&self, sequence: SequenceNumber) -> bool {
        self.runs.contains(sequence)
    }

    /// Writes the runs that were changed in this turn.
    pub(crate) fn flush_runs(&mut self, batch: &mut Batch) {
        // A read that began before a change may bring the run as it was.
        let may_forget = self.window.page.is_none() && self.watch.is_empty();
        let Queue { runs, entries, apart, .. } = self;
        let is_used = |range: Range<SequenceNumber>| {
            let mut entries = entries.range(range.clone()).chain(apart.range(range));
            entries.any(|(_, entry)| entry.traces.shared.is_some())
        };
        runs.flush(self.definition.entity, may_forget, is_used, batch);
    }

    /// Says what does not fit together.
    pub(super) fn check_runs(&self) -> Result<(), String> {
        for (sequence, entry) in self.entries.iter().chain(&self.apart) {
            if entry.traces.shared.is_some() != self.runs.contains(*sequence) {
                return Err(format!("message {sequence} is in a run, or should be"));
            }
        }
        for (first, known) in &self.runs.known {
            let is_lost = |sequence: &SequenceNumber| {
                !self.entries.contains_key(sequence)
                    && !self.apart.contains_key(sequence)
                    && self.window.zone(*sequence, self.next_sequence) != super::Zone::Disk
            };
            if let Some(sequence) = known.run.numbers(*first).find(is_lost) {
                return Err(format!("message {sequence} is in a run and nowhere else"));
            }
            let is_touched = self.runs.touched.contains(first);
            if known.is_changed && !is_touched {
                return Err(format!("the run of {first} was changed, and would not be written"));
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn resident_run_count(&self) -> usize {
        self.runs.resident_count()
    }
}

#[cfg(test)]
mod tests {
    use peeklock_storage::Epoch;

    use super::*;

    fn run(offsets: &[u64]) -> Run {
        let mut run = Run::new();
        for offset in offsets {
            run.set(*offset, *offset);
        }
        run
    }

    #[test]
    fn a_run_knows_its_messages() {
        let mut run = run(&[0, 1, 63, 64, 200, 511]);
        let numbers = |run: &Run| run.numbers(SequenceNumber(10)).map(|n| n.0).collect::<Vec<_>>();
        assert_eq!(numbers(&run), [10, 11, 73, 74, 210, 521]);
        assert!(run.clear(63) && !run.clear(63) && !run.clear(5_000));
        assert_eq!(numbers(&run), [10, 11, 74, 210, 521]);
        assert_eq!(run.largest, 511);
        for offset in [0, 1, 64, 200, 511] {
            assert!(run.contains(offset) && !run.is_empty());
            run.clear(offset);
        }
        assert!(run.is_empty() && !run.contains(0));
    }

    #[test]
    fn runs_end_with_their_turn_and_when_they_are_long() {
        let (mut runs, mut batch) = (Runs::default(), Batch::new(Epoch(0)));
        for sequence in [7, 9, 7 + RUN_LEN_MAX - 1, 7 + RUN_LEN_MAX] {
            runs.add(SequenceNumber(sequence), 1);
        }
        runs.flush(EntityId(1), true, |_| true, &mut batch);
        runs.add(SequenceNumber(9 + RUN_LEN_MAX), 1);
        let firsts: Vec<_> = runs.known.keys().map(|first| first.0).collect();
        assert_eq!(firsts, [7, 7 + RUN_LEN_MAX, 9 + RUN_LEN_MAX]);
        assert_eq!(batch.len(), 2);
        assert!(runs.contains(SequenceNumber(9)) && !runs.contains(SequenceNumber(8)));
    }

    #[test]
    fn an_empty_run_has_no_row_and_is_kept_only_for_reads_under_way() {
        let (mut runs, mut batch) = (Runs::default(), Batch::new(Epoch(0)));
        runs.add(SequenceNumber(3), 1);
        runs.clear(SequenceNumber(3));
        runs.flush(EntityId(1), false, |_| false, &mut batch);
        assert!(batch.is_empty() && runs.known.len() == 1);
        runs.load(SequenceNumber(3), run(&[0]));
        assert!(!runs.contains(SequenceNumber(3)), "what was read is older");
        runs.flush(EntityId(1), true, |_| false, &mut batch);
        assert!(batch.is_empty() && runs.known.is_empty());
        runs.load(SequenceNumber(3), run(&[0]));
        runs.clear(SequenceNumber(3));
        runs.flush(EntityId(1), true, |_| false, &mut batch);
        assert!(batch.len() == 1 && runs.known.is_empty());
    }
}
