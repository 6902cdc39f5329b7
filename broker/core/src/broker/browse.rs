//! Looking at messages of a queue that has some set aside: they are shown in their place among the
//! others. All of it is read from the rows, where all of it is.

use std::ops::Range;

use peeklock_storage::CommitPosition;

use super::Broker;
use super::look::{Asked, Viewer};
use super::read::Purpose;
use crate::command::{ReadRequest, ReadRows};
use crate::effect::{Browsed, MessageState};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::queue::browsers::View;
use crate::queue::paging::{PageRow, assemble, bodies_request};
use crate::rows;

/// A browse that waits for rows of all kinds.
#[derive(Debug)]
pub(super) struct BrowsingShelves {
    pub(super) asked: Asked,
    /// The topic that keeps some of the messages, if it is a subscription.
    topic: Option<EntityId>,
    range: Range<SequenceNumber>,
    rows_max: usize,
    /// Octets of messages.
    bytes_max: usize,
}

/// What a browse shows. Some bodies may have to be read yet.
#[derive(Debug)]
pub(super) struct BrowsedPage {
    pub(super) viewer: Viewer,
    /// What comes first.
    pub(super) messages: Vec<Browsed>,
    pub(super) rows: Vec<(PageRow, MessageState)>,
    pub(super) rows_max: usize,
    /// Octets of the rows' messages.
    pub(super) bytes_max: usize,
    /// What is below this number is all here.
    pub(super) end: SequenceNumber,
}

impl BrowsingShelves {
    /// Octets of rows and keys that so many octets of messages come to.
    fn scan_bytes(&self) -> usize {
        self.bytes_max.saturating_add(self.rows_max.saturating_mul(rows::MESSAGE_ROW_OVERHEAD))
    }
}

impl Broker {
    pub(super) fn browse_shelves(&mut self, asked: Asked, rows_max: usize, bytes_max: usize) {
        let Asked { origin, entity, from, .. } = asked;
        let (numbers, topic) = match self.queue(entity) {
            Ok(queue) => (queue.numbers(), queue.shares_with()),
            Err(error) => return self.reply_at_once(origin, Err(error)),
        };
        let range = from..numbers.next_sequence.max(from);
        let browsing = BrowsingShelves { asked, topic, range, rows_max, bytes_max };
        let scans = rows::shelf_scans(
            entity,
            topic,
            &browsing.range,
            numbers.head,
            rows_max,
            browsing.scan_bytes(),
        );
        let request = ReadRequest { scans, gets: Vec::new() };
        if let Err(error) = self.start_client_read(request, Purpose::BrowseShelves(browsing)) {
            self.reply_at_once(origin, Err(error));
        }
    }

    pub(super) fn browse_shelves_done(&mut self, browsing: &BrowsingShelves, rows: ReadRows) {
        let BrowsingShelves { asked, rows_max, bytes_max, .. } = *browsing;
        let (rows, end) = merge(browsing, rows);
        let (viewer, messages) = (Viewer::Client(asked), Vec::new());
        self.browse_page(BrowsedPage { viewer, messages, rows, rows_max, bytes_max, end });
    }

    /// Shows a page of rows behind what is shown already, once all of it was read.
    pub(super) fn browse_page(&mut self, mut page: BrowsedPage) {
        if page.rows_max < page.rows.len()
            && let Some((first_left, _)) = page.rows.drain(page.rows_max..).next()
        {
            page.end = page.end.min(first_left.sequence);
        }
        let request = bodies_request(page.rows.iter().map(|(row, _)| row));
        if request.gets.is_empty() {
            return self.browse_page_done(page);
        }
        self.read_to_look(page.viewer, request, Purpose::BrowseBodies(page));
    }

    pub(super) fn browse_page_done(&mut self, page: BrowsedPage) {
        let BrowsedPage { viewer, mut messages, rows, bytes_max, mut end, .. } = page;
        let mut bytes_left = bytes_max as u64;
        for (row, state) in rows {
            if bytes_left < row.size && !messages.is_empty() {
                end = end.min(row.sequence);
                break;
            }
            bytes_left = bytes_left.saturating_sub(row.size);
            messages.extend(browsed_row(row, state));
        }
        self.name_sources(&mut messages);
        // Everything shown was durable when the read began.
        self.show(viewer, CommitPosition(0), Ok(View { messages, end }));
    }

    pub(super) fn browse_shelves_failed(&mut self, browsing: &BrowsingShelves) {
        self.reply_at_once(browsing.asked.origin, Err(Error::StoreUnavailable));
    }
}

pub(super) fn browsed_row(row: PageRow, state: MessageState) -> Option<Browsed> {
    let body = row.body?;
    Some(Browsed {
        sequence: row.sequence,
        message: body.message,
        attempts: row.attempts,
        application_properties: body.application_properties,
        state,
        dead_letter_source: None,
    })
}

/// Puts the answers to [`rows::shelf_scans`] together, in the order of numbers. Each scan may have
/// stopped early; what is shown ends where the first of them did, and that is said too.
fn merge(
    browsing: &BrowsingShelves,
    rows: ReadRows,
) -> (Vec<(PageRow, MessageState)>, SequenceNumber) {
    let mut scans = rows.scans.into_iter();
    let [marks, sections, active, scheduled, deferred, runs] =
        std::array::from_fn(|_| scans.next().unwrap_or_default());
    let mut end = browsing.range.end;
    let mut all = Vec::new();
    for (messages, state) in [
        (active, MessageState::Active),
        (scheduled, MessageState::Scheduled),
        (deferred, MessageState::Deferred),
    ] {
        let topic = browsing.topic.filter(|_| state == MessageState::Active);
        let scans = vec![messages, marks.clone(), sections.clone(), runs.clone()];
        let (rows_max, bytes_max) = (browsing.rows_max, browsing.scan_bytes());
        let rows = ReadRows { scans, gets: Vec::new() };
        let page = assemble(rows, &browsing.range, topic, rows_max, bytes_max);
        end = end.min(page.end);
        all.extend(page.rows.into_iter().map(|row| (row, state)));
    }
    all.retain(|(row, _)| row.sequence < end);
    all.sort_by_key(|(row, _)| row.sequence);
    (all, end)
}
