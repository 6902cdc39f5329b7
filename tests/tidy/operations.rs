//! The handbook of operations has every setting, every limit and every alert that there is, and no other.

use std::collections::{BTreeMap, BTreeSet};

use crate::assert_none;
use crate::tree::{files, read, root};

const HANDBOOK: &str = "docs/OPERATIONS.md";

/// The rows of the tables below a heading: their cells, without the marks of code.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in read(HANDBOOK).lines() {
        if line.starts_with("## ") {
            inside = line == heading;
        } else if inside && line.starts_with("| `") {
            let cells = line.trim_matches('|').split(" |");
            found.push(cells.map(|cell| cell.trim().replace('`', "")).collect());
        }
    }
    assert!(found.len() > 5, "{HANDBOOK} has no table below {heading}");
    found
}

/// What is in one and not in the other, either way.
fn differences(wanted: &BTreeSet<String>, found: &BTreeSet<String>) -> Vec<String> {
    let missing = wanted.difference(found).map(|name| format!("{name} is missing in {HANDBOOK}"));
    let foreign = found.difference(wanted).map(|name| format!("{name} is in {HANDBOOK} alone"));
    missing.chain(foreign).collect()
}

/// The structs that the configuration file is read into: their fields with their types.
fn raw_structs() -> BTreeMap<String, Vec<(String, String)>> {
    let mut structs: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut inside = None;
    for line in read("broker/server/src/config/raw.rs").lines() {
        if let Some((_, rest)) = line.split_once("struct Raw") {
            inside = rest.split_once(" {").map(|(name, _)| format!("Raw{name}"));
        } else if line == "}" {
            inside = None;
        } else if let (Some(name), Some(field)) = (&inside, line.strip_prefix("    pub ")) {
            let (field, kind) = field.split_once(": ").expect("a field has a type");
            let kind = kind.trim_end_matches(',').to_owned();
            structs.entry(name.clone()).or_default().push((field.to_owned(), kind));
        }
    }
    structs
}

/// Every key that a file may have, with the section that it stands in.
fn settings() -> BTreeSet<String> {
    let structs = raw_structs();
    let mut found = BTreeSet::new();
    let mut sections = vec![(String::new(), "RawSettings".to_owned())];
    while let Some((prefix, name)) = sections.pop() {
        for (field, kind) in &structs[&name] {
            let inner = structs
                .keys()
                .find(|other| kind.split(['<', '>']).any(|part| part == other.as_str()));
            match inner {
                // A namespace has the same sections as the file itself.
                Some(_) if prefix == "namespace." => {}
                Some(inner) => sections.push((format!("{prefix}{field}."), inner.clone())),
                None => {
                    found.insert(format!("{prefix}{field}"));
                }
            }
        }
    }
    found
}

#[test]
fn the_handbook_has_every_setting() {
    let wanted = settings();
    assert!(
        wanted.len() > 60 && wanted.contains("topic.subscription.rule.sql_filter"),
        "{wanted:?}"
    );
    let found = rows("## Settings")
        .into_iter()
        .flat_map(|row| row[0].split(", ").map(str::to_owned).collect::<Vec<_>>());
    assert_none("the table of settings", &differences(&wanted, &found.collect()));
}

#[test]
fn the_handbook_has_the_defaults_of_the_example() {
    let table: BTreeMap<String, String> = rows("## Settings")
        .into_iter()
        .flat_map(|row| {
            let default = row[1].clone();
            let names: Vec<_> = row[0].split(", ").map(str::to_owned).collect();
            names.into_iter().map(move |name| (name, default.clone()))
        })
        .collect();
    let mut section = String::new();
    let mut compared = 0;
    let mut violations = Vec::new();
    for line in read("deploy/peeklock.example.toml").lines() {
        if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
        }
        // A key whose line is commented out shows its default.
        let Some((key, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(" = "))
        else {
            continue;
        };
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let Some(default) = table.get(&format!("{section}{key}")).filter(|_| is_key) else {
            continue;
        };
        let value = rest.split(" #").next().expect("a value").trim();
        let is_value =
            default.starts_with(['"', '[']) || default.chars().all(char::is_alphanumeric);
        if is_value && !default.is_empty() && default != "none" {
            compared += 1;
            if default != value {
                violations.push(format!("{section}{key}: {default} instead of {value}"));
            }
        }
    }
    assert!(compared > 15, "compared only {compared} defaults");
    assert_none("defaults as in deploy/peeklock.example.toml", &violations);
}

#[test]
fn the_handbook_has_every_limit() {
    let source = read("broker/server/src/metrics/limits.rs");
    let names = source.lines().filter_map(|line| {
        let (variant, name) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
        Some((name.trim_end_matches("\",").to_owned(), variant.to_owned()))
    });
    let variants: BTreeMap<String, String> = names.collect();
    let table = rows("## Limits");
    let found = table.iter().map(|row| row[0].clone()).collect();
    assert_none("the table of limits", &differences(&variants.keys().cloned().collect(), &found));
    let sources: Vec<_> = files(&["rs"])
        .into_iter()
        .filter(|file| {
            file.path.starts_with("broker/server/src/") && !file.path.contains("/metrics/")
        })
        .collect();
    let is_counted = |variant: &str| {
        let used = format!("Limit::{variant}");
        sources.iter().any(|file| file.text.contains(&used))
    };
    let uncounted = variants.values().filter(|variant| !is_counted(variant));
    let uncounted: Vec<_> =
        uncounted.map(|variant| format!("{variant} is counted nowhere")).collect();
    assert_none("what has a name is counted", &uncounted);
}

#[test]
fn the_handbook_has_every_alert() {
    let rules = root().join("deploy/prometheus/alerts.yml");
    let rules = std::fs::read_to_string(&rules).expect("the alerts are there");
    let wanted = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let wanted: BTreeSet<String> = wanted.map(str::to_owned).collect();
    assert!(wanted.len() > 5, "found only {} alerts", wanted.len());
    let handbook = read(HANDBOOK);
    let (_, alerts) = handbook.split_once("\n## Alerts\n").expect("the handbook has alerts");
    let found = alerts.lines().filter_map(|line| line.strip_prefix("### "));
    let found = found.map(str::to_owned).collect();
    assert_none("a section for each alert", &differences(&wanted, &found));
}

/// What the system or a library says, and not the broker.
const OF_OTHERS: &[&str] = &["expected one of", "Address already in use", "Permission denied"];

#[test]
fn the_handbook_quotes_what_the_broker_says_at_a_start_that_fails() {
    let sources: String = files(&["rs"])
        .into_iter()
        .filter(|file| {
            file.path.starts_with("broker/server/src/") || file.path.starts_with("storage/src/")
        })
        .map(|file| file.text)
        .collect();
    let is_name = |word: &str| word.chars().filter(|c| c.is_alphabetic()).all(char::is_uppercase);
    let mut quotes = 0;
    let mut violations = Vec::new();
    for row in rows("## It does not start") {
        // What stands for something else, and punctuation, part what is quoted.
        let mut parts = vec![String::new()];
        for word in row[0].split(' ') {
            if is_name(word) || word.contains(['…', '[']) {
                parts.push(String::new());
            } else {
                let part = parts.last_mut().expect("there is one");
                part.push_str(if part.is_empty() { "" } else { " " });
                part.push_str(word.trim_end_matches([':', ',']));
                if word.ends_with([':', ',']) {
                    parts.push(String::new());
                }
            }
        }
        for part in parts.iter().filter(|part| part.contains(' ')) {
            quotes += 1;
            if !OF_OTHERS.contains(&part.as_str()) && !sources.contains(part.as_str()) {
                violations.push(format!("{part:?} is said nowhere"));
            }
        }
    }
    assert!(quotes > 15, "found only {quotes} quotes");
    assert_none("messages as the sources have them", &violations);
}
