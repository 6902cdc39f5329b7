//! Rows that say who holds which messages of a topic, and where nobody may hold them any more.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[subscription][10][first number]` | a run: octets of the largest message, bits | once a turn, when changed |
//! | state | `[0][08][topic][first number]` | where a stretch ends in which there may be messages that nobody holds | when there may be one |

use bytes::{BufMut, Bytes};
use peeklock_storage::{Batch, Key, Table};

use super::{FORM, Fields, NO_ENTITY};
use crate::command::Scan;
use crate::id::{EntityId, SequenceNumber};
use crate::queue::runs::{RUN_LEN_MAX, RUN_WORDS_MAX, Run};

const KIND_RUN: u8 = 16;
pub(super) const KIND_STALE: u8 = 8;
/// Octets of a row and its key, at most.
const ROW_BYTES_MAX: usize = 13 + 9 + 64;

pub(crate) fn run_key(entity: EntityId, first: SequenceNumber) -> Key {
    Key::new().with_u32(entity.0).with_u8(KIND_RUN).with_u64(first.0)
}

pub(crate) fn put_run(entity: EntityId, first: SequenceNumber, run: &Run, batch: &mut Batch) {
    let mut row = Vec::with_capacity(9 + 8 * run.words.len());
    row.put_u8(FORM);
    row.put_u64(run.largest);
    for word in &run.words {
        row.put_u64(*word);
    }
    batch.put(Table::State, run_key(entity, first), row);
}

pub(crate) fn remove_run(entity: EntityId, first: SequenceNumber, batch: &mut Batch) {
    batch.remove(Table::State, run_key(entity, first));
}

/// Runs that begin before a number and may reach it, and so many more.
pub(crate) const fn run_rows_max(rows_max: usize) -> usize {
    rows_max.saturating_add(RUN_WORDS_MAX * 64)
}

/// Finds all runs that may have messages of a range, unless there are more than `rows_max` from its
/// start on.
pub(crate) fn run_scan(
    entity: EntityId,
    range: &std::ops::Range<SequenceNumber>,
    rows_max: usize,
) -> Scan {
    let start = SequenceNumber(range.start.0.saturating_sub(RUN_LEN_MAX - 1));
    let rows_max = run_rows_max(rows_max);
    Scan {
        table: Table::State,
        range: run_key(entity, start)..run_key(entity, range.end.max(start)),
        rows_max,
        bytes_max: rows_max.saturating_mul(ROW_BYTES_MAX).saturating_add(ROW_BYTES_MAX),
    }
}

/// Reads the row of a run.
pub(crate) fn read_run(row: &[u8]) -> Option<Run> {
    let (form, fields) = row.split_first()?;
    let mut fields = Fields(fields);
    let largest = fields.u64()?;
    let (words, rest) = fields.0.as_chunks::<8>();
    let is_run = *form == FORM && rest.is_empty() && words.len() <= RUN_WORDS_MAX;
    let words = words.iter().map(|word| u64::from_be_bytes(*word));
    is_run.then(|| Run { largest, words: words.collect() })
}

fn stale_key(topic: EntityId, first: SequenceNumber) -> Key {
    Key::new().with_u32(NO_ENTITY).with_u8(KIND_STALE).with_u32(topic.0).with_u64(first.0)
}

pub(crate) fn put_stale(
    topic: EntityId,
    first: SequenceNumber,
    end: SequenceNumber,
    batch: &mut Batch,
) {
    let mut row = Vec::with_capacity(9);
    row.put_u8(FORM);
    row.put_u64(end.0);
    batch.put(Table::State, stale_key(topic, first), row);
}

pub(crate) fn remove_stale(topic: EntityId, first: SequenceNumber, batch: &mut Batch) {
    batch.remove(Table::State, stale_key(topic, first));
}

/// Reads where a stretch begins and ends.
pub(super) fn read_stale(key: &Key, row: &Bytes) -> Option<(SequenceNumber, SequenceNumber)> {
    let mut parts = key.reader();
    parts.u32()?;
    parts.u8()?;
    parts.u32()?;
    let first = parts.u64()?;
    let (form, fields) = row.split_first()?;
    let end = Fields(fields).u64()?;
    (*form == FORM).then_some((SequenceNumber(first), SequenceNumber(end)))
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;

    #[test]
    fn a_run_reads_back_as_it_was_written() {
        for words in [vec![], vec![1], vec![u64::MAX; 8], vec![0, 0, 5]] {
            let run = Run { largest: 77, words: words.into() };
            let mut batch = Batch::new(Epoch(0));
            put_run(EntityId(7), SequenceNumber(9), &run, &mut batch);
            let [Op::Put { key, value, .. }] = batch.ops() else { panic!("one row") };
            assert_eq!(super::super::sequence_of(key), Some(SequenceNumber(9)));
            assert_eq!(read_run(value), Some(run));
            assert_eq!(read_run(&value[..value.len() - 1]), None);
            assert!(key.as_bytes().len() + value.len() <= ROW_BYTES_MAX);
        }
        assert_eq!(read_run(&[]), None);
        assert_eq!(read_run(&[2; 9]), None);
        assert_eq!(read_run(&[FORM; 9 + 72]), None, "longer than any");
    }
}
