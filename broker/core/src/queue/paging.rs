//! Reading messages back: pages of a backlog, and bodies that were let go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::{CommitPosition, Key, Table};

use super::runs::Run;
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
        request.gets.push((Table::Message, rows::own_key(entity, traces, sequence)));
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
    Ok(Body { message: Arc::new(message), application_properties: section, charge: None })
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
    /// `None` if the row is damaged, or was not read yet.
    pub(crate) body: Option<Body>,
    /// The section that belongs to a body that was not read yet.
    section: Option<Bytes>,
}

/// Puts the rows of [`rows::page_scans`] together: the messages, and where the page ends. Every scan
/// may have stopped early, at its own place; the page ends at the first of these.
///
/// Of messages whose row is with `topic` it is said only that they are there: their bodies are read next.
pub(crate) fn assemble(
    rows: ReadRows,
    range: &Range<SequenceNumber>,
    topic: Option<EntityId>,
    rows_max: usize,
    bytes_max: usize,
) -> Page {
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
    let mut found: Vec<_> = messages.map(|(sequence, row)| (sequence, Some(row))).collect();
    let mut runs = RunPage::default();
    if topic.is_some() {
        runs = RunPage::read(&scans.next().unwrap_or_default(), rows_max);
        let (shared, shared_end) = runs.choose(range, rows_max, bytes_max);
        end = end.min(shared_end);
        found.extend(shared.into_iter().map(|sequence| (sequence, None)));
        found.sort_unstable_by_key(|(sequence, _)| *sequence);
    }
    let mut page = Vec::new();
    for (sequence, row) in found {
        if end <= sequence {
            break;
        }
        while marks.next_if(|(other, _)| *other < sequence).is_some() {}
        while sections.next_if(|(other, _)| *other < sequence).is_some() {}
        let mark = marks.next_if(|(other, _)| *other == sequence).map(|(_, row)| row);
        let section = sections.next_if(|(other, _)| *other == sequence).map(|(_, row)| row);
        let size = row.as_deref().map_or(0, StoredMessage::size_of_row);
        let shared = topic.filter(|_| row.is_none());
        let mut row = PageRow::from_rows(sequence, size, row, mark.as_ref(), section);
        row.traces.shared = shared;
        page.push(row);
    }
    Page { rows: page, end, runs: runs.runs, damaged_runs: runs.damaged_count }
}

/// What [`assemble`] found.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<PageRow>,
    /// The page ends before this number.
    pub(crate) end: SequenceNumber,
    runs: Vec<(SequenceNumber, Run)>,
    /// Runs that cannot be read.
    pub(crate) damaged_runs: u64,
}

/// What is left to be read of messages whose row is with a topic.
pub(crate) fn bodies_request<'a>(rows: impl IntoIterator<Item = &'a PageRow>) -> ReadRequest {
    let missing = rows.into_iter().filter(|row| row.body.is_none());
    let gets = missing.filter_map(|row| {
        let key = rows::message_key(row.traces.shared?, row.sequence);
        Some((Table::Message, key))
    });
    ReadRequest { scans: Vec::new(), gets: gets.collect() }
}

/// Takes in the answer to [`bodies_request`].
pub(crate) fn fill_bodies<'a>(
    rows: impl IntoIterator<Item = &'a mut PageRow>,
    gets: Vec<Option<Bytes>>,
) {
    let missing = rows.into_iter().filter(|row| row.body.is_none());
    let missing = missing.filter(|row| row.traces.shared.is_some());
    for (row, message) in missing.zip(gets) {
        row.size = message.as_deref().map_or(0, StoredMessage::size_of_row);
        row.body = read_body(message, row.section.take()).ok();
        row.due = row.body.as_ref().map_or(Timestamp(0), |body| body.message.enqueued_at());
    }
}

/// The runs that a scan found.
#[derive(Debug, Default)]
pub(crate) struct RunPage {
    pub(crate) runs: Vec<(SequenceNumber, Run)>,
    /// Whether there may be more behind them.
    is_cut_off: bool,
    damaged_count: u64,
}

impl RunPage {
    /// Reads what came of [`rows::run_scan`].
    pub(crate) fn read(scan: &[(Key, Bytes)], rows_max: usize) -> Self {
        let mut page =
            RunPage { is_cut_off: rows::run_rows_max(rows_max) <= scan.len(), ..Self::default() };
        for (key, row) in scan {
            match rows::sequence_of(key).zip(rows::read_run(row)) {
                Some(found) => page.runs.push(found),
                None => page.damaged_count += 1,
            }
        }
        page
    }

    /// The messages of a range that are in them, and where that ends: so many, and surely not more than
    /// so many octets, but for the first.
    pub(crate) fn choose(
        &self,
        range: &Range<SequenceNumber>,
        rows_max: usize,
        bytes_max: usize,
    ) -> (Vec<SequenceNumber>, SequenceNumber) {
        let (mut chosen, mut bytes) = (Vec::new(), 0_u64);
        for (first, run) in &self.runs {
            for sequence in run.numbers(*first).filter(|sequence| range.contains(sequence)) {
                bytes = bytes.saturating_add(run.largest);
                let is_full = rows_max <= chosen.len() || (bytes_max as u64) < bytes;
                if is_full && !chosen.is_empty() {
                    return (chosen, sequence);
                }
                chosen.push(sequence);
            }
        }
        let end = match self.runs.last() {
            // What comes next begins behind all that is in the last of them.
            Some((first, run)) if self.is_cut_off => {
                run.numbers(*first).last().map_or(*first, SequenceNumber::next)
            }
            Some(_) | None => range.end,
        };
        (chosen, end)
    }
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
        let topic = self.shares_with();
        let (rows_max, bytes_max) = (settings.page_rows_max, settings.page_bytes_max);
        let scans = rows::page_scans(self.id(), topic, &on_disk, rows_max, bytes_max);
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

    /// Looks at a page that has come. If bodies have to be read yet, the page goes on with that read.
    pub(crate) fn look_at_page(
        &mut self,
        read: ReadId,
        rows: ReadRows,
        next_read: ReadId,
        settings: &BrokerSettings,
    ) -> Option<(Page, ReadRequest)> {
        let topic = self.shares_with();
        let page = self.window.page.as_mut().filter(|page| page.read == read)?;
        let (rows_max, bytes_max) = (settings.page_rows_max, settings.page_bytes_max);
        let found = assemble(rows, &page.range, topic, rows_max, bytes_max);
        let request = if page.void { ReadRequest::default() } else { bodies_request(&found.rows) };
        if !request.gets.is_empty() {
            page.read = next_read;
        }
        Some((found, request))
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
            + usize::from(self.selecting.read.is_some())
            + self.activations.reads_under_way()
            + self.expiries.reads_under_way()
            + sessions.map_or(0, |known| known.pages_under_way + known.sweeps_under_way())
    }

    /// Puts a page in memory. Messages whose row is damaged are there too, without a body; they are
    /// named, for the caller to declare them lost.
    pub(crate) fn page_in(&mut self, page: PageRead, found: Page) -> Vec<SequenceNumber> {
        let Page { rows: found, end, runs, .. } = found;
        if page.void || self.window.on_disk().map(|range| range.start) != Some(page.range.start) {
            return Vec::new();
        }
        let attempts_max = self.definition.dead_letter.map(|_| self.settings().attempts_max);
        let mut entries: BTreeMap<SequenceNumber, Entry> =
            found.into_iter().map(|row| (row.sequence, row.into_entry(attempts_max))).collect();
        let taken = &self.selecting.taken;
        entries.retain(|sequence, _| !page.gone.contains(sequence) && !taken.contains(sequence));
        for (first, run) in runs {
            self.load_run(first, run);
        }
        // A run that was in memory already knows better what is gone.
        entries
            .retain(|sequence, entry| entry.traces.shared.is_none() || self.is_in_run(*sequence));
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
        let is_read = message.is_some();
        let (section, later) = if is_read { (section, None) } else { (None, section) };
        let body = read_body(message, section).ok();
        let due = body.as_ref().map_or(Timestamp(0), |body| body.message.enqueued_at());
        PageRow { sequence, size, attempts, traces, due, body, section: later }
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
