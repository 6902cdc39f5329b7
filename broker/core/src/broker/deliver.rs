//! Giving messages to the receivers that want them.

use peeklock_storage::CommitPosition;

use super::{Broker, Seat, queue_mut};
use crate::change::Change;
use crate::command::ReceiveMode;
use crate::effect::{Delivery, EffectKind, MessageLock, MessageState};
use crate::entity::counters::DeadLetterReason;
use crate::id::{EntityId, ReceiverId, SequenceNumber};
use crate::queue::receiver::Slot;
use crate::queue::{Decision, Offer, Queue};

/// Who gets what.
struct Match {
    sequence: SequenceNumber,
    slot: Slot,
    receiver: ReceiverId,
    mode: ReceiveMode,
}

impl Broker {
    /// Lets every queue that was touched give out what it can.
    pub(super) fn give_out(&mut self) {
        while let Some(entity) = self.touched.pop() {
            self.bury_doomed(entity);
            self.forward_held(entity);
            let is_done = self.give_to_receivers(entity);
            self.plan_reads(entity);
            self.serve_browsers(entity);
            if is_done {
                // Not while something is read for those who drain.
                self.answer_drained(entity);
            }
            self.plan_deadline(entity);
        }
    }

    /// What is over is taken out on the way. After too much of it the queue goes on when it is looked
    /// at next, which is due at once, so that others get their turn. Says whether it was not too much.
    fn give_to_receivers(&mut self, entity: EntityId) -> bool {
        let Ok(queue) = self.queue(entity) else { return false };
        let (has_sessions, is_paused) = (queue.has_sessions(), queue.go_on_at.is_some());
        let may_expire = if is_paused { 0 } else { self.settings.expiries_max as u64 };
        let enough = self.counters.expired + may_expire;
        if has_sessions {
            self.give_out_sessions(entity, enough);
        }
        while self.counters.expired < enough
            && let Some(found) = self.next_match(entity)
        {
            let Match { sequence, slot, receiver, mode } = found;
            self.deliver(entity, sequence, receiver, mode, Seat::Round(slot));
        }
        let is_done = self.counters.expired < enough;
        if !is_done && let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.go_on_at.get_or_insert(self.now);
        }
        is_done
    }

    pub(super) fn deliver(
        &mut self,
        entity: EntityId,
        sequence: SequenceNumber,
        receiver: ReceiverId,
        mode: ReceiveMode,
        seat: Seat,
    ) {
        let position = self.open_position();
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let content = queue.content(sequence).expect("what is offered has a body");
        if content.expires_at.is_some_and(|at| at <= self.now) {
            return self.expire(entity, sequence);
        }
        let (after, lock) = match mode {
            ReceiveMode::PeekLock => {
                let until = queue.lock_end(self.now, seat);
                let lock = MessageLock { token: self.ids.lock_token(), until };
                (content.visible_after, Some(lock))
            }
            // Once given it is gone, so it is given only when it is gone.
            ReceiveMode::ReceiveAndDelete => (position, None),
        };
        let after = queue.note_given(seat, content.message.size(), after);
        queue.accessed_at = self.now;
        match lock {
            Some(lock) => self.commit(&Change::Locked { entity, sequence, lock }),
            None => self.commit(&Change::Removed { entity, sequence }),
        }
        self.count_delivery(entity, lock.is_none());
        let dead_letter_source = self.dead_letter_source(&content.message);
        let delivery = Delivery {
            entity,
            sequence,
            message: content.message,
            attempts: content.attempts,
            lock,
            application_properties: content.application_properties,
            state: MessageState::Active,
            dead_letter_source,
        };
        self.emit(after, EffectKind::Deliver { receiver, delivery });
    }

    /// Moves messages that were tried too often, as far as their bodies are in memory.
    fn bury_doomed(&mut self, entity: EntityId) {
        while let Ok(queue) = self.queue(entity)
            && let Some(sequence) = queue.next_doomed()
        {
            match queue.decide_doomed(self.now, sequence) {
                Decision::Change(change) => {
                    if !is_failure(&change) {
                        self.count_expired(entity);
                    }
                    self.commit(&change);
                }
                Decision::BodyMissing => return,
            }
        }
    }

    fn next_match(&mut self, entity: EntityId) -> Option<Match> {
        let queue = queue_mut(&mut self.queues, entity)?;
        if queue.receivers.any_selecting() {
            return self.with_queue(entity, next_match_of_any).flatten();
        }
        next_match(queue)
    }

    fn answer_drained(&mut self, entity: EntityId) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        for (receiver, after) in queue.take_drained() {
            self.emit(after.max(CommitPosition(0)), EffectKind::Drained { receiver });
        }
        self.answer_drained_browsers(entity);
    }
}

/// Whether what is doomed leaves because it was tried too often, and not because its time is over.
const fn is_failure(change: &Change) -> bool {
    matches!(change, Change::DeadLettered { reason: DeadLetterReason::MaxDeliveryCount, .. })
}

fn next_match(queue: &mut Queue) -> Option<Match> {
    // Most often nobody waits, and then it need not be known what is next.
    let (slot, receiver) = queue.receivers.next()?;
    let (receiver, mode) = (receiver.id, receiver.mode);
    let Offer::Message(sequence) = queue.offer() else { return None };
    Some(Match { sequence, slot, receiver, mode })
}

/// The same where some want only certain messages.
fn next_match_of_any(queue: &mut Queue) -> Option<Match> {
    let (sequence, slot) = queue.next_for_anybody()?;
    let (receiver, mode) = (queue.receivers.id(slot), queue.receivers.mode(slot));
    Some(Match { sequence, slot, receiver, mode })
}
