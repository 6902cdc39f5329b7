//! The load generator: measures this broker or any other that speaks AMQP 1.0.
//!
//! It drives the protocol engine's client role, one task a connection (`client`, with `sender` and
//! `receiver` on top). `run` moves all of them through the phases of a run, `statistics` counts,
//! `report` says what came out and whether the counts add up. It touches nothing of the broker in
//! this crate: a figure is only worth something when it was measured from outside.

mod arguments;
mod client;
mod failure;
mod idle;
mod link;
mod message;
mod process;
mod progress;
mod receiver;
mod report;
mod run;
mod schedule;
mod sender;
mod shared;
mod slow;
mod stamp;
mod statistics;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::process::ExitCode;

use self::arguments::Plan;
pub use self::arguments::{Arguments, Mode, SettleMode};
use self::failure::Failure;
use self::report::Report;

/// The run took place, but something in it failed or does not add up.
const UNSOUND: u8 = 1;
/// The run could not take place: the arguments, the broker's address, or its process.
const NOT_RUN: u8 = 2;

/// Runs the load generator and prints what it found. It makes its own runtime: call it outside one.
pub fn run(arguments: &Arguments) -> ExitCode {
    let done = Plan::new(arguments).and_then(|plan| {
        let json = plan.json;
        let report = run_to_end(plan)?;
        print(&report, json)?;
        Ok(report)
    });
    match done {
        Ok(report) if report.is_sound() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(UNSOUND),
        Err(failure) => {
            // Nowhere is left to complain to when standard error is gone.
            let _ = writeln!(io::stderr(), "peeklock bench: {failure}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn run_to_end(plan: Plan) -> Result<Report, Failure> {
    let mut builder = if plan.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(plan.threads);
        builder
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(run::run(plan))
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(out.flush()?)
}
