//! Values kept as their bytes: what is passed on untouched, or looked into later.

use bytes::{Bytes, BytesMut};

use super::{Map, Value};
use crate::codec::{DecodeError, Reader, code};

/// The octets of exactly one value. Its sizes, counts and nesting have been checked, its text has
/// not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawValue(Bytes);

/// The octets of exactly one map, checked like those of a [`RawValue`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawMap(RawValue);

impl RawValue {
    /// Checks that `bytes` are one value and nothing else.
    pub fn new(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::from_slice(&bytes);
        r.skip_value()?;
        r.expect_end()?;
        Ok(Self(bytes))
    }

    /// Reads past one value and keeps its octets.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.raw_value().map(Self)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The value.
    pub fn decode(&self) -> Result<Value, DecodeError> {
        Value::decode(&mut Reader::new(&self.0))
    }

    /// Appends the octets as they are.
    pub fn encode(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.0);
    }
}

impl From<&Value> for RawValue {
    fn from(value: &Value) -> Self {
        Self(value.to_bytes())
    }
}

impl RawMap {
    /// Reads past one map and keeps its octets.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.peek()? {
            code::MAP_8 | code::MAP_32 => RawValue::read(r).map(Self),
            code => Err(DecodeError::UnexpectedCode { wanted: "map", code }),
        }
    }

    /// The octets.
    pub fn as_raw(&self) -> &RawValue {
        &self.0
    }
}

impl From<&Map> for RawMap {
    fn from(map: &Map) -> Self {
        Self(RawValue::from(&Value::Map(map.clone())))
    }
}
