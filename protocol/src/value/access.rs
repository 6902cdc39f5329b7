//! Lenient looks into a value, for readers that must take what any client library writes.

use super::{Array, Map, Value};

impl Value {
    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Whether this is `text` as a string or as a symbol.
    pub fn is_text(&self, text: &str) -> bool {
        match self {
            Self::String(s) => *s == *text,
            Self::Symbol(s) => *s == *text,
            _ => false,
        }
    }

    /// The text of a string, a symbol, or a binary that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            Self::Symbol(s) => Some(s),
            Self::Binary(b) => std::str::from_utf8(b).ok(),
            _ => None,
        }
    }

    /// An integer of any width, when it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(v) => Some(v.into()),
            Self::Ushort(v) => Some(v.into()),
            Self::Uint(v) => Some(v.into()),
            Self::Ulong(v) => i64::try_from(v).ok(),
            Self::Byte(v) => Some(v.into()),
            Self::Short(v) => Some(v.into()),
            Self::Int(v) => Some(v.into()),
            Self::Long(v) => Some(v),
            _ => None,
        }
    }

    /// An integer of any width, when it fits and is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Ulong(v) => Some(v),
            _ => self.as_i64().and_then(|v| u64::try_from(v).ok()),
        }
    }

    /// An integer of any width, when it fits and is not negative.
    pub fn as_u32(&self) -> Option<u32> {
        self.as_u64().and_then(|v| u32::try_from(v).ok())
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(v) = *self { Some(v) } else { None }
    }

    /// Milliseconds since 1970.
    pub fn as_timestamp(&self) -> Option<i64> {
        if let Self::Timestamp(v) = *self { Some(v) } else { None }
    }

    /// The octets of a UUID.
    pub fn as_uuid(&self) -> Option<[u8; 16]> {
        if let Self::Uuid(v) = *self { Some(v) } else { None }
    }

    /// The octets of a binary.
    pub fn as_binary(&self) -> Option<&bytes::Bytes> {
        if let Self::Binary(v) = self { Some(v) } else { None }
    }

    /// A map.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(v) = self { Some(v) } else { None }
    }

    /// A list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Self::List(v) = self { Some(v) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&Array> {
        if let Self::Array(v) = self { Some(v) } else { None }
    }

    /// The items of a list or an array, or the value itself as the only one.
    pub fn items(&self) -> &[Value] {
        match self {
            Self::List(items) => items,
            Self::Array(array) => array.items(),
            Self::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// The value under a string or symbol key, when this is a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// Descriptor and value, when this is described.
    pub fn as_described(&self) -> Option<(&Value, &Value)> {
        if let Self::Described(v) = self { Some((&v.0, &v.1)) } else { None }
    }
}
