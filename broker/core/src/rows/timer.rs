//! Rows that say when something is due: the key is all of it but the octets of the message.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[entity][04][at][sequence]` | octets of the message | with a message that expires |
//! | state | `[entity][05][at][sequence]` | octets of the message | with a scheduled message |

use bytes::{BufMut, Bytes};
use peeklock_storage::{Batch, Key, Table};

use super::FORM;
use crate::command::Scan;
use crate::id::{EntityId, SequenceNumber};
use crate::queue::timers::{Timer, TimerKind};
use crate::time::Timestamp;

/// Octets of a row and its key.
const ROW_BYTES: usize = 30;

fn prefix(entity: EntityId, kind: TimerKind) -> Key {
    Key::new().with_u32(entity.0).with_u8(match kind {
        TimerKind::Expiry => 4,
        TimerKind::Activation => 5,
    })
}

pub(crate) fn timer_key(entity: EntityId, kind: TimerKind, timer: Timer) -> Key {
    prefix(entity, kind).with_u64(timer.at.0).with_u64(timer.sequence.0)
}

pub(crate) fn put_timer(
    entity: EntityId,
    kind: TimerKind,
    timer: Timer,
    size: u64,
    batch: &mut Batch,
) {
    let mut row = Vec::with_capacity(9);
    row.put_u8(FORM);
    row.put_u64(size);
    batch.put(Table::State, timer_key(entity, kind, timer), row);
}

pub(super) fn remove_timer(entity: EntityId, kind: TimerKind, timer: Timer, batch: &mut Batch) {
    batch.remove(Table::State, timer_key(entity, kind, timer));
}

/// Finds the next due times.
pub(crate) fn timer_scan(entity: EntityId, kind: TimerKind, from: Timer, rows_max: usize) -> Scan {
    Scan {
        table: Table::State,
        range: timer_key(entity, kind, from)..prefix(entity, kind).prefix_range().end,
        rows_max,
        bytes_max: rows_max.saturating_mul(ROW_BYTES).saturating_add(ROW_BYTES),
    }
}

/// The due times a scan found, with the octets of their messages. A row that cannot be read counts for
/// nothing: its message is looked at all the same.
pub(crate) fn read_timers(rows: Vec<(Key, Bytes)>) -> Vec<(Timer, u64)> {
    rows.into_iter().filter_map(|(key, row)| Some((read_key(&key)?, read_size(&row)))).collect()
}

fn read_key(key: &Key) -> Option<Timer> {
    let mut parts = key.reader();
    parts.u32()?;
    parts.u8()?;
    Some(Timer { at: Timestamp(parts.u64()?), sequence: SequenceNumber(parts.u64()?) })
}

fn read_size(row: &[u8]) -> u64 {
    let size = row.split_first().and_then(|(_, size)| size.first_chunk());
    size.map_or(0, |size| u64::from_be_bytes(*size))
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;

    #[test]
    fn a_due_time_reads_back_as_it_was_written() {
        let timer = Timer { at: Timestamp(1_000), sequence: SequenceNumber(7) };
        let entity = EntityId(3);
        let mut batch = Batch::new(Epoch(0));
        put_timer(entity, TimerKind::Activation, timer, 99, &mut batch);
        let ops = batch.into_ops();
        let [Op::Put { key, value, .. }] = &ops[..] else { panic!("{ops:?}") };
        assert_eq!(read_timers(vec![(key.clone(), value.clone())]), [(timer, 99)]);
        assert_eq!(key.as_bytes().len() + value.len(), ROW_BYTES);
        let scan = timer_scan(entity, TimerKind::Activation, timer, 10);
        assert!(scan.range.contains(key));
        let other = timer_key(entity, TimerKind::Expiry, timer);
        assert!(!scan.range.contains(&other));
    }
}
