//! Bytes to AMQP types and back: a bounds-checked cursor, the primitive encodings, compounds, and
//! described lists. Knows encodings, not what a field means.

mod composite;
mod compound;
mod described;
mod error;
mod primitive;
mod reader;
mod wire;

pub(crate) use composite::{Composite, Fields, composite};
pub use composite::{CompositeSpec, FieldSpec};
pub(crate) use compound::{Head, ListWriter, consumed, even, patch_compound, write_map};
pub(crate) use described::{put_descriptor, read_descriptor};
pub use error::DecodeError;
pub(crate) use primitive::*;
pub use reader::Reader;
pub(crate) use wire::{Wire, WireField};

/// Every composite type that this crate reads and writes, to hold against the specification.
pub fn composites() -> Vec<CompositeSpec> {
    [
        crate::performative::SPECS,
        crate::sasl::SPECS,
        crate::message::SPECS,
        crate::delivery_state::SPECS,
        crate::terminus::SPECS,
        crate::transaction::SPECS,
        &[crate::condition::ErrorInfo::SPEC],
    ]
    .concat()
}

/// Every descriptor that this crate knows, as number and as symbol.
pub fn descriptors() -> &'static [(u64, &'static str)] {
    described::DESCRIPTORS
}

#[cfg(test)]
mod tests;
