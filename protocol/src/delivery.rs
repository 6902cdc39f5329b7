//! Deliveries under way: the ones coming in frame by frame, the ones going out as far as the
//! session window lets them, and the ones on either side that are not settled yet.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::connection::LinkId;
use crate::delivery_state::DeliveryState;
use crate::limits;
use crate::performative::Transfer;
use crate::serial::SerialNumber;

/// The session's number for a delivery (§2.6.12): a serial number, good for one direction of one
/// AMQP session.
pub type DeliveryId = SerialNumber;

/// A delivery-tag, §2.8.7: at most 32 octets, kept in place so that none is ever allocated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    len: u8,
    octets: [u8; limits::DELIVERY_TAG_LEN_MAX],
}

impl DeliveryTag {
    /// `None` when it is longer than 32 octets.
    pub fn new(tag: &[u8]) -> Option<Self> {
        let mut octets = [0; limits::DELIVERY_TAG_LEN_MAX];
        octets.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Self { len: u8::try_from(tag.len()).ok()?, octets })
    }
}

impl Deref for DeliveryTag {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeliveryTag(")?;
        for octet in self.iter() {
            write!(f, "{octet:02x}")?;
        }
        write!(f, ")")
    }
}

/// A message that has arrived in full.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The link it came on.
    pub link: LinkId,
    /// What to name in [`settle_incoming`](crate::Connection::settle_incoming).
    pub id: DeliveryId,
    /// The sender's tag.
    pub tag: Bytes,
    /// 0, or 0x80013700 for an envelope of many messages.
    pub message_format: u32,
    /// The sender wants no answer.
    pub settled: bool,
    /// The sender's state, a transactional one for example.
    pub state: Option<DeliveryState>,
    /// The whole message. A slice of the read buffer when it came in one frame: copy what stays.
    pub payload: Bytes,
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct OutgoingDelivery<'a> {
    /// At most 32 octets.
    pub tag: &'a [u8],
    /// 0 for an ordinary message.
    pub message_format: u32,
    /// No disposition is expected.
    pub settled: bool,
    /// A state to send along.
    pub state: Option<DeliveryState>,
    /// The encoded message, in as many parts as convenient; small ones are copied.
    pub parts: &'a [Bytes],
}

/// A delivery of which not all frames have come yet.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) id: DeliveryId,
    pub(crate) tag: Bytes,
    pub(crate) message_format: u32,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
    /// Copied together, so that a slow peer pins no read buffer.
    pub(crate) payload: BytesMut,
    /// It has outgrown the link's max-message-size: nothing of it is kept.
    pub(crate) fate: Fate,
}

/// How far the parts of a delivery have been written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartsCursor {
    part: usize,
    offset: usize,
}

impl PartsCursor {
    /// Bytes not written yet.
    pub(crate) fn remaining(self, parts: &[Bytes]) -> usize {
        let total: usize = parts.iter().skip(self.part).map(Bytes::len).sum();
        total.saturating_sub(self.offset)
    }

    /// Hands the next `count` bytes to `write`, piece by piece.
    pub(crate) fn take(&mut self, parts: &[Bytes], count: usize, mut write: impl FnMut(Bytes)) {
        let mut left = count;
        while 0 < left {
            let Some(part) = parts.get(self.part) else { return };
            let end = part.len().min(self.offset.saturating_add(left));
            if self.offset < end {
                write(part.slice(self.offset..end));
                left -= end - self.offset;
            }
            self.offset = end;
            if self.offset == part.len() {
                self.part += 1;
                self.offset = 0;
            }
        }
    }
}

/// A delivery, or the rest of one, that waits for the session window.
#[derive(Debug)]
pub(crate) struct QueuedDelivery {
    pub(crate) link: LinkId,
    pub(crate) transfer: Transfer,
    pub(crate) parts: SmallVec<[Bytes; 4]>,
    pub(crate) cursor: PartsCursor,
}

/// One of our deliveries the peer has not settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) link: LinkId,
    pub(crate) tag: DeliveryTag,
    /// The caller has been told of an unsettled outcome. A repeat of it is not reported, so that
    /// one small frame, sent over and over, cannot become thousands of events each time.
    pub(crate) reported: bool,
}

/// One of the peer's deliveries that is not settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) link: LinkId,
}

#[derive(Debug)]
struct Entry<T> {
    id: DeliveryId,
    value: Option<T>,
}

/// Unsettled deliveries of one direction of a session, in the order of their ids.
///
/// Ids come in order and mostly leave in order, so a ring serves: an entry is found by its distance
/// from the front, and by binary search when ids have gaps. An entry settled out of order leaves a
/// hole, and holes are squeezed out once they outnumber the rest. So one message held for hours
/// costs nothing while millions pass by.
#[derive(Debug)]
pub(crate) struct Unsettled<T> {
    ring: VecDeque<Entry<T>>,
    live: usize,
}

impl<T> Default for Unsettled<T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), live: 0 }
    }
}

impl<T: Copy> Unsettled<T> {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// The caller has made sure that `id` comes after every id pushed before it.
    pub(crate) fn push(&mut self, id: DeliveryId, value: T) {
        self.ring.push_back(Entry { id, value: Some(value) });
        self.live += 1;
    }

    /// Where `id` is, or where it would be. Distances are measured from the front, so the order is
    /// right across the wrap at 2^32.
    fn position(&self, id: DeliveryId) -> Result<usize, usize> {
        let Some(front) = self.ring.front() else { return Err(0) };
        if id.is_before(front.id) {
            return Err(0);
        }
        let distance = id.distance_from(front.id);
        let guess = distance as usize;
        if self.ring.get(guess).is_some_and(|entry| entry.id == id) {
            return Ok(guess);
        }
        self.ring.binary_search_by(|entry| entry.id.distance_from(front.id).cmp(&distance))
    }

    pub(crate) fn get_mut(&mut self, id: DeliveryId) -> Option<&mut T> {
        let index = self.position(id).ok()?;
        self.ring.get_mut(index)?.value.as_mut()
    }

    pub(crate) fn remove(&mut self, id: DeliveryId) -> Option<T> {
        let index = self.position(id).ok()?;
        let value = self.ring.get_mut(index)?.value.take()?;
        self.live -= 1;
        self.tidy();
        Some(value)
    }

    /// Shows `visit` every live entry from `first` to `last` (both included), in order; it says
    /// whether to remove the entry. The cost goes with what is ours in that range, whatever range
    /// the peer names.
    pub(crate) fn visit_range(
        &mut self,
        first: DeliveryId,
        last: DeliveryId,
        mut visit: impl FnMut(DeliveryId, &mut T) -> bool,
    ) {
        if last.is_before(first) {
            return;
        }
        let (Ok(start) | Err(start)) = self.position(first);
        for entry in self.ring.iter_mut().skip(start) {
            if last.is_before(entry.id) {
                break;
            }
            if let Some(value) = &mut entry.value
                && visit(entry.id, value)
            {
                entry.value = None;
                self.live -= 1;
            }
        }
        self.tidy();
    }

    /// Removes every entry that `gone` says is gone.
    pub(crate) fn remove_all(&mut self, mut gone: impl FnMut(&T) -> bool) {
        for entry in &mut self.ring {
            if entry.value.as_ref().is_some_and(&mut gone) {
                entry.value = None;
                self.live -= 1;
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        while self.ring.front().is_some_and(|entry| entry.value.is_none()) {
            self.ring.pop_front();
        }
        if 2 * self.live + limits::UNSETTLED_HOLES_MIN < self.ring.len() {
            self.ring.retain(|entry| entry.value.is_some());
        }
        if self.ring.is_empty() && limits::UNSETTLED_KEPT_MAX < self.ring.capacity() {
            self.ring = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SerialNumber = SerialNumber(0xFFFF_FFF0);

    fn filled(count: u32) -> Unsettled<u32> {
        let mut unsettled = Unsettled::default();
        for n in 0..count {
            unsettled.push(START.advanced_by(n), n);
        }
        unsettled
    }

    fn range(unsettled: &mut Unsettled<u32>, first: u32, last: u32) -> Vec<u32> {
        let mut seen = Vec::new();
        unsettled.visit_range(START.advanced_by(first), START.advanced_by(last), |_, n| {
            seen.push(*n);
            true
        });
        seen
    }

    #[test]
    fn trap_01_a_range_that_wraps_meets_only_what_is_ours() {
        let mut unsettled = filled(40);
        assert_eq!(range(&mut unsettled, 14, 18), [14, 15, 16, 17, 18]);
        assert_eq!(range(&mut unsettled, 10, 20), [10, 11, 12, 13, 19, 20]);
        assert_eq!(range(&mut unsettled, 39, 1_000_000), [39]);
        assert_eq!(range(&mut unsettled, 5, 4), [] as [u32; 0]);
        assert_eq!(unsettled.len(), 28);
    }

    #[test]
    fn trap_01_the_widest_range_costs_no_more_than_our_own_entries() {
        let mut unsettled = filled(3);
        let mut visits = 0;
        let (first, last) = (START, START.advanced_by(0x7FFF_FFFF));
        unsettled.visit_range(first, last, |_, _| {
            visits += 1;
            false
        });
        assert_eq!(visits, 3);
    }

    #[test]
    fn entries_are_found_again_after_holes_were_squeezed_out() {
        let mut unsettled = filled(10_000);
        for n in 1..9_999 {
            assert_eq!(unsettled.remove(START.advanced_by(n)), Some(n));
        }
        assert!(unsettled.ring.len() < 200, "{} entries for 2", unsettled.ring.len());
        assert_eq!(unsettled.get_mut(START.advanced_by(9_999)), Some(&mut 9_999));
        assert_eq!(unsettled.get_mut(START.advanced_by(500)), None);
        assert_eq!(unsettled.remove(START), Some(0));
        assert_eq!(unsettled.remove(START), None);
        assert_eq!(unsettled.len(), 1);
    }

    #[test]
    fn gaps_between_ids_are_no_obstacle() {
        // pyamqp numbers deliveries by their first frame, so a long message leaves a gap.
        let mut unsettled = Unsettled::default();
        for n in [0u32, 3, 4, 20, 21] {
            unsettled.push(START.advanced_by(n), n);
        }
        assert_eq!(range(&mut unsettled, 1, 4), [3, 4]);
        assert_eq!(unsettled.remove(START.advanced_by(20)), Some(20));
        assert_eq!(unsettled.remove(START.advanced_by(19)), None);
    }

    #[test]
    fn parts_come_out_whole_however_they_are_cut() {
        let parts = [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defgh")];
        for step in 1..9 {
            let mut cursor = PartsCursor::default();
            let mut seen = Vec::new();
            while 0 < cursor.remaining(&parts) {
                cursor.take(&parts, step, |piece| seen.extend_from_slice(&piece));
            }
            assert_eq!(seen, b"abcdefgh", "step {step}");
        }
    }

    #[test]
    fn a_tag_is_at_most_32_octets() {
        assert_eq!(DeliveryTag::new(&[1, 2, 3]).as_deref(), Some(&[1u8, 2, 3][..]));
        assert!(DeliveryTag::new(&[0; 32]).is_some());
        assert!(DeliveryTag::new(&[0; 33]).is_none());
    }
}

/// What becomes of a delivery that is not complete yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Its parts are put together.
    Kept,
    /// It is larger than the link allows: what comes of it is thrown away.
    Oversize,
    /// The caller had no room for it: what comes of it is thrown away.
    Dropped,
}
