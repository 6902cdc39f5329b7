//! Logging, and the one line on standard output that says the broker is ready.
//!
//! Logs go to standard error, for people or as JSON. Standard output carries nothing but the ready
//! line, so that a script can wait for it.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{EMULATOR_READY, LogFormat, LogSettings};

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

/// Sets up the log of this process. Called once, first thing after the settings are known.
pub fn start(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match settings.format {
        LogFormat::Human => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
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
