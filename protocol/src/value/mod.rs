//! The AMQP type system (§1.6) as one owned enum, for what has no fixed shape: properties, filters,
//! management bodies. Messages are not decoded into it; see [`crate::message`].

mod access;
mod array;
mod decode;
mod encode;
mod map;
mod raw;
mod text;

use bytes::Bytes;

pub use array::{Array, ElementType, MixedArray};
pub use map::Map;
pub use raw::{RawMap, RawValue};
pub use text::{Str, Symbol};

/// One AMQP value of any type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// Unsigned, 8 bits.
    Ubyte(u8),
    /// Unsigned, 16 bits.
    Ushort(u16),
    /// Unsigned, 32 bits.
    Uint(u32),
    /// Unsigned, 64 bits.
    Ulong(u64),
    /// Signed, 8 bits.
    Byte(i8),
    /// Signed, 16 bits.
    Short(i16),
    /// Signed, 32 bits.
    Int(i32),
    /// Signed, 64 bits.
    Long(i64),
    /// IEEE 754 binary32.
    Float(F32),
    /// IEEE 754 binary64.
    Double(F64),
    /// IEEE 754 decimal32, kept as its octets.
    Decimal32([u8; 4]),
    /// IEEE 754 decimal64, kept as its octets.
    Decimal64([u8; 8]),
    /// IEEE 754 decimal128, kept as its octets.
    Decimal128([u8; 16]),
    /// A Unicode scalar value.
    Char(char),
    /// Milliseconds since 1970 in UTC.
    Timestamp(i64),
    /// A UUID in RFC 4122 octet order.
    Uuid([u8; 16]),
    /// Octets.
    Binary(Bytes),
    /// UTF-8 text.
    String(Str),
    /// ASCII text from a constrained domain.
    Symbol(Symbol),
    /// Values in order.
    List(Vec<Value>),
    /// Keys and values in the order they came.
    Map(Map),
    /// Values of one type.
    Array(Array),
    /// A descriptor and the value it describes.
    Described(Box<(Value, Value)>),
}

/// A moment in milliseconds since 1970 in UTC, where a field has that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl From<Timestamp> for Value {
    fn from(moment: Timestamp) -> Self {
        Self::Timestamp(moment.0)
    }
}

/// A float by its bits: what comes in goes out, and equality is that of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct F32(u32);

/// A double by its bits: what comes in goes out, and equality is that of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct F64(u64);

macro_rules! float {
    ($name:ident, $float:ty, $bits:ty) => {
        impl $name {
            /// From the bits on the wire.
            pub fn from_bits(bits: $bits) -> Self {
                Self(bits)
            }
            /// The bits on the wire.
            pub fn to_bits(self) -> $bits {
                self.0
            }
            /// As a number to calculate with.
            pub fn get(self) -> $float {
                <$float>::from_bits(self.0)
            }
        }
        impl From<$float> for $name {
            fn from(value: $float) -> Self {
                Self(value.to_bits())
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.get(), f)
            }
        }
    };
}
float!(F32, f32, u32);
float!(F64, f64, u64);

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
from! {
    bool => Bool, u8 => Ubyte, u16 => Ushort, u32 => Uint, u64 => Ulong,
    i8 => Byte, i16 => Short, i32 => Int, i64 => Long, f32 => Float, f64 => Double,
    char => Char, Bytes => Binary, Str => String, &str => String, String => String,
    Symbol => Symbol, Vec<Value> => List, Map => Map, Array => Array,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests;
