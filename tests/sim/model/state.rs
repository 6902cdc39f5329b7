//! What is known of one message, and how knowledge is taken back when a crash takes back turns.

use peeklock_core::LockToken;

/// The number a client writes into a message's body.
pub(crate) type Body = u64;

/// Turns of the broker, counted over the whole run. All of a turn is written as one.
pub(crate) type Turn = u64;

/// Which part of a queue a client talks to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    Main,
    DeadLetter,
    /// Dead letters that could not be forwarded.
    Transfer,
}

impl Part {
    pub(crate) const ALL: [Part; 3] = [Part::Main, Part::DeadLetter, Part::Transfer];
}

/// A part of a queue.
pub(crate) type At = (usize, Part);

/// Where a message stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shelf {
    /// Not taken in.
    Nowhere,
    /// A copy of what will be published, or was, for all that is known.
    Underway,
    Scheduled,
    Active,
    Deferred,
    Gone(End),
}

/// How a message came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Completed,
    /// Passed on by receive-and-delete.
    Taken,
    Expired,
    Cancelled,
    /// Removed with others.
    Deleted,
    /// Given to the subscriptions of a topic.
    Published,
    /// With the subscription that held it.
    WithEntity,
    /// Dropped because of the message with this body.
    DuplicateOf(Body),
}

/// A claim on a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lock {
    pub(crate) token: LockToken,
    pub(crate) ends: Ends,
    /// The transaction that will settle it.
    pub(crate) enlisted: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// The first moment at which it is gone.
    At(u64),
    /// With the hold on its session.
    WithHold(u64),
}

/// What its sender wrote on a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) queue: usize,
    pub(crate) session: Option<u64>,
    pub(crate) message_id: Option<u64>,
    pub(crate) time_to_live: Option<u64>,
    pub(crate) due: Option<u64>,
    /// What filters ask for.
    pub(crate) color: Option<u64>,
    pub(crate) weight: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) shelf: Shelf,
    pub(crate) at: At,
    /// Its number there, once it was seen.
    pub(crate) number: Option<u64>,
    /// Every number it was seen under, by queue.
    pub(crate) numbers: Vec<(usize, u64)>,
    /// Failed deliveries, at least and at most: they differ only where a crash may have come before
    /// or after the end of a lock was written down.
    pub(crate) attempts: (u32, u32),
    pub(crate) lock: Option<Lock>,
    /// When it became active there, at the earliest and at the latest.
    pub(crate) enqueued: (u64, u64),
    /// The earliest moment at which it was active at all.
    pub(crate) since: u64,
    /// For how long it is of use from then on.
    pub(crate) time_to_live: Option<u64>,
    /// Over how many queues it was forwarded.
    pub(crate) hops: u32,
    /// The queue whose dead letter it was before it was forwarded.
    pub(crate) source: Option<usize>,
    /// Why it is a dead letter, if the broker made it one.
    pub(crate) reason: Option<&'static str>,
    /// Its place in the order in which messages were taken in.
    pub(crate) rank: Option<u64>,
    /// Cleared for what may have been dropped as a duplicate, or not.
    pub(crate) is_sure: bool,
    /// The turn of the last change that is to survive a crash.
    pub(crate) changed: Turn,
    /// The turn in which it was seen to have moved by itself.
    pub(crate) moved: Turn,
    /// The turn in which it was seen that a lock had run out, and that this was counted.
    pub(crate) counted: Turn,
}

impl State {
    pub(crate) fn new(queue: usize) -> Self {
        Self {
            shelf: Shelf::Nowhere,
            at: (queue, Part::Main),
            number: None,
            numbers: Vec::new(),
            attempts: (0, 0),
            lock: None,
            enqueued: (0, 0),
            since: 0,
            time_to_live: None,
            hops: 0,
            source: None,
            reason: None,
            rank: None,
            is_sure: true,
            changed: 0,
            moved: 0,
            counted: 0,
        }
    }

    /// The same message, dead where it is.
    pub(crate) fn buried(self, reason: Option<&'static str>) -> Self {
        let (queue, part) = self.at;
        let part = if part == Part::Main { Part::DeadLetter } else { Part::Transfer };
        Self {
            shelf: Shelf::Active,
            at: (queue, part),
            // What the count starts from there is the broker's affair.
            attempts: (0, u32::MAX),
            lock: None,
            time_to_live: None,
            reason,
            ..self
        }
    }

    pub(crate) fn fail_once(&mut self) {
        self.attempts.0 = self.attempts.0.saturating_add(1);
        self.attempts.1 = self.attempts.1.saturating_add(1);
    }

    /// Whether it may be of no use any more at `now`: the time may run on while it is forwarded.
    pub(crate) fn may_be_stale(&self, now: u64) -> bool {
        self.time_to_live.is_some_and(|span| self.since + span <= now)
    }

    /// Whether it is for certain.
    pub(crate) fn is_stale(&self, now: u64) -> bool {
        self.time_to_live.is_some_and(|span| self.enqueued.1 + span <= now)
    }

    /// The turn by which it was where it is.
    pub(crate) fn settled_in(&self) -> Turn {
        self.changed.max(self.moved)
    }

    /// Whether it is somewhere, for all that is known.
    pub(crate) const fn is_taken_in(&self) -> bool {
        matches!(self.shelf, Shelf::Scheduled | Shelf::Active | Shelf::Deferred)
    }

    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.shelf, Shelf::Gone(_))
    }
}

/// What the client of a message was shown: it must never be taken back.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The turn in which it was decided.
    pub(crate) turn: Turn,
    pub(crate) state: State,
}

/// A value, and what it was before each turn that may be taken back.
#[derive(Clone, Debug)]
pub(crate) struct Durable<V> {
    value: V,
    before: Vec<(Turn, V)>,
}

impl<V: Clone> Durable<V> {
    pub(crate) const fn new(value: V) -> Self {
        Self { value, before: Vec::new() }
    }

    pub(crate) const fn get(&self) -> &V {
        &self.value
    }

    /// For a change in this turn. What was before the turns up to `durable` is not needed any more.
    pub(crate) fn change(&mut self, turn: Turn, durable: Turn) -> &mut V {
        self.before.retain(|(turn, _)| durable < *turn);
        if self.before.last().is_none_or(|(last, _)| *last < turn) {
            self.before.push((turn, self.value.clone()));
        }
        &mut self.value
    }

    /// Takes back all turns after `kept`.
    pub(crate) fn roll_back(&mut self, kept: Turn) {
        while let Some((turn, value)) = self.before.pop() {
            if turn <= kept {
                break;
            }
            self.value = value;
        }
        self.before.clear();
    }
}
