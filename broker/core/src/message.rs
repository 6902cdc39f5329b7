//! Messages as they are kept: a row, which is a header of ours and the message as it was received.
//!
//! The octets of a message are copied once, out of the connection's read buffer, and never decoded
//! and written again: not when stored, not when delivered, not when moved to another entity.

use bytes::Bytes;
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::message::Sections;

use crate::id::SequenceNumber;
use crate::time::Timestamp;

/// What stands in a row before the message: form (1 octet), 7 octets of nothing yet, and three
/// numbers of 8 octets, big-endian: when it was enqueued, when it expires (zero: never), and its
/// sequence number in the entity that took it in.
pub(crate) const ROW_HEADER_LEN: usize = 32;
/// The form of row this release writes and reads.
const ROW_FORM: u8 = 1;

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

    /// Gives the message its place and time.
    pub(crate) fn into_stored(
        mut self,
        sequence: SequenceNumber,
        enqueued_at: Timestamp,
    ) -> StoredMessage {
        let numbers = [enqueued_at.0, 0, sequence.0].map(u64::to_be_bytes);
        self.row[0] = ROW_FORM;
        self.row[8..ROW_HEADER_LEN].copy_from_slice(numbers.as_flattened());
        StoredMessage {
            row: Bytes::from(self.row),
            sections: self.sections,
            enqueued_at,
            enqueue_sequence: sequence,
        }
    }
}

/// A message an entity holds. It is shared, and does not change until it is gone.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    row: Bytes,
    sections: Sections,
    enqueued_at: Timestamp,
    enqueue_sequence: SequenceNumber,
}

impl StoredMessage {
    /// Reads a row back, or says what is wrong with it.
    pub(crate) fn from_row(row: Bytes) -> Result<Self, &'static str> {
        let (header, message) =
            row.split_first_chunk::<ROW_HEADER_LEN>().ok_or("shorter than a header")?;
        if header[0] != ROW_FORM {
            return Err("of a form this release does not know");
        }
        let number = |index: usize| {
            let (octets, _) = header[index..].split_first_chunk::<8>().expect("within the header");
            u64::from_be_bytes(*octets)
        };
        let (enqueued_at, enqueue_sequence) = (Timestamp(number(8)), SequenceNumber(number(24)));
        let sections = Sections::index(message).map_err(|_| "no message behind the header")?;
        Ok(StoredMessage { row, sections, enqueued_at, enqueue_sequence })
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

    /// When it was accepted.
    pub const fn enqueued_at(&self) -> Timestamp {
        self.enqueued_at
    }

    /// Its number in the entity that took it in, which is not always the one that holds it.
    pub const fn enqueue_sequence(&self) -> SequenceNumber {
        self.enqueue_sequence
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
        let stored = incoming.into_stored(SequenceNumber(7), Timestamp(1_000));
        let read = StoredMessage::from_row(stored.row().clone()).unwrap();
        assert_eq!(read.bytes(), wire);
        assert_eq!(read.shared_bytes(), wire);
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
