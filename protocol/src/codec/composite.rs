//! §1.3: composite types: described lists with named fields. One macro declares the struct, its
//! decode and encode, and the table that the conformance test holds against the specification.

use bytes::BytesMut;

use super::{DecodeError, ListWriter, Reader, Wire, put_descriptor, read_descriptor};
use crate::value::Value;

/// What the specification says of one field, as our codec has it.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    /// Its name in the specification.
    pub name: &'static str,
    /// The primitive or composite type it is read as; `*` when several are allowed.
    pub type_name: &'static str,
    /// Whether null is refused.
    pub mandatory: bool,
    /// Whether it is one value or an array of them.
    pub multiple: bool,
    /// What null stands for.
    pub default: Option<fn() -> Value>,
}

/// What the specification says of one composite type, as our codec has it.
#[derive(Clone, Copy, Debug)]
pub struct CompositeSpec {
    /// The symbolic descriptor.
    pub name: &'static str,
    /// The numeric descriptor.
    pub code: u64,
    /// The fields in order.
    pub fields: &'static [FieldSpec],
}

/// A described list with named fields.
pub(crate) trait Composite: Sized {
    const SPEC: CompositeSpec;
    /// Whether nulls at the end are left out. Performatives keep them: pyamqp before 7.15 reads
    /// fields by position and raises an error on a list that is too short.
    const TRIMMED: bool;

    fn read_fields(fields: &mut Fields<'_, '_>) -> Result<Self, DecodeError>;
    fn write_fields(&self, list: &mut ListWriter<'_>);

    /// Reads the list; the descriptor has been read.
    #[inline]
    fn read_list(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let head = r.list_head()?;
        let after = r.enter(head.len)?;
        let mut fields = Fields { r, left: head.count };
        let found = Self::read_fields(&mut fields)?;
        fields.finish(after)?;
        Ok(found)
    }

    /// Reads descriptor and list.
    fn read_described(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wanted = Self::SPEC.name;
        match read_descriptor(r, wanted)? {
            Some(code) if code == Self::SPEC.code => Self::read_list(r),
            Some(code) => Err(DecodeError::UnexpectedDescriptor { wanted, code }),
            None => Err(DecodeError::UnknownDescriptor { wanted }),
        }
    }

    /// Writes descriptor and list.
    #[inline]
    fn write_described(&self, out: &mut BytesMut) {
        put_descriptor(out, Self::SPEC.code);
        let mut list = ListWriter::new(out);
        self.write_fields(&mut list);
        if Self::TRIMMED { list.finish_trimmed() } else { list.finish() }
    }
}

/// The fields of a list that is being read. Those left out at its end are null.
pub(crate) struct Fields<'r, 'a> {
    r: &'r mut Reader<'a>,
    left: u32,
}

impl<'a> Fields<'_, 'a> {
    /// Reads past fields that a later version may have appended; they are none of our business.
    /// The reader goes on with what is `after` the list.
    #[inline]
    fn finish(self, after: &'a [u8]) -> Result<(), DecodeError> {
        for _ in 0..self.left {
            self.r.skip_value()?;
        }
        self.r.leave(after)
    }

    #[inline]
    pub(crate) fn next<T: Wire>(&mut self) -> Result<Option<T>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        if self.r.take_null() { Ok(None) } else { T::read(self.r).map(Some) }
    }
}

/// Declares a composite type: `pub field: Type = "name-in-the-specification"`. An `Option` may be
/// null. `or value` is what null is read as; `means value` only records what null stands for,
/// where whether a peer said it has to be told apart. `trimmed` leaves nulls at the end out.
macro_rules! composite {
    (@read $fields:ident $name:literal $type:ty) => {
        <$type as $crate::codec::WireField>::read_field($fields, $name)?
    };
    (@read $fields:ident $name:literal $type:ty, or $default:expr) => {
        <Option<$type> as $crate::codec::WireField>::read_field($fields, $name)?
            .unwrap_or($default)
    };
    (@read $fields:ident $name:literal $type:ty, means $default:expr) => {
        <$type as $crate::codec::WireField>::read_field($fields, $name)?
    };
    (@mandatory $type:ty) => { <$type as $crate::codec::WireField>::MANDATORY };
    (@mandatory $type:ty, or $default:expr) => { false };
    (@mandatory $type:ty, means $default:expr) => { false };
    (@value) => { None };
    (@value or $default:expr) => { Some(|| $crate::value::Value::from($default)) };
    (@value means $default:expr) => { Some(|| $crate::value::Value::from($default)) };
    (@trimmed) => { false };
    (@trimmed trimmed) => { true };
    (
        $(#[$meta:meta])*
        $vis:vis struct $struct:ident = $spec_name:literal $code:literal $($trimmed:ident)? {
            $(
                $(#[$field_meta:meta])*
                $field_vis:vis $field:ident: $type:ty = $name:literal
                    $($kind:ident $default:expr)?,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $struct {
            $($(#[$field_meta])* $field_vis $field: $type,)*
        }

        impl $crate::codec::Composite for $struct {
            const SPEC: $crate::codec::CompositeSpec = $crate::codec::CompositeSpec {
                name: $spec_name,
                code: $code,
                fields: &[$($crate::codec::FieldSpec {
                    name: $name,
                    type_name: <$type as $crate::codec::WireField>::TYPE,
                    mandatory: $crate::codec::composite!(@mandatory $type $(, $kind $default)?),
                    multiple: <$type as $crate::codec::WireField>::MULTIPLE,
                    default: $crate::codec::composite!(@value $($kind $default)?),
                },)*],
            };
            const TRIMMED: bool = $crate::codec::composite!(@trimmed $($trimmed)?);

            #[inline]
            fn read_fields(
                fields: &mut $crate::codec::Fields<'_, '_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let _ = &*fields; // Some composites have no fields.
                Ok(Self {
                    $($field: $crate::codec::composite!(
                        @read fields $name $type $(, $kind $default)?
                    ),)*
                })
            }

            #[inline]
            fn write_fields(&self, list: &mut $crate::codec::ListWriter<'_>) {
                let _ = &*list;
                $($crate::codec::WireField::write_field(&self.$field, list);)*
            }
        }
    };
}
pub(crate) use composite;
