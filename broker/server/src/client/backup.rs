//! `peeklock backup`: backups by a running broker, and whether they are what they should be.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::Deserialize;
use serde_json::Value;

use super::Common;
use super::failure::Failure;
use super::http::HttpClient;
use super::output;
use crate::backup::manifest::Summary;
use crate::backup::verify::verify;

const PATH: &str = "$peeklock/backup";

/// How often a broker is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Let the broker make a backup below the directory of its configuration, and wait for it
    Create(BrokerArguments),
    /// Show the backups of the broker, and how the last one went
    List(BrokerArguments),
    /// Read a backup and compare it with what its manifest says; needs no broker
    Verify(VerifyArguments),
}

/// Nothing of its own.
#[derive(Args, Debug)]
pub struct BrokerArguments {
    #[command(flatten)]
    common: Common,
}

/// Reads a backup.
#[derive(Args, Debug)]
pub struct VerifyArguments {
    /// The folder of the backup
    backup: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// What a broker says.
#[derive(Deserialize)]
struct Status {
    running: Option<Running>,
    last: Option<Ended>,
    backups: Vec<Summary>,
}

#[derive(Deserialize)]
struct Running {
    name: String,
    bytes_done: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Ended {
    name: String,
    ok: bool,
    error: Option<String>,
    seconds: f64,
    summary: Option<Summary>,
}

pub(super) async fn run(command: &BackupCommand) -> Result<(), Failure> {
    match command {
        BackupCommand::Create(arguments) => create(&arguments.common).await,
        BackupCommand::List(arguments) => list(&arguments.common).await,
        BackupCommand::Verify(arguments) => check(arguments),
    }
}

async fn create(common: &Common) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let mut client = HttpClient::new(&server);
    let begun = client.control(Method::POST, PATH, None).await?;
    let name = begun["name"].as_str().unwrap_or_default();
    let bar = output::progress(None, "octets");
    loop {
        let said = client.control(Method::GET, PATH, None).await?;
        let status = read(&said)?;
        if let Some(running) = status.running.filter(|running| running.name == name) {
            bar.set_length(running.bytes);
            bar.set_position(running.bytes_done);
            tokio::time::sleep(ASK_EVERY).await;
            continue;
        }
        bar.finish_and_clear();
        let lost = || Failure::Other(format!("the broker does not know how {name} went"));
        let ended = status.last.filter(|last| last.name == name).ok_or_else(lost)?;
        if !ended.ok {
            return Err(Failure::Refused(ended.error.unwrap_or_default()));
        }
        if common.json {
            return output::print_json(&said["last"]);
        }
        let Some(Summary { bytes, new_bytes, files, .. }) = ended.summary else {
            return Err(lost());
        };
        let seconds = ended.seconds;
        return output::print(&format!(
            "{name}: {bytes} octets in {files} files, {new_bytes} of them new, {seconds:.1} s\n"
        ));
    }
}

async fn list(common: &Common) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let said = HttpClient::new(&server).control(Method::GET, PATH, None).await?;
    if common.json {
        return output::print_json(&said);
    }
    let status = read(&said)?;
    let headings = ["BACKUP", "CREATED", "RELEASE", "NAMESPACES", "FILES", "OCTETS", "NEW"];
    let rows: Vec<Vec<String>> = status
        .backups
        .into_iter()
        .map(|one| {
            let Summary { name, created, broker, namespaces, files, bytes, new_bytes, .. } = one;
            let numbers = [namespaces as u64, files as u64, bytes, new_bytes];
            let numbers = numbers.iter().map(ToString::to_string);
            [name, created, broker].into_iter().chain(numbers).collect()
        })
        .collect();
    output::print(&output::table(&headings, &rows))?;
    if let Some(Running { name, bytes_done, bytes }) = status.running {
        output::note(&format!("{name} is being made: {bytes_done} of {bytes} octets"));
    }
    if let Some(Ended { name, ok: false, error: Some(error), .. }) = status.last {
        output::note(&format!("{name} failed: {error}"));
    }
    Ok(())
}

fn check(arguments: &VerifyArguments) -> Result<(), Failure> {
    let verified = verify(&arguments.backup).map_err(|error| Failure::Other(error.to_string()))?;
    if arguments.json {
        output::print_json(&verified)?;
    } else {
        for fault in &verified.faults {
            output::print(&format!("{fault}\n"))?;
        }
    }
    let Summary { files, bytes, .. } = verified.summary;
    if !verified.faults.is_empty() {
        let (count, dir) = (verified.faults.len(), arguments.backup.display());
        return Err(Failure::Other(format!("{dir} has {count} faults")));
    }
    if arguments.json {
        return Ok(());
    }
    output::print(&format!("{files} files with {bytes} octets are as they were\n"))
}

fn read(said: &Value) -> Result<Status, Failure> {
    let wrong = |_| Failure::Other("the answer is not about backups".to_owned());
    Status::deserialize(said).map_err(wrong)
}
