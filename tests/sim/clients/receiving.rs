//! Receivers, their demand, and looking at messages.

use peeklock_core::{
    Command, MessageSessionId, ReceiveMode, ReceiverId, SequenceNumber, SessionRequest, Span,
    Timestamp,
};

use super::{Asked, Receiver, Standing, Wanted, message};
use crate::model::{At, Browse, Part};
use crate::workload::Workload;
use crate::world::World;

impl World {
    pub(super) fn demand_by_draw(&mut self, is_drain: bool) {
        if !self.receivers.is_empty() {
            let index = self.draws.index(self.receivers.len() as u64);
            let more = self.draws.below(8);
            self.demand(index, more, is_drain);
        }
    }

    pub(crate) fn demand(&mut self, index: usize, more: u64, is_drain: bool) {
        let receiver = &mut self.receivers[index];
        if receiver.standing == Standing::Opening {
            return;
        }
        receiver.limit = receiver.given + more;
        receiver.limit_max = receiver.limit_max.max(receiver.limit);
        receiver.drain_limit = is_drain.then_some(receiver.limit);
        let (id, limit) = (receiver.id, receiver.limit);
        if is_drain {
            self.handle(Command::Drain { receiver: id, limit });
            // The answer is to this, and not to what is asked for next.
            self.turn();
        } else {
            self.handle(Command::Demand { receiver: id, limit });
        }
    }

    pub(crate) fn open_receiver(&mut self, workload: &Workload) {
        let part = if self.draws.once_in(4) { Part::DeadLetter } else { Part::Main };
        let queue = self.draw_holder();
        let rules = *self.model.rules(queue);
        if part == Part::Main && rules.forward_to.is_some() {
            return;
        }
        let mode = if workload.takes && self.draws.once_in(6) {
            ReceiveMode::ReceiveAndDelete
        } else {
            ReceiveMode::PeekLock
        };
        let wanted = if part != Part::Main || !rules.requires_session {
            Wanted::NoSession
        } else if self.draws.once_in(2) {
            Wanted::Session(self.draws.below(workload.words.sessions))
        } else {
            Wanted::NextSession(self.now + self.draws.below(3_000))
        };
        self.open_receiver_at((queue, part), mode, wanted);
    }

    pub(crate) fn open_receiver_at(&mut self, at: At, mode: ReceiveMode, wanted: Wanted) {
        self.next_receiver += 1;
        let id = ReceiverId { connection: self.starts, link: self.next_receiver };
        let origin = self.ask(Asked::Receiver(id));
        let session = match wanted {
            Wanted::NoSession => None,
            Wanted::Session(session) => Some(SessionRequest::Named(session_id(session))),
            Wanted::NextSession(until) => {
                let wait = Span(until.saturating_sub(self.now));
                Some(SessionRequest::NextAvailable { wait })
            }
        };
        self.receivers.push(Receiver {
            id,
            at,
            mode,
            wanted,
            asked: (self.now, self.model.turn + 1),
            session: None,
            standing: Standing::Opening,
            given: 0,
            limit: 0,
            drain_limit: None,
            limit_max: 0,
        });
        let path = self.path(at);
        self.handle(Command::OpenReceiver { origin, receiver: id, path, mode, session });
    }

    pub(super) fn close_receiver(&mut self) {
        // What was decided before must be known before.
        self.turn();
        let open: Vec<usize> = (0..self.receivers.len())
            .filter(|index| self.receivers[*index].standing != Standing::Closed)
            .collect();
        if 1 < open.len()
            && let Some(index) = self.draws.pick(&open)
        {
            self.close_receiver_at(index);
        }
    }

    pub(crate) fn close_receiver_at(&mut self, index: usize) {
        let receiver = &mut self.receivers[index];
        if receiver.standing == Standing::Opening && receiver.session.is_none() {
            self.model.seen.withdrawn += 1;
        }
        receiver.standing = Standing::Closed;
        let id = receiver.id;
        self.model.session_closed(id.link);
        self.handle(Command::CloseReceiver { receiver: id });
    }

    pub(super) fn delete_batch(&mut self) {
        let at = (self.draw_holder(), Part::Main);
        let count_max = 1 + u32::try_from(self.draws.below(20)).expect("a few");
        let before = self.now.saturating_sub(self.draws.below(2_000));
        self.model.asked_to_delete(at, count_max, before);
        let origin = self.ask(Asked::DeleteBatch(at, count_max));
        let (entity, before) = (self.entities[&at], Timestamp(before));
        self.handle(Command::DeleteBatch { origin, entity, count_max, before, session: None });
    }

    pub(super) fn browse(&mut self, workload: &Workload) {
        let queue = self.draw_known();
        let is_dead = self.draws.once_in(3) && !self.model.is_topic(queue);
        let part = if is_dead { Part::DeadLetter } else { Part::Main };
        let at = (queue, part);
        let from = self.draws.below(self.next_body.max(1));
        let has_sessions = part == Part::Main && self.model.rules(at.0).requires_session;
        let session = (has_sessions && self.draws.once_in(2))
            .then(|| self.draws.below(workload.words.sessions));
        let (asked_at, asked_in) = (self.now, self.model.turn + 1);
        let origin = self.ask(Asked::Browse(Browse { at, from, session, asked_at, asked_in }));
        let (entity, from) = (self.entities[&at], SequenceNumber(from));
        let (count_max, bytes_max) = (20, 1 << 20);
        let session = session.map(session_id);
        self.handle(Command::Browse { origin, entity, from, count_max, bytes_max, session });
    }
}

pub(super) fn session_id(session: u64) -> MessageSessionId {
    MessageSessionId::new(&message::session_name(session)).expect("a short name")
}
