//! Looking at the messages of one session, held or not, set aside or not.

use bytes::Bytes;
use peeklock_storage::Key;

use super::super::Broker;
use super::super::browse::browsed_row;
use super::super::read::Purpose;
use crate::command::{ReadRequest, ReadRows};
use crate::effect::{MessageState, Reply};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::Shelf;
use crate::queue::paging::PageRow;
use crate::queue::sessions::NO_SESSIONS;
use crate::rows;

/// A look at a session that waits for the store: for the indexes first, then for messages.
#[derive(Debug)]
pub(in crate::broker) struct SessionBrowse {
    pub(in crate::broker) origin: Origin,
    entity: EntityId,
    session: MessageSessionId,
    count_max: u32,
    bytes_max: usize,
    wanted: Option<Vec<Found>>,
}

/// A message that an index names.
#[derive(Clone, Copy, Debug)]
struct Found {
    sequence: SequenceNumber,
    shelf: Shelf,
    /// Octets it has at most.
    size: u64,
}

impl Broker {
    pub(in crate::broker) fn browse_session(
        &mut self,
        origin: Origin,
        entity: EntityId,
        session: &MessageSessionId,
        from: SequenceNumber,
        count_max: u32,
        bytes_max: usize,
    ) {
        let has_sessions = self
            .receivable(entity)
            .and_then(|queue| if queue.has_sessions() { Ok(()) } else { Err(NO_SESSIONS) });
        let count_max = count_max.min(self.settings.browse_count_max);
        let scan_bytes_max = self.settings.browse_bytes_max;
        let scans =
            rows::session_browse_scans(entity, session, from, count_max as usize, scan_bytes_max);
        let bytes_max = bytes_max.min(self.settings.browse_bytes_max);
        let session = session.clone();
        let browse = SessionBrowse { origin, entity, session, count_max, bytes_max, wanted: None };
        let request = ReadRequest { scans, gets: Vec::new() };
        let started = has_sessions
            .and_then(|()| self.start_client_read(request, Purpose::BrowseSession(browse)));
        if let Err(error) = started {
            self.reply_at_once(origin, Err(error));
        }
    }

    pub(in crate::broker) fn browse_session_done(&mut self, browse: SessionBrowse, rows: ReadRows) {
        let Some(wanted) = &browse.wanted else {
            return self.browse_index_done(browse, &rows);
        };
        let mut gets = rows.gets.into_iter();
        let mut messages = Vec::with_capacity(wanted.len());
        for Found { sequence, shelf, .. } in wanted.iter().copied() {
            let [message, mark, section] = [(); 3].map(|()| gets.next().flatten());
            let size = message.as_deref().map_or(0, StoredMessage::size_of_row);
            let row = PageRow::from_rows(sequence, size, message, mark.as_ref(), section);
            let state = match shelf {
                Shelf::Active => MessageState::Active,
                Shelf::Scheduled => MessageState::Scheduled,
                Shelf::Deferred => MessageState::Deferred,
            };
            // What is gone by now is left out.
            messages.extend(browsed_row(row, state));
        }
        if let Some(last) = wanted.last().filter(|_| messages.is_empty()) {
            // Clients take an empty answer for the end of the session.
            let SessionBrowse { origin, entity, session, count_max, bytes_max, .. } = &browse;
            let from = last.sequence.next();
            return self.browse_session(*origin, *entity, session, from, *count_max, *bytes_max);
        }
        self.name_sources(&mut messages);
        self.reply_at_once(browse.origin, Ok(Reply::Browsed { messages }));
    }

    fn browse_index_done(&mut self, browse: SessionBrowse, rows: &ReadRows) {
        let mut bytes_left = browse.bytes_max as u64;
        let mut wanted: Vec<Found> = Vec::new();
        let count_max = browse.count_max as usize;
        let all = in_order(&rows.scans, count_max, self.settings.browse_bytes_max);
        for found in all.into_iter().take(count_max) {
            if bytes_left < found.size && !wanted.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(found.size);
            wanted.push(found);
        }
        let SessionBrowse { origin, entity, .. } = browse;
        if wanted.is_empty() {
            return self.reply_at_once(origin, Ok(Reply::Browsed { messages: Vec::new() }));
        }
        let places = wanted.iter().map(|found| (found.sequence, found.shelf));
        let request = rows::shelf_gets(entity, places);
        let browse = SessionBrowse { wanted: Some(wanted), ..browse };
        let started: Result<(), Error> =
            self.start_client_read(request, Purpose::BrowseSession(browse));
        if let Err(error) = started {
            self.reply_at_once(origin, Err(error));
        }
    }
}

/// Puts the answers to [`rows::session_browse_scans`] together, in the order of numbers. Each may have
/// stopped early; what is shown ends where the first of them did.
fn in_order(scans: &[Vec<(Key, Bytes)>], rows_max: usize, bytes_max: usize) -> Vec<Found> {
    let mut end: Option<SequenceNumber> = None;
    let mut all = Vec::new();
    for scan in scans {
        let found = scan.iter().filter_map(|(key, row)| {
            let (_, sequence) = rows::session_and_sequence(key)?;
            let (shelf, size) = (rows::shelf_in_index(row), rows::size_in_index(row));
            Some(Found { sequence, shelf, size })
        });
        let before = all.len();
        all.extend(found);
        if rows::is_cut_off(scan, rows_max, bytes_max)
            && let Some(last) = all[before..].last()
        {
            end = Some(end.map_or(last.sequence, |end| end.min(last.sequence)));
        }
    }
    all.retain(|found| end.is_none_or(|end| found.sequence <= end));
    all.sort_by_key(|found| found.sequence);
    all
}
