//! Reading a session's messages back: first its part of the index, then the messages named there.

use std::collections::BTreeSet;

use bytes::Bytes;
use peeklock_storage::Key;

use super::{Record, SessionSlot, Sessions};
use crate::command::{ReadRequest, ReadRows, Scan};
use crate::entity::settings::BrokerSettings;
use crate::id::{EntityId, ReadId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::Queue;
use crate::queue::paging::{PageRow, Unreadable};
use crate::rows;

/// Pages of sessions that one queue reads at a time. The others wait: what is read takes memory, and
/// whether there is some left is known when it has come.
const PAGES_MAX: usize = 16;
/// Messages read at a time for a session when memory is short, however few are wanted.
const ROWS_WHEN_TIGHT: usize = 16;

/// A part of a session that is being read.
#[derive(Debug)]
pub(in crate::queue) struct SessionPage {
    read: ReadId,
    rows_max: usize,
    /// Octets of messages.
    bytes_max: usize,
    /// Octets of the index.
    scan_bytes_max: usize,
    step: Step,
    /// Messages that are gone since. What was read may still show them.
    gone: BTreeSet<SequenceNumber>,
    /// The first message that came since. What was read need not show it.
    arrived: Option<SequenceNumber>,
    /// Whether the answer is of no use any more.
    void: bool,
}

#[derive(Debug)]
enum Step {
    Index,
    Messages {
        wanted: Vec<SequenceNumber>,
        /// Where reading goes on; nothing if this was the end of the session.
        end: Option<SequenceNumber>,
        /// Whether there was a message.
        is_sure: bool,
    },
}

impl SessionPage {
    pub(super) fn note_gone(&mut self, sequence: SequenceNumber) {
        self.gone.insert(sequence);
    }

    pub(super) fn note_arrival(&mut self, sequence: SequenceNumber) {
        self.arrived.get_or_insert(sequence);
    }

    pub(super) fn void(&mut self) {
        self.void = true;
    }
}

/// What comes of an answer.
#[derive(Debug)]
pub(crate) enum Paged {
    /// Nothing more to read now.
    Done {
        /// Messages whose rows are not there or not readable.
        lost: Vec<(SequenceNumber, Unreadable)>,
    },
    /// These messages.
    Messages(ReadRequest),
}

impl Sessions {
    /// Asks for the next part of a session, if its holder waits for it.
    pub(crate) fn plan_page(
        &mut self,
        entity: EntityId,
        slot: SessionSlot,
        read: ReadId,
        settings: &BrokerSettings,
        room: PageRoom,
    ) -> Option<ReadRequest> {
        let pages_under_way = self.pages_under_way;
        let record = self.try_record_mut(slot)?;
        let wanted = record.holder.as_ref().map_or(0, |holder| holder.demand.left());
        let from = record.disk_from?;
        if wanted == 0 || record.next().is_some() || record.page.is_some() {
            return None;
        }
        if room == PageRoom::Closed || PAGES_MAX <= pages_under_way {
            if !record.starved {
                record.starved = true;
                self.starved.push_back(slot);
            }
            return None;
        }
        let (rows_max, bytes_max) = if room == PageRoom::Tight {
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            let rows_max = wanted.max(ROWS_WHEN_TIGHT).min(settings.page_rows_max);
            (rows_max, settings.page_bytes_max / PAGES_MAX)
        } else {
            (settings.page_rows_max, settings.page_bytes_max)
        };
        record.page = Some(SessionPage {
            read,
            rows_max,
            bytes_max,
            scan_bytes_max: settings.page_bytes_max,
            step: Step::Index,
            gone: BTreeSet::new(),
            arrived: None,
            void: false,
        });
        let scan = Scan {
            table: rows::SESSION_TABLE,
            range: rows::session_index_range(entity, &record.id, from),
            rows_max,
            bytes_max: settings.page_bytes_max,
        };
        self.pages_under_way += 1;
        Some(ReadRequest { scans: vec![scan], gets: Vec::new() })
    }

    /// Lets sessions be read whose turn has come.
    pub(crate) fn wake_starved(&mut self) {
        let mut free = PAGES_MAX.saturating_sub(self.pages_under_way);
        while 0 < free
            && let Some(slot) = self.starved.pop_front()
        {
            if let Some(record) = self.try_record_mut(slot)
                && record.starved
            {
                record.starved = false;
                self.change(slot);
                free -= 1;
            }
        }
    }

    /// Reading failed; the session is read again in its turn.
    pub(crate) fn page_failed(&mut self, slot: SessionSlot, read: ReadId) {
        self.pages_under_way -= 1;
        if let Some(record) = self.try_record_mut(slot)
            && record.page.as_ref().is_some_and(|page| page.read == read)
        {
            record.page = None;
            self.change(slot);
        }
    }
}

/// How much may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageRoom {
    /// Full pages.
    Wide,
    /// What is wanted, and little more.
    Tight,
    /// Nothing: the store is left alone for a while.
    Closed,
}

impl Queue {
    /// Takes in the answer to a page's read; `next` is the number of the next one.
    pub(crate) fn session_page_in(
        &mut self,
        slot: SessionSlot,
        read: ReadId,
        next: ReadId,
        rows: ReadRows,
    ) -> Paged {
        let nothing = Paged::Done { lost: Vec::new() };
        let entity = self.id();
        let Some(sessions) = &mut self.sessions else { return nothing };
        let is_asked =
            |record: &&mut Record| record.page.as_ref().is_some_and(|page| page.read == read);
        let Some(record) = sessions.try_record_mut(slot).filter(is_asked) else {
            sessions.pages_under_way -= 1;
            return nothing;
        };
        let mut page = record.page.take().expect("it was just there");
        if page.void {
            sessions.pages_under_way -= 1;
            sessions.change(slot);
            return nothing;
        }
        let gets = match page.step {
            Step::Index => {
                let scan = rows.scans.into_iter().next().unwrap_or_default();
                let (wanted, end, is_sure) = choose(&scan, &page);
                let request = rows::message_gets(entity, &wanted);
                page.step = Step::Messages { wanted, end, is_sure };
                if !request.gets.is_empty() {
                    page.read = next;
                    record.page = Some(page);
                    return Paged::Messages(request);
                }
                Vec::new()
            }
            Step::Messages { .. } => rows.gets,
        };
        sessions.pages_under_way -= 1;
        self.take_page(slot, page, gets)
    }

    fn take_page(
        &mut self,
        slot: SessionSlot,
        page: SessionPage,
        gets: Vec<Option<Bytes>>,
    ) -> Paged {
        let Step::Messages { wanted, end, is_sure } = page.step else {
            unreachable!("messages come second")
        };
        let attempts_max = self.definition.dead_letter.map(|_| self.settings().attempts_max);
        let is_there = |sequence: SequenceNumber| !page.gone.contains(&sequence);
        let came = page.arrived.filter(|it| is_there(*it) && !wanted.contains(it));
        let is_sure = came.is_some() || (is_sure && end.is_some_and(is_there));
        let mut gets = gets.into_iter();
        let mut lost = Vec::new();
        for sequence in wanted {
            let [message, mark, section] = [(); 3].map(|()| gets.next().flatten());
            // In memory it is newer than what was read; and what is gone does not come back.
            if self.entries.contains_key(&sequence) || page.gone.contains(&sequence) {
                continue;
            }
            let row_exists = message.is_some();
            let size = message.as_deref().map_or(0, StoredMessage::size_of_row);
            let mut entry = PageRow::from_rows(sequence, size, message, mark.as_ref(), section)
                .into_entry(attempts_max);
            entry.session = Some(slot);
            if entry.body.is_none() {
                lost.push((sequence, Unreadable { row_exists }));
            }
            self.insert(sequence, entry, true);
        }
        if let Some(sessions) = &mut self.sessions {
            let record = sessions.change(slot);
            (record.disk_from, record.is_sure) = (end.or(page.arrived), is_sure);
        }
        Paged::Done { lost }
    }

    /// How much may be read for sessions now.
    pub(crate) fn session_page_room(&self, settings: &BrokerSettings, memory: usize) -> PageRoom {
        let is_tight = settings.cache_bytes_max / 2 <= memory
            || settings.window_bytes_max / 2 <= self.memory.total()
            || settings.window_count_max / 2 <= self.entries.len();
        match self.window.retry_at {
            Some(_) => PageRoom::Closed,
            None if is_tight => PageRoom::Tight,
            None => PageRoom::Wide,
        }
    }
}

/// The messages to be read of those the index named, where reading goes on behind them, and whether
/// there is a message.
fn choose(
    scan: &[(Key, Bytes)],
    page: &SessionPage,
) -> (Vec<SequenceNumber>, Option<SequenceNumber>, bool) {
    let mut wanted = Vec::new();
    let mut bytes = 0_u64;
    for (key, row) in scan {
        let Some((_, sequence)) = rows::session_and_sequence(key) else { continue };
        if page.bytes_max as u64 <= bytes && !wanted.is_empty() {
            return (wanted, Some(sequence), true);
        }
        bytes = bytes.saturating_add(rows::size_in_index(row));
        wanted.push(sequence);
    }
    let is_cut_off = rows::is_cut_off(scan, page.rows_max, page.scan_bytes_max);
    let end = wanted.last().map(|last| last.next()).filter(|_| is_cut_off);
    (wanted, end, false)
}
