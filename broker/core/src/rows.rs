//! The rows of each fact, and state from rows: writing and reading side by side.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[0][00][entity]` | entity: definition and exact numbers | once an entity and turn |
//! | state | `[0][01]` | the next entity id | with every new entity |
//! | message | `[entity][01][sequence]` | see [`crate::message`] | once; removed once |
//! | state | `[entity][02][sequence]` | mark: failed deliveries | when there are any |
//! | state | `[entity][03][sequence]` | changed application-properties section | when changed |
//!
//! Entity ids are 4 octets and sequence numbers 8, big-endian; no entity has the id 0. All entity
//! rows lie together, so loading reads one short range and no message.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_storage::{Batch, Key, Table};

use crate::change::Change;
use crate::command::Scan;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::error::LoadError;
use crate::id::{EntityId, SequenceNumber};
use crate::message::ROW_HEADER_LEN;
use crate::queue::{Definition, Numbers, Traces};
use crate::time::{Span, Timestamp};

const KIND_ENTITY: u8 = 0;
const KIND_MESSAGE: u8 = 1;
const KIND_MARK: u8 = 2;
const KIND_PROPERTIES: u8 = 3;
const KIND_NEXT_ENTITY: u8 = 1;
/// The owner of the rows that belong to no entity.
const NO_ENTITY: u32 = 0;
/// The form of entity row and mark this release writes and reads.
const FORM: u8 = 1;

/// Octets of key and row of a message besides the message.
pub(crate) const MESSAGE_ROW_OVERHEAD: usize = 13 + ROW_HEADER_LEN;

/// What has to be read to load the state.
pub(crate) fn state_range() -> Range<Key> {
    Key::new().with_u32(NO_ENTITY).prefix_range()
}

pub(crate) fn message_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_MESSAGE, sequence)
}

pub(crate) fn properties_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_PROPERTIES, sequence)
}

pub(crate) fn mark_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_MARK, sequence)
}

fn row_key(entity: EntityId, kind: u8, sequence: SequenceNumber) -> Key {
    Key::new().with_u32(entity.0).with_u8(kind).with_u64(sequence.0)
}

/// The number at the end of a message's, mark's or section's key.
pub(crate) fn sequence_of(key: &Key) -> Option<SequenceNumber> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()?;
    reader.u64().map(SequenceNumber)
}

/// The scans that find everything about the messages of a range: messages, marks, sections, in this
/// order, each cut off by the same bounds.
pub(crate) fn page_scans(
    entity: EntityId,
    range: &Range<SequenceNumber>,
    rows_max: usize,
    bytes_max: usize,
) -> Vec<Scan> {
    let tables = [
        (Table::Message, KIND_MESSAGE),
        (Table::State, KIND_MARK),
        (Table::State, KIND_PROPERTIES),
    ];
    let scan = |(table, kind)| Scan {
        table,
        range: row_key(entity, kind, range.start)..row_key(entity, kind, range.end),
        rows_max,
        bytes_max,
    };
    tables.map(scan).into()
}

/// Appends what a fact means for the rows of messages. `traces` says which rows the message had.
/// Entity rows are written once a turn, by [`persist_entity`].
pub(crate) fn persist(change: &Change, traces: Traces, batch: &mut Batch) {
    match change {
        Change::Accepted { entity, sequence, message } => {
            batch.put(Table::Message, message_key(*entity, *sequence), message.row().clone());
        }
        Change::Returned { entity, sequence, attempts, application_properties } => {
            if let Some(attempts) = attempts {
                put_mark(*entity, *sequence, *attempts, batch);
            }
            if let Some(section) = application_properties {
                batch.put(Table::State, properties_key(*entity, *sequence), section.clone());
            }
        }
        Change::Removed { entity, sequence } => {
            remove_message(*entity, *sequence, traces, true, batch);
        }
        Change::Lost { entity, sequence, row_exists } => {
            remove_message(*entity, *sequence, traces, *row_exists, batch);
        }
        Change::DeadLettered {
            entity,
            to,
            sequence,
            attempts,
            message,
            application_properties: section,
        } => {
            remove_message(*entity, *sequence, traces, true, batch);
            batch.put(Table::Message, message_key(*to, *sequence), message.row().clone());
            if *attempts != 0 {
                put_mark(*to, *sequence, *attempts, batch);
            }
            batch.put(Table::State, properties_key(*to, *sequence), section.clone());
        }
        Change::QueueCreated { dead_letter, .. } => {
            let key = Key::new().with_u32(NO_ENTITY).with_u8(KIND_NEXT_ENTITY);
            batch.put(Table::State, key, (dead_letter.0 + 1).to_be_bytes().to_vec());
        }
        Change::SettingsChanged { .. } | Change::Locked { .. } | Change::Renewed { .. } => {}
    }
}

fn remove_message(
    entity: EntityId,
    sequence: SequenceNumber,
    traces: Traces,
    row_exists: bool,
    batch: &mut Batch,
) {
    if row_exists {
        batch.remove(Table::Message, message_key(entity, sequence));
    }
    if traces.marked {
        batch.remove(Table::State, mark_key(entity, sequence));
    }
    if traces.overlaid {
        batch.remove(Table::State, properties_key(entity, sequence));
    }
}

fn put_mark(entity: EntityId, sequence: SequenceNumber, attempts: u32, batch: &mut Batch) {
    let mut row = Vec::with_capacity(5);
    row.put_u8(FORM);
    row.put_u32(attempts);
    batch.put(Table::State, mark_key(entity, sequence), row);
}

/// How many deliveries of a message failed, by its mark.
pub(crate) fn read_mark(row: &[u8]) -> Option<u32> {
    let (form, attempts) = row.split_first()?;
    let attempts = attempts.first_chunk::<4>()?;
    (*form == FORM).then_some(u32::from_be_bytes(*attempts))
}

/// Writes an entity's row.
pub(crate) fn persist_entity(definition: &Definition, numbers: &Numbers, batch: &mut Batch) {
    let Definition { entity, dead_letter, path, settings, created_at } = definition;
    let name = path.name().as_bytes();
    let mut row = BytesMut::with_capacity(96 + name.len());
    row.put_u8(FORM);
    row.put_u32(dead_letter.map_or(0, |entity| entity.0));
    row.put_u64(numbers.next_sequence.0);
    row.put_u64(numbers.head.0);
    row.put_u64(numbers.count);
    row.put_u64(numbers.bytes);
    row.put_u64(created_at.0);
    row.put_u64(settings.lock_duration.0);
    row.put_u32(settings.attempts_max);
    row.put_u64(settings.entity_bytes_max);
    row.put_u64(settings.message_bytes_max);
    row.put_slice(name);
    let key = Key::new().with_u32(NO_ENTITY).with_u8(KIND_ENTITY).with_u32(entity.0);
    batch.put(Table::State, key, row.freeze());
}

/// A row of the state, read back.
pub(crate) enum StateRow {
    Entity(Definition, Numbers),
    NextEntity(EntityId),
}

/// Reads one row of [`state_range`].
pub(crate) fn read_state_row(key: &Key, row: &Bytes) -> Result<StateRow, LoadError> {
    let unreadable = |what| LoadError::UnreadableRow { key: key.to_string(), what };
    let mut parts = key.reader();
    match (parts.u32(), parts.u8(), parts.u32()) {
        (Some(NO_ENTITY), Some(KIND_NEXT_ENTITY), None) => {
            let octets = <[u8; 4]>::try_from(&row[..]).map_err(|_| unreadable("not a number"))?;
            Ok(StateRow::NextEntity(EntityId(u32::from_be_bytes(octets))))
        }
        (Some(NO_ENTITY), Some(KIND_ENTITY), Some(entity)) => {
            let mut fields = Fields(row);
            if fields.u8() != Some(FORM) {
                return Err(unreadable("of a form this release does not know"));
            }
            let (definition, numbers) = read_entity(EntityId(entity), &mut fields)
                .ok_or_else(|| unreadable("not an entity"))?;
            Ok(StateRow::Entity(definition, numbers))
        }
        _ => Err(unreadable("of a kind this release does not know")),
    }
}

fn read_entity(entity: EntityId, fields: &mut Fields<'_>) -> Option<(Definition, Numbers)> {
    let dead_letter = Some(EntityId(fields.u32()?)).filter(|id| id.0 != 0);
    let numbers = Numbers {
        next_sequence: SequenceNumber(fields.u64()?),
        head: SequenceNumber(fields.u64()?),
        count: fields.u64()?,
        bytes: fields.u64()?,
    };
    let created_at = Timestamp(fields.u64()?);
    let settings = QueueSettings {
        lock_duration: Span(fields.u64()?),
        attempts_max: fields.u32()?,
        entity_bytes_max: fields.u64()?,
        message_bytes_max: fields.u64()?,
    };
    let name = std::str::from_utf8(fields.0).ok()?;
    let path = EntityPath::for_new_entity(name).ok()?;
    let path = match dead_letter {
        Some(_) => path,
        None => path.with_subqueue(Subqueue::DeadLetter),
    };
    Some((Definition { entity, dead_letter, path, settings, created_at }, numbers))
}

/// The fields of a row, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;

    #[test]
    fn an_entity_reads_back_as_it_was_written() {
        for dead_letter in [Some(EntityId(8)), None] {
            let subqueue = dead_letter.map_or(Subqueue::DeadLetter, |_| Subqueue::Main);
            let definition = Definition {
                entity: EntityId(7),
                dead_letter,
                path: EntityPath::for_new_entity("Eu/Orders").unwrap().with_subqueue(subqueue),
                settings: QueueSettings { attempts_max: 3, ..QueueSettings::default() },
                created_at: Timestamp(12),
            };
            let numbers = Numbers {
                next_sequence: SequenceNumber(900),
                head: SequenceNumber(800),
                count: 50,
                bytes: 51_200,
            };
            let mut batch = Batch::new(Epoch(0));
            persist_entity(&definition, &numbers, &mut batch);
            let ops = batch.into_ops();
            let [Op::Put { table: Table::State, key, value }] = &ops[..] else { panic!("{ops:?}") };
            assert!(state_range().contains(key));
            let StateRow::Entity(read, read_numbers) = read_state_row(key, value).unwrap() else {
                panic!("not an entity");
            };
            assert_eq!((read, read_numbers), (definition, numbers));
        }
    }

    #[test]
    fn unknown_rows_of_the_state_stop_the_load() {
        let key = Key::new().with_u32(0).with_u8(9).with_u32(1);
        assert!(read_state_row(&key, &Bytes::new()).is_err());
        let key = Key::new().with_u32(0).with_u8(KIND_ENTITY).with_u32(1);
        assert!(read_state_row(&key, &Bytes::from_static(&[2])).is_err());
        assert!(read_state_row(&key, &Bytes::from_static(&[1, 0, 0])).is_err());
    }

    #[test]
    fn keys_of_messages_lie_in_order_and_apart_from_the_state() {
        let key = |entity, sequence| message_key(EntityId(entity), SequenceNumber(sequence));
        assert!(key(1, 255) < key(1, 256) && key(1, u64::MAX) < key(2, 0));
        assert!(!state_range().contains(&key(1, 0)));
        assert_eq!(sequence_of(&key(3, 77)), Some(SequenceNumber(77)));
    }
}
