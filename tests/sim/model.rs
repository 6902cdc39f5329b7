//! What clients know: the simplest account that could be right. It is written from the service's
//! contract and sees no state of the broker.

use std::collections::{BTreeMap, BTreeSet};

use crate::seen::Seen;

/// The number a client writes into a message's body.
pub(crate) type Body = u64;

/// Which part of a queue a client talks to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    Main,
    DeadLetter,
}

/// What a client that holds a message asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Complete,
    Abandon,
    Release,
    DeadLetter,
}

/// What is known of a message's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Sent; no answer has come, and after a crash none will.
    Asked,
    Accepted,
    /// Its completion was asked for, and a crash came before the answer.
    InDoubt,
    Completed,
    /// Passed on by receive-and-delete.
    Taken,
}

/// A claim on a message, as its client knows it.
#[derive(Clone, Copy, Debug)]
struct Lock<T> {
    token: T,
    until: u64,
    /// Asked for and not answered.
    wish: Option<Wish>,
}

impl<T> Lock<T> {
    /// How many failed deliveries this lock comes to if it is over now: at least, at most.
    fn failures(&self, now: u64) -> (u32, u32) {
        let has_run_out = u32::from(self.until <= now);
        match self.wish {
            Some(Wish::Abandon) => (1, 1),
            Some(Wish::Release) => (0, has_run_out),
            None | Some(Wish::Complete | Wish::DeadLetter) => (has_run_out, has_run_out),
        }
    }
}

#[derive(Clone, Debug)]
struct Known<T> {
    queue: usize,
    /// The send it came with: all of its messages are there or none.
    batch: Body,
    fate: Fate,
    /// When the fate became final, or the part changed, in this account's own moments.
    moved_at: u64,
    sequence: Option<u64>,
    /// Bounds of the failed deliveries so far: they differ where an answer has not come.
    attempts: (u32, u32),
    lock: Option<Lock<T>>,
    /// Since when no client was known to hold it.
    free_since: u64,
    /// Whether it was delivered at all.
    passed_on: bool,
    /// Parts of the queue in which the message may be.
    parts: BTreeSet<Part>,
}

/// One delivery, as its client sees it.
#[derive(Clone, Copy)]
pub(crate) struct Delivered<T> {
    pub(crate) body: Body,
    pub(crate) at: (usize, Part),
    pub(crate) sequence: u64,
    pub(crate) attempts: u32,
    /// The lock and its end; nothing for receive-and-delete.
    pub(crate) lock: Option<(T, u64)>,
}

/// See the module. Generic over what names a lock: clients compare tokens, and no more.
pub(crate) struct Model<T> {
    messages: BTreeMap<Body, Known<T>>,
    /// Sequence numbers seen in each queue: none names two messages.
    sequences: BTreeMap<(usize, u64), Body>,
    /// The highest number that was delivered at all, by queue.
    first_deliveries: BTreeMap<usize, u64>,
    /// How many messages a crash may have taken from under way to receivers that want no lock.
    may_be_lost: BTreeMap<usize, u64>,
    /// Queues that have receivers that want no lock.
    may_be_taken: BTreeSet<usize>,
    moment: u64,
    attempts_max: u32,
    lock_duration: u64,
    pub(crate) seen: Seen,
}

impl<T: Copy + PartialEq + std::fmt::Debug> Model<T> {
    pub(crate) fn new(attempts_max: u32, lock_duration: u64) -> Self {
        Self {
            messages: BTreeMap::new(),
            sequences: BTreeMap::new(),
            first_deliveries: BTreeMap::new(),
            may_be_lost: BTreeMap::new(),
            may_be_taken: BTreeSet::new(),
            moment: 0,
            attempts_max,
            lock_duration,
            seen: Seen::default(),
        }
    }

    /// A moment of this account, to name later what was asked now.
    pub(crate) fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub(crate) fn sent(&mut self, now: u64, bodies: &[Body], queue: usize) {
        for body in bodies {
            let known = Known {
                queue,
                batch: bodies[0],
                fate: Fate::Asked,
                moved_at: 0,
                sequence: None,
                attempts: (0, 0),
                lock: None,
                free_since: now,
                passed_on: false,
                parts: BTreeSet::from([Part::Main]),
            };
            assert!(self.messages.insert(*body, known).is_none(), "a body number was used twice");
        }
    }

    pub(crate) fn accepted(&mut self, body: Body) {
        self.seen.accepted += 1;
        let known = self.known(body);
        if known.fate == Fate::Asked {
            known.fate = Fate::Accepted;
        }
    }

    pub(crate) fn delivered(&mut self, now: u64, delivered: &Delivered<T>) {
        let Delivered { body, at, sequence, attempts, lock } = *delivered;
        self.seen.delivered += 1;
        let moment = self.moment();
        self.sighted(body, at, sequence);
        let attempts_max = self.attempts_max;
        let known = self.known(body);
        let is_first = !std::mem::replace(&mut known.passed_on, true);
        let failed = known.failures(now);
        let has_moved = at.1 == Part::DeadLetter && known.parts != BTreeSet::from([at.1]);
        let mut by_attempts = false;
        if has_moved {
            by_attempts = !known.parts.contains(&at.1);
            let most = failed.1;
            assert!(
                !by_attempts || attempts_max <= most,
                "message {body} is dead-lettered after at most {most} failed deliveries"
            );
            known.moved_at = moment;
        } else {
            let (low, high) = failed;
            assert!(
                (low..=high).contains(&attempts),
                "message {body} came with delivery-count {attempts}, expected {low} to {high}"
            );
        }
        assert!(
            at.1 == Part::DeadLetter || attempts < attempts_max,
            "message {body} should have been dead-lettered after {attempts} failed deliveries"
        );
        if let Some(Lock { token, until, wish }) = known.lock {
            let given_back = matches!(wish, Some(Wish::Abandon | Wish::Release))
                || (wish == Some(Wish::DeadLetter) && has_moved);
            assert!(
                given_back || until <= now,
                "message {body} was delivered at {now}, while {token:?} holds it until {until}"
            );
        }
        let has_expired = matches!(known.lock, Some(Lock { wish: None, .. }));
        // Passed on only when the count is durable, so this much survives a crash.
        known.attempts = (attempts, attempts);
        known.parts = BTreeSet::from([at.1]);
        known.lock = lock.map(|(token, until)| Lock { token, until, wish: None });
        if lock.is_none() {
            known.fate = Fate::Taken;
            known.moved_at = moment;
            self.seen.taken += 1;
        }
        self.seen.expired += u64::from(has_expired);
        self.seen.dead_lettered_by_attempts += u64::from(by_attempts);
        if is_first && at.1 == Part::Main && !self.may_be_taken.contains(&at.0) {
            let last = self.first_deliveries.insert(at.0, sequence).unwrap_or(0);
            assert!(
                last < sequence,
                "message {sequence} of queue {} is passed on after message {last}",
                at.0
            );
        }
    }

    /// A message was seen: it must exist, there, under the number it always had.
    fn sighted(&mut self, body: Body, at: (usize, Part), sequence: u64) {
        let known = self.known(body);
        assert!(
            !matches!(known.fate, Fate::Completed | Fate::Taken),
            "message {body} came back after it was {:?}",
            known.fate
        );
        assert_eq!(known.queue, at.0, "message {body} is in a queue it was not sent to");
        // What is shown is durable.
        known.fate = Fate::Accepted;
        let may_be_there = known.parts.contains(&at.1)
            || matches!(known.lock, Some(Lock { wish: Some(Wish::DeadLetter), .. }))
            || at.1 == Part::DeadLetter;
        assert!(
            may_be_there,
            "message {body} was seen in {:?}, it can only be in {:?}",
            at.1, known.parts
        );
        self.numbered(body, at.0, sequence);
    }

    fn numbered(&mut self, body: Body, queue: usize, sequence: u64) {
        let before = self.known(body).sequence.replace(sequence);
        assert!(
            before.is_none_or(|before| before == sequence),
            "message {body} changed its sequence number from {before:?} to {sequence}"
        );
        let owner = *self.sequences.entry((queue, sequence)).or_insert(body);
        assert_eq!(owner, body, "sequence number {sequence} of queue {queue} was used twice");
    }

    /// A message was looked at. What left since the client asked may still be shown.
    pub(crate) fn browsed(
        &mut self,
        now: u64,
        body: Body,
        at: (usize, Part),
        sequence: u64,
        asked_at: u64,
    ) {
        self.seen.browsed += 1;
        let attempts_max = self.attempts_max;
        let known = self.known(body);
        if asked_at <= known.moved_at {
            assert_eq!(known.queue, at.0, "message {body} is in a queue it was not sent to");
            return self.numbered(body, at.0, sequence);
        }
        let is_buried_for = known.failures(now).1;
        let is_moving = known.parts.contains(&at.1)
            || matches!(known.lock, Some(Lock { wish: Some(Wish::DeadLetter), .. }));
        assert!(
            is_moving || at.1 == Part::Main || attempts_max <= is_buried_for,
            "message {body} is dead-lettered after at most {is_buried_for} failed deliveries"
        );
        self.sighted(body, at, sequence);
    }

    /// Asked to end a lock.
    pub(crate) fn asked(&mut self, now: u64, body: Body, wish: Wish) {
        let known = self.known(body);
        known.free_since = now;
        let lock = known.lock.as_mut().expect("only what is held is settled");
        assert_eq!(lock.wish.replace(wish), None, "a lock is settled twice");
    }

    /// A settlement was done.
    pub(crate) fn settled(&mut self, body: Body, token: T, wish: Wish) {
        let moment = self.moment();
        match wish {
            Wish::Complete => self.seen.completed += 1,
            Wish::Abandon => self.seen.abandoned += 1,
            Wish::Release => self.seen.released += 1,
            Wish::DeadLetter => self.seen.dead_lettered += 1,
        }
        let known = self.known(body);
        if known.lock.is_none_or(|lock| lock.token != token) {
            let has_moved = known.parts == BTreeSet::from([Part::DeadLetter]);
            assert!(
                matches!(wish, Wish::Abandon | Wish::Release) || has_moved,
                "{wish:?} of message {body} was done after it was passed on to another client"
            );
            return;
        }
        known.lock = None;
        match wish {
            Wish::Complete => {
                known.fate = Fate::Completed;
                known.moved_at = moment;
            }
            Wish::Abandon => {
                known.attempts.0 = known.attempts.0.saturating_add(1);
                known.attempts.1 = known.attempts.1.saturating_add(1);
            }
            Wish::Release => {}
            Wish::DeadLetter => {
                known.parts = BTreeSet::from([Part::DeadLetter]);
                // What the count starts from there is the broker's affair.
                known.attempts = (0, u32::MAX);
                known.moved_at = moment;
            }
        }
    }

    /// A settlement or renewal of a lock in force was refused. Says whether the client still holds
    /// the message.
    pub(crate) fn not_settled(&mut self, now: u64, body: Body, token: T, is_lost: bool) -> bool {
        self.seen.lock_lost += u64::from(is_lost);
        let known = self.known(body);
        let Some(lock) = known.lock.as_mut().filter(|lock| lock.token == token) else {
            return false;
        };
        assert!(
            !is_lost || lock.until <= now,
            "the lock of message {body} was lost before its time"
        );
        lock.wish = None;
        !is_lost
    }

    pub(crate) fn renewed(&mut self, body: Body, token: T, until: u64) {
        self.seen.renewed += 1;
        let known = self.known(body);
        let lock = known.lock.as_mut().filter(|lock| lock.token == token);
        let lock = lock.unwrap_or_else(|| panic!("message {body} was renewed without a lock"));
        assert!(lock.until <= until, "the lock of message {body} was made shorter");
        lock.until = until;
    }

    /// Whether a client's lock is good. One that has run out is refused, and its expiry counts.
    pub(crate) fn holds(&self, now: u64, body: Body, token: T) -> bool {
        let lock = self.messages.get(&body).and_then(|known| known.lock);
        lock.is_some_and(|lock| lock.token == token && now < lock.until)
    }

    /// Messages of this queue go to receivers that want no lock, too.
    pub(crate) fn may_take_from(&mut self, queue: usize) {
        self.may_be_taken.insert(queue);
    }

    /// All locks are free, and what was not answered may or may not have happened. `under_way` says
    /// how many messages each queue may have been giving to receivers that want no lock.
    pub(crate) fn crashed(&mut self, now: u64, under_way: &BTreeMap<usize, u64>) {
        self.seen.crashes += 1;
        for (queue, count) in under_way {
            assert!(self.may_be_taken.contains(queue), "nobody takes from queue {queue}");
            *self.may_be_lost.entry(*queue).or_default() += count;
        }
        let lock_duration = self.lock_duration;
        for known in self.messages.values_mut() {
            // What was answered or shown is durable. The rest may be, and so may deliveries that
            // failed and of which no client ever heard: each held the message for as long as a lock
            // lasts, after the last that was heard of.
            let (_, high) = known.failures(now);
            let lock = known.lock.take();
            let wish = lock.as_ref().and_then(|lock| lock.wish);
            let since = match lock {
                Some(Lock { until, wish: None, .. }) => until,
                Some(_) | None => known.free_since,
            };
            let unheard = now.saturating_sub(since) / lock_duration;
            known.attempts.1 = high.saturating_add(u32::try_from(unheard).expect("runs are short"));
            known.free_since = now;
            match wish {
                Some(Wish::Complete) => known.fate = Fate::InDoubt,
                Some(Wish::DeadLetter) => {
                    known.parts.insert(Part::DeadLetter);
                }
                Some(Wish::Abandon | Wish::Release) | None => {}
            }
            self.seen.unknown += u64::from(known.fate == Fate::Asked || wish.is_some());
        }
    }

    /// After everything was received and completed: nothing accepted is missing, no send was torn
    /// apart, and the numbers of each queue have no gaps.
    pub(crate) fn check_at_the_end(&self) {
        let mut lost: BTreeMap<usize, u64> = BTreeMap::new();
        for (body, known) in &self.messages {
            if known.fate == Fate::Accepted {
                *lost.entry(known.queue).or_default() += 1;
                assert!(
                    self.may_be_taken.contains(&known.queue),
                    "message {body} was accepted and is lost: {known:?}"
                );
            }
            assert!(
                self.may_be_taken.contains(&known.queue)
                    || known.sequence.is_some() == self.messages[&known.batch].sequence.is_some(),
                "message {body} was sent as one with {}, and only one of them was kept",
                known.batch
            );
        }
        for (queue, count) in lost {
            let most = self.may_be_lost.get(&queue).copied().unwrap_or(0);
            assert!(count <= most, "queue {queue} lost {count} messages, and may have lost {most}");
        }
        let mut next = BTreeMap::new();
        for (queue, sequence) in self.sequences.keys() {
            let expected = next.insert(*queue, sequence + 1).unwrap_or(1);
            assert!(
                expected == *sequence || self.may_be_taken.contains(queue),
                "queue {queue} left out the numbers {expected} to {sequence}"
            );
        }
    }

    fn known(&mut self, body: Body) -> &mut Known<T> {
        self.messages.get_mut(&body).unwrap_or_else(|| panic!("nobody sent message {body}"))
    }
}

impl<T> Known<T> {
    /// Bounds of the failed deliveries, if the lock is over.
    fn failures(&self, now: u64) -> (u32, u32) {
        let (low, high) = self.lock.as_ref().map_or((0, 0), |lock| lock.failures(now));
        (self.attempts.0.saturating_add(low), self.attempts.1.saturating_add(high))
    }
}
