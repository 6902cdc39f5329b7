//! Copies: what the subscriptions of topics get of a message, each of them exactly once.
//!
//! A copy is a message of its own. Of what is sent to a topic the copies are there with it. What comes
//! to a topic by itself (due, or forwarded) comes at a time that is known only about: until one of its
//! copies is seen, all of them are under way, and the message is where it was or they are where they
//! belong, but never both.

use std::collections::{BTreeMap, BTreeSet};

use super::filters::{Answer, Rule, color_name, mark_of, name_of};
use super::fleeting::{Fleeting, Presence};
use super::state::Durable;
use super::{At, Body, End, Kind, Known, Model, Sent, Shelf, State, Turn};

/// Copies have numbers above those of all messages that are sent.
const COPIES: Body = 1 << 40;

const FILTER_FAILED: &str = "FilterException";

/// Why a subscription gets a copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Cause {
    /// One or several rules that change nothing.
    Plain,
    /// A rule that changes something.
    Rule(u64),
    /// A filter that failed: the copy is a dead letter.
    Failure,
}

/// What a message is a copy of.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// What was sent.
    root: Body,
    /// What it was made of: that, or a copy that came to another topic.
    parent: Body,
    pub(super) subscription: usize,
    pub(super) cause: Cause,
    /// The rules that changed something on its way.
    marks: Vec<u64>,
}

#[derive(Default)]
pub(super) struct Topics {
    /// The copies of what was sent, and those made of a message.
    of_root: BTreeMap<Body, Vec<Body>>,
    pub(super) of_parent: BTreeMap<Body, Vec<Body>>,
    next_copy: Body,
    pub(super) presences: BTreeMap<Fleeting, Presence>,
    /// What is scheduled at topics, by when it is due, until then.
    pub(super) scheduled: BTreeSet<(u64, Body)>,
    /// What is due at topics, and not known to have been published.
    pub(super) due: BTreeSet<Body>,
}

impl Model {
    pub(crate) fn kind(&self, queue: usize) -> Kind {
        self.rules[queue].kind
    }

    pub(crate) fn is_topic(&self, queue: usize) -> bool {
        self.kind(queue) == Kind::Topic
    }

    fn subscriptions_of(&self, topic: usize) -> impl Iterator<Item = (usize, &'static [Rule])> {
        let all = self.rules.iter().enumerate();
        all.filter_map(move |(queue, rules)| match rules.kind {
            Kind::Subscription { topic: of, rules, .. } if of == topic => Some((queue, rules)),
            Kind::Subscription { .. } | Kind::Queue | Kind::Topic => None,
        })
    }

    fn topic_of_subscription(&self, subscription: usize) -> usize {
        match self.kind(subscription) {
            Kind::Subscription { topic, .. } => topic,
            Kind::Queue | Kind::Topic => panic!("{subscription} is no subscription"),
        }
    }

    /// Who gets which copies of a message now.
    pub(super) fn wanted(&self, topic: usize, sent: &Sent) -> BTreeSet<(usize, Cause)> {
        let mut wanted = BTreeSet::new();
        for (subscription, rules) in self.subscriptions_of(topic) {
            if !self.is_there(Fleeting::Subscription(subscription)) {
                continue;
            }
            for rule in rules {
                if rule.comes_and_goes && !self.is_there(Fleeting::Rule(rule.number)) {
                    continue;
                }
                let cause = match (rule.filter.answer(sent), rule.action) {
                    (Answer::No, _) => continue,
                    (Answer::Fails, _) if !self.rules[subscription].dead_letter_on_filter_error => {
                        continue;
                    }
                    (Answer::Fails, _) => Cause::Failure,
                    (Answer::Yes, None) => Cause::Plain,
                    (Answer::Yes, Some(_)) => Cause::Rule(rule.number),
                };
                wanted.insert((subscription, cause));
            }
        }
        wanted
    }

    /// The copy of a message that a subscription gets for a cause.
    pub(super) fn copy_of(&mut self, parent: Body, subscription: usize, cause: Cause) -> Body {
        let copies = self.topics.of_parent.entry(parent).or_default();
        for copy in copies.iter() {
            let known = self.messages[copy].copy.as_ref().expect("it is a copy");
            if (known.subscription, known.cause) == (subscription, cause) {
                return *copy;
            }
        }
        self.topics.next_copy += 1;
        let body = COPIES + self.topics.next_copy;
        copies.push(body);
        let before = &self.messages[&parent];
        let (root, mut marks) = before
            .copy
            .as_ref()
            .map_or((parent, Vec::new()), |copy| (copy.root, copy.marks.clone()));
        let mut sent = before.sent;
        if let Cause::Rule(number) = cause {
            marks.push(number);
            marks.sort_unstable();
            let rule = self.rule(subscription, number);
            sent = rule.action.map_or(sent, |paint| paint.applied(sent));
        }
        let state = State { shelf: Shelf::Underway, ..State::new(subscription) };
        let copy = Some(Copy { root, parent, subscription, cause, marks });
        let known = Known { sent, batch: body, state: Durable::new(state), told: None, copy };
        self.messages.insert(body, known);
        self.live.insert(body);
        self.topics.of_root.entry(root).or_default().push(body);
        if let Some(session) = sent.session {
            self.by_session.entry(session).or_default().push(body);
        }
        self.send_ahead(body, subscription);
        body
    }

    fn rule(&self, subscription: usize, number: u64) -> &'static Rule {
        let Kind::Subscription { rules, .. } = self.kind(subscription) else {
            panic!("{subscription} has no rules")
        };
        rules.iter().find(|rule| rule.number == number).expect("rules have numbers")
    }

    /// What will come to a topic has copies under way from now on.
    pub(super) fn send_ahead(&mut self, body: Body, queue: usize) {
        let mut last = queue;
        while let Some(next) = self.rules[last].forward_to {
            last = next;
        }
        if last != queue && self.is_topic(last) {
            let sent = self.known(body).sent;
            for (subscription, cause) in self.wanted(last, &sent) {
                let copy = self.copy_of(body, subscription, cause);
                self.pass_over(copy, subscription);
            }
        }
    }

    /// A message was taken in by a topic, and all of its copies with it.
    pub(super) fn publish(&mut self, body: Body, topic: usize) {
        let sent = self.known(body).sent;
        let passed = self.state(body).clone();
        self.seen.published += 1;
        let wanted = self.wanted(topic, &sent);
        self.seen.wanted_by_nobody += u64::from(wanted.is_empty());
        for (subscription, cause) in wanted {
            let copy = self.copy_of(body, subscription, cause);
            // Before this turn there was none.
            let turn = self.turn;
            let known = self.messages.get_mut(&copy).expect("it was made");
            known.state = Durable::new(State::new(subscription));
            let arrived = self.arrived(copy, &passed);
            *self.change(copy) = State { changed: turn, is_sure: passed.is_sure, ..arrived };
            self.pass_over(copy, subscription);
        }
    }

    /// What a copy is when it has come to its subscription.
    pub(super) fn arrived(&self, body: Body, passed: &State) -> State {
        let known = self.known(body);
        let copy = known.copy.as_ref().expect("it is a copy");
        let State { rank, since, hops, source, enqueued, .. } = *passed;
        let state = State { since, hops, source, rank, ..known.state.get().clone() };
        let subscription = copy.subscription;
        let placed = self.placed(state, &known.sent, subscription, enqueued);
        let limit = self.rules[self.topic_of_subscription(subscription)].time_to_live;
        let time_to_live = placed.time_to_live.into_iter().chain(limit).min();
        let placed = State { time_to_live, ..placed };
        if copy.cause == Cause::Failure {
            return placed.buried(Some(FILTER_FAILED));
        }
        if self.rules[subscription].requires_session && known.sent.session.is_none() {
            return placed.buried(Some("Session ID is null."));
        }
        placed
    }

    /// What a copy under way may be by now.
    pub(super) fn arrivals(&self, body: Body, now: u64) -> Vec<State> {
        let parent = self.known(body).copy.as_ref().expect("it is a copy").parent;
        let outcomes = self.outcomes(parent, now);
        let passed = outcomes.iter().filter(|state| state.shelf == Shelf::Gone(End::Published));
        passed.map(|passed| self.arrived(body, passed)).collect()
    }

    /// A copy is there: so are all others of the same message, and the message is not.
    pub(super) fn has_come(&mut self, body: Body) {
        let Some(copy) = &self.known(body).copy else { return };
        let parent = copy.parent;
        if self.state(parent).shelf == Shelf::Underway {
            self.has_come(parent);
        }
        if self.state(parent).shelf != Shelf::Gone(End::Published) {
            self.was_published(parent);
        }
    }

    pub(super) fn was_published(&mut self, parent: Body) {
        let outcomes = self.outcomes(parent, self.now);
        let passed = outcomes.into_iter().find(|state| state.shelf == Shelf::Gone(End::Published));
        let Some(passed) = passed else {
            panic!("the copies of message {parent} are there, and it is: {:?}", self.known(parent))
        };
        self.seen.published_later += 1;
        let turn = self.turn;
        *self.change(parent) = State { moved: turn, is_sure: true, ..passed.clone() };
        self.topics.due.remove(&parent);
        for copy in self.topics.of_parent.get(&parent).cloned().unwrap_or_default() {
            if self.state(copy).shelf == Shelf::Underway {
                let arrived = self.arrived(copy, &passed);
                *self.change(copy) = State { moved: turn, ..arrived };
            }
        }
    }

    /// Messages and the copies of them that are known to be there.
    pub(crate) fn with_copies(&self, bodies: &[Body]) -> Vec<Body> {
        let mut all = bodies.to_vec();
        for body in bodies {
            let copies = self.topics.of_parent.get(body).into_iter().flatten().copied();
            all.extend(copies.filter(|copy| self.state(*copy).shelf != Shelf::Underway));
        }
        all
    }

    /// Which message it is that a client sees somewhere: what was sent, or a copy of it.
    pub(crate) fn seen_as(&self, sent: Body, at: At, properties: &str) -> Body {
        let copies = self.topics.of_root.get(&sent).into_iter().flatten().copied();
        let has_failed = properties.contains(FILTER_FAILED);
        let is_it = |body: &Body| {
            let known = self.known(*body);
            let (start, marks, failed) =
                known.copy.as_ref().map_or((known.sent.queue, &[][..], false), |copy| {
                    (copy.subscription, copy.marks.as_slice(), copy.cause == Cause::Failure)
                });
            failed == has_failed
                && self.is_marked(properties, marks)
                && self.comes_through(start, at.0)
        };
        let mut found = std::iter::once(sent).chain(copies).filter(is_it);
        let body = found.next().unwrap_or_else(|| {
            panic!("nobody gave {at:?} such a copy of message {sent}: {properties:?}")
        });
        assert_eq!(found.next(), None, "two copies of message {sent} look the same at {at:?}");
        self.check_copy(body, properties);
        body
    }

    fn is_marked(&self, properties: &str, marks: &[u64]) -> bool {
        self.actions.iter().all(|rule| marks.contains(rule) == properties.contains(&mark_of(*rule)))
    }

    /// Where messages go from where they are, up to the next topic.
    fn comes_through(&self, start: usize, queue: usize) -> bool {
        let rules = &self.rules[start];
        let nexts = rules.forward_to.into_iter().chain(rules.forward_dead_letters_to);
        start == queue
            || nexts
                .filter(|next| !self.is_topic(*next))
                .any(|next| self.comes_through(next, queue))
    }

    pub(super) fn count_copy(&mut self, body: Body) {
        let Some(copy) = &self.known(body).copy else { return };
        let is_changed = !copy.marks.is_empty();
        let has_failed = copy.cause == Cause::Failure;
        self.seen.copies_delivered += 1;
        self.seen.changed_copies += u64::from(is_changed);
        self.seen.failed_filters += u64::from(has_failed);
    }

    /// It says which rule made it, and is as that rule left it.
    fn check_copy(&self, body: Body, properties: &str) {
        let known = self.known(body);
        let copy = known.copy.as_ref();
        let color = known.sent.color.map(color_name);
        let color_is_right = match &color {
            Some(color) => properties.contains(color),
            None => !properties.contains(&color_name(0)[..6]),
        };
        assert!(color_is_right, "message {body} has a color other than {color:?}: {properties:?}");
        let by = copy.map(|copy| copy.cause);
        let named = |rule: u64| properties.contains(&name_of(rule));
        match by {
            Some(Cause::Rule(rule)) => {
                assert!(named(rule), "copy {body} of rule {rule} does not say so: {properties:?}");
            }
            Some(Cause::Plain | Cause::Failure) | None => {
                let is_new = copy.is_none_or(|copy| copy.marks.is_empty());
                assert!(
                    !is_new || !properties.contains("RuleName"),
                    "message {body} was changed by no rule: {properties:?}"
                );
            }
        }
    }

    /// Every copy has the number that the message got where it was taken in first.
    pub(super) fn taken_in_as(&mut self, body: Body, number: u64) {
        let root = self.known(body).copy.as_ref().map_or(body, |copy| copy.root);
        let queue = self.known(root).sent.queue;
        let owner = *self.owners.entry((queue, number)).or_insert(root);
        assert_eq!(owner, root, "two messages were taken in by {queue} as number {number}");
        if !self.state(root).numbers.contains(&(queue, number)) {
            self.change(root).numbers.push((queue, number));
        }
    }

    /// After a crash, when messages are what they were: what came and went is as it was, and so is what
    /// is due.
    pub(super) fn topics_crashed(&mut self, kept: Turn) {
        for (what, presence) in &mut self.topics.presences {
            assert!(presence.told <= kept, "the last change of {what:?} is lost");
            presence.value.roll_back(kept);
        }
        let here: Vec<Body> = self.live.iter().copied().collect();
        for body in here {
            let state = self.state(body);
            let is_underway = matches!(state.shelf, Shelf::Underway | Shelf::Nowhere);
            if !is_underway && self.known(body).copy.is_some() {
                self.has_come(body);
            } else if state.shelf == Shelf::Scheduled && self.is_topic(state.at.0) {
                let due = state.enqueued.0;
                if self.now < due {
                    self.await_due(body, due);
                } else {
                    let is_first = !self.topics.of_parent.contains_key(&body);
                    self.topics.due.insert(body);
                    self.reconsider(body, is_first);
                    // What queues remember of the copies was taken back, perhaps.
                    for copy in self.topics.of_parent.get(&body).cloned().unwrap_or_default() {
                        let of = self.known(copy).copy.as_ref().expect("it is a copy");
                        self.pass_over(copy, of.subscription);
                    }
                }
            }
        }
    }

    /// Whether a copy that nobody saw should have been there in the end.
    pub(super) fn must_have_come(&self, body: Body) -> bool {
        let known = self.known(body);
        let state = known.state.get();
        let Some(copy) = known.copy.as_ref().filter(|_| state.shelf == Shelf::Underway) else {
            return false;
        };
        let parent = self.state(copy.parent);
        if !state.is_sure
            || !parent.is_sure
            || matches!(parent.shelf, Shelf::Nowhere | Shelf::Underway)
        {
            return false;
        }
        let outcomes = self.outcomes(copy.parent, self.now);
        let ends = outcomes.iter().filter(|state| state.is_gone());
        let is_certain = ends.clone().count() != 0
            && ends.clone().all(|state| state.shelf == Shelf::Gone(End::Published));
        // It may have come and run out before anybody looked.
        is_certain && !self.outcomes(body, self.now).iter().any(State::is_gone)
    }

    /// Whether messages of different topics or rules look the same where they meet.
    pub(super) fn check_rules(&self) {
        for (queue, rules) in self.rules.iter().enumerate() {
            let Kind::Subscription { rules: all, is_fleeting, topic } = rules.kind else {
                continue;
            };
            assert!(self.is_topic(topic), "{queue} has no topic");
            let changes = is_fleeting || all.iter().any(|rule| rule.comes_and_goes);
            let is_fed = self.rules.iter().any(|rules| rules.forward_to == Some(topic));
            assert!(!changes || !is_fed, "what comes to topic {topic} by itself must be certain");
            assert!(!is_fleeting || rules.forward_to.is_none(), "{queue} comes and goes");
        }
    }
}

/// The rules that leave marks.
pub(super) fn actions(all: &[super::Rules]) -> Vec<u64> {
    let rules = all.iter().filter_map(|rules| match rules.kind {
        Kind::Subscription { rules, .. } => Some(rules),
        Kind::Queue | Kind::Topic => None,
    });
    rules.flatten().filter(|rule| rule.action.is_some()).map(|rule| rule.number).collect()
}
