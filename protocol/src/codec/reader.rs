//! The cursor every decoder reads through: it cannot run past its end, and it carries the budget
//! of items and of nesting, so that no decoder has to remember to check them.

use bytes::Bytes;

use super::DecodeError;
use crate::limits;

/// A cursor over received bytes.
///
/// What it hands out as [`Bytes`] is a slice of the received buffer where it was made from one,
/// and a copy otherwise.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    source: Option<&'a Bytes>,
    rest: &'a [u8],
    items_left: u32,
    nesting_left: u8,
}

impl<'a> Reader<'a> {
    /// Reads `source`; binaries and strings will share its buffer.
    pub fn new(source: &'a Bytes) -> Self {
        Self { source: Some(source), ..Self::from_slice(source) }
    }

    /// Reads `bytes`; binaries and strings will be copied out.
    pub fn from_slice(bytes: &'a [u8]) -> Self {
        Self {
            source: None,
            rest: bytes,
            items_left: limits::ITEMS_MAX,
            nesting_left: limits::NESTING_MAX,
        }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many octets are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless everything has been read.
    #[inline]
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// The next octet, which stays unread.
    #[inline]
    pub(crate) fn peek(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::UnexpectedEnd)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(head)
    }

    /// `part`, which this reader handed out, as bytes that outlive it.
    pub(crate) fn share(&self, part: &'a [u8]) -> Bytes {
        match self.source {
            Some(source) => source.slice_ref(part),
            None => Bytes::copy_from_slice(part),
        }
    }

    /// A length octet or word as the caller has read it.
    #[inline]
    pub(crate) fn take_u32(&mut self, len: u32) -> Result<&'a [u8], DecodeError> {
        self.take(usize::try_from(len).map_err(|_| DecodeError::UnexpectedEnd)?)
    }

    /// Books `count` declared items, before anything is allocated or looped over for them.
    #[inline]
    pub(crate) fn charge(&mut self, count: u32) -> Result<(), DecodeError> {
        self.items_left =
            self.items_left.checked_sub(count).ok_or(DecodeError::TooManyItems { count })?;
        Ok(())
    }

    /// Runs `read` on the next `len` octets alone. It must use them up.
    #[inline]
    pub(crate) fn within<T>(
        &mut self,
        len: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let after = self.enter(len)?;
        let found = read(self)?;
        self.leave(after)?;
        Ok(found)
    }

    /// Narrows the reader to the next `len` octets, and returns what is behind them.
    #[inline]
    pub(crate) fn enter(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (inside, after) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = inside;
        Ok(after)
    }

    /// Goes on with what [`Reader::enter`] returned; what is before it must have been used up.
    #[inline]
    pub(crate) fn leave(&mut self, after: &'a [u8]) -> Result<(), DecodeError> {
        self.expect_end()?;
        self.rest = after;
        Ok(())
    }

    /// Runs `read` one level of nesting deeper.
    #[inline]
    pub(crate) fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        self.nesting_left = self.nesting_left.checked_sub(1).ok_or(DecodeError::TooDeep)?;
        let found = read(self)?;
        self.nesting_left += 1;
        Ok(found)
    }

    /// Reads past a null, if one is next.
    #[inline]
    pub(crate) fn take_null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((&super::code::NULL, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}
