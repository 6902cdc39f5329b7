//! Lists of sessions, in the order of their ids: those with messages or a state, or those whose
//! state was set after some moment. Read from the rows, a page at a time, never all of them at once.

use std::collections::BTreeSet;

use super::super::read::Purpose;
use super::super::{Broker, queue_mut};
use crate::command::{ReadRequest, ReadRows};
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin};
use crate::queue::sessions::{ListEnd, NO_SESSIONS};
use crate::rows;
use crate::time::{Span, Timestamp};

/// Sessions in one answer, whatever was asked for: with ids of any length it stays below what a
/// message may have.
const SESSIONS_MAX: u32 = 1000;
/// Ends of lists that are kept for those who ask on. They do so at once, and few do at a time.
const ENDS_MAX: usize = 16;
/// For how long.
const END_KEPT_FOR: Span = Span::from_secs(60);

/// A list that is being made.
#[derive(Debug)]
pub(in crate::broker) struct Listing {
    pub(in crate::broker) origin: Origin,
    entity: EntityId,
    updated_after: Option<Timestamp>,
    skip: u32,
    skip_left: u32,
    count_max: u32,
    found: Vec<MessageSessionId>,
    /// Up to and with which session the rows were looked at.
    after: Option<MessageSessionId>,
}

impl Broker {
    pub(in crate::broker) fn list_sessions(
        &mut self,
        origin: Origin,
        entity: EntityId,
        updated_after: Option<Timestamp>,
        skip: u32,
        count_max: u32,
    ) {
        let count_max = count_max.min(SESSIONS_MAX);
        let after = match self.list_end(entity, updated_after, skip) {
            Ok(after) => after,
            Err(error) => return self.reply_at_once(origin, Err(error)),
        };
        let skip_left = if after.is_some() { 0 } else { skip };
        let found = Vec::new();
        let listing =
            Listing { origin, entity, updated_after, skip, skip_left, count_max, found, after };
        self.go_on_listing(listing);
    }

    /// Where the list before this one ended.
    fn list_end(
        &self,
        entity: EntityId,
        updated_after: Option<Timestamp>,
        skip: u32,
    ) -> Result<Option<MessageSessionId>, Error> {
        let sessions = self.receivable(entity)?.sessions.as_ref().ok_or(NO_SESSIONS)?;
        let is_it = |end: &&ListEnd| {
            end.updated_after == updated_after
                && end.passed == skip
                && self.now.since(end.at) < END_KEPT_FOR
        };
        Ok(sessions.list_ends.iter().rev().find(is_it).map(|end| end.last.clone()))
    }

    fn go_on_listing(&mut self, listing: Listing) {
        let (rows_max, bytes_max) = (self.settings.page_rows_max, self.settings.page_bytes_max);
        let scans =
            rows::session_scans(listing.entity, listing.after.as_ref(), rows_max, bytes_max);
        let (origin, request) = (listing.origin, ReadRequest { scans, gets: Vec::new() });
        if let Err(error) = self.start_client_read(request, Purpose::ListSessions(listing)) {
            self.reply_at_once(origin, Err(error));
        }
    }

    pub(in crate::broker) fn list_page_done(&mut self, mut listing: Listing, rows: &ReadRows) {
        let (rows_max, bytes_max) = (self.settings.page_rows_max, self.settings.page_bytes_max);
        match listing.take_page(rows, rows_max, bytes_max) {
            Page::More => self.go_on_listing(listing),
            Page::Last => self.answer_list(listing),
        }
    }

    fn answer_list(&mut self, listing: Listing) {
        let Listing { origin, entity, updated_after, skip, found: sessions, .. } = listing;
        let passed = skip.saturating_add(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        if let Some(last) = sessions.last()
            && let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(known) = &mut queue.sessions
        {
            let end = ListEnd { at: self.now, updated_after, passed, last: last.clone() };
            known.list_ends.push_back(end);
            if ENDS_MAX < known.list_ends.len() {
                known.list_ends.pop_front();
            }
        }
        self.reply_at_once(origin, Ok(Reply::Sessions { sessions, skip: passed }));
    }
}

/// Whether a list is complete.
#[derive(Debug)]
enum Page {
    More,
    Last,
}

impl Listing {
    fn take_page(&mut self, rows: &ReadRows, rows_max: usize, bytes_max: usize) -> Page {
        let mut sessions = BTreeSet::new();
        let mut end = None;
        for (scan, with_messages) in rows.scans.iter().zip([true, false]) {
            let last = scan.last().filter(|_| rows::is_cut_off(scan, rows_max, bytes_max));
            if let Some(last) = last.and_then(|(key, _)| rows::session_of(key)) {
                let last = InOrder::new(last);
                if end.as_ref().is_none_or(|end| last < *end) {
                    end = Some(last);
                }
            }
            let wanted = scan.iter().filter(|(_, row)| match self.updated_after {
                None => true,
                Some(_) if with_messages => false,
                Some(after) => {
                    rows::read_session_state(row).is_some_and(|state| after < state.updated_at)
                }
            });
            let ids = wanted.filter_map(|(key, _)| rows::session_of(key));
            sessions.extend(ids.map(InOrder::new));
        }
        for session in sessions {
            if end.as_ref().is_some_and(|end| *end < session) {
                break;
            }
            if self.skip_left > 0 {
                self.skip_left -= 1;
            } else if self.found.len() < self.count_max as usize {
                self.found.push(session.session);
            }
        }
        let is_full = self.count_max as usize <= self.found.len();
        match end {
            Some(end) if !is_full => {
                self.after = Some(end.session);
                Page::More
            }
            Some(_) | None => Page::Last,
        }
    }
}

/// A session id in the order of the rows: the shorter first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InOrder {
    len: usize,
    session: MessageSessionId,
}

impl InOrder {
    fn new(session: MessageSessionId) -> Self {
        InOrder { len: session.as_str().len(), session }
    }
}
