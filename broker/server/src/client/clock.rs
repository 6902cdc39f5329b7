//! `peeklock clock`: the clock of a broker for tests, read and steered.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Common;
use super::failure::Failure;
use super::http::HttpClient;
use super::output;
use super::properties::duration;

const PATH: &str = "$peeklock/clock";

/// What can be asked of a clock.
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// Show what the clock says
    Show(ClockArguments),
    /// Stop the clock, at a time or where it stands
    Freeze(FreezeArguments),
    /// Move the clock forward, and wait until all is done that this makes due
    Advance(AdvanceArguments),
    /// Let the clock run on from where it stands
    Resume(ClockArguments),
}

/// Nothing of its own.
#[derive(Args, Debug)]
pub struct ClockArguments {
    #[command(flatten)]
    common: Common,
}

/// Stops the clock.
#[derive(Args, Debug)]
pub struct FreezeArguments {
    /// The time to stop it at, such as 2026-01-31T12:00:00Z
    time: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Moves the clock.
#[derive(Args, Debug)]
pub struct AdvanceArguments {
    /// How far, such as 90s or 1h
    #[arg(value_name = "DURATION", value_parser = duration)]
    by: Duration,
    #[command(flatten)]
    common: Common,
}

/// What the broker says of it.
#[derive(Deserialize)]
struct Shown {
    time: String,
    state: String,
}

pub(super) async fn run(command: &ClockCommand) -> Result<(), Failure> {
    let (common, step) = match command {
        ClockCommand::Show(arguments) => (&arguments.common, None),
        ClockCommand::Freeze(arguments) => {
            let mut step = json!({"operation": "freeze"});
            if let Some(time) = &arguments.time {
                step["time"] = json!(time);
            }
            (&arguments.common, Some(step))
        }
        ClockCommand::Advance(arguments) => {
            let milliseconds = u64::try_from(arguments.by.as_millis()).unwrap_or(u64::MAX);
            let step = json!({"operation": "advance", "milliseconds": milliseconds});
            (&arguments.common, Some(step))
        }
        ClockCommand::Resume(arguments) => {
            (&arguments.common, Some(json!({"operation": "resume"})))
        }
    };
    let shown = ask(common, step).await?;
    if common.json {
        return output::print_json(&shown);
    }
    let wrong = |_| Failure::Other("the answer is not that of a clock".to_owned());
    let Shown { time, state } = serde_json::from_value(shown).map_err(wrong)?;
    output::print(&format!("{time} {state}\n"))
}

async fn ask(common: &Common, step: Option<Value>) -> Result<Value, Failure> {
    let server = common.connection.server()?;
    let method = if step.is_some() { Method::POST } else { Method::GET };
    HttpClient::new(&server).control(method, PATH, step).await
}
