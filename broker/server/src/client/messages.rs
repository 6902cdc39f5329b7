//! `peeklock messages`: all messages of an entity as lines of JSON, and back.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use peeklock_core::filter::SqlFilter;
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::input::Lines;
use super::json::MessageLine;
use super::messaging::Messaging;
use super::node::NodeArguments;
use super::outbox::Outbox;
use super::peek::{Browser, lets_through, selector};
use super::replay::unexpired;
use super::show::as_sent;
use super::{damaged, output};

/// What can be done with all messages of an entity.
#[derive(Debug, Subcommand)]
pub enum MessagesCommand {
    /// Write all messages as lines of JSON, with all their sections; they stay where they are
    Export(ExportArguments),
    /// Send messages that were exported
    Import(ImportArguments),
}

/// Writes messages.
#[derive(Args, Debug)]
pub struct ExportArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// File to write
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Only what this condition holds for, as in "color = 'red'"
    #[arg(long, value_name = "CONDITION", value_parser = selector)]
    filter: Option<Box<SqlFilter>>,
    #[command(flatten)]
    common: Common,
}

/// Sends messages from a file.
#[derive(Args, Debug)]
pub struct ImportArguments {
    /// Queue or topic to send to
    entity: String,
    /// File to read
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Send scheduled messages at once
    #[arg(long)]
    unschedule: bool,
    /// Only check that all lines can be read
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(command: &MessagesCommand) -> Result<(), Failure> {
    match command {
        MessagesCommand::Export(arguments) => export(arguments).await,
        MessagesCommand::Import(arguments) => import(arguments).await,
    }
}

async fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let address = arguments.node.address(&server)?;
    let mut messaging = Messaging::open(&server).await?;
    let mut browser = Browser::new(address.clone(), None, 0);
    let mut out = Destination::open(&arguments.output)?;
    let bar = output::progress(None, "exported");
    while let Some(received) = browser.next(&mut messaging, u64::MAX).await? {
        if arguments.filter.as_ref().is_none_or(|filter| lets_through(filter, &received)) {
            out.write(&received.line())?;
            bar.inc(1);
        }
    }
    out.finish()?;
    bar.finish_and_clear();
    messaging.close().await?;
    // What is on standard output is for the messages alone.
    if !out.is_stdout() {
        let exported = bar.position();
        if arguments.common.json {
            return output::print_json(&json!({ "exported": exported }));
        }
        return output::print(&format!("exported {exported} from {address}\n"));
    }
    Ok(())
}

async fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let mut lines = Lines::open(&arguments.input)?;
    let bar = output::progress(None, "imported");
    let done = if arguments.dry_run {
        let (mut number, mut done) = (0_u64, 0_u64);
        while let Some(line) = lines.next().await {
            number += 1;
            done += u64::from(read(&line?, number, arguments)?.is_some());
            bar.set_position(done);
        }
        done
    } else {
        let mut messaging = Messaging::open(&server).await?;
        let mut outbox = Outbox::new(messaging.sender(&arguments.entity).await?);
        let ended = feed(&mut messaging, &mut outbox, &mut lines, arguments, &bar).await;
        let done = outbox.finish(&mut messaging, ended, "line").await?;
        messaging.close().await?;
        done
    };
    bar.finish_and_clear();
    let what = if arguments.dry_run { "readable" } else { "imported" };
    if arguments.common.json {
        return output::print_json(&json!({ what: done }));
    }
    let to = if arguments.dry_run { String::new() } else { format!(" to {}", arguments.entity) };
    output::print(&format!("{what}: {done}{to}\n"))
}

/// Sends all there is, up to what cannot be read or the broker refuses.
async fn feed(
    messaging: &mut Messaging<'_>,
    outbox: &mut Outbox,
    lines: &mut Lines,
    arguments: &ImportArguments,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut number = 0_u64;
    while let Some(Some(line)) = outbox.next(messaging, lines.next()).await? {
        number += 1;
        if let Some(message) = read(&line?, number, arguments)? {
            outbox.send(messaging, number, message).await?;
            bar.set_position(outbox.accepted());
        }
    }
    Ok(())
}

/// The message of a line; none if that is empty.
fn read(line: &[u8], number: u64, arguments: &ImportArguments) -> Result<Option<Bytes>, Failure> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::file(&arguments.input, format!("line {number}: {error}"))
    };
    let line: MessageLine = serde_json::from_slice(line).map_err(|error| wrong(&error))?;
    let scheduled = !arguments.unschedule;
    if let Some(octets) = line.octets().map_err(|error| wrong(&error))? {
        return damaged::as_sent(&octets, scheduled).map(Some).map_err(|error| wrong(&error));
    }
    let message = line.message().map_err(|error| wrong(&error))?;
    let mut message = as_sent(&message, scheduled);
    unexpired(&mut message);
    Ok(Some(message.to_bytes()))
}

/// Where an export goes.
enum Destination {
    Stdout,
    File { out: BufWriter<File>, path: PathBuf },
}

impl Destination {
    /// A file that is there already is not written over.
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let file = File::create_new(path).map_err(|error| Failure::file(path, error))?;
        Ok(Self::File { out: BufWriter::new(file), path: path.to_owned() })
    }

    const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    fn write(&mut self, line: &MessageLine) -> Result<(), Failure> {
        match self {
            Self::Stdout => output::print_json(line),
            Self::File { out, path } => serde_json::to_writer(&mut *out, line)
                .map_err(std::io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(|error| Failure::file(path, error)),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout => Ok(()),
            Self::File { out, path } => {
                let synced = out.flush().and_then(|()| out.get_ref().sync_all());
                synced.map_err(|error| Failure::file(path, error))
            }
        }
    }
}
