//! What must be true: the simplest account that could be right, written from the service's contract.
//!
//! It sees commands and effects in the order in which they cross the broker's border, and no state of
//! the broker. What the broker does without an effect (locks end, messages expire, scheduled ones
//! become active) is in `outcomes`: a message is where one of its possible outcomes says. A crash takes
//! back the turns whose batches were lost, and the account with them (`crash`), but never what a
//! client was told.

mod browsing;
mod checks;
mod counting;
mod crash;
mod deleting;
mod duplicates;
pub(crate) mod filters;
mod fleeting;
mod forwarding;
mod outcomes;
mod receiving;
mod scheduling;
mod sending;
mod sessions;
mod settling;
pub(crate) mod state;
mod topics;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::browsing::{Browse, Shown};
pub(crate) use self::crash::Receipt;
pub(crate) use self::filters::{Filter, Paint, Rule};
pub(crate) use self::fleeting::Fleeting;
pub(crate) use self::receiving::Delivered;
pub(crate) use self::sessions::Listing;
pub(crate) use self::settling::Wish;
pub(crate) use self::state::{At, Body, End, Ends, Part, Sent, Shelf, State, Turn};
pub(crate) use self::transactions::Enlisted;

use self::deleting::Deletions;
use self::duplicates::Remembered;
use self::sessions::{Hold, SessionState};
use self::state::{Durable, Told};
use self::topics::{Copy, Topics};
use self::transactions::Open;
use crate::seen::Seen;

/// What an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Queue,
    Topic,
    Subscription {
        topic: usize,
        rules: &'static [Rule],
        /// Whether it is made and deleted while messages come, once.
        is_fleeting: bool,
    },
}

/// What a queue, a topic or a subscription is told to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) kind: Kind,
    pub(crate) lock_duration: u64,
    pub(crate) attempts_max: u32,
    pub(crate) requires_session: bool,
    pub(crate) time_to_live: Option<u64>,
    pub(crate) dead_letter_on_expiry: bool,
    pub(crate) dead_letter_on_filter_error: bool,
    pub(crate) duplicate_window: Option<u64>,
    pub(crate) forward_to: Option<usize>,
    pub(crate) forward_dead_letters_to: Option<usize>,
}

#[derive(Clone, Debug)]
struct Known {
    sent: Sent,
    /// The send it came with: all of its messages are taken in, or none.
    batch: Body,
    state: Durable<State>,
    told: Option<Told>,
    /// For what a subscription gets.
    copy: Option<Copy>,
}

/// See the module.
pub(crate) struct Model {
    rules: Vec<Rules>,
    pub(crate) now: u64,
    /// The turn that is being taken, and the last one known to be durable.
    pub(crate) turn: Turn,
    pub(crate) durable: Turn,
    messages: BTreeMap<Body, Known>,
    /// Those that are not gone, and some that are: only these are looked through.
    live: BTreeSet<Body>,
    /// The same by the session their sender named.
    by_session: BTreeMap<u64, Vec<Body>>,
    /// Whose each number is.
    owners: BTreeMap<(usize, u64), Body>,
    /// Numbers that were delivered at all, and the highest one: in a queue, or in each session of it.
    passed_on: BTreeSet<(usize, u64)>,
    furthest: BTreeMap<(usize, Option<u64>), u64>,
    next_rank: u64,
    holds: BTreeMap<u64, Hold>,
    held: BTreeMap<(usize, u64), u64>,
    /// When the last hold on a session ended or will end.
    freed_at: BTreeMap<(usize, u64), u64>,
    session_states: BTreeMap<(usize, u64), SessionState>,
    remembered: BTreeMap<(usize, u64), Durable<Remembered>>,
    transactions: BTreeMap<u64, Open>,
    deletions: BTreeMap<At, Deletions>,
    topics: Topics,
    /// Rules that change copies.
    actions: Vec<u64>,
    pub(crate) seen: Seen,
}

impl Model {
    pub(crate) fn new(rules: Vec<Rules>) -> Self {
        let model = Self {
            actions: topics::actions(&rules),
            topics: Topics::default(),
            rules,
            now: 0,
            turn: 0,
            durable: 0,
            messages: BTreeMap::new(),
            live: BTreeSet::new(),
            by_session: BTreeMap::new(),
            owners: BTreeMap::new(),
            passed_on: BTreeSet::new(),
            furthest: BTreeMap::new(),
            next_rank: 0,
            holds: BTreeMap::new(),
            held: BTreeMap::new(),
            freed_at: BTreeMap::new(),
            session_states: BTreeMap::new(),
            remembered: BTreeMap::new(),
            transactions: BTreeMap::new(),
            deletions: BTreeMap::new(),
            seen: Seen::default(),
        };
        model.check_rules();
        model
    }

    pub(crate) fn rules(&self, queue: usize) -> &Rules {
        &self.rules[queue]
    }

    /// Leaves out what is gone, which only a crash brings back. That is not worth it each time.
    pub(crate) fn forget_gone(&mut self) {
        if self.turn.is_multiple_of(64) {
            let messages = &self.messages;
            let is_there = |body: &Body| !messages[body].state.get().is_gone();
            self.live.retain(is_there);
            self.by_session.values_mut().for_each(|bodies| bodies.retain(is_there));
        }
    }

    fn known(&self, body: Body) -> &Known {
        self.messages.get(&body).unwrap_or_else(|| panic!("nobody sent message {body}"))
    }

    fn state(&self, body: Body) -> &State {
        self.known(body).state.get()
    }

    /// Where a message was sent to.
    pub(crate) fn sent_to(&self, body: Body) -> usize {
        self.known(body).sent.queue
    }

    /// The number it has there, once it was seen.
    pub(crate) fn number_of(&self, body: Body) -> Option<u64> {
        self.state(body).number
    }

    /// For a change of what is not written down, or need not be told.
    fn change(&mut self, body: Body) -> &mut State {
        let (turn, durable) = (self.turn, self.durable);
        let known = self.messages.get_mut(&body);
        known.unwrap_or_else(|| panic!("nobody sent message {body}")).state.change(turn, durable)
    }

    /// The same, for a change that survives a crash once its turn is durable.
    fn change_for_good(&mut self, body: Body) -> &mut State {
        let turn = self.turn;
        let state = self.change(body);
        state.changed = turn;
        state
    }

    /// A number was seen: it is this message's alone.
    fn numbered(&mut self, body: Body, queue: usize, number: u64) {
        let owner = *self.owners.entry((queue, number)).or_insert(body);
        assert_eq!(owner, body, "sequence number {number} of queue {queue} was used twice");
        let state = self.change(body);
        state.number = Some(number);
        if !state.numbers.contains(&(queue, number)) {
            state.numbers.push((queue, number));
        }
    }
}
