//! Messages that are taken in.

use super::duplicates::Verdict;
use super::state::Durable;
use super::{Body, End, Known, Model, Sent, Shelf, State};

impl Model {
    /// A client asked to take these in, all or none.
    pub(crate) fn sent(&mut self, bodies: &[(Body, Sent)]) {
        for (body, sent) in bodies {
            let state = Durable::new(State::new(sent.queue));
            let known = Known { sent: *sent, batch: bodies[0].0, state, told: None, copy: None };
            assert!(self.messages.insert(*body, known).is_none(), "a body number was used twice");
            self.live.insert(*body);
            if let Some(session) = sent.session {
                self.by_session.entry(session).or_default().push(*body);
            }
        }
    }

    pub(crate) fn accepted(&mut self, bodies: &[Body]) {
        for body in bodies {
            self.take_in(*body);
        }
    }

    /// Takes one in: now, or when its transaction is committed.
    pub(super) fn take_in(&mut self, body: Body) {
        self.seen.accepted += 1;
        let sent = self.known(body).sent;
        if self.drop_duplicate(body, sent.queue) {
            return;
        }
        let rank = self.next_rank;
        self.next_rank += 1;
        let now = self.now;
        let placed = self.placed(self.state(body).clone(), &sent, sent.queue, (now, now));
        let state = self.change_for_good(body);
        state.rank = Some(rank);
        state.since = now;
        if let Some(due) = sent.due.filter(|due| now < *due) {
            state.shelf = Shelf::Scheduled;
            state.enqueued = (due, due);
            state.since = due;
            self.seen.scheduled += 1;
            if self.is_topic(sent.queue) {
                self.await_due(body, due);
            }
        } else {
            let State { since, rank, changed, is_sure, .. } = *state;
            *state = State { since, rank, is_sure, changed, ..placed };
            if self.is_topic(sent.queue) {
                self.change(body).shelf = Shelf::Gone(End::Published);
                self.publish(body, sent.queue);
            }
        }
        self.send_ahead(body, sent.queue);
        self.pass_over(body, sent.queue);
    }

    /// The queues it is forwarded to drop duplicates too. When it comes there is known only about,
    /// so whether they drop it is not for certain.
    pub(super) fn pass_over(&mut self, body: Body, queue: usize) {
        let mut queue = queue;
        while let Some(next) = self.rules[queue].forward_to {
            if let Verdict::Maybe(other) | Verdict::Yes(other) =
                self.is_duplicate(next, self.known(body).sent.message_id)
                && other != body
            {
                // Either may come first.
                self.change(body).is_sure = false;
                let is_underway = self.state(other).at.0 == queue && !self.state(other).is_gone();
                if is_underway {
                    self.change(other).is_sure = false;
                }
            }
            self.remember(body, next, true);
            queue = next;
        }
    }

    /// Drops the message if the queue remembers its id, and else remembers it.
    fn drop_duplicate(&mut self, body: Body, queue: usize) -> bool {
        match self.is_duplicate(queue, self.known(body).sent.message_id) {
            Verdict::No => self.remember(body, queue, false),
            Verdict::Maybe(_) => {
                self.change(body).is_sure = false;
                self.remember(body, queue, true);
            }
            Verdict::Yes(original) => {
                self.seen.duplicates += 1;
                // Nothing is written for it, so it is told on the word of the original.
                self.change(body).shelf = Shelf::Gone(End::DuplicateOf(original));
                return true;
            }
        }
        false
    }
}
