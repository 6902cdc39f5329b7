//! Ending and prolonging locks.

use std::collections::BTreeSet;

use peeklock_storage::CommitPosition;

use super::Broker;
use super::read::{Parked, Purpose};
use crate::change::Change;
use crate::command::{ReadRequest, Settlement};
use crate::effect::{EffectKind, Reply};
use crate::error::Error;
use crate::id::{EntityId, LockToken, MessageSessionId, Origin};
use crate::queue::Decision;
use crate::queue::paging::BodyPlan;

impl Broker {
    pub(super) fn settle(
        &mut self,
        origin: Option<Origin>,
        entity: EntityId,
        token: LockToken,
        settlement: Settlement,
    ) {
        let decision = self
            .receivable(entity)
            .and_then(|queue| queue.decide_settle(self.now, token, &settlement));
        match decision {
            Ok(Decision::Change(change)) => {
                self.count_settlement(&change);
                self.commit(&change);
                self.answer_settle(origin, Ok(Reply::Settled));
            }
            Ok(Decision::BodyMissing) => {
                let tokens = vec![token];
                self.park_settlement(Parked { origin, entity, tokens, settlement });
            }
            Err(error) => self.answer_settle(origin, Err(error)),
        }
    }

    pub(super) fn update_disposition(
        &mut self,
        origin: Origin,
        entity: EntityId,
        tokens: Vec<LockToken>,
        settlement: Settlement,
    ) {
        if self.settings.tokens_max < tokens.len() {
            let error = Error::InvalidArgument("There are too many lock tokens.");
            self.answer_settle(Some(origin), Err(error));
            return;
        }
        // A lock named twice ends once.
        let tokens = tokens.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        self.settle_all(Parked { origin: Some(origin), entity, tokens, settlement });
    }

    /// Whether the session is held that a client says its locks belong to, if it does.
    pub(super) fn check_session(
        &self,
        entity: EntityId,
        session: Option<&MessageSessionId>,
    ) -> Result<(), Error> {
        let held = session.map(|session| self.queue(entity)?.session_held(self.now, session));
        held.unwrap_or(Ok(()))
    }

    /// All or none, at once or after reading.
    pub(super) fn settle_all(&mut self, wish: Parked) {
        let decide = |broker: &Broker| {
            let queue = broker.receivable(wish.entity)?;
            let decide =
                |token: &LockToken| queue.decide_settle(broker.now, *token, &wish.settlement);
            wish.tokens.iter().map(decide).collect::<Result<Vec<_>, Error>>()
        };
        let decisions = match decide(self) {
            Ok(decisions) => decisions,
            Err(error) => return self.answer_settle(wish.origin, Err(error)),
        };
        if decisions.iter().any(|decision| matches!(decision, Decision::BodyMissing)) {
            return self.park_settlement(wish);
        }
        for decision in decisions {
            if let Decision::Change(change) = decision {
                self.count_settlement(&change);
                self.commit(&change);
            }
        }
        self.answer_settle(wish.origin, Ok(Reply::Settled));
    }

    /// Sets a wish aside until the bodies it needs were read.
    fn park_settlement(&mut self, wish: Parked) {
        let mut plan = BodyPlan::new(self.open_position());
        let mut request = ReadRequest::default();
        let mut bytes = 0_u64;
        if let Ok(queue) = self.queue(wish.entity) {
            for token in &wish.tokens {
                let held = queue.lock_in_force(self.now, *token);
                if let Some(held) = held
                    && let Some(entry) = queue.entry(held.sequence)
                    && entry.body.is_none()
                {
                    plan.want(wish.entity, held.sequence, entry.traces, &mut request);
                    bytes = bytes.saturating_add(entry.size);
                }
            }
        }
        if wish.tokens.len() > 1 && self.settings.settle_bytes_max < bytes {
            let error = Error::ServerBusy("Please settle fewer messages at a time.");
            return self.answer_settle(wish.origin, Err(error));
        }
        let origin = wish.origin;
        if let Err(error) = self.start_client_read(request, Purpose::Settle(wish, plan)) {
            self.answer_settle(origin, Err(error));
        }
    }

    pub(super) fn renew_locks(
        &mut self,
        entity: EntityId,
        tokens: &[LockToken],
    ) -> Result<Reply, Error> {
        if self.settings.tokens_max < tokens.len() {
            return Err(Error::InvalidArgument("There are too many lock tokens."));
        }
        let queue = self.receivable(entity)?;
        if queue.has_sessions() {
            return Err(Error::NotAllowed(
                "A message of a session is locked as long as its session.",
            ));
        }
        let renewed = self.now.plus(queue.settings().lock_duration);
        // A lock taken when locks lasted longer does not get shorter by being renewed.
        let end = |token: &LockToken| {
            let held = queue.lock_in_force(self.now, *token).ok_or(Error::MessageLockLost)?;
            Ok(held.until.max(renewed))
        };
        let until = tokens.iter().map(end).collect::<Result<Vec<_>, Error>>()?;
        for (token, until) in tokens.iter().zip(&until) {
            self.commit(&Change::Renewed { entity, token: *token, until: *until });
        }
        self.plan_deadline(entity);
        Ok(Reply::Renewed { until })
    }

    pub(super) fn answer_settle(&mut self, origin: Option<Origin>, result: Result<Reply, Error>) {
        if let Some(to) = origin {
            let after = if result.is_ok() { self.open_position() } else { CommitPosition(0) };
            self.emit(after, EffectKind::Reply { to, result });
        }
    }

    pub(super) fn count_settlement(&mut self, change: &Change) {
        match change {
            Change::Removed { entity, .. } => {
                self.counters.completed += 1;
                self.tally(*entity, |tally| tally.completed += 1);
            }
            Change::Deferred { entity, .. } => {
                self.counters.deferred += 1;
                self.tally(*entity, |tally| tally.deferred += 1);
            }
            Change::Returned { entity, attempts: Some(_), .. } => {
                self.counters.abandoned += 1;
                self.tally(*entity, |tally| tally.abandoned += 1);
            }
            Change::Returned { attempts: None, .. } => self.counters.released += 1,
            // Counted when it is committed.
            Change::DeadLettered { .. } => {}
            Change::QueueCreated { .. }
            | Change::QueueDeleted { .. }
            | Change::SettingsChanged { .. }
            | Change::Accepted { .. }
            | Change::Passed { .. }
            | Change::BucketOpened { .. }
            | Change::Remembered { .. }
            | Change::BucketsForgotten { .. }
            | Change::OfTopic(_)
            | Change::Scheduled { .. }
            | Change::Unscheduled { .. }
            | Change::Fetched { .. }
            | Change::Locked { .. }
            | Change::Renewed { .. }
            | Change::Enlisted { .. }
            | Change::Withdrawn { .. }
            | Change::Lost { .. }
            | Change::OfSession { .. } => unreachable!("no settlement comes to this"),
        }
    }
}
