//! Taking messages out that are of no use any more.

use super::read::Purpose;
use super::schedule::DueMessages;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReadRequest;
use crate::id::{EntityId, ReadId, SequenceNumber};
use crate::queue::paging::PageRow;
use crate::queue::timers::{Timer, TimerKind};
use crate::queue::{Decision, Traces, Whereabouts};
use crate::rows;

impl Broker {
    /// Does what is due: expires what is in memory, but no more than so many, and begins to read what is
    /// not.
    pub(super) fn expire_due(&mut self, entity: EntityId, expiries_left: &mut usize) {
        let (now, settings) = (self.now, self.settings);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let timers = &mut queue.expiries;
        if timers.is_busy() || timers.first_at().is_none_or(|at| now < at) {
            return;
        }
        let due = timers.take_due(now, *expiries_left, settings.page_bytes_max);
        if due.is_empty() {
            self.plan_timers(entity, TimerKind::Expiry);
            return;
        }
        *expiries_left -= due.len();
        let mut on_disk = DueMessages::new();
        for (timer, size) in due {
            let Ok(queue) = self.queue(entity) else { return };
            match queue.whereabouts(timer.sequence) {
                Whereabouts::Ready => self.expire(entity, timer.sequence),
                Whereabouts::Held | Whereabouts::Gone => {}
                Whereabouts::Disk => on_disk.push((timer, size)),
            }
        }
        if !on_disk.is_empty() {
            self.read_expired(entity, on_disk);
        }
    }

    fn read_expired(&mut self, entity: EntityId, due: DueMessages) {
        let read = ReadId(self.next_read);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        queue.expiries.begin_work(read);
        let mut request = ReadRequest::default();
        for (Timer { sequence, .. }, _) in &due {
            queue.watch.begin(*sequence, read);
            request.gets.extend(rows::active_gets(entity, *sequence));
        }
        self.start_read(request, Purpose::Expiry(entity, due));
    }

    /// Takes out what was read because it is over, and is as it was.
    pub(super) fn expired_read(
        &mut self,
        entity: EntityId,
        read: ReadId,
        due: DueMessages,
        gets: Vec<Option<bytes::Bytes>>,
    ) {
        let mut gets = gets.into_iter();
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.expiries.end_work(read);
        }
        for (timer, size) in due {
            let [row, mark, section] = [(); 3].map(|()| gets.next().flatten());
            let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
            let is_untouched = queue.watch.end(timer.sequence, read);
            if !is_untouched {
                queue.expiries.recall(timer, size);
                continue;
            }
            // Without a row the message is gone: it was a due time that lingered.
            let Some(row) = row else { continue };
            let row = PageRow::from_rows(timer.sequence, size, Some(row), mark.as_ref(), section);
            let traces = Traces { expires_at: Some(timer.at), ..row.traces };
            self.set_apart(entity, row, traces, None);
            self.expire(entity, timer.sequence);
        }
        self.wake(entity);
    }

    pub(super) fn expired_unread(&mut self, entity: EntityId, read: ReadId, due: DueMessages) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            for (timer, size) in due {
                queue.watch.end(timer.sequence, read);
                queue.expiries.recall(timer, size);
            }
        }
        self.timers_failed(entity, TimerKind::Expiry, read);
    }

    /// A message that is in memory, and that nobody holds, is of no use any more.
    pub(super) fn expire(&mut self, entity: EntityId, sequence: SequenceNumber) {
        let Ok(queue) = self.queue(entity) else { return };
        let stands_apart = queue.stands_apart(sequence);
        match queue.decide_expired(sequence) {
            Decision::Change(change) => {
                self.count_expired(entity);
                self.commit(&change);
            }
            // It was read a moment ago, so its row is damaged.
            Decision::BodyMissing if stands_apart => {
                self.counters.damaged += 1;
                self.commit(&Change::Lost { entity, sequence, row_exists: true });
            }
            Decision::BodyMissing => {
                if let Some(queue) = queue_mut(&mut self.queues, entity) {
                    queue.condemn(sequence);
                }
                self.wake(entity);
            }
        }
    }
}
