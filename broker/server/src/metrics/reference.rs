//! The table of `docs/METRICS.md` is made of the families, and a test compares.

use std::fmt::Write as _;
use std::path::Path;

use super::{Family, entities, families};

/// What the table stands between.
const BEGIN: &str = "<!-- made by the test in broker/server/src/metrics/reference.rs -->\n";
const END: &str = "<!-- end of what is made -->\n";

fn all() -> impl Iterator<Item = &'static Family> {
    families::ALL.iter().copied().chain(entities::families())
}

fn table() -> String {
    let mut rows = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for Family { name, kind, labels, help } in all() {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (kind.name(), labels.join(", "));
        let _ = writeln!(rows, "| `{name}` | {kind} | {labels} | {help} |");
    }
    rows
}

#[test]
fn the_page_says_what_the_families_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/METRICS.md");
    let found = std::fs::read_to_string(&path).expect("docs/METRICS.md");
    let (before, rest) = found.split_once(BEGIN).expect("a place for the table");
    let (_, behind) = rest.split_once(END).expect("the end of the table");
    let expected = format!("{before}{BEGIN}{}{END}{behind}", table());
    if std::env::var_os("PEEKLOCK_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &expected).expect("written");
        return;
    }
    assert!(
        found == expected,
        "docs/METRICS.md is out of date: run this test with PEEKLOCK_WRITE_REFERENCE=1"
    );
}

/// What promtool would complain of, and what a table in Markdown cannot show.
#[test]
fn names_and_texts_are_as_they_are_to_be() {
    let mut names = std::collections::HashSet::new();
    for Family { name, kind, labels, help } in all() {
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("peeklock_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind.name() == "counter", "{name}");
        assert!(!help.contains(['\n', '|', '\\']) && help.ends_with('.'), "{name}");
        assert!(labels.iter().all(|label| *label != "le"), "{name}");
    }
}
