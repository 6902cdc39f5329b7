//! The rules of this repository that a program can check. Each test reads the tree and lists every
//! place that breaks its rule. What the compiler or clippy can refuse is refused there instead.

mod commands;
mod guides;
mod manifest;
mod operations;
mod tree;

use manifest::Manifest;
use tree::{SourceFile, files, read, root};

/// Files longer than this are split, or stand in [`LONG_FILES`] with the reason.
const LINES_MAX: usize = 800;

/// Files that may be longer, and why. An entry that is no longer needed is an error.
const LONG_FILES: &[(&str, &str)] = &[];

#[track_caller]
fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n  {}", violations.join("\n  "));
}

#[test]
fn files_are_short_or_listed_with_a_reason() {
    let sources = files(&["rs", "py", "mjs", "go", "java"]);
    assert!(sources.len() > 10, "the tree was not found: {} files", sources.len());
    let mut violations = Vec::new();
    for file in &sources {
        let lines = file.text.lines().count();
        let listed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if LINES_MAX < lines && !listed {
            violations.push(format!("{}: {lines} lines", file.path));
        }
        if lines <= LINES_MAX && listed {
            violations.push(format!("{}: listed as long, but has {lines} lines", file.path));
        }
    }
    for (path, _) in LONG_FILES {
        if !sources.iter().any(|file| file.path == *path) {
            violations.push(format!("{path}: listed as long, but does not exist"));
        }
    }
    assert_none("split at 800 lines, or list the file with a reason", &violations);
}

#[test]
fn crates_depend_only_downwards() {
    let arrows: [(&str, &[&str]); 4] = [
        ("protocol", &[]),
        ("storage", &[]),
        ("broker/core", &["peeklock-protocol", "peeklock-storage"]),
        ("broker/server", &["peeklock-core", "peeklock-protocol", "peeklock-storage"]),
    ];
    let mut violations = Vec::new();
    for (folder, allowed) in arrows {
        let manifest = Manifest::read(folder);
        for dependency in manifest.dependencies() {
            // A crate may name itself among its tests' dependencies to switch a feature on.
            if dependency.name.starts_with("peeklock")
                && dependency.name != manifest.package_name()
                && !allowed.contains(&dependency.name.as_str())
            {
                violations.push(format!("{folder} depends on {}", dependency.name));
            }
        }
    }
    assert_none("protocol ◄ core ► storage, below the server, below the tests", &violations);
}

/// What brings an executor, a socket, a clock of its own or randomness into a crate.
const SHELL_ONLY: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "futures",
    "mio",
    "hyper",
    "axum",
    "tracing",
    "rustls",
    "chrono",
];

#[test]
fn the_lower_crates_bring_no_executor() {
    let mut violations = Vec::new();
    for folder in ["protocol", "storage", "broker/core"] {
        for dependency in Manifest::read(folder).dependencies() {
            let name = dependency.name.as_str();
            if SHELL_ONLY.iter().any(|only| name == *only || name.starts_with(&format!("{only}-")))
            {
                violations.push(format!("{folder} depends on {name}"));
            }
        }
    }
    for dependency in Manifest::read("broker/core").dependencies() {
        if dependency.section == "dependencies" && dependency.name.contains("rand") {
            violations.push(format!("broker/core draws from {}", dependency.name));
        }
    }
    assert_none("these crates are synchronous and deterministic", &violations);
}

#[test]
fn the_core_builds_without_rocksdb() {
    let mut violations = Vec::new();
    for dependency in Manifest::read("broker/core").dependencies() {
        if dependency.name == "peeklock-storage" && dependency.value.contains("rocksdb") {
            violations.push("broker/core switches on the feature `rocksdb`".to_owned());
        }
    }
    let workspace = read("Cargo.toml");
    let storage = workspace.lines().find(|line| line.starts_with("peeklock-storage"));
    if !storage.is_some_and(|line| line.contains("default-features = false")) {
        violations.push("the workspace's peeklock-storage has default features".to_owned());
    }
    assert_none("the core uses the plain types of storage only", &violations);
}

/// Data, and the error of reading it. A list in braces after the crate's name hides what is used.
const CORE_MAY_USE: &[&str] = &["message", "value", "codec::DecodeError"];

#[test]
fn the_core_uses_of_the_protocol_only_its_data() {
    let mut uses = 0;
    let mut violations = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.path.starts_with("broker/core/src/")) {
        for (number, line) in file.code_lines() {
            for (at, name) in line.match_indices("peeklock_protocol::") {
                uses += 1;
                let rest = &line[at + name.len()..];
                let data = CORE_MAY_USE.iter().any(|module| rest.starts_with(module));
                if !data {
                    violations.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    assert!(uses > 0, "the core no longer uses the protocol: this test guards nothing");
    assert_none("the core names no frame, channel, link handle or performative", &violations);
}

/// `bench` is a client, which has a clock of its own.
#[test]
fn the_broker_reads_the_time_of_day_in_one_file() {
    let is_broker =
        |path: &str| path.starts_with("broker/server/src/") && !path.contains("/src/bench/");
    let mut reads = 0;
    let mut violations = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| is_broker(&file.path)) {
        for (number, line) in file.code_lines() {
            if line.contains("SystemTime::now") {
                reads += 1;
                if file.path != "broker/server/src/clock.rs" {
                    violations.push(format!("{}:{number}", file.path));
                }
            }
        }
    }
    assert_ne!(reads, 0, "the clock is looked for in the wrong place");
    assert_none("time comes from a `Clock` that is handed down", &violations);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let folders = ["protocol", "storage", "broker/core", "broker/server", "tests"];
    let violations: Vec<String> = folders
        .into_iter()
        .filter(|folder| !Manifest::read(folder).has("lints", "workspace = true"))
        .map(str::to_owned)
        .collect();
    assert_none("`[lints] workspace = true` is missing", &violations);
}

#[test]
fn no_test_is_ignored() {
    let mut tests = 0;
    let mut violations = Vec::new();
    for file in files(&["rs"]) {
        for (number, line) in file.code_lines() {
            let line = line.trim_start();
            tests += usize::from(line.starts_with("#[test]"));
            if line.starts_with("#[ignore") {
                violations.push(format!("{}:{number}", file.path));
            }
        }
    }
    assert!(tests > 10, "found only {tests} tests");
    assert_none("assert today's behaviour instead, and say why it is wrong", &violations);
}

#[test]
fn every_limit_says_why() {
    let mut limits = 0;
    let mut violations = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.path.ends_with("/limits.rs")) {
        let mut documented = false;
        for (number, line) in file.lines() {
            let line = line.trim();
            if line.starts_with("///") {
                documented = true;
            } else if line.starts_with("pub const ") || is_public_field(line) {
                limits += 1;
                if !documented {
                    violations.push(format!("{}:{number}: {line}", file.path));
                }
                documented = false;
            } else if !line.starts_with("#[") {
                documented = false;
            }
        }
    }
    assert!(limits > 0, "found no limits");
    assert_none("a limit without a reason is not finished", &violations);
}

fn is_public_field(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("pub ") else { return false };
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    !name.is_empty() && rest[name.len()..].starts_with(": ")
}

/// Written in two parts, so that this file does not break its own rule.
const MACHINE_PATHS: &[(&str, &str)] =
    &[("/ho", "me/"), ("/Us", "ers/"), ("/ro", "ot/"), ("/wo", "rk/"), ("/opt/", "wheels")];

#[test]
fn nothing_names_a_path_of_one_machine() {
    let kinds = ["rs", "py", "mjs", "go", "java", "toml", "md", "json", "sh", "run", "yml", "yaml"];
    let mut violations = Vec::new();
    for file in files(&kinds) {
        for (number, line) in file.lines() {
            if let Some((a, b)) = MACHINE_PATHS.iter().find(|(a, b)| names_path(line, a, b)) {
                violations.push(format!("{}:{number}: {a}{b}", file.path));
            }
        }
    }
    assert_none("a checkout works wherever it lies", &violations);
}

/// Whether the path begins here, rather than being part of a longer one such as `a/home/b`.
fn names_path(line: &str, first: &str, second: &str) -> bool {
    line.match_indices(&format!("{first}{second}")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/".contains(c))
    })
}

#[test]
fn the_lock_of_the_javascript_clients_names_no_download_address() {
    let lock = read("tests/interop/js/package-lock.json");
    assert!(lock.contains("node_modules/rhea"), "not the lock file that was meant");
    assert!(!lock.contains("\"resolved\""), "see omit-lockfile-registry-resolved in .npmrc");
}

#[test]
fn the_program_in_the_readme_is_the_one_that_is_run() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```python\n").expect("the README has a Python program");
    let (program, _) = rest.split_once("```").expect("the program ends");
    assert_eq!(program, read("tests/interop/python/readme.py"));
}

#[test]
fn the_scripts_are_executable() {
    use std::os::unix::fs::PermissionsExt as _;
    let scripts =
        ["deploy/run", "deploy/deb/build", "tests/run", "tests/deploy/prepare", ".ci/run"];
    for script in scripts {
        let mode = std::fs::metadata(root().join(script)).expect(script).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
    }
}

#[test]
fn comments_are_not_mistaken_for_code() {
    let file = SourceFile::new("a.rs", "//! x\nlet a = 1; // y\n/// z\n");
    assert_eq!(file.code_lines().collect::<Vec<_>>(), [(2, "let a = 1; // y")]);
}
