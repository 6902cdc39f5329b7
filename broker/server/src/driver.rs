//! The one task that owns the core of a shard: it batches commands, submits one batch of rows a
//! turn, and hands out effects once they are durable.
//!
//! When the store fails, what was submitted has an unknown outcome. The driver then answers nothing
//! that waited, tells every connection to close, reopens the store and loads the core again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use peeklock_core::{
    Broker, Command, EffectKind, Error, Origin, ReadId, ReadRequest, ReadRows, Timestamp,
};
use peeklock_storage::{ShardId, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::clock;
use crate::durability::{Gate, InFlight, Progress};
use crate::mailbox::{Letter, Mailbox};

/// Inputs that may wait for the driver; each is the commands of one read of one connection. A
/// connection that finds it full waits, and so stops reading its socket.
const INBOX_CAPACITY: usize = 256;

/// Inputs taken in one turn: enough that one sync serves many connections, few enough that the
/// first of them does not wait long for the last.
const INPUTS_PER_TURN: usize = 64;

/// How old the knowledge of free disk space may be when a send is let in.
const HEALTH_AGE_MAX: Duration = Duration::from_millis(100);

/// Pause between attempts to reopen a failed store.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// What a sender reads while the free-space gate is closed. SDKs wait and try again.
const DISK_FULL: &str = "The disk of the broker is full.";

/// The only shard there is today; a namespace never spans shards.
const SHARD: ShardId = ShardId(0);

/// Loads the core from the store; called at start and again after a failure.
pub(crate) type OpenShard = Box<dyn Fn(&dyn Store) -> anyhow::Result<Broker> + Send + Sync>;

/// What connections send to the driver.
pub(crate) enum Input {
    Commands(Vec<Command>),
    Joined { connection: u64, mailbox: Mailbox },
    Left { connection: u64 },
    Stop { done: oneshot::Sender<Result<(), StoreError>> },
}

/// The way to a shard's driver.
#[derive(Clone)]
pub(crate) struct ShardHandle {
    inputs: mpsc::Sender<Input>,
}

/// The driver is gone, which happens only when the process stops.
#[derive(Debug, thiserror::Error)]
#[error("the broker is stopping")]
pub(crate) struct Stopped;

impl ShardHandle {
    pub(crate) async fn send(&self, input: Input) -> Result<(), Stopped> {
        self.inputs.send(input).await.map_err(|_| Stopped)
    }

    /// Stops the driver after what it has taken is durable, and closes the store.
    pub(crate) async fn stop(&self) -> Result<Result<(), StoreError>, Stopped> {
        let (done, stopped) = oneshot::channel();
        self.send(Input::Stop { done }).await?;
        stopped.await.map_err(|_| Stopped)
    }
}

/// Loads the shard and starts its driver.
pub(crate) fn start(store: Arc<dyn Store>, open: OpenShard) -> anyhow::Result<ShardHandle> {
    let core = open(&*store)?;
    let (sender, inputs) = mpsc::channel(INBOX_CAPACITY);
    let (read_sender, reads) = mpsc::unbounded_channel();
    let progress = Progress::default();
    subscribe(&*store, &progress);
    let driver = Driver {
        core,
        store,
        open,
        progress,
        gate: Gate::default(),
        in_flight: InFlight::default(),
        mailboxes: HashMap::new(),
        to_wake: Vec::new(),
        read_sender,
        generation: 0,
        sends_allowed: true,
        health_checked_at: None,
    };
    tokio::spawn(driver.run(inputs, reads));
    Ok(ShardHandle { inputs: sender })
}

fn subscribe(store: &dyn Store, progress: &Progress) {
    let progress = progress.clone();
    store.on_done(SHARD, Box::new(move |done| progress.report(done)));
}

/// The answer to a read, with the generation of the core that asked for it.
struct ReadAnswer {
    generation: u64,
    read: ReadId,
    result: Result<ReadRows, StoreError>,
}

struct Driver {
    core: Broker,
    store: Arc<dyn Store>,
    open: OpenShard,
    progress: Progress,
    gate: Gate,
    in_flight: InFlight,
    mailboxes: HashMap<u64, Mailbox>,
    /// Connections that got a first letter in this turn.
    to_wake: Vec<Mailbox>,
    /// Unbounded, but the core keeps few reads open for a queue.
    read_sender: mpsc::UnboundedSender<ReadAnswer>,
    /// Counts reloads, so that an answer to a read of an earlier core is dropped.
    generation: u64,
    sends_allowed: bool,
    health_checked_at: Option<Instant>,
}

impl Driver {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut reads: mpsc::UnboundedReceiver<ReadAnswer>,
    ) {
        let mut taken = Vec::with_capacity(INPUTS_PER_TURN);
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        let mut armed: Option<Timestamp> = None;
        let mut stopping = None;
        // What loading has declared.
        let mut healthy = self.turn();
        loop {
            if let Err(failure) = healthy {
                self.recover(&failure).await;
                armed = None;
                healthy = self.turn();
                continue;
            }
            self.arm(alarm.as_mut(), &mut armed);
            tokio::select! {
                biased;
                () = self.progress.changed() => {}
                Some(answer) = reads.recv() => self.read_done(answer),
                count = inputs.recv_many(&mut taken, INPUTS_PER_TURN),
                    if !self.in_flight.is_full() =>
                {
                    if count == 0 {
                        return;
                    }
                }
                () = &mut alarm, if armed.is_some() => {
                    armed = None;
                    self.core.handle(clock::now(), Command::Tick);
                }
            }
            let now = clock::now();
            for input in taken.drain(..) {
                match input {
                    Input::Commands(commands) => self.handle_all(now, commands),
                    Input::Joined { connection, mailbox } => {
                        self.mailboxes.insert(connection, mailbox);
                    }
                    Input::Left { connection } => {
                        self.mailboxes.remove(&connection);
                    }
                    Input::Stop { done } => stopping = Some(done),
                }
            }
            healthy = self.turn();
            if let Some(done) = stopping.take() {
                let _ = done.send(self.close().await);
                return;
            }
        }
    }

    /// Sets the alarm when the next deadline comes before the one it is set for. A deadline that
    /// has moved later is not worth a change: the alarm then finds nothing due.
    fn arm(&self, alarm: std::pin::Pin<&mut tokio::time::Sleep>, armed: &mut Option<Timestamp>) {
        let Some(deadline) = self.core.next_deadline() else { return };
        if armed.is_some_and(|set| set <= deadline) {
            return;
        }
        let wait = clock::until(deadline);
        alarm.reset(tokio::time::Instant::now() + wait);
        *armed = Some(deadline);
    }

    fn handle_all(&mut self, now: Timestamp, commands: Vec<Command>) {
        for command in commands {
            if let Command::Send { origin, .. } = &command {
                let origin = *origin;
                if !self.may_send() {
                    self.refuse(origin, Error::ServerBusy(DISK_FULL));
                    continue;
                }
            }
            self.core.handle(now, command);
        }
    }

    /// Whether the free-space gate lets sends in. Everything else goes on, so that receivers can
    /// drain a full disk.
    fn may_send(&mut self) -> bool {
        let now = Instant::now();
        let fresh = self
            .health_checked_at
            .is_some_and(|at| now.saturating_duration_since(at) < HEALTH_AGE_MAX);
        if !fresh {
            self.health_checked_at = Some(now);
            let allowed = self.store.sends_allowed();
            if allowed != self.sends_allowed {
                self.sends_allowed = allowed;
                if allowed {
                    info!("free disk space is back above the reserve, sends are accepted again");
                } else {
                    warn!("free disk space is below the reserve, sends are refused");
                }
            }
        }
        self.sends_allowed
    }

    fn refuse(&mut self, origin: Origin, error: Error) {
        self.deliver(EffectKind::Reply { to: origin, result: Err(error) });
    }

    fn read_done(&mut self, answer: ReadAnswer) {
        if answer.generation == self.generation {
            let command = Command::ReadDone { read: answer.read, result: answer.result };
            self.core.handle(clock::now(), command);
        }
    }

    /// Ends a turn: one submit, then everything that may go out goes out, one wake a connection.
    fn turn(&mut self) -> Result<(), StoreError> {
        let turn = self.core.take_turn();
        if !turn.batch.is_empty() {
            self.in_flight.add(turn.position, turn.batch.bytes());
            self.store.submit(SHARD, turn.position, turn.batch)?;
        }
        let durable = self.progress.through();
        self.in_flight.settle(durable);
        while let Some(released) = self.gate.release(durable) {
            for effect in released {
                self.deliver(effect);
            }
        }
        for effect in turn.effects {
            if let Some(kind) = self.gate.pass(effect, durable) {
                self.deliver(kind);
            }
        }
        for mailbox in self.to_wake.drain(..) {
            mailbox.wake();
        }
        self.progress.failure().map_or(Ok(()), Err)
    }

    fn deliver(&mut self, kind: EffectKind) {
        let connection = match &kind {
            EffectKind::Reply { to, .. } => to.connection,
            EffectKind::Deliver { receiver, .. }
            | EffectKind::Drained { receiver }
            | EffectKind::ReceiverClosed { receiver, .. } => receiver.connection,
            EffectKind::Read { .. } => {
                let EffectKind::Read { read, request } = kind else { return };
                self.read(read, request);
                return;
            }
        };
        // A connection that has left needs no answer; its receivers are closed by its last command.
        if let Some(mailbox) = self.mailboxes.get(&connection)
            && mailbox.put(Letter::Effect(kind))
        {
            self.to_wake.push(mailbox.clone());
        }
    }

    /// Reads rows on a thread that may block. Requests are pages, so the hand-over is paid once for
    /// many messages.
    fn read(&self, read: ReadId, request: ReadRequest) {
        let store = Arc::clone(&self.store);
        let answers = self.read_sender.clone();
        let generation = self.generation;
        tokio::task::spawn_blocking(move || {
            let result = read_rows(&*store, &request);
            if let Err(failure) = &result {
                error!(error = %failure, "a page could not be read");
            }
            // The driver is gone only when the process stops.
            let _ = answers.send(ReadAnswer { generation, read, result });
        });
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.unwrap_or_else(|panic| Err(StoreError::Unknown(panic.to_string())))
    }

    /// Starts over from what is on disk.
    async fn recover(&mut self, failure: &StoreError) {
        error!(error = %failure, "the store failed, all connections are closed and it is reopened");
        for mailbox in self.mailboxes.values() {
            mailbox.put(Letter::StoreLost);
            mailbox.wake();
        }
        self.gate = Gate::default();
        self.in_flight = InFlight::default();
        self.generation += 1;
        self.progress = Progress::default();
        loop {
            match self.reopen().await {
                Ok(core) => {
                    subscribe(&*self.store, &self.progress);
                    self.core = core;
                    info!("the store is open again");
                    return;
                }
                Err(failure) => {
                    error!(error = %failure, "the store cannot be reopened yet");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
    }
}

impl Driver {
    async fn reopen(&mut self) -> anyhow::Result<Broker> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.reopen()).await??;
        (self.open)(&*self.store)
    }
}

fn read_rows(store: &dyn Store, request: &ReadRequest) -> Result<ReadRows, StoreError> {
    let scans = request
        .scans
        .iter()
        .map(|scan| store.scan(scan.table, &scan.range, scan.rows_max, scan.bytes_max))
        .collect::<Result<_, _>>()?;
    let gets =
        request.gets.iter().map(|(table, key)| store.get(*table, key)).collect::<Result<_, _>>()?;
    Ok(ReadRows { scans, gets })
}
