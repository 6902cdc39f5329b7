//! Giving messages to receivers that want only certain ones, as far as the store has to be read for
//! it. What is wanted, and how far was looked, is the queue's (`queue/selecting.rs`).

use bytes::Bytes;
use peeklock_storage::{CommitPosition, StoreError};

use super::read::Purpose;
use super::{Broker, Seat, queue_mut};
use crate::command::{ReadRows, ReceiveMode};
use crate::effect::EffectKind;
use crate::id::{EntityId, ReadId, ReceiverId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::paging::{PageRow, assemble, bodies_request, fill_bodies};
use crate::queue::receiver::Slot;
use crate::queue::selecting::{GroupId, SelectionPlan};
use crate::queue::{Decision, Traces};

impl Broker {
    /// Asks for what receivers with selectors have to look at next.
    pub(super) fn plan_selection(&mut self, entity: EntityId) {
        let (sees, read) = (self.open_position(), ReadId(self.next_read));
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let before = queue.memory();
        let planned = queue.plan_selection(self.now, sees, &self.settings);
        if let Some((plan, _)) = &planned {
            queue.begin_selection(read, plan);
        }
        self.memory = self.memory - before + queue.memory();
        if let Some((plan, request)) = planned {
            self.counters.pages_read += u64::from(matches!(plan, SelectionPlan::Page(_)));
            self.start_read(request, Purpose::Selection(entity, plan));
        }
    }

    pub(super) fn selection_read(
        &mut self,
        entity: EntityId,
        read: ReadId,
        plan: SelectionPlan,
        result: Result<ReadRows, StoreError>,
    ) {
        let settings = self.settings;
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        match (plan, result) {
            (SelectionPlan::Page(range), Ok(rows)) => {
                let topic = queue.shares_with();
                let (rows_max, bytes_max) = (settings.page_rows_max, settings.page_bytes_max);
                let page = assemble(rows, &range, topic, rows_max, bytes_max);
                let request = bodies_request(&page.rows);
                if !request.gets.is_empty() {
                    let plan = SelectionPlan::PageBodies(range, Box::new(page));
                    return self.start_read(request, Purpose::Selection(entity, plan));
                }
                queue.look_at_selection(&range, &page);
            }
            (SelectionPlan::PageBodies(range, mut page), Ok(rows)) => {
                fill_bodies(&mut page.rows, rows.gets);
                queue.look_at_selection(&range, &page);
            }
            (SelectionPlan::Bodies(plan), Ok(rows)) => self.restore_bodies(entity, plan, rows),
            (SelectionPlan::Rows(group, sequences), Ok(rows)) => {
                for row in rows.scans.iter().flatten() {
                    let run = crate::rows::read_run(&row.1);
                    if let (Some(first), Some(run)) = (crate::rows::sequence_of(&row.0), run) {
                        queue.load_run(first, run);
                    }
                }
                self.give_selected(entity, read, group, sequences, rows.gets);
            }
            (SelectionPlan::Rows(_, sequences), Err(_)) => {
                for (sequence, _) in sequences {
                    queue.watch.end(sequence, read);
                }
                self.retry_reads(entity);
            }
            (
                SelectionPlan::Page(_) | SelectionPlan::PageBodies(..) | SelectionPlan::Bodies(_),
                Err(_),
            ) => self.retry_reads(entity),
        }
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            queue.end_selection();
        }
        self.wake(entity);
    }

    /// Delivers what was read, as far as it is as it was and somebody of the group still wants it.
    fn give_selected(
        &mut self,
        entity: EntityId,
        read: ReadId,
        group: GroupId,
        sequences: Vec<(SequenceNumber, Option<EntityId>)>,
        gets: Vec<Option<Bytes>>,
    ) {
        let mut gets = gets.into_iter();
        for (sequence, shared) in sequences {
            let [row, mark, section] = [(); 3].map(|()| gets.next().flatten());
            let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
            let is_untouched = queue.watch.end(sequence, read);
            let is_gone = shared.is_some() && !queue.is_in_run(sequence);
            let Some(row) = row.filter(|_| !is_gone) else {
                queue.drop_candidate(group, sequence);
                continue;
            };
            if !is_untouched {
                continue;
            }
            let size = StoredMessage::size_of_row(&row);
            let mut row = PageRow::from_rows(sequence, size, Some(row), mark.as_ref(), section);
            row.traces.shared = shared;
            let Some((slot, receiver)) = queue.who_wants(group, &row) else { continue };
            let mode = queue.receivers.mode(slot);
            self.give_row(entity, row, slot, receiver, mode);
        }
    }

    fn give_row(
        &mut self,
        entity: EntityId,
        row: PageRow,
        slot: Slot,
        receiver: ReceiverId,
        mode: ReceiveMode,
    ) {
        let (now, sequence) = (self.now, row.sequence);
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let expires_at = row.body.as_ref().and_then(|body| queue.expiry_of(&body.message));
        let failed_too_often = queue.failed_too_often(Some(row.attempts));
        let traces = Traces { expires_at, ..row.traces };
        if failed_too_often || expires_at.is_some_and(|at| at <= now) {
            self.set_apart(entity, row, traces, None);
            let Ok(queue) = self.queue(entity) else { return };
            match queue.decide_doomed(now, sequence) {
                Decision::Change(change) if failed_too_often => {
                    self.commit(&change);
                }
                Decision::Change(_) | Decision::BodyMissing => self.expire(entity, sequence),
            }
            return;
        }
        // What was read is durable; what is taken out for good is given when it is gone.
        let after = match mode {
            ReceiveMode::PeekLock => CommitPosition(0),
            ReceiveMode::ReceiveAndDelete => self.open_position(),
        };
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        let bytes = row.body.as_ref().map_or(0, |body| body.message.size());
        let after = queue.note_given(Seat::Round(slot), bytes, after);
        queue.accessed_at = now;
        let delivery = self.give_one(entity, row, traces, mode, None);
        self.plan_deadline(entity);
        self.emit(after, EffectKind::Deliver { receiver, delivery });
    }
}
