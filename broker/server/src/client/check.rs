//! `peeklock check` and `peeklock repair`: a data directory that no broker has.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::backup::BackupError;
use crate::check::{Report, Verdict, look, repair};

/// Looks.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// The data directory, or the folder `data` of a backup
    data_dir: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn checked(arguments: &CheckArguments) -> Result<(), Failure> {
    let report = look(&arguments.data_dir).map_err(|error| Failure::Other(error.to_string()))?;
    show(&report, arguments.json)?;
    verdict(&report)
}

/// Repairs.
#[derive(Args, Debug)]
pub struct RepairArguments {
    /// The data directory
    data_dir: PathBuf,
    /// Change it; without this it is only told what is wrong
    #[arg(long)]
    yes: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn repaired(arguments: &RepairArguments) -> Result<(), Failure> {
    let RepairArguments { data_dir, yes, json } = arguments;
    let other = |error: BackupError| Failure::Other(error.to_string());
    let report = look(data_dir).map_err(other)?;
    show(&report, *json)?;
    match report.verdict {
        Verdict::Damaged => {
            let text = "the store is damaged, and nothing of it was changed: restore a backup, or start \
                        the broker with --accept-data-loss if it is the log that is damaged";
            return Err(Failure::Damaged(text.to_owned()));
        }
        Verdict::Repairable if !yes => {
            let text = "the store can be repaired, and was not changed: say --yes";
            return Err(Failure::Repairable(text.to_owned()));
        }
        Verdict::Clean | Verdict::Repairable => {}
    }
    let (report, copy) = repair(data_dir).map_err(other)?;
    if let Some(copy) = copy {
        show(&report, *json)?;
        if !json {
            output::print(&format!("as it was before: {}\n", copy.display()))?;
        }
    }
    verdict(&report)
}

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json { output::print_json(report) } else { output::print(&report.text()) }
}

/// What the exit code says of a report.
pub(super) fn verdict(report: &Report) -> Result<(), Failure> {
    let text = format!("the store is {}", report.verdict.name());
    match report.verdict {
        Verdict::Clean => Ok(()),
        Verdict::Repairable => Err(Failure::Repairable(text)),
        Verdict::Damaged => Err(Failure::Damaged(text)),
    }
}
