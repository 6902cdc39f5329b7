//! JSON as people write it into configuration files, and values in it that know their place.

use serde_json::Value;

use crate::config::build::{Check, refuse};

/// Reads JSON that may have comments, and a comma behind the last of several.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(&plain(text.strip_prefix('\u{feff}').unwrap_or(text)))
}

/// The text with a space for each character of a comment and for each comma too many: what the parser
/// says of lines and columns is true of the original.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut last_comma = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => string_end(rest),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |at| at + 2),
            _ => first.len_utf8(),
        };
        let (token, behind) = rest.split_at(end);
        rest = behind;
        if first == '/' && 1 < token.len() {
            plain.extend(token.chars().map(|c| if c == '\n' { c } else { ' ' }));
            continue;
        }
        if let (']' | '}', Some(at)) = (first, last_comma) {
            plain.replace_range(at..=at, " ");
        }
        if !first.is_whitespace() {
            last_comma = (first == ',').then_some(plain.len());
        }
        plain.push_str(token);
    }
    plain
}

/// Behind the closing quote.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// A value and the way to it from the root.
#[derive(Clone, Debug)]
pub(super) struct Node<'v> {
    pub(super) path: String,
    pub(super) value: &'v Value,
}

impl<'v> Node<'v> {
    pub(super) fn root(value: &'v Value) -> Self {
        Node { path: String::new(), value }
    }

    pub(super) fn wrong<T>(&self, reason: impl Into<String>) -> Check<T> {
        refuse(&self.path, 0..0, reason)
    }

    /// Names and values of an object.
    pub(super) fn members(&self) -> Check<Vec<(&'v str, Node<'v>)>> {
        let Value::Object(members) = self.value else { return self.wrong("must be an object") };
        let member = |(name, value): (&'v String, &'v Value)| {
            let dot = if self.path.is_empty() { "" } else { "." };
            (name.as_str(), Node { path: format!("{}{dot}{name}", self.path), value })
        };
        Ok(members.iter().map(member).filter(|(_, node)| !node.value.is_null()).collect())
    }

    /// A member of an object, in any case, as the emulator finds it. Null is as good as left out.
    pub(super) fn member(&self, name: &str) -> Check<Option<Node<'v>>> {
        let mut members = self.members()?.into_iter();
        Ok(members.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, node)| node))
    }

    pub(super) fn required(&self, name: &str) -> Check<Node<'v>> {
        let place = if self.path.is_empty() { "the file" } else { "it" };
        match self.member(name)? {
            Some(node) => Ok(node),
            None => self.wrong(format!("{name} is missing from {place}")),
        }
    }

    /// The items of a list that is a member; none if it is left out.
    pub(super) fn list(&self, name: &str) -> Check<Vec<Node<'v>>> {
        let Some(list) = self.member(name)? else { return Ok(Vec::new()) };
        let Value::Array(items) = list.value else { return list.wrong("must be a list") };
        let item = |(index, value)| Node { path: format!("{}[{index}]", list.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Check<&'v str> {
        self.value.as_str().map_or_else(|| self.wrong("must be a string"), Ok)
    }

    /// A boolean; .NET reads it from a string as well.
    pub(super) fn flag(&self) -> Check<bool> {
        let of_text = |text: &str| text.to_ascii_lowercase().parse().ok();
        let flag = self.value.as_bool().or_else(|| self.value.as_str().and_then(of_text));
        flag.map_or_else(|| self.wrong("must be true or false"), Ok)
    }

    /// A number; .NET reads it from a string as well.
    pub(super) fn count(&self) -> Check<i64> {
        let of_text = |text: &str| text.parse().ok();
        let count = self.value.as_i64().or_else(|| self.value.as_str().and_then(of_text));
        count.map_or_else(|| self.wrong("must be a whole number"), Ok)
    }

    /// Milliseconds of a duration as in ISO 8601, without months and years: they have no length.
    pub(super) fn span(&self) -> Check<u64> {
        let text = self.text()?;
        let wrong = || format!("{text:?} is not a duration: write it as \"PT1H\" or \"P1DT30S\"");
        milliseconds(text).map_or_else(|| self.wrong(wrong()), Ok)
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    for (mut rest, units) in [
        (days, &[('W', 604_800_000), ('D', 86_400_000)][..]),
        (time, &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)][..]),
    ] {
        for (unit, factor) in units {
            let Some((number, behind)) = rest.split_once(*unit) else { continue };
            rest = behind;
            // Tools write the longest span there is with a fraction of a second.
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let is_number =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !is_number(whole) || !is_number(fraction) || (*unit != 'S' && number != whole) {
                return None;
            }
            let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
            let part = whole.parse::<u64>().ok()?.checked_mul(*factor)?;
            let below = if *unit == 'S' { thousandths.parse().ok()? } else { 0 };
            total = total.checked_add(part)?.checked_add(below)?;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_plain(text: &str, expected: &str) {
        assert_eq!(plain(text), expected);
    }

    #[test]
    fn comments_and_needless_commas_become_spaces() {
        check_plain("{ // a\n \"b\": 1 }", "{     \n \"b\": 1 }");
        check_plain("[1, /* 2,\n */ 3]", "[1,      \n    3]");
        check_plain("[1, 2, ]", "[1, 2  ]");
        check_plain("{\"a\": [1,], // x\n}", "{\"a\": [1 ]      \n}");
        check_plain("[\"// no\", \"/* no */\", \"a,]\"]", "[\"// no\", \"/* no */\", \"a,]\"]");
        check_plain(r#"["\"// no", "\\"// yes"#, r#"["\"// no", "\\"      "#);
        check_plain("1 / 2", "1 / 2");
        check_plain("/* never closed", "               ");
        assert!(parse("[,]").is_ok(), "as lenient as can be");
        assert!(parse("{\"a\": 1").is_err());
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("PT1H", Some(3_600_000)),
            ("PT5M", Some(300_000)),
            ("P1DT1H1M1S", Some(90_061_000)),
            ("P2W", Some(1_209_600_000)),
            ("PT0.5S", Some(500)),
            ("PT1.2345S", Some(1_234)),
            ("P10675199DT2H48M5.4775807S", Some(922_337_203_685_477)),
            ("P", None),
            ("PT", None),
            ("1H", None),
            ("PT1", None),
            ("PT1X", None),
            ("P1M", None),
            ("P1Y", None),
            ("PT1S1M", None),
            ("PT1.5H", None),
            ("PT-1S", None),
            ("00:01:00", None),
            ("P99999999999999999999D", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }
}
