//! Transactions: what is asked with one is kept until it is discharged, and then happens at once or not
//! at all.
//!
//! Nothing of an open transaction is written: a crash rolls it back, as the end of its link does. A
//! discharge decides everything first, reading what it needs, and then applies it within one turn, so
//! that all of it is in one batch.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::Broker;
use super::dedup::{self, Lookup, Sieve};
use super::read::Purpose;
use crate::change::Change;
use crate::command::{Enlistment, ReadRequest, ReadRows, Settlement};
use crate::effect::Reply;
use crate::entity::settings::BrokerSettings;
use crate::error::Error;
use crate::id::{EntityId, LockToken, Origin, ReadId, SequenceNumber, TransactionId};
use crate::message::IncomingMessage;
use crate::queue::Decision;
use crate::queue::paging::BodyPlan;
use crate::time::Timestamp;

#[cfg(test)]
mod history;
#[cfg(test)]
mod tests;

/// What a kept message takes besides its octets.
const MESSAGE_OVERHEAD: u64 = 250;

/// Transactions that timed out and are remembered, so that who comes back late hears why. Older ones
/// are unknown.
const TIMED_OUT_MAX: usize = 1024;

/// All transactions of a shard.
#[derive(Debug)]
pub(super) struct Transactions {
    /// They all last equally long, so the first is the first to time out.
    open: BTreeMap<TransactionId, Transaction>,
    /// Connection, link and transaction.
    owners: BTreeSet<(u64, u64, TransactionId)>,
    /// Those that timed out, and the connections they were declared on.
    timed_out: BTreeMap<TransactionId, u64>,
    next: u64,
    /// Octets kept for all of them, those included that are being discharged.
    bytes: u64,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Transaction {
    connection: u64,
    link: u64,
    /// The first moment at which it can no longer be used.
    until: Timestamp,
    settlements: Vec<EnlistedSettlement>,
    sends: Vec<EnlistedSend>,
    lock_count: usize,
    message_count: usize,
    bytes: u64,
    /// What was refused without the client hearing of it. Then it can only be rolled back.
    spoilt_by: Option<String>,
}

#[derive(Debug)]
struct EnlistedSettlement {
    entity: EntityId,
    tokens: Vec<LockToken>,
    settlement: Settlement,
    /// Whether the client keeps the delivery in mind until it hears what came of it.
    answered: bool,
}

#[derive(Debug)]
struct EnlistedSend {
    entity: EntityId,
    messages: SmallVec<[IncomingMessage; 1]>,
    /// The numbers the client was given, if it asked for some.
    drawn: Vec<SequenceNumber>,
}

/// A commit that was asked for, while its bodies are being read.
#[derive(Debug)]
pub(super) struct Discharge {
    origin: Origin,
    transaction: Transaction,
    /// What is read.
    needs: Needs,
    /// The read.
    read: ReadId,
}

/// What a commit needs to know first, in the order of the rows in the answer.
#[derive(Debug, Default)]
struct Needs {
    /// By entity, and how many rows each takes.
    bodies: Vec<(EntityId, BodyPlan, usize)>,
    /// Message-ids.
    lookups: Vec<Lookup>,
}

/// What a commit comes to.
enum Verdict {
    /// These facts, and the messages.
    Commit(Vec<Change>),
    /// Ask again once these were read.
    Read(Needs, ReadRequest),
}

impl Default for Transactions {
    fn default() -> Self {
        Transactions {
            open: BTreeMap::new(),
            owners: BTreeSet::new(),
            timed_out: BTreeMap::new(),
            next: 1,
            bytes: 0,
        }
    }
}

impl Transactions {
    /// When the first of them times out.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.open.first_key_value().map(|(_, transaction)| transaction.until)
    }

    fn of_connection(&self, connection: u64) -> impl Iterator<Item = TransactionId> {
        let (first, last) = (TransactionId(0), TransactionId(u64::MAX));
        let all = (connection, 0, first)..=(connection, u64::MAX, last);
        self.owners.range(all).map(|(_, _, id)| *id)
    }

    fn of_link(&self, connection: u64, link: u64) -> Vec<TransactionId> {
        let (first, last) = (TransactionId(0), TransactionId(u64::MAX));
        let all = (connection, link, first)..=(connection, link, last);
        self.owners.range(all).map(|(_, _, id)| *id).collect()
    }

    fn missing(&self, connection: u64, id: TransactionId) -> Error {
        match self.timed_out.get(&id) {
            Some(owner) if *owner == connection => Error::TransactionTimeout,
            Some(_) | None => Error::TransactionUnknown,
        }
    }

    fn get(&self, connection: u64, id: TransactionId) -> Result<&Transaction, Error> {
        let found = self.open.get(&id).filter(|found| found.connection == connection);
        found.ok_or_else(|| self.missing(connection, id))
    }

    fn get_mut(&mut self, connection: u64, id: TransactionId) -> Result<&mut Transaction, Error> {
        let missing = self.missing(connection, id);
        self.open.get_mut(&id).filter(|found| found.connection == connection).ok_or(missing)
    }

    fn take(&mut self, connection: u64, id: TransactionId) -> Result<Transaction, Error> {
        self.get(connection, id)?;
        self.remove(id).ok_or(Error::TransactionUnknown)
    }

    fn remove(&mut self, id: TransactionId) -> Option<Transaction> {
        let transaction = self.open.remove(&id)?;
        self.owners.remove(&(transaction.connection, transaction.link, id));
        Some(transaction)
    }
}

impl Transaction {
    fn tokens(&self) -> impl Iterator<Item = (EntityId, LockToken)> {
        self.settlements
            .iter()
            .flat_map(|enlisted| enlisted.tokens.iter().map(|token| (enlisted.entity, *token)))
    }

    /// Refuses what would go beyond the limits.
    fn check_room(
        &self,
        messages: &[IncomingMessage],
        in_all: u64,
        settings: &BrokerSettings,
    ) -> Result<u64, Error> {
        if settings.transaction_messages_max < self.message_count + messages.len() {
            return Err(Error::NotAllowed(
                "The maximum number of messages in a single transaction is exceeded.",
            ));
        }
        let bytes = messages
            .iter()
            .fold(0_u64, |sum, message| sum.saturating_add(message.size() + MESSAGE_OVERHEAD));
        let is_alone = self.message_count == 0 && messages.len() == 1;
        if !is_alone && settings.transaction_bytes_max < self.bytes.saturating_add(bytes) {
            return Err(Error::NotAllowed(
                "The maximum size of the messages in a single transaction is exceeded.",
            ));
        }
        if settings.transactions_bytes_max < in_all.saturating_add(bytes) {
            return Err(Error::ServerBusy("Open transactions hold too much."));
        }
        Ok(bytes)
    }
}

impl Broker {
    pub(super) fn declare(&mut self, origin: Origin) -> Result<Reply, Error> {
        self.expire_transactions();
        let Origin { connection, link, .. } = origin;
        let per_connection = self.transactions.of_connection(connection).count();
        if self.settings.connection_transactions_max <= per_connection {
            return Err(Error::NotAllowed("There are too many open transactions."));
        }
        if self.settings.transactions_max <= self.transactions.open.len() {
            return Err(Error::ServerBusy("There are too many open transactions."));
        }
        let transaction = TransactionId(self.transactions.next);
        self.transactions.next += 1;
        let until = self.now.plus(self.settings.transaction_time_max);
        let opened = Transaction {
            connection,
            link,
            until,
            settlements: Vec::new(),
            sends: Vec::new(),
            lock_count: 0,
            message_count: 0,
            bytes: 0,
            spoilt_by: None,
        };
        self.transactions.open.insert(transaction, opened);
        self.transactions.owners.insert((connection, link, transaction));
        Ok(Reply::Declared { transaction })
    }

    /// Keeps messages until the commit. They are checked now, so that the client hears at once, and
    /// again then.
    pub(super) fn enlist_send(
        &mut self,
        origin: Origin,
        enlistment: Enlistment,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> Result<Reply, Error> {
        self.expire_transactions();
        self.keep_send(origin, enlistment.transaction, entity, messages)?;
        Ok(Reply::Enlisted)
    }

    /// Keeps messages until the commit, and gives them numbers now.
    pub(super) fn enlist_schedule(
        &mut self,
        origin: Origin,
        id: TransactionId,
        entity: EntityId,
        messages: Vec<IncomingMessage>,
    ) -> Result<Reply, Error> {
        self.expire_transactions();
        let count = messages.len();
        self.keep_send(origin, id, entity, messages.into())?;
        let sequences: Vec<_> = (0..count).map(|_| self.draw_number(entity)).collect();
        let transaction = self.transactions.get_mut(origin.connection, id)?;
        if let Some(kept) = transaction.sends.last_mut() {
            kept.drawn.clone_from(&sequences);
        }
        Ok(Reply::Scheduled { sequences })
    }

    fn keep_send(
        &mut self,
        origin: Origin,
        id: TransactionId,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
    ) -> Result<(), Error> {
        self.may_admit(entity, &messages)?;
        let transaction = self.transactions.get(origin.connection, id)?;
        let bytes = transaction.check_room(&messages, self.transactions.bytes, &self.settings)?;
        let transaction = self.transactions.get_mut(origin.connection, id)?;
        transaction.bytes += bytes;
        transaction.message_count += messages.len();
        transaction.sends.push(EnlistedSend { entity, messages, drawn: Vec::new() });
        self.transactions.bytes += bytes;
        Ok(())
    }

    pub(super) fn enlist_settlement(
        &mut self,
        origin: Origin,
        enlistment: Enlistment,
        entity: EntityId,
        tokens: Vec<LockToken>,
        settlement: Settlement,
    ) {
        let result = self.keep_settlement(origin, enlistment, entity, tokens, settlement);
        self.answer_enlisted(origin, enlistment, result);
    }

    /// A refusal that the client does not hear of must not leave the rest to be committed.
    pub(super) fn answer_enlisted(
        &mut self,
        origin: Origin,
        enlistment: Enlistment,
        result: Result<Reply, Error>,
    ) {
        if let Err(error) = &result
            && !enlistment.answered
        {
            self.spoil(origin.connection, enlistment.transaction, error.to_string());
        }
        self.reply_at_once(origin, result);
    }

    /// One that is not there any more cannot be committed either.
    pub(super) fn spoil(&mut self, connection: u64, id: TransactionId, why: String) {
        if let Ok(transaction) = self.transactions.get_mut(connection, id) {
            transaction.spoilt_by.get_or_insert(why);
        }
    }

    /// Keeps settlements until the commit. Meanwhile nobody else can settle the locks, which run on.
    fn keep_settlement(
        &mut self,
        origin: Origin,
        enlistment: Enlistment,
        entity: EntityId,
        tokens: Vec<LockToken>,
        settlement: Settlement,
    ) -> Result<Reply, Error> {
        self.expire_transactions();
        let id = enlistment.transaction;
        let tokens: BTreeSet<_> = tokens.into_iter().collect();
        let locks_max = self.settings.tokens_max;
        let transaction = self.transactions.get(origin.connection, id)?;
        if locks_max < transaction.lock_count + tokens.len() {
            return Err(Error::NotAllowed(
                "The maximum number of settlements in a single transaction is exceeded.",
            ));
        }
        let queue = self.receivable(entity)?;
        for token in &tokens {
            // What it comes to is decided anew with the commit. A refusal is known now.
            queue.decide_settle(self.now, *token, &settlement)?;
        }
        let transaction = self.transactions.get_mut(origin.connection, id)?;
        transaction.lock_count += tokens.len();
        let tokens: Vec<_> = tokens.into_iter().collect();
        let answered = enlistment.answered;
        let enlisted = EnlistedSettlement { entity, tokens: tokens.clone(), settlement, answered };
        transaction.settlements.push(enlisted);
        for token in tokens {
            self.commit(&Change::Enlisted { entity, token });
        }
        Ok(Reply::Enlisted)
    }

    pub(super) fn discharge(&mut self, origin: Origin, id: TransactionId, fail: bool) {
        self.expire_transactions();
        match self.transactions.take(origin.connection, id) {
            Ok(transaction) if fail => {
                self.roll_back(&transaction);
                self.reply_at_once(origin, Ok(Reply::Discharged));
            }
            Ok(transaction) => {
                let (needs, read) = (Needs::default(), ReadId(0));
                let discharge = Discharge { origin, transaction, needs, read };
                self.commit_transaction(discharge, Sieve::default());
            }
            Err(error) => self.reply_at_once(origin, Err(error)),
        }
    }

    pub(super) fn close_coordinator(&mut self, connection: u64, link: u64) {
        for id in self.transactions.of_link(connection, link) {
            if let Some(transaction) = self.transactions.remove(id) {
                self.roll_back(&transaction);
            }
        }
    }

    /// Rolls back what was open for too long.
    pub(super) fn expire_transactions(&mut self) {
        while let Some((id, transaction)) = self.transactions.open.first_key_value()
            && transaction.until <= self.now
        {
            let id = *id;
            let Some(transaction) = self.transactions.remove(id) else { return };
            self.transactions.timed_out.insert(id, transaction.connection);
            if TIMED_OUT_MAX < self.transactions.timed_out.len() {
                self.transactions.timed_out.pop_first();
            }
            self.roll_back(&transaction);
        }
    }

    /// The rows a commit waited for have come.
    pub(super) fn discharge_read(&mut self, mut discharge: Discharge, rows: ReadRows) {
        let mut gets = rows.gets.into_iter();
        let Needs { bodies, lookups } = std::mem::take(&mut discharge.needs);
        for (entity, plan, count) in bodies {
            let gets = gets.by_ref().take(count).collect();
            self.restore_bodies(entity, plan, ReadRows { gets, ..ReadRows::default() });
            self.wake(entity);
        }
        let (read, entities) = (discharge.read, entities_of(&lookups));
        self.commit_transaction(discharge, Sieve::new(lookups, &mut gets));
        self.end_lookups(entities, read);
    }

    /// They could not be read.
    pub(super) fn discharge_unread(&mut self, discharge: &Discharge) {
        self.end_lookups(entities_of(&discharge.needs.lookups), discharge.read);
        self.fail_transaction(discharge, Error::StoreUnavailable.to_string());
    }

    fn end_lookups(&mut self, entities: BTreeSet<EntityId>, read: ReadId) {
        for entity in entities {
            self.end_lookup(entity, read);
        }
    }

    fn commit_transaction(&mut self, mut discharge: Discharge, mut sieve: Sieve) {
        let transaction = &discharge.transaction;
        if let Some(refused) = transaction.spoilt_by.clone() {
            return self.fail_transaction(&discharge, refused);
        }
        match self.decide_transaction(transaction, &sieve) {
            Ok(Verdict::Commit(changes)) => {
                self.transactions.bytes -= transaction.bytes;
                for change in changes {
                    self.count_settlement(&change);
                    self.commit(&change);
                }
                for send in discharge.transaction.sends {
                    self.accept_enlisted(send, &mut sieve);
                }
                self.counters.transactions_committed += 1;
                self.reply_after_commit(discharge.origin, Ok(Reply::Discharged));
            }
            Ok(Verdict::Read(needs, request)) => {
                if let Err(error) = self.may_read_for_client() {
                    return self.fail_transaction(&discharge, error.to_string());
                }
                discharge.read = ReadId(self.next_read);
                for entity in entities_of(&needs.lookups) {
                    self.begin_lookup(entity, discharge.read);
                }
                discharge.needs = needs;
                self.start_read(request, Purpose::Discharge(Box::new(discharge)));
            }
            Err(error) => self.fail_transaction(&discharge, error.to_string()),
        }
    }

    fn accept_enlisted(&mut self, send: EnlistedSend, sieve: &mut Sieve) {
        let EnlistedSend { entity, messages, drawn } = send;
        let mut drawn = drawn.into_iter();
        for message in messages {
            let number = drawn.next();
            if !self.is_duplicate(entity, &message, sieve) {
                self.accept_one(entity, message, number);
            }
        }
    }

    /// Says what everything comes to, or why it cannot be.
    fn decide_transaction(
        &self,
        transaction: &Transaction,
        sieve: &Sieve,
    ) -> Result<Verdict, Error> {
        let mut changes = Vec::with_capacity(transaction.lock_count);
        let mut missing = BTreeMap::<EntityId, Vec<LockToken>>::new();
        for EnlistedSettlement { entity, tokens, settlement, .. } in &transaction.settlements {
            let queue = self.receivable(*entity)?;
            for token in tokens {
                match queue.decide_enlisted(self.now, *token, settlement)? {
                    Decision::Change(change) => changes.push(change),
                    Decision::BodyMissing => missing.entry(*entity).or_default().push(*token),
                }
            }
        }
        let mut by_entity = BTreeMap::<EntityId, Vec<&IncomingMessage>>::new();
        for EnlistedSend { entity, messages, .. } in &transaction.sends {
            by_entity.entry(*entity).or_default().extend(messages);
        }
        let mut must_look_up = false;
        for (entity, messages) in &by_entity {
            let queue = self.sendable(*entity)?;
            self.may_take(queue, messages.iter().copied())?;
            dedup::check_ids(queue, messages.iter().copied())?;
            must_look_up |= self.must_look_up(*entity, messages.iter().copied(), sieve);
        }
        if missing.is_empty() && !must_look_up {
            return Ok(Verdict::Commit(changes));
        }
        let (mut needs, mut request) = (Needs::default(), ReadRequest::default());
        needs.bodies = self.plan_bodies_of(missing, &mut request)?;
        // All of them, though some may be known from the read before: what came since that one began
        // is known only until the next begins.
        for (entity, messages) in by_entity {
            self.ask_for(self.queue(entity)?, messages, &mut needs.lookups, &mut request);
        }
        Ok(Verdict::Read(needs, request))
    }

    fn plan_bodies_of(
        &self,
        missing: BTreeMap<EntityId, Vec<LockToken>>,
        request: &mut ReadRequest,
    ) -> Result<Vec<(EntityId, BodyPlan, usize)>, Error> {
        let mut plans = Vec::new();
        let (mut bytes, mut count) = (0_u64, 0);
        for (entity, tokens) in missing {
            let queue = self.queue(entity)?;
            let mut plan = BodyPlan::new(self.open_position());
            let before = request.gets.len();
            for token in tokens {
                let Some(held) = queue.locks.held(token) else { continue };
                let Some(entry) = queue.entry(held.sequence) else { continue };
                plan.want(entity, held.sequence, entry.traces, request);
                bytes = bytes.saturating_add(entry.size);
                count += 1;
            }
            plans.push((entity, plan, request.gets.len() - before));
        }
        if count > 1 && self.settings.settle_bytes_max < bytes {
            return Err(Error::ServerBusy("Please settle fewer messages at a time."));
        }
        Ok(plans)
    }

    fn fail_transaction(&mut self, discharge: &Discharge, why: String) {
        self.roll_back(&discharge.transaction);
        let error = Error::TransactionRolledBack(why);
        self.reply_at_once(discharge.origin, Err(error));
    }

    /// Locks that are still in force can be settled again; the messages are forgotten. Who settles first
    /// has forgotten the delivery too, and has no other way to it: that message counts as abandoned.
    fn roll_back(&mut self, transaction: &Transaction) {
        self.counters.transactions_rolled_back += 1;
        self.transactions.bytes -= transaction.bytes;
        for (entity, token) in transaction.tokens() {
            if self.queue(entity).is_ok_and(|queue| queue.locks.held(token).is_some()) {
                self.commit(&Change::Withdrawn { entity, token });
            }
        }
        for EnlistedSettlement { entity, tokens, .. } in
            transaction.settlements.iter().filter(|enlisted| !enlisted.answered)
        {
            for token in tokens {
                // A lock that has ended meanwhile is refused, and nobody waits to hear it.
                self.settle(None, *entity, *token, Settlement::Abandon { changes: Vec::new() });
            }
        }
    }
}

fn entities_of(lookups: &[Lookup]) -> BTreeSet<EntityId> {
    lookups.iter().map(|lookup| lookup.entity).collect()
}

/// What [`crate::invariant`] asks.
impl Broker {
    pub(crate) fn check_transactions(&self) -> Result<(), String> {
        let being_discharged = self.reads.values().filter_map(|purpose| {
            let Purpose::Discharge(discharge) = purpose else { return None };
            Some(&discharge.transaction)
        });
        let (mut bytes, mut enlisted) = (0, 0);
        for transaction in self.transactions.open.values().chain(being_discharged) {
            bytes += transaction.bytes;
            for (entity, token) in transaction.tokens() {
                let held = self.queue(entity).ok().and_then(|queue| queue.locks.held(token));
                if held.is_some_and(|held| !held.enlisted) {
                    return Err(format!("{token:?} is in a transaction and does not know it"));
                }
                enlisted += usize::from(held.is_some());
            }
        }
        if bytes != self.transactions.bytes {
            return Err(format!("transactions: {} octets, not {bytes}", self.transactions.bytes));
        }
        let queues = self.queues.iter().flatten();
        let marked: usize = queues.map(|queue| queue.locks.enlisted_count()).sum();
        if marked != enlisted {
            return Err(format!("{marked} locks enlisted, {enlisted} in transactions"));
        }
        if self.transactions.owners.len() != self.transactions.open.len() {
            return Err("a transaction has no owner".into());
        }
        Ok(())
    }
}
