//! What is due when, without keeping all of it in memory.
//!
//! ```text
//!   due times:   in memory: the front │ only in the store ...
//!                                  horizon
//! ```
//!
//! Every due time is a row. Those before the horizon are in memory too; the horizon is never later
//! than the first one that is not, so nothing is missed, and nothing is read before it may be due.
//! A due time whose message is gone may linger in memory: whoever acts on one looks at the message.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ReadId, SequenceNumber};
use crate::time::Timestamp;

/// When something happens to a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Timer {
    pub(crate) at: Timestamp,
    pub(crate) sequence: SequenceNumber,
}

impl Timer {
    const fn successor(self) -> Self {
        Timer { at: self.at, sequence: self.sequence.next() }
    }
}

/// What happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKind {
    /// The message is of no use any more.
    Expiry,
    /// The message becomes active.
    Activation,
}

/// All due times of one kind in one queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    /// With the octets of their messages, so that it is known what reading them would bring.
    front: BTreeMap<Timer, u64>,
    horizon: Option<Timer>,
    page: Option<Page>,
    /// Messages that are due are being read; nothing else begins before they have come.
    work: Option<ReadId>,
    /// Reading failed; try again then.
    retry_at: Option<Timestamp>,
}

/// The next due times, which are being read.
#[derive(Clone, Debug)]
struct Page {
    read: ReadId,
    from: Timer,
    /// What was added behind the horizon since. The scan may have seen it or not.
    added: BTreeMap<Timer, u64>,
    /// What was removed since, which the scan may have seen.
    gone: BTreeSet<Timer>,
    /// More was added than is kept: from here on the page is of no use.
    cut: Option<Timer>,
}

impl Timers {
    /// Of a queue whose due times, if there are any, are all in the store.
    pub(super) fn load(count: u64) -> Self {
        Timers { horizon: (count != 0).then_some(Timer::default()), ..Timers::default() }
    }

    /// Notes a due time, which is a row by now. At most `count_max` are kept.
    pub(super) fn add(&mut self, timer: Timer, size: u64, count_max: usize) {
        if self.horizon.is_some_and(|horizon| horizon <= timer) {
            if let Some(page) = &mut self.page {
                page.add(timer, size, count_max);
            }
            return;
        }
        self.front.insert(timer, size);
        self.trim(count_max);
    }

    fn trim(&mut self, count_max: usize) {
        while count_max.max(1) < self.front.len()
            && let Some((last, _)) = self.front.pop_last()
        {
            self.horizon = Some(last);
        }
    }

    /// Notes a due time again that was taken out and not seen to.
    pub(crate) fn recall(&mut self, timer: Timer, size: u64) {
        // Behind the horizon it will be read.
        if self.horizon.is_none_or(|horizon| timer < horizon) {
            self.front.insert(timer, size);
        }
    }

    /// Forgets a due time whose row is removed.
    pub(super) fn forget(&mut self, timer: Timer) {
        self.front.remove(&timer);
        if let Some(page) = &mut self.page {
            page.added.remove(&timer);
            page.gone.insert(timer);
        }
    }

    /// When there is something to do. Never later than the first due time.
    pub(crate) fn first_at(&self) -> Option<Timestamp> {
        if self.retry_at.is_some() {
            return self.retry_at;
        }
        if self.is_reading() {
            return None;
        }
        self.front.keys().next().copied().or(self.horizon).map(|timer| timer.at)
    }

    /// Takes out what is due, in order: so many at most, and so many octets of messages, but for the
    /// first.
    pub(crate) fn take_due(
        &mut self,
        now: Timestamp,
        count_max: usize,
        bytes_max: usize,
    ) -> Vec<(Timer, u64)> {
        let mut due = Vec::new();
        let mut bytes = 0_u64;
        while due.len() < count_max
            && let Some(first) = self.front.first_entry()
            && first.key().at <= now
        {
            bytes = bytes.saturating_add(*first.get());
            if !due.is_empty() && bytes_max as u64 <= bytes {
                break;
            }
            due.push(first.remove_entry());
        }
        due
    }

    /// Begins to read the next due times, if all those in memory are done and one may be due. Says
    /// from where on.
    pub(crate) fn begin_page(&mut self, now: Timestamp, read: ReadId) -> Option<Timer> {
        let from = self.horizon.filter(|horizon| horizon.at <= now)?;
        if self.is_busy() || !self.front.is_empty() {
            return None;
        }
        self.page =
            Some(Page { read, from, added: BTreeMap::new(), gone: BTreeSet::new(), cut: None });
        Some(from)
    }

    /// Takes in a page, unless things have changed so that it is of no use.
    pub(crate) fn end_page(&mut self, read: ReadId, rows: Vec<(Timer, u64)>, count_max: usize) {
        let Some(page) = self.page.take_if(|page| page.read == read) else { return };
        if self.horizon != Some(page.from) {
            return;
        }
        let is_cut_off = count_max.max(1) <= rows.len();
        let last = rows.last().filter(|_| is_cut_off).map(|(timer, _)| timer.successor());
        let end = match (last, page.cut) {
            (Some(last), Some(cut)) => Some(last.min(cut)),
            (last, cut) => last.or(cut),
        };
        let before_end = |timer: &Timer| end.is_none_or(|end| *timer < end);
        let is_there = |timer: &Timer| before_end(timer) && !page.gone.contains(timer);
        self.front.extend(rows.into_iter().filter(|(timer, _)| is_there(timer)));
        self.front.extend(page.added.into_iter().filter(|(timer, _)| before_end(timer)));
        self.horizon = end;
        self.trim(count_max);
    }

    /// Messages that are due are being read.
    pub(crate) fn begin_work(&mut self, read: ReadId) {
        assert!(!self.is_busy(), "one thing after the other");
        self.work = Some(read);
    }

    /// They have come, or will not. Those that are still due are given back.
    pub(crate) fn end_work(&mut self, read: ReadId) {
        self.work.take_if(|work| *work == read);
    }

    /// A read failed. What was due comes back; leave the store alone until then.
    pub(crate) fn read_failed(&mut self, read: ReadId, retry_at: Timestamp) {
        self.end_work(read);
        self.page.take_if(|page| page.read == read);
        self.retry_at = Some(retry_at);
    }

    /// The store may be asked again.
    pub(crate) fn retry(&mut self, now: Timestamp) {
        self.retry_at.take_if(|at| *at <= now);
    }

    /// Whether nothing can be begun now.
    pub(crate) const fn is_busy(&self) -> bool {
        self.is_reading() || self.retry_at.is_some()
    }

    const fn is_reading(&self) -> bool {
        self.page.is_some() || self.work.is_some()
    }

    pub(super) fn reads_under_way(&self) -> usize {
        usize::from(self.page.is_some()) + usize::from(self.work.is_some())
    }

    /// Says what does not fit together.
    pub(super) fn check(&self) -> Result<(), String> {
        let last = self.front.last_key_value().map(|(timer, _)| *timer);
        match (last, self.horizon) {
            (Some(last), Some(horizon)) if horizon <= last => {
                Err(format!("{last:?} is in memory, but not before {horizon:?}"))
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn resident_count(&self) -> usize {
        self.front.len()
    }
}

impl Page {
    fn add(&mut self, timer: Timer, size: u64, count_max: usize) {
        if self.cut.is_some_and(|cut| cut <= timer) {
            return;
        }
        self.added.insert(timer, size);
        if count_max.max(1) < self.added.len() {
            self.cut = self.added.pop_last().map(|(last, _)| last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: ReadId = ReadId(1);

    fn timer(at: u64) -> Timer {
        Timer { at: Timestamp(at), sequence: SequenceNumber(at) }
    }

    fn rows(at: impl IntoIterator<Item = u64>) -> Vec<(Timer, u64)> {
        at.into_iter().map(|at| (timer(at), 10)).collect()
    }

    fn due(timers: &mut Timers, now: u64) -> Vec<u64> {
        let due = timers.take_due(Timestamp(now), 100, 1 << 20);
        timers.check().unwrap();
        due.into_iter().map(|(timer, _)| timer.at.0).collect()
    }

    #[test]
    fn due_times_come_in_order() {
        let mut timers = Timers::default();
        assert_eq!(timers.first_at(), None);
        for at in [30, 10, 20, 40] {
            timers.add(timer(at), 10, 100);
        }
        timers.forget(timer(20));
        assert_eq!(timers.first_at(), Some(Timestamp(10)));
        assert_eq!(due(&mut timers, 9), [0; 0]);
        assert_eq!(due(&mut timers, 30), [10, 30]);
        assert_eq!(timers.first_at(), Some(Timestamp(40)));
    }

    #[test]
    fn no_more_is_taken_than_asked_for_but_the_first() {
        let mut timers = Timers::default();
        for at in 1..10 {
            timers.add(timer(at), 10, 100);
        }
        assert_eq!(timers.take_due(Timestamp(100), 2, 1 << 20).len(), 2);
        assert_eq!(timers.take_due(Timestamp(100), 9, 1).len(), 1);
        assert_eq!(timers.take_due(Timestamp(100), 9, 31).len(), 3);
    }

    #[test]
    fn what_is_too_much_stays_in_the_store_until_it_may_be_due() {
        let mut timers = Timers::default();
        for at in [50, 10, 40, 20, 30] {
            timers.add(timer(at), 10, 2);
        }
        assert_eq!(timers.resident_count(), 2);
        assert_eq!(due(&mut timers, 29), [10, 20]);
        assert_eq!(timers.begin_page(Timestamp(29), READ), None);
        assert_eq!(timers.first_at(), Some(Timestamp(30)));
        assert_eq!(timers.begin_page(Timestamp(30), READ), Some(timer(30)));
        assert_eq!(timers.first_at(), None);
        timers.end_page(READ, rows([30, 40]), 2);
        assert_eq!(due(&mut timers, 45), [30, 40]);
        assert_eq!(timers.begin_page(Timestamp(45), READ), Some(timer(40).successor()));
        timers.end_page(READ, rows([50]), 2);
        assert_eq!(due(&mut timers, 60), [50]);
        assert_eq!(timers.first_at(), None);
    }

    #[test]
    fn what_is_added_while_a_page_is_read_is_not_missed() {
        let mut timers = Timers::load(3);
        assert_eq!(timers.first_at(), Some(Timestamp(0)));
        assert!(timers.begin_page(Timestamp(5), READ).is_some());
        for at in [25, 15, 35, 27, 45] {
            timers.add(timer(at), 10, 3);
        }
        timers.forget(timer(15));
        // Kept of what was added: 25 and 27; from 35 on the page says nothing.
        timers.end_page(READ, rows([20, 40]), 3);
        timers.check().unwrap();
        assert_eq!(due(&mut timers, 100), [20, 25, 27]);
        assert_eq!(timers.begin_page(Timestamp(100), READ), Some(timer(35)));
        timers.end_page(READ, rows([35, 40, 45]), 3);
        assert_eq!(due(&mut timers, 100), [35, 40, 45]);
    }

    #[test]
    fn a_failed_read_is_tried_again_later() {
        let mut timers = Timers::load(1);
        assert!(timers.begin_page(Timestamp(5), READ).is_some());
        timers.read_failed(READ, Timestamp(1_005));
        assert_eq!(timers.first_at(), Some(Timestamp(1_005)));
        assert_eq!(timers.begin_page(Timestamp(1_004), READ), None);
        timers.retry(Timestamp(1_005));
        assert!(timers.begin_page(Timestamp(1_005), READ).is_some());
    }

    #[test]
    fn what_was_removed_while_it_is_read_does_not_come_back() {
        let mut timers = Timers::load(2);
        timers.begin_page(Timestamp(30), READ).unwrap();
        timers.forget(timer(10));
        timers.end_page(READ, rows([10, 20]), 100);
        assert_eq!(due(&mut timers, 30), [20]);
    }
}
