//! Settling what is held, and fetching what was deferred.

use peeklock_core::{Command, ReceiveMode, SequenceNumber, Settlement};

use super::receiving::session_id;
use super::transactions::enlistment;
use super::{Asked, Held};
use crate::model::{At, Body, Part, Wish};
use crate::workload::Workload;
use crate::world::World;

impl World {
    fn draw_held(&mut self) -> Option<Held> {
        if self.held.is_empty() {
            return None;
        }
        let index = self.draws.index(self.held.len() as u64);
        Some(self.held.swap_remove(index))
    }

    fn draw_wish(&mut self, workload: &Workload) -> Wish {
        match self.draws.below(10) + u64::from(workload.defers) {
            0..=4 => Wish::Complete,
            5 | 6 => Wish::Abandon,
            7 | 8 => Wish::Release,
            9 => Wish::DeadLetter,
            _ => Wish::Defer,
        }
    }

    pub(super) fn settle_by_draw(&mut self, workload: &Workload) {
        if let Some(held) = self.draw_held() {
            let wish = self.draw_wish(workload);
            self.settle(held, wish, None);
        }
    }

    /// Several of one entity, all or none.
    pub(super) fn settle_many(&mut self, workload: &Workload) {
        let Some(first) = self.draw_held() else { return };
        let (mut several, others) =
            self.held.drain(..).partition::<Vec<_>, _>(|held| held.entity == first.entity);
        self.held = others;
        self.held.extend(several.drain(several.len().min(3)..));
        several.push(first);
        let wish = match self.draw_wish(workload) {
            Wish::Release => Wish::Complete,
            wish => wish,
        };
        let tokens = several.iter().map(|held| held.token).collect();
        let origin = self.ask(Asked::Settle(several, wish, None));
        self.handle(Command::UpdateDisposition {
            origin,
            entity: first.entity,
            tokens,
            settlement: settlement(wish),
            session: first.session.map(session_id),
            transaction: None,
        });
    }

    pub(crate) fn settle(&mut self, held: Held, wish: Wish, transaction: Option<u64>) {
        let asked = Asked::Settle(vec![held], wish, transaction);
        self.settle_as(asked, held, wish, transaction);
    }

    fn settle_as(&mut self, asked: Asked, held: Held, wish: Wish, transaction: Option<u64>) {
        let origin = Some(self.ask(asked));
        let Held { entity, token, .. } = held;
        let transaction = transaction.map(enlistment);
        let settlement = settlement(wish);
        self.handle(Command::Settle { origin, entity, token, settlement, transaction });
    }

    /// A token from before a crash must do nothing.
    pub(super) fn settle_stale(&mut self) {
        if let Some(held) = self.draws.pick(&self.lost) {
            self.settle_as(Asked::Stale, held, Wish::Complete, None);
        }
    }

    pub(super) fn renew(&mut self) {
        let plain: Vec<Held> =
            self.held.iter().filter(|held| held.session.is_none()).copied().collect();
        let Some(held) = self.draws.pick(&plain) else { return };
        let origin = self.ask(Asked::Renew(held));
        let (entity, tokens) = (held.entity, vec![held.token]);
        self.handle(Command::RenewLocks { origin, entity, tokens });
    }

    /// Asks for one or two deferred messages of one place, mostly ones that are there.
    pub(super) fn fetch(&mut self) {
        let Some((body, at, number, session)) = self.draws.pick(&self.deferred) else { return };
        let mut wanted = vec![(body, number)];
        let others: Vec<(Body, u64)> = self
            .deferred
            .iter()
            .filter(|other| (other.1, other.3) == (at, session) && other.0 != body)
            .map(|other| (other.0, other.2))
            .collect();
        if self.draws.once_in(3) {
            wanted.extend(self.draws.pick(&others));
        }
        let mode = if self.draws.once_in(5) {
            ReceiveMode::ReceiveAndDelete
        } else {
            ReceiveMode::PeekLock
        };
        self.fetch_at(at, wanted, session, mode);
    }

    pub(crate) fn fetch_at(
        &mut self,
        at: At,
        wanted: Vec<(Body, u64)>,
        session: Option<u64>,
        mode: ReceiveMode,
    ) {
        let sequences = wanted.iter().map(|(_, number)| SequenceNumber(*number)).collect();
        let turn = self.model.turn + 1;
        let was = self.model.can_be_fetched(&wanted, at).then_some(turn);
        let Some(entity) = self.entities.get(&at).copied() else { return };
        let origin = self.ask(Asked::Fetch { at, wanted, session, was });
        let session = session.filter(|_| at.1 == Part::Main).map(session_id);
        self.handle(Command::ReceiveDeferred { origin, entity, sequences, mode, session });
    }
}

fn settlement(wish: Wish) -> Settlement {
    let changes = Vec::new();
    match wish {
        Wish::Complete => Settlement::Complete,
        Wish::Abandon => Settlement::Abandon { changes },
        Wish::Release => Settlement::Release,
        Wish::DeadLetter => Settlement::DeadLetter { reason: None, description: None, changes },
        Wish::Defer => Settlement::Defer { changes },
    }
}
