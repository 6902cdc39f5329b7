//! Which message-ids a queue has seen: the rows know all of them, memory those there was room for.
//!
//! Ids are kept in buckets, each an eighth of the window long, so that old ones are removed a bucket
//! at a time. Of an id memory has a fingerprint only: what it has not seen is new, what it has is
//! looked up. Of buckets that are not in memory everything is looked up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use peeklock_storage::Table;

use super::Queue;
use crate::command::ReadRequest;
use crate::id::{EntityId, ReadId};
use crate::rows;
use crate::time::{Span, Timestamp};

/// Buckets a window is cut into. More would mean more rows to look up for an id, fewer that ids are
/// kept for longer than needed.
const BUCKETS: u64 = 8;

/// What a fingerprint takes in memory, with its share of the tree it is in.
pub(crate) const FINGERPRINT_BYTES: usize = 16;

/// The ids of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Duplicates {
    window: Span,
    /// What was taken in before is forgotten, though a longer window of today would reach it.
    floor: Timestamp,
    /// Oldest first.
    buckets: VecDeque<Bucket>,
    /// Whether there is a row about the buckets.
    has_row: bool,
    fingerprint_count: usize,
    /// Lookups under way, with the count of ids taken in when each began.
    reads: BTreeMap<ReadId, u64>,
    /// What was taken in since the first of these began, which may not have seen it.
    recent: BTreeMap<String, Recent>,
    taken_in: u64,
}

#[derive(Clone, Debug)]
struct Bucket {
    start: Timestamp,
    /// The fingerprints, unless they are not in memory.
    fingerprints: Option<BTreeSet<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Recent {
    at: Timestamp,
    /// The count of ids taken in before.
    order: u64,
}

/// What memory says of an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// It was not seen within the window.
    New,
    /// It was.
    Seen,
    /// The rows have to be asked.
    Unsure,
}

fn fingerprint(id: &str) -> u64 {
    // Peers may find ids with one fingerprint. They gain lookups.
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl Duplicates {
    /// Of a queue that has seen nothing.
    pub(crate) const fn new(window: Span) -> Self {
        Duplicates {
            window,
            floor: Timestamp(0),
            buckets: VecDeque::new(),
            has_row: false,
            fingerprint_count: 0,
            reads: BTreeMap::new(),
            recent: BTreeMap::new(),
            taken_in: 0,
        }
    }

    /// With everything on disk.
    pub(crate) fn load(window: Span, floor: Timestamp, starts: Vec<Timestamp>) -> Self {
        let bucket = |start| Bucket { start, fingerprints: None };
        let buckets = starts.into_iter().map(bucket).collect();
        Duplicates { floor, buckets, has_row: true, ..Duplicates::new(window) }
    }

    pub(crate) const fn floor(&self) -> Timestamp {
        self.floor
    }

    /// When each bucket began.
    pub(crate) fn starts(&self) -> impl ExactSizeIterator<Item = Timestamp> {
        self.buckets.iter().map(|bucket| bucket.start)
    }

    pub(crate) const fn has_row(&self) -> bool {
        self.has_row
    }

    /// Octets of memory that fingerprints take.
    pub(crate) const fn memory(&self) -> usize {
        self.fingerprint_count * FINGERPRINT_BYTES
    }

    /// Whether an id that was taken in then is still remembered.
    pub(crate) fn remembers(&self, now: Timestamp, at: Timestamp) -> bool {
        self.floor <= at && now < at.plus(self.window)
    }

    pub(crate) fn look(&self, now: Timestamp, id: &str) -> Look {
        if self.recent.get(id).is_some_and(|recent| self.remembers(now, recent.at)) {
            return Look::Seen;
        }
        let sought = fingerprint(id);
        if self.in_force(now).any(|bucket| bucket.may_have(sought)) {
            Look::Unsure
        } else {
            Look::New
        }
    }

    /// Asks for the rows an id may have, and says how many these are.
    pub(crate) fn ask(
        &self,
        entity: EntityId,
        now: Timestamp,
        id: &str,
        request: &mut ReadRequest,
    ) -> usize {
        let sought = fingerprint(id);
        let before = request.gets.len();
        for bucket in self.in_force(now).filter(|bucket| bucket.may_have(sought)) {
            let key = rows::duplicates::key(entity, bucket.start, id);
            request.gets.push((Table::Dedup, key));
        }
        request.gets.len() - before
    }

    fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().enumerate().filter_map(move |(index, bucket)| {
            let end = self.end(index);
            (self.floor < end && now < end.plus(self.window)).then_some(bucket)
        })
    }

    /// Before when everything in a bucket was taken in.
    fn end(&self, index: usize) -> Timestamp {
        match (self.buckets.get(index + 1), self.buckets.get(index)) {
            (Some(next), _) => next.start,
            (None, Some(bucket)) => bucket.start.plus(self.bucket_span()),
            (None, None) => Timestamp(0),
        }
    }

    const fn bucket_span(&self) -> Span {
        Span(self.window.0.div_ceil(BUCKETS))
    }

    /// The bucket that takes in ids now, if it was opened already.
    pub(crate) fn open_bucket(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.buckets.back()?;
        (now < last.start.plus(self.bucket_span())).then_some(last.start)
    }

    /// When a bucket that is opened now begins: no two begin at one time.
    pub(crate) fn next_start(&self, now: Timestamp) -> Timestamp {
        self.buckets.back().map_or(now, |last| now.max(last.start.plus(Span(1))))
    }

    /// When the first bucket is of no use any more.
    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        (!self.buckets.is_empty()).then(|| self.end(0).plus(self.window))
    }

    /// How many buckets are of no use any more, and the keys they span.
    pub(crate) fn outdated(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let is_outdated = |index: &usize| self.end(*index).plus(self.window) <= now;
        let last = (0..self.buckets.len()).take_while(is_outdated).last()?;
        Some((self.buckets.front()?.start, self.buckets.get(last)?.start))
    }

    /// A lookup begins: what is taken in from here on it may not see.
    pub(crate) fn begin_read(&mut self, read: ReadId) {
        self.reads.insert(read, self.taken_in);
    }

    /// What came of a lookup was considered.
    pub(crate) fn end_read(&mut self, read: ReadId) {
        self.reads.remove(&read);
        match self.reads.values().min() {
            None => self.recent.clear(),
            Some(first) => self.recent.retain(|_, recent| *first <= recent.order),
        }
    }

    pub(crate) fn open(&mut self, start: Timestamp) {
        let is_last = self.buckets.back().is_none_or(|last| last.start < start);
        assert!(is_last, "buckets follow one another");
        self.buckets.push_back(Bucket { start, fingerprints: Some(BTreeSet::new()) });
        self.has_row = true;
    }

    pub(crate) fn remember(&mut self, bucket: Timestamp, id: &str, at: Timestamp) {
        let last = self.buckets.back_mut().filter(|last| last.start == bucket);
        let last = last.expect("ids are taken in by the last bucket");
        if let Some(fingerprints) = &mut last.fingerprints {
            self.fingerprint_count += usize::from(fingerprints.insert(fingerprint(id)));
        }
        if !self.reads.is_empty() {
            self.recent.insert(id.to_owned(), Recent { at, order: self.taken_in });
        }
        self.taken_in += 1;
    }

    /// Forgets the buckets up to the one that began then.
    pub(crate) fn forget(&mut self, last: Timestamp) {
        while let Some(bucket) = self.buckets.pop_front_if(|bucket| bucket.start <= last) {
            self.fingerprint_count -= bucket.len();
        }
    }

    /// Goes by another window from now on.
    pub(crate) fn change_window(&mut self, window: Span, at: Timestamp) {
        if self.window == window {
            return;
        }
        self.floor = self.floor.max(Timestamp(at.0.saturating_sub(self.window.0)));
        if !self.buckets.is_empty() {
            // Where a bucket ends follows from the window, but for those with another behind them.
            self.open(self.next_start(at));
        }
        self.window = window;
    }

    /// Gives up the fingerprints of the oldest bucket that has some.
    pub(crate) fn evict(&mut self) -> bool {
        let has_some = |bucket: &&mut Bucket| bucket.len() != 0;
        let Some(bucket) = self.buckets.iter_mut().find(has_some) else { return false };
        self.fingerprint_count -= bucket.len();
        bucket.fingerprints = None;
        true
    }

    /// Says what does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let found: usize = self.buckets.iter().map(Bucket::len).sum();
        if found != self.fingerprint_count {
            return Err(format!("{found} fingerprints, not {}", self.fingerprint_count));
        }
        if !self.buckets.iter().is_sorted_by(|one, next| one.start < next.start) {
            return Err("buckets of ids out of order".into());
        }
        if self.reads.is_empty() && !self.recent.is_empty() {
            return Err("ids are kept for lookups that are over".into());
        }
        if !self.buckets.is_empty() && !self.has_row {
            return Err("buckets of ids without a row".into());
        }
        Ok(())
    }
}

impl Bucket {
    fn may_have(&self, sought: u64) -> bool {
        self.fingerprints.as_ref().is_none_or(|fingerprints| fingerprints.contains(&sought))
    }

    fn len(&self) -> usize {
        self.fingerprints.as_ref().map_or(0, BTreeSet::len)
    }
}

impl Queue {
    pub(super) fn known_ids(&mut self) -> &mut Duplicates {
        self.duplicates.as_mut().expect("only queues that look for duplicates take ids in")
    }

    /// With the ids it had seen, unless it does not look for duplicates.
    pub(crate) fn load_duplicates(&mut self, floor: Timestamp, starts: Vec<Timestamp>) -> bool {
        let Some(window) = self.duplicate_window() else { return false };
        self.duplicates = Some(Duplicates::load(window, floor, starts));
        true
    }

    /// The window, of what clients send to.
    fn duplicate_window(&self) -> Option<Span> {
        self.definition.dead_letter.and(self.definition.settings.duplicate_window)
    }

    pub(super) fn change_duplicate_window(&mut self, at: Timestamp) {
        // Whether duplicates are looked for is decided when a queue is created.
        if let (Some(window), Some(duplicates)) = (self.duplicate_window(), &mut self.duplicates) {
            duplicates.change_window(window, at);
        }
    }

    /// Octets of memory that message-ids take.
    pub(crate) fn fingerprint_bytes(&self) -> usize {
        self.duplicates.as_ref().map_or(0, Duplicates::memory)
    }
}
