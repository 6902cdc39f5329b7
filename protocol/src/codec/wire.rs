//! How a Rust type stands as a field of a described list.

use bytes::{Bytes, BytesMut};

use super::{
    DecodeError, Fields, ListWriter, Reader, code, put_binary, put_bool, put_string, put_symbol,
    put_timestamp, put_ubyte, put_uint, put_ulong, put_ushort, read_binary, read_bool, read_string,
    read_symbol, read_timestamp, read_ubyte, read_uint, read_ulong, read_ushort,
};
use crate::serial::SerialNumber;
use crate::value::{Array, Map, RawMap, Str, Symbol, Timestamp, Value};

/// A type with a place on the wire. `read` never sees a null.
pub(crate) trait Wire: Sized {
    /// The primitive type it travels as; `*` when several are allowed.
    const TYPE: &'static str;
    /// §1.4: a field declared `multiple`.
    const MULTIPLE: bool = false;
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut BytesMut);
}

/// A field: a type that must be there, or an `Option` of one.
pub(crate) trait WireField: Sized {
    const TYPE: &'static str;
    const MULTIPLE: bool;
    const MANDATORY: bool;
    fn read_field(fields: &mut Fields<'_, '_>, name: &'static str) -> Result<Self, DecodeError>;
    fn write_field(&self, list: &mut ListWriter<'_>);
}

impl<T: Wire> WireField for T {
    const TYPE: &'static str = T::TYPE;
    const MULTIPLE: bool = T::MULTIPLE;
    const MANDATORY: bool = true;
    #[inline]
    fn read_field(fields: &mut Fields<'_, '_>, field: &'static str) -> Result<Self, DecodeError> {
        fields.next()?.ok_or(DecodeError::MissingField { field })
    }
    #[inline]
    fn write_field(&self, list: &mut ListWriter<'_>) {
        list.item(|out| self.write(out));
    }
}

impl<T: Wire> WireField for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const MULTIPLE: bool = T::MULTIPLE;
    const MANDATORY: bool = false;
    #[inline]
    fn read_field(fields: &mut Fields<'_, '_>, _: &'static str) -> Result<Self, DecodeError> {
        fields.next()
    }
    #[inline]
    fn write_field(&self, list: &mut ListWriter<'_>) {
        match self {
            Some(value) => list.item(|out| value.write(out)),
            None => list.null(),
        }
    }
}

macro_rules! wire {
    ($type:ty, $name:literal, $read:expr, $write:expr) => {
        impl Wire for $type {
            const TYPE: &'static str = $name;
            #[inline]
            fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                $read(r)
            }
            #[inline]
            fn write(&self, out: &mut BytesMut) {
                $write(out, self);
            }
        }
    };
}

wire!(bool, "boolean", read_bool, |out: &mut BytesMut, v: &bool| put_bool(out, *v));
wire!(u8, "ubyte", read_ubyte, |out: &mut BytesMut, v: &u8| put_ubyte(out, *v));
wire!(u16, "ushort", read_ushort, |out: &mut BytesMut, v: &u16| put_ushort(out, *v));
wire!(u32, "uint", read_uint, |out: &mut BytesMut, v: &u32| put_uint(out, *v));
wire!(u64, "ulong", read_ulong, |out: &mut BytesMut, v: &u64| put_ulong(out, *v));
wire!(Bytes, "binary", read_binary, |out: &mut BytesMut, v: &Bytes| put_binary(out, v));
wire!(Str, "string", read_string, |out: &mut BytesMut, v: &Str| put_string(out, v));
wire!(Symbol, "symbol", read_symbol, |out: &mut BytesMut, v: &Symbol| put_symbol(out, v));
wire!(Value, "*", Value::decode, |out: &mut BytesMut, v: &Value| v.encode(out));
wire!(Map, "map", Map::read, |out: &mut BytesMut, v: &Map| v.encode(out));
wire!(RawMap, "map", RawMap::read, |out: &mut BytesMut, v: &RawMap| v.as_raw().encode(out));
wire!(
    Timestamp,
    "timestamp",
    |r: &mut Reader<'_>| read_timestamp(r).map(Timestamp),
    |out: &mut BytesMut, v: &Timestamp| put_timestamp(out, v.0)
);
wire!(
    SerialNumber,
    "uint",
    |r: &mut Reader<'_>| read_uint(r).map(SerialNumber),
    |out: &mut BytesMut, v: &SerialNumber| put_uint(out, v.0)
);

/// §1.4: "a single value of the type" or an array of them. We write arrays: pyamqp iterates over
/// what it gets, and would take a lone symbol apart.
impl Wire for Vec<Symbol> {
    const TYPE: &'static str = "symbol";
    const MULTIPLE: bool = true;

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.peek()? {
            code::ARRAY_8 | code::ARRAY_32 => match Value::decode(r)? {
                Value::Array(array) => array.into_symbols(),
                _ => None,
            }
            .ok_or(DecodeError::InvalidField { field: "symbol" }),
            _ => Ok(vec![read_symbol(r)?]),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        Value::Array(Array::symbols(self.iter().cloned())).encode(out);
    }
}
