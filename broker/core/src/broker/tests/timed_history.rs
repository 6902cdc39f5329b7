//! What histories do with messages that have a time, or are set aside.

use bytes::Bytes;
use peeklock_storage::{Key, Table};

use super::timed::{due_message, mortal_message};
use super::{Asked, History, Known};
use crate::command::{Command, ReceiveMode};
use crate::effect::{Delivery, Reply};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::Shelf;
use crate::queue::timers::{Timer, TimerKind};
use crate::rows;
use crate::testing::body_of;
use crate::time::Span;

impl History {
    pub(super) fn step_in_time(&mut self) {
        match self.dice.below(6) {
            0 => self.schedule(),
            1 => self.cancel(),
            2 => self.send_mortals(),
            3 => self.delete_batch(),
            _ => self.ask_for_deferred(),
        }
    }

    fn schedule(&mut self) {
        let (_, entity) = self.queues[self.dice.below(self.queues.len())];
        let bodies: Vec<_> = (0..=self.dice.below(3)).map(|n| self.next_body + n as u64).collect();
        self.next_body += bodies.len() as u64;
        let messages = bodies.iter().map(|body| {
            self.model.insert(*body, Known::Sent);
            let due = self.world.now.plus(Span(self.dice.below(800) as u64));
            due_message(due, &format!("{body} due"))
        });
        let messages = messages.collect();
        let origin = self.world.origin();
        self.asked.insert(origin, Asked::Send(bodies));
        self.world.handle(Command::Schedule { origin, entity, messages, transaction: None });
    }

    /// They may be gone any time, so nothing is known of them but that they must not come back.
    fn send_mortals(&mut self) {
        let (_, entity) = self.queues[self.dice.below(self.queues.len())];
        let messages = (0..=self.dice.below(3)).map(|_| {
            let body = self.next_body;
            self.next_body += 1;
            self.model.insert(body, Known::Unknown);
            mortal_message(Span(1 + self.dice.below(600) as u64), &format!("{body} mortal"))
        });
        let messages = messages.collect();
        let origin = self.world.origin();
        self.asked.insert(origin, Asked::Other);
        self.world.handle(Command::Send { origin, entity, messages, transaction: None });
    }

    /// Any message may go, on its way or not, so that nothing is known of them any more; which is why
    /// only some histories do this.
    fn delete_batch(&mut self) {
        if !self.deletes || self.dice.percent(80) {
            return;
        }
        for known in self.model.values_mut() {
            if matches!(known, Known::Sent | Known::Accepted) {
                *known = Known::Unknown;
            }
        }
        for asked in self.asked.values_mut() {
            if let Asked::Send(_) = asked {
                *asked = Asked::Other;
            }
        }
        let (_, entity) = self.queues[self.dice.below(self.queues.len())];
        let origin = self.world.origin();
        let count_max = [1, 2, 50][self.dice.below(3)];
        let (before, session) = (self.world.now, None);
        self.asked.insert(origin, Asked::Other);
        self.world.handle(Command::DeleteBatch { origin, entity, count_max, before, session });
    }

    fn cancel(&mut self) {
        let Some((entity, chosen)) = self.choose(Shelf::Scheduled) else { return };
        let origin = self.world.origin();
        let (sequences, bodies): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        for body in &bodies {
            let known = self.model.get_mut(body).unwrap();
            if matches!(known, Known::Accepted | Known::Unknown) {
                *known = Known::Completing;
            }
        }
        self.asked.insert(origin, Asked::Complete(bodies));
        self.world.handle(Command::CancelScheduled { origin, entity, sequences });
    }

    fn ask_for_deferred(&mut self) {
        let Some((entity, chosen)) = self.choose(Shelf::Deferred) else { return };
        let origin = self.world.origin();
        let sequences = chosen.into_iter().map(|(sequence, _)| sequence).collect();
        let mode = [ReceiveMode::PeekLock, ReceiveMode::ReceiveAndDelete]
            [usize::from(self.dice.percent(20))];
        self.asked.insert(origin, Asked::Other);
        let session = None;
        self.world.handle(Command::ReceiveDeferred { origin, entity, sequences, mode, session });
    }

    /// One or two messages of one entity that are set aside, with their bodies.
    fn choose(&mut self, shelf: Shelf) -> Option<(EntityId, Vec<(SequenceNumber, u64)>)> {
        let all = self.set_aside(shelf);
        let (entity, ..) = *all.get(self.dice.below(all.len().max(1)))?;
        let of_entity = all.into_iter().filter(|(of, ..)| *of == entity);
        let count = 1 + self.dice.below(2);
        let chosen = of_entity.map(|(_, sequence, body)| (sequence, body)).take(count);
        Some((entity, chosen.collect()))
    }

    fn set_aside(&self, shelf: Shelf) -> Vec<(EntityId, SequenceNumber, u64)> {
        let mut found = Vec::new();
        for ((table, key), row) in &self.world.rows {
            let entity = EntityId(key.reader().u32().unwrap());
            let Some(sequence) = rows::sequence_of(key).filter(|_| *table == Table::Message) else {
                continue;
            };
            if *key == rows::shelf_key(entity, shelf, sequence) {
                let message = StoredMessage::from_row(row.clone()).unwrap();
                let text = std::str::from_utf8(body_of(message.bytes())).unwrap();
                found.push((entity, sequence, text.split(' ').next().unwrap().parse().unwrap()));
            }
        }
        found
    }

    /// Takes out everything that is deferred.
    pub(super) fn take_deferred(&mut self) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for (entity, sequence, _) in self.set_aside(Shelf::Deferred) {
            let (mode, sequences) = (ReceiveMode::ReceiveAndDelete, vec![sequence]);
            let session = None;
            match self.world.ask(|origin| Command::ReceiveDeferred {
                origin,
                entity,
                sequences,
                mode,
                session,
            }) {
                Ok(Reply::DeferredReceived { deliveries }) => taken.extend(deliveries),
                // It had failed too often, and is with the dead letters now.
                Err(Error::MessageNotFound(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        taken
    }
}

/// Where the due time of a scheduled message is.
pub(super) fn due_key(entity: EntityId, sequence: SequenceNumber, row: &Bytes) -> Key {
    let at = StoredMessage::from_row(row.clone()).unwrap().enqueued_at();
    rows::timer_key(entity, TimerKind::Activation, Timer { at, sequence })
}

/// Where the due time of a message that expires is.
pub(super) fn expiry_key(entity: EntityId, sequence: SequenceNumber, row: &Bytes) -> Option<Key> {
    let at = StoredMessage::from_row(row.clone()).unwrap().header().expires_at?;
    Some(rows::timer_key(entity, TimerKind::Expiry, Timer { at, sequence }))
}
