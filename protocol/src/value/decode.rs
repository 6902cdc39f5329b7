//! Values from bytes. The recursion is as deep as the reader's nesting allows, and what is
//! allocated for a container is bounded by the reader's budget of items.

use super::{Array, ElementType, F32, F64, Map, Str, Symbol, Value};
use crate::codec::{DecodeError, Head, Reader, boolean_octet, code, even};

impl Value {
    /// Reads one value of any type.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = r.u8()?;
        content(r, code)
    }
}

/// Reads what follows the constructor `code`.
fn content(r: &mut Reader<'_>, code: u8) -> Result<Value, DecodeError> {
    Ok(match code {
        code::NULL => Value::Null,
        code::TRUE => Value::Bool(true),
        code::FALSE => Value::Bool(false),
        code::BOOLEAN => Value::Bool(boolean_octet(r)?),
        code::UINT_0 => Value::Uint(0),
        code::SMALL_UINT => Value::Uint(u32::from(r.u8()?)),
        code::UINT => Value::Uint(r.u32()?),
        code::ULONG_0 => Value::Ulong(0),
        code::SMALL_ULONG => Value::Ulong(u64::from(r.u8()?)),
        code::ULONG => Value::Ulong(u64::from_be_bytes(r.array()?)),
        code::UBYTE => Value::Ubyte(r.u8()?),
        code::USHORT => Value::Ushort(u16::from_be_bytes(r.array()?)),
        code::BYTE => Value::Byte(i8::from_be_bytes(r.array()?)),
        code::SHORT => Value::Short(i16::from_be_bytes(r.array()?)),
        code::SMALL_INT => Value::Int(i32::from(i8::from_be_bytes(r.array()?))),
        code::INT => Value::Int(i32::from_be_bytes(r.array()?)),
        code::SMALL_LONG => Value::Long(i64::from(i8::from_be_bytes(r.array()?))),
        code::LONG => Value::Long(i64::from_be_bytes(r.array()?)),
        code::FLOAT => Value::Float(F32::from_bits(r.u32()?)),
        code::DOUBLE => Value::Double(F64::from_bits(u64::from_be_bytes(r.array()?))),
        code::DECIMAL_32 => Value::Decimal32(r.array()?),
        code::DECIMAL_64 => Value::Decimal64(r.array()?),
        code::DECIMAL_128 => Value::Decimal128(r.array()?),
        code::CHAR => Value::Char(character(r)?),
        code::TIMESTAMP => Value::Timestamp(i64::from_be_bytes(r.array()?)),
        code::UUID => Value::Uuid(r.array()?),
        _ => return variable(r, code),
    })
}

fn character(r: &mut Reader<'_>) -> Result<char, DecodeError> {
    let value = r.u32()?;
    char::from_u32(value).ok_or(DecodeError::InvalidChar { value })
}

fn variable(r: &mut Reader<'_>, code: u8) -> Result<Value, DecodeError> {
    let octets = match code {
        code::BINARY_8 | code::STRING_8 | code::SYMBOL_8 => {
            let len = r.u8()?;
            r.take(usize::from(len))?
        }
        code::BINARY_32 | code::STRING_32 | code::SYMBOL_32 => {
            let len = r.u32()?;
            r.take_u32(len)?
        }
        _ => return container(r, code),
    };
    let shared = r.share(octets);
    Ok(match code {
        code::BINARY_8 | code::BINARY_32 => Value::Binary(shared),
        code::STRING_8 | code::STRING_32 => Value::String(Str::from_utf8(shared)?),
        _ => Value::Symbol(Symbol::from_ascii(shared)?),
    })
}

fn container(r: &mut Reader<'_>, code: u8) -> Result<Value, DecodeError> {
    match code {
        code::LIST_0 => Ok(Value::List(Vec::new())),
        code::LIST_8 => r.head_8().and_then(|head| list(r, head)),
        code::LIST_32 => r.head_32().and_then(|head| list(r, head)),
        code::MAP_8 => r.head_8().and_then(|head| map(r, head)).map(Value::Map),
        code::MAP_32 => r.head_32().and_then(|head| map(r, head)).map(Value::Map),
        code::ARRAY_8 => r.head_8().and_then(|head| array(r, head)),
        code::ARRAY_32 => r.head_32().and_then(|head| array(r, head)),
        code::DESCRIBED => r.nested(|r| {
            let descriptor = Value::decode(r)?;
            Ok(Value::Described(Box::new((descriptor, Value::decode(r)?))))
        }),
        code => Err(DecodeError::UnknownCode { code }),
    }
}

fn list(r: &mut Reader<'_>, head: Head) -> Result<Value, DecodeError> {
    if head.count == 0 {
        // Without items there is nothing nested, no more than in a list0.
        return r.within(head.len, |_| Ok(Value::List(Vec::new())));
    }
    r.nested(|r| {
        r.within(head.len, |r| {
            // Each item takes an octet at least, so a count cannot claim more room than it sends.
            let mut items = Vec::with_capacity(r.remaining().min(head.items()));
            for _ in 0..head.count {
                items.push(Value::decode(r)?);
            }
            Ok(Value::List(items))
        })
    })
}

/// The entries of a map whose head has been read.
pub(crate) fn map(r: &mut Reader<'_>, head: Head) -> Result<Map, DecodeError> {
    let head = even(head)?;
    if head.count == 0 {
        return r.within(head.len, |_| Ok(Map::new()));
    }
    r.nested(|r| {
        r.within(head.len, |r| {
            let mut map = Map::from(Vec::with_capacity(r.remaining().min(head.items()) / 2));
            for _ in 0..head.count / 2 {
                let key = Value::decode(r)?;
                map.push(key, Value::decode(r)?);
            }
            Ok(map)
        })
    })
}

fn array(r: &mut Reader<'_>, head: Head) -> Result<Value, DecodeError> {
    r.nested(|r| {
        if head.is_bare() {
            let nothing = Array { descriptors: vec![], element: ElementType::Null, items: vec![] };
            return Ok(Value::Array(nothing));
        }
        r.within(head.len, |r| elements(r, head.items(), Vec::new()).map(Value::Array))
    })
}

/// Reads an array's constructor, then its elements. A described constructor counts as nesting.
fn elements(
    r: &mut Reader<'_>,
    count: usize,
    mut descriptors: Vec<Value>,
) -> Result<Array, DecodeError> {
    let code = r.u8()?;
    if code == code::DESCRIBED {
        return r.nested(|r| {
            descriptors.push(Value::decode(r)?);
            elements(r, count, descriptors)
        });
    }
    let element = element_type(code)?;
    // Zero-width elements take no octets; the reader's budget of items has bounded their count.
    let mut items = Vec::with_capacity(count.min(r.remaining()));
    for _ in 0..count {
        items.push(content(r, code)?);
    }
    Ok(Array { descriptors, element, items })
}

fn element_type(code: u8) -> Result<ElementType, DecodeError> {
    Ok(match code {
        code::NULL => ElementType::Null,
        code::TRUE | code::FALSE | code::BOOLEAN => ElementType::Bool,
        code::UINT_0 | code::SMALL_UINT | code::UINT => ElementType::Uint,
        code::ULONG_0 | code::SMALL_ULONG | code::ULONG => ElementType::Ulong,
        code::UBYTE => ElementType::Ubyte,
        code::USHORT => ElementType::Ushort,
        code::BYTE => ElementType::Byte,
        code::SHORT => ElementType::Short,
        code::SMALL_INT | code::INT => ElementType::Int,
        code::SMALL_LONG | code::LONG => ElementType::Long,
        code::FLOAT => ElementType::Float,
        code::DOUBLE => ElementType::Double,
        code::DECIMAL_32 => ElementType::Decimal32,
        code::DECIMAL_64 => ElementType::Decimal64,
        code::DECIMAL_128 => ElementType::Decimal128,
        code::CHAR => ElementType::Char,
        code::TIMESTAMP => ElementType::Timestamp,
        code::UUID => ElementType::Uuid,
        code::BINARY_8 | code::BINARY_32 => ElementType::Binary,
        code::STRING_8 | code::STRING_32 => ElementType::String,
        code::SYMBOL_8 | code::SYMBOL_32 => ElementType::Symbol,
        code::LIST_0 | code::LIST_8 | code::LIST_32 => ElementType::List,
        code::MAP_8 | code::MAP_32 => ElementType::Map,
        code::ARRAY_8 | code::ARRAY_32 => ElementType::Array,
        code => return Err(DecodeError::UnknownCode { code }),
    })
}
