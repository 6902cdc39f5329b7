//! Looking at the messages of one session, held or not.

use super::super::Broker;
use super::super::read::{Purpose, browsed_row};
use crate::command::{ReadRequest, ReadRows, Scan};
use crate::effect::{MessageState, Reply};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::paging::PageRow;
use crate::queue::sessions::NO_SESSIONS;
use crate::rows;

/// A look at a session that waits for the store: for the index first, then for messages.
#[derive(Debug)]
pub(in crate::broker) struct SessionBrowse {
    pub(in crate::broker) origin: Origin,
    entity: EntityId,
    bytes_max: usize,
    wanted: Option<Vec<SequenceNumber>>,
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
        let scan = Scan {
            table: rows::SESSION_TABLE,
            range: rows::session_index_range(entity, session, from),
            rows_max: count_max.min(self.settings.browse_count_max) as usize,
            bytes_max: self.settings.browse_bytes_max,
        };
        let bytes_max = bytes_max.min(self.settings.browse_bytes_max);
        let browse = SessionBrowse { origin, entity, bytes_max, wanted: None };
        let request = ReadRequest { scans: vec![scan], gets: Vec::new() };
        let started = has_sessions
            .and_then(|()| self.start_client_read(request, Purpose::BrowseSession(browse)));
        if let Err(error) = started {
            self.reply_at_once(origin, Err(error));
        }
    }

    pub(in crate::broker) fn browse_session_done(&mut self, browse: SessionBrowse, rows: ReadRows) {
        let origin = browse.origin;
        let Some(wanted) = browse.wanted else {
            return self.browse_index_done(&browse, rows);
        };
        let mut gets = rows.gets.into_iter();
        let mut messages = Vec::with_capacity(wanted.len());
        for sequence in wanted {
            let [message, mark, section] = [(); 3].map(|()| gets.next().flatten());
            let size = message.as_deref().map_or(0, StoredMessage::size_of_row);
            let row = PageRow::from_rows(sequence, size, message, mark.as_ref(), section);
            // What is gone by now is left out.
            messages.extend(browsed_row(row, MessageState::Active));
        }
        self.name_sources(&mut messages);
        self.reply_at_once(origin, Ok(Reply::Browsed { messages }));
    }

    fn browse_index_done(&mut self, browse: &SessionBrowse, rows: ReadRows) {
        let index = rows.scans.into_iter().next().unwrap_or_default();
        let mut bytes_left = browse.bytes_max as u64;
        let mut wanted = Vec::new();
        for (key, row) in &index {
            let Some((_, sequence)) = rows::session_and_sequence(key) else { continue };
            let size = rows::size_in_index(row);
            if bytes_left < size && !wanted.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(size);
            wanted.push(sequence);
        }
        let (origin, entity) = (browse.origin, browse.entity);
        if wanted.is_empty() {
            return self.reply_at_once(origin, Ok(Reply::Browsed { messages: Vec::new() }));
        }
        let request = rows::message_gets(entity, &wanted);
        let browse =
            SessionBrowse { origin, entity, bytes_max: browse.bytes_max, wanted: Some(wanted) };
        let started: Result<(), Error> =
            self.start_client_read(request, Purpose::BrowseSession(browse));
        if let Err(error) = started {
            self.reply_at_once(origin, Err(error));
        }
    }
}
