//! Application properties as headers, and as JSON: a type by the way a value is written.

use std::fmt::Write as _;

use axum::http::{HeaderName, HeaderValue};
use peeklock_protocol::value::Value;

use super::moment;

/// Headers that are no properties: those of HTTP itself, of browsers and proxies, and our own.
const OWN: [&str; 64] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "authorization",
    "brokerproperties",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "servicebusauthorization",
    "servicebusdlqsupplementaryauthorization",
    "servicebussupplementaryauthorization",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// The beginnings of others.
const OWN_PREFIXES: [&str; 5] =
    ["access-control-", "sec-", "x-content-type-", "x-forwarded-", "x-ms-"];

/// Whether a header may be a property. The name is in lower case.
pub(super) fn is_property(name: &str) -> bool {
    OWN.binary_search(&name).is_err() && !OWN_PREFIXES.iter().any(|own| name.starts_with(own))
}

/// Reads the value of a header.
pub(super) fn of_header(value: &str) -> Value {
    let value = value.trim();
    if value.starts_with('"') {
        // What only begins like a quoted text is a text all the same.
        return serde_json::from_str::<String>(value).map_or_else(|_| value.into(), of_text);
    }
    match value {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number(value).unwrap_or_else(|| value.into()),
    }
}

/// Reads a member of `UserProperties`. None if it has a type that no property has.
pub(super) fn of_json(value: serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Null => Some(Value::Null),
        serde_json::Value::Bool(value) => Some(Value::Bool(value)),
        serde_json::Value::Number(value) => number(&value.to_string()),
        serde_json::Value::String(text) => Some(of_text(text)),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    }
}

/// A quoted date is a date.
fn of_text(text: String) -> Value {
    moment::parse_exact(&text).map_or_else(|| Value::from(text), Value::Timestamp)
}

fn number(text: &str) -> Option<Value> {
    let looks_so = text.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    if !looks_so || !text.bytes().any(|c| c.is_ascii_digit()) {
        return None;
    }
    // A number of an article may have a zero in front, or a plus, and must keep it.
    let digits = text.trim_start_matches('-');
    let has_zero =
        digits.starts_with('0') && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if has_zero || text.starts_with('+') || digits.starts_with('.') || digits.ends_with('.') {
        return None;
    }
    let small = text.parse::<i32>().map(Value::from);
    let large = || text.parse::<i64>().map(Value::from).ok();
    let double = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    small.ok().or_else(large).or_else(double)
}

/// Writes a value as a header has it. None for types that have no such form.
pub(super) fn show(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Ubyte(value) => value.to_string(),
        Value::Ushort(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Ulong(value) => value.to_string(),
        Value::Byte(value) => value.to_string(),
        Value::Short(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Float(value) => show_double(f64::from(value.get())),
        Value::Double(value) => show_double(value.get()),
        Value::Char(value) => quote(value.encode_utf8(&mut [0; 4])),
        Value::Timestamp(millis) => quote(&moment::show(*millis)?),
        Value::Uuid(octets) => {
            let hex = format!("{:032x}", u128::from_be_bytes(*octets));
            let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range));
            quote(&groups.into_iter().flatten().collect::<Vec<_>>().join("-"))
        }
        Value::String(text) => quote(text),
        Value::Symbol(text) => quote(text),
        Value::Decimal32(_)
        | Value::Decimal64(_)
        | Value::Decimal128(_)
        | Value::Binary(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Array(_)
        | Value::Described(_) => return None,
    })
}

/// Always with a point or an exponent, so that it is read as what it is.
fn show_double(value: f64) -> String {
    if value.is_finite() { format!("{value:?}") } else { quote(&value.to_string()) }
}

/// The header of a property, if its name and value can be one.
pub(super) fn header(name: &str, value: &Value) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if !is_property(name.as_str()) {
        return None;
    }
    Some((name, HeaderValue::try_from(show(value)?).ok()?))
}

/// A text as JSON, in characters that a header may have.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a text cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::value::Symbol;

    use super::*;

    /// What is read, and how it is written again.
    #[track_caller]
    fn check(header: &str, value: impl Into<Value>, shown: &str) {
        let read = of_header(header);
        assert_eq!(read, value.into(), "{header}");
        assert_eq!(show(&read).as_deref(), Some(shown), "{header}");
    }

    #[test]
    fn values_have_the_type_that_they_are_written_in() {
        check("\"world\"", "world", "\"world\"");
        check(" \"a \\\"b\\\"\" ", "a \"b\"", "\"a \\\"b\\\"\"");
        check("High", "High", "\"High\"");
        check("", "", "\"\"");
        check("\"", "\"", "\"\\\"\"");
        check("true", true, "true");
        check("False", "False", "\"False\"");
        check("42", 42_i32, "42");
        check("-2147483649", -2_147_483_649_i64, "-2147483649");
        check("99999999999999999999", 1e20_f64, "1e20");
        check("1.5", 1.5_f64, "1.5");
        check("5.0", 5.0_f64, "5.0");
        check("1e3", 1000.0_f64, "1000.0");
        check("007", "007", "\"007\"");
        check("+49", "+49", "\"+49\"");
        check("1.2.3", "1.2.3", "\"1.2.3\"");
        check("-", "-", "\"-\"");
        check("1e999", "1e999", "\"1e999\"");
        check("\"é \\u20ac\"", "é €", "\"\\u00e9 \\u20ac\"");
        let date = "\"Wed, 02 Jul 2014 01:32:27 GMT\"";
        check(date, Value::Timestamp(1_404_264_747_000), date);
        check("Wed, 02 Jul 2014 01:32:27 GMT", "Wed, 02 Jul 2014 01:32:27 GMT", date);
    }

    #[test]
    fn json_has_the_same_types() {
        let of = |text: &str| of_json(serde_json::from_str(text).unwrap());
        assert_eq!(of("\"Low\""), Some("Low".into()));
        assert_eq!(of("7"), Some(Value::Int(7)));
        assert_eq!(of("7.5"), Some(7.5_f64.into()));
        assert_eq!(of("1e2"), Some(100.0_f64.into()));
        assert_eq!(of("null"), Some(Value::Null));
        assert_eq!(of("[]"), None);
        assert_eq!(of("{}"), None);
    }

    #[test]
    fn what_other_senders_write_has_a_form_or_is_left_out() {
        let shown = |value: Value| show(&value);
        assert_eq!(shown(Value::Ulong(u64::MAX)).as_deref(), Some("18446744073709551615"));
        assert_eq!(shown(f64::NAN.into()).as_deref(), Some("\"NaN\""));
        assert_eq!(shown(0.5_f32.into()).as_deref(), Some("0.5"));
        assert_eq!(shown(Symbol::from("s").into()).as_deref(), Some("\"s\""));
        let uuid = Value::Uuid(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes());
        assert_eq!(shown(uuid).as_deref(), Some("\"00112233-4455-6677-8899-aabbccddeeff\""));
        assert_eq!(shown(Value::Timestamp(-1)), None);
        assert_eq!(shown(Value::List(Vec::new())), None);
        assert_eq!(
            shown("a\r\nSet-Cookie: b".into()).as_deref(),
            Some("\"a\\u000d\\u000aSet-Cookie: b\"")
        );
    }

    #[test]
    fn no_property_becomes_a_header_that_means_something() {
        assert!(OWN.is_sorted());
        for name in ["content-length", "Transfer-Encoding", "Location", "set-cookie", "X-Ms-Date"] {
            assert_eq!(header(name, &1_i32.into()), None, "{name}");
        }
        for name in ["", "a b", "a:b", "a\r\nb", "é", "<b>"] {
            assert_eq!(header(name, &1_i32.into()), None, "{name}");
        }
        let (name, value) = header("Priority", &"<b>".into()).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("priority", "\"<b>\""));
    }
}
