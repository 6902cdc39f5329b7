//! Receivers that want only the messages that a selector lets through.
//!
//! ```text
//!   numbers of ready messages:   looked at, not wanted │ not looked at yet ...
//!                                                    cursor
//! ```
//!
//! Receivers with the same selector form a group. Of the ready messages below its cursor a group wants
//! none, but perhaps its candidates: those that came back or came late, and those that a page of the
//! store showed to be wanted. Each message is looked at once, so a long backlog of others costs a group
//! nothing but its cursor. What is not wanted stays where it is, for everybody else.
//!
//! Behind the window a group reads pages of its own, which are looked at and not kept. What it wants of
//! them is read by its number and stands apart while it is locked; given back, it is on disk again. So
//! the window is only ever filled for receivers that want everything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use peeklock_storage::CommitPosition;

use super::paging::{BodyPlan, Page, PageRow};
use super::receiver::Slot;
use super::timers::Timer;
use super::window::Zone;
use super::{Body, Entry, Offer, Queue, Standing, Traces};
use crate::command::ReadRequest;
use crate::entity::settings::BrokerSettings;
use crate::filter::{Arrival, MessageProperties, SqlFilter};
use crate::id::{EntityId, ReadId, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::rows;
use crate::time::Timestamp;

/// Messages looked at in one turn of a queue, over all groups, so that a turn stays short; the rest
/// follow at once. Most selectors take a microsecond or two.
const LOOKS_MAX: usize = 1_024;

/// Candidates of a group, which take some 40 octets each. With more it looks at everything again from
/// the lowest on.
const CANDIDATES_MAX: usize = 4_096;

/// Receivers of one queue with the same selector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct GroupId(u64);

#[derive(Debug)]
struct Group {
    selector: Box<SqlFilter>,
    receivers: usize,
    cursor: SequenceNumber,
    /// Messages below the cursor that have to be looked at.
    candidates: BTreeMap<SequenceNumber, Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    size: u64,
    /// The topic that keeps its row, if one does.
    shared: Option<EntityId>,
}

/// The groups of a queue, and what is being read for them.
#[derive(Debug)]
pub(crate) struct Selecting {
    groups: BTreeMap<GroupId, Group>,
    next_group: u64,
    /// The group that was read for last.
    last_served: GroupId,
    looks_left: usize,
    /// The turn ended before everything was looked at; go on then.
    pub(crate) again_at: Option<Timestamp>,
    pub(super) read: Option<ReadId>,
    /// Where the page ends that is being read.
    scan_end: Option<SequenceNumber>,
    /// Messages that are not set aside, and stand apart all the same: they were taken out of the store
    /// without passing through the order of delivery.
    pub(super) taken: BTreeSet<SequenceNumber>,
}

impl Default for Selecting {
    fn default() -> Self {
        Selecting {
            groups: BTreeMap::new(),
            next_group: 0,
            last_served: GroupId::default(),
            looks_left: LOOKS_MAX,
            again_at: None,
            read: None,
            scan_end: None,
            taken: BTreeSet::new(),
        }
    }
}

impl Selecting {
    /// The group of a new receiver.
    pub(crate) fn join(&mut self, selector: Box<SqlFilter>) -> GroupId {
        let is_same = |group: &Group| group.selector.canonical() == selector.canonical();
        if let Some((id, group)) = self.groups.iter_mut().find(|(_, group)| is_same(group)) {
            group.receivers += 1;
            return *id;
        }
        self.next_group += 1;
        let id = GroupId(self.next_group);
        let (cursor, candidates) = (SequenceNumber::FIRST, BTreeMap::new());
        self.groups.insert(id, Group { selector, receivers: 1, cursor, candidates });
        id
    }

    /// A receiver is gone.
    pub(crate) fn leave(&mut self, id: GroupId) {
        let group = self.groups.get_mut(&id).expect("a receiver's group is known");
        group.receivers -= 1;
        if group.receivers == 0 {
            self.groups.remove(&id);
        }
    }
}

/// What is read for groups.
#[derive(Debug)]
pub(crate) enum SelectionPlan {
    /// Messages behind the window, to be looked at.
    Page(Range<SequenceNumber>),
    /// The bodies of those of them that are with a topic.
    PageBodies(Range<SequenceNumber>, Box<Page>),
    /// Bodies of messages in the window.
    Bodies(BodyPlan),
    /// Messages that only the store has, to be delivered, with the topic that keeps the row, if one does.
    Rows(GroupId, Vec<(SequenceNumber, Option<EntityId>)>),
}

impl Queue {
    /// The next message that somebody is to have, and who, where some want only certain messages. The
    /// turn goes on to the first in the round for whom there is one.
    pub(crate) fn next_for_anybody(&mut self) -> Option<(SequenceNumber, Slot)> {
        for _ in 0..self.receivers.round_len() {
            let (slot, receiver) = self.receivers.next()?;
            let found = match (receiver.group, self.offer()) {
                (Some(group), _) => self.select(group),
                (None, Offer::Message(sequence)) => Some(sequence),
                (None, Offer::Nothing | Offer::BodyMissing) => None,
            };
            if let Some(sequence) = found {
                return Some((sequence, slot));
            }
            self.receivers.pass_turn();
        }
        None
    }

    /// The next message in the window that a group wants. Looks at it once: it is either delivered now,
    /// or gone.
    fn select(&mut self, id: GroupId) -> Option<SequenceNumber> {
        loop {
            let group = self.selecting.groups.get_mut(&id)?;
            let candidate = group.candidates.first_key_value().map(|(sequence, _)| *sequence);
            let Some(sequence) = candidate.or_else(|| self.ready.next_from(group.cursor)) else {
                if self.window.on_disk().is_none() {
                    group.cursor = self.next_sequence;
                }
                return None;
            };
            let Some(entry) = self.entries.get(&sequence) else {
                let zone = self.window.zone(sequence, self.next_sequence);
                if zone == Zone::Disk && !self.apart.contains_key(&sequence) {
                    return None;
                }
                group.candidates.remove(&sequence);
                continue;
            };
            if candidate.is_some() && self.window.zone(sequence, self.next_sequence) == Zone::Tail {
                self.give_up_tail();
                continue;
            }
            let body = match (entry.standing, &entry.body) {
                (Standing::Ready, Some(body)) => body,
                (Standing::Ready, None) => {
                    let (size, shared) = (entry.size, entry.traces.shared);
                    group.candidates.insert(sequence, Candidate { size, shared });
                    group.cursor = group.cursor.max(sequence.next());
                    return None;
                }
                (Standing::Locked(_) | Standing::Doomed, _) => {
                    group.candidates.remove(&sequence);
                    continue;
                }
            };
            let looks_left = self.selecting.looks_left.checked_sub(1)?;
            self.selecting.looks_left = looks_left;
            group.candidates.remove(&sequence);
            group.cursor = group.cursor.max(sequence.next());
            if lets_body_through(&group.selector, sequence, entry.attempts, body) {
                return Some(sequence);
            }
        }
    }

    /// A message is to be delivered, and was not just before: groups that have passed it look again.
    pub(super) fn note_ready(
        &mut self,
        sequence: SequenceNumber,
        size: u64,
        shared: Option<EntityId>,
    ) {
        let passed = self.selecting.scan_end.unwrap_or(SequenceNumber::FIRST);
        for group in self.selecting.groups.values_mut() {
            if group.cursor.max(passed) <= sequence {
                continue;
            }
            group.candidates.insert(sequence, Candidate { size, shared });
            if CANDIDATES_MAX < group.candidates.len()
                && let Some((lowest, _)) = group.candidates.first_key_value()
            {
                group.cursor = group.cursor.min(*lowest);
                group.candidates.clear();
            }
        }
    }

    /// Ends a turn of looking: says what to read, if more has to be known.
    pub(crate) fn plan_selection(
        &mut self,
        now: Timestamp,
        sees: CommitPosition,
        settings: &BrokerSettings,
    ) -> Option<(SelectionPlan, ReadRequest)> {
        let looks_left = std::mem::replace(&mut self.selecting.looks_left, LOOKS_MAX);
        self.selecting.again_at = (looks_left == 0).then_some(now);
        if self.selecting.read.is_some() || self.window.retry_at.is_some() {
            return None;
        }
        let waiting = self.receivers.groups_waiting();
        let last = self.selecting.last_served;
        let (before, after): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(id, _)| *id <= last);
        for (id, count_max) in after.into_iter().chain(before) {
            let plan = self.plan_for_group(id, count_max, sees, settings);
            if plan.is_some() {
                self.selecting.last_served = id;
                return plan;
            }
        }
        None
    }

    /// Notes that it is being read.
    pub(crate) fn begin_selection(&mut self, read: ReadId, plan: &SelectionPlan) {
        self.selecting.read = Some(read);
        match plan {
            SelectionPlan::Page(range) => self.selecting.scan_end = Some(range.end),
            SelectionPlan::PageBodies(..) | SelectionPlan::Bodies(_) => {}
            SelectionPlan::Rows(_, sequences) => {
                for (sequence, _) in sequences {
                    self.watch.begin(*sequence, read);
                }
            }
        }
    }

    pub(crate) fn end_selection(&mut self) {
        self.selecting.read = None;
        self.selecting.scan_end = None;
    }

    fn plan_for_group(
        &mut self,
        id: GroupId,
        count_max: u64,
        sees: CommitPosition,
        settings: &BrokerSettings,
    ) -> Option<(SelectionPlan, ReadRequest)> {
        let group = self.selecting.groups.get(&id)?;
        let Some((first, _)) = group.candidates.first_key_value() else {
            return self.plan_selection_page(id, settings);
        };
        let (rows_max, bytes_max) = (settings.page_rows_max, settings.page_bytes_max as u64);
        let mut bytes = 0;
        let mut fits = |size: u64| {
            let is_full = bytes_max <= bytes;
            bytes += size;
            !is_full
        };
        let mut request = ReadRequest::default();
        if self.entries.contains_key(first) {
            let mut plan = BodyPlan::new(sees);
            for (sequence, candidate) in group.candidates.iter().take(rows_max) {
                let Some(entry) = self.entries.get(sequence) else { break };
                if entry.standing != Standing::Ready
                    || entry.body.is_some()
                    || !fits(candidate.size)
                {
                    break;
                }
                plan.want(self.id(), *sequence, entry.traces, &mut request);
            }
            return (!request.gets.is_empty()).then_some((SelectionPlan::Bodies(plan), request));
        }
        let count_max = usize::try_from(count_max).unwrap_or(usize::MAX).min(rows_max);
        // So that no run is missed: there is at most one for each number.
        let end = SequenceNumber(first.0.saturating_add(rows_max as u64));
        let wanted = group.candidates.iter().take(count_max).take_while(|(sequence, candidate)| {
            let is_taken = self.apart.contains_key(sequence) || end <= **sequence;
            !is_taken && !self.entries.contains_key(sequence) && fits(candidate.size)
        });
        let wanted: Vec<_> = wanted.map(|(sequence, one)| (*sequence, one.shared)).collect();
        for (sequence, shared) in &wanted {
            let traces = Traces { shared: *shared, ..Traces::default() };
            let [(table, _), mark, section] = rows::active_gets(self.id(), *sequence);
            let own = (table, rows::own_key(self.id(), traces, *sequence));
            request.gets.extend([own, mark, section]);
        }
        if let (Some((first, _)), Some((last, _))) = (wanted.first(), wanted.last())
            && wanted.iter().any(|(_, shared)| shared.is_some())
        {
            request.scans.push(rows::run_scan(self.id(), &(*first..last.next()), rows_max));
        }
        (!wanted.is_empty()).then_some((SelectionPlan::Rows(id, wanted), request))
    }

    fn plan_selection_page(
        &mut self,
        id: GroupId,
        settings: &BrokerSettings,
    ) -> Option<(SelectionPlan, ReadRequest)> {
        let cursor = self.selecting.groups.get(&id)?.cursor;
        if self.ready.next_from(cursor).is_some() {
            return None;
        }
        // The tail waits for a page that nobody reads.
        if self.window.on_disk()?.end <= cursor && self.window.page.is_none() {
            self.give_up_tail();
        }
        let on_disk = self.window.on_disk()?.clone();
        for group in self.selecting.groups.values_mut() {
            if group.candidates.is_empty() && self.ready.next_from(group.cursor).is_none() {
                group.cursor = group.cursor.max(on_disk.start);
            }
        }
        let range = cursor.max(on_disk.start)..on_disk.end;
        if range.is_empty() {
            return None;
        }
        let (rows_max, bytes_max) = (settings.page_rows_max, settings.page_bytes_max);
        let topic = self.shares_with();
        let scans = rows::page_scans(self.id(), topic, &range, rows_max, bytes_max);
        Some((SelectionPlan::Page(range), ReadRequest { scans, gets: Vec::new() }))
    }

    /// Looks at a page, for the group that asked for it and for others that have come as far.
    pub(crate) fn look_at_selection(&mut self, range: &Range<SequenceNumber>, found: &Page) {
        let Page { rows: page, end, .. } = found;
        let Selecting { groups, last_served, taken, .. } = &mut self.selecting;
        let mut looks_left = LOOKS_MAX.max(page.len());
        let mut look = |group: &mut Group| {
            let has_come = range.start <= group.cursor && group.cursor < *end;
            if !has_come || looks_left < page.len() || CANDIDATES_MAX < group.candidates.len() {
                return;
            }
            looks_left -= page.len();
            let rest = page.iter().filter(|row| group.cursor <= row.sequence);
            for PageRow { sequence, size, attempts, traces, body, .. } in rest {
                if let Some(body) = body
                    && !taken.contains(sequence)
                    && lets_body_through(&group.selector, *sequence, *attempts, body)
                {
                    let (size, shared) = (*size, traces.shared);
                    group.candidates.insert(*sequence, Candidate { size, shared });
                }
            }
            group.cursor = *end;
        };
        if let Some(group) = groups.get_mut(last_served) {
            look(group);
        }
        groups.values_mut().for_each(look);
    }

    /// A message that was read for a group: whether it is wanted now that all is known of it, and by
    /// whom. It is no candidate any more, unless there is nobody to have it.
    pub(crate) fn who_wants(&mut self, id: GroupId, row: &PageRow) -> Option<(Slot, ReceiverId)> {
        let group = self.selecting.groups.get_mut(&id)?;
        let is_wanted = row.body.as_ref().is_some_and(|body| {
            lets_body_through(&group.selector, row.sequence, row.attempts, body)
        });
        if !is_wanted {
            group.candidates.remove(&row.sequence);
            return None;
        }
        let found = self.receivers.turn_of(id)?;
        group.candidates.remove(&row.sequence);
        Some(found)
    }

    /// A message is not there any more.
    pub(crate) fn drop_candidate(&mut self, id: GroupId, sequence: SequenceNumber) {
        if let Some(group) = self.selecting.groups.get_mut(&id) {
            group.candidates.remove(&sequence);
        }
    }

    /// A message that was taken out of the store goes back to its place.
    pub(super) fn put_back(&mut self, sequence: SequenceNumber, entry: Entry) {
        if self.window.zone(sequence, self.next_sequence) == Zone::Tail {
            self.give_up_tail();
        }
        let Traces { expires_at, shared, .. } = entry.traces;
        let size = entry.size;
        if self.window.zone(sequence, self.next_sequence) == Zone::Memory {
            self.insert(sequence, Entry { standing: Standing::Ready, ..entry }, true);
        } else {
            self.window.note_returned(sequence);
            self.left_memory(sequence, entry.traces);
        }
        if let Some(at) = expires_at {
            self.expiries.recall(Timer { at, sequence }, size);
        }
        self.note_ready(sequence, size, shared);
    }

    /// Ends the demand of those who drain and have been given all they asked for, or all there is for
    /// them.
    pub(crate) fn take_drained(&mut self) -> Vec<(ReceiverId, CommitPosition)> {
        // Whatever could be given has been. More may come only from a read under way.
        let nothing_left = !self.is_reading();
        if !self.receivers.any_draining() {
            return Vec::new();
        }
        let exhausted: BTreeSet<_> =
            self.selecting.groups.keys().copied().filter(|id| self.is_exhausted(*id)).collect();
        self.receivers.take_drained(|group| match group {
            None => nothing_left,
            Some(group) => exhausted.contains(&group),
        })
    }

    /// Whether a group has looked at everything there is.
    fn is_exhausted(&self, id: GroupId) -> bool {
        if self.window.retry_at.is_some() {
            return true;
        }
        let Some(group) = self.selecting.groups.get(&id) else { return true };
        let has_read = match self.window.on_disk() {
            None => true,
            Some(on_disk) => on_disk.end <= group.cursor && self.window.tail_count == 0,
        };
        has_read && group.candidates.is_empty() && self.ready.next_from(group.cursor).is_none()
    }

    /// Says what does not fit together.
    pub(super) fn check_selecting(&self) -> Result<(), String> {
        let Selecting { groups, taken, .. } = &self.selecting;
        let apart = self.apart.iter().filter(|(_, entry)| !entry.traces.deferred);
        if !apart.map(|(sequence, _)| sequence).eq(taken) {
            return Err(format!("taken out of the store: {taken:?}"));
        }
        for (id, group) in groups {
            if group.receivers != self.receivers.count_in(*id) {
                return Err(format!("{id:?} has not {} receivers", group.receivers));
            }
            let is_served = !self.receivers.groups_waiting().contains_key(id)
                || self.is_exhausted(*id)
                || self.is_reading()
                || self.selecting.read.is_some()
                || self.selecting.again_at.is_some()
                || self.go_on_at.is_some();
            if !is_served {
                return Err(format!("{id:?} waits, and nobody looks"));
            }
            for sequence in self.ready.iter().take_while(|sequence| *sequence < group.cursor) {
                let entry = &self.entries[&sequence];
                let is_wanted = entry.body.as_ref().is_some_and(|body| {
                    lets_body_through(&group.selector, sequence, entry.attempts, body)
                });
                if is_wanted && !group.candidates.contains_key(&sequence) {
                    return Err(format!("{id:?} has passed {sequence}, which it wants"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a selector lets a message through. It does not where it has no result.
fn lets_body_through(
    selector: &SqlFilter,
    sequence: SequenceNumber,
    attempts: u32,
    body: &Body,
) -> bool {
    let section = body.application_properties.as_deref();
    lets_through(selector, sequence, attempts, &body.message, section)
}

/// The same of a message with the section that replaces its application properties.
pub(super) fn lets_through(
    selector: &SqlFilter,
    sequence: SequenceNumber,
    attempts: u32,
    message: &StoredMessage,
    section: Option<&[u8]>,
) -> bool {
    let header = message.header();
    let arrival = Arrival {
        enqueued_at: message.enqueued_at(),
        expires_at: header.expires_at,
        sequence,
        enqueue_sequence: header.enqueue_sequence,
        attempts,
    };
    let properties = MessageProperties::of_stored(message, arrival).replacing(section);
    // A selector cannot name the function that draws from this.
    selector.matches(&properties, &mut || [0; 16]).unwrap_or(false)
}
