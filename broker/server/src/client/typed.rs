//! Values with types on a command line: `name=text`, `count:int=5`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peeklock_protocol::value::{F32, F64, Value};

use crate::http::atom::time;

/// A named value, as `NAME[:TYPE]=VALUE` says.
pub(super) fn parse(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    let (name, kind) = match name.rsplit_once(':') {
        Some((name, kind)) if TYPES.contains(&kind) => (name, kind),
        _ => (name, "string"),
    };
    if name.is_empty() {
        return Err(format!("{text:?} has no name"));
    }
    let value = read(kind, value).ok_or_else(|| format!("{value:?} is no {kind}"))?;
    Ok((name.to_owned(), value))
}

const TYPES: [&str; 18] = [
    "string",
    "bool",
    "byte",
    "short",
    "int",
    "long",
    "ubyte",
    "ushort",
    "uint",
    "ulong",
    "float",
    "double",
    "char",
    "timestamp",
    "uuid",
    "binary",
    "symbol",
    "null",
];

fn read(kind: &str, text: &str) -> Option<Value> {
    Some(match kind {
        "string" => Value::from(text),
        "bool" => Value::Bool(text.parse().ok()?),
        "byte" => Value::Byte(text.parse().ok()?),
        "short" => Value::Short(text.parse().ok()?),
        "int" => Value::Int(text.parse().ok()?),
        "long" => Value::Long(text.parse().ok()?),
        "ubyte" => Value::Ubyte(text.parse().ok()?),
        "ushort" => Value::Ushort(text.parse().ok()?),
        "uint" => Value::Uint(text.parse().ok()?),
        "ulong" => Value::Ulong(text.parse().ok()?),
        "float" => Value::Float(F32::from(text.parse::<f32>().ok()?)),
        "double" => Value::Double(F64::from(text.parse::<f64>().ok()?)),
        "char" => Value::Char(text.parse().ok()?),
        "timestamp" => Value::Timestamp(moment(text)?),
        "uuid" => Value::Uuid(uuid(text)?),
        "binary" => Value::Binary(STANDARD.decode(text).ok()?.into()),
        "symbol" => Value::Symbol(text.to_owned().try_into().ok()?),
        "null" if text.is_empty() => Value::Null,
        _ => return None,
    })
}

/// `2026-01-31T12:00:00Z`, or milliseconds since 1970.
pub(super) fn moment(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| time::parse_millis(text))
}

pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// A value as people read it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => text.as_str().to_owned(),
        Value::Symbol(text) => text.as_str().to_owned(),
        Value::Timestamp(millis) => time::show_millis(*millis, 0),
        Value::Uuid(octets) => show_uuid(octets),
        Value::Binary(octets) => STANDARD.encode(octets),
        Value::Float(number) => number.get().to_string(),
        Value::Double(number) => number.get().to_string(),
        Value::Char(character) => character.to_string(),
        Value::Ulong(number) => number.to_string(),
        value => match value.as_i64() {
            Some(number) => number.to_string(),
            None => format!("{value:?}"),
        },
    }
}

pub(super) fn show_uuid(octets: &[u8; 16]) -> String {
    peeklock_protocol::message::MessageId::Uuid(*octets).text().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_stands_behind_the_name() {
        for (text, name, value) in [
            ("a=b=c", "a", Value::from("b=c")),
            ("a:int=-5", "a", Value::Int(-5)),
            ("a:b=1", "a:b", Value::from("1")),
            ("a:b:long=1", "a:b", Value::Long(1)),
            ("t:timestamp=1970-01-01T00:00:01Z", "t", Value::Timestamp(1000)),
            ("u:uuid=00000000-0000-0000-0000-0000000000ff", "u", {
                let mut octets = [0; 16];
                octets[15] = 255;
                Value::Uuid(octets)
            }),
            ("x:binary=AAE=", "x", Value::Binary(vec![0, 1].into())),
            ("n:null=", "n", Value::Null),
        ] {
            assert_eq!(parse(text), Ok((name.to_owned(), value)), "{text}");
        }
        for wrong in ["a", "=b", "a:int=x", "a:bool=yes", "a:uuid=1", "a:ubyte=256"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_by_people() {
        assert_eq!(show(&Value::Uuid([0x11; 16])), "11111111-1111-1111-1111-111111111111");
        assert_eq!(show(&Value::Uint(7)), "7");
        assert_eq!(show(&Value::Ulong(u64::MAX)), "18446744073709551615");
        assert_eq!(show(&Value::Timestamp(0)), "1970-01-01T00:00:00Z");
    }
}
