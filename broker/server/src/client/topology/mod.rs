//! `peeklock topology`: all entities of a broker as a configuration file, and back.
//!
//! `state` is what there is, or should be: every entity with its properties as people write them.
//! `change` is what leads from one to the other.

mod change;
mod export;
mod state;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use self::change::Plan;
use self::state::State;
use super::Common;
use super::failure::Failure;
use super::management::Management;
use super::output;
use crate::config::{EmulatorOptions, Overrides, load};

/// What can be done with all entities together.
#[derive(Debug, Subcommand)]
pub enum TopologyCommand {
    /// Write all entities as a configuration file of the broker
    Export(ExportArguments),
    /// Create and change entities so that they are as in a file; show what that means, and ask
    Apply(ApplyArguments),
}

/// Writes entities.
#[derive(Args, Debug)]
pub struct ExportArguments {
    /// File to write
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Makes entities be as in a file.
#[derive(Args, Debug)]
pub struct ApplyArguments {
    /// Configuration file of the broker in TOML, or Config.json of the Service Bus emulator
    file: PathBuf,
    /// Delete entities and rules that are not in the file, with all their messages
    #[arg(long)]
    prune: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: &TopologyCommand) -> Result<(), Failure> {
    match command {
        TopologyCommand::Export(arguments) => export(arguments).await,
        TopologyCommand::Apply(arguments) => apply(arguments).await,
    }
}

async fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let state = State::read(&mut Management::new(&server)).await?;
    note_those_of_clients(&state);
    let (text, left_out) = export::toml(&state);
    let to_stdout = arguments.output.as_path() == Path::new("-");
    if to_stdout && arguments.common.json {
        output::print_json(&state.json())?;
    } else if to_stdout {
        output::print(&text)?;
    } else {
        let path = &arguments.output;
        std::fs::write(path, text).map_err(|error| Failure::file(path, error))?;
        let count = state.entities.len();
        if arguments.common.json {
            output::print_json(&json!({ "exported": count }))?;
        } else {
            output::print(&format!("exported {count} entities\n"))?;
        }
    }
    if left_out.is_empty() {
        return Ok(());
    }
    // Whoever keeps the file has to know.
    Err(Failure::Other(format!("no file can say all of these: {}", left_out.join("; "))))
}

async fn apply(arguments: &ApplyArguments) -> Result<(), Failure> {
    let wanted = read(&arguments.file)?;
    let server = arguments.common.connection.server()?;
    let mut management = Management::new(&server);
    let current = State::read(&mut management).await?;
    note_those_of_clients(&current);
    let plan = Plan::new(&current, &wanted, arguments.prune);
    let json = arguments.common.json;
    if !json {
        output::print(&plan.to_string())?;
    }
    let report = |applied: bool| {
        if json {
            output::print_json(&json!({ "changes": plan.json(), "applied": applied }))
        } else {
            Ok(())
        }
    };
    if arguments.dry_run || plan.is_empty() {
        return report(false);
    }
    output::confirm(&format!("Make {} changes?", plan.len()), arguments.yes)?;
    let bar = output::progress(Some(plan.len() as u64), "changed");
    plan.carry_out(&mut management, || bar.inc(1)).await?;
    bar.finish_and_clear();
    if !json {
        output::print(&format!("made {} changes\n", plan.len()))?;
    }
    report(true)
}

/// Says what is neither written nor compared.
fn note_those_of_clients(state: &State) {
    const SHOWN_MAX: usize = 3;
    let shown: Vec<&str> = state.of_clients.iter().map(String::as_str).take(SHOWN_MAX).collect();
    if shown.is_empty() {
        return;
    }
    let more = state.of_clients.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    output::note(&format!(
        "left alone, as clients made it for themselves: {}{more}",
        shown.join(", ")
    ));
}

/// What a file declares. The environment has no part in it.
fn read(file: &Path) -> Result<State, Failure> {
    let is_json = file.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("json"));
    let mut overrides = Overrides::default();
    if is_json {
        let emulator = EmulatorOptions { file: file.to_owned(), limits: false };
        overrides.emulator = Some(emulator);
    } else {
        overrides.config = Some(file.to_owned());
    }
    let settings = load(&overrides, []).map_err(|error| Failure::Argument(error.to_string()))?;
    if !settings.namespaces.is_empty() {
        let names = settings.namespaces.iter().map(|one| one.name.to_string());
        return Err(Failure::Argument(format!(
            "{} is about several namespaces ({} beside the default one), and a broker is asked for one: \
             write the entities that are meant into a file of their own",
            file.display(),
            names.collect::<Vec<_>>().join(", ")
        )));
    }
    for warning in settings.warnings.iter().filter(|_| is_json) {
        output::note(warning);
    }
    Ok(State::declared(&settings))
}
