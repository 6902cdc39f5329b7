//! The guides say what is so: the programs they show are the ones that are run.

use crate::assert_none;
use crate::tree::{files, read, root};

/// A line of a guide that says: what follows in a fence is this file.
fn quoted(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix('[')?.split_once("](moving/")?;
    rest.strip_suffix("):")
}

#[test]
fn programs_in_the_guides_are_the_ones_that_are_run() {
    let mut quotes = 0;
    let mut violations = Vec::new();
    for guide in files(&["md"]).iter().filter(|file| file.path.starts_with("docs/")) {
        let mut rest = guide.text.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            rest = after;
            let Some(name) = quoted(line) else { continue };
            quotes += 1;
            let program = after
                .trim_start()
                .strip_prefix("```")
                .and_then(|fence| fence.split_once('\n'))
                .and_then(|(_, text)| text.split_once("```"));
            if program.map(|(text, _)| text) != Some(&read(&format!("docs/moving/{name}"))) {
                violations.push(format!("{}: not what {name} has", guide.path));
            }
        }
    }
    assert!(quotes > 2, "found only {quotes} programs in the guides");
    assert_none("a guide shows the file as it is", &violations);
}

/// What talks to another broker only, which the tests do not have.
const FOR_OTHERS: &[&str] = &["rabbitmq_before.py"];

#[test]
fn every_program_of_the_guides_is_run_and_mentioned() {
    let runner = read("tests/interop/python/guides.py");
    let guides: String = files(&["md"])
        .iter()
        .filter(|file| file.path.starts_with("docs/MOVING"))
        .map(|file| file.text.as_str())
        .collect();
    let mut programs = 0;
    let mut violations = Vec::new();
    let folder = std::fs::read_dir(root().join("docs/moving")).expect("the programs are there");
    for entry in folder {
        let name = entry.expect("an entry can be read").file_name();
        let name = name.to_string_lossy();
        if name.starts_with("__") {
            continue;
        }
        programs += 1;
        let stem = name.split('.').next().expect("a name has a beginning");
        if !FOR_OTHERS.contains(&name.as_ref()) && !runner.contains(stem) {
            violations.push(format!("{name} is not run by tests/interop/python/guides.py"));
        }
        if !guides.contains(&format!("(moving/{name})")) {
            violations.push(format!("{name} is in no guide"));
        }
    }
    assert!(programs > 5, "found only {programs} programs");
    assert_none("a program that nobody runs is wrong before long", &violations);
}

#[test]
fn links_of_the_guides_lead_somewhere() {
    let mut links = 0;
    let mut violations = Vec::new();
    for guide in files(&["md"]) {
        let folder = guide.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in guide.lines() {
            for part in line.split("](").skip(1) {
                let Some((target, _)) = part.split_once(')') else { continue };
                let (path, section) = target.split_once('#').unwrap_or((target, ""));
                if path.contains("://") || path.contains(' ') {
                    continue;
                }
                links += 1;
                let file = if path.is_empty() {
                    root().join(&guide.path)
                } else {
                    root().join(folder).join(path)
                };
                let found = file.exists()
                    && (section.is_empty()
                        || file.is_file()
                            && std::fs::read_to_string(&file).is_ok_and(|text| {
                                text.lines().any(|line| anchor(line) == section)
                            }));
                if !found {
                    violations.push(format!("{}:{number}: {target}", guide.path));
                }
            }
        }
    }
    assert!(links > 30, "found only {links} links");
    assert_none("a link leads to a file of the repository and to a heading in it", &violations);
}

/// The name that a heading has in a link, or nothing for other lines.
fn anchor(line: &str) -> String {
    let Some((_, heading)) = line
        .split_once(' ')
        .filter(|(marks, _)| !marks.is_empty() && marks.chars().all(|mark| mark == '#'))
    else {
        return String::new();
    };
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
