//! `peeklock check`: of stores that brokers have left, and that were damaged afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use peeklock_tests::TestBroker;
use serde_json::Value;

use crate::backup::offline;

const CLEAN: Option<i32> = Some(0);
const DAMAGED: Option<i32> = Some(9);

/// The data directory of a broker that had messages, and was stopped or killed.
fn left(dir: &Path, is_killed: bool) -> PathBuf {
    let setup = || {
        TestBroker::with()
            .queue("q", "")
            .queue("other", "")
            .config("[storage]\nfree_space_reserve = 0")
            .durable()
    };
    let mut broker = setup().start_at(dir);
    let bodies: Vec<String> = (0..500).map(|number| format!("{number:0>3000}")).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    broker.peer().send_texts("q", &bodies);
    let data = dir.join("data");
    let in_use = check(&data);
    assert_eq!(in_use.status.code(), Some(1), "{in_use:?}");
    if is_killed {
        broker.kill();
    } else {
        assert!(broker.stop().success());
    }
    data
}

fn check(data: &Path) -> Output {
    offline(&["check".as_ref(), data, "--json".as_ref()])
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The largest file with an extension.
fn largest(data: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(data).expect("the data").map(|entry| entry.expect("a file").path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.max_by_key(|path| fs::metadata(path).map_or(0, |data| data.len())).expect("a file")
}

fn flip(path: &Path, place: usize) {
    let mut octets = fs::read(path).expect("the file");
    octets[place] ^= 0x40;
    fs::write(path, octets).expect("the file");
}

/// What is changed in a folder, and when it was.
fn traces(data: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let files = fs::read_dir(data).expect("the data").map(|entry| entry.expect("a file").path());
    let mut all: Vec<_> = files
        .map(|path| {
            let facts = fs::metadata(&path).expect("a file");
            (path, facts.len(), facts.modified().expect("a time"))
        })
        .collect();
    all.sort();
    all
}

/// A whole store has nothing to repair, and a damaged one is left alone, whatever is said.
#[test]
fn a_repair_touches_neither_what_is_whole_nor_what_is_damaged() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = left(dir.path(), false);
    let repair = || offline(&["repair".as_ref(), &data, "--yes".as_ref()]);
    let before = traces(&data);
    let whole = repair();
    assert_eq!(whole.status.code(), CLEAN, "{whole:?}");
    assert_eq!(traces(&data), before);
    let table = largest(&data, "sst");
    let half = fs::read(&table).expect("the file").len() / 2;
    flip(&table, half);
    let before = traces(&data);
    let damaged = repair();
    assert_eq!(damaged.status.code(), DAMAGED, "{damaged:?}");
    let said = String::from_utf8_lossy(&damaged.stderr);
    assert!(said.contains("nothing of it was changed"), "{said}");
    assert_eq!(traces(&data), before);
}

#[test]
fn what_a_broker_leaves_is_clean() {
    for is_killed in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let data = left(dir.path(), is_killed);
        let checked = check(&data);
        assert_eq!(checked.status.code(), CLEAN, "{checked:?}");
        let report = json(&checked);
        assert_eq!(report["verdict"], "clean");
        assert_eq!(report["stores"][0]["messages"], 500);
    }
}

/// The log of a killed broker, damaged in its middle.
#[test]
fn a_damaged_log_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = left(dir.path(), true);
    let log = largest(&data, "log");
    let len = usize::try_from(fs::metadata(&log).expect("the log").len()).expect("a size");
    flip(&log, len / 2);
    let before = fs::read(&log).expect("the log");
    let checked = check(&data);
    assert_eq!(checked.status.code(), DAMAGED, "{checked:?}");
    let report = json(&checked);
    assert_eq!(report["stores"][0]["findings"][0]["problem"], "damaged_log", "{report}");
    assert_eq!(fs::read(&log).expect("the log"), before, "looking changes nothing");
}

#[test]
fn a_damaged_table_file_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = left(dir.path(), false);
    let table = largest(&data, "sst");
    flip(&table, 100_000);
    let checked = check(&data);
    assert_eq!(checked.status.code(), DAMAGED, "{checked:?}");
    let report = json(&checked);
    assert_eq!(report["stores"][0]["findings"][0]["problem"], "unreadable_table", "{report}");
    let text = offline(&["check".as_ref(), &data]);
    assert!(String::from_utf8_lossy(&text.stdout).starts_with("default: damaged"), "{text:?}");
}

#[test]
fn where_there_is_no_store_nothing_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let checked = check(dir.path());
    assert_eq!(checked.status.code(), DAMAGED, "{checked:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
}
