//! What the pages say to type can be typed: commands and options are those of `docs/CLI.md`, which is made
//! from their definitions; metrics are those of `docs/METRICS.md`, which is made from theirs.

use std::collections::{BTreeMap, BTreeSet};

use crate::assert_none;
use crate::tree::{SourceFile, files, read};

/// Commands with their options, and under no name the options that all commands have which ask a broker.
fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in read("docs/CLI.md").lines() {
        if let Some(heading) = line.trim_start_matches('#').trim_start().strip_prefix("`peeklock ")
        {
            let words = heading.trim_end_matches('`').split(' ');
            let words: Vec<_> =
                words.take_while(|word| word.starts_with(char::is_lowercase)).collect();
            current = words.join(" ");
            all.entry(current.clone()).or_default();
        } else if line.starts_with("## ") {
            current.clear();
        } else if let Some((names, _)) =
            line.strip_prefix("| `").and_then(|row| row.split_once('`'))
        {
            let names = names.split([' ', ',']).filter(|name| name.starts_with('-'));
            all.entry(current.clone()).or_default().extend(names.map(str::to_owned));
        }
    }
    all
}

/// The pieces of code of a page: each line of a fence that is for a shell, and what stands in backticks.
fn code(page: &SourceFile) -> Vec<(usize, String)> {
    let mut fence = None;
    let mut found = Vec::new();
    for (number, line) in page.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(kind.to_owned()) };
        } else if fence.as_deref() == Some("sh") {
            let command = line.split(" # ").next().expect("a line has a beginning");
            found.push((number, command.to_owned()));
        } else if fence.is_none() {
            let inline = line.split('`').skip(1).step_by(2);
            found.extend(inline.map(|code| (number, code.to_owned())));
        }
    }
    found
}

/// The pages for people. The reference itself, decisions and the log of changes are no instructions of today.
fn pages() -> Vec<SourceFile> {
    let is_page = |path: &str| {
        (path.starts_with("docs/") && !path.starts_with("docs/adr/") && path != "docs/CLI.md")
            || path == "README.md"
    };
    files(&["md"]).into_iter().filter(|file| is_page(&file.path)).collect()
}

/// What the broker prints, and nobody types.
const READY: &str = "peeklock is ready";

#[test]
fn commands_of_the_pages_exist() {
    let commands = commands();
    assert!(commands.len() > 40 && commands.contains_key("dlq replay"), "{:?}", commands.keys());
    let is_group = |word: &str| commands.keys().any(|name| name.starts_with(&format!("{word} ")));
    let mut typed = 0;
    let mut violations = Vec::new();
    for page in pages() {
        for (number, line) in code(&page) {
            for (at, _) in line.match_indices("peeklock ") {
                let words =
                    line[at..].split(['|', '&', ';', '>', '<']).next().expect("a beginning");
                let words: Vec<&str> = words.split_whitespace().skip(1).collect();
                let starts_here =
                    line[..at].chars().next_back().is_none_or(|c| " (|&;$".contains(c));
                if !starts_here
                    || !words.first().is_some_and(|word| word.starts_with(char::is_lowercase))
                {
                    continue;
                }
                let two = words.get(..2).map(|two| two.join(" "));
                let one = || commands.get_key_value(words[0]).filter(|_| !is_group(words[0]));
                let known = two.as_ref().and_then(|two| commands.get_key_value(two));
                let Some((name, options)) = known.or_else(one) else {
                    if words.len() > 1 && !line[at..].starts_with(READY) {
                        violations.push(format!(
                            "{}:{number}: no command {}",
                            page.path,
                            words.join(" ")
                        ));
                    }
                    continue;
                };
                typed += 1;
                let given = words.iter().filter(|word| word.starts_with("--"));
                for option in given.map(|word| word.split('=').next().expect("a name")) {
                    let option = option.trim_end_matches(|c: char| !c.is_alphanumeric());
                    if !options.contains(option) && !commands[""].contains(option) {
                        violations.push(format!("{}:{number}: {name} has no {option}", page.path));
                    }
                }
            }
        }
    }
    assert!(typed > 60, "found only {typed} commands");
    assert_none("commands and options as in docs/CLI.md", &violations);
}

/// The metrics there are, with the names that a histogram has besides its own.
fn metrics() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for line in read("docs/METRICS.md").lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(kind)) = (cells.next(), cells.next()) else { continue };
        let name = name.trim_matches('`');
        if kind == "histogram" {
            all.extend(["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")));
        }
        if ["counter", "gauge", "histogram"].contains(&kind) {
            all.insert(name.to_owned());
        }
    }
    all
}

#[test]
fn metrics_of_the_pages_exist() {
    let is_metric = |word: &str| {
        word.starts_with("peeklock_")
            && word.ends_with(|c: char| c.is_ascii_lowercase())
            && !word.contains(|c: char| c.is_ascii_digit())
    };
    let metrics = metrics();
    assert!(metrics.len() > 10, "{metrics:?}");
    let mut named = 0;
    let mut violations = Vec::new();
    for page in pages() {
        for (number, line) in page.lines() {
            let words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            for word in words.filter(|word| is_metric(word)) {
                named += 1;
                if !metrics.contains(word) {
                    violations.push(format!("{}:{number}: {word}", page.path));
                }
            }
        }
    }
    assert!(named > 60, "found only {named} metrics");
    assert_none("metrics as in docs/METRICS.md", &violations);
}
