//! §1.6.22–24: lists, maps and arrays: their heads, reading past them, and writing them.

use bytes::{BufMut, Bytes, BytesMut};

use super::{DecodeError, Reader, code, unexpected, wire_len};

/// What stands before the items of a compound: how many there are, and how many octets they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) count: u32,
    pub(crate) len: usize,
}

impl<'a> Reader<'a> {
    /// The head of a compound with one-octet size and count.
    #[inline]
    pub(crate) fn head_8(&mut self) -> Result<Head, DecodeError> {
        let [size, count] = self.array()?;
        // `size` counts the octets after itself, and so includes the count.
        let len = size.checked_sub(1).ok_or(DecodeError::CompoundSize { size: size.into() })?;
        self.head(usize::from(len), u32::from(count))
    }

    /// The head of a compound with four-octet size and count.
    #[inline]
    pub(crate) fn head_32(&mut self) -> Result<Head, DecodeError> {
        let size = self.u32()?;
        let count = self.u32()?;
        let len = size.checked_sub(4).ok_or(DecodeError::CompoundSize { size })?;
        self.head(usize::try_from(len).map_err(|_| DecodeError::UnexpectedEnd)?, count)
    }

    #[inline]
    fn head(&mut self, len: usize, count: u32) -> Result<Head, DecodeError> {
        if self.remaining() < len {
            return Err(DecodeError::UnexpectedEnd);
        }
        self.charge(count)?;
        Ok(Head { count, len })
    }

    /// The head of a list, its constructor included.
    #[inline]
    pub(crate) fn list_head(&mut self) -> Result<Head, DecodeError> {
        match self.u8()? {
            code::LIST_8 => self.head_8(),
            code::LIST_0 => Ok(Head { count: 0, len: 0 }),
            code::LIST_32 => self.head_32(),
            code => Err(unexpected("list", code)),
        }
    }

    /// The head of a map, its constructor included.
    pub(crate) fn map_head(&mut self) -> Result<Head, DecodeError> {
        let head = match self.u8()? {
            code::MAP_8 => self.head_8()?,
            code::MAP_32 => self.head_32()?,
            code => return Err(unexpected("map", code)),
        };
        even(head)
    }

    /// Reads past one value of any type, and checks sizes, counts and nesting on the way.
    ///
    /// The recursion is as deep as [`crate::limits::NESTING_MAX`] at most, and each loop is paid
    /// for with octets or from the budget of items.
    #[inline]
    pub(crate) fn skip_value(&mut self) -> Result<(), DecodeError> {
        let code = self.u8()?;
        self.skip_content(code)
    }

    /// Reads past one value and returns its octets.
    #[inline]
    pub(crate) fn value_slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let before = self.rest();
        self.skip_value()?;
        Ok(consumed(before, self.rest()))
    }

    /// Reads past one value and keeps its octets.
    pub(crate) fn raw_value(&mut self) -> Result<Bytes, DecodeError> {
        let octets = self.value_slice()?;
        Ok(self.share(octets))
    }

    /// Reads past what follows the constructor `code`.
    #[inline]
    pub(crate) fn skip_content(&mut self, code: u8) -> Result<(), DecodeError> {
        match layout(code) {
            Layout::Fixed(width) => self.take(usize::from(width)).map(|_| ()),
            Layout::Sized8 => {
                let len = self.u8()?;
                self.take(usize::from(len)).map(|_| ())
            }
            Layout::Sized32 => {
                let len = self.u32()?;
                self.take_u32(len).map(|_| ())
            }
            Layout::Other => self.skip_container(code),
        }
    }

    fn skip_container(&mut self, code: u8) -> Result<(), DecodeError> {
        match code {
            code::LIST_8 => self.head_8().and_then(|head| self.skip_items(head)),
            code::LIST_32 => self.head_32().and_then(|head| self.skip_items(head)),
            code::MAP_8 => self.head_8().and_then(even).and_then(|head| self.skip_items(head)),
            code::MAP_32 => self.head_32().and_then(even).and_then(|head| self.skip_items(head)),
            code::ARRAY_8 => self.head_8().and_then(|head| self.skip_array(head)),
            code::ARRAY_32 => self.head_32().and_then(|head| self.skip_array(head)),
            code::DESCRIBED => self.nested(|r| {
                r.skip_value()?;
                r.skip_value()
            }),
            code => Err(DecodeError::UnknownCode { code }),
        }
    }

    fn skip_items(&mut self, head: Head) -> Result<(), DecodeError> {
        if head.count == 0 {
            // Without items there is nothing nested, no more than in a list0.
            return self.within(head.len, |_| Ok(()));
        }
        self.nested(|r| {
            r.within(head.len, |r| {
                for _ in 0..head.count {
                    r.skip_value()?;
                }
                Ok(())
            })
        })
    }

    fn skip_array(&mut self, head: Head) -> Result<(), DecodeError> {
        self.nested(|r| {
            if head.is_bare() {
                return Ok(());
            }
            r.within(head.len, |r| r.skip_elements(head.count))
        })
    }

    /// Reads past an array's constructor and elements. A described constructor counts as nesting.
    fn skip_elements(&mut self, count: u32) -> Result<(), DecodeError> {
        let code = self.u8()?;
        if code == code::DESCRIBED {
            return self.nested(|r| {
                r.skip_value()?;
                r.skip_elements(count)
            });
        }
        if let Layout::Fixed(width) = layout(code) {
            let width = usize::from(width);
            let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(width));
            self.take(len.ok_or(DecodeError::UnexpectedEnd)?)?;
            return Ok(());
        }
        for _ in 0..count {
            self.skip_content(code)?;
        }
        Ok(())
    }
}

impl Head {
    /// The count as a length of ours. The budget of items has bounded it.
    pub(crate) fn items(self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// An empty array without a constructor. The grammar wants one, but there is nothing to lose.
    pub(crate) fn is_bare(self) -> bool {
        self.count == 0 && self.len == 0
    }
}

pub(crate) fn even(head: Head) -> Result<Head, DecodeError> {
    if head.count.is_multiple_of(2) {
        Ok(head)
    } else {
        Err(DecodeError::OddMap { count: head.count })
    }
}

/// What was read between two positions of one reader.
#[inline]
pub(crate) fn consumed<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    let len = before.len().saturating_sub(after.len());
    before.get(..len).unwrap_or(before)
}

/// What follows a constructor, as far as skipping goes.
#[derive(Clone, Copy)]
enum Layout {
    Fixed(u8),
    Sized8,
    Sized32,
    /// A container, or no constructor at all.
    Other,
}

const fn layout_of(code: u8) -> Layout {
    match code {
        code::NULL..=code::LIST_0 => Layout::Fixed(0),
        code::UBYTE..=code::BOOLEAN => Layout::Fixed(1),
        code::USHORT | code::SHORT => Layout::Fixed(2),
        code::UINT..=code::DECIMAL_32 => Layout::Fixed(4),
        code::ULONG..=code::DECIMAL_64 => Layout::Fixed(8),
        code::DECIMAL_128 | code::UUID => Layout::Fixed(16),
        code::BINARY_8 | code::STRING_8 | code::SYMBOL_8 => Layout::Sized8,
        code::BINARY_32 | code::STRING_32 | code::SYMBOL_32 => Layout::Sized32,
        _ => Layout::Other,
    }
}

/// [`layout_of`] for every octet: each item of each section is looked up here.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would notice")]
static LAYOUTS: [Layout; 256] = {
    let mut table = [Layout::Other; 256];
    let mut code = 0_u8;
    loop {
        table[code as usize] = layout_of(code);
        if code == u8::MAX {
            break table;
        }
        code += 1;
    }
};

#[inline]
fn layout(code: u8) -> Layout {
    LAYOUTS.get(usize::from(code)).copied().unwrap_or(Layout::Other)
}

/// Writes a list field by field, in the short form when it fits.
pub(crate) struct ListWriter<'a> {
    pub(crate) out: &'a mut BytesMut,
    start: usize,
    count: u32,
    /// Length and count after the last field that was not null.
    filled: (usize, u32),
}

/// What [`ListWriter`] and [`write_map`] leave free for the short head.
const SHORT_HEAD_LEN: usize = 3;
/// Constructor, size and count of the long form.
const LONG_HEAD_LEN: usize = 9;

impl<'a> ListWriter<'a> {
    pub(crate) fn new(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        out.put_slice(&[code::LIST_8, 0, 0]);
        let filled = (out.len(), 0);
        Self { out, start, count: 0, filled }
    }

    #[inline]
    pub(crate) fn null(&mut self) {
        self.out.put_u8(code::NULL);
        self.count += 1;
    }

    #[inline]
    pub(crate) fn item(&mut self, write: impl FnOnce(&mut BytesMut)) {
        write(self.out);
        self.count += 1;
        self.filled = (self.out.len(), self.count);
    }

    /// Ends the list with all its fields.
    pub(crate) fn finish(self) {
        patch_compound(self.out, self.start, self.count, code::LIST_32);
    }

    /// Ends the list after its last field that is not null; one without any becomes list0.
    pub(crate) fn finish_trimmed(self) {
        let (len, count) = self.filled;
        self.out.truncate(len);
        if count == 0 {
            self.out.truncate(self.start);
            self.out.put_u8(code::LIST_0);
        } else {
            patch_compound(self.out, self.start, count, code::LIST_32);
        }
    }
}

/// Writes a map whose `write` returns how many keys and values it wrote.
pub(crate) fn write_map(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> u32) {
    let start = out.len();
    out.put_slice(&[code::MAP_8, 0, 0]);
    let count = write(out);
    patch_compound(out, start, count, code::MAP_32);
}

/// Fills in size and count of a compound that starts at `start` with a short head, and moves its
/// items up for the long one when they do not fit.
pub(crate) fn patch_compound(out: &mut BytesMut, start: usize, count: u32, code_32: u8) {
    let items = start + SHORT_HEAD_LEN;
    let len = out.len() - items;
    if let (Ok(size), Ok(count)) = (u8::try_from(len + 1), u8::try_from(count)) {
        if let Some([_, size_octet, count_octet]) = out.get_mut(start..items) {
            *size_octet = size;
            *count_octet = count;
        }
        return;
    }
    let end = out.len();
    out.put_bytes(0, LONG_HEAD_LEN - SHORT_HEAD_LEN);
    out.copy_within(items..end, start + LONG_HEAD_LEN);
    if let Some(mut head) = out.get_mut(start..start + LONG_HEAD_LEN) {
        head.put_u8(code_32);
        head.put_u32(wire_len(len + 4));
        head.put_u32(count);
    }
}
