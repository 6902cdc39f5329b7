//! What was asked of the store, and what to do with the answer. Browsing is here, because it mostly
//! reads.

use peeklock_storage::{CommitPosition, StoreError};

use super::browse::{BrowsedPage, BrowsingShelves};
use super::dedup::GateRead;
use super::delete_batch::Deleting;
use super::fetch::Fetching;
use super::forward::ForwardRead;
use super::look::{Asked, Viewer};
use super::schedule::DueMessages;
use super::sessions::{Listing, SessionBrowse, StateWish};
use super::topics::Sweep;
use super::transaction::Discharge;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::{ReadRequest, ReadRows, Settlement};
use crate::effect::{Browsed, EffectKind, MessageState};
use crate::error::Error;
use crate::id::{EntityId, LockToken, MessageSessionId, Origin, ReadId, SequenceNumber};
use crate::queue::browsers::View;
use crate::queue::paging::{BodyPlan, Page, Unreadable, assemble, fill_bodies};
use crate::queue::selecting::SelectionPlan;
use crate::queue::sessions::SessionSlot;
use crate::queue::timers::TimerKind;
use crate::queue::{Entry, Queue};
use crate::rows;
use crate::time::Span;

/// Requests of clients that may wait for the store at one time. Each holds a few kilobytes, and the
/// shell reads with few threads: who comes later would wait long.
const CLIENT_READS_MAX: usize = 1024;

/// How long to leave the store alone after a failed read.
pub(super) const RETRY_AFTER: Span = Span::from_secs(1);

/// Why something is being read.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The next page of a queue.
    Page(EntityId),
    /// The bodies of one that are with a topic.
    PageBodies(EntityId, Box<Page>),
    /// Bodies of messages that are next, or doomed.
    Bodies(EntityId, BodyPlan),
    /// What receivers with selectors have to look at.
    Selection(EntityId, SelectionPlan),
    /// Bodies that a settlement needs.
    Settle(Parked, BodyPlan),
    /// Messages to look at.
    Browse(Browsing),
    /// Those of them that are with a topic.
    BrowseBodies(BrowsedPage),
    /// Messages of one session to look at.
    BrowseSession(SessionBrowse),
    /// The next page of a session.
    SessionPage(EntityId, SessionSlot),
    /// Sessions that somebody waits for.
    Sweep(EntityId),
    /// Whether a session has a state that these replace.
    SetState { entity: EntityId, session: MessageSessionId, wishes: Vec<StateWish> },
    /// The state of a session.
    SessionState { origin: Origin },
    /// Sessions to list.
    ListSessions(Listing),
    /// Message-ids that sends wait for.
    Duplicates(GateRead),
    /// Message-ids that forwarding waits for.
    Forward(ForwardRead),
    /// Bodies and message-ids that a commit needs.
    Discharge(Box<Discharge>),
    /// Messages to look at, where some are set aside.
    BrowseShelves(BrowsingShelves),
    /// Messages asked for by number.
    Fetch(Fetching),
    /// Messages to remove.
    DeleteBatch(Box<Deleting>),
    /// Messages of a topic that nobody may hold.
    SweepTopic(Box<Sweep>),
    /// The next due times of a queue.
    Timers(EntityId, TimerKind),
    /// Messages that are over.
    Expiry(EntityId, DueMessages),
    /// Scheduled messages that are due.
    Activation(EntityId, DueMessages),
}

impl Purpose {
    /// The entity that reads, if it is not a client.
    pub(super) const fn owner(&self) -> Option<EntityId> {
        match self {
            Purpose::Page(entity)
            | Purpose::PageBodies(entity, _)
            | Purpose::Bodies(entity, _)
            | Purpose::Selection(entity, _)
            | Purpose::SessionPage(entity, _)
            | Purpose::Sweep(entity)
            | Purpose::Timers(entity, _)
            | Purpose::Expiry(entity, _)
            | Purpose::Activation(entity, _) => Some(*entity),
            Purpose::Settle(..)
            | Purpose::Browse(_)
            | Purpose::BrowseBodies(_)
            | Purpose::SweepTopic(_)
            | Purpose::BrowseSession(_)
            | Purpose::SetState { .. }
            | Purpose::SessionState { .. }
            | Purpose::ListSessions(_)
            | Purpose::BrowseShelves(_)
            | Purpose::Fetch(_)
            | Purpose::DeleteBatch(_)
            | Purpose::Duplicates(_)
            | Purpose::Forward(_)
            | Purpose::Discharge(_) => None,
        }
    }
}

/// A settlement that waits for bodies.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) origin: Option<Origin>,
    pub(super) entity: EntityId,
    pub(super) tokens: Vec<LockToken>,
    pub(super) settlement: Settlement,
}

/// A browse that waits for bodies, or for the part of the queue that is on disk.
#[derive(Debug)]
pub(super) struct Browsing {
    viewer: Viewer,
    items: Vec<Item>,
    bodies: BodyPlan,
    scan: Option<BrowseScan>,
    /// What is below this number is all here, if nothing is scanned.
    end: SequenceNumber,
}

/// The part of a browse that is on disk.
#[derive(Debug)]
struct BrowseScan {
    /// The topic that keeps some of the messages, if it is a subscription.
    topic: Option<EntityId>,
    range: std::ops::Range<SequenceNumber>,
    rows_max: usize,
    /// Octets of messages.
    bytes_max: usize,
}

impl BrowseScan {
    /// Octets of rows and keys that so many octets of messages come to.
    fn scan_bytes(&self) -> usize {
        self.bytes_max.saturating_add(self.rows_max.saturating_mul(rows::MESSAGE_ROW_OVERHEAD))
    }
}

#[derive(Debug)]
enum Item {
    Whole(Browsed),
    BodyMissing { sequence: SequenceNumber, attempts: u32 },
}

impl Broker {
    /// Asks the shell to read for a client, unless many clients are waiting already.
    pub(super) fn start_client_read(
        &mut self,
        request: ReadRequest,
        purpose: Purpose,
    ) -> Result<(), Error> {
        self.may_read_for_client()?;
        self.start_read(request, purpose);
        Ok(())
    }

    /// Refuses when many clients are waiting already.
    pub(super) fn may_read_for_client(&self) -> Result<(), Error> {
        if CLIENT_READS_MAX <= self.reads.len() {
            return Err(Error::ServerBusy("Too many requests wait for the store."));
        }
        Ok(())
    }

    /// Asks the shell to read, after everything that was written so far.
    pub(super) fn start_read(&mut self, request: ReadRequest, purpose: Purpose) {
        let read = ReadId(self.next_read);
        self.next_read += 1;
        self.reads.insert(read, purpose);
        self.emit(self.open_position(), EffectKind::Read { read, request });
    }

    /// Asks for what the receivers of a queue are waiting for.
    pub(super) fn plan_reads(&mut self, entity: EntityId) {
        let sees = self.open_position();
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let any_selecting = queue.receivers.any_selecting();
        let plan = queue.plan_bodies(ReadId(self.next_read), sees, &self.settings);
        if let Some((plan, request)) = plan {
            self.start_read(request, Purpose::Bodies(entity, plan));
        }
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if let Some(request) = queue.plan_page(ReadId(self.next_read), &self.settings) {
            self.counters.pages_read += 1;
            self.start_read(request, Purpose::Page(entity));
        }
        if any_selecting {
            self.plan_selection(entity);
        }
        self.plan_activations(entity);
    }

    pub(super) fn read_done(&mut self, read: ReadId, result: Result<ReadRows, StoreError>) {
        let Some(purpose) = self.reads.remove(&read) else { return };
        match (purpose, result) {
            (Purpose::Page(entity), Ok(rows)) => self.page_done(entity, read, rows),
            (Purpose::PageBodies(entity, mut page), Ok(rows)) => {
                fill_bodies(&mut page.rows, rows.gets);
                self.page_complete(entity, read, *page);
            }
            (Purpose::SweepTopic(sweep), result) => self.sweep_read(*sweep, result.ok()),
            (Purpose::Bodies(entity, plan), Ok(rows)) => {
                if let Some(queue) = queue_mut(&mut self.queues, entity) {
                    queue.read_ended(read);
                }
                self.restore_bodies(entity, plan, rows);
                self.wake(entity);
            }
            (Purpose::Selection(entity, plan), result) => {
                self.selection_read(entity, read, plan, result);
            }
            (Purpose::Settle(wish, plan), Ok(rows)) => {
                self.restore_bodies(wish.entity, plan, rows);
                self.wake(wish.entity);
                self.settle_all(wish);
            }
            (Purpose::Browse(browsing), Ok(rows)) => self.browse_done(browsing, rows),
            (Purpose::BrowseBodies(mut page), Ok(rows)) => {
                fill_bodies(page.rows.iter_mut().map(|(row, _)| row), rows.gets);
                self.browse_page_done(page);
            }
            (Purpose::BrowseSession(browse), Ok(rows)) => self.browse_session_done(browse, rows),
            (Purpose::SessionPage(entity, slot), Ok(rows)) => {
                self.session_page_done(entity, slot, read, rows);
            }
            (Purpose::SessionPage(entity, slot), Err(_)) => {
                self.session_page_failed(entity, slot, read);
            }
            (Purpose::Sweep(entity), result) => self.sweep_done(entity, read, result.ok()),
            (Purpose::SetState { entity, session, wishes }, result) => {
                self.state_known(entity, &session, wishes, result.ok());
            }
            (Purpose::SessionState { origin }, Ok(rows)) => self.session_state_done(origin, rows),
            (Purpose::ListSessions(listing), Ok(rows)) => self.list_page_done(listing, &rows),
            (Purpose::Discharge(discharge), Ok(rows)) => self.discharge_read(*discharge, rows),
            (Purpose::Duplicates(of), rows) => {
                self.looked_up(read, of, rows.ok().map(|rows| rows.gets));
            }
            (Purpose::Forward(of), rows) => {
                self.held_looked_up(read, of, rows.ok().map(|rows| rows.gets));
            }
            (Purpose::Discharge(discharge), Err(_)) => self.discharge_unread(&discharge),
            (Purpose::BrowseShelves(browsing), Ok(rows)) => {
                self.browse_shelves_done(&browsing, rows);
            }
            (Purpose::BrowseShelves(browsing), Err(_)) => self.browse_shelves_failed(&browsing),
            (Purpose::DeleteBatch(deleting), result) => self.batch_read(*deleting, result),
            (Purpose::Fetch(fetching), result) => self.fetch_done(fetching, result),
            (Purpose::Timers(entity, kind), Ok(rows)) => {
                self.timers_done(entity, kind, read, rows.scans);
            }
            (Purpose::Timers(entity, kind), Err(_)) => self.timers_failed(entity, kind, read),
            (Purpose::Expiry(entity, due), Ok(rows)) => {
                self.expired_read(entity, read, due, rows.gets);
            }
            (Purpose::Expiry(entity, due), Err(_)) => self.expired_unread(entity, read, due),
            (Purpose::Activation(entity, due), Ok(rows)) => {
                self.activate(entity, read, due, rows.gets);
            }
            (Purpose::Activation(entity, due), Err(_)) => {
                self.activation_failed(entity, read, due);
            }
            (
                Purpose::Page(entity) | Purpose::PageBodies(entity, _) | Purpose::Bodies(entity, _),
                Err(_),
            ) => {
                if let Some(queue) = queue_mut(&mut self.queues, entity) {
                    queue.read_ended(read);
                }
                self.retry_reads(entity);
                self.wake(entity);
            }
            (Purpose::Settle(wish, _), Err(_)) => {
                self.answer_settle(wish.origin, Err(Error::StoreUnavailable));
            }
            (
                Purpose::Browse(Browsing { viewer, .. })
                | Purpose::BrowseBodies(BrowsedPage { viewer, .. }),
                Err(_),
            ) => self.show(viewer, CommitPosition(0), Err(Error::StoreUnavailable)),
            (
                Purpose::BrowseSession(SessionBrowse { origin, .. })
                | Purpose::SessionState { origin }
                | Purpose::ListSessions(Listing { origin, .. }),
                Err(_),
            ) => self.reply_at_once(origin, Err(Error::StoreUnavailable)),
        }
    }

    /// Leaves the store alone for a while, after it could not read for a queue.
    pub(super) fn retry_reads(&mut self, entity: EntityId) {
        let retry_at = self.now.plus(RETRY_AFTER);
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.retry_reads_at(retry_at);
        }
    }

    fn page_done(&mut self, entity: EntityId, read: ReadId, rows: ReadRows) {
        let (next_read, settings) = (ReadId(self.next_read), self.settings);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let Some((page, request)) = queue.look_at_page(read, rows, next_read, &settings) else {
            return;
        };
        self.counters.damaged += page.damaged_runs;
        if request.gets.is_empty() {
            return self.page_complete(entity, read, page);
        }
        self.start_read(request, Purpose::PageBodies(entity, Box::new(page)));
    }

    /// All of a page has come.
    fn page_complete(&mut self, entity: EntityId, read: ReadId, found: Page) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let Some(page) = queue.read_ended(read) else { return };
        let before = queue.memory();
        let damaged = queue.page_in(page, found);
        self.memory = self.memory - before + queue.memory();
        for sequence in damaged {
            self.lose(entity, sequence, Unreadable { row_exists: true });
        }
        self.wake(entity);
    }

    pub(super) fn restore_bodies(&mut self, entity: EntityId, plan: BodyPlan, rows: ReadRows) {
        for (wanted, body) in plan.read(rows.gets) {
            let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
            match body {
                Ok(body) => {
                    let before = queue.memory();
                    queue.restore_body(wanted, body);
                    self.memory = self.memory - before + queue.memory();
                }
                // Gone since we asked, or gone for good.
                Err(unreadable) => {
                    if queue.entry(wanted.sequence).is_some_and(|entry| entry.body.is_none()) {
                        self.lose(entity, wanted.sequence, unreadable);
                    }
                }
            }
        }
    }

    /// A row cannot be read, and reading it again would not help. Whoever looks after the broker sees
    /// it in the counters.
    pub(super) fn lose(
        &mut self,
        entity: EntityId,
        sequence: SequenceNumber,
        unreadable: Unreadable,
    ) {
        self.counters.damaged += 1;
        let row_exists = unreadable.row_exists;
        self.commit(&Change::Lost { entity, sequence, row_exists });
    }

    pub(super) fn browse(&mut self, asked: Asked) {
        let Asked { entity, from, count_max, bytes_max, .. } = asked;
        let count_max = count_max.min(self.settings.browse_count_max) as usize;
        let bytes_max = bytes_max.min(self.settings.browse_bytes_max);
        let has_shelves = self
            .receivable(entity)
            .is_ok_and(|queue| queue.deferred_count() + queue.scheduled_count() > 0);
        if has_shelves {
            return self.browse_shelves(asked, count_max, bytes_max);
        }
        self.browse_active(Viewer::Client(asked), entity, from, count_max, bytes_max);
    }

    /// Looks at messages that are to be delivered, or locked.
    pub(super) fn browse_active(
        &mut self,
        viewer: Viewer,
        entity: EntityId,
        from: SequenceNumber,
        count_max: usize,
        bytes_max: usize,
    ) {
        let collected = self.receivable(entity).map(|queue| {
            Collected::from_memory(queue, from, count_max, bytes_max, self.open_position())
        });
        let Collected { items, bodies, mut request, scan, after, end } = match collected {
            Ok(collected) => collected,
            Err(error) => return self.show(viewer, CommitPosition(0), Err(error)),
        };
        if let Some(scan) = &scan {
            request.scans =
                rows::page_scans(entity, scan.topic, &scan.range, scan.rows_max, scan.scan_bytes());
        }
        let browsing = Browsing { viewer, items, bodies, scan, end };
        if request == ReadRequest::default() {
            let mut messages: Vec<_> = browsing.items.into_iter().filter_map(Item::whole).collect();
            self.name_sources(&mut messages);
            return self.show(viewer, after, Ok(View { messages, end }));
        }
        self.read_to_look(viewer, request, Purpose::Browse(browsing));
    }

    fn browse_done(&mut self, browsing: Browsing, mut rows: ReadRows) {
        let Browsing { viewer, items, bodies, scan, end } = browsing;
        let mut bodies = bodies.read(std::mem::take(&mut rows.gets));
        let mut messages = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Whole(browsed) => messages.push(browsed),
                // The answers come in the order of the questions. What is gone by now is left out.
                Item::BodyMissing { sequence, attempts } => {
                    if let Some((_, Ok(body))) = bodies.next() {
                        messages.push(Browsed {
                            sequence,
                            message: body.message,
                            attempts,
                            application_properties: body.application_properties,
                            state: MessageState::Active,
                            dead_letter_source: None,
                        });
                    }
                }
            }
        }
        let mut page =
            BrowsedPage { viewer, messages, rows: Vec::new(), rows_max: 0, bytes_max: 0, end };
        if let Some(scan) = scan {
            let (rows_max, bytes_max) = (scan.rows_max, scan.scan_bytes());
            let found = assemble(rows, &scan.range, scan.topic, rows_max, bytes_max);
            page.rows = found.rows.into_iter().map(|row| (row, MessageState::Active)).collect();
            page.rows_max = rows_max;
            page.bytes_max = scan.bytes_max;
            page.end = found.end;
        }
        self.browse_page(page);
    }
}

/// What of a browse is in memory, and what has to be read.
struct Collected {
    items: Vec<Item>,
    bodies: BodyPlan,
    request: ReadRequest,
    scan: Option<BrowseScan>,
    after: CommitPosition,
    /// What is below this number is all here, if nothing is scanned.
    end: SequenceNumber,
}

impl Collected {
    fn from_memory(
        queue: &Queue,
        from: SequenceNumber,
        count_max: usize,
        bytes_max: usize,
        sees: CommitPosition,
    ) -> Self {
        let mut collected = Collected {
            items: Vec::new(),
            bodies: BodyPlan::new(sees),
            request: ReadRequest::default(),
            scan: None,
            after: CommitPosition(0),
            end: queue.next_sequence(),
        };
        let on_disk = queue.readable().filter(|range| from < range.end);
        let mut bytes = 0_usize;
        for (sequence, entry) in queue.entries_in_order(from) {
            let behind_disk = on_disk.as_ref().is_some_and(|range| range.end <= sequence);
            let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
            let is_full = count_max <= collected.items.len()
                || (!collected.items.is_empty() && bytes_max < bytes.saturating_add(size));
            if behind_disk || is_full {
                let disk_start = on_disk.as_ref().filter(|_| behind_disk).map(|range| range.start);
                collected.end = disk_start.map_or(sequence, |start| start.max(from));
                if is_full {
                    return collected;
                }
                break;
            }
            bytes = bytes.saturating_add(size);
            collected.add(queue.id(), sequence, entry);
        }
        let count_left = count_max - collected.items.len();
        let bytes_left = bytes_max.saturating_sub(bytes);
        if let Some(range) = &on_disk {
            collected.end = collected.end.min(range.start.max(from));
        }
        if let Some(range) = on_disk
            && count_left > 0
            && (bytes_left > 0 || collected.items.is_empty())
        {
            // The first row of a scan always comes, so there is always something to go on with.
            let range = range.start.max(from)..range.end;
            let (rows_max, bytes_max) = (count_left, bytes_left);
            let topic = queue.shares_with();
            collected.scan = Some(BrowseScan { topic, range, rows_max, bytes_max });
        }
        collected
    }

    fn add(&mut self, entity: EntityId, sequence: SequenceNumber, entry: &Entry) {
        self.after = self.after.max(entry.visible_after);
        let attempts = entry.attempts;
        let Some(body) = &entry.body else {
            self.bodies.want(entity, sequence, entry.traces, &mut self.request);
            self.items.push(Item::BodyMissing { sequence, attempts });
            return;
        };
        self.items.push(Item::Whole(Browsed {
            sequence,
            message: std::sync::Arc::clone(&body.message),
            attempts,
            application_properties: body.application_properties.clone(),
            state: MessageState::Active,
            dead_letter_source: None,
        }));
    }
}

impl Item {
    fn whole(self) -> Option<Browsed> {
        match self {
            Item::Whole(browsed) => Some(browsed),
            Item::BodyMissing { .. } => None,
        }
    }
}
