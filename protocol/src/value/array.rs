//! Arrays: values of one type under one constructor.

use super::{Symbol, Value};

/// The type that all elements of an array have. The width it came in with is not kept: we write
/// the widest encoding of each type, which every element fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the variant of `Value` with the same name")]
pub enum ElementType {
    Null,
    Bool,
    Ubyte,
    Ushort,
    Uint,
    Ulong,
    Byte,
    Short,
    Int,
    Long,
    Float,
    Double,
    Decimal32,
    Decimal64,
    Decimal128,
    Char,
    Timestamp,
    Uuid,
    Binary,
    String,
    Symbol,
    List,
    Map,
    Array,
}

/// Values of one type, possibly with descriptors that all of them share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Array {
    pub(super) descriptors: Vec<Value>,
    pub(super) element: ElementType,
    pub(super) items: Vec<Value>,
}

/// An element has another type than its array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the elements of an array have one type")]
pub struct MixedArray;

impl Array {
    /// An array of `element`, which may be empty.
    pub fn new(element: ElementType, items: Vec<Value>) -> Result<Self, MixedArray> {
        if items.iter().all(|item| item.element_type() == Some(element)) {
            Ok(Self { descriptors: Vec::new(), element, items })
        } else {
            Err(MixedArray)
        }
    }

    /// An array of symbols.
    pub fn symbols(items: impl IntoIterator<Item = Symbol>) -> Self {
        Self::of(ElementType::Symbol, items.into_iter().map(Value::Symbol))
    }

    /// An array of UUIDs.
    pub fn uuids(items: impl IntoIterator<Item = [u8; 16]>) -> Self {
        Self::of(ElementType::Uuid, items.into_iter().map(Value::Uuid))
    }

    /// An array of longs.
    pub fn longs(items: impl IntoIterator<Item = i64>) -> Self {
        Self::of(ElementType::Long, items.into_iter().map(Value::Long))
    }

    fn of(element: ElementType, items: impl Iterator<Item = Value>) -> Self {
        Self { descriptors: Vec::new(), element, items: items.collect() }
    }

    /// What all elements are.
    pub fn element_type(&self) -> ElementType {
        self.element
    }

    /// The descriptors that all elements share, outermost first; mostly none.
    pub fn descriptors(&self) -> &[Value] {
        &self.descriptors
    }

    /// The elements, without their descriptors.
    pub fn items(&self) -> &[Value] {
        &self.items
    }

    /// The elements when they are symbols.
    pub fn into_symbols(self) -> Option<Vec<Symbol>> {
        if self.element != ElementType::Symbol || !self.descriptors.is_empty() {
            // An empty array of anything is an empty array of symbols: encoders that have no
            // element to look at choose some type.
            return self.items.is_empty().then(Vec::new);
        }
        self.items
            .into_iter()
            .map(|item| if let Value::Symbol(symbol) = item { Some(symbol) } else { None })
            .collect()
    }
}

impl Value {
    /// The type this value has as an element of an array; a described value has none of its own.
    pub(super) fn element_type(&self) -> Option<ElementType> {
        Some(match self {
            Self::Null => ElementType::Null,
            Self::Bool(_) => ElementType::Bool,
            Self::Ubyte(_) => ElementType::Ubyte,
            Self::Ushort(_) => ElementType::Ushort,
            Self::Uint(_) => ElementType::Uint,
            Self::Ulong(_) => ElementType::Ulong,
            Self::Byte(_) => ElementType::Byte,
            Self::Short(_) => ElementType::Short,
            Self::Int(_) => ElementType::Int,
            Self::Long(_) => ElementType::Long,
            Self::Float(_) => ElementType::Float,
            Self::Double(_) => ElementType::Double,
            Self::Decimal32(_) => ElementType::Decimal32,
            Self::Decimal64(_) => ElementType::Decimal64,
            Self::Decimal128(_) => ElementType::Decimal128,
            Self::Char(_) => ElementType::Char,
            Self::Timestamp(_) => ElementType::Timestamp,
            Self::Uuid(_) => ElementType::Uuid,
            Self::Binary(_) => ElementType::Binary,
            Self::String(_) => ElementType::String,
            Self::Symbol(_) => ElementType::Symbol,
            Self::List(_) => ElementType::List,
            Self::Map(_) => ElementType::Map,
            Self::Array(_) => ElementType::Array,
            Self::Described(_) => return None,
        })
    }
}
