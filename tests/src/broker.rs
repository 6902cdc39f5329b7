//! The broker as a child process: the binary as it ships, on a free port, in a fresh folder.
//!
//! It dies with the value that stands for it. What it logs is kept and shown when a test fails.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::peer::Peer;

/// How long a start may take on a machine that is busy with the other tests.
const START_WITHIN: Duration = Duration::from_mins(1);

/// How long a graceful stop may take: the broker itself gives its peers five seconds.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The rule and the key that `--dev` brings.
pub const DEV_RULE: &str = "RootManageSharedAccessKey";
/// See [`DEV_RULE`].
pub const DEV_KEY: &str = "SAS_KEY_VALUE";

/// How a broker is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    config: String,
    arguments: Vec<OsString>,
    ephemeral: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let ephemeral = std::env::var_os("PEEKLOCK_TEST_ON_DISK").is_none();
        Self { config: String::new(), arguments: Vec::new(), ephemeral }
    }
}

impl Setup {
    /// Adds lines to the configuration file. The tests of the wire need no disk, so messages are
    /// kept in memory unless [`Setup::durable`] is called or `PEEKLOCK_TEST_ON_DISK` is set.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Declares a queue with settings, one `key = value` a line.
    #[must_use]
    pub fn queue(self, name: &str, settings: &str) -> Self {
        self.config(&format!("[[queue]]\nname = \"{name}\"\n{settings}\n"))
    }

    /// Declares a rule; `rights` as in `["Send"]`.
    #[must_use]
    pub fn rule(self, name: &str, key: &str, rights: &str) -> Self {
        self.config(&format!(
            "[[rule]]\nname = \"{name}\"\nprimary_key = \"{key}\"\nrights = {rights}\n"
        ))
    }

    /// Makes the clock one that [`TestBroker::clock`] steers.
    #[must_use]
    pub fn virtual_time(self) -> Self {
        self.argument("--virtual-time")
    }

    /// Lets namespaces be made and dropped.
    #[must_use]
    pub fn test_control(self) -> Self {
        self.argument("--test-control")
    }

    /// Keeps messages on disk.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.ephemeral = false;
        self
    }

    /// Adds an argument to `peeklock serve`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> TestBroker {
        let dir = tempfile::tempdir().expect("a folder for the broker");
        self.start_in(Folder::Own(dir))
    }

    /// Starts it with its data below a folder of the caller's.
    #[track_caller]
    pub fn start_at(self, dir: &Path) -> TestBroker {
        self.start_in(Folder::Given(dir.to_owned()))
    }

    #[track_caller]
    fn start_in(self, dir: Folder) -> TestBroker {
        let config = dir.path().join("peeklock.toml");
        let text = format!("{}\n[log]\nlevel = \"info\"\nformat = \"json\"\n", self.config);
        std::fs::write(&config, text).expect("the configuration can be written");
        let log = Log::default();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, address) = self
            .launch(dir.path(), any_port, &log)
            .unwrap_or_else(|error| panic!("{error}\n{}", log.text()));
        TestBroker { setup: self, child: Some(child), address, dir, log }
    }

    fn command(&self, dir: &Path, listen: SocketAddr) -> Command {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(dir.join("peeklock.toml"));
        command.arg("--dev").arg("--listen").arg(listen.to_string());
        if self.ephemeral {
            command.arg("--ephemeral");
        } else {
            command.arg("--data").arg(dir.join("data"));
        }
        command.args(&self.arguments);
        // The broker takes its configuration from such variables too; ours are not for it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PEEKLOCK_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn launch(
        &self,
        dir: &Path,
        listen: SocketAddr,
        log: &Log,
    ) -> Result<(Child, SocketAddr), String> {
        let mut child = self
            .command(dir, listen)
            .spawn()
            .map_err(|error| format!("the broker cannot be started: {error}"))?;
        log.collect(child.stderr.take().expect("stderr is a pipe"));
        let (said, ready) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line.starts_with("peeklock") && line.contains("ready") {
                    // Nobody listens any more after a time-out.
                    let _ = said.send(line);
                }
            }
        });
        match ready.recv_timeout(START_WITHIN) {
            Ok(line) => {
                let address = line
                    .split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '=' | '[' | ']'))
                    .find_map(|word| word.trim_start_matches("amqp://").parse().ok())
                    .ok_or_else(|| format!("no address in the ready line {line:?}"))?;
                Ok((child, address))
            }
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child);
                Err(format!("the broker was not ready within {START_WITHIN:?}"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|error| error.to_string())?;
                log.settle();
                Err(format!("the broker ended with {status} before it was ready"))
            }
        }
    }

    /// Runs it to its end: for what refuses to start.
    #[track_caller]
    pub fn run_to_end(&self, dir: &Path) -> Output {
        let (output, ended) = self.run(dir, START_WITHIN);
        assert!(ended, "the broker runs although it should refuse to start");
        output
    }

    /// Runs it for some time and kills it: for what is never ready.
    #[track_caller]
    pub fn run_for(&self, dir: &Path, time: Duration) -> Output {
        let (output, ended) = self.run(dir, time);
        assert!(!ended, "the broker ended by itself: {output:?}");
        output
    }

    #[track_caller]
    fn run(&self, dir: &Path, time: Duration) -> (Output, bool) {
        std::fs::write(dir.join("peeklock.toml"), &self.config).expect("a configuration file");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut child = self.command(dir, any_port).spawn().expect("the broker can be started");
        let deadline = Instant::now() + time;
        let mut ended = false;
        while !ended && Instant::now() < deadline {
            ended = child.try_wait().expect("a child of ours").is_some();
            thread::sleep(Duration::from_millis(5));
        }
        if !ended {
            child.kill().expect("a child of ours");
        }
        (child.wait_with_output().expect("the output of the broker"), ended)
    }
}

#[derive(Debug)]
enum Folder {
    Own(TempDir),
    Given(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

/// A running broker.
#[derive(Debug)]
pub struct TestBroker {
    setup: Setup,
    child: Option<Child>,
    address: SocketAddr,
    dir: Folder,
    log: Log,
}

impl TestBroker {
    /// A broker with one queue, `q`, with default settings.
    #[track_caller]
    pub fn start() -> Self {
        Setup::default().queue("q", "").start()
    }

    /// For a broker with other settings.
    pub fn with() -> Setup {
        Setup::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// The folder with its configuration file and, below `data`, its store.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A connection on which nothing was said yet.
    #[track_caller]
    pub fn connect(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// A connection with all rights, opened, with a session on channel 0.
    #[track_caller]
    pub fn peer(&self) -> Peer {
        self.connect().plain(DEV_RULE, DEV_KEY).open().begin()
    }

    /// A connection without rights: `$cbs` has to grant them.
    #[track_caller]
    pub fn anonymous_peer(&self) -> Peer {
        self.connect().anonymous().open().begin()
    }

    /// SIGKILL: nothing is said, nothing is written.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    /// Asks it to stop and leaves it to that.
    pub fn ask_to_stop(&self) {
        let id = self.process_id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("kill can be run");
        assert!(status.success(), "SIGTERM could not be sent");
    }

    /// Stops it in good order and gives its exit status.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait()
    }

    /// Waits for the end of a broker that was asked to stop.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the broker runs");
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                return status;
            }
            if deadline < Instant::now() {
                end(&mut child);
                panic!("the broker did not stop within {STOP_WITHIN:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again with the same folder at the same port. Kills it first if it still runs.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let (child, address) = self
            .setup
            .launch(self.dir.path(), self.address, &self.log)
            .unwrap_or_else(|error| panic!("{error}"));
        self.child = Some(child);
        self.address = address;
    }

    /// Resident memory now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever was.
    pub fn resident_bytes_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, kind: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process_id());
        let status = std::fs::read_to_string(path).expect("the broker's status");
        let line = status.lines().find(|line| line.starts_with(kind)).expect(kind);
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    /// Processor time spent so far, in user space and in the kernel.
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.process_id());
        let stat = std::fs::read_to_string(path).expect("the broker's times");
        // The name in parentheses may hold blanks; the times are fields 14 and 15, the state is 3.
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        // Linux shows a hundred ticks a second to user space on every machine.
        let ticks: u64 = ticks.map(|ticks| ticks.expect("a number of ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// All that was logged.
    pub fn log_text(&self) -> String {
        self.log.text()
    }

    /// A peer's doing is no concern of the operator: nobody should look at the log because of it.
    #[track_caller]
    pub fn assert_nothing_above_info_was_logged(&self) {
        let loud = self.loud_lines();
        assert!(loud.is_empty(), "logged above info: {loud:#?}");
    }

    fn loud_lines(&self) -> Vec<String> {
        let is_loud = |line: &String| {
            ["\"level\":\"WARN\"", "\"level\":\"ERROR\"", "panicked at"]
                .iter()
                .any(|mark| line.contains(mark))
                // What these options warn of was wanted.
                && !line.contains("--dev")
                && !line.contains("in memory only")
                && !line.contains("virtual time is on")
                && !line.contains("test control is on")
                && !line.contains("development")
        };
        self.log.lines().into_iter().filter(is_loud).collect()
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let lines = self.log.lines();
            let tail = lines.len().saturating_sub(40);
            for line in lines.iter().skip(tail) {
                show(&format!("broker: {line}"));
            }
        }
    }
}

/// Writes a line for whoever reads the output of a test.
#[expect(clippy::print_stderr, reason = "the test harness captures it and shows it with failures")]
pub fn show(line: &str) {
    eprintln!("{line}");
}

fn end(child: &mut Child) {
    // Both fail only when the process is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    readers: Arc<Mutex<Vec<thread::JoinHandle<()>>>>,
}

impl Log {
    fn collect(&self, from: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    /// Waits until all that an ended process wrote has been read.
    fn settle(&self) {
        let readers: Vec<_> =
            self.readers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for reader in readers {
            // A reader that panicked has nothing more to say.
            let _ = reader.join();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn text(&self) -> String {
        self.lines().join("\n")
    }
}

/// The broker's binary: `PEEKLOCK_BIN`, or the newest one built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PEEKLOCK_BIN") {
        return PathBuf::from(path);
    }
    let exe = std::env::current_exe().expect("the path of this test");
    let built = exe
        .ancestors()
        .skip(1)
        .take(3)
        .flat_map(|dir| [dir.join("peeklock"), dir.join("release").join("peeklock")]);
    let told = std::env::var_os("CARGO_TARGET_DIR")
        .map(|dir| Path::new(&dir).join("release").join("peeklock"));
    built.chain(told).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "these tests run the broker's binary, and there is none: build it with \
             `cargo build --release -p peeklock` or name one in PEEKLOCK_BIN"
        )
    })
}
