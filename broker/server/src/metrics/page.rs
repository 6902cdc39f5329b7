//! The text that a scraper reads: format 0.0.4 of Prometheus.
//!
//! What the registry keeps is written by the crate `prometheus`. What is asked for at each scrape goes
//! straight into the text, because of entities there may be some hundred thousand samples.

use std::fmt::{Display, Write as _};

use peeklock_storage::statistics::Counts;
use prometheus::{Registry, TextEncoder};
use tracing::error;

use super::{Family, Kind};

/// What the text is, for the header that says so.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows. All samples of a family stand together, so each is begun once.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Begins with all that a registry keeps.
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut text = String::new();
        let kept = registry.gather();
        if let Err(error) = TextEncoder::new().encode_utf8(&kept, &mut text) {
            error!(%error, "what is counted cannot be written");
        }
        Self { text }
    }

    /// Begins a family.
    pub(crate) fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let Family { name, kind, help, .. } = family;
        line(&mut self.text, format_args!("# HELP {name} {help}\n# TYPE {name} {}", kind.name()));
        Samples { text: &mut self.text, family }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The samples of one family.
pub(crate) struct Samples<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// Adds one with the values of the family's labels, in their order.
    pub(crate) fn add(&mut self, labels: &[&str], value: impl Display) {
        debug_assert_ne!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        self.text.push_str(self.family.name);
        self.labels(labels, None);
        line(self.text, format_args!(" {value}"));
    }

    /// Adds what was counted by size, in units of which `per` make one of the family's.
    pub(crate) fn counts(&mut self, labels: &[&str], counts: &Counts, per: f64) {
        debug_assert_eq!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        let name = self.family.name;
        let mut so_far = 0;
        for (bound, count) in counts.buckets() {
            so_far += count;
            let bound = bound.map_or("+Inf".to_owned(), |bound| (as_f64(bound) / per).to_string());
            self.text.push_str(name);
            self.text.push_str("_bucket");
            self.labels(labels, Some(&bound));
            line(self.text, format_args!(" {so_far}"));
        }
        self.text.push_str(name);
        self.text.push_str("_sum");
        self.labels(labels, None);
        line(self.text, format_args!(" {}", as_f64(counts.sum()) / per));
        self.text.push_str(name);
        self.text.push_str("_count");
        self.labels(labels, None);
        line(self.text, format_args!(" {so_far}"));
    }

    fn labels(&mut self, values: &[&str], bound: Option<&str>) {
        debug_assert_eq!(self.family.labels.len(), values.len(), "{}", self.family.name);
        let named = self.family.labels.iter().copied().zip(values.iter().copied());
        let mut between = '{';
        for (name, value) in named.chain(bound.map(|bound| ("le", bound))) {
            self.text.push(between);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            between = ',';
        }
        if between == ',' {
            self.text.push('}');
        }
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{words}");
}

/// Paths of entities may hold anything but control characters.
fn escape(text: &mut String, value: &str) {
    if !value.contains(['\\', '"', '\n']) {
        return text.push_str(value);
    }
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// As Prometheus keeps all numbers: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "there are no other numbers over there")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use peeklock_storage::statistics::Histogram;

    use super::*;

    static HELD: Family =
        Family { name: "held", kind: Kind::Gauge, labels: &["who", "what"], help: "What is held." };
    static PLAIN: Family =
        Family { name: "plain_total", kind: Kind::Counter, labels: &[], help: "Without labels." };
    static TAKEN: Family =
        Family { name: "taken_seconds", kind: Kind::Histogram, labels: &["by"], help: "Taken." };

    #[test]
    fn samples_are_written_as_scrapers_read_them() {
        let mut page = Page::default();
        let mut held = page.family(&HELD);
        held.add(&["a", "b"], 7);
        held.add(&["quo\"te", "back\\slash\nline"], -1.5);
        page.family(&PLAIN).add(&[], u64::MAX);
        let histogram = Histogram::new(&[100, 2_000_000]);
        histogram.observe(100);
        histogram.observe_many(101, 2);
        histogram.observe(3_000_000);
        page.family(&TAKEN).counts(&["x"], &histogram.counts(), 1e6);
        let expected = r#"# HELP held What is held.
# TYPE held gauge
held{who="a",what="b"} 7
held{who="quo\"te",what="back\\slash\nline"} -1.5
# HELP plain_total Without labels.
# TYPE plain_total counter
plain_total 18446744073709551615
# HELP taken_seconds Taken.
# TYPE taken_seconds histogram
taken_seconds_bucket{by="x",le="0.0001"} 1
taken_seconds_bucket{by="x",le="2"} 3
taken_seconds_bucket{by="x",le="+Inf"} 4
taken_seconds_sum{by="x"} 3.000302
taken_seconds_count{by="x"} 4
"#;
        assert_eq!(page.into_text(), expected);
    }
}
