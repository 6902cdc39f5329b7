//! Logging, and the one line on standard output that says the broker is ready.
//!
//! Logs go to standard error, for people or as JSON. Standard output carries nothing but the ready
//! line, so that a script can wait for it.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{EMULATOR_READY, LogFormat, LogSettings};

/// Characters of a level: some dozens of directives.
const LEVEL_LEN_MAX: usize = 1024;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is none.
    #[error("the level of the log is wrong: {0}")]
    Level(#[from] ParseError),
    /// Somebody set up logging before.
    #[error("the log is set up twice: {0}")]
    Twice(#[from] TryInitError),
}

/// Why the level of the log stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// It is none.
    #[error(
        "it is no level (error, warn, info, debug, trace) nor a list of directives as \
         \"info,peeklock::net=debug\""
    )]
    Wrong,
    /// There is no log.
    #[error("there is no log in this process")]
    NoLog,
}

/// What is logged, which can be changed while the broker runs. Clones share it.
#[derive(Clone, Debug)]
pub struct LogLevel {
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    now: Arc<Mutex<String>>,
}

impl LogLevel {
    /// Of a process that logs nothing.
    #[cfg(test)]
    pub(crate) fn of_no_log() -> Self {
        Self { filter: None, now: Arc::default() }
    }

    /// The directives that are in force.
    pub fn now(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes others from now on, and gives those that were in force.
    pub fn set(&self, level: &str) -> Result<String, LevelError> {
        if level.trim().is_empty() || LEVEL_LEN_MAX < level.len() {
            return Err(LevelError::Wrong);
        }
        let filter = EnvFilter::try_new(level).map_err(|_| LevelError::Wrong)?;
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = self.filter.as_ref().ok_or(LevelError::NoLog)?;
        handle.reload(filter).map_err(|_| LevelError::NoLog)?;
        Ok(std::mem::replace(&mut *now, level.to_owned()))
    }
}

/// Sets up the log of this process. Called once, first thing after the settings are known.
pub fn start(settings: &LogSettings) -> Result<LogLevel, TelemetryError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&settings.level)?);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let filtered = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Human => filtered.with(lines).try_init()?,
        LogFormat::Json => filtered.with(lines.json().flatten_event(true)).try_init()?,
    }
    let now = Arc::new(Mutex::new(settings.level.clone()));
    Ok(LogLevel { filter: Some(handle), now })
}

/// Says on standard output where the broker now takes messages. A closed output is no reason to
/// stop: nobody waits there.
///
/// In the place of the emulator it says so in the words that test tools wait for, too.
pub fn print_ready(addresses: &[String], is_emulator: bool) {
    let mut out = io::stdout().lock();
    let written = write_ready(&mut out, addresses, is_emulator);
    if let Err(error) = written {
        tracing::warn!(%error, "the ready line could not be written");
    }
}

fn write_ready(out: &mut impl Write, addresses: &[String], is_emulator: bool) -> io::Result<()> {
    writeln!(out, "peeklock is ready on {}", addresses.join(", "))?;
    if is_emulator {
        writeln!(out, "{EMULATOR_READY}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_addresses() {
        let addresses = ["127.0.0.1:5672".to_owned(), "[::1]:5672".to_owned()];
        let written = |is_emulator| {
            let mut out = Vec::new();
            write_ready(&mut out, &addresses, is_emulator).unwrap();
            String::from_utf8(out).unwrap()
        };
        let ready = "peeklock is ready on 127.0.0.1:5672, [::1]:5672\n";
        assert_eq!(written(false), ready);
        assert_eq!(written(true), format!("{ready}Emulator Service is Successfully Up!\n"));
    }
}
