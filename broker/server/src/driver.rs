//! The one task that owns the core of a shard: it batches commands, submits one batch of rows a
//! turn, and hands out effects once they are durable.
//!
//! When the store fails, what was submitted has an unknown outcome. The driver then answers nothing
//! that waited, tells every connection to close, reopens the store and loads the core again.

mod handle;
mod lines;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use peeklock_core::{
    Broker, Command, Effect, EffectKind, Error, Origin, ReadId, ReadRequest, ReadRows, Settlement,
    Timestamp, Turn,
};
use peeklock_storage::{ShardId, Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::handle::{Arrived, StopRequest};
pub(crate) use self::handle::{Caller, Input, ShardHandle, Stopped};
use self::lines::Lines;
use crate::auth::Authority;
use crate::clock::Clock;
use crate::durability::{Gate, InFlight, Progress};
use crate::faults::Sudden;
use crate::mailbox::{Letter, Mailbox};
use crate::metrics::{Limit, Metrics, Stopwatch};

/// Inputs taken from the inbox at a time. What is more than a turn's work stands in line then.
const INPUTS_MAX: usize = 256;

/// Pause between attempts to reopen a failed store, and between two failures of one that opens but
/// cannot be written to.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// What a sender reads while the free-space gate is closed. SDKs wait and try again.
const DISK_FULL: &str = "The disk of the broker is full.";

/// The only shard there is today; a namespace never spans shards.
const SHARD: ShardId = ShardId(0);

/// Loads the core from the store; called at start and again after a failure.
pub(crate) type OpenShard = Box<dyn Fn(&dyn Store) -> anyhow::Result<Broker> + Send + Sync>;

/// Loads the shard and starts its driver.
pub(crate) fn start(
    store: Arc<dyn Store>,
    clock: Clock,
    authority: Arc<Authority>,
    open: OpenShard,
    metrics: Arc<Metrics>,
) -> anyhow::Result<ShardHandle> {
    let is_timed = metrics.is_enabled();
    let core = open(&*store)?;
    authority.set_rules_of_all(core.access_rules());
    // Unbounded: a connection waits for a place of its own, and a request for its answer.
    let (sender, inputs) = mpsc::unbounded_channel();
    let (read_sender, reads) = mpsc::unbounded_channel();
    let progress = Progress::default();
    subscribe(&*store, &progress);
    let driver = Driver {
        core,
        store,
        clock,
        authority,
        open,
        progress,
        gate: Gate::default(),
        in_flight: InFlight::default(),
        held: None,
        mailboxes: HashMap::new(),
        to_wake: Vec::new(),
        returns: Vec::new(),
        read_sender,
        reads_open: 0,
        catch_ups: Vec::new(),
        generation: 0,
        sends_allowed: true,
        reopened_at: None,
        stopwatch: Stopwatch::new(Arc::clone(&metrics)),
        metrics,
        turned_at: None,
    };
    tokio::spawn(driver.run(inputs, reads));
    Ok(ShardHandle::new(sender, is_timed))
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
    clock: Clock,
    /// Learns of the access rules that entities have.
    authority: Arc<Authority>,
    open: OpenShard,
    progress: Progress,
    gate: Gate,
    in_flight: InFlight,
    /// A turn whose batch the store has no room for now. Nothing new is taken before it is submitted.
    held: Option<Turn>,
    mailboxes: HashMap<u64, Mailbox>,
    /// Connections that got a first letter in this turn.
    to_wake: Vec<Mailbox>,
    /// Gives back the deliveries of this turn for connections that have left.
    returns: Vec<Command>,
    /// Unbounded, but the core keeps few reads open for a queue.
    read_sender: mpsc::UnboundedSender<ReadAnswer>,
    /// Reads of this generation that are not answered yet.
    reads_open: usize,
    /// Who waits until all is done that is due.
    catch_ups: Vec<Origin>,
    /// Counts reloads, so that an answer to a read of an earlier core is dropped.
    generation: u64,
    sends_allowed: bool,
    reopened_at: Option<Instant>,
    stopwatch: Stopwatch,
    metrics: Arc<Metrics>,
    /// When this turn lets deliveries out, once that was asked for.
    turned_at: Option<Timestamp>,
}

impl Driver {
    async fn run(
        mut self,
        mut inputs: mpsc::UnboundedReceiver<Arrived>,
        mut reads: mpsc::UnboundedReceiver<ReadAnswer>,
    ) {
        let mut taken = Vec::with_capacity(INPUTS_MAX);
        let mut lines = Lines::default();
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        let mut armed: Option<Timestamp> = None;
        let mut clock_changes = self.clock.changes();
        let mut stopping = None;
        // What loading has declared.
        let mut healthy = self.turn();
        loop {
            if let Err(failure) = healthy {
                let stopped = match self.turn_all_away(lines.take_all()).or(stopping.take()) {
                    None => self.recover(&failure, &mut inputs).await,
                    asked => asked,
                };
                if let Some(done) = stopped {
                    let _ = done.send(Err(failure));
                    return;
                }
                armed = None;
                healthy = self.turn();
                continue;
            }
            self.arm(alarm.as_mut(), &mut armed);
            let mut rung = false;
            let has_room = self.held.is_none() && !self.in_flight.is_full();
            tokio::select! {
                biased;
                () = self.progress.changed() => {}
                Some(answer) = reads.recv() => self.read_done(answer),
                count = inputs.recv_many(&mut taken, INPUTS_MAX), if has_room && stopping.is_none() => {
                    if count == 0 {
                        return;
                    }
                    lines.next(&mut taken);
                }
                () = std::future::ready(()), if has_room && !lines.is_empty() => lines.next(&mut taken),
                () = &mut alarm, if armed.is_some() => rung = true,
                // The alarm counts real time, so it is set anew.
                () = clock_changes.changed() => armed = None,
            }
            let now = self.clock.now();
            // Not left to the alarm: under load there is always an input that is ready first.
            if rung || armed.is_some_and(|due| due <= now) {
                armed = None;
                self.core.handle(now, Command::Tick);
            }
            for Arrived { at, input, .. } in taken.drain(..) {
                match input {
                    Input::Commands(commands) => {
                        self.stopwatch.came(at, &commands);
                        self.handle_all(now, commands);
                    }
                    Input::Joined { connection, mailbox } => {
                        self.mailboxes.insert(connection, mailbox);
                    }
                    Input::Left { connection } => self.left(connection),
                    Input::CatchUp { to } => self.catch_ups.push(to),
                    Input::Fault(fault) => self.tell_all(&fault),
                    Input::Query(look) => look(&self.core),
                    Input::Stop { done } => stopping = Some(done),
                }
            }
            healthy = self.turn();
            if !lines.is_empty() {
                // Whoever has nothing in line yet may say so before the next turn.
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(done) = stopping.take() {
                let closed = self.close().await;
                // Nobody who is still here gets an answer any more.
                self.mailboxes.values().for_each(lose);
                let _ = done.send(closed);
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
        // A frozen clock has to be moved first, and that is a change.
        let Some(wait) = self.clock.until(deadline) else { return };
        alarm.reset(tokio::time::Instant::now() + wait);
        *armed = Some(deadline);
    }

    fn handle_all(&mut self, now: Timestamp, commands: Vec<Command>) {
        let mut may_send = None;
        for command in commands {
            if let Command::Send { origin, .. } = &command
                && !*may_send.get_or_insert_with(|| self.may_send())
            {
                self.refuse(*origin, Error::ServerBusy(DISK_FULL));
                continue;
            }
            self.core.handle(now, command);
        }
    }

    /// Whether the free-space gate lets sends in. Everything else goes on, so that receivers can
    /// drain a full disk.
    fn may_send(&mut self) -> bool {
        let allowed = self.store.sends_allowed();
        if allowed != self.sends_allowed {
            self.sends_allowed = allowed;
            if allowed {
                info!("free disk space is back above the reserve, sends are accepted again");
            } else {
                warn!("free disk space is below the reserve, sends are refused");
            }
        }
        allowed
    }

    fn refuse(&mut self, origin: Origin, error: Error) {
        self.metrics.limit_hit(Limit::FreeSpaceReserve);
        self.deliver(EffectKind::Reply { to: origin, result: Err(error) });
    }

    fn read_done(&mut self, answer: ReadAnswer) {
        if answer.generation == self.generation {
            self.reads_open -= 1;
            let command = Command::ReadDone { read: answer.read, result: answer.result };
            self.core.handle(self.clock.now(), command);
        }
    }

    /// Ends a turn: one submit, then everything that may go out goes out, one wake a connection.
    fn turn(&mut self) -> Result<(), StoreError> {
        self.turned_at = None;
        loop {
            let was_held = self.held.is_some();
            let effects = self.submit()?;
            self.release(effects);
            let returns = std::mem::take(&mut self.returns);
            // What came while a turn was held, and what is given back, makes a turn of its own.
            let more = was_held && self.held.is_none() || !returns.is_empty();
            for command in returns {
                self.core.handle(self.clock.now(), command);
            }
            if !more {
                break;
            }
        }
        self.answer_catch_ups();
        for mailbox in self.to_wake.drain(..) {
            mailbox.wake();
        }
        self.progress.failure().map_or(Ok(()), Err)
    }

    /// Tells those who asked that nothing is due any more: all deadlines have been looked at, and what
    /// was read for them has come.
    fn answer_catch_ups(&mut self) {
        if self.catch_ups.is_empty() || self.held.is_some() || 0 < self.reads_open {
            return;
        }
        let now = self.clock.now();
        if self.core.next_deadline().is_some_and(|deadline| deadline <= now) {
            return;
        }
        for to in std::mem::take(&mut self.catch_ups) {
            if let Some(mailbox) = self.mailboxes.get(&to.connection)
                && mailbox.put(Letter::CaughtUp { to })
            {
                self.to_wake.push(mailbox.clone());
            }
        }
    }

    /// Hands the rows of a turn to the store, and answers its effects. Keeps both if there is no room.
    fn submit(&mut self) -> Result<Vec<Effect>, StoreError> {
        let turn = self.held.take().unwrap_or_else(|| self.core.take_turn());
        if turn.batch.is_empty() {
            let after = turn.effects.iter().map(|effect| effect.after).max();
            self.stopwatch.wait_for(after.unwrap_or(self.progress.through()));
            return Ok(turn.effects);
        }
        let now = Instant::now();
        self.in_flight.settle(self.progress.through(), now);
        let bytes = turn.batch.bytes();
        if !self.in_flight.admits(bytes) {
            self.held = Some(turn);
            return Ok(Vec::new());
        }
        self.in_flight.add(turn.position, bytes, now);
        self.stopwatch.wait_for(turn.position);
        self.store.submit(SHARD, turn.position, turn.batch)?;
        Ok(turn.effects)
    }

    /// Lets out what waited for rows that are durable by now, then the effects of this turn that may.
    fn release(&mut self, effects: Vec<Effect>) {
        let durable = self.progress.through();
        self.in_flight.settle(durable, Instant::now());
        while let Some(released) = self.gate.release(durable) {
            for kind in released {
                self.deliver(kind);
            }
        }
        for effect in effects {
            if let Some(kind) = self.gate.pass(effect, durable) {
                self.deliver(kind);
            }
        }
        self.stopwatch.durable(durable);
    }

    fn deliver(&mut self, kind: EffectKind) {
        let connection = match &kind {
            EffectKind::Reply { to, result } => {
                if let Err(error) = result {
                    self.count_refused(error);
                }
                to.connection
            }
            EffectKind::Deliver { receiver, .. }
            | EffectKind::Drained { receiver }
            | EffectKind::ReceiverClosed { receiver, .. } => receiver.connection,
            EffectKind::EntityClosed { entity, scope, error } => {
                for mailbox in self.mailboxes.values() {
                    let (entity, scope, error) = (*entity, *scope, error.clone());
                    let kind = EffectKind::EntityClosed { entity, scope, error };
                    if mailbox.put(Letter::Effect(kind)) {
                        self.to_wake.push(mailbox.clone());
                    }
                }
                return;
            }
            EffectKind::AccessChanged { path, rules } => {
                info!(entity = %path, rules = rules.len(), "the access rules of an entity changed");
                self.authority.set_rules_of(path, rules);
                return;
            }
            EffectKind::Read { .. } => {
                let EffectKind::Read { read, request } = kind else { return };
                self.read(read, request);
                return;
            }
        };
        match self.mailboxes.get(&connection) {
            Some(mailbox) => {
                if let EffectKind::Deliver { delivery, .. } = &kind
                    && self.stopwatch.is_running()
                {
                    let now = *self.turned_at.get_or_insert_with(|| self.clock.now());
                    self.stopwatch.delivered(delivery, now);
                }
                if mailbox.put(Letter::Effect(kind)) {
                    self.to_wake.push(mailbox.clone());
                }
            }
            // A connection that has left needs no answer.
            None => self.returns.extend(release(kind)),
        }
    }

    /// Counts what was refused because of a limit that the core keeps, for whatever door it came by.
    fn count_refused(&self, error: &Error) {
        match error {
            Error::MessageTooLarge { .. } => self.metrics.limit_hit(Limit::MessageSize),
            Error::EntityFull { .. } => self.metrics.limit_hit(Limit::EntitySize),
            Error::QuotaExceeded(_) => self.metrics.limit_hit(Limit::Entities),
            _ => {}
        }
    }

    fn tell_all(&mut self, fault: &Sudden) {
        for mailbox in self.mailboxes.values() {
            if mailbox.put(Letter::Fault(fault.clone())) {
                self.to_wake.push(mailbox.clone());
            }
        }
    }

    /// A connection is gone, and has closed its receivers. What it has not looked at goes back.
    fn left(&mut self, connection: u64) {
        let Some(mailbox) = self.mailboxes.remove(&connection) else { return };
        let mut letters = Vec::new();
        mailbox.take(&mut letters);
        for letter in letters {
            if let Letter::Effect(kind) = letter {
                self.returns.extend(release(kind));
            }
        }
    }

    /// Reads rows on a thread that may block. Requests are pages, so the hand-over is paid once for
    /// many messages.
    fn read(&mut self, read: ReadId, request: ReadRequest) {
        self.reads_open += 1;
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

    /// Closes the store; what the core has taken is durable by then.
    async fn close(&mut self) -> Result<(), StoreError> {
        while self.held.is_some() {
            self.progress.changed().await;
            self.turn()?;
        }
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed.unwrap_or_else(|panic| Err(StoreError::Unknown(panic.to_string())))
    }

    /// Starts over from what is on disk. Ends early when asked to stop.
    async fn recover(
        &mut self,
        failure: &StoreError,
        inputs: &mut mpsc::UnboundedReceiver<Arrived>,
    ) -> Option<StopRequest> {
        error!(error = %failure, "the store failed, all connections are closed and it is reopened");
        self.mailboxes.values().for_each(lose);
        self.gate = Gate::default();
        self.in_flight = InFlight::default();
        self.held = None;
        self.stopwatch.forget();
        self.returns.clear();
        self.reads_open = 0;
        self.catch_ups.clear();
        self.generation += 1;
        self.progress = Progress::default();
        let mut pause = self.reopened_at.is_some_and(|at| at.elapsed() < REOPEN_PAUSE);
        loop {
            if pause && let Some(done) = self.turn_away(inputs).await {
                return Some(done);
            }
            match self.reopen().await {
                Ok(core) => {
                    subscribe(&*self.store, &self.progress);
                    self.authority.set_rules_of_all(core.access_rules());
                    self.core = core;
                    self.reopened_at = Some(Instant::now());
                    info!("the store is open again");
                    return None;
                }
                Err(failure) => error!(error = %failure, "the store cannot be reopened yet"),
            }
            pause = true;
        }
    }

    /// Lets [`REOPEN_PAUSE`] pass without a store. Nobody is left waiting for an answer meanwhile:
    /// connections that come are told at once, and commands are dropped because all that are here
    /// have been told.
    async fn turn_away(
        &mut self,
        inputs: &mut mpsc::UnboundedReceiver<Arrived>,
    ) -> Option<StopRequest> {
        let pause = tokio::time::sleep(REOPEN_PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return None,
                Some(arrived) = inputs.recv() => {
                    if let Some(done) = self.turn_one_away(arrived.input) {
                        return Some(done);
                    }
                }
            }
        }
    }

    /// What is in line when the store fails has an unknown outcome, as all that was asked.
    fn turn_all_away(&mut self, waiting: impl Iterator<Item = Arrived>) -> Option<StopRequest> {
        waiting.filter_map(|arrived| self.turn_one_away(arrived.input)).last()
    }

    fn turn_one_away(&mut self, input: Input) -> Option<StopRequest> {
        match input {
            // A query that is dropped tells whoever asked.
            Input::Commands(_) | Input::CatchUp { .. } | Input::Fault(_) | Input::Query(_) => {}
            Input::Joined { connection, mailbox } => {
                lose(&mailbox);
                self.mailboxes.insert(connection, mailbox);
            }
            Input::Left { connection } => {
                self.mailboxes.remove(&connection);
            }
            Input::Stop { done } => return Some(done),
        }
        None
    }

    async fn reopen(&mut self) -> anyhow::Result<Broker> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.reopen()).await??;
        (self.open)(&*self.store)
    }
}

/// Tells a connection that the store has failed.
fn lose(mailbox: &Mailbox) {
    mailbox.put(Letter::StoreLost);
    mailbox.wake();
}

/// Puts a message back that never got to its receiver, so that nobody has to wait until its lock ends.
fn release(kind: EffectKind) -> Option<Command> {
    let EffectKind::Deliver { delivery, .. } = kind else { return None };
    let (entity, token) = (delivery.entity, delivery.lock?.token);
    let settlement = Settlement::Release;
    Some(Command::Settle { origin: None, entity, token, settlement, transaction: None })
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

#[cfg(test)]
mod tests;
