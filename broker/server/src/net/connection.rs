//! One task a connection: bytes between the transport and the endpoint, commands to the driver,
//! letters from it. It knows nothing of what the bytes mean.
//!
//! A turn: wait for the socket, the mailbox or a deadline; read until the socket is dry; let the
//! endpoint work; hand over its commands; write once.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::watch;
use tokio::time::Sleep;
use tracing::{debug, info};

use super::transport::{Ready, Transport};
use crate::amqp::Endpoint;
use crate::clock::ClockChanges;
use crate::driver::{Caller, Stopped};
use crate::mailbox::{Letter, Mailbox};
use crate::namespaces::{Gone, Stay};

/// Bytes read in one turn before what they ask for is worked on; more would let one peer hold the
/// worker, less would make batches small.
const READ_PER_TURN: usize = 256 * 1024;

/// The read buffer of a connection that is mostly quiet, and of one that has filled it.
const READ_BUFFER_MIN: usize = 2 * 1024;
const READ_BUFFER_MAX: usize = 64 * 1024;

/// How long a connection that says nothing keeps a larger one. Thousands of them wait for hours.
const READ_BUFFER_KEPT: Duration = Duration::from_secs(5);

/// Slices handed to one vectored write (Linux takes at most 1024).
const WRITE_SLICES_MAX: usize = 64;

/// How long a stopping broker waits for a peer to take its last bytes and to say its own, and any
/// connection that is over for a peer to take them. Clients that are busy with something else read
/// nothing (pyamqp, proton), so this is no fault of theirs.
const LINGER: Duration = Duration::from_secs(2);

/// The same when a test has dropped the namespace, and waits for that.
const LINGER_DROPPED: Duration = Duration::from_millis(50);

/// Serves a connection to its end. What was read of it already comes with it. Until it has entered a
/// namespace, `gone` is the default one's.
pub(super) async fn run(
    transport: impl Transport,
    begun: BytesMut,
    endpoint: Endpoint,
    gone: watch::Receiver<Option<Gone>>,
) {
    debug!("connected");
    let mut task = Task {
        transport,
        clock_changes: endpoint.clock_changes(),
        rule_changes: endpoint.rule_changes(),
        endpoint,
        inside: None,
        mailbox: Mailbox::default(),
        gone,
        buffer: begun,
        buffer_size: READ_BUFFER_MIN,
        read_at: Instant::now(),
        letters: Vec::new(),
    };
    match task.serve().await {
        Ok(()) => debug!("disconnected"),
        Err(End::Socket(error)) => debug!(%error, "the connection was lost"),
        Err(End::Stopped) => info!("the broker stops, the connection is cut"),
    }
    if let Some((caller, _stay)) = task.inside.take() {
        let commands = task.endpoint.leave();
        // Both fail only when the driver is gone, and with it everything there is to tell it.
        let _ = caller.ask(commands).await;
        let _ = caller.leave();
    }
    task.transport.close().await;
}

enum End {
    Socket(io::Error),
    Stopped,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

struct Task<T> {
    transport: T,
    endpoint: Endpoint,
    /// In the namespace that it has entered: the way to its core.
    inside: Option<(Caller, Stay)>,
    mailbox: Mailbox,
    gone: watch::Receiver<Option<Gone>>,
    clock_changes: ClockChanges,
    rule_changes: watch::Receiver<u64>,
    buffer: BytesMut,
    buffer_size: usize,
    /// When something came last.
    read_at: Instant,
    letters: Vec<Letter>,
}

impl<T: Transport> Task<T> {
    async fn serve(&mut self) -> Result<(), End> {
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        let mut armed: Option<Instant> = None;
        let mut cut_at: Option<Instant> = None;
        // Set while a broker that stops lets the peer settle what it has.
        let mut stop_at: Option<Instant> = None;
        if !self.buffer.is_empty() {
            self.endpoint.handle_input(&mut self.buffer, Instant::now());
            self.forward().await?;
        }
        loop {
            if self.endpoint.is_cut() {
                debug!("a test wants the connection to end here");
                return Ok(());
            }
            let now = Instant::now();
            let blocked = !self.write(now)?;
            if !blocked && self.endpoint.goes_on() {
                // Otherwise it would wait until somebody says something.
                self.forward().await?;
                continue;
            }
            if self.endpoint.is_finished() {
                if !blocked {
                    return Ok(());
                }
                cut_at.get_or_insert_with(|| Instant::now() + LINGER);
            }
            if cut_at.is_some_and(|cut_at| cut_at <= Instant::now()) {
                debug!("the peer did not take or answer the last words, it is cut off");
                return Ok(());
            }
            if stop_at.is_some_and(|at| at <= Instant::now() || self.endpoint.is_idle()) {
                stop_at = None;
                cut_at = Some(Instant::now() + LINGER);
                self.endpoint.stop(Gone::Stopping);
                continue;
            }
            let shrink_at = self.shrink_when_quiet(now);
            let deadlines = [self.endpoint.deadline(), cut_at, stop_at, shrink_at];
            arm(alarm.as_mut(), &mut armed, deadlines.into_iter().flatten().min());
            let mut taken = None;
            self.make_room();
            let wants_input = self.endpoint.wants_input();
            tokio::select! {
                ready = self.transport.ready(&mut self.buffer, wants_input, blocked) => {
                    if let Ready::Read(count) = ready? {
                        taken = Some(count);
                    }
                }
                () = self.mailbox.arrived() => {}
                () = &mut alarm, if armed.is_some() => armed = None,
                () = self.clock_changes.changed() => self.endpoint.clock_changed(Instant::now()),
                Ok(()) = self.rule_changes.changed() => self.endpoint.rules_changed(Instant::now()),
                why = gone(&mut self.gone), if cut_at.is_none() && stop_at.is_none() => match why {
                    Gone::Stopping => {
                        stop_at = Some(Instant::now() + self.endpoint.wind_down());
                    }
                    Gone::Dropped => {
                        cut_at = Some(Instant::now() + LINGER_DROPPED);
                        self.endpoint.stop(why);
                    }
                },
            }
            let now = Instant::now();
            if taken.is_some_and(|count| !self.read(count, now)) {
                self.endpoint.handle_eof();
                self.forward().await?;
                return Ok(());
            }
            self.mailbox.take(&mut self.letters);
            for letter in self.letters.drain(..) {
                self.endpoint.handle_letter(letter);
            }
            self.endpoint.end_turn(now);
            self.forward().await?;
        }
    }

    /// Sees to it that there is something to read into.
    fn make_room(&mut self) {
        let wanted = self.endpoint.read_hint().clamp(self.buffer_size, READ_PER_TURN);
        self.buffer.reserve(wanted);
    }

    /// Gives the buffer back when nothing has come for a while; says when to look again.
    fn shrink_when_quiet(&mut self, now: Instant) -> Option<Instant> {
        if self.buffer_size() <= READ_BUFFER_MIN || !self.buffer.is_empty() {
            return None;
        }
        let due = self.read_at + READ_BUFFER_KEPT;
        if now < due {
            return Some(due);
        }
        self.shrink();
        None
    }

    /// What the buffer takes, now or when it is needed again.
    fn buffer_size(&self) -> usize {
        self.buffer.capacity().max(self.buffer_size)
    }

    fn shrink(&mut self) {
        self.buffer = BytesMut::new();
        self.buffer_size = READ_BUFFER_MIN;
        self.note_buffer();
    }

    /// A buffer as small as it can be counts for nothing.
    fn note_buffer(&mut self) {
        let size = self.buffer_size();
        self.endpoint.note_read_buffer(if size <= READ_BUFFER_MIN { 0 } else { size });
    }

    /// Works on what was read, and on what more there is; false at the end of the stream.
    ///
    /// The first read of a turn is an awaited one: it forgets that the socket is readable when it
    /// comes back short, which saves the next turn a read that finds nothing.
    fn read(&mut self, first: usize, now: Instant) -> bool {
        let mut count = first;
        let mut taken = 0;
        loop {
            if count == 0 {
                return false;
            }
            taken += count;
            let filled = self.buffer.len() == self.buffer.capacity();
            self.endpoint.handle_input(&mut self.buffer, now);
            if !filled || READ_PER_TURN <= taken || !self.endpoint.wants_input() {
                break;
            }
            if self.endpoint.has_room() {
                self.buffer_size = (self.buffer_size * 2).min(READ_BUFFER_MAX);
            }
            self.make_room();
            match self.transport.try_read(&mut self.buffer) {
                Ok(more) => count = more,
                // What is wrong with the socket shows again when it is awaited.
                Err(_) => break,
            }
        }
        self.read_at = now;
        if self.buffer.is_empty() && (taken < READ_BUFFER_MIN || !self.endpoint.has_room()) {
            self.shrink();
        } else {
            self.note_buffer();
        }
        true
    }

    /// Writes what there is; false when the socket takes no more.
    fn write(&mut self, now: Instant) -> Result<bool, End> {
        let output = self.endpoint.output(now);
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = output.slices(&mut slices);
            let written =
                slices.get(..count).map_or(Ok(0), |ready| self.transport.try_write(ready));
            match written {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => output.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        match self.transport.try_flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes on what the endpoint asks of the core of its namespace, which it makes itself known to
    /// first.
    async fn forward(&mut self) -> Result<(), End> {
        if let Some(namespace) = self.endpoint.entered() {
            let stay = namespace.enter();
            let caller = stay.shard.join(self.endpoint.id(), self.mailbox.clone())?;
            self.inside = Some((caller, stay));
            self.gone = namespace.gone();
            self.clock_changes = self.endpoint.clock_changes();
            self.rule_changes = self.endpoint.rule_changes();
            if let Some(faults) = namespace.faults() {
                self.endpoint.inject(Arc::clone(faults));
            }
            // They may have changed since they let it in.
            self.endpoint.rules_changed(Instant::now());
        }
        let Some((caller, _)) = &self.inside else { return Ok(()) };
        caller.ask(self.endpoint.take_commands()).await?;
        for to in self.endpoint.take_catch_ups() {
            caller.catch_up(to)?;
        }
        Ok(())
    }
}

/// Waits until the connection has to go.
async fn gone(told: &mut watch::Receiver<Option<Gone>>) -> Gone {
    // The sender is gone with its namespace.
    told.wait_for(Option::is_some).await.map_or(Gone::Dropped, |why| why.unwrap_or(Gone::Dropped))
}

/// Sets the alarm when the deadline comes before the one it is set for; an alarm that rings too
/// early finds nothing due and is set again.
fn arm(alarm: Pin<&mut Sleep>, armed: &mut Option<Instant>, deadline: Option<Instant>) {
    let Some(deadline) = deadline else { return };
    if armed.is_some_and(|set| set <= deadline) {
        return;
    }
    alarm.reset(tokio::time::Instant::from_std(deadline));
    *armed = Some(deadline);
}
