//! Which messages are taken in. What then becomes of them is `arrive.rs`.

use smallvec::SmallVec;

use super::Broker;
use super::arrive::Arrival;
use super::dedup::{self, Sieve, Submission};
use crate::change::Change;
use crate::command::Enlistment;
use crate::entity::path::EntityPath;
use crate::error::Error;
use crate::id::{EntityId, Origin, SequenceNumber};
use crate::message::IncomingMessage;
use crate::queue::Queue;

/// What the service says. Clients show it to people.
const SESSION_ID_MISSING: &str = "The SessionId was not set on a message, and it cannot be sent to \
    the entity. Entities that have session support enabled can only receive messages that have the \
    SessionId set to a valid value.";

impl Broker {
    pub(super) fn send(
        &mut self,
        origin: Origin,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
        transaction: Option<Enlistment>,
    ) {
        match transaction {
            Some(enlistment) => {
                let result = self.enlist_send(origin, enlistment, entity, messages);
                self.answer_enlisted(origin, enlistment, result);
            }
            None => self.submit(entity, Submission { origin, messages, scheduled: false }),
        }
    }

    /// The same to an entity that is named with the messages.
    pub(super) fn send_to(
        &mut self,
        origin: Origin,
        path: &EntityPath,
        messages: SmallVec<[IncomingMessage; 1]>,
        transaction: Option<Enlistment>,
    ) {
        match (self.resolve(path), transaction) {
            (Ok(entity), _) => {
                self.note_use(entity);
                self.send(origin, entity, messages, transaction);
            }
            (Err(error), Some(enlistment)) => {
                self.answer_enlisted(origin, enlistment, Err(error));
            }
            (Err(error), None) => self.reply_at_once(origin, Err(error)),
        }
    }

    /// Refuses what an entity cannot take: all or none.
    pub(super) fn may_admit(
        &self,
        entity: EntityId,
        messages: &[IncomingMessage],
    ) -> Result<(), Error> {
        let queue = self.sendable(entity)?;
        self.may_take(queue, messages)?;
        dedup::check_ids(queue, messages)
    }

    /// Takes in what was found fit, but for duplicates.
    pub(super) fn accept(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
        sieve: &mut Sieve,
    ) {
        for message in messages {
            if !self.is_duplicate(entity, &message, sieve) {
                self.accept_one(entity, message, None);
            }
        }
    }

    /// The same, and says which number each has. Duplicates have one too, which names nothing.
    pub(super) fn accept_numbered(
        &mut self,
        entity: EntityId,
        messages: SmallVec<[IncomingMessage; 1]>,
        sieve: &mut Sieve,
    ) -> Vec<SequenceNumber> {
        let mut sequences = Vec::with_capacity(messages.len());
        for message in messages {
            sequences.push(if self.is_duplicate(entity, &message, sieve) {
                self.draw_number(entity)
            } else {
                self.accept_one(entity, message, None)
            });
        }
        sequences
    }

    /// Takes a number that no message gets but perhaps a scheduled one later.
    pub(super) fn draw_number(&mut self, entity: EntityId) -> SequenceNumber {
        let queue = self.queue(entity).expect("numbers are drawn of entities we have");
        let sequence = queue.next_sequence();
        self.commit(&Change::Passed { entity, sequence });
        sequence
    }

    /// Takes a message in, now or when it is due. A number that was drawn for it is its own until it
    /// is due.
    pub(super) fn accept_one(
        &mut self,
        entity: EntityId,
        message: IncomingMessage,
        drawn: Option<SequenceNumber>,
    ) -> SequenceNumber {
        self.counters.accepted += 1;
        self.tally(entity, |tally| tally.incoming += 1);
        let due = message.facts().scheduled_enqueue_time().filter(|due| self.now < *due);
        match due {
            Some(due) => self.set_aside_until(entity, due, message, drawn),
            None => self.arrive(entity, Arrival::new(message)),
        }
    }

    /// Whether an entity takes all of these.
    pub(super) fn may_take<'a>(
        &self,
        queue: &Queue,
        messages: impl IntoIterator<Item = &'a IncomingMessage>,
    ) -> Result<(), Error> {
        let settings = queue.settings();
        let path = || queue.definition.path.to_string();
        let mut total = 0_u64;
        for message in messages {
            if queue.has_sessions() && !message.facts().has_session() {
                return Err(Error::NotAllowed(SESSION_ID_MISSING));
            }
            let (size, limit) = (message.size(), settings.message_bytes_max);
            if limit < size {
                return Err(Error::MessageTooLarge { size, limit, path: path() });
            }
            total = total.saturating_add(size);
        }
        let size = self.held_bytes(queue.entities())?;
        let limit = settings.entity_bytes_max;
        if limit < size.saturating_add(total) {
            return Err(Error::EntityFull { path: path(), size, limit });
        }
        Ok(())
    }
}
