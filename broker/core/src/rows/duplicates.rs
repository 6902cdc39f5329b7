//! The rows of duplicate detection: one for each message-id in its bucket, and one that says which
//! buckets an entity has.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use peeklock_storage::{Batch, Key, Table};

use super::{FORM, Fields, KIND_BUCKETS, NO_ENTITY};
use crate::id::EntityId;
use crate::queue::duplicates::Duplicates;
use crate::time::Timestamp;

/// The row of an id.
pub(crate) fn key(entity: EntityId, bucket: Timestamp, id: &str) -> Key {
    Key::new().with_u32(entity.0).with_u64(bucket.0).with_bytes(id.as_bytes())
}

fn buckets_key(entity: EntityId) -> Key {
    Key::new().with_u32(NO_ENTITY).with_u8(KIND_BUCKETS).with_u32(entity.0)
}

/// Writes when an id was taken in.
pub(super) fn put(entity: EntityId, bucket: Timestamp, id: &str, at: Timestamp, batch: &mut Batch) {
    batch.put(Table::Dedup, key(entity, bucket, id), at.0.to_be_bytes().to_vec());
}

/// When an id was taken in, by its row.
pub(crate) fn read(row: &[u8]) -> Option<Timestamp> {
    <[u8; 8]>::try_from(row).ok().map(|octets| Timestamp(u64::from_be_bytes(octets)))
}

/// Removes the ids of buckets, from the first to the last.
pub(super) fn remove(entity: EntityId, buckets: Range<Timestamp>, batch: &mut Batch) {
    let start = Key::new().with_u32(entity.0).with_u64(buckets.start.0);
    let end = Key::new().with_u32(entity.0).with_u64(buckets.end.0.saturating_add(1));
    batch.remove_range(Table::Dedup, start..end);
}

/// Writes which buckets there are.
pub(crate) fn persist_buckets(entity: EntityId, duplicates: &Duplicates, batch: &mut Batch) {
    let starts = duplicates.starts();
    let mut row = BytesMut::with_capacity(9 + 8 * starts.len());
    row.put_u8(FORM);
    row.put_u64(duplicates.floor().0);
    starts.for_each(|start| row.put_u64(start.0));
    batch.put(Table::State, buckets_key(entity), row.freeze());
}

/// The row that says which buckets there are, of an entity that is gone with all its other rows.
pub(crate) fn remove_buckets(entity: EntityId, batch: &mut Batch) {
    batch.remove(Table::State, buckets_key(entity));
}

/// What was forgotten before when, and when each bucket began.
pub(super) fn read_buckets(fields: &mut Fields<'_>) -> Option<(Timestamp, Vec<Timestamp>)> {
    let floor = Timestamp(fields.u64()?);
    let mut starts = Vec::with_capacity(fields.0.len() / 8);
    while !fields.0.is_empty() {
        starts.push(Timestamp(fields.u64()?));
    }
    starts.is_sorted_by(|one, next| one < next).then_some((floor, starts))
}
