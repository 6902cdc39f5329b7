//! The rows of message sessions: the index of their messages, and their states.
//!
//! Ids stand in keys with their length in front, so the order of sessions is that of their ids'
//! lengths first.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_storage::{Batch, Key, Table};
use smallvec::SmallVec;

use super::{FORM, mark_key, properties_key, shelf_key};
use crate::change::SessionChange;
use crate::command::{ReadRequest, Scan};
use crate::id::{EntityId, MessageSessionId, SequenceNumber};
use crate::queue::{IndexChange, Shelf};
use crate::time::Timestamp;

/// The table of all rows here: an empty one of these comes and goes with every message, and states
/// are overwritten.
pub(crate) const SESSION_TABLE: Table = Table::State;

const KIND_INDEX: u8 = 6;
const KIND_STATE: u8 = 7;
const KIND_STATE_OCTETS: u8 = 8;
const KIND_SHELVED: u8 = 9;

fn session_key(entity: EntityId, kind: u8, session: &MessageSessionId) -> Key {
    Key::new().with_u32(entity.0).with_u8(kind).with_sized_bytes(session.as_str().as_bytes())
}

fn index_key(entity: EntityId, session: &MessageSessionId, sequence: SequenceNumber) -> Key {
    numbered_key(entity, KIND_INDEX, session, sequence)
}

fn shelved_key(entity: EntityId, session: &MessageSessionId, sequence: SequenceNumber) -> Key {
    numbered_key(entity, KIND_SHELVED, session, sequence)
}

fn numbered_key(
    entity: EntityId,
    kind: u8,
    session: &MessageSessionId,
    sequence: SequenceNumber,
) -> Key {
    // With every message of a session twice, and mostly longer than a key without an allocation: in
    // one piece.
    let id = session.as_str().as_bytes();
    let len = u16::try_from(id.len()).expect("ids are short");
    let mut key = SmallVec::<[u8; 64]>::new();
    key.extend_from_slice(&entity.0.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(id);
    key.extend_from_slice(&sequence.0.to_be_bytes());
    Key::from(&key[..])
}

fn kind_range(entity: EntityId, kind: u8) -> Range<Key> {
    Key::new().with_u32(entity.0).with_u8(kind).prefix_range()
}

/// The index of one session, from a number on.
pub(crate) fn session_index_range(
    entity: EntityId,
    session: &MessageSessionId,
    from: SequenceNumber,
) -> Range<Key> {
    let end = session_key(entity, KIND_INDEX, session).prefix_range().end;
    index_key(entity, session, from)..end
}

/// The scans that find a session's messages from a number on: those to be delivered, and those set
/// aside.
pub(crate) fn session_browse_scans(
    entity: EntityId,
    session: &MessageSessionId,
    from: SequenceNumber,
    rows_max: usize,
    bytes_max: usize,
) -> Vec<Scan> {
    let end = session_key(entity, KIND_SHELVED, session).prefix_range().end;
    let shelved = shelved_key(entity, session, from)..end;
    [session_index_range(entity, session, from), shelved]
        .map(|range| Scan { table: SESSION_TABLE, range, rows_max, bytes_max })
        .into()
}

/// The index of all sessions behind one, or of all.
pub(crate) fn session_index_behind(
    entity: EntityId,
    after: Option<&MessageSessionId>,
) -> Range<Key> {
    range_behind(entity, KIND_INDEX, after)
}

fn range_behind(entity: EntityId, kind: u8, after: Option<&MessageSessionId>) -> Range<Key> {
    let Range { start, end } = kind_range(entity, kind);
    let start =
        after.map_or(start, |session| session_key(entity, kind, session).prefix_range().end);
    start..end
}

/// The scans that find all sessions behind one, or all: those with messages, those with a state.
pub(crate) fn session_scans(
    entity: EntityId,
    after: Option<&MessageSessionId>,
    rows_max: usize,
    bytes_max: usize,
) -> Vec<Scan> {
    let scan = |kind| Scan {
        table: SESSION_TABLE,
        range: range_behind(entity, kind, after),
        rows_max,
        bytes_max,
    };
    vec![scan(KIND_INDEX), scan(KIND_STATE)]
}

/// The session that a key of the index or of a state is about.
pub(crate) fn session_of(key: &Key) -> Option<MessageSessionId> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()?;
    MessageSessionId::new(std::str::from_utf8(reader.sized_bytes()?).ok()?)
}

/// What a key of the index says.
pub(crate) fn session_and_sequence(key: &Key) -> Option<(MessageSessionId, SequenceNumber)> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()?;
    let session = MessageSessionId::new(std::str::from_utf8(reader.sized_bytes()?).ok()?)?;
    Some((session, SequenceNumber(reader.u64()?)))
}

/// All rows of the index: how many bits the number of a message's octets has. So much is enough to
/// read messages in pages, and costs no allocation.
static SIZE_CLASSES: [u8; 65] = {
    let mut classes = [0; 65];
    let mut class = 0_u8;
    while class < 65 {
        classes[class as usize] = class;
        class += 1;
    }
    classes
};

fn index_row(size: u64) -> Bytes {
    let class = (u64::BITS - size.leading_zeros()) as usize;
    Bytes::from_static(&SIZE_CLASSES[class..=class])
}

/// The same of a message that is set aside, and behind it why it is.
fn shelved_row(size: u64, shelf: Shelf) -> Bytes {
    let class = index_row(size)[0];
    let shelf = match shelf {
        Shelf::Active => 0,
        Shelf::Scheduled => 1,
        Shelf::Deferred => 2,
    };
    Bytes::copy_from_slice(&[class, shelf])
}

/// Where the message is that a row of either index is about.
pub(crate) fn shelf_in_index(row: &[u8]) -> Shelf {
    match row.get(1) {
        Some(1) => Shelf::Scheduled,
        Some(2) => Shelf::Deferred,
        Some(_) | None => Shelf::Active,
    }
}

/// Octets that the message has at most that a row of the index is about.
pub(crate) fn size_in_index(row: &[u8]) -> u64 {
    row.first().map_or(0, |class| 1_u64.checked_shl(u32::from(*class)).unwrap_or(u64::MAX))
}

/// Whether a scan may have stopped at its bounds and not at its end.
pub(crate) fn is_cut_off(scan: &[(Key, Bytes)], rows_max: usize, bytes_max: usize) -> bool {
    let bytes: usize = scan.iter().map(|(key, row)| key.as_bytes().len() + row.len()).sum();
    rows_max <= scan.len() || bytes_max <= bytes
}

/// The reads of whole messages by number: message, mark and section of each, in this order.
pub(crate) fn message_gets(entity: EntityId, sequences: &[SequenceNumber]) -> ReadRequest {
    shelf_gets(entity, sequences.iter().map(|sequence| (*sequence, Shelf::Active)))
}

/// The same, wherever they are.
pub(crate) fn shelf_gets(
    entity: EntityId,
    messages: impl Iterator<Item = (SequenceNumber, Shelf)>,
) -> ReadRequest {
    let gets = messages.flat_map(|(sequence, shelf)| {
        [
            (Table::Message, shelf_key(entity, shelf, sequence)),
            (Table::State, mark_key(entity, sequence)),
            (Table::State, properties_key(entity, sequence)),
        ]
    });
    ReadRequest { scans: Vec::new(), gets: gets.collect() }
}

/// Writes what came and went in the index.
pub(crate) fn persist_session_index(
    entity: EntityId,
    changes: impl Iterator<Item = IndexChange>,
    batch: &mut Batch,
) {
    for change in changes {
        match change {
            IndexChange::Added { session, sequence, size } => {
                batch.put(SESSION_TABLE, index_key(entity, &session, sequence), index_row(size));
            }
            IndexChange::Removed { session, sequence } => {
                batch.remove(SESSION_TABLE, index_key(entity, &session, sequence));
            }
            IndexChange::Shelved { session, sequence, size, shelf } => {
                let key = shelved_key(entity, &session, sequence);
                batch.put(SESSION_TABLE, key, shelved_row(size, shelf));
            }
            IndexChange::Unshelved { session, sequence } => {
                batch.remove(SESSION_TABLE, shelved_key(entity, &session, sequence));
            }
        }
    }
}

/// What is written down of a state besides its octets, so that listing sessions need not read them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionStateRow {
    pub(crate) updated_at: Timestamp,
    pub(crate) bytes: u64,
}

pub(crate) fn session_state_key(entity: EntityId, session: &MessageSessionId) -> Key {
    session_key(entity, KIND_STATE, session)
}

pub(crate) fn session_octets_key(entity: EntityId, session: &MessageSessionId) -> Key {
    session_key(entity, KIND_STATE_OCTETS, session)
}

pub(crate) fn read_session_state(row: &[u8]) -> Option<SessionStateRow> {
    let (form, fields) = row.split_first()?;
    let (updated_at, fields) = fields.split_first_chunk::<8>()?;
    let bytes = fields.first_chunk::<8>()?;
    let row = SessionStateRow {
        updated_at: Timestamp(u64::from_be_bytes(*updated_at)),
        bytes: u64::from_be_bytes(*bytes),
    };
    (*form == FORM).then_some(row)
}

/// Writes what is to be kept of a change: the state of a session.
pub(super) fn persist_session_change(
    entity: EntityId,
    session: &MessageSessionId,
    change: &SessionChange,
    batch: &mut Batch,
) {
    let SessionChange::StateSet { state, bytes_before, at } = change else { return };
    let key = session_state_key(entity, session);
    let octets_key = session_octets_key(entity, session);
    match state {
        Some(octets) => {
            let mut row = BytesMut::with_capacity(17);
            row.put_u8(FORM);
            row.put_u64(at.0);
            row.put_u64(octets.len() as u64);
            batch.put(SESSION_TABLE, key, row.freeze());
            batch.put(SESSION_TABLE, octets_key, octets.clone());
        }
        None if bytes_before.is_some() => {
            batch.remove(SESSION_TABLE, key);
            batch.remove(SESSION_TABLE, octets_key);
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str) -> MessageSessionId {
        MessageSessionId::new(id).unwrap()
    }

    #[test]
    fn keys_of_the_index_read_back_and_lie_by_session_and_number() {
        let entity = EntityId(7);
        let key = |id: &str, number| index_key(entity, &session(id), SequenceNumber(number));
        assert_eq!(session_and_sequence(&key("a", 3)), Some((session("a"), SequenceNumber(3))));
        assert!(key("", 9) < key("a", 1) && key("a", 255) < key("a", 256));
        assert!(key("a", u64::MAX) < key("b", 0) && key("b", 1) < key("aa", 0));
        assert_eq!(key("a", 3), session_key(entity, KIND_INDEX, &session("a")).with_u64(3));
        let range = session_index_range(entity, &session("a"), SequenceNumber(2));
        assert!(!range.contains(&key("a", 1)) && range.contains(&key("a", 2)));
        assert!(range.contains(&key("a", u64::MAX)) && !range.contains(&key("b", 0)));
        let behind = session_index_behind(entity, Some(&session("a")));
        assert!(!behind.contains(&key("a", u64::MAX)) && behind.contains(&key("b", 0)));
        assert!(session_index_behind(entity, None).contains(&key("", 0)));
    }

    #[test]
    fn what_is_set_aside_has_an_index_of_its_own() {
        let (entity, from) = (EntityId(7), SequenceNumber(2));
        let key = |id: &str, number| shelved_key(entity, &session(id), SequenceNumber(number));
        assert_eq!(session_and_sequence(&key("a", 3)), Some((session("a"), SequenceNumber(3))));
        let scans = session_browse_scans(entity, &session("a"), from, 1, 1);
        let [_, Scan { range, .. }] = &scans[..] else { panic!("{scans:?}") };
        assert!(!range.contains(&key("a", 1)) && range.contains(&key("a", u64::MAX)));
        assert!(
            !range.contains(&key("b", 2)) && !kind_range(entity, KIND_INDEX).contains(&key("a", 2))
        );
        for shelf in [Shelf::Scheduled, Shelf::Deferred] {
            let row = shelved_row(1000, shelf);
            assert_eq!((size_in_index(&row), shelf_in_index(&row)), (1024, shelf));
        }
        assert_eq!(shelf_in_index(&index_row(1000)), Shelf::Active);
    }

    #[test]
    fn the_index_says_about_how_big_a_message_is() {
        for (size, at_most) in [(0, 1), (1, 2), (1000, 1024), (1024, 2048), (u64::MAX, u64::MAX)] {
            assert_eq!(size_in_index(&index_row(size)), at_most);
        }
        assert_eq!(size_in_index(&[200]), u64::MAX);
    }

    #[test]
    fn a_state_reads_back_as_it_was_written() {
        let change = SessionChange::StateSet {
            state: Some(Bytes::from_static(b"state")),
            bytes_before: None,
            at: Timestamp(12),
        };
        let mut batch = Batch::new(peeklock_storage::Epoch(0));
        persist_session_change(EntityId(7), &session("a"), &change, &mut batch);
        let ops = batch.into_ops();
        let [peeklock_storage::Op::Put { key, value, .. }, _] = &ops[..] else { panic!("{ops:?}") };
        let read = SessionStateRow { updated_at: Timestamp(12), bytes: 5 };
        assert_eq!((session_of(key), read_session_state(value)), (Some(session("a")), Some(read)));
        assert_eq!(read_session_state(&[2; 17]), None);
    }
}
