//! Values to bytes, in the shortest encoding; elements of arrays in the widest.

use bytes::{BufMut, BytesMut};

use super::{Array, ElementType, Map, Value};
use crate::codec::{
    code, patch_compound, put_binary, put_bool, put_int, put_long, put_null, put_string,
    put_symbol, put_timestamp, put_ubyte, put_uint, put_ulong, put_ushort, wire_len, write_map,
};

impl Value {
    /// Appends the value.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Null => put_null(out),
            Self::Bool(v) => put_bool(out, *v),
            Self::Ubyte(v) => put_ubyte(out, *v),
            Self::Ushort(v) => put_ushort(out, *v),
            Self::Uint(v) => put_uint(out, *v),
            Self::Ulong(v) => put_ulong(out, *v),
            Self::Int(v) => put_int(out, *v),
            Self::Long(v) => put_long(out, *v),
            Self::Timestamp(v) => put_timestamp(out, *v),
            Self::Binary(v) => put_binary(out, v),
            Self::String(v) => put_string(out, v),
            Self::Symbol(v) => put_symbol(out, v),
            Self::List(items) => put_list(out, items),
            Self::Map(map) => put_map(out, map),
            Self::Array(array) => put_array(out, array),
            Self::Described(described) => {
                out.put_u8(code::DESCRIBED);
                described.0.encode(out);
                described.1.encode(out);
            }
            Self::Byte(_)
            | Self::Short(_)
            | Self::Float(_)
            | Self::Double(_)
            | Self::Decimal32(_)
            | Self::Decimal64(_)
            | Self::Decimal128(_)
            | Self::Char(_)
            | Self::Uuid(_) => {
                if let Some(element) = self.element_type() {
                    out.put_u8(widest(element));
                    put_content(out, self);
                }
            }
        }
    }

    /// The value's own encoding as bytes.
    pub fn to_bytes(&self) -> bytes::Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }
}

fn put_list(out: &mut BytesMut, items: &[Value]) {
    if items.is_empty() {
        out.put_u8(code::LIST_0);
        return;
    }
    let start = out.len();
    out.put_slice(&[code::LIST_8, 0, 0]);
    for item in items {
        item.encode(out);
    }
    patch_compound(out, start, wire_len(items.len()), code::LIST_32);
}

pub(crate) fn put_map(out: &mut BytesMut, map: &Map) {
    write_map(out, |out| {
        for (key, value) in map {
            key.encode(out);
            value.encode(out);
        }
        wire_len(map.len() * 2)
    });
}

fn put_array(out: &mut BytesMut, array: &Array) {
    let start = out.len();
    out.put_slice(&[code::ARRAY_8, 0, 0]);
    put_elements(out, array);
    patch_compound(out, start, wire_len(array.items.len()), code::ARRAY_32);
}

fn put_elements(out: &mut BytesMut, array: &Array) {
    for descriptor in &array.descriptors {
        out.put_u8(code::DESCRIBED);
        descriptor.encode(out);
    }
    out.put_u8(widest(array.element));
    for item in &array.items {
        put_content(out, item);
    }
}

/// The constructor that every value of the type can be written under.
fn widest(element: ElementType) -> u8 {
    match element {
        ElementType::Null => code::NULL,
        ElementType::Bool => code::BOOLEAN,
        ElementType::Ubyte => code::UBYTE,
        ElementType::Ushort => code::USHORT,
        ElementType::Uint => code::UINT,
        ElementType::Ulong => code::ULONG,
        ElementType::Byte => code::BYTE,
        ElementType::Short => code::SHORT,
        ElementType::Int => code::INT,
        ElementType::Long => code::LONG,
        ElementType::Float => code::FLOAT,
        ElementType::Double => code::DOUBLE,
        ElementType::Decimal32 => code::DECIMAL_32,
        ElementType::Decimal64 => code::DECIMAL_64,
        ElementType::Decimal128 => code::DECIMAL_128,
        ElementType::Char => code::CHAR,
        ElementType::Timestamp => code::TIMESTAMP,
        ElementType::Uuid => code::UUID,
        ElementType::Binary => code::BINARY_32,
        ElementType::String => code::STRING_32,
        ElementType::Symbol => code::SYMBOL_32,
        ElementType::List => code::LIST_32,
        ElementType::Map => code::MAP_32,
        ElementType::Array => code::ARRAY_32,
    }
}

/// Writes what follows the widest constructor of the value's type.
fn put_content(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(v) => out.put_u8(u8::from(*v)),
        Value::Ubyte(v) => out.put_u8(*v),
        Value::Ushort(v) => out.put_u16(*v),
        Value::Uint(v) => out.put_u32(*v),
        Value::Ulong(v) => out.put_u64(*v),
        Value::Byte(v) => out.put_i8(*v),
        Value::Short(v) => out.put_i16(*v),
        Value::Int(v) => out.put_i32(*v),
        Value::Long(v) | Value::Timestamp(v) => out.put_i64(*v),
        Value::Float(v) => out.put_u32(v.to_bits()),
        Value::Double(v) => out.put_u64(v.to_bits()),
        Value::Decimal32(v) => out.put_slice(v),
        Value::Decimal64(v) => out.put_slice(v),
        Value::Decimal128(v) | Value::Uuid(v) => out.put_slice(v),
        Value::Char(v) => out.put_u32(u32::from(*v)),
        Value::Binary(v) => put_sized(out, v),
        Value::String(v) => put_sized(out, v.as_bytes()),
        Value::Symbol(v) => put_sized(out, v.as_bytes()),
        Value::List(items) => put_compound(out, items.len(), |out| {
            for item in items {
                item.encode(out);
            }
        }),
        Value::Map(map) => put_compound(out, map.len() * 2, |out| {
            for (key, value) in map {
                key.encode(out);
                value.encode(out);
            }
        }),
        Value::Array(array) => put_compound(out, array.items.len(), |out| {
            put_elements(out, array);
        }),
        // Elements are never described one by one: `Array` keeps descriptors apart.
        Value::Described(described) => put_content(out, &described.1),
    }
}

fn put_sized(out: &mut BytesMut, octets: &[u8]) {
    out.put_u32(wire_len(octets.len()));
    out.put_slice(octets);
}

/// Size, count and items of a compound in the long form.
fn put_compound(out: &mut BytesMut, count: usize, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(wire_len(count));
    write(out);
    let size = wire_len(out.len() - start - 4);
    if let Some(mut head) = out.get_mut(start..start + 4) {
        head.put_u32(size);
    }
}
