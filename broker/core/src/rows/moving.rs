//! Rows of an entity made those of another, in another store.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[fffffffe]` | the ids that a copy under way has reserved: first, end | with the reservation; removed with the last rows of the copy |

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use peeklock_storage::{Batch, Key, Table};

use super::{FORM, Fields, NO_ENTITY};
use crate::id::EntityId;

/// The owner of the row about a copy under way: the broker passes over it, as it does over all rows of
/// entities that are not there, and no entity gets this id.
const COPY_UNDER_WAY: u32 = u32::MAX - 1;

/// All rows of an entity in a table of [`super::ENTITY_TABLES`].
pub(crate) fn entity_range(entity: EntityId) -> Range<Key> {
    Key::new().with_u32(entity.0).prefix_range()
}

/// The key of the same row of another entity.
pub(crate) fn key_for(key: &Key, entity: EntityId) -> Option<Key> {
    let mut parts = key.reader();
    parts.u32()?;
    Some(Key::new().with_u32(entity.0).with_bytes(parts.rest()))
}

/// Whose row of the state it is, if it is an entity's.
pub(crate) fn owner_in_state(key: &Key) -> Option<EntityId> {
    let mut parts = key.reader();
    parts.u32().filter(|owner| *owner == NO_ENTITY)?;
    parts.u8()?;
    parts.u32().map(EntityId)
}

/// The key of the same row of the state, of another entity.
pub(crate) fn state_key_for(key: &Key, entity: EntityId) -> Option<Key> {
    let mut parts = key.reader();
    let (owner, kind) = (parts.u32()?, parts.u8()?);
    parts.u32()?;
    let key = Key::new().with_u32(owner).with_u8(kind).with_u32(entity.0);
    Some(key.with_bytes(parts.rest()))
}

/// Where it stands which ids a copy under way has reserved.
pub(crate) fn copy_key() -> Key {
    Key::new().with_u32(COPY_UNDER_WAY)
}

/// Whether rows with this id in front are about a copy under way, and no entity's.
pub(crate) const fn is_about_copy(owner: u32) -> bool {
    owner == COPY_UNDER_WAY
}

/// Notes which ids a copy has reserved.
pub(crate) fn put_copy(ids: &Range<EntityId>, batch: &mut Batch) {
    let mut row = BytesMut::with_capacity(9);
    row.put_u8(FORM);
    row.put_u32(ids.start.0);
    row.put_u32(ids.end.0);
    batch.put(Table::State, copy_key(), row.freeze());
}

/// Reads what [`put_copy`] wrote.
pub(crate) fn read_copy(row: &[u8]) -> Option<Range<EntityId>> {
    let (form, fields) = row.split_first()?;
    let mut fields = Fields(fields);
    let ids = EntityId(fields.u32()?)..EntityId(fields.u32()?);
    // No other row is ever taken for one of a copy: not those of the state, nor its own.
    let is_range = 0 < ids.start.0 && ids.start <= ids.end && ids.end.0 <= COPY_UNDER_WAY;
    (*form == FORM && fields.0.is_empty() && is_range).then_some(ids)
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;

    #[test]
    fn a_row_keeps_all_of_its_key_but_the_entity() {
        let tail = |key: Key| key.with_u8(6).with_sized_bytes(b"session").with_u64(9);
        let key = tail(Key::new().with_u32(7));
        assert_eq!(key_for(&key, EntityId(70)), Some(tail(Key::new().with_u32(70))));
        assert!(entity_range(EntityId(7)).contains(&key));
        assert_eq!(key_for(&Key::new().with_u8(7), EntityId(70)), None);
        let rule = |entity| Key::new().with_u32(0).with_u8(4).with_u32(entity).with_bytes(b"red");
        assert_eq!(owner_in_state(&rule(7)), Some(EntityId(7)));
        assert_eq!(state_key_for(&rule(7), EntityId(70)), Some(rule(70)));
        assert_eq!(owner_in_state(&Key::new().with_u32(0).with_u8(1)), None, "the next id");
        assert_eq!(owner_in_state(&key), None);
    }

    #[test]
    fn the_note_of_a_copy_reads_back_as_it_was_written() {
        let mut batch = Batch::new(Epoch(0));
        put_copy(&(EntityId(7)..EntityId(13)), &mut batch);
        let [Op::Put { key, value, .. }] = batch.ops() else { panic!("one row") };
        assert_eq!(*key, copy_key());
        assert!(key.reader().u32().is_some_and(is_about_copy));
        assert_eq!(read_copy(value), Some(EntityId(7)..EntityId(13)));
        assert_eq!(read_copy(&value[..8]), None);
        let range = |start: u32, end: u32| {
            let row = [&[FORM][..], &start.to_be_bytes(), &end.to_be_bytes()].concat();
            read_copy(&row)
        };
        assert_eq!((range(0, 3), range(5, 4), range(5, u32::MAX)), (None, None, None));
    }
}
