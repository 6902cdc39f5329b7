//! The command line for people: the binary against the binary, over real sockets. What it prints,
//! what its exit code says, and what it leaves alone.

mod bench;
mod clock;
mod damaged;
mod dead_letters;
mod entities;
mod life;
mod messages;
mod pipes;
mod reaching;
mod topology;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use peeklock_tests::TestBroker;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE, binary};
use serde_json::Value;

/// The exit codes that programs rely on.
pub(crate) mod exit {
    pub(crate) const FAILED: i32 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NOT_FOUND: i32 = 5;
    pub(crate) const REFUSED: i32 = 6;
    pub(crate) const UNREACHABLE: i32 = 7;
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Calls the command line with the environment's connection string set to a broker.
pub(crate) trait CommandLine {
    fn command(&self, arguments: &[&str]) -> Command;

    /// Runs to its end, whatever that is.
    fn call(&self, arguments: &[&str]) -> Done {
        self.call_with(arguments, "")
    }

    /// The same with something to read.
    fn call_with(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self.command(arguments).spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        // It may have ended without reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("a child of ours");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let code = output.status.code().expect("not killed");
        Done { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// The output of a command that has to work.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let done = self.call(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done.out
    }

    /// The one JSON value that a command prints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let out = self.ok(&arguments);
        assert_eq!(out.lines().count(), 1, "one line: {out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// JSON, an object a line.
    #[track_caller]
    fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let out = self.ok(&arguments);
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A command that fails with this code, and one line that has this part.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, part: &str) {
        let done = self.call(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        assert_eq!(done.err.lines().count(), 1, "one line: {}", done.err);
        assert!(done.err.starts_with("peeklock: ") && done.err.contains(part), "{}", done.err);
        assert_eq!(done.out, "", "nothing on standard output");
    }

    /// How many messages an entity has: ready, and dead.
    #[track_caller]
    fn counts(&self, show: &[&str]) -> (u64, u64) {
        let shown = self.json(show);
        let count = |key: &str| shown["counts"][key].as_u64().expect("a count");
        (count("active"), count("dead_letter"))
    }

    /// Sends messages and lets each run out of attempts.
    #[track_caller]
    fn make_dead(&self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            let number = format!("n:int={}", body.trim_start_matches(char::is_alphabetic));
            self.ok(&["send", queue, body, "--message-id", body, "-p", &number]);
        }
        let out = self.ok(&["receive", queue, "--all", "--leave", "--wait", "500ms", "--body"]);
        assert_eq!(out, bodies.concat());
    }
}

impl CommandLine for TestBroker {
    fn command(&self, arguments: &[&str]) -> Command {
        let string = format!(
            "Endpoint=sb://{};SharedAccessKeyName={DEV_RULE};SharedAccessKey={DEV_KEY};\
             UseDevelopmentEmulator=true",
            self.address()
        );
        let mut command = bare(arguments);
        command.env("PEEKLOCK_CONNECTION_STRING", string);
        command
    }
}

/// Looks until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < give_up_at, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The binary without an environment of ours.
pub(crate) fn bare<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PEEKLOCK_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
