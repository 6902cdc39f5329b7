//! What waits to be written: contiguous head bytes and, between them, large payloads by reference.
//!
//! Nothing here writes or flushes. Frames pile up until the caller takes them all with one
//! vectored write ([`Output::slices`], [`Output::advance`]) or, where the transport copies anyway
//! (TLS, WebSocket), with [`Output::copy_into`].

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits;

/// Bytes to send, in order.
#[derive(Debug, Default)]
pub struct Output {
    parts: VecDeque<Bytes>,
    /// The bytes after `parts`, still growing.
    tail: BytesMut,
    len: usize,
}

impl Output {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `slices` from the front and says how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.parts.iter().map(|part| &part[..]).chain(tail);
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// The first contiguous bytes, for a transport without vectored writes.
    pub fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&self.tail[..], |part| &part[..])
    }

    /// Drops the first `count` bytes: they have been written. More than there are means all.
    pub fn advance(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(part) = self.parts.front_mut() {
            if left < part.len() {
                part.advance(left);
                return;
            }
            left -= part.len();
            self.parts.pop_front();
        }
        self.tail.advance(left);
        if self.tail.is_empty() {
            self.rest();
        }
    }

    /// Moves everything that waits to the end of `buffer`.
    pub fn copy_into(&mut self, buffer: &mut BytesMut) {
        buffer.reserve(self.len);
        for part in self.parts.drain(..) {
            buffer.extend_from_slice(&part);
        }
        buffer.extend_from_slice(&self.tail);
        self.len = 0;
        self.rest();
    }

    /// An empty queue keeps no large buffer: most connections are idle most of the time.
    fn rest(&mut self) {
        if limits::OUTPUT_BUFFER_KEPT_MAX < self.tail.capacity() {
            self.tail = BytesMut::new();
        } else {
            self.tail.clear();
        }
    }

    /// Appends what `write` appends, and returns what it returns.
    pub(crate) fn append<R>(&mut self, write: impl FnOnce(&mut BytesMut) -> R) -> R {
        let before = self.tail.len();
        let result = write(&mut self.tail);
        self.len = self.len + self.tail.len() - before;
        result
    }

    /// Appends a payload: copied when small, else by reference. A copy of about a kilobyte costs
    /// less than one more element in the vectored write.
    pub(crate) fn append_payload(&mut self, payload: Bytes) {
        self.len += payload.len();
        if payload.len() <= limits::PAYLOAD_COPIED_MAX {
            self.tail.extend_from_slice(&payload);
            return;
        }
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
        self.parts.push_back(payload);
    }

    /// Moves everything of `other` to the end of this.
    pub(crate) fn append_output(&mut self, other: &mut Output) {
        if other.is_empty() {
            return;
        }
        if other.parts.is_empty() {
            self.tail.extend_from_slice(&other.tail);
        } else {
            if !self.tail.is_empty() {
                self.parts.push_back(self.tail.split().freeze());
            }
            self.parts.append(&mut other.parts);
            self.tail.extend_from_slice(&other.tail);
        }
        self.len += other.len;
        *other = Output::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Output, Vec<u8>) {
        let mut output = Output::default();
        let large = Bytes::from(vec![7u8; limits::PAYLOAD_COPIED_MAX + 1]);
        output.append(|tail| tail.extend_from_slice(b"head"));
        output.append_payload(Bytes::from_static(b"small"));
        output.append_payload(large.clone());
        output.append_payload(large.clone());
        output.append(|tail| tail.extend_from_slice(b"end"));
        let mut expected = b"headsmall".to_vec();
        expected.extend_from_slice(&large);
        expected.extend_from_slice(&large);
        expected.extend_from_slice(b"end");
        (output, expected)
    }

    #[test]
    fn slices_show_all_in_order_and_large_payloads_by_reference() {
        let (output, expected) = sample();
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = output.slices(&mut slices);
        assert_eq!(filled, 4);
        let joined: Vec<u8> = slices[..filled].iter().flat_map(|s| s.iter().copied()).collect();
        assert_eq!(joined, expected);
        assert_eq!(output.len(), expected.len());
    }

    #[test]
    fn advance_by_any_step_yields_the_same_bytes() {
        for step in [1, 2, 5, 100, 1_025, 1_030, 100_000] {
            let (mut output, expected) = sample();
            let mut seen = Vec::new();
            while !output.is_empty() {
                let take = step.min(output.chunk().len());
                seen.extend_from_slice(&output.chunk()[..take]);
                output.advance(take);
            }
            assert_eq!(seen, expected, "step {step}");
        }
    }

    #[test]
    fn copy_into_empties_the_queue() {
        let (mut output, expected) = sample();
        let (mut front, _) = sample();
        front.append_output(&mut output);
        assert!(output.is_empty());
        let mut buffer = BytesMut::new();
        front.copy_into(&mut buffer);
        assert_eq!(buffer[..], [expected.clone(), expected].concat());
        assert!(front.is_empty());
        assert_eq!(front.chunk(), b"");
    }
}
