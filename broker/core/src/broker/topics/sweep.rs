//! How long a topic keeps the messages that its subscriptions hold without rows of their own.
//!
//! A message goes with its last holder, in the same commit, if all holders were counted. Where they
//! were not, a stretch of numbers is noted as stale, and looked through after a while: first the runs
//! of all subscriptions, then the messages. Bits of a run are never set again once they were clear, so
//! whatever all runs say is not held, each at its own moment since the message came, nobody holds or
//! will hold.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::{CommitPosition, Key, Table};

use crate::broker::read::{Purpose, RETRY_AFTER};
use crate::broker::{Broker, queue_mut};
use crate::change::{Change, TopicChange};
use crate::command::{ReadRequest, ReadRows, Scan};
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::runs::RUN_LEN_MAX;
use crate::queue::{Body, Queue, Traces};
use crate::rows;
use crate::time::Span;
use crate::topic::bodies::{Bodies, Left};
use crate::topic::topic::Topic;

/// After what time a stretch is looked through. Mostly more of it is given up in between.
const SWEEP_AFTER: Span = Span::from_secs(10);

/// Subscriptions whose runs are read at a time: with the most runs there can be, 2 MB.
const HOLDERS_AT_A_TIME: usize = 16;

/// A stretch that is being looked through.
#[derive(Debug)]
pub(in crate::broker) struct Sweep {
    topic: EntityId,
    range: Range<SequenceNumber>,
    /// By place in the range: whether somebody holds it.
    held: Vec<bool>,
    /// Subscriptions whose runs are to be read yet.
    holders: Vec<EntityId>,
    /// Where reading of messages goes on; nothing while runs are being read.
    from: Option<SequenceNumber>,
}

impl Sweep {
    /// Takes in what runs say.
    fn hold(&mut self, scan: &[(Key, Bytes)]) {
        for (key, row) in scan {
            let Some(first) = rows::sequence_of(key) else { continue };
            match rows::read_run(row) {
                Some(run) => run.numbers(first).for_each(|sequence| self.hold_one(sequence)),
                // It may have been about any of these.
                None => (0..RUN_LEN_MAX)
                    .for_each(|offset| self.hold_one(SequenceNumber(first.0 + offset))),
            }
        }
    }

    fn place(&self, sequence: SequenceNumber) -> Option<usize> {
        let place = sequence.0.checked_sub(self.range.start.0)?;
        usize::try_from(place).ok().filter(|place| *place < self.held.len())
    }

    fn hold_one(&mut self, sequence: SequenceNumber) {
        if let Some(place) = self.place(sequence) {
            self.held[place] = true;
        }
    }

    /// Whether nobody holds a message of the range.
    fn is_left(&self, sequence: SequenceNumber) -> bool {
        self.place(sequence).is_some_and(|place| !self.held[place])
    }
}

impl Broker {
    /// Gives subscriptions a message that the topic keeps for them.
    pub(super) fn give_shared(
        &mut self,
        topic: EntityId,
        sequence: SequenceNumber,
        message: &Arc<StoredMessage>,
        subscriptions: &[EntityId],
        position: CommitPosition,
    ) {
        let (size, topic_count) = (message.size(), self.topics.len());
        if let Some(known) = self.topics.get_mut(topic) {
            known.bodies.insert(sequence, subscriptions.len(), size, topic_count);
        }
        self.keep_bytes(topic, size, 0);
        let body = Body::shared(message, &self.shared_memory);
        for subscription in subscriptions {
            self.alter(*subscription, |queue, room| {
                queue.apply_shared(topic, sequence, &body, position, room);
                Traces::default()
            });
            self.touch(*subscription);
        }
    }

    /// Notes that a topic holds so much more, or less, for its subscriptions.
    pub(super) fn keep_bytes(&mut self, topic: EntityId, more: u64, less: u64) {
        if let Some(queue) = queue_mut(&mut self.queues, topic) {
            queue.keep_bytes(more, less);
        }
        self.touch(topic);
    }

    /// Notes that a subscription does not hold a message any more that a topic keeps, if a fact about
    /// such a message means that.
    pub(in crate::broker) fn note_left(&mut self, topic: EntityId, change: &Change) {
        let (sequence, is_lost) = match change {
            Change::Removed { sequence, .. }
            | Change::DeadLettered { sequence, .. }
            | Change::Deferred { sequence, .. } => (*sequence, false),
            Change::Lost { sequence, .. } => (*sequence, true),
            // It is still there.
            Change::Returned { .. } => return,
            Change::QueueCreated { .. }
            | Change::QueueDeleted { .. }
            | Change::SettingsChanged { .. }
            | Change::Accepted { .. }
            | Change::Passed { .. }
            | Change::BucketOpened { .. }
            | Change::Remembered { .. }
            | Change::BucketsForgotten { .. }
            | Change::OfTopic(_)
            | Change::Scheduled { .. }
            | Change::Unscheduled { .. }
            | Change::Fetched { .. }
            | Change::Locked { .. }
            | Change::Renewed { .. }
            | Change::Enlisted { .. }
            | Change::Withdrawn { .. }
            | Change::OfSession { .. } => unreachable!("nobody has a row of it to lose"),
        };
        let Some(known) = self.topics.get_mut(topic) else { return };
        if is_lost {
            // Whether it has a row is to be seen.
            known.bodies.forget(&(sequence..sequence.next()));
        }
        match known.bodies.leave(sequence) {
            Left::Held => {}
            Left::Last { size } => {
                let gone = TopicChange::BodyGone { topic, sequence, size };
                self.commit(&Change::OfTopic(gone));
            }
            Left::Unknown => {
                let gone = sequence..sequence.next();
                self.mark_stale(topic, &gone, Bodies::stretch(sequence));
            }
        }
    }

    /// Notes that a subscription is gone, with all it held.
    pub(super) fn note_all_left(&mut self, topic: EntityId, queue: &Queue) {
        if queue.count() == 0 {
            return;
        }
        let range = queue.head()..queue.next_sequence();
        if let Some(known) = self.topics.get_mut(topic) {
            known.bodies.forget(&range);
        }
        self.mark_stale(topic, &range, range.clone());
    }

    fn mark_stale(
        &mut self,
        topic: EntityId,
        gone: &Range<SequenceNumber>,
        stretch: Range<SequenceNumber>,
    ) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        if let Some(Range { start, end }) = known.bodies.mark(gone, stretch) {
            rows::put_stale(topic, start, end, &mut self.batch);
        }
        self.plan_topic_sweep(topic, SWEEP_AFTER);
    }

    fn plan_topic_sweep(&mut self, topic: EntityId, after: Span) {
        let at = self.now.plus(after);
        if let Some(queue) = queue_mut(&mut self.queues, topic) {
            queue.sweep_at.get_or_insert(at);
        }
        self.plan_deadline(topic);
    }

    pub(in crate::broker) fn sweep_if_due(&mut self, topic: EntityId) {
        let now = self.now;
        let Some(queue) = queue_mut(&mut self.queues, topic) else { return };
        if queue.sweep_at.take_if(|at| *at <= now).is_some() {
            self.sweep_from(topic, SequenceNumber(0));
        }
    }

    /// Looks through the next stretch from a number on, until there is none.
    fn sweep_from(&mut self, topic: EntityId, from: SequenceNumber) {
        let Some(known) = self.topics.get_mut(topic) else { return };
        let Some(mut range) = known.bodies.begin_look(from) else {
            // What came up meanwhile can wait. What is being looked at goes on by itself.
            if known.bodies.has_stale() && !known.bodies.is_looking() {
                self.plan_topic_sweep(topic, SWEEP_AFTER);
            }
            return;
        };
        // What is published while it is looked through is left alone.
        let next = self.queue(topic).map_or(range.end, Queue::next_sequence);
        range.end = range.end.min(next).max(range.start);
        let holders = self.topics.get(topic).into_iter().flat_map(Topic::subscriptions);
        let holders = holders.filter(|(entity, _)| {
            let queue = self.queue(*entity).ok();
            queue.is_some_and(|queue| queue.count() != 0 && queue.head() < range.end)
        });
        let holders = holders.map(|(entity, _)| entity).collect();
        let numbers = usize::try_from(range.end.0 - range.start.0).unwrap_or(0);
        let held = vec![false; numbers];
        self.sweep_on(Sweep { topic, range, held, holders, from: None });
    }

    /// Reads what is next: some runs, or when there are none left, some messages.
    fn sweep_on(&mut self, mut sweep: Sweep) {
        let rows_max = self.settings.page_rows_max.max(1);
        let Range { start, end } = sweep.range.clone();
        let mut request = ReadRequest::default();
        if sweep.holders.is_empty() {
            let from = *sweep.from.get_or_insert(start);
            if end <= from {
                return self.end_sweep(&sweep);
            }
            request.scans.push(Scan {
                table: Table::Message,
                range: rows::message_key(sweep.topic, from)..rows::message_key(sweep.topic, end),
                rows_max,
                bytes_max: self.settings.page_bytes_max,
            });
        } else {
            let count = sweep.holders.len().min(HOLDERS_AT_A_TIME);
            let all = sweep.held.len();
            for holder in sweep.holders.drain(..count) {
                request.scans.push(rows::run_scan(holder, &sweep.range, all));
            }
        }
        self.start_read(request, Purpose::SweepTopic(Box::new(sweep)));
    }

    pub(in crate::broker) fn sweep_read(&mut self, mut sweep: Sweep, rows: Option<ReadRows>) {
        let topic = sweep.topic;
        let Some(rows) = rows else {
            if let Some(known) = self.topics.get_mut(topic) {
                known.bodies.give_up_look();
            }
            return self.plan_topic_sweep(topic, RETRY_AFTER);
        };
        if self.topics.get(topic).is_none() {
            return;
        }
        if sweep.from.is_none() {
            for scan in &rows.scans {
                sweep.hold(scan);
            }
            return self.sweep_on(sweep);
        }
        let found = rows.scans.into_iter().next().unwrap_or_default();
        let (rows_max, bytes_max) =
            (self.settings.page_rows_max.max(1), self.settings.page_bytes_max);
        let is_cut_off = rows::is_cut_off(&found, rows_max, bytes_max);
        let last = found.last().and_then(|(key, _)| rows::sequence_of(key));
        for (key, row) in found {
            let Some(sequence) = rows::sequence_of(&key) else { continue };
            let is_counted =
                self.topics.get(topic).is_some_and(|known| known.bodies.is_counted(sequence));
            if sweep.is_left(sequence) && !is_counted {
                let size = StoredMessage::size_of_row(&row);
                let gone = TopicChange::BodyGone { topic, sequence, size };
                self.commit(&Change::OfTopic(gone));
                self.counters.swept += 1;
            }
        }
        sweep.from = match last {
            Some(last) if is_cut_off => Some(last.next()),
            Some(_) | None => Some(sweep.range.end),
        };
        self.sweep_on(sweep);
    }

    /// A stretch was looked through.
    fn end_sweep(&mut self, sweep: &Sweep) {
        let topic = sweep.topic;
        let Some(known) = self.topics.get_mut(topic) else { return };
        let (start, left) = known.bodies.end_look();
        if left.iter().all(|range| range.start != start) {
            rows::remove_stale(topic, start, &mut self.batch);
        }
        for range in left {
            rows::put_stale(topic, range.start, range.end, &mut self.batch);
        }
        self.sweep_from(topic, start.next());
    }
}
