//! §1.6: the primitive types in all their encodings. Writers choose the shortest.

use bytes::{BufMut, Bytes, BytesMut};

use super::{DecodeError, Reader};
use crate::value::{Str, Symbol};

/// The constructor octets of §1.6.
pub(crate) mod code {
    pub(crate) const DESCRIBED: u8 = 0x00;
    pub(crate) const NULL: u8 = 0x40;
    pub(crate) const TRUE: u8 = 0x41;
    pub(crate) const FALSE: u8 = 0x42;
    pub(crate) const UINT_0: u8 = 0x43;
    pub(crate) const ULONG_0: u8 = 0x44;
    pub(crate) const LIST_0: u8 = 0x45;
    pub(crate) const UBYTE: u8 = 0x50;
    pub(crate) const BYTE: u8 = 0x51;
    pub(crate) const SMALL_UINT: u8 = 0x52;
    pub(crate) const SMALL_ULONG: u8 = 0x53;
    pub(crate) const SMALL_INT: u8 = 0x54;
    pub(crate) const SMALL_LONG: u8 = 0x55;
    pub(crate) const BOOLEAN: u8 = 0x56;
    pub(crate) const USHORT: u8 = 0x60;
    pub(crate) const SHORT: u8 = 0x61;
    pub(crate) const UINT: u8 = 0x70;
    pub(crate) const INT: u8 = 0x71;
    pub(crate) const FLOAT: u8 = 0x72;
    pub(crate) const CHAR: u8 = 0x73;
    pub(crate) const DECIMAL_32: u8 = 0x74;
    pub(crate) const ULONG: u8 = 0x80;
    pub(crate) const LONG: u8 = 0x81;
    pub(crate) const DOUBLE: u8 = 0x82;
    pub(crate) const TIMESTAMP: u8 = 0x83;
    pub(crate) const DECIMAL_64: u8 = 0x84;
    pub(crate) const DECIMAL_128: u8 = 0x94;
    pub(crate) const UUID: u8 = 0x98;
    pub(crate) const BINARY_8: u8 = 0xa0;
    pub(crate) const STRING_8: u8 = 0xa1;
    pub(crate) const SYMBOL_8: u8 = 0xa3;
    pub(crate) const BINARY_32: u8 = 0xb0;
    pub(crate) const STRING_32: u8 = 0xb1;
    pub(crate) const SYMBOL_32: u8 = 0xb3;
    pub(crate) const LIST_8: u8 = 0xc0;
    pub(crate) const MAP_8: u8 = 0xc1;
    pub(crate) const LIST_32: u8 = 0xd0;
    pub(crate) const MAP_32: u8 = 0xd1;
    pub(crate) const ARRAY_8: u8 = 0xe0;
    pub(crate) const ARRAY_32: u8 = 0xf0;
}

/// The wrong constructor for what should be here: unknown at all, or just of another type.
#[cold]
pub(crate) fn unexpected(wanted: &'static str, code: u8) -> DecodeError {
    DecodeError::UnexpectedCode { wanted, code }
}

#[inline]
pub(crate) fn read_bool(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8()? {
        code::TRUE => Ok(true),
        code::FALSE => Ok(false),
        code::BOOLEAN => boolean_octet(r),
        code => Err(unexpected("boolean", code)),
    }
}

pub(crate) fn boolean_octet(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        octet => Err(DecodeError::InvalidBoolean { octet }),
    }
}

#[inline]
pub(crate) fn read_ubyte(r: &mut Reader<'_>) -> Result<u8, DecodeError> {
    match r.u8()? {
        code::UBYTE => r.u8(),
        code => Err(unexpected("ubyte", code)),
    }
}

#[inline]
pub(crate) fn read_ushort(r: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match r.u8()? {
        code::USHORT => Ok(u16::from_be_bytes(r.array()?)),
        code => Err(unexpected("ushort", code)),
    }
}

#[inline]
pub(crate) fn read_uint(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match r.u8()? {
        code::SMALL_UINT => Ok(u32::from(r.u8()?)),
        code::UINT => r.u32(),
        code::UINT_0 => Ok(0),
        code => Err(unexpected("uint", code)),
    }
}

#[inline]
pub(crate) fn read_ulong(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match r.u8()? {
        code::SMALL_ULONG => Ok(u64::from(r.u8()?)),
        code::ULONG => Ok(u64::from_be_bytes(r.array()?)),
        code::ULONG_0 => Ok(0),
        code => Err(unexpected("ulong", code)),
    }
}

#[inline]
pub(crate) fn read_timestamp(r: &mut Reader<'_>) -> Result<i64, DecodeError> {
    match r.u8()? {
        code::TIMESTAMP => Ok(i64::from_be_bytes(r.array()?)),
        code => Err(unexpected("timestamp", code)),
    }
}

/// The octets of a variable-width type whose two constructors are given.
#[inline]
fn read_variable<'a>(
    r: &mut Reader<'a>,
    wanted: &'static str,
    code_8: u8,
    code_32: u8,
) -> Result<&'a [u8], DecodeError> {
    let code = r.u8()?;
    if code == code_8 {
        let len = r.u8()?;
        r.take(usize::from(len))
    } else if code == code_32 {
        let len = r.u32()?;
        r.take_u32(len)
    } else {
        Err(unexpected(wanted, code))
    }
}

#[inline]
pub(crate) fn read_binary(r: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    let octets = read_binary_slice(r)?;
    Ok(r.share(octets))
}

#[inline]
pub(crate) fn read_binary_slice<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    read_variable(r, "binary", code::BINARY_8, code::BINARY_32)
}

pub(crate) fn read_string(r: &mut Reader<'_>) -> Result<Str, DecodeError> {
    let octets = read_string_slice(r)?;
    Str::from_utf8(r.share(octets))
}

#[inline]
pub(crate) fn read_string_slice<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    read_variable(r, "string", code::STRING_8, code::STRING_32)
}

pub(crate) fn read_symbol(r: &mut Reader<'_>) -> Result<Symbol, DecodeError> {
    let octets = read_symbol_slice(r)?;
    Symbol::from_ascii(r.share(octets))
}

pub(crate) fn read_symbol_slice<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    read_variable(r, "symbol", code::SYMBOL_8, code::SYMBOL_32)
}

pub(crate) fn put_null(out: &mut BytesMut) {
    out.put_u8(code::NULL);
}

#[inline]
pub(crate) fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { code::TRUE } else { code::FALSE });
}

pub(crate) fn put_ubyte(out: &mut BytesMut, value: u8) {
    out.put_slice(&[code::UBYTE, value]);
}

pub(crate) fn put_ushort(out: &mut BytesMut, value: u16) {
    let [a, b] = value.to_be_bytes();
    out.put_slice(&[code::USHORT, a, b]);
}

#[inline]
pub(crate) fn put_uint(out: &mut BytesMut, value: u32) {
    match u8::try_from(value) {
        Ok(0) => out.put_u8(code::UINT_0),
        Ok(small) => out.put_slice(&[code::SMALL_UINT, small]),
        Err(_) => {
            let [a, b, c, d] = value.to_be_bytes();
            out.put_slice(&[code::UINT, a, b, c, d]);
        }
    }
}

#[inline]
pub(crate) fn put_ulong(out: &mut BytesMut, value: u64) {
    match u8::try_from(value) {
        Ok(0) => out.put_u8(code::ULONG_0),
        Ok(small) => out.put_slice(&[code::SMALL_ULONG, small]),
        Err(_) => {
            out.put_u8(code::ULONG);
            out.put_u64(value);
        }
    }
}

pub(crate) fn put_int(out: &mut BytesMut, value: i32) {
    if let Ok(small) = i8::try_from(value) {
        out.put_u8(code::SMALL_INT);
        out.put_i8(small);
    } else {
        out.put_u8(code::INT);
        out.put_i32(value);
    }
}

pub(crate) fn put_long(out: &mut BytesMut, value: i64) {
    if let Ok(small) = i8::try_from(value) {
        out.put_u8(code::SMALL_LONG);
        out.put_i8(small);
    } else {
        out.put_u8(code::LONG);
        out.put_i64(value);
    }
}

pub(crate) fn put_timestamp(out: &mut BytesMut, value: i64) {
    out.put_u8(code::TIMESTAMP);
    out.put_i64(value);
}

#[inline]
fn put_variable(out: &mut BytesMut, code_8: u8, code_32: u8, octets: &[u8]) {
    if let Ok(len) = u8::try_from(octets.len()) {
        out.put_slice(&[code_8, len]);
    } else {
        out.put_u8(code_32);
        out.put_u32(wire_len(octets.len()));
    }
    out.put_slice(octets);
}

/// A length of ours as the wire has it.
pub(crate) fn wire_len(len: usize) -> u32 {
    u32::try_from(len).expect("nothing the broker encodes comes near 4 GiB")
}

#[inline]
pub(crate) fn put_binary(out: &mut BytesMut, octets: &[u8]) {
    put_variable(out, code::BINARY_8, code::BINARY_32, octets);
}

pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    put_variable(out, code::STRING_8, code::STRING_32, text.as_bytes());
}

pub(crate) fn put_symbol(out: &mut BytesMut, text: &str) {
    put_variable(out, code::SYMBOL_8, code::SYMBOL_32, text.as_bytes());
}
