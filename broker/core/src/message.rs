//! Messages as they are kept: a row, which is a header of ours and the message as it was received.
//!
//! The octets of a message are copied once, out of the connection's read buffer, and never decoded
//! and written again: not when stored, not when delivered, not when moved to another entity.

pub mod facts;

use bytes::Bytes;
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::message::Sections;

use self::facts::Facts;
use crate::id::{EntityId, SequenceNumber};
use crate::time::Timestamp;

/// Octets before the message in its row; see [`RowHeader`].
pub(crate) const ROW_HEADER_LEN: usize = 32;
/// The form of row this release writes and reads.
const ROW_FORM: u8 = 1;

/// What stands in a row before the message: the form (1 octet), then these, big-endian, with 2 octets
/// of nothing behind the hops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowHeader {
    /// Over how many entities it was forwarded.
    pub(crate) hops: u8,
    /// The entity whose dead letter it was before it was forwarded; zero in the row for none.
    pub(crate) dead_letter_source: Option<EntityId>,
    /// When it became active; of a scheduled message, when it will.
    pub(crate) enqueued_at: Timestamp,
    /// The first moment at which it is of no use any more; zero in the row for never.
    pub(crate) expires_at: Option<Timestamp>,
    /// Its number in the entity that took it in, which is not always the one that holds it.
    pub(crate) enqueue_sequence: SequenceNumber,
}

impl RowHeader {
    /// Of a message that comes from outside and never expires.
    pub(crate) const fn new(enqueue_sequence: SequenceNumber, enqueued_at: Timestamp) -> Self {
        RowHeader {
            hops: 0,
            dead_letter_source: None,
            enqueued_at,
            expires_at: None,
            enqueue_sequence,
        }
    }

    fn write(&self, row: &mut [u8]) {
        let source = self.dead_letter_source.map_or(0, |entity| entity.0);
        let expires_at = self.expires_at.map_or(0, |at| at.0);
        let numbers = [self.enqueued_at.0, expires_at, self.enqueue_sequence.0];
        row[0] = ROW_FORM;
        row[1] = self.hops;
        row[4..8].copy_from_slice(&source.to_be_bytes());
        row[8..ROW_HEADER_LEN].copy_from_slice(numbers.map(u64::to_be_bytes).as_flattened());
    }

    /// The header of a row, and the message behind it.
    fn of_row(row: &[u8]) -> Result<(Self, &[u8]), &'static str> {
        let (header, message) =
            row.split_first_chunk::<ROW_HEADER_LEN>().ok_or("shorter than a header")?;
        if header[0] != ROW_FORM {
            return Err("of a form this release does not know");
        }
        Ok((RowHeader::read(header), message))
    }

    fn read(row: &[u8; ROW_HEADER_LEN]) -> Self {
        let number = |at: usize| {
            let (octets, _) = row[at..].split_first_chunk::<8>().expect("within the header");
            u64::from_be_bytes(*octets)
        };
        let source = u32::from_be_bytes([row[4], row[5], row[6], row[7]]);
        RowHeader {
            hops: row[1],
            dead_letter_source: Some(EntityId(source)).filter(|id| id.0 != 0),
            enqueued_at: Timestamp(number(8)),
            expires_at: Some(Timestamp(number(16))).filter(|at| at.0 != 0),
            enqueue_sequence: SequenceNumber(number(24)),
        }
    }
}

/// A message on its way in, already copied and looked through, not yet accepted.
#[derive(Clone, Debug)]
pub struct IncomingMessage {
    /// Room for the header, then the message.
    row: Vec<u8>,
    sections: Sections,
}

impl IncomingMessage {
    /// Copies one encoded message and finds its sections. Meant for the connection's task, so that
    /// the work is spread and broken messages never reach the core.
    pub fn from_wire(payload: &[u8]) -> Result<Self, DecodeError> {
        let sections = Sections::index(payload)?;
        // Nobody here decodes a body, but receivers do: nesting without end is not passed on to them.
        sections.check_body(payload)?;
        let mut row = Vec::with_capacity(ROW_HEADER_LEN + payload.len());
        row.extend_from_slice(&[0; ROW_HEADER_LEN]);
        row.extend_from_slice(payload);
        Ok(IncomingMessage { row, sections })
    }

    /// The message as it was received.
    pub fn bytes(&self) -> &[u8] {
        self.row.get(ROW_HEADER_LEN..).unwrap_or_default()
    }

    /// Where its sections are in [`IncomingMessage::bytes`].
    pub fn sections(&self) -> &Sections {
        &self.sections
    }

    /// Octets of the message.
    pub fn size(&self) -> u64 {
        (self.row.len() - ROW_HEADER_LEN) as u64
    }

    /// What the sender wrote on it.
    pub fn facts(&self) -> Facts<'_> {
        Facts::new(self.bytes(), &self.sections)
    }

    /// Gives the message its place and time.
    pub(crate) fn into_stored(mut self, header: RowHeader) -> StoredMessage {
        header.write(&mut self.row);
        StoredMessage { row: Bytes::from(self.row), sections: self.sections, header }
    }
}

/// A message an entity holds. It is shared, and does not change until it is gone.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    row: Bytes,
    sections: Sections,
    header: RowHeader,
}

impl StoredMessage {
    /// Reads a row back, or says what is wrong with it.
    pub(crate) fn from_row(row: Bytes) -> Result<Self, &'static str> {
        let (header, message) = RowHeader::of_row(&row)?;
        let sections = Sections::index(message).map_err(|_| "no message behind the header")?;
        Ok(StoredMessage { row, sections, header })
    }

    /// A row with another entity in the place of the one whose dead letter the message was, if it was
    /// one's: entities have other numbers in another store.
    pub(crate) fn row_with_source(
        row: &Bytes,
        source: impl FnOnce(EntityId) -> EntityId,
    ) -> Result<Bytes, &'static str> {
        let (header, _) = RowHeader::of_row(row)?;
        let Some(before) = header.dead_letter_source else { return Ok(row.clone()) };
        let mut row = row.to_vec();
        RowHeader { dead_letter_source: Some(source(before)), ..header }.write(&mut row);
        Ok(row.into())
    }

    /// The same message on its way in again, as it was sent.
    pub(crate) fn into_incoming(self) -> IncomingMessage {
        IncomingMessage { row: self.row.into(), sections: self.sections }
    }

    /// What stands before the message.
    pub(crate) const fn header(&self) -> RowHeader {
        self.header
    }

    /// What the sender wrote on it.
    pub fn facts(&self) -> Facts<'_> {
        Facts::new(self.bytes(), &self.sections)
    }

    /// The message as it was received.
    pub fn bytes(&self) -> &[u8] {
        &self.row[ROW_HEADER_LEN..]
    }

    /// The same, sharing the memory.
    pub fn shared_bytes(&self) -> Bytes {
        self.row.slice(ROW_HEADER_LEN..)
    }

    /// Where its sections are in [`StoredMessage::bytes`].
    pub fn sections(&self) -> &Sections {
        &self.sections
    }

    /// The application-properties section as it was sent, if there is one.
    pub fn application_properties(&self) -> Option<&[u8]> {
        self.bytes().get(self.sections.application_properties()?)
    }

    /// When it became active; of a scheduled message, when it will.
    pub const fn enqueued_at(&self) -> Timestamp {
        self.header.enqueued_at
    }

    /// The first moment at which it is of no use any more, if there is one.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.header.expires_at
    }

    /// Its number in the entity that took it in, which is not always the one that holds it.
    pub const fn enqueue_sequence(&self) -> SequenceNumber {
        self.header.enqueue_sequence
    }

    /// Octets of the message.
    pub fn size(&self) -> u64 {
        (self.row.len() - ROW_HEADER_LEN) as u64
    }

    /// Octets of the message in a row, readable or not.
    pub(crate) fn size_of_row(row: &[u8]) -> u64 {
        row.len().saturating_sub(ROW_HEADER_LEN) as u64
    }

    /// What is written.
    pub(crate) const fn row(&self) -> &Bytes {
        &self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::wire_message;

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let wire = wire_message(b"hello");
        let incoming = IncomingMessage::from_wire(&wire).unwrap();
        assert_eq!(incoming.bytes(), wire);
        assert_eq!(incoming.size(), wire.len() as u64);
        let header = RowHeader {
            hops: 3,
            dead_letter_source: Some(EntityId(9)),
            expires_at: Some(Timestamp(2_000)),
            ..RowHeader::new(SequenceNumber(7), Timestamp(1_000))
        };
        let stored = incoming.into_stored(header);
        let read = StoredMessage::from_row(stored.row().clone()).unwrap();
        assert_eq!(read.bytes(), wire);
        assert_eq!(read.shared_bytes(), wire);
        assert_eq!(read.header(), header);
        let other = |id: EntityId| EntityId(id.0 * 100);
        let renamed = StoredMessage::row_with_source(stored.row(), other).unwrap();
        let renamed = StoredMessage::from_row(renamed).unwrap();
        let source = Some(EntityId(900));
        assert_eq!(renamed.header(), RowHeader { dead_letter_source: source, ..header });
        assert_eq!(renamed.bytes(), wire);
        let moved = read.clone().into_incoming().into_stored(RowHeader { hops: 4, ..header });
        assert_eq!((moved.header().hops, moved.bytes()), (4, &wire[..]));
        assert_eq!(read.enqueued_at(), Timestamp(1_000));
        assert_eq!(read.enqueue_sequence(), SequenceNumber(7));
        assert_eq!(read.size(), wire.len() as u64);
    }

    #[test]
    fn bodies_nested_beyond_reason_stay_outside() {
        // An amqp-value section, then lists of one element each, innermost empty.
        let nested = |depth: usize| {
            let mut lists = vec![0x45];
            for _ in 1..depth {
                let size = u32::try_from(lists.len() + 4).unwrap().to_be_bytes();
                lists = [&[0xd0][..], &size, &1_u32.to_be_bytes(), &lists].concat();
            }
            IncomingMessage::from_wire(&[&[0x00, 0x53, 0x77][..], &lists].concat())
        };
        assert!(nested(30).is_ok());
        assert!(nested(40).is_err());
        assert!(nested(4_000).is_err());
    }

    #[test]
    fn damaged_rows_are_found_out() {
        let row = |bytes: &[u8]| StoredMessage::from_row(Bytes::copy_from_slice(bytes));
        assert_eq!(row(&[]).unwrap_err(), "shorter than a header");
        assert_eq!(row(&[1; 31]).unwrap_err(), "shorter than a header");
        assert_eq!(row(&[2; 64]).unwrap_err(), "of a form this release does not know");
        assert_eq!(row(&[1; 64]).unwrap_err(), "no message behind the header");
    }
}
