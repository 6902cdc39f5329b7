//! Reading messages back: pages of a backlog, and bodies that were let go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::{CommitPosition, Key, Table};

use super::window::PageRead;
use super::{Body, Entry, Offer, Queue, Standing, Traces};
use crate::command::{ReadRequest, ReadRows};
use crate::entity::settings::BrokerSettings;
use crate::id::{EntityId, ReadId, SequenceNumber};
use crate::message::StoredMessage;
use crate::rows;
use crate::time::Timestamp;

/// Where the bodies asked for are in the answer, and how fresh it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BodyPlan {
    wanted: Vec<Wanted>,
    /// The read sees all commits up to this one.
    sees: CommitPosition,
}

/// One body asked for, as it stood then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) sequence: SequenceNumber,
    overlaid: bool,
    sees: CommitPosition,
}

impl BodyPlan {
    pub(crate) const fn new(sees: CommitPosition) -> Self {
        BodyPlan { wanted: Vec::new(), sees }
    }

    /// Asks for one body, and for the section that replaces the message's own if there is one.
    pub(crate) fn want(
        &mut self,
        entity: EntityId,
        sequence: SequenceNumber,
        traces: Traces,
        request: &mut ReadRequest,
    ) {
        let (overlaid, sees) = (traces.overlaid, self.sees);
        self.wanted.push(Wanted { sequence, overlaid, sees });
        request.gets.push((Table::Message, rows::shelf_key(entity, traces.shelf(), sequence)));
        if traces.overlaid {
            request.gets.push((Table::State, rows::properties_key(entity, sequence)));
        }
    }

    /// The bodies in the answer; what is not there or not readable says whether there is a row.
    pub(crate) fn read(
        self,
        gets: Vec<Option<Bytes>>,
    ) -> impl Iterator<Item = (Wanted, Result<Body, Unreadable>)> {
        let mut gets = gets.into_iter();
        self.wanted.into_iter().map(move |wanted| {
            let message = gets.next().flatten();
            let section = if wanted.overlaid { gets.next().flatten() } else { None };
            (wanted, read_body(message, section))
        })
    }
}

/// A row that should be there and readable, and is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unreadable {
    pub(crate) row_exists: bool,
}

fn read_body(row: Option<Bytes>, section: Option<Bytes>) -> Result<Body, Unreadable> {
    let row = row.ok_or(Unreadable { row_exists: false })?;
    let message = StoredMessage::from_row(row).map_err(|_| Unreadable { row_exists: true })?;
    Ok(Body { message: Arc::new(message), application_properties: section })
}

/// One message of a page.
#[derive(Clone, Debug)]
pub(crate) struct PageRow {
    pub(crate) sequence: SequenceNumber,
    pub(crate) size: u64,
    pub(crate) attempts: u32,
    pub(crate) traces: Traces,
    /// When it became active, or will.
    pub(crate) due: Timestamp,
    /// `None` if the row is damaged.
    pub(crate) body: Option<Body>,
}

/// Puts the rows of [`rows::page_scans`] together: the messages, and where the page ends. Every scan
/// may have stopped early, at its own place; the page ends at the first of these.
pub(crate) fn assemble(
    rows: ReadRows,
    range: &Range<SequenceNumber>,
    rows_max: usize,
    bytes_max: usize,
) -> (Vec<PageRow>, SequenceNumber) {
    let mut scans = rows.scans.into_iter();
    let mut end = range.end;
    let [messages, marks, sections] = std::array::from_fn(|_| {
        let scan = scans.next().unwrap_or_default();
        if let Some(last) = last_if_cut_off(&scan, rows_max, bytes_max) {
            end = end.min(last.next());
        }
        scan.into_iter().filter_map(|(key, row)| Some((rows::sequence_of(&key)?, row))).peekable()
    });
    let (mut marks, mut sections) = (marks, sections);
    let mut page = Vec::new();
    for (sequence, row) in messages {
        if end <= sequence {
            break;
        }
        while marks.next_if(|(other, _)| *other < sequence).is_some() {}
        while sections.next_if(|(other, _)| *other < sequence).is_some() {}
        let mark = marks.next_if(|(other, _)| *other == sequence).map(|(_, row)| row);
        let section = sections.next_if(|(other, _)| *other == sequence).map(|(_, row)| row);
        let size = StoredMessage::size_of_row(&row);
        page.push(PageRow::from_rows(sequence, size, Some(row), mark.as_ref(), section));
    }
    (page, end)
}

fn last_if_cut_off(
    scan: &[(Key, Bytes)],
    rows_max: usize,
    bytes_max: usize,
) -> Option<SequenceNumber> {
    let bytes: usize = scan.iter().map(|(key, row)| key.as_bytes().len() + row.len()).sum();
    let (last, _) = scan.last().filter(|_| rows_max <= scan.len() || bytes_max <= bytes)?;
    rows::sequence_of(last)
}

impl Queue {
    /// Asks for the next page, if somebody waits for it and it is not being read already.
    pub(crate) fn plan_page(
        &mut self,
        read: ReadId,
        settings: &BrokerSettings,
    ) -> Option<ReadRequest> {
        let on_disk = self.window.on_disk()?.clone();
        let idle = self.window.page.is_none() && self.window.retry_at.is_none();
        let low = self.ready.len() < settings.page_rows_max
            && self.ready_bytes < settings.page_bytes_max as u64
            && self.entries.len() - self.window.tail_count < settings.window_count_max;
        if !idle || !low || !self.is_wanted() {
            return None;
        }
        let scans =
            rows::page_scans(self.id(), &on_disk, settings.page_rows_max, settings.page_bytes_max);
        let joins_tail = self.on_disk_count() <= settings.page_rows_max as u64;
        self.window.page = Some(PageRead {
            read,
            range: on_disk,
            arrivals: Vec::new(),
            arrival_bytes: 0,
            joins_tail,
            gone: BTreeSet::new(),
            void: false,
        });
        Some(ReadRequest { scans, gets: Vec::new() })
    }

    /// Asks for bodies that are missing where somebody waits: of doomed messages, and of the ready
    /// ones that are next.
    pub(crate) fn plan_bodies(
        &mut self,
        read: ReadId,
        sees: CommitPosition,
        settings: &BrokerSettings,
    ) -> Option<(BodyPlan, ReadRequest)> {
        if self.window.bodies.is_some() || self.window.retry_at.is_some() {
            return None;
        }
        let next_is_missing = self.is_wanted() && matches!(self.offer(), Offer::BodyMissing);
        if self.doomed.is_empty() && !next_is_missing {
            return None;
        }
        let ready_count = if next_is_missing { settings.page_rows_max } else { 0 };
        let wanted = self.doomed.iter().copied().chain(self.ready.iter().take(ready_count));
        let (mut plan, mut request) = (BodyPlan::new(sees), ReadRequest::default());
        let mut bytes = 0;
        for sequence in wanted {
            let entry = self.kept(sequence);
            if entry.body.is_none() {
                plan.want(self.id(), sequence, entry.traces, &mut request);
                bytes += entry.size;
            }
            if settings.page_bytes_max as u64 <= bytes
                || settings.page_rows_max <= request.gets.len()
            {
                break;
            }
        }
        if request.gets.is_empty() {
            return None;
        }
        self.window.bodies = Some(read);
        Some((plan, request))
    }

    /// Puts back a body that was read, if its message still wants it. It may have been changed since it
    /// was asked for; then the answer is out of date, and who needs the body asks again.
    pub(crate) fn restore_body(&mut self, wanted: Wanted, body: Body) {
        let size = body.memory();
        if let Some(entry) = self.entry_mut(wanted.sequence)
            && entry.body.is_none()
            && entry.traces.overlaid == wanted.overlaid
            && entry.visible_after <= wanted.sees
        {
            entry.body = Some(body);
            self.memory += size;
        }
    }

    /// The page or the bodies that were being read have come, or will not.
    pub(crate) fn read_ended(&mut self, read: ReadId) -> Option<PageRead> {
        self.window.bodies.take_if(|bodies| *bodies == read);
        self.window.page.take_if(|page| page.read == read)
    }

    /// Reading failed: leave the store alone until then.
    pub(crate) fn retry_reads_at(&mut self, at: Timestamp) {
        self.window.retry_at = Some(at);
    }

    /// Whether a read is under way that may bring messages to deliver.
    pub(crate) fn is_reading(&self) -> bool {
        self.window.page.is_some() || self.window.bodies.is_some()
    }

    /// How many reads for this queue itself are under way.
    pub(crate) fn reads_under_way(&self) -> usize {
        let sessions = self.sessions.as_ref();
        usize::from(self.window.page.is_some())
            + usize::from(self.window.bodies.is_some())
            + self.activations.reads_under_way()
            + self.expiries.reads_under_way()
            + sessions.map_or(0, |known| known.pages_under_way + known.sweeps_under_way())
    }

    /// Puts a page in memory. Messages whose row is damaged are there too, without a body; they are
    /// named, for the caller to declare them lost.
    pub(crate) fn page_in(
        &mut self,
        page: PageRead,
        rows: ReadRows,
        settings: &BrokerSettings,
    ) -> Vec<SequenceNumber> {
        let (found, end) =
            assemble(rows, &page.range, settings.page_rows_max, settings.page_bytes_max);
        if page.void || self.window.on_disk().map(|range| range.start) != Some(page.range.start) {
            return Vec::new();
        }
        let attempts_max = self.definition.dead_letter.map(|_| self.settings().attempts_max);
        let mut entries: BTreeMap<SequenceNumber, Entry> =
            found.into_iter().map(|row| (row.sequence, row.into_entry(attempts_max))).collect();
        entries.retain(|sequence, _| !page.gone.contains(sequence));
        // What arrived since is newer than what the scan saw, if it saw it at all.
        entries.extend(page.arrivals.into_iter().filter(|(sequence, _)| *sequence < end));
        let mut damaged = Vec::new();
        for (sequence, entry) in entries {
            if entry.body.is_none() {
                damaged.push(sequence);
            }
            self.insert(sequence, entry, true);
        }
        self.advance_disk(end);
        damaged
    }
}

impl PageRow {
    /// One that was read by its number. Without a row of its own it has no body.
    pub(crate) fn from_rows(
        sequence: SequenceNumber,
        size: u64,
        message: Option<Bytes>,
        mark: Option<&Bytes>,
        section: Option<Bytes>,
    ) -> Self {
        let (marked, overlaid) = (mark.is_some(), section.is_some());
        let traces = Traces { marked, overlaid, ..Traces::default() };
        let attempts = mark.and_then(|mark| rows::read_mark(mark)).unwrap_or(0);
        let body = read_body(message, section).ok();
        let due = body.as_ref().map_or(Timestamp(0), |body| body.message.enqueued_at());
        PageRow { sequence, size, attempts, traces, due, body }
    }

    pub(crate) fn into_entry(self, attempts_max: Option<u32>) -> Entry {
        let doomed = attempts_max.is_some_and(|max| max <= self.attempts);
        // Only where messages fail for good do they expire, too.
        let body = self.body.as_ref().filter(|_| attempts_max.is_some());
        let expires_at = body.and_then(|body| body.message.header().expires_at);
        Entry {
            standing: if doomed { Standing::Doomed } else { Standing::Ready },
            attempts: self.attempts,
            traces: Traces { expires_at, ..self.traces },
            session: None,
            size: self.size,
            visible_after: CommitPosition(0),
            body: self.body,
        }
    }
}
