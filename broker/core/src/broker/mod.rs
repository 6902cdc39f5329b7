//! The broker: takes commands, keeps queues, yields turns.
//!
//! Every command is decided, which may refuse it, and comes to facts; `Broker::commit` is the one
//! place where a fact changes memory and rows. Afterwards queues that were touched give out what
//! they can (`deliver.rs`).

mod deadline;
mod deliver;
mod open;
mod read;
mod send;
mod settle;
pub mod stats;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use peeklock_storage::{Batch, CommitPosition, Epoch, Key};

use self::deadline::Deadlines;
use self::read::Purpose;
use self::stats::Counters;
use crate::change::Change;
use crate::command::Command;
use crate::effect::{Effect, EffectKind, Reply, Turn};
use crate::entity::namespace::{Namespace, QueueEntities};
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::{Error, LoadError};
use crate::id::{EntityId, IdSource, NumberMap, Origin, ReadId, ReceiverId};
use crate::queue::receiver::Slot;
use crate::queue::{Definition, Queue, Room, Traces};
use crate::rows::{self, StateRow};
use crate::time::Timestamp;

/// What the service says. Clients show it to people.
const SESSION_RECEIVER_ON_PLAIN_ENTITY: &str = "A sessionful message receiver cannot be created on \
    an entity that does not require sessions. Ensure RequiresSession is set to true when creating a \
    Queue or Subscription to enable sessionful behavior.";

/// All entities of a shard, and what is going on in them.
pub struct Broker {
    settings: BrokerSettings,
    ids: Box<dyn IdSource + Send>,
    namespace: Namespace,
    /// By entity id; ids are dense and never used again.
    queues: Vec<Option<Queue>>,
    receivers: NumberMap<ReceiverId, (EntityId, Slot)>,
    deadlines: Deadlines,
    reads: BTreeMap<ReadId, Purpose>,
    next_read: u64,
    /// Octets of memory that messages take, over all queues.
    memory: usize,
    /// Where the search for memory to give up continues.
    reclaim_hand: usize,
    /// The latest time there was. A clock that is set back does not bring locks back.
    now: Timestamp,
    /// Of the last turn that was not empty.
    position: CommitPosition,
    batch: Batch,
    effects: Vec<Effect>,
    /// Entities whose row is to be written this turn.
    dirty: Vec<EntityId>,
    /// Queues that may have something to give out.
    touched: Vec<EntityId>,
    counters: Counters,
}

impl Broker {
    /// A broker with no entities.
    pub fn new(settings: BrokerSettings, ids: Box<dyn IdSource + Send>) -> Self {
        Broker {
            settings,
            ids,
            namespace: Namespace::default(),
            queues: vec![None],
            receivers: NumberMap::default(),
            deadlines: Deadlines::default(),
            reads: BTreeMap::new(),
            next_read: 1,
            memory: 0,
            reclaim_hand: 0,
            now: Timestamp(0),
            position: CommitPosition(0),
            batch: Batch::new(Epoch(0)),
            effects: Vec::new(),
            dirty: Vec::new(),
            touched: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Which rows [`Broker::load`] wants, of [`peeklock_storage::Table::State`]. They are few: one
    /// an entity, whatever it holds.
    pub fn load_range() -> std::ops::Range<Key> {
        rows::state_range()
    }

    /// The broker as it was when the last durable turn was taken, less what is volatile: locks are
    /// free, receivers gone. Reads no message.
    pub fn load(
        settings: BrokerSettings,
        ids: Box<dyn IdSource + Send>,
        state_rows: impl IntoIterator<Item = (Key, Bytes)>,
    ) -> Result<Self, LoadError> {
        let mut broker = Broker::new(settings, ids);
        let mut next_entity = EntityId(1);
        let (mut definitions, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        for (key, row) in state_rows {
            match rows::read_state_row(&key, &row)? {
                StateRow::NextEntity(id) => next_entity = id,
                StateRow::Definition(definition) => {
                    definitions.insert(definition.entity, definition);
                }
                StateRow::Numbers(entity, counted) => {
                    numbers.insert(entity, counted);
                }
            }
        }
        let mut loaded = BTreeMap::new();
        for (entity, definition) in definitions {
            if next_entity <= entity {
                return Err(LoadError::Inconsistent(format!("entity {entity} has a future id")));
            }
            let Some(numbers) = numbers.remove(&entity) else {
                return Err(LoadError::Inconsistent(format!("entity {entity} has no numbers")));
            };
            loaded.insert(entity, Queue::load(definition, numbers));
        }
        if let Some(entity) = numbers.keys().next() {
            return Err(LoadError::Inconsistent(format!("entity {entity} has no definition")));
        }
        for queue in loaded.values() {
            let Definition { entity, dead_letter, transfer_dead_letter, path, .. } =
                &queue.definition;
            let (Some(dead_letter), Some(transfer_dead_letter)) =
                (*dead_letter, *transfer_dead_letter)
            else {
                continue;
            };
            for (subqueue, kind) in [
                (dead_letter, Subqueue::DeadLetter),
                (transfer_dead_letter, Subqueue::TransferDeadLetter),
            ] {
                let is_there = loaded
                    .get(&subqueue)
                    .is_some_and(|other| other.definition.path == path.with_subqueue(kind));
                if !is_there {
                    return Err(LoadError::Inconsistent(format!("{path} lacks a subqueue")));
                }
            }
            if broker.namespace.resolve(path).is_some() {
                return Err(LoadError::Inconsistent(format!("{path} is there twice")));
            }
            let entities = QueueEntities { main: *entity, dead_letter, transfer_dead_letter };
            broker.namespace.insert(path, entities);
        }
        broker.queues = (0..next_entity.0).map(|id| loaded.remove(&EntityId(id))).collect();
        Ok(broker)
    }

    /// Takes one command. What comes of it is in the next [`Broker::take_turn`].
    pub fn handle(&mut self, now: Timestamp, command: Command) {
        self.now = self.now.max(now);
        match command {
            Command::EnsureQueue { origin, path, settings } => {
                let result = self.ensure_queue(path, settings);
                if let Some(origin) = origin {
                    self.reply_after_commit(origin, result);
                }
            }
            Command::OpenSender { origin, path } => {
                let result = self.open_sender(&path);
                self.reply_at_once(origin, result);
            }
            Command::OpenReceiver { origin, receiver, path, mode, session } => {
                let result = match session {
                    None => self.open_receiver(receiver, &path, mode),
                    Some(_) => Err(Error::NotAllowed(SESSION_RECEIVER_ON_PLAIN_ENTITY)),
                };
                self.reply_at_once(origin, result);
            }
            Command::OpenManagement { origin, path } => {
                let result = self.open_management(&path);
                self.reply_at_once(origin, result);
            }
            Command::CloseReceiver { receiver } => self.close_receiver(receiver),
            Command::Send { origin, transaction: Some(_), .. }
            | Command::Discharge { origin, .. } => {
                self.reply_at_once(origin, Err(Error::TransactionUnknown));
            }
            Command::Send { origin, entity, messages, transaction: None } => {
                let result = self.send(entity, messages);
                self.reply_after_commit(origin, result);
            }
            Command::Demand { receiver, limit } => self.demand(receiver, limit, false),
            Command::Drain { receiver, limit } => self.demand(receiver, limit, true),
            Command::Settle { origin, transaction: Some(_), .. } => {
                self.answer_settle(origin, Err(Error::TransactionUnknown));
            }
            Command::UpdateDisposition { origin, transaction: Some(_), .. } => {
                self.answer_settle(Some(origin), Err(Error::TransactionUnknown));
            }
            Command::Settle { origin, entity, token, settlement, transaction: None } => {
                self.settle(origin, entity, token, settlement);
            }
            Command::UpdateDisposition {
                origin,
                entity,
                tokens,
                settlement,
                session: _,
                transaction: None,
            } => {
                self.update_disposition(origin, entity, tokens, settlement);
            }
            Command::RenewLocks { origin, entity, tokens } => {
                let result = self.renew_locks(entity, &tokens);
                self.reply_at_once(origin, result);
            }
            Command::Browse { origin, entity, from, count_max, bytes_max, session: _ } => {
                self.browse(origin, entity, from, count_max, bytes_max);
            }
            Command::CreateQueue { origin, .. }
            | Command::UpdateQueue { origin, .. }
            | Command::DeleteQueue { origin, .. }
            | Command::DescribeQueue { origin, .. } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Entity management")));
            }
            Command::RenewSessionLock { origin, .. }
            | Command::SetSessionState { origin, .. }
            | Command::GetSessionState { origin, .. }
            | Command::ListSessions { origin, .. } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Message sessions")));
            }
            Command::Schedule { origin, .. } | Command::CancelScheduled { origin, .. } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Scheduling")));
            }
            Command::ReceiveDeferred { origin, .. } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Deferral")));
            }
            Command::DeleteBatch { origin, .. } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Batch deletion")));
            }
            Command::Declare { origin } => {
                self.reply_at_once(origin, Err(Error::NotImplemented("Transactions")));
            }
            Command::CloseCoordinator { .. } => {}
            Command::ReadDone { read, result } => self.read_done(read, result),
            Command::Tick => self.tick(),
        }
        self.give_out();
    }

    /// What came of the commands since the last turn.
    pub fn take_turn(&mut self) -> Turn {
        for entity in std::mem::take(&mut self.dirty) {
            let Some(queue) = queue_mut(&mut self.queues, entity) else { continue };
            queue.dirty = false;
            rows::persist_numbers(entity, &queue.numbers(), &mut self.batch);
        }
        self.reclaim();
        let mut effects = std::mem::take(&mut self.effects);
        if self.batch.is_empty() {
            // Nothing is written, so what was to wait for it waits for what was written before.
            for effect in &mut effects {
                effect.after = effect.after.min(self.position);
            }
        } else {
            self.position = self.position.next();
        }
        let batch = std::mem::replace(&mut self.batch, Batch::new(Epoch(0)));
        Turn { position: self.position, batch, effects }
    }

    /// When something is due that no command will bring about.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first()
    }

    /// Applies a fact, and writes it down.
    fn commit(&mut self, change: &Change) {
        let position = self.open_position();
        let traces = match change {
            Change::QueueCreated {
                entity,
                dead_letter,
                transfer_dead_letter,
                path,
                settings,
                at,
            } => {
                let entities = QueueEntities {
                    main: *entity,
                    dead_letter: *dead_letter,
                    transfer_dead_letter: *transfer_dead_letter,
                };
                self.create_queue(entities, path, settings, *at);
                Traces::default()
            }
            Change::DeadLettered { entity, to, .. } => {
                let traces = self.apply(*entity, change, position);
                self.apply(*to, change, position);
                traces
            }
            Change::SettingsChanged { entity, .. } => {
                let traces = self.apply(*entity, change, position);
                self.persist_definition(*entity);
                traces
            }
            Change::Accepted { entity, .. }
            | Change::Locked { entity, .. }
            | Change::Renewed { entity, .. }
            | Change::Returned { entity, .. }
            | Change::Removed { entity, .. }
            | Change::Lost { entity, .. } => self.apply(*entity, change, position),
        };
        rows::persist(change, traces, &mut self.batch);
    }

    fn create_queue(
        &mut self,
        entities: QueueEntities,
        path: &EntityPath,
        settings: &QueueSettings,
        at: Timestamp,
    ) {
        let QueueEntities { main, dead_letter, transfer_dead_letter } = entities;
        for (entity, subqueue) in [
            (main, Subqueue::Main),
            (dead_letter, Subqueue::DeadLetter),
            (transfer_dead_letter, Subqueue::TransferDeadLetter),
        ] {
            let is_main = subqueue == Subqueue::Main;
            let definition = Definition {
                entity,
                dead_letter: is_main.then_some(dead_letter),
                transfer_dead_letter: is_main.then_some(transfer_dead_letter),
                path: path.with_subqueue(subqueue),
                settings: settings.clone(),
                created_at: at,
                updated_at: at,
            };
            assert_eq!(self.queues.len(), entity.0 as usize, "ids are given in order");
            self.queues.push(Some(Queue::new(definition)));
            self.persist_definition(entity);
            self.touch(entity);
        }
        self.namespace.insert(path, entities);
    }

    fn persist_definition(&mut self, entity: EntityId) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            rows::persist_definition(&queue.definition, &mut self.batch);
        }
    }

    fn apply(&mut self, entity: EntityId, change: &Change, position: CommitPosition) -> Traces {
        let room = self.room();
        let queue = queue_mut(&mut self.queues, entity).expect("facts are about entities we have");
        let before = queue.memory();
        let traces = match change {
            Change::DeadLettered {
                to,
                sequence,
                attempts,
                message,
                application_properties,
                ..
            } if *to == entity => {
                let section = application_properties;
                queue.apply_arrival(*sequence, *attempts, message, section, position, room);
                Traces::default()
            }
            Change::QueueCreated { .. }
            | Change::SettingsChanged { .. }
            | Change::Accepted { .. }
            | Change::Locked { .. }
            | Change::Renewed { .. }
            | Change::Returned { .. }
            | Change::Removed { .. }
            | Change::DeadLettered { .. }
            | Change::Lost { .. } => queue.apply(change, position, room),
        };
        self.memory = self.memory - before + queue.memory();
        if !matches!(change, Change::Locked { .. } | Change::Renewed { .. }) {
            self.touch(entity);
        }
        traces
    }

    /// Notes that an entity's row changes, and that it may have something to give out.
    fn touch(&mut self, entity: EntityId) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if !queue.dirty {
            queue.dirty = true;
            self.dirty.push(entity);
        }
        self.wake(entity);
    }

    /// Notes that an entity may have something to give out.
    fn wake(&mut self, entity: EntityId) {
        if self.touched.last() != Some(&entity) {
            self.touched.push(entity);
        }
    }

    /// Where the batch that is being filled will stand.
    const fn open_position(&self) -> CommitPosition {
        self.position.next()
    }

    const fn room(&self) -> Room {
        Room {
            settings: self.settings,
            full: self.settings.cache_bytes_max <= self.memory,
            tight: self.settings.cache_bytes_max / 2 <= self.memory,
        }
    }

    fn queue(&self, entity: EntityId) -> Result<&Queue, Error> {
        let queue = self.queues.get(entity.0 as usize).and_then(Option::as_ref);
        queue.ok_or_else(|| Error::EntityNotFound(entity.to_string()))
    }

    fn resolve(&self, path: &EntityPath) -> Result<EntityId, Error> {
        self.namespace.resolve(path).ok_or_else(|| Error::EntityNotFound(path.to_string()))
    }

    /// Answers with what is true already, or refuses.
    fn reply_at_once(&mut self, to: Origin, result: Result<Reply, Error>) {
        self.emit(CommitPosition(0), EffectKind::Reply { to, result });
    }

    /// Answers once the batch that is being filled is durable. Refusals need not wait.
    fn reply_after_commit(&mut self, to: Origin, result: Result<Reply, Error>) {
        let after = if result.is_ok() { self.open_position() } else { CommitPosition(0) };
        self.emit(after, EffectKind::Reply { to, result });
    }

    fn emit(&mut self, after: CommitPosition, kind: EffectKind) {
        self.effects.push(Effect { after, kind });
    }

    /// Makes idle queues forget ready messages when memory is nearly used up, a few queues a turn.
    /// They can be read again; and who takes messages out now is better served by the memory.
    fn reclaim(&mut self) {
        const QUEUES_PER_TURN: usize = 16;
        let enough = self.settings.cache_bytes_max / 8 * 7;
        for _ in 0..QUEUES_PER_TURN.min(self.queues.len()) {
            if self.memory <= enough {
                return;
            }
            self.reclaim_hand = (self.reclaim_hand + 1) % self.queues.len();
            let Some(Some(queue)) = self.queues.get_mut(self.reclaim_hand) else { continue };
            if queue.receivers.any_waiting() {
                continue;
            }
            let before = queue.memory();
            while before / 2 < queue.memory() && queue.evict_last() {}
            self.memory = self.memory - before + queue.memory();
        }
    }
}

/// Borrows a queue and nothing else of the broker.
fn queue_mut(queues: &mut [Option<Queue>], entity: EntityId) -> Option<&mut Queue> {
    queues.get_mut(entity.0 as usize).and_then(Option::as_mut)
}

/// What [`crate::invariant`] asks.
impl Broker {
    pub(crate) fn check_queues(&self) -> Result<(), String> {
        let mut memory = 0;
        for queue in self.queues.iter().flatten() {
            queue.check()?;
            self.deadlines.check(queue)?;
            memory += queue.memory();
        }
        if memory != self.memory {
            return Err(format!("queues take {memory} octets, not {}", self.memory));
        }
        Ok(())
    }

    pub(crate) fn check_receivers(&self) -> Result<(), String> {
        let served: usize = self.queues.iter().flatten().map(|queue| queue.receivers.len()).sum();
        if served != self.receivers.len() {
            return Err(format!("{} receivers, {served} served", self.receivers.len()));
        }
        Ok(())
    }

    pub(crate) fn check_reads(&self) -> Result<(), String> {
        let own = |purpose: &&Purpose| matches!(purpose, Purpose::Page(_) | Purpose::Bodies(..));
        let known = self.reads.values().filter(own).count();
        let expected: usize = self.queues.iter().flatten().map(Queue::reads_under_way).sum();
        if known != expected {
            return Err(format!("{known} reads for queues, {expected} queues waiting for one"));
        }
        Ok(())
    }
}
