//! Sending, and what is written on messages.

use peeklock_core::Command;
use smallvec::SmallVec;

use super::transactions::enlistment;
use super::{Asked, message};
use crate::model::{Body, Part, Sent};
use crate::workload::Workload;
use crate::world::World;

/// Ids of messages that share theirs with no other.
const OWN_ID: u64 = 1 << 32;

impl World {
    pub(super) fn send(&mut self, count: u64, workload: &Workload, transaction: Option<u64>) {
        let queue = self.draw_target();
        let mut bodies = Vec::new();
        let mut messages = SmallVec::new();
        for _ in 0..count {
            let (body, sent) = self.draw_message(queue, workload);
            messages.push(message::write(body, &sent, self.draws.index(workload.body_bytes_max)));
            bodies.push((body, sent));
        }
        self.model.sent(&bodies);
        let bodies = bodies.into_iter().map(|(body, _)| body).collect();
        let origin = self.ask(Asked::Send(bodies, transaction));
        let entity = self.entities[&(queue, Part::Main)];
        let transaction = transaction.map(enlistment);
        self.handle(Command::Send { origin, entity, messages, transaction });
    }

    /// What the sender of the next message writes on it.
    pub(super) fn draw_message(&mut self, queue: usize, workload: &Workload) -> (Body, Sent) {
        self.next_body += 1;
        let body = self.next_body;
        let words = workload.words;
        let rules = *self.model.rules(queue);
        let mut sent = Sent { queue, ..Sent::default() };
        if words.sessions != 0 && (rules.requires_session || !self.draws.once_in(5)) {
            sent.session = Some(self.draws.below(words.sessions));
        }
        if words.ids != 0 {
            // Senders to different queues share no ids.
            let shared = self.draws.below(words.ids) * self.queues as u64 + queue as u64;
            sent.message_id = Some(if self.draws.once_in(2) { OWN_ID + body } else { shared });
        }
        if self.draws.once_in(words.time_to_live_once_in) {
            sent.time_to_live = Some(200 + self.draws.below(8_000));
        }
        if words.colors != 0 {
            let color = self.draws.below(words.colors);
            sent.color = (!self.draws.once_in(5)).then_some(color);
            sent.weight = (!self.draws.once_in(8)).then(|| self.draws.below(7));
        }
        if self.draws.once_in(words.due_once_in) {
            sent.due = Some(self.draw_due());
        }
        (body, sent)
    }

    /// Mostly in the future, with many equal times, and now and then in the past.
    pub(super) fn draw_due(&mut self) -> u64 {
        (self.now / 500 + self.draws.below(24)) * 500
    }
}
