//! Named values of rules: `KeyValueOfstringanyType`, typed as XML Schema types them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peeklock_protocol::value::{F64, Str, Symbol, Value};

use super::error::Fault;
use super::time;
use super::xml::{Element, SCHEMA, SERIALIZATION, Space, Writer};

const ITEM: &str = "KeyValueOfstringanyType";
/// How AMQP has spans, which are none of its types.
const TIMESPAN: &str = "com.microsoft:timespan";

/// Reads a list of values, in their order.
pub(crate) fn read(list: &Element) -> Result<Vec<(Str, Value)>, Fault> {
    let items = list.children.iter().filter(|child| child.name == ITEM);
    items.map(item).collect()
}

fn item(item: &Element) -> Result<(Str, Value), Fault> {
    let part = |name| item.child(Space::ServiceBus, name);
    let (Some(key), Some(value)) = (part("Key"), part("Value")) else {
        return Err(Fault::invalid(format!("Each {ITEM} has a Key and a Value.")));
    };
    let kind = value.kind.as_deref().unwrap_or("string");
    let wrong = || Fault::invalid(format!("The value of '{}' is not of type {kind}.", key.text));
    let text = value.text.trim();
    let value = match kind {
        "string" => Value::from(value.text.as_str()),
        "int" => Value::Int(text.parse().map_err(|_| wrong())?),
        "long" => Value::Long(text.parse().map_err(|_| wrong())?),
        "double" | "float" => Value::Double(F64::from(text.parse::<f64>().map_err(|_| wrong())?)),
        "boolean" => Value::Bool(flag(text).ok_or_else(wrong)?),
        "dateTime" => Value::Timestamp(time::parse_millis(text).ok_or_else(wrong)?),
        "duration" => {
            let ticks = time::parse_ticks(text).and_then(|ticks| i64::try_from(ticks).ok());
            let descriptor = Value::Symbol(Symbol::from_static(TIMESPAN));
            Value::Described(Box::new((descriptor, Value::Long(ticks.ok_or_else(wrong)?))))
        }
        _ => {
            let text = format!("The value of '{}' has a type that is not known: {kind}.", key.text);
            return Err(Fault::invalid(text));
        }
    };
    Ok((Str::from(key.text.as_str()), value))
}

/// As XML Schema and all SDKs write it.
pub(crate) fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        text if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        text if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        _ => None,
    }
}

/// Writes a list of values; nothing when there are none. JavaScript takes the type to begin behind
/// five characters.
pub(crate) fn write(writer: &mut Writer, list: &str, values: &[(Str, Value)]) {
    if values.is_empty() {
        return;
    }
    writer.open(list, &[]);
    for (key, value) in values {
        let (kind, text) = show(value);
        let space = if kind == "duration" { SERIALIZATION } else { SCHEMA };
        writer.open(ITEM, &[]);
        writer.leaf("Key", key);
        let kind = format!("d6p1:{kind}");
        writer.leaf_with("Value", &[("i:type", &kind), ("xmlns:d6p1", space)], &text);
        writer.close(ITEM);
    }
    writer.close(list);
}

/// The type and the text. Other numbers of AMQP are shown as those that clients of HTTP have.
fn show(value: &Value) -> (&'static str, String) {
    let integer = |number: i128| {
        let kind = if i32::try_from(number).is_ok() { "int" } else { "long" };
        (kind, number.to_string())
    };
    match value {
        Value::Bool(truth) => ("boolean", truth.to_string()),
        Value::Int(number) => ("int", number.to_string()),
        Value::Long(number) => ("long", number.to_string()),
        Value::Ubyte(number) => integer((*number).into()),
        Value::Ushort(number) => integer((*number).into()),
        Value::Uint(number) => integer((*number).into()),
        Value::Ulong(number) => integer((*number).into()),
        Value::Byte(number) => integer((*number).into()),
        Value::Short(number) => integer((*number).into()),
        Value::Float(number) => ("double", double(number.get().into())),
        Value::Double(number) => ("double", double(number.get())),
        Value::Timestamp(millis) => ("dateTime", time::show_millis(*millis, 0)),
        Value::String(text) => ("string", text.as_str().to_owned()),
        Value::Symbol(text) => ("string", text.as_str().to_owned()),
        Value::Char(character) => ("string", character.to_string()),
        Value::Binary(octets) => ("base64Binary", STANDARD.encode(octets)),
        Value::Described(parts) if parts.0.is_text(TIMESPAN) => match parts.1 {
            Value::Long(ticks) => ("duration", time::show_ticks(ticks.into())),
            ref other => ("string", format!("{other:?}")),
        },
        // No program of HTTP makes these, and no message equals most of them.
        other => ("string", format!("{other:?}")),
    }
}

fn double(number: f64) -> String {
    if number.is_infinite() {
        return if number < 0.0 { "-INF" } else { "INF" }.to_owned();
    }
    format!("{number:?}")
}

#[cfg(test)]
mod tests {
    use super::super::xml::{SCHEMA_INSTANCE, SERVICE_BUS, parse};
    use super::*;

    fn list(items: &str) -> Element {
        let text = format!(
            "<Parameters xmlns=\"{SERVICE_BUS}\" xmlns:i=\"{SCHEMA_INSTANCE}\">{items}</Parameters>"
        );
        parse(text.as_bytes()).unwrap()
    }

    fn one(kind: &str, text: &str) -> Result<Vec<(Str, Value)>, Fault> {
        let value = format!("<Value i:type=\"x:{kind}\">{text}</Value>");
        read(&list(&format!("<{ITEM}><Key>@k</Key>{value}</{ITEM}>")))
    }

    #[track_caller]
    fn check(kind: &str, text: &str, shown: &str) {
        let values = one(kind, text).unwrap();
        let mut writer = Writer::default();
        writer.open("r", &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
        write(&mut writer, "Parameters", &values);
        writer.close("r");
        let written = writer.finish();
        let space = if kind == "duration" { SERIALIZATION } else { SCHEMA };
        let expected = format!(
            "<Key>@k</Key><Value i:type=\"d6p1:{kind}\" xmlns:d6p1=\"{space}\">{shown}</Value>"
        );
        assert!(written.contains(&expected), "{written}");
        let root = parse(written.as_bytes()).unwrap();
        assert_eq!(read(&root.children[0]).unwrap(), values);
    }

    #[test]
    fn values_come_back_as_they_were_set() {
        check("string", " a &amp; b ", " a &amp; b ");
        check("string", "", "");
        check("int", "-7", "-7");
        check("long", "5000000000", "5000000000");
        check("long", "1", "1");
        check("double", "1", "1.0");
        check("double", "-1.5e300", "-1.5e300");
        check("double", "INF", "INF");
        check("boolean", "True", "true");
        check("boolean", "0", "false");
        check("dateTime", "2020-08-21T12:44:26.14+00:00", "2020-08-21T12:44:26.14Z");
        check("duration", "P1DT2H3M4.5S", "P1DT2H3M4.5S");
        check("duration", "-PT1S", "-PT1S");
    }

    #[test]
    fn wrong_values_are_refused() {
        for (kind, text) in [
            ("int", "2147483648"),
            ("int", "x"),
            ("double", "1,5"),
            ("boolean", "yes"),
            ("dateTime", "tomorrow"),
            ("duration", "1h"),
            ("duration", "P99999999D"),
            ("guid", "00000000-0000-0000-0000-000000000000"),
        ] {
            let fault = one(kind, text).unwrap_err();
            assert_eq!(fault.sub_code, Some(40000), "{kind} {text}");
        }
        assert!(read(&list(&format!("<{ITEM}><Key>a</Key></{ITEM}>"))).is_err());
        assert_eq!(read(&list("")), Ok(Vec::new()));
    }

    #[test]
    fn values_of_amqp_are_shown_as_near_as_may_be() {
        assert_eq!(show(&Value::Ubyte(7)), ("int", "7".to_owned()));
        assert_eq!(show(&Value::Uint(u32::MAX)), ("long", "4294967295".to_owned()));
        assert_eq!(show(&Value::from(0.5_f32)), ("double", "0.5".to_owned()));
        assert_eq!(show(&Value::Char('x')), ("string", "x".to_owned()));
    }
}
