//! `peeklock check`: a data directory that no broker has.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output;
use crate::check::{Report, Verdict, look};

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

fn show(report: &Report, json: bool) -> Result<(), Failure> {
    if json { output::print_json(report) } else { output::print(&report.text()) }
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let text = format!("the store is {}", report.verdict.name());
    match report.verdict {
        Verdict::Clean => Ok(()),
        Verdict::Repairable => Err(Failure::Repairable(text)),
        Verdict::Damaged => Err(Failure::Damaged(text)),
    }
}
