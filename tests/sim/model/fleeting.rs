//! What changes while messages are on their way to a topic: the time, rules, and subscriptions.

use super::state::Durable;
use super::{Body, End, Kind, Known, Model, Receipt, Shelf, Turn};

/// What is there at some times only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fleeting {
    Subscription(usize),
    Rule(u64),
}

/// Whether it is there, and the last change of that a client was told of.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    pub(super) value: Durable<(bool, Turn)>,
    pub(super) told: Turn,
}

impl Model {
    /// What is scheduled at a topic.
    pub(super) fn await_due(&mut self, body: Body, due: u64) {
        self.topics.scheduled.insert((due, body));
    }

    /// Time has passed: what is due is published, sooner or later.
    pub(crate) fn note_due(&mut self) {
        while let Some((due, body)) = self.topics.scheduled.first().copied() {
            if self.now < due {
                break;
            }
            self.topics.scheduled.remove(&(due, body));
            self.topics.due.insert(body);
            self.reconsider(body, true);
        }
    }

    /// Nothing is under way: what was due is published.
    pub(crate) fn all_is_done(&mut self) {
        for body in std::mem::take(&mut self.topics.due) {
            let state = self.state(body);
            if state.shelf == Shelf::Scheduled && state.is_sure {
                self.was_published(body);
            } else if state.shelf == Shelf::Scheduled {
                self.topics.due.insert(body);
            }
        }
    }

    /// Makes the copies of what is due. If it may have been published under other rules, those that
    /// only some of them make may be there or not.
    pub(super) fn reconsider(&mut self, body: Body, is_first: bool) {
        let state = self.state(body);
        if state.shelf != Shelf::Scheduled {
            return;
        }
        let (topic, sent) = (state.at.0, self.known(body).sent);
        let wanted = self.wanted(topic, &sent);
        let known = self.topics.of_parent.get(&body).cloned().unwrap_or_default();
        for copy in &known {
            let of = self.known(*copy).copy.as_ref().expect("it is a copy");
            if !wanted.contains(&(of.subscription, of.cause)) {
                self.change(*copy).is_sure = false;
            }
        }
        for (subscription, cause) in wanted {
            let copy = self.copy_of(body, subscription, cause);
            if known.contains(&copy) {
                continue;
            }
            self.pass_over(copy, subscription);
            if !is_first {
                self.change(copy).is_sure = false;
            }
        }
    }

    pub(crate) fn is_there(&self, what: Fleeting) -> bool {
        let is_always = match what {
            Fleeting::Subscription(subscription) => {
                !matches!(self.kind(subscription), Kind::Subscription { is_fleeting: true, .. })
            }
            Fleeting::Rule(_) => false,
        };
        is_always || self.topics.presences.get(&what).is_some_and(|known| known.value.get().0)
    }

    pub(crate) fn was_never_there(&self, what: Fleeting) -> bool {
        self.topics.presences.get(&what).is_none_or(|known| *known.value.get() == (false, 0))
    }

    /// A rule was added or removed, or a subscription that has it made.
    pub(crate) fn came_or_went(&mut self, what: Fleeting, topic: usize) {
        let (is_there, turn, durable) = (self.is_there(what), self.turn, self.durable);
        let absent = || Presence { value: Durable::new((false, 0)), told: 0 };
        let presence = self.topics.presences.entry(what).or_insert_with(absent);
        *presence.value.change(turn, durable) = (!is_there, turn);
        self.seen.came_or_went += 1;
        if let (Fleeting::Subscription(subscription), true) = (what, is_there) {
            self.left_with(subscription);
        }
        for body in self.topics.due.clone() {
            if self.state(body).at.0 == topic {
                self.reconsider(body, false);
            }
        }
    }

    /// A subscription was deleted with all it held.
    fn left_with(&mut self, subscription: usize) {
        let of = |known: &Known| known.copy.as_ref().map(|copy| copy.subscription);
        let gone =
            self.live.iter().copied().filter(|body| of(self.known(*body)) == Some(subscription));
        for body in gone.collect::<Vec<_>>() {
            let state = self.change_for_good(body);
            (state.shelf, state.lock) = (Shelf::Gone(End::WithEntity), None);
            self.seen.left_with_entity += 1;
        }
        self.deletions.retain(|at, _| at.0 != subscription);
    }

    pub(crate) fn presence_receipt(&self, what: Fleeting) -> Receipt {
        Receipt::Presence(what, self.topics.presences[&what].value.get().1)
    }

    pub(super) fn told_of_presence(&mut self, what: Fleeting, changed: Turn) {
        if let Some(presence) = self.topics.presences.get_mut(&what) {
            presence.told = presence.told.max(changed);
        }
    }
}
