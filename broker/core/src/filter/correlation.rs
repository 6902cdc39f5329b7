//! Correlation filters: some properties have to have certain values, all of them.

use bytes::Bytes;
use peeklock_protocol::value::{Str, Value};

use super::datum::Datum;
use super::name::Name;
use super::properties::Properties;
use super::system::SystemProperty;

/// A correlation filter, with its criteria in an order of their own: equal filters are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationFilter {
    fields: Box<[Field]>,
    values: Box<[FieldValue]>,
}

/// What a criterion is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    System(SystemProperty),
    User(Name),
}

/// A value as correlation filters compare it: numbers by value, whatever their type; all else by
/// type and value. It can be looked up in a table, so there is no rounding: unlike in SQL filters,
/// 2⁵³ + 1 as a long is not 2⁵³ as a double.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FieldValue {
    Bool(bool),
    /// Whole numbers of all types.
    Integer(i128),
    /// All other numbers, as the bits of the nearest double.
    Double(u64),
    Text(Str),
    Moment(i128),
    Span(i64),
    Uuid([u8; 16]),
    Binary(Bytes),
    /// What no message has: a filter that asks for it lets nothing through.
    Nothing,
}

impl CorrelationFilter {
    /// A filter that asks for these system properties and these application properties. Without
    /// any it lets everything through. A null asks for nothing: clients write it for what they
    /// leave out.
    pub fn new(
        system: impl IntoIterator<Item = (SystemProperty, Str)>,
        user: impl IntoIterator<Item = (Str, Value)>,
    ) -> Self {
        let system =
            system.into_iter().map(|(field, text)| (Field::System(field), FieldValue::Text(text)));
        let user = user.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
            (Field::User(Name::new(&name)), FieldValue::new(&value).unwrap_or(FieldValue::Nothing))
        });
        let mut criteria: Vec<_> = system.chain(user).collect();
        criteria.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (fields, values): (Vec<_>, Vec<_>) = criteria.into_iter().unzip();
        CorrelationFilter { fields: fields.into(), values: values.into() }
    }

    /// Whether it lets a message through.
    pub fn matches(&self, properties: &dyn Properties) -> bool {
        self.fields.iter().zip(&self.values).all(|(field, value)| {
            FieldValue::of(field, properties).is_some_and(|found| found == *value)
        })
    }

    /// What it asks about, in order.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The values it asks for, in the order of its fields.
    pub(crate) fn values(&self) -> &[FieldValue] {
        &self.values
    }
}

impl Field {
    /// In a message.
    pub(crate) fn value<'p>(&self, properties: &'p dyn Properties) -> Option<&'p Value> {
        match self {
            Field::System(property) => properties.system(*property),
            Field::User(name) => properties.user(name),
        }
    }
}

impl FieldValue {
    /// Of a message; none if it is missing, or a value that equals nothing.
    pub(crate) fn of(field: &Field, properties: &dyn Properties) -> Option<Self> {
        FieldValue::new(field.value(properties)?)
    }

    fn new(value: &Value) -> Option<Self> {
        if let Value::String(text) = value {
            return Some(FieldValue::Text(text.clone()));
        }
        match Datum::from(value) {
            Datum::Bool(v) => Some(FieldValue::Bool(v)),
            Datum::Integer(v) => Some(FieldValue::Integer(v)),
            Datum::Double(v) => double(v),
            Datum::Decimal(v) => {
                Some(v.as_integer().map_or_else(
                    || FieldValue::Double(v.as_double().to_bits()),
                    FieldValue::Integer,
                ))
            }
            Datum::Text(text) => Some(FieldValue::Text(text.as_str().into())),
            Datum::Moment(v) => Some(FieldValue::Moment(v)),
            Datum::Span(v) => Some(FieldValue::Span(v)),
            Datum::Uuid(v) => Some(FieldValue::Uuid(v)),
            Datum::Binary(octets) => Some(FieldValue::Binary(Bytes::copy_from_slice(octets))),
            Datum::Unknown | Datum::Null | Datum::Other => None,
        }
    }
}

/// Whole numbers that 64 bits can hold are integers. What is no number equals nothing.
#[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the range")]
fn double(v: f64) -> Option<FieldValue> {
    const INTEGERS: std::ops::Range<f64> =
        -9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0;
    if v.is_nan() {
        None
    } else if v.fract() == 0.0 && INTEGERS.contains(&v) {
        Some(FieldValue::Integer(v as i128))
    } else {
        Some(FieldValue::Double(v.to_bits()))
    }
}
