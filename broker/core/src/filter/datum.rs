//! Values as filters see them: fewer types than on the wire, and rules for what can be done with two
//! of them.
//!
//! Integers of all widths are one type, and floats are doubles: "numeric operations follow the
//! promotion rules of C#". Where C# has no operator for a pair of types the outcome is unknown.

use std::cmp::Ordering;

use peeklock_protocol::value::{F64, Str, Symbol, Value};

use super::ast::{Arithmetic, Comparison};
use super::decimal::Decimal;
use super::error::EvaluationError;
use super::limits::BUILT_TEXT_MAX;
use super::truth::Truth;

/// Between the year 1 and 1970, in the ticks of .NET: 100 ns.
const TICKS_TO_1970: i128 = 621_355_968_000_000_000;
const TICKS_PER_MILLISECOND: i128 = 10_000;

/// .NET and Java write what AMQP has no type for as a described value.
const TIMESPAN: &str = "com.microsoft:timespan";
const DATE_TIME_OFFSET: &str = "com.microsoft:datetime-offset";
const URI: &str = "com.microsoft:uri";

/// A value at work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum<'a> {
    /// There is none: a missing property, or what follows from one.
    Unknown,
    Null,
    Bool(bool),
    /// Of 64 bits, with or without a sign.
    Integer(i128),
    Double(f64),
    Decimal(Decimal),
    Text(Text<'a>),
    /// Ticks since the year 1.
    Moment(i128),
    /// Ticks.
    Span(i64),
    Uuid([u8; 16]),
    Binary(&'a [u8]),
    /// A list, a map, an array, or something described: there is nothing to be done with it.
    Other,
}

/// Text at work. Its octets are at hand; to see them as text costs a check of UTF-8.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Str(&'a Str),
    Symbol(&'a Symbol),
    Built(String),
}

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Text::Str(text) => text,
            Text::Symbol(text) => text,
            Text::Built(text) => text,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Str(text) => text.as_bytes(),
            Text::Symbol(text) => text.as_bytes(),
            Text::Built(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<'a> From<&'a Value> for Datum<'a> {
    fn from(value: &'a Value) -> Self {
        let decimal =
            |decimal: Option<Decimal>| decimal.map_or(Datum::Double(f64::NAN), Datum::Decimal);
        match value {
            Value::Null => Datum::Null,
            Value::Bool(v) => Datum::Bool(*v),
            Value::Ubyte(v) => Datum::Integer((*v).into()),
            Value::Ushort(v) => Datum::Integer((*v).into()),
            Value::Uint(v) => Datum::Integer((*v).into()),
            Value::Ulong(v) => Datum::Integer((*v).into()),
            Value::Byte(v) => Datum::Integer((*v).into()),
            Value::Short(v) => Datum::Integer((*v).into()),
            Value::Int(v) => Datum::Integer((*v).into()),
            Value::Long(v) => Datum::Integer((*v).into()),
            Value::Float(v) => Datum::Double(v.get().into()),
            Value::Double(v) => Datum::Double(v.get()),
            Value::Decimal32(octets) => decimal(Decimal::from_decimal32(*octets)),
            Value::Decimal64(octets) => decimal(Decimal::from_decimal64(*octets)),
            Value::Decimal128(octets) => decimal(Decimal::from_decimal128(*octets)),
            Value::Char(c) => Datum::Text(Text::Built((*c).into())),
            Value::Timestamp(v) => {
                Datum::Moment(i128::from(*v) * TICKS_PER_MILLISECOND + TICKS_TO_1970)
            }
            Value::Uuid(octets) => Datum::Uuid(*octets),
            Value::Binary(octets) => Datum::Binary(octets),
            Value::String(text) => Datum::Text(Text::Str(text)),
            Value::Symbol(text) => Datum::Text(Text::Symbol(text)),
            Value::Described(parts) => described(&parts.0, &parts.1),
            Value::List(_) | Value::Map(_) | Value::Array(_) => Datum::Other,
        }
    }
}

fn described<'a>(descriptor: &Value, value: &'a Value) -> Datum<'a> {
    if let Value::Long(ticks) = value {
        if descriptor.is_text(TIMESPAN) {
            return Datum::Span(*ticks);
        }
        if descriptor.is_text(DATE_TIME_OFFSET) {
            return Datum::Moment((*ticks).into());
        }
    }
    if let (Value::String(text), true) = (value, descriptor.is_text(URI)) {
        return Datum::Text(Text::Str(text));
    }
    Datum::Other
}

/// A span as .NET and Java write it.
pub(crate) fn timespan(ticks: i64) -> Value {
    Value::Described(Box::new((Symbol::from_static(TIMESPAN).into(), Value::Long(ticks))))
}

impl Datum<'_> {
    /// Whether there is no value, or one that says nothing.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Datum::Unknown | Datum::Null)
    }

    /// As a condition.
    pub(crate) fn truth(&self) -> Truth {
        if let Datum::Bool(value) = self { Truth::from(*value) } else { Truth::Unknown }
    }

    /// What the type is called.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Datum::Unknown | Datum::Null => "null",
            Datum::Bool(_) => "a boolean",
            Datum::Integer(_) | Datum::Double(_) | Datum::Decimal(_) => "a number",
            Datum::Text(_) => "text",
            Datum::Moment(_) => "a point in time",
            Datum::Span(_) => "a span of time",
            Datum::Uuid(_) => "a uuid",
            Datum::Binary(_) => "binary",
            Datum::Other => "a compound value",
        }
    }

    /// As a property of a message: whole numbers are longs.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Datum::Unknown | Datum::Null | Datum::Other => Value::Null,
            Datum::Bool(v) => Value::Bool(*v),
            Datum::Integer(v) => i64::try_from(*v)
                .map_or_else(|_| u64::try_from(*v).map_or(Value::Null, Value::Ulong), Value::Long),
            Datum::Double(v) => Value::Double(F64::from(*v)),
            Datum::Decimal(v) => Value::Double(F64::from(v.as_double())),
            Datum::Text(text) => Value::String(text.as_str().into()),
            Datum::Moment(ticks) => {
                let milliseconds = (ticks - TICKS_TO_1970).div_euclid(TICKS_PER_MILLISECOND);
                i64::try_from(milliseconds).map_or(Value::Null, Value::Timestamp)
            }
            Datum::Span(ticks) => timespan(*ticks),
            Datum::Uuid(octets) => Value::Uuid(*octets),
            Datum::Binary(octets) => Value::Binary(octets.to_vec().into()),
        }
    }

    /// As a decimal, if that is exact.
    fn as_decimal(&self) -> Option<Decimal> {
        if let Datum::Integer(v) = self {
            return Some(Decimal::from(*v));
        }
        if let Datum::Decimal(v) = self { Some(*v) } else { None }
    }

    /// As a double, if it is a number.
    pub(crate) fn as_double(&self) -> Option<f64> {
        match self {
            Datum::Integer(v) => Some(to_double(*v)),
            Datum::Double(v) => Some(*v),
            Datum::Decimal(v) => Some(v.as_double()),
            Datum::Unknown
            | Datum::Null
            | Datum::Bool(_)
            | Datum::Text(_)
            | Datum::Moment(_)
            | Datum::Span(_)
            | Datum::Uuid(_)
            | Datum::Binary(_)
            | Datum::Other => None,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "C# rounds a long to the nearest double, too")]
pub(crate) fn to_double(integer: i128) -> f64 {
    integer as f64
}

/// How two values of one kind stand to one another.
enum Relation {
    /// None where one is no number.
    Order(Option<Ordering>),
    /// The kind has no order.
    Equality(bool),
    /// The kinds do not compare.
    None,
}

/// A comparison of values as they are. Two texts and two integers, which most are, take no detour.
pub(crate) fn compare_values(operator: Comparison, left: &Value, right: &Value) -> Truth {
    if let (Value::String(a), Value::String(b)) = (left, right) {
        return ordered(operator, Some(a.as_bytes().cmp(b.as_bytes())));
    }
    if let (Some(a), Some(b)) = (left.as_i64(), right.as_i64()) {
        return ordered(operator, Some(a.cmp(&b)));
    }
    compare(operator, &Datum::from(left), &Datum::from(right))
}

/// A comparison.
pub(crate) fn compare(operator: Comparison, left: &Datum<'_>, right: &Datum<'_>) -> Truth {
    match relation(left, right) {
        Relation::None => Truth::Unknown,
        Relation::Equality(equal) => match operator {
            Comparison::Equal => Truth::from(equal),
            Comparison::NotEqual => Truth::from(!equal),
            Comparison::Less
            | Comparison::LessOrEqual
            | Comparison::Greater
            | Comparison::GreaterOrEqual => Truth::Unknown,
        },
        Relation::Order(order) => ordered(operator, order),
    }
}

fn ordered(operator: Comparison, order: Option<Ordering>) -> Truth {
    Truth::from(match operator {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::NotEqual => order != Some(Ordering::Equal),
        Comparison::Less => order.is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order.is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    })
}

/// Text is compared by its characters' numbers, which order as their octets do in UTF-8: case counts,
/// and languages do not.
fn relation(left: &Datum<'_>, right: &Datum<'_>) -> Relation {
    match (left, right) {
        (Datum::Integer(a), Datum::Integer(b)) | (Datum::Moment(a), Datum::Moment(b)) => {
            Relation::Order(Some(a.cmp(b)))
        }
        (Datum::Text(a), Datum::Text(b)) => Relation::Order(Some(a.as_bytes().cmp(b.as_bytes()))),
        (Datum::Span(a), Datum::Span(b)) => Relation::Order(Some(a.cmp(b))),
        (Datum::Bool(a), Datum::Bool(b)) => Relation::Equality(a == b),
        (Datum::Uuid(a), Datum::Uuid(b)) => Relation::Equality(a == b),
        (Datum::Binary(a), Datum::Binary(b)) => Relation::Equality(a == b),
        _ => {
            if let (Some(a), Some(b)) = (left.as_decimal(), right.as_decimal()) {
                return Relation::Order(Some(a.cmp(&b)));
            }
            match (left.as_double(), right.as_double()) {
                (Some(a), Some(b)) => Relation::Order(a.partial_cmp(&b)),
                _ => Relation::None,
            }
        }
    }
}

/// `left operator right`
pub(crate) fn calculate<'a>(
    operator: Arithmetic,
    left: &Datum<'a>,
    right: &Datum<'a>,
) -> Result<Datum<'a>, EvaluationError> {
    match (left, right) {
        (Datum::Integer(a), Datum::Integer(b)) => integers(operator, *a, *b).map(Datum::Integer),
        (Datum::Text(a), Datum::Text(b)) if operator == Arithmetic::Add => {
            if BUILT_TEXT_MAX < a.as_bytes().len() + b.as_bytes().len() {
                return Err(EvaluationError::TextTooLong);
            }
            Ok(Datum::Text(Text::Built([a.as_str(), b.as_str()].concat())))
        }
        _ => Ok(match (left.as_double(), right.as_double()) {
            (Some(a), Some(b)) => Datum::Double(doubles(operator, a, b)),
            _ => Datum::Unknown,
        }),
    }
}

fn integers(operator: Arithmetic, a: i128, b: i128) -> Result<i128, EvaluationError> {
    let is_division = matches!(operator, Arithmetic::Divide | Arithmetic::Remainder);
    if is_division && b == 0 {
        return Err(EvaluationError::DivisionByZero);
    }
    let result = match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Remainder => a.checked_rem(b),
    };
    result.filter(fits).ok_or(EvaluationError::Overflow)
}

/// Whether 64 bits can hold it, with or without a sign.
fn fits(integer: &i128) -> bool {
    (i64::MIN.into()..=u64::MAX.into()).contains(integer)
}

fn doubles(operator: Arithmetic, a: f64, b: f64) -> f64 {
    match operator {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
    }
}

/// `-value`
pub(crate) fn negate<'a>(value: &Datum<'a>) -> Result<Datum<'a>, EvaluationError> {
    if let Datum::Integer(v) = value {
        return Some(-v).filter(fits).map(Datum::Integer).ok_or(EvaluationError::Overflow);
    }
    Ok(value.as_double().map_or(Datum::Unknown, |v| Datum::Double(-v)))
}

/// `+value`
pub(crate) fn plus(value: Datum<'_>) -> Datum<'_> {
    if value.as_double().is_some() { value } else { Datum::Unknown }
}
