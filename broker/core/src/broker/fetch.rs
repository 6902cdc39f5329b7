//! Messages that are set aside, asked for by number: all or none of them.
//!
//! Their rows are read some at a time, because nobody knows how big they are. What happens to one of
//! them meanwhile is noticed, and then all are read again.

use bytes::Bytes;
use peeklock_storage::{StoreError, Table};

use super::read::Purpose;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::{ReadRequest, ReadRows};
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, Origin, ReadId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::Shelf;
use crate::rows;
use crate::time::Timestamp;

/// Messages read at a time, however small they may be.
const CHUNK_MAX: u64 = 64;

/// A request that waits for rows.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) origin: Origin,
    pub(super) entity: EntityId,
    /// In the order of the question, each once.
    sequences: Vec<SequenceNumber>,
    /// What was found so far, in the same order.
    found: Vec<Found>,
    /// How many were asked for so far.
    asked_count: usize,
    /// The first read names the watch.
    watch: ReadId,
}

#[derive(Debug)]
struct Found {
    due: Timestamp,
    size: u64,
}

impl Fetching {
    pub(super) fn new(
        origin: Origin,
        entity: EntityId,
        mut sequences: Vec<SequenceNumber>,
    ) -> Self {
        let mut seen = std::collections::BTreeSet::new();
        sequences.retain(|sequence| seen.insert(*sequence));
        let (found, asked_count, watch) = (Vec::new(), 0, ReadId(0));
        Fetching { origin, entity, sequences, found, asked_count, watch }
    }
}

impl Broker {
    pub(super) fn cancel_scheduled(
        &mut self,
        origin: Origin,
        entity: EntityId,
        sequences: Vec<SequenceNumber>,
    ) {
        if self.settings.tokens_max < sequences.len() {
            let error = Error::InvalidArgument("There are too many sequence numbers.");
            return self.reply_at_once(origin, Err(error));
        }
        self.fetch(Fetching::new(origin, entity, sequences));
    }

    /// Begins, or begins again.
    fn fetch(&mut self, fetching: Fetching) {
        let (origin, entity) = (fetching.origin, fetching.entity);
        let Some(first) = fetching.sequences.first().copied() else {
            return self.decide_fetch(fetching);
        };
        let is_there = match self.sendable(entity) {
            Ok(queue) => queue.scheduled_count() != 0,
            Err(error) => return self.reply_at_once(origin, Err(error)),
        };
        if !is_there {
            return self.reply_at_once(origin, Err(Error::MessageNotFound(first.0)));
        }
        let watch = ReadId(self.next_read);
        self.fetch_more(Fetching { found: Vec::new(), asked_count: 0, watch, ..fetching });
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
            queue.watch.begin(*sequence, fetching.watch);
            let key = rows::shelf_key(entity, Shelf::Scheduled, *sequence);
            request.gets.push((Table::Message, key));
        }
        fetching.asked_count += request.gets.len();
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
        let outcome = match result {
            Ok(rows) => fetching.take_in(rows.gets),
            Err(_) => Err(Error::StoreUnavailable),
        };
        if outcome.is_ok() && fetching.asked_count < fetching.sequences.len() {
            return self.fetch_more(fetching);
        }
        let is_untouched = self.end_watch(&fetching);
        match outcome {
            Err(error) => self.reply_at_once(origin, Err(error)),
            Ok(()) if is_untouched => self.decide_fetch(fetching),
            Ok(()) => self.fetch(fetching),
        }
    }

    fn decide_fetch(&mut self, fetching: Fetching) {
        let Fetching { origin, entity, sequences, found, .. } = fetching;
        for (sequence, Found { due, size }) in sequences.into_iter().zip(found) {
            let row_exists = true;
            self.commit(&Change::Unscheduled { entity, sequence, due, size, row_exists });
        }
        self.reply_after_commit(origin, Ok(Reply::ScheduledCancelled));
    }
}

impl Fetching {
    fn take_in(&mut self, gets: Vec<Option<Bytes>>) -> Result<(), Error> {
        for row in gets {
            let sequence = self.sequences[self.found.len()];
            let message = row.and_then(|row| StoredMessage::from_row(row).ok());
            let message = message.ok_or(Error::MessageNotFound(sequence.0))?;
            self.found.push(Found { due: message.enqueued_at(), size: message.size() });
        }
        Ok(())
    }
}
