//! `peeklock restore`: all of a backup as a data directory, or one entity of it into one that is there.

use std::path::{Path, PathBuf};

use clap::Args;
use peeklock_core::entity::path::{Address, EntityPath};
use peeklock_core::error::Error;
use peeklock_core::transplant::TransplantError;

use super::failure::Failure;
use super::{check, output};
use crate::backup::BackupError;
use crate::backup::entity::{Order, Restored, RestoredPart, restore_entity};
use crate::backup::manifest::Summary;
use crate::backup::restore::restore;
use crate::namespaces::NamespaceName;

/// Makes a data directory, or puts an entity into one.
#[derive(Args, Debug)]
pub struct RestoreArguments {
    /// The folder of the backup
    backup: PathBuf,
    /// Where the broker is to have its messages: a folder that is empty or not there
    #[arg(long, value_name = "DIR", required_unless_present = "entity", conflicts_with = "entity")]
    data_dir: Option<PathBuf>,
    /// Restore only this queue, or this topic with its subscriptions, as it was: with --into
    #[arg(long, value_name = "NAME", requires = "into")]
    entity: Option<String>,
    /// The data directory that the entity goes into, of a broker that does not run
    #[arg(long, value_name = "DIR", requires = "entity")]
    into: Option<PathBuf>,
    /// What the entity is to be called there [default: as it was]
    #[arg(long = "as", value_name = "NAME", requires = "entity")]
    name: Option<String>,
    /// The namespace of the entity, in the backup and there [default: the default one]
    #[arg(long, value_name = "NAME", requires = "entity")]
    namespace: Option<NamespaceName>,
    /// Do not read through all of the namespace afterwards, as `peeklock check` does
    #[arg(long, requires = "entity")]
    no_check: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Needs no broker.
pub(super) fn restored(arguments: &RestoreArguments) -> Result<(), Failure> {
    match arguments {
        RestoreArguments { entity: Some(entity), into: Some(into), .. } => {
            one(arguments, entity, into)
        }
        RestoreArguments { data_dir: Some(data_dir), .. } => all(arguments, data_dir),
        _ => Err(Failure::Argument("say where to: --data-dir or --into".to_owned())),
    }
}

fn all(arguments: &RestoreArguments, data_dir: &Path) -> Result<(), Failure> {
    let summary = restore(&arguments.backup, data_dir).map_err(|error| failure(&error))?;
    if arguments.json {
        return output::print_json(&summary);
    }
    let Summary { name, created, bytes, .. } = summary;
    let dir = data_dir.display();
    output::print(&format!("{dir}: {bytes} octets of {name}, as of {created}\n"))
}

fn one(arguments: &RestoreArguments, entity: &str, into: &Path) -> Result<(), Failure> {
    let order = Order {
        backup: arguments.backup.clone(),
        data_dir: into.to_owned(),
        namespace: arguments.namespace.as_ref().map_or_else(String::new, ToString::to_string),
        entity: path(entity)?,
        name: arguments.name.as_deref().map(path).transpose()?,
        check: !arguments.no_check,
    };
    let restored = restore_entity(&order).map_err(|error| failure(&error))?;
    if arguments.json {
        output::print_json(&restored)?;
    } else {
        show(&restored, into)?;
    }
    restored.check.as_ref().map_or(Ok(()), check::verdict)
}

fn path(name: &str) -> Result<EntityPath, Failure> {
    match EntityPath::parse(name) {
        Ok(Address { path, management: false }) => Ok(path),
        Ok(_) => Err(Failure::Argument(format!("{name}: that is no entity"))),
        Err(error) => Err(Failure::Argument(format!("{name}: {error}"))),
    }
}

fn show(restored: &Restored, into: &Path) -> Result<(), Failure> {
    let headings = ["NAME", "ACTIVE", "DEFERRED", "DEAD", "SCHEDULED", "TRANSFER-DEAD", "OCTETS"];
    let row = |RestoredPart { name, counts, bytes, .. }: &RestoredPart| {
        let numbers = [
            counts.active,
            counts.deferred,
            counts.dead_letter,
            counts.scheduled,
            counts.transfer_dead_letter,
            *bytes,
        ];
        std::iter::once(name.clone()).chain(numbers.iter().map(ToString::to_string)).collect()
    };
    let rows: Vec<Vec<String>> = restored.entities.iter().map(row).collect();
    output::print(&format!("{}, as of {}:\n", into.display(), restored.created))?;
    output::print(&output::table(&headings, &rows))?;
    for RestoredPart { name, missing_targets, .. } in &restored.entities {
        for target in missing_targets {
            output::note(&format!("{name} passes messages on to {target}, which is not there"));
        }
    }
    restored.check.as_ref().map_or(Ok(()), |report| output::print(&report.text()))
}

fn failure(error: &BackupError) -> Failure {
    let text = error.to_string();
    match error {
        BackupError::Entity(TransplantError::Refused(Error::EntityNotFound(_))) => {
            Failure::NotFound(text).with("in the backup")
        }
        BackupError::Entity(TransplantError::Refused(_)) => Failure::Refused(text),
        BackupError::Entity(TransplantError::Name(..)) => Failure::Argument(text),
        BackupError::Entity(_)
        | BackupError::File { .. }
        | BackupError::Store(_)
        | BackupError::Other(_) => Failure::Other(text),
    }
}
