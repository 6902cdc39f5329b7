//! Which messages are in memory.
//!
//! ```text
//!   numbers:   ... in memory ... │ only on disk │ ... in memory: the tail ... │ next
//!                                start          end
//! ```
//!
//! There is at most one stretch of numbers whose messages only the store holds. What lies before it
//! is in memory, all of it; so is what lies behind it, the tail, which is kept only while a page is
//! being read that should reach it. Everything on disk below the stretch can be removed; nothing
//! within or behind it is, but for what receivers with selectors took from there, so a scan that
//! starts with the stretch steps over little that is dead.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{Entry, Queue, Standing};
use crate::entity::settings::BrokerSettings;
use crate::id::{ReadId, SequenceNumber};
use crate::time::Timestamp;

/// What is on disk only, and what is being read of it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    on_disk: Option<Range<SequenceNumber>>,
    /// How many messages are in the tail.
    pub(super) tail_count: usize,
    /// The page that is being read.
    pub(super) page: Option<PageRead>,
    /// The bodies that are being read.
    pub(super) bodies: Option<ReadId>,
    /// Reading failed; try again then.
    pub(crate) retry_at: Option<Timestamp>,
}

/// A page that is being read.
#[derive(Clone, Debug)]
pub(crate) struct PageRead {
    pub(super) read: ReadId,
    pub(super) range: Range<SequenceNumber>,
    /// Messages that came into the range since. The scan may have seen them or not.
    pub(super) arrivals: Vec<(SequenceNumber, Entry)>,
    /// Octets of them.
    pub(super) arrival_bytes: u64,
    /// Whether new messages are kept as the tail, because this page should reach them.
    pub(super) joins_tail: bool,
    /// Messages that are gone from the range since. The scan may have seen them.
    pub(super) gone: BTreeSet<SequenceNumber>,
    /// Whether the answer is of no use any more.
    pub(super) void: bool,
}

impl PageRead {
    /// More than this, and reading the page again is better than keeping account of it.
    const GONE_MAX: usize = 4096;

    fn note_gone(&mut self, sequence: SequenceNumber) {
        self.arrivals.retain(|(arrived, _)| *arrived != sequence);
        if self.range.contains(&sequence) && !self.void {
            self.gone.insert(sequence);
        }
        if Self::GONE_MAX < self.gone.len() {
            self.gone.clear();
            self.void = true;
        }
    }
}

/// Where a number lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zone {
    /// Before the stretch on disk: in memory, and in the ready order if ready.
    Memory,
    /// In the stretch.
    Disk,
    /// Behind the stretch: in memory, not yet in the ready order.
    Tail,
    /// Not given yet.
    Beyond,
}

/// How much more may be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The bounds of one queue.
    pub(crate) settings: BrokerSettings,
    /// Whether memory is used up: nothing new is kept that need not be.
    pub(crate) full: bool,
    /// Whether memory is half used up: bodies of locked messages are not kept.
    pub(crate) tight: bool,
}

impl Window {
    pub(super) fn new(on_disk: Option<Range<SequenceNumber>>) -> Self {
        Window { on_disk, tail_count: 0, page: None, bodies: None, retry_at: None }
    }

    pub(super) const fn on_disk(&self) -> Option<&Range<SequenceNumber>> {
        self.on_disk.as_ref()
    }

    pub(super) fn zone(&self, sequence: SequenceNumber, next: SequenceNumber) -> Zone {
        if next <= sequence {
            return Zone::Beyond;
        }
        match &self.on_disk {
            None => Zone::Memory,
            Some(on_disk) if sequence < on_disk.start => Zone::Memory,
            Some(on_disk) if sequence < on_disk.end => Zone::Disk,
            Some(_) => Zone::Tail,
        }
    }

    /// A message in the stretch changed. The page that is being read may show it as it was.
    pub(super) fn note_returned(&mut self, sequence: SequenceNumber) {
        if let Some(page) = &mut self.page {
            page.void |= page.range.contains(&sequence);
        }
    }

    fn joins_tail(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.joins_tail && !page.void)
    }
}

impl Queue {
    /// Takes in a message that the rows already hold, or will with this commit: in memory if there is
    /// room, else only counted.
    pub(super) fn arrive(&mut self, sequence: SequenceNumber, entry: Entry, room: Room) {
        let zone = self.window.zone(sequence, self.next_sequence);
        self.note_ready(sequence, entry.size, entry.traces.shared);
        if zone != Zone::Beyond {
            self.browsers.note_late(sequence);
        }
        self.note_first(sequence, entry.body.as_ref().map(|body| body.message.enqueued_at()));
        self.count += 1;
        self.bytes += entry.size;
        self.next_sequence = self.next_sequence.max(sequence.next());
        match zone {
            Zone::Beyond if self.window.on_disk.is_none() => {
                // What nobody takes out is not worth memory, if many might get it.
                let is_of_use = entry.traces.shared.is_none() || self.receivers.len() > 0;
                if is_of_use && self.has_room(room) {
                    self.insert(sequence, entry, true);
                } else {
                    self.window.on_disk = Some(sequence..sequence.next());
                }
            }
            Zone::Memory => {
                self.insert(sequence, entry, true);
                self.evict_to(room);
            }
            Zone::Disk => self.arrive_on_disk(sequence, entry, room),
            Zone::Tail => self.insert(sequence, entry, false),
            Zone::Beyond => self.arrive_behind_disk(sequence, entry, room),
        }
    }

    /// The stretch on disk ends before the new message, with or without a tail.
    fn arrive_behind_disk(&mut self, sequence: SequenceNumber, entry: Entry, room: Room) {
        let tail_start = self.window.on_disk.as_ref().map_or(sequence, |range| range.end);
        let keep = self.window.joins_tail()
            && self.window.tail_count < room.settings.page_rows_max
            && self.has_room(room);
        if keep {
            self.insert(sequence, entry, false);
            return;
        }
        self.drop_tail(tail_start);
        if let Some(page) = &mut self.window.page {
            page.joins_tail = false;
        }
        if let Some(on_disk) = &mut self.window.on_disk {
            on_disk.end = sequence.next();
        }
    }

    /// Takes a message out of the tail, if it is there.
    pub(super) fn take_from_tail(&mut self, sequence: SequenceNumber) -> Option<Entry> {
        if self.window.tail_count == 0
            || self.window.zone(sequence, self.next_sequence) != Zone::Tail
        {
            return None;
        }
        let entry = self.entries.remove(&sequence)?;
        self.memory -= entry.memory();
        self.window.tail_count -= 1;
        Some(entry)
    }

    /// Lets the stretch on disk reach to the end.
    pub(super) fn give_up_tail(&mut self) {
        let Some(on_disk) = &mut self.window.on_disk else { return };
        let start = std::mem::replace(&mut on_disk.end, self.next_sequence);
        if let Some(page) = &mut self.window.page {
            page.joins_tail = false;
        }
        self.drop_tail(start);
    }

    fn drop_tail(&mut self, start: SequenceNumber) {
        if self.window.tail_count > 0 {
            let tail = self.entries.split_off(&start);
            self.memory -= tail.values().map(Entry::memory).sum();
            self.window.tail_count = 0;
            for (sequence, entry) in tail {
                self.left_memory(sequence, entry.traces);
            }
        }
    }

    fn arrive_on_disk(&mut self, sequence: SequenceNumber, entry: Entry, room: Room) {
        let Some(page) = &mut self.window.page else { return };
        if !page.range.contains(&sequence) {
            return;
        }
        page.arrival_bytes += entry.size;
        page.arrivals.push((sequence, entry));
        // More than a page came in between: reading it all again is simpler than keeping it.
        if room.settings.page_rows_max < page.arrivals.len()
            || room.settings.page_bytes_max as u64 <= page.arrival_bytes
        {
            page.arrivals.clear();
            page.void = true;
        }
    }

    fn has_room(&mut self, room: Room) -> bool {
        if room.settings.window_count_max <= self.entries.len() {
            return false;
        }
        let spacious = !room.full && self.memory.total() < room.settings.window_bytes_max;
        // What goes out at once needs no room.
        spacious || (self.ready.first().is_none() && self.is_wanted())
    }

    /// Forgets ready messages from the end until the bounds hold.
    fn evict_to(&mut self, room: Room) {
        while room.settings.window_count_max < self.entries.len()
            || room.settings.window_bytes_max < self.memory.total()
            || (room.full && room.settings.page_bytes_max < self.memory.total())
        {
            if !self.evict_last() {
                return;
            }
        }
    }

    /// Forgets the last message before the stretch on disk, if it is ready; it can be read again.
    /// Whatever else is last cannot be forgotten, and nothing before it either.
    pub(crate) fn evict_last(&mut self) -> bool {
        if self.sessions.is_some() {
            return self.evict_session();
        }
        let start = self.window.on_disk.as_ref().map_or(self.next_sequence, |range| range.start);
        let Some((sequence, entry)) = self.entries.range(..start).next_back() else { return false };
        if entry.standing != Standing::Ready {
            return false;
        }
        let sequence = *sequence;
        let entry = self.detach(sequence);
        self.left_memory(sequence, entry.traces);
        self.ready.remove(sequence);
        match &mut self.window.on_disk {
            Some(on_disk) => on_disk.start = sequence,
            None => self.window.on_disk = Some(sequence..sequence.next()),
        }
        if let Some(page) = &mut self.window.page {
            page.void = true;
        }
        true
    }

    /// A message within the stretch on disk is gone.
    pub(super) fn forget_on_disk(&mut self, sequence: SequenceNumber) {
        let Some(on_disk) = self.window.on_disk.clone() else { return };
        let mut start = on_disk.start;
        if let Some(page) = &mut self.window.page {
            page.note_gone(sequence);
        } else if start == sequence {
            start = sequence.next();
        }
        if start != on_disk.start || self.entries.len() as u64 == self.count {
            self.advance_disk(start);
        }
    }

    /// Moves the start of the stretch on disk, after everything before it was put in memory.
    pub(super) fn advance_disk(&mut self, start: SequenceNumber) {
        let Some(on_disk) = &mut self.window.on_disk else { return };
        on_disk.start = start;
        let end = on_disk.end;
        if start < end && self.entries.len() as u64 != self.count {
            return;
        }
        self.window.on_disk = None;
        self.window.tail_count = 0;
        for (sequence, entry) in self.entries.range(end..) {
            self.ready_bytes += entry.size;
            self.ready.insert(*sequence);
        }
    }
}
