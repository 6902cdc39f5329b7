//! Sessions: renewing, keeping state, listing.

use bytes::Bytes;
use peeklock_core::{Command, Timestamp};

use super::receiving::session_id;
use super::{Asked, Standing};
use crate::model::{Listing, Part};
use crate::workload::Workload;
use crate::world::World;

impl World {
    /// A session somebody holds, as far as clients know.
    fn draw_session_held(&mut self) -> Option<(usize, u64)> {
        let held: Vec<(usize, u64)> = self
            .receivers
            .iter()
            .filter(|receiver| receiver.standing == Standing::Open)
            .filter_map(|receiver| Some((receiver.at.0, receiver.session?)))
            .collect();
        self.draws.pick(&held)
    }

    /// Mostly one somebody holds.
    fn draw_session(&mut self, workload: &Workload) -> Option<(usize, u64)> {
        if self.draws.once_in(8) {
            let queues: Vec<usize> = (0..self.queues)
                .filter(|queue| self.model.rules(*queue).requires_session)
                .collect();
            return Some((self.draws.pick(&queues)?, self.draws.below(workload.words.sessions)));
        }
        self.draw_session_held()
    }

    pub(super) fn renew_session(&mut self) {
        let Some((queue, session)) = self.draw_session_held() else { return };
        let origin = self.ask(Asked::RenewSession(queue, session));
        let entity = self.entities[&(queue, Part::Main)];
        self.handle(Command::RenewSessionLock { origin, entity, session: session_id(session) });
    }

    pub(super) fn set_state(&mut self, workload: &Workload) {
        let Some((queue, session)) = self.draw_session(workload) else { return };
        let octets = self.draws.below(4);
        let state = (octets != 0).then(|| Bytes::from(self.draws.draw().to_be_bytes().to_vec()));
        let origin = self.ask(Asked::SetState(queue, session, state.clone()));
        let entity = self.entities[&(queue, Part::Main)];
        let session = session_id(session);
        self.handle(Command::SetSessionState { origin, entity, session, state });
    }

    pub(super) fn get_state(&mut self, workload: &Workload) {
        // What was decided before must be known before: whether the session is held.
        self.turn();
        let Some((queue, session)) = self.draw_session(workload) else { return };
        let asked = (self.model.turn + 1, self.model.is_held(queue, session));
        let origin = self.ask(Asked::GetState(queue, session, asked));
        let entity = self.entities[&(queue, Part::Main)];
        self.handle(Command::GetSessionState { origin, entity, session: session_id(session) });
    }

    pub(super) fn list_sessions(&mut self) {
        let queue = self.draw_holder();
        if !self.model.rules(queue).requires_session {
            return;
        }
        let updated_after =
            self.draws.once_in(3).then(|| self.now.saturating_sub(self.draws.below(10_000)));
        let asked_in = self.model.turn + 1;
        let origin = self.ask(Asked::List(Listing { queue, updated_after, asked_in }));
        let entity = self.entities[&(queue, Part::Main)];
        let updated_after = updated_after.map(Timestamp);
        let (skip, count_max) = (0, 1000);
        self.handle(Command::ListSessions { origin, entity, updated_after, skip, count_max });
    }
}
