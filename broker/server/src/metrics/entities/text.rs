//! The text format of Prometheus, as far as many samples of few labels need it.

use std::fmt::Write as _;
use std::ops::Range;

use crate::metrics::Family;

/// The labels of all entities that are shown, each rendered once, in one text.
pub(super) struct Labels {
    text: String,
    places: Vec<Range<usize>>,
}

impl Labels {
    /// Of these, by the name of the namespace and the path.
    pub(super) fn of<'a>(entities: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut text, mut places) = (String::new(), Vec::new());
        for (namespace, path) in entities {
            let start = text.len();
            text.push_str("namespace=\"");
            escape(namespace, &mut text);
            text.push_str("\",entity=\"");
            escape(path, &mut text);
            text.push('"');
            places.push(start..text.len());
        }
        Labels { text, places }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| &self.text[place.clone()])
    }
}

/// What a value may hold that would end it, as the format wants it written.
pub(super) fn escape(value: &str, out: &mut String) {
    if !value.contains(['\\', '"', '\n']) {
        return out.push_str(value);
    }
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// What stands before the samples of a family, once.
pub(super) fn head(family: &Family, out: &mut String) {
    let Family { name, kind, help, .. } = family;
    // Writing to a string does not fail, here and below.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
}

/// A sample. `more` is a further label and its value, which needs no escaping.
pub(super) fn sample(
    name: &str,
    labels: &str,
    more: Option<(&str, &str)>,
    value: u64,
    out: &mut String,
) {
    begin(name, labels, more, out);
    number(value, out);
    out.push('\n');
}

/// A sample that is a time.
pub(super) fn seconds(name: &str, labels: &str, milliseconds: u64, out: &mut String) {
    begin(name, labels, None, out);
    number(milliseconds / 1000, out);
    let rest = milliseconds % 1000;
    if rest != 0 {
        let _ = write!(out, ".{rest:03}");
    }
    out.push('\n');
}

fn begin(name: &str, labels: &str, more: Option<(&str, &str)>, out: &mut String) {
    out.push_str(name);
    out.push('{');
    out.push_str(labels);
    if let Some((label, value)) = more {
        for part in [",", label, "=\"", value, "\""] {
            out.push_str(part);
        }
    }
    out.push_str("} ");
}

fn number(value: u64, out: &mut String) {
    // Most are, and formatting is what takes longest.
    if value < 10 {
        out.push(char::from(b'0' + u8::try_from(value).unwrap_or_default()));
    } else {
        let _ = write!(out, "{value}");
    }
}
