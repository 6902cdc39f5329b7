//! Scheduling, and thinking better of it.

use peeklock_core::{Command, SequenceNumber, TransactionId};

use super::{Asked, message};
use crate::model::Part;
use crate::workload::Workload;
use crate::world::World;

impl World {
    pub(super) fn schedule(&mut self, workload: &Workload, transaction: Option<u64>) {
        let queue = self.draw_target();
        let mut bodies = Vec::new();
        let mut messages = Vec::new();
        for _ in 0..=self.draws.below(3) {
            let (body, mut sent) = self.draw_message(queue, workload);
            sent.due = Some(self.draw_due());
            messages.push(message::write(body, &sent, self.draws.index(workload.body_bytes_max)));
            bodies.push((body, sent));
        }
        self.model.sent(&bodies);
        let bodies = bodies.into_iter().map(|(body, _)| body).collect();
        let origin = self.ask(Asked::Schedule(bodies, transaction));
        let entity = self.entities[&(queue, Part::Main)];
        let transaction = transaction.map(TransactionId);
        self.handle(Command::Schedule { origin, entity, messages, transaction });
    }

    pub(super) fn cancel(&mut self) {
        let Some((queue, body, number)) = self.draws.pick(&self.scheduled) else { return };
        let mut wanted = vec![(body, number)];
        if self.draws.once_in(3) {
            let others: Vec<_> = self
                .scheduled
                .iter()
                .filter(|other| other.0 == queue && other.1 != body)
                .map(|other| (other.1, other.2))
                .collect();
            wanted.extend(self.draws.pick(&others));
        }
        let sequences = wanted.iter().map(|(_, number)| SequenceNumber(*number)).collect();
        let could_be = self.model.can_be_cancelled(&wanted);
        let origin = self.ask(Asked::Cancel(queue, wanted, could_be));
        let entity = self.entities[&(queue, Part::Main)];
        self.handle(Command::CancelScheduled { origin, entity, sequences });
    }
}
