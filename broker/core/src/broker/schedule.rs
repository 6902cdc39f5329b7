//! Messages that are not to be delivered before their time: kept as rows, made active when due,
//! cancelled by number.

use std::sync::Arc;

use peeklock_storage::Table;

use super::arrive::Arrival;
use super::read::Purpose;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReadRequest;
use crate::id::{EntityId, ReadId, SequenceNumber};
use crate::message::{IncomingMessage, RowHeader, StoredMessage};
use crate::queue::Shelf;
use crate::queue::timers::{Timer, TimerKind};
use crate::rows;
use crate::time::Timestamp;

/// Scheduled messages that are due, with the octets of each.
pub(super) type DueMessages = Vec<(Timer, u64)>;

impl Broker {
    /// Keeps a message until it is due. Says which number it has until then.
    pub(super) fn set_aside_until(
        &mut self,
        entity: EntityId,
        due: Timestamp,
        message: IncomingMessage,
        drawn: Option<SequenceNumber>,
    ) -> SequenceNumber {
        let queue = self.queue(entity).expect("messages arrive at entities we have");
        let sequence = drawn.unwrap_or_else(|| queue.next_sequence());
        let message = Arc::new(message.into_stored(RowHeader::new(sequence, due)));
        self.commit(&Change::Scheduled { entity, sequence, message });
        sequence
    }

    /// Reads the messages that are due, or the next due times; one page at a time, so that a turn
    /// stays short however many are due.
    pub(super) fn plan_activations(&mut self, entity: EntityId) {
        let (now, settings) = (self.now, self.settings);
        let read = ReadId(self.next_read);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let timers = &mut queue.activations;
        if timers.is_busy() || timers.first_at().is_none_or(|at| now < at) {
            return;
        }
        let due = timers.take_due(now, settings.expiries_max, settings.page_bytes_max);
        if due.is_empty() {
            self.plan_timers(entity, TimerKind::Activation);
            return;
        }
        timers.begin_work(read);
        let mut request = ReadRequest::default();
        for (timer, _) in &due {
            queue.watch.begin(timer.sequence, read);
            let key = rows::shelf_key(entity, Shelf::Scheduled, timer.sequence);
            request.gets.push((Table::Message, key));
        }
        self.start_read(request, Purpose::Activation(entity, due));
    }

    /// Reads the next due times, if one may be due.
    pub(super) fn plan_timers(&mut self, entity: EntityId, kind: TimerKind) {
        let (now, rows_max) = (self.now, self.settings.timers_max.max(1));
        let read = ReadId(self.next_read);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if let Some(from) = queue.timers(kind).begin_page(now, read) {
            let scans = vec![rows::timer_scan(entity, kind, from, rows_max)];
            self.start_read(ReadRequest { scans, gets: Vec::new() }, Purpose::Timers(entity, kind));
        }
    }

    pub(super) fn timers_done(
        &mut self,
        entity: EntityId,
        kind: TimerKind,
        read: ReadId,
        scans: Vec<Vec<(peeklock_storage::Key, bytes::Bytes)>>,
    ) {
        let count_max = self.settings.timers_max;
        let found = scans.into_iter().next().map(rows::read_timers).unwrap_or_default();
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.timers(kind).end_page(read, found, count_max);
        }
        self.wake(entity);
    }

    pub(super) fn timers_failed(&mut self, entity: EntityId, kind: TimerKind, read: ReadId) {
        let retry_at = self.now.plus(super::read::RETRY_AFTER);
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.timers(kind).read_failed(read, retry_at);
        }
        self.wake(entity);
    }

    /// Makes messages active that were read because they are due, in the order in which they were to
    /// become so.
    pub(super) fn activate(
        &mut self,
        entity: EntityId,
        read: ReadId,
        due: DueMessages,
        gets: Vec<Option<bytes::Bytes>>,
    ) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.activations.end_work(read);
        }
        for ((Timer { at: due, sequence }, size), row) in due.into_iter().zip(gets) {
            let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
            let is_untouched = queue.watch.end(sequence, read);
            // Cancelled since, or before: then it was a due time that lingered.
            let Some(row) = row.filter(|_| is_untouched) else { continue };
            let message = StoredMessage::from_row(row);
            let session = message.as_ref().ok().and_then(|message| queue.session_of(message));
            self.commit(&Change::Unscheduled { entity, sequence, due, size, session });
            match message {
                Ok(message) => {
                    self.arrive(entity, Arrival::new(message.into_incoming()));
                    self.counters.activated += 1;
                }
                Err(_) => self.counters.damaged += 1,
            }
        }
        self.wake(entity);
    }

    pub(super) fn activation_failed(&mut self, entity: EntityId, read: ReadId, due: DueMessages) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            for (timer, size) in due {
                if queue.watch.end(timer.sequence, read) {
                    queue.activations.recall(timer, size);
                }
            }
        }
        self.timers_failed(entity, TimerKind::Activation, read);
    }
}
