//! The thread that writes events.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tracing::{error, info};

use super::{Door, Entry, Event, LeftOut, Line, Outcome};
use crate::clock::time_of_day;

/// How soon it is told that something was left out.
const TELL_WITHIN: Duration = Duration::from_secs(1);

/// The owner writes, its group reads, and nobody else.
const MODE: u32 = 0o640;

/// Where events go.
pub(super) enum Sink {
    /// To the log of the process, under the target `audit`.
    Log,
    File {
        path: PathBuf,
        /// Missing when it could not be opened again.
        file: Option<File>,
    },
}

impl Sink {
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File { path: path.to_owned(), file: Some(open(path)?) })
    }

    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        match self {
            Self::Log => {
                log(line);
                Ok(())
            }
            Self::File { path, file } => {
                let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
                text.push(b'\n');
                let file = match file {
                    Some(file) => file,
                    None => file.insert(open(path)?),
                };
                // One write a line: whoever reads along sees whole ones.
                file.write_all(&text)
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Self::File { path, file } = self else { return Ok(()) };
        *file = None;
        *file = Some(open(path)?);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(MODE).open(path)
}

/// As an event of the log. The time is the log's own.
fn log(line: &Line<'_>) {
    let Line { door, operation, outcome, who, peer, host, entity, condition, .. } = line;
    let (door, outcome) =
        (format!("{door:?}").to_lowercase(), format!("{outcome:?}").to_lowercase());
    let peer = peer.map(tracing::field::display);
    info!(target: "audit", door, operation, outcome, who, peer, host, entity, condition, "audit");
}

/// See the module.
pub(super) struct Writer {
    sink: Sink,
    left_out: Arc<LeftOut>,
    /// Events that the disk did not take.
    unwritten: u64,
}

impl Writer {
    pub(super) fn new(sink: Sink, left_out: Arc<LeftOut>) -> Self {
        Self { sink, left_out, unwritten: 0 }
    }

    /// Writes until the end is asked for, or nobody is left who could.
    pub(super) fn run(mut self, entries: &Receiver<Entry>) {
        loop {
            match entries.recv_timeout(TELL_WITHIN) {
                Ok(entry) => {
                    if !self.take(&entry) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tell_left_out(),
                Err(RecvTimeoutError::Disconnected) => return self.tell_left_out(),
            }
        }
    }

    /// False at the end.
    pub(super) fn take(&mut self, entry: &Entry) -> bool {
        // First, as it happened before.
        self.tell_left_out();
        match entry {
            Entry::Event(at, event) => {
                if let Err(error) = self.sink.write(&Line::of(event, *at)) {
                    if self.unwritten == 0 {
                        error!(%error, "the audit log cannot be written, events are counted now");
                    }
                    self.unwritten += 1;
                }
                true
            }
            Entry::Reopen => {
                match self.sink.reopen() {
                    Ok(()) => info!("the audit log was opened anew"),
                    Err(error) => error!(%error, "the audit log cannot be opened anew"),
                }
                true
            }
            Entry::End => false,
        }
    }

    /// Says what was left out since it was last said. What cannot be said now is kept.
    fn tell_left_out(&mut self) {
        if 0 < self.unwritten {
            if !self.tell("write", self.unwritten, "the file could not be written") {
                return;
            }
            error!(count = self.unwritten, "the audit log is written again, events are missing");
            self.unwritten = 0;
        }
        let LeftOut { refusals, no_room } = &*Arc::clone(&self.left_out);
        for (what, count, why) in [
            ("refusals", refusals, "there were too many in a second"),
            ("events", no_room, "they came faster than they could be written"),
        ] {
            let taken = count.swap(0, Ordering::Relaxed);
            if !self.tell(what, taken, why) {
                count.fetch_add(taken, Ordering::Relaxed);
            }
        }
    }

    fn tell(&mut self, what: &str, count: u64, why: &str) -> bool {
        if count == 0 {
            return true;
        }
        let event = Event::new(Door::Audit, format!("leave out {what}"), Outcome::Failed)
            .because(format_args!("{count} left out: {why}"));
        self.sink.write(&Line::of(&event, time_of_day())).is_ok()
    }
}
