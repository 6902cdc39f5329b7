//! The messages of the load generator: a durable header and one data section, written once; only
//! the time stamp at the front of the body differs from message to message.

use std::num::NonZeroU32;

use bytes::{BufMut as _, Bytes, BytesMut};
use peeklock_protocol::message::{Properties, Sections};

use super::link::session_id;
use super::stamp::Stamp;

/// §3.2.1 header as a list of one element: durable = true.
const DURABLE_HEADER: [u8; 7] = [0x00, 0x53, 0x70, 0xc0, 0x02, 0x01, 0x41];

/// §3.2.6: the descriptor of a data section.
const DATA: [u8; 3] = [0x00, 0x53, 0x75];

const BINARY_8: u8 = 0xa0;
const BINARY_32: u8 = 0xb0;

/// The parts that all messages share.
#[derive(Clone, Debug)]
pub(super) struct MessageTemplate {
    /// What stands before the body: one for each session, in turn; one if there are none.
    fronts: Vec<Bytes>,
    /// What stands behind the stamp, and in how many places it may begin.
    filler: Bytes,
    places: usize,
}

impl MessageTemplate {
    /// `size` counts the bytes of the body, the stamp included.
    pub(super) fn new(size: usize, distinct: bool, sessions: Option<NonZeroU32>) -> Self {
        let front = |session: Option<String>| {
            let mut front = BytesMut::new();
            front.put_slice(&DURABLE_HEADER);
            if let Some(session) = session {
                let group_id = Some(session.into());
                Properties { group_id, ..Properties::default() }.encode(&mut front);
            }
            front.put_slice(&DATA);
            front.put_u8(BINARY_32);
            front.put_u32(u32::try_from(size).expect("the plan bounds the size to 100 MiB"));
            front.freeze()
        };
        let fronts = match sessions {
            None => vec![front(None)],
            Some(count) => (0..count.get()).map(|index| front(Some(session_id(index)))).collect(),
        };
        // Not all the same byte: a store that compresses should find about what real bodies give it.
        let places = if distinct { DISTINCT } else { 1 };
        let filler: Vec<u8> = (Stamp::LEN..size + places - 1).map(noise).collect();
        Self { fronts, filler: filler.into(), places }
    }

    /// One message. The engine joins the parts as it writes them.
    pub(super) fn parts(&self, stamp: Stamp) -> [Bytes; 3] {
        // A sender's messages go to the sessions in turn.
        let turn = stamp.number % self.fronts.len() as u64;
        let front = usize::try_from(turn).ok().and_then(|turn| self.fronts.get(turn));
        let len = self.filler.len() + 1 - self.places;
        let place = usize::try_from(stamp.number).unwrap_or(0).wrapping_mul(len) % self.places;
        [
            front.cloned().unwrap_or_default(),
            Bytes::copy_from_slice(&stamp.encode()),
            self.filler.slice(place..place + len),
        ]
    }
}

/// In how many places a body may begin that is to be distinct: more than a block of a store holds, so that
/// no two in one are alike.
const DISTINCT: usize = 8 << 20;

/// Text-like bytes without a period: six bits of a hash each.
fn noise(position: usize) -> u8 {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n";
    let hash = position.wrapping_mul(0x9e37_79b1);
    let hash = (hash ^ hash >> 15).wrapping_mul(0x85eb_ca6b);
    LETTERS[(hash ^ hash >> 13) % LETTERS.len()]
}

/// The bytes of the first data section, or `None` when the message has another kind of body.
pub(super) fn body(message: &[u8]) -> Option<&[u8]> {
    let sections = Sections::index(message).ok()?;
    let body = message.get(sections.body()?)?.strip_prefix(&DATA)?;
    let (kind, rest) = body.split_first()?;
    match *kind {
        BINARY_8 => {
            let (len, rest) = rest.split_first()?;
            rest.get(..usize::from(*len))
        }
        BINARY_32 => {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 1, sender: 2, number: 3, due: 4 };

    #[test]
    fn a_message_has_a_body_of_the_size_asked_for_with_the_stamp_in_front() {
        for size in [Stamp::LEN, 33, 1024, 100_000] {
            let message = MessageTemplate::new(size, false, None).parts(STAMP).concat();
            let body = body(&message).expect("a data section");
            assert_eq!(body.len(), size);
            assert_eq!(Stamp::decode(body), Some(STAMP));
        }
    }

    #[test]
    fn distinct_bodies_have_the_same_size_and_nothing_else_in_common() {
        let template = MessageTemplate::new(1000, true, None);
        let of = |number| template.parts(Stamp { number, ..STAMP }).concat();
        let (first, second, last) = (of(0), of(1), of(u64::MAX));
        assert_eq!([second.len(), last.len()], [first.len(); 2]);
        let rest = |message: &[u8]| body(message).unwrap()[Stamp::LEN..].to_vec();
        assert!(!rest(&first).windows(16).any(|part| rest(&second).starts_with(part)));
    }

    #[test]
    fn messages_go_to_the_sessions_in_turn() {
        let template = MessageTemplate::new(100, false, NonZeroU32::new(3));
        for (number, wanted) in [(0, "bench-0"), (1, "bench-1"), (2, "bench-2"), (3, "bench-0")] {
            let message = template.parts(Stamp { number, ..STAMP }).concat();
            let section = Sections::index(&message).unwrap().properties().unwrap();
            let properties = Properties::decode_slice(&message[section]).unwrap();
            assert_eq!(properties.group_id.as_deref(), Some(wanted));
            assert_eq!(body(&message).unwrap().len(), 100);
        }
    }

    #[test]
    fn short_data_sections_are_read_too_and_other_bodies_are_not() {
        let mut message = DATA.to_vec();
        message.extend([BINARY_8, 32]);
        message.extend(STAMP.encode());
        assert_eq!(body(&message).and_then(Stamp::decode), Some(STAMP));
        assert_eq!(body(&[0x00, 0x53, 0x77, 0x41]), None);
        assert_eq!(body(b"no message"), None);
        assert_eq!(body(&[]), None);
    }
}
