//! Messages that are set aside, asked for by number: all or none of them.
//!
//! Their rows are read some at a time, because nobody knows how big they are. What happens to one of
//! them meanwhile is noticed, and then all are read again.

use bytes::Bytes;
use peeklock_storage::{StoreError, Table};

use super::read::Purpose;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::{ReadRequest, ReadRows, ReceiveMode};
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, ReadId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::paging::PageRow;
use crate::queue::{Queue, Shelf};
use crate::rows;

/// Messages read at a time, however small they may be.
const CHUNK_MAX: u64 = 64;

/// What a client wants with the messages it asked for.
#[derive(Debug)]
pub(super) enum Wish {
    /// Not to schedule them after all.
    Cancel,
    /// To be given them.
    Receive { mode: ReceiveMode, session: Option<MessageSessionId> },
}

/// A request that waits for rows.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) origin: Origin,
    pub(super) entity: EntityId,
    pub(super) wish: Wish,
    /// In the order of the question, each once.
    sequences: Vec<SequenceNumber>,
    /// What was found so far, in the same order.
    found: Vec<PageRow>,
    /// The sessions of those that are not wanted any more, as their senders named them.
    sessions: Vec<Option<MessageSessionId>>,
    /// Octets of it.
    bytes: u64,
    /// How many were asked for so far.
    asked_count: usize,
    /// The first read names the watch.
    watch: ReadId,
}

impl Wish {
    const fn shelf(&self) -> Shelf {
        match self {
            Wish::Cancel => Shelf::Scheduled,
            Wish::Receive { .. } => Shelf::Deferred,
        }
    }

    /// Rows read for each message.
    const fn rows_each(&self) -> usize {
        match self {
            Wish::Cancel => 1,
            Wish::Receive { .. } => 3,
        }
    }
}

impl Broker {
    pub(super) fn cancel_scheduled(
        &mut self,
        origin: Origin,
        entity: EntityId,
        sequences: Vec<SequenceNumber>,
    ) {
        self.fetch_by_number(origin, entity, sequences, Wish::Cancel);
    }

    pub(super) fn receive_deferred(
        &mut self,
        origin: Origin,
        entity: EntityId,
        sequences: Vec<SequenceNumber>,
        mode: ReceiveMode,
        session: Option<MessageSessionId>,
    ) {
        self.fetch_by_number(origin, entity, sequences, Wish::Receive { mode, session });
    }

    fn fetch_by_number(
        &mut self,
        origin: Origin,
        entity: EntityId,
        mut sequences: Vec<SequenceNumber>,
        wish: Wish,
    ) {
        if self.settings.tokens_max < sequences.len() {
            let error = Error::InvalidArgument("There are too many sequence numbers.");
            return self.reply_at_once(origin, Err(error));
        }
        let mut seen = std::collections::BTreeSet::new();
        sequences.retain(|sequence| seen.insert(*sequence));
        self.fetch(Fetching {
            origin,
            entity,
            wish,
            sequences,
            found: Vec::new(),
            sessions: Vec::new(),
            bytes: 0,
            asked_count: 0,
            watch: ReadId(0),
        });
    }

    /// Begins, or begins again.
    fn fetch(&mut self, fetching: Fetching) {
        if let Err(error) = self.may_fetch(&fetching) {
            return self.reply_at_once(fetching.origin, Err(error));
        }
        if fetching.sequences.is_empty() {
            return self.decide_fetch(fetching);
        }
        let watch = ReadId(self.next_read);
        let (found, sessions, bytes, asked_count) = (Vec::new(), Vec::new(), 0, 0);
        self.fetch_more(Fetching { found, sessions, bytes, asked_count, watch, ..fetching });
    }

    /// Refuses what memory alone knows to be in vain.
    fn may_fetch(&self, fetching: &Fetching) -> Result<(), Error> {
        let Fetching { entity, sequences, .. } = fetching;
        let queue = match &fetching.wish {
            Wish::Cancel => self.sendable(*entity)?,
            Wish::Receive { session, .. } => {
                self.may_receive_deferred(*entity, session.as_ref())?
            }
        };
        let count = match fetching.wish.shelf() {
            Shelf::Scheduled => queue.scheduled_count(),
            Shelf::Deferred | Shelf::Active => queue.deferred_count(),
        };
        if self.settings.window_count_max < queue.apart_count() + sequences.len() {
            return Err(Error::ServerBusy("Please settle some of the deferred messages first."));
        }
        let in_vain = |sequence: &&SequenceNumber| count == 0 || queue.stands_apart(**sequence);
        match sequences.iter().find(in_vain) {
            Some(sequence) => Err(Error::MessageNotFound(sequence.0)),
            None => Ok(()),
        }
    }

    fn fetch_more(&mut self, mut fetching: Fetching) {
        let (origin, entity) = (fetching.origin, fetching.entity);
        let bytes_max = self.settings.settle_bytes_max;
        let Some(queue) = queue_mut(&mut self.queues, entity) else {
            let error = Error::EntityNotFound(entity.to_string());
            return self.reply_at_once(origin, Err(error));
        };
        let chunk = (bytes_max / queue.settings().message_bytes_max).clamp(1, CHUNK_MAX);
        let mut request = ReadRequest::default();
        let rest = fetching.sequences.iter().skip(fetching.asked_count);
        for sequence in rest.take(usize::try_from(chunk).unwrap_or(1)) {
            fetching.asked_count += 1;
            queue.watch.begin(*sequence, fetching.watch);
            let key = rows::shelf_key(entity, fetching.wish.shelf(), *sequence);
            request.gets.push((Table::Message, key));
            if matches!(fetching.wish, Wish::Receive { .. }) {
                request.gets.push((Table::State, rows::mark_key(entity, *sequence)));
                request.gets.push((Table::State, rows::properties_key(entity, *sequence)));
            }
        }
        match self.may_read_for_client() {
            Ok(()) => self.start_read(request, Purpose::Fetch(fetching)),
            Err(error) => {
                self.end_watch(&fetching);
                self.reply_at_once(origin, Err(error));
            }
        }
    }

    /// Says whether everything that was asked for is as it was.
    fn end_watch(&mut self, fetching: &Fetching) -> bool {
        let Some(queue) = queue_mut(&mut self.queues, fetching.entity) else { return false };
        let mut is_untouched = true;
        for sequence in fetching.sequences.iter().take(fetching.asked_count) {
            is_untouched &= queue.watch.end(*sequence, fetching.watch);
        }
        is_untouched
    }

    pub(super) fn fetch_done(
        &mut self,
        mut fetching: Fetching,
        result: Result<ReadRows, StoreError>,
    ) {
        let origin = fetching.origin;
        let bytes_max = self.settings.settle_bytes_max;
        let outcome = match result {
            Ok(rows) => fetching.take_in(rows.gets, bytes_max),
            Err(_) => Err(Error::StoreUnavailable),
        };
        if outcome.is_ok() && fetching.asked_count < fetching.sequences.len() {
            return self.fetch_more(fetching);
        }
        let is_untouched = self.end_watch(&fetching);
        match outcome {
            // What was not there when it was read may have come since; a number is looked at once more
            // only if something happened to one that was there.
            Err(error) => self.reply_at_once(origin, Err(error)),
            Ok(()) if is_untouched => self.decide_fetch(fetching),
            Ok(()) => self.fetch(fetching),
        }
    }

    fn decide_fetch(&mut self, fetching: Fetching) {
        let Fetching { origin, entity, found, sessions, wish, .. } = fetching;
        match wish {
            Wish::Cancel => {
                for (row, session) in found.into_iter().zip(sessions) {
                    let PageRow { sequence, size, due, .. } = row;
                    self.commit(&Change::Unscheduled { entity, sequence, due, size, session });
                }
                self.reply_after_commit(origin, Ok(Reply::ScheduledCancelled));
            }
            Wish::Receive { mode, session } => {
                self.give_deferred(origin, entity, found, mode, session.as_ref());
            }
        }
    }
}

impl Fetching {
    fn take_in(&mut self, gets: Vec<Option<Bytes>>, bytes_max: u64) -> Result<(), Error> {
        let rows_each = self.wish.rows_each();
        let mut gets = gets.into_iter();
        while gets.len() >= rows_each {
            let sequence = self.sequences[self.found.len()];
            let mut next = |is_read: bool| if is_read { gets.next().flatten() } else { None };
            let (row, mark, section) = (next(true), next(rows_each > 1), next(rows_each > 1));
            let row = row.ok_or(Error::MessageNotFound(sequence.0))?;
            let size = StoredMessage::size_of_row(&row);
            let mut row = PageRow::from_rows(sequence, size, Some(row), mark.as_ref(), section);
            if row.body.is_none() {
                return Err(Error::MessageNotFound(sequence.0));
            }
            if let Wish::Cancel = self.wish {
                let body = row.body.take();
                self.sessions.push(body.and_then(|body| body.message.facts().session()));
            } else {
                self.bytes = self.bytes.saturating_add(row.size);
            }
            self.found.push(row);
            if bytes_max < self.bytes && self.found.len() > 1 {
                return Err(Error::ServerBusy("Please ask for fewer messages at a time."));
            }
        }
        Ok(())
    }
}

impl Queue {
    /// Whether a deferred message belongs to the session that was named; without sessions all do.
    pub(super) fn is_of_session(&self, row: &PageRow, session: Option<&MessageSessionId>) -> bool {
        let own = || row.body.as_ref().and_then(|body| body.message.facts().session());
        !self.has_sessions() || own().as_ref() == session
    }
}
