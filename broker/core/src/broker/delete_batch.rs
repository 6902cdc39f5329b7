//! Removing the oldest messages that nobody holds, many at a time. Which there are is looked up in the
//! rows, a page at a time; then they are read by number, so that what happens to one of them meanwhile
//! is noticed.

use bytes::Bytes;
use peeklock_storage::{Key, StoreError, Table};

use super::read::Purpose;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::{ReadRequest, ReadRows, Scan};
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, ReadId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::paging::{PageRow, RunPage};
use crate::queue::runs::Run;
use crate::queue::sessions::NO_SESSIONS;
use crate::queue::{Shelf, Traces, Whereabouts};
use crate::rows;
use crate::time::Timestamp;

/// Messages one request removes, as in Service Bus Premium. Who wants more gone asks again.
const COUNT_MAX: u32 = 4000;

/// A request that waits for rows.
#[derive(Debug)]
pub(super) struct Deleting {
    origin: Origin,
    entity: EntityId,
    count_max: u32,
    before: Timestamp,
    session: Option<MessageSessionId>,
    /// How many are removed so far.
    count: u32,
    /// Where the search goes on.
    from: SequenceNumber,
    /// Whether it has come to the end.
    at_end: bool,
    /// Those being read, which may be removed; none while they are being searched. With the topic that
    /// keeps the row, if one does.
    candidates: Vec<(SequenceNumber, Option<EntityId>)>,
    /// The runs of those that a topic keeps.
    runs: Vec<SequenceNumber>,
    /// The read that watches them.
    watch: ReadId,
}

impl Broker {
    pub(super) fn delete_batch(
        &mut self,
        origin: Origin,
        entity: EntityId,
        count_max: u32,
        before: Timestamp,
        session: Option<MessageSessionId>,
    ) {
        let checked = self.receivable(entity).and_then(|queue| match &session {
            Some(_) if !queue.has_sessions() => Err(NO_SESSIONS),
            Some(_) | None => Ok(queue.numbers().head),
        });
        match checked {
            Ok(from) => self.search_batch(Deleting {
                origin,
                entity,
                count_max: count_max.min(COUNT_MAX),
                before,
                session,
                count: 0,
                from,
                at_end: false,
                candidates: Vec::new(),
                runs: Vec::new(),
                watch: ReadId(0),
            }),
            Err(error) => self.reply_at_once(origin, Err(error)),
        }
    }

    /// Looks for more, or says that it is done.
    fn search_batch(&mut self, deleting: Deleting) {
        let Deleting { origin, entity, from, .. } = deleting;
        let queue = match self.receivable(entity) {
            Ok(queue) => queue,
            Err(error) => return self.end_batch(&deleting, error),
        };
        let next = queue.next_sequence();
        if deleting.at_end || deleting.count_max <= deleting.count || next <= from {
            let count = deleting.count;
            return self.reply_after_commit(origin, Ok(Reply::BatchDeleted { count }));
        }
        let left = usize::try_from(deleting.count_max - deleting.count).unwrap_or(usize::MAX);
        let (table, range) = if let Some(session) = &deleting.session {
            (rows::SESSION_TABLE, rows::session_index_range(entity, session, from))
        } else {
            let key = |sequence| rows::shelf_key(entity, Shelf::Active, sequence);
            (Table::Message, key(from)..key(next))
        };
        let rows_max = left.min(self.settings.page_rows_max).max(1);
        let scan = Scan { table, range, rows_max, bytes_max: self.settings.page_bytes_max };
        let runs = queue.shares_with().map(|_| rows::run_scan(entity, &(from..next), rows_max));
        let scans = std::iter::once(scan).chain(runs).collect();
        let request = ReadRequest { scans, gets: Vec::new() };
        self.read_for_batch(request, deleting);
    }

    fn read_for_batch(&mut self, request: ReadRequest, deleting: Deleting) {
        match self.may_read_for_client() {
            Ok(()) => self.start_read(request, Purpose::DeleteBatch(Box::new(deleting))),
            Err(error) => self.end_batch(&deleting, error),
        }
    }

    /// Something came in between. What is removed is removed.
    fn end_batch(&mut self, deleting: &Deleting, error: Error) {
        let Deleting { origin, entity, count, .. } = *deleting;
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            for (sequence, _) in &deleting.candidates {
                queue.watch.end(*sequence, deleting.watch);
            }
        }
        let result = if count == 0 { Err(error) } else { Ok(Reply::BatchDeleted { count }) };
        self.reply_after_commit(origin, result);
    }

    pub(super) fn batch_read(&mut self, deleting: Deleting, result: Result<ReadRows, StoreError>) {
        match result {
            Err(_) => self.end_batch(&deleting, Error::StoreUnavailable),
            Ok(rows) if deleting.candidates.is_empty() => {
                self.choose_batch(deleting, rows.scans);
            }
            Ok(rows) => self.remove_batch(deleting, rows.gets),
        }
    }

    /// Of what was found, takes what may be removed, and reads it.
    fn choose_batch(&mut self, mut deleting: Deleting, scans: Vec<Vec<(Key, Bytes)>>) {
        let (entity, watch) = (deleting.entity, ReadId(self.next_read));
        let left = usize::try_from(deleting.count_max - deleting.count).unwrap_or(usize::MAX);
        let rows_max = left.min(self.settings.page_rows_max).max(1);
        let page_bytes_max = self.settings.page_bytes_max;
        let bytes_max = page_bytes_max as u64;
        let Ok(queue) = self.receivable(entity) else { return self.search_batch(deleting) };
        let topic = queue.shares_with();
        let found = Found::new(scans, &deleting, topic.is_some(), rows_max, page_bytes_max);
        let searched_from = deleting.from;
        let mut bytes = 0_u64;
        for (sequence, row) in &found.messages {
            if found.end <= *sequence || rows_max <= deleting.candidates.len() {
                break;
            }
            let looked = match row {
                Some((key, row)) => deleting.look_at(key, row),
                None => Some((*sequence, found.size_of(*sequence))),
            };
            let Some((sequence, size)) = looked else { break };
            let topic = topic.filter(|_| row.is_none());
            if bytes_max <= bytes.saturating_add(size) && !deleting.candidates.is_empty() {
                break;
            }
            deleting.from = sequence.next();
            if matches!(queue.whereabouts(sequence), Whereabouts::Ready | Whereabouts::Disk) {
                bytes = bytes.saturating_add(size);
                deleting.candidates.push((sequence, topic));
                deleting.runs.extend(topic.and_then(|_| found.run_of(sequence)));
            }
        }
        deleting.at_end |= deleting.from == searched_from;
        if deleting.candidates.is_empty() {
            return self.search_batch(deleting);
        }
        deleting.watch = watch;
        let mut request = ReadRequest::default();
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        for (sequence, topic) in &deleting.candidates {
            queue.watch.begin(*sequence, watch);
            let traces = Traces { shared: *topic, ..Traces::default() };
            let [_, mark, section] = rows::active_gets(entity, *sequence);
            let own = (Table::Message, rows::own_key(entity, traces, *sequence));
            request.gets.extend([own, mark, section]);
        }
        // What it is in may have been changed since it was found.
        deleting.runs.dedup();
        for first in &deleting.runs {
            request.gets.push((Table::State, rows::run_key(entity, *first)));
        }
        self.read_for_batch(request, deleting);
    }

    fn remove_batch(&mut self, mut deleting: Deleting, gets: Vec<Option<Bytes>>) {
        let Deleting { entity, watch, .. } = deleting;
        let mut gets = gets;
        let runs = gets.split_off(gets.len() - deleting.runs.len());
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            for (first, row) in std::mem::take(&mut deleting.runs).into_iter().zip(runs) {
                if let Some(run) = row.and_then(|row| rows::read_run(&row)) {
                    queue.load_run(first, run);
                }
            }
        }
        let mut gets = gets.into_iter();
        for (sequence, topic) in std::mem::take(&mut deleting.candidates) {
            let [row, mark, section] = [(); 3].map(|()| gets.next().flatten());
            let Some(queue) = queue_mut(&mut self.queues, entity) else { continue };
            let is_untouched = queue.watch.end(sequence, watch);
            let Some(row) = row else { continue };
            let size = StoredMessage::size_of_row(&row);
            let mut row = PageRow::from_rows(sequence, size, Some(row), mark.as_ref(), section);
            row.traces.shared = topic;
            // Nobody knows when a message came whose row is damaged.
            let Some(body) = row.body.as_ref() else { continue };
            if deleting.before <= row.due {
                // Of those with rows the search has seen when they came.
                deleting.at_end |= topic.is_some();
                continue;
            }
            if topic.is_some() && !queue.is_in_run(sequence) {
                continue;
            }
            match queue.whereabouts(sequence) {
                Whereabouts::Ready => {}
                Whereabouts::Disk if is_untouched => {
                    let expires_at = queue.expiry_of(&body.message);
                    let traces = Traces { expires_at, ..row.traces };
                    self.set_apart(entity, row, traces, None);
                }
                Whereabouts::Disk | Whereabouts::Held | Whereabouts::Gone => continue,
            }
            self.commit(&Change::Removed { entity, sequence });
            self.counters.batch_deleted += 1;
            deleting.count += 1;
        }
        self.search_batch(deleting);
    }
}

/// What a search found, in order.
struct Found {
    /// Those with rows of their own, and those that are in runs.
    messages: Vec<(SequenceNumber, Option<(Key, Bytes)>)>,
    runs: Vec<(SequenceNumber, Run)>,
    /// Nothing is known from here on.
    end: SequenceNumber,
}

impl Found {
    fn new(
        scans: Vec<Vec<(Key, Bytes)>>,
        deleting: &Deleting,
        has_runs: bool,
        rows_max: usize,
        bytes_max: usize,
    ) -> Self {
        let mut scans = scans.into_iter();
        let messages = scans.next().unwrap_or_default();
        let mut end = SequenceNumber(u64::MAX);
        let number = |key: &Key| match deleting.session {
            Some(_) => rows::session_and_sequence(key).map(|(_, sequence)| sequence),
            None => rows::sequence_of(key),
        };
        if has_runs && rows::is_cut_off(&messages, rows_max, bytes_max) {
            end =
                messages.last().and_then(|(key, _)| number(key)).map_or(end, SequenceNumber::next);
        }
        let own =
            messages.into_iter().filter_map(|(key, row)| Some((number(&key)?, Some((key, row)))));
        let mut messages: Vec<_> = own.collect();
        let mut runs = Vec::new();
        if has_runs {
            let page = RunPage::read(&scans.next().unwrap_or_default(), rows_max);
            let range = deleting.from..SequenceNumber(u64::MAX);
            let (chosen, runs_end) = page.choose(&range, rows_max, bytes_max);
            end = end.min(runs_end);
            messages.extend(chosen.into_iter().map(|sequence| (sequence, None)));
            messages.sort_by_key(|(sequence, _)| *sequence);
            runs = page.runs;
        }
        Found { messages, runs, end }
    }

    fn run(&self, sequence: SequenceNumber) -> Option<&(SequenceNumber, Run)> {
        let behind = self.runs.partition_point(|(first, _)| *first <= sequence);
        self.runs.get(behind.checked_sub(1)?)
    }

    fn run_of(&self, sequence: SequenceNumber) -> Option<SequenceNumber> {
        self.run(sequence).map(|(first, _)| *first)
    }

    /// What a message has at most.
    fn size_of(&self, sequence: SequenceNumber) -> u64 {
        self.run(sequence).map_or(0, |(_, run)| run.largest)
    }
}

impl Deleting {
    /// The number and size of what was found, unless the search ends here.
    fn look_at(&mut self, key: &Key, row: &Bytes) -> Option<(SequenceNumber, u64)> {
        if self.session.is_some() {
            let (_, sequence) = rows::session_and_sequence(key)?;
            return Some((sequence, rows::size_in_index(row)));
        }
        let sequence = rows::sequence_of(key)?;
        // Messages stand in the order in which they came. One that cannot be read is passed over.
        let message = StoredMessage::from_row(row.clone());
        self.at_end |= message.is_ok_and(|message| self.before <= message.enqueued_at());
        (!self.at_end).then(|| (sequence, StoredMessage::size_of_row(row)))
    }
}
