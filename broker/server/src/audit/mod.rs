//! Who has changed or asked what, and who was refused: one event each, in a file of its own or in the
//! log. Sending and receiving are not in it.
//!
//! Whoever reports an event never waits. Events go through a bounded channel to a thread that writes
//! them; what finds no room there, what comes above the rate of refusals, and what the disk does not take
//! is counted, and told in an event of its own as soon as that can be written.

mod writer;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use anyhow::Context;
use serde::Serialize;

use self::writer::{Sink, Writer};
use crate::clock::time_of_day;

/// Events that wait to be written: some seconds of what a busy administrator does.
const WAITING_MAX: usize = 4096;

/// Refusals in a second; whoever is refused more often fills no disk.
const REFUSALS_PER_SECOND: u32 = 50;

/// Characters of a text that a peer has chosen.
const TEXT_CHARS_MAX: usize = 300;

/// By which way something was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Door {
    /// SASL, and AMQP links to entities.
    Amqp,
    /// Tokens that are shown to `$cbs`.
    Cbs,
    /// Requests to a `$management` node.
    Management,
    /// Requests over HTTP.
    Http,
    /// The configuration file.
    Configuration,
    /// Signals to the process.
    Signal,
    /// The audit log itself.
    Audit,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was done, or begun.
    Allowed,
    /// Whoever asked may not.
    Denied,
    /// It was allowed, and did not work.
    Failed,
}

/// Something to be remembered.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) door: Door,
    /// What was asked for: a name of ours.
    pub(crate) operation: String,
    pub(crate) outcome: Outcome,
    /// Whoever has proven to be that: the names of rules, certificates or subjects.
    pub(crate) who: Option<String>,
    pub(crate) peer: Option<IpAddr>,
    /// As the peer calls the broker, which tells the namespace.
    pub(crate) host: Option<String>,
    pub(crate) entity: Option<String>,
    /// Why it was denied or has failed.
    pub(crate) condition: Option<String>,
}

impl Event {
    pub(crate) fn new(door: Door, operation: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            door,
            operation: operation.into(),
            outcome,
            who: None,
            peer: None,
            host: None,
            entity: None,
            condition: None,
        }
    }

    pub(crate) fn who(self, who: Option<String>) -> Self {
        Self { who, ..self }
    }

    pub(crate) fn from(self, peer: Option<IpAddr>, host: &str) -> Self {
        let host = Some(host).filter(|host| !host.is_empty()).map(cut);
        Self { peer, host, ..self }
    }

    pub(crate) fn about(self, entity: &str) -> Self {
        // What is about no entity says so by leaving it out.
        Self { entity: Some(entity).filter(|entity| !entity.is_empty()).map(cut), ..self }
    }

    pub(crate) fn because(self, condition: impl fmt::Display) -> Self {
        Self { condition: Some(cut(&condition.to_string())), ..self }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// A line of the audit log.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    door: Door,
    operation: &'a str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(event: &'a Event, at: SystemTime) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(at).to_string(),
            door: event.door,
            operation: &event.operation,
            outcome: event.outcome,
            who: event.who.as_deref(),
            peer: event.peer,
            host: event.host.as_deref(),
            entity: event.entity.as_deref(),
            condition: event.condition.as_deref(),
        }
    }
}

/// What goes to the thread.
enum Entry {
    Event(SystemTime, Box<Event>),
    /// The file may have another name by now.
    Reopen,
    End,
}

/// Where events are reported. Clones share it.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Desk>);

struct Desk {
    entries: SyncSender<Entry>,
    refusals: Mutex<Refusals>,
    left_out: Arc<LeftOut>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Events that were not written, and why.
#[derive(Default)]
struct LeftOut {
    /// The channel was full.
    no_room: AtomicU64,
    /// More refusals than there may be.
    refusals: AtomicU64,
}

/// How many refusals were told in the second that began then.
struct Refusals {
    since: Instant,
    told: u32,
}

impl Refusals {
    fn admit(&mut self, now: Instant) -> bool {
        if 1 <= now.saturating_duration_since(self.since).as_secs() {
            *self = Self { since: now, told: 0 };
        }
        let admitted = self.told < REFUSALS_PER_SECOND;
        self.told += u32::from(admitted);
        admitted
    }
}

impl Audit {
    /// Into a file, or into the log.
    pub(crate) fn start(file: Option<&Path>) -> anyhow::Result<Self> {
        let sink = match file {
            Some(path) => Sink::file(path)
                .with_context(|| format!("the audit log {} cannot be opened", path.display()))?,
            None => Sink::Log,
        };
        let (audit, entries) = Self::desk();
        let writer = Writer::new(sink, Arc::clone(&audit.0.left_out));
        let thread = thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || writer.run(&entries)).context("the audit log")?;
        *audit.0.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(audit)
    }

    /// Remembers nothing.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self::desk().0
    }

    fn desk() -> (Self, Receiver<Entry>) {
        let (entries, taken) = sync_channel(WAITING_MAX);
        let refusals = Mutex::new(Refusals { since: Instant::now(), told: 0 });
        let (left_out, thread) = (Arc::default(), Mutex::default());
        (Self(Arc::new(Desk { entries, refusals, left_out, thread })), taken)
    }

    /// Whether a refusal may be told now; if not, it is counted.
    pub(crate) fn admits_refusal(&self) -> bool {
        let mut refusals = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = refusals.admit(Instant::now());
        if !admitted {
            self.0.left_out.refusals.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Remembers an event.
    pub(crate) fn record(&self, event: Event) {
        let entry = Entry::Event(time_of_day(), Box::new(event));
        match self.0.entries.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.0.left_out.no_room.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Remembers that somebody was refused, unless there are too many of that.
    pub(crate) fn refused(&self, event: impl FnOnce() -> Event) {
        if self.admits_refusal() {
            self.record(event());
        }
    }

    /// Opens the file anew, for those who have moved the old one away.
    pub(crate) fn reopen(&self) {
        // A thread that is that far behind writes to the old file for a while.
        let _ = self.0.entries.try_send(Entry::Reopen);
    }

    /// Writes what is left. What comes after that is lost.
    pub(crate) async fn finish(&self) {
        let desk = Arc::clone(&self.0);
        let ended = tokio::task::spawn_blocking(move || {
            let _ = desk.entries.send(Entry::End);
            let thread = desk.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            thread.map_or(Ok(()), JoinHandle::join)
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the audit log did not end in order");
        }
    }
}

#[cfg(test)]
mod tests;
