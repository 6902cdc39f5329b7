//! Looking at messages of a queue that has some set aside: they are shown in their place among the
//! others. All of it is read from the rows, where all of it is.

use std::ops::Range;

use super::Broker;
use super::read::{Purpose, browsed_row};
use crate::command::{ReadRequest, ReadRows};
use crate::effect::{Browsed, MessageState, Reply};
use crate::error::Error;
use crate::id::{EntityId, Origin, SequenceNumber};
use crate::queue::paging::{PageRow, assemble};
use crate::rows;

/// A browse that waits for rows of all kinds.
#[derive(Debug)]
pub(super) struct BrowsingShelves {
    pub(super) origin: Origin,
    range: Range<SequenceNumber>,
    rows_max: usize,
    /// Octets of messages.
    bytes_max: usize,
}

impl BrowsingShelves {
    /// Octets of rows and keys that so many octets of messages come to.
    fn scan_bytes(&self) -> usize {
        self.bytes_max.saturating_add(self.rows_max.saturating_mul(rows::MESSAGE_ROW_OVERHEAD))
    }
}

impl Broker {
    pub(super) fn browse_shelves(
        &mut self,
        origin: Origin,
        entity: EntityId,
        from: SequenceNumber,
        rows_max: usize,
        bytes_max: usize,
    ) {
        let numbers = match self.queue(entity) {
            Ok(queue) => queue.numbers(),
            Err(error) => return self.reply_at_once(origin, Err(error)),
        };
        let range = from..numbers.next_sequence.max(from);
        let browsing = BrowsingShelves { origin, range, rows_max, bytes_max };
        let scans = rows::shelf_scans(
            entity,
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
        let mut bytes_left = browsing.bytes_max as u64;
        let mut messages: Vec<Browsed> = Vec::new();
        for (row, state) in merge(browsing, rows) {
            let is_full = browsing.rows_max <= messages.len() || bytes_left < row.size;
            if is_full && !messages.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(row.size);
            messages.extend(browsed_row(row, state));
        }
        self.name_sources(&mut messages);
        // Everything shown was durable when the read began.
        self.reply_at_once(browsing.origin, Ok(Reply::Browsed { messages }));
    }

    pub(super) fn browse_shelves_failed(&mut self, browsing: &BrowsingShelves) {
        self.reply_at_once(browsing.origin, Err(Error::StoreUnavailable));
    }
}

/// Puts the answers to [`rows::shelf_scans`] together, in the order of numbers. Each scan may have
/// stopped early; what is shown ends where the first of them did.
fn merge(browsing: &BrowsingShelves, rows: ReadRows) -> Vec<(PageRow, MessageState)> {
    let mut scans = rows.scans.into_iter();
    let [marks, sections, active, scheduled, deferred] =
        std::array::from_fn(|_| scans.next().unwrap_or_default());
    let mut end = browsing.range.end;
    let mut all = Vec::new();
    for (messages, state) in [
        (active, MessageState::Active),
        (scheduled, MessageState::Scheduled),
        (deferred, MessageState::Deferred),
    ] {
        let scans = vec![messages, marks.clone(), sections.clone()];
        let (rows_max, bytes_max) = (browsing.rows_max, browsing.scan_bytes());
        let rows = ReadRows { scans, gets: Vec::new() };
        let (page, page_end) = assemble(rows, &browsing.range, rows_max, bytes_max);
        end = end.min(page_end);
        all.extend(page.into_iter().map(|row| (row, state)));
    }
    all.retain(|(row, _)| row.sequence < end);
    all.sort_by_key(|(row, _)| row.sequence);
    all
}
