//! Giving the messages of sessions to those who hold them, and sessions to those who wait.

use super::super::read::Purpose;
use super::super::{Broker, Seat, queue_mut};
use crate::command::ReadRows;
use crate::effect::EffectKind;
use crate::id::{EntityId, ReadId};
use crate::queue::Queue;
use crate::queue::sessions::SessionSlot;
use crate::queue::sessions::paging::{PageRoom, Paged};

impl Broker {
    /// Lets a queue with sessions give out what it can, until so many messages have expired.
    pub(in crate::broker) fn give_out_sessions(&mut self, entity: EntityId, enough: u64) {
        if let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
            && queue.window.retry_at.is_none()
        {
            sessions.wake_starved();
        }
        loop {
            while let Some(slot) = self.take_changed_session(entity) {
                self.serve_session(entity, slot, enough);
            }
            let goes_on = self.counters.expired < enough && self.resume_session(entity);
            if !goes_on && !self.match_waiting(entity) {
                break;
            }
        }
        let Ok(queue) = self.queue(entity) else { return };
        let Some(sessions) = &queue.sessions else { return };
        let (any_released, any_waits) = (sessions.any_released(), sessions.waiting.len() > 0);
        if any_released {
            self.with_queue(entity, Queue::forget_released);
        }
        if any_waits {
            self.plan_sweep(entity);
        }
    }

    fn take_changed_session(&mut self, entity: EntityId) -> Option<SessionSlot> {
        queue_mut(&mut self.queues, entity)?.sessions.as_mut()?.take_changed()
    }

    /// Goes on with a session that was left off. Says whether there was one.
    fn resume_session(&mut self, entity: EntityId) -> bool {
        let sessions =
            queue_mut(&mut self.queues, entity).and_then(|queue| queue.sessions.as_mut());
        sessions.is_some_and(|sessions| sessions.resume())
    }

    fn serve_session(&mut self, entity: EntityId, slot: SessionSlot, enough: u64) {
        while self.counters.expired < enough
            && let Ok(queue) = self.queue(entity)
            && let Some(sequence) = queue.next_in_session(slot)
            && let Some(sessions) = &queue.sessions
            && let Some(holder) = &sessions.record(slot).holder
        {
            let (receiver, mode) = (holder.receiver, holder.mode);
            self.deliver(entity, sequence, receiver, mode, Seat::Session(slot));
        }
        let (read, memory) = (ReadId(self.next_read), self.memory);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let room = queue.session_page_room(&self.settings, memory);
        let is_left_off = queue.next_in_session(slot).is_some();
        let Some(sessions) = &mut queue.sessions else { return };
        if is_left_off {
            sessions.pause(slot);
        } else {
            if let Some(request) = sessions.plan_page(entity, slot, read, &self.settings, room) {
                self.counters.pages_read += 1;
                self.start_read(request, Purpose::SessionPage(entity, slot));
            }
            self.answer_drained_session(entity, slot);
        }
        self.with_queue(entity, |queue| queue.session_looked_at(slot));
    }

    fn answer_drained_session(&mut self, entity: EntityId, slot: SessionSlot) {
        let drained = queue_mut(&mut self.queues, entity)
            .and_then(|queue| queue.sessions.as_mut()?.take_drained(slot));
        if let Some((receiver, after)) = drained {
            self.emit(after, EffectKind::Drained { receiver });
        }
    }

    /// Gives a session to who has waited longest, if there is one. Says whether it did.
    fn match_waiting(&mut self, entity: EntityId) -> bool {
        let found = queue_mut(&mut self.queues, entity).and_then(|queue| {
            let sessions = queue.sessions.as_mut()?;
            let (wait, session) = sessions.first_match()?;
            let session = session.clone();
            Some((sessions.waiting.remove(wait)?, session))
        });
        let Some((waiter, session)) = found else { return false };
        self.hold_session(entity, session, waiter);
        true
    }

    fn plan_sweep(&mut self, entity: EntityId) {
        let (read, memory) = (ReadId(self.next_read), self.memory);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let may_read = queue.session_page_room(&self.settings, memory) != PageRoom::Closed;
        let Some(sessions) = &mut queue.sessions else { return };
        if let Some(request) = sessions.plan_sweep(entity, read, &self.settings, may_read) {
            self.counters.pages_read += 1;
            self.start_read(request, Purpose::Sweep(entity));
        }
    }

    pub(in crate::broker) fn sweep_done(
        &mut self,
        entity: EntityId,
        read: ReadId,
        rows: Option<ReadRows>,
    ) {
        if rows.is_none() {
            self.retry_reads(entity);
        }
        let found = rows.map(|rows| rows.scans.into_iter().next().unwrap_or_default());
        let settings = self.settings;
        self.with_queue(entity, |queue| {
            if let Some(sessions) = &mut queue.sessions {
                sessions.sweep_done(read, found, &settings);
            }
        });
        self.wake(entity);
    }

    pub(in crate::broker) fn session_page_done(
        &mut self,
        entity: EntityId,
        slot: SessionSlot,
        read: ReadId,
        rows: ReadRows,
    ) {
        let next = ReadId(self.next_read);
        let paged = self.with_queue(entity, |queue| queue.session_page_in(slot, read, next, rows));
        match paged {
            Some(Paged::Messages(request)) => {
                self.start_read(request, Purpose::SessionPage(entity, slot));
            }
            Some(Paged::Done { lost }) => {
                for (sequence, unreadable) in lost {
                    self.lose(entity, sequence, unreadable);
                }
            }
            None => {}
        }
        self.wake(entity);
    }

    pub(in crate::broker) fn session_page_failed(
        &mut self,
        entity: EntityId,
        slot: SessionSlot,
        read: ReadId,
    ) {
        self.retry_reads(entity);
        if let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(sessions) = &mut queue.sessions
        {
            sessions.page_failed(slot, read);
        }
        self.wake(entity);
    }
}
