//! What a settlement, or a lock's end, comes to.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_protocol::message::merge_application_properties;
use peeklock_protocol::value::{Str, Value};

use super::lock::Held;
use super::{Body, Entry, Queue};
use crate::change::Change;
use crate::command::{PropertyChanges, Settlement};
use crate::entity::counters::DeadLetterReason;
use crate::error::Error;
use crate::id::{EntityId, LockToken, SequenceNumber};
use crate::time::Timestamp;

/// What came of a wish.
#[derive(Debug)]
pub(crate) enum Decision {
    /// This fact.
    Change(Change),
    /// Ask again once the body of the message was read.
    BodyMissing,
}

/// Why a message is moved to the dead-letter subqueue.
struct Verdict<'a> {
    /// As it is counted.
    cause: DeadLetterReason,
    reason: Option<&'a str>,
    description: Option<&'a str>,
    changes: &'a [(Str, Value)],
}

/// Characters of a reason or description: what the SDKs allow. Longer ones are cut.
const REASON_LEN_MAX: usize = 4096;
/// Octets that settlements may add to the application-properties a message was sent with: 64 KiB, as
/// Service Bus allows for all properties of a message, and as much again for a reason and a
/// description of any characters.
const PROPERTIES_BYTES_MAX: usize = 128 * 1024;
/// What clients look for.
pub(crate) const REASON_KEY: &str = "DeadLetterReason";
pub(crate) const DESCRIPTION_KEY: &str = "DeadLetterErrorDescription";
const ATTEMPTS_REASON: &str = "MaxDeliveryCountExceeded";
const EXPIRY_REASON: &str = "TTLExpiredException";
const EXPIRY_DESCRIPTION: &str = "The message expired and was dead lettered.";

impl Queue {
    /// Decides what a settlement comes to. Reads the state and the time it is given; changes nothing.
    pub(crate) fn decide_settle(
        &self,
        now: Timestamp,
        token: LockToken,
        wish: &Settlement,
    ) -> Result<Decision, Error> {
        let held = self.lock_in_force(now, token).ok_or_else(|| self.lock_lost())?;
        if held.enlisted {
            return Err(Error::NotAllowed("The message is about to be settled by a transaction."));
        }
        self.decide_held(held, wish)
    }

    /// The same for the transaction that the lock is in.
    pub(crate) fn decide_enlisted(
        &self,
        now: Timestamp,
        token: LockToken,
        wish: &Settlement,
    ) -> Result<Decision, Error> {
        let held = self.lock_in_force(now, token).ok_or_else(|| self.lock_lost())?;
        self.decide_held(held, wish)
    }

    fn decide_held(&self, held: Held, wish: &Settlement) -> Result<Decision, Error> {
        let (entity, sequence) = (self.id(), held.sequence);
        match wish {
            Settlement::Complete => Ok(Decision::Change(Change::Removed { entity, sequence })),
            Settlement::Release => Ok(Decision::Change(Change::Returned {
                entity,
                sequence,
                attempts: None,
                application_properties: None,
            })),
            Settlement::Abandon { changes } => {
                let decision = self.decide_failure(sequence, changes);
                if !changes.is_empty() {
                    self.check_properties(sequence, &decision)?;
                }
                Ok(decision)
            }
            Settlement::Defer { changes } => {
                let decision = self.decide_deferral(sequence, changes);
                if !changes.is_empty() {
                    self.check_properties(sequence, &decision)?;
                }
                Ok(decision)
            }
            Settlement::DeadLetter { reason, description, changes } => {
                let to = self.definition.dead_letter.ok_or(Error::NotAllowed(
                    "A message in a dead-letter queue cannot be dead-lettered.",
                ))?;
                let verdict = Verdict {
                    cause: DeadLetterReason::Application,
                    reason: reason.as_deref(),
                    description: description.as_deref(),
                    changes,
                };
                let entry = self.kept(sequence);
                let decision = self.decide_burial(sequence, entry, to, entry.attempts, &verdict);
                self.check_properties(sequence, &decision)?;
                Ok(decision)
            }
        }
    }

    /// Refuses to let a message's properties grow without end, one settlement after the other.
    fn check_properties(&self, sequence: SequenceNumber, decision: &Decision) -> Result<(), Error> {
        let section = match decision {
            Decision::Change(
                Change::Returned { application_properties, .. }
                | Change::Deferred { application_properties, .. },
            ) => application_properties.as_ref(),
            Decision::Change(Change::DeadLettered { application_properties, .. }) => {
                Some(application_properties)
            }
            Decision::BodyMissing | Decision::Change(_) => None,
        };
        let body = self.kept(sequence).body.as_ref();
        let own = body.and_then(|body| body.message.application_properties());
        let limit = PROPERTIES_BYTES_MAX + own.map_or(0, <[u8]>::len);
        if section.is_some_and(|section| limit < section.len()) {
            return Err(Error::InvalidArgument("The properties to modify are too large."));
        }
        Ok(())
    }

    /// Decides how a message is set aside: it moves to where deferred ones are, or stays there.
    fn decide_deferral(&self, sequence: SequenceNumber, changes: &PropertyChanges) -> Decision {
        let entity = self.id();
        let entry = self.kept(sequence);
        let section = |body| (!changes.is_empty()).then(|| merged(body, changes));
        let application_properties = match &entry.body {
            Some(body) => section(body),
            None if entry.traces.deferred && changes.is_empty() => None,
            None => return Decision::BodyMissing,
        };
        match &entry.body {
            Some(body) if !entry.traces.deferred => {
                let message = Arc::clone(&body.message);
                Decision::Change(Change::Deferred {
                    entity,
                    sequence,
                    message,
                    application_properties,
                })
            }
            Some(_) | None => Decision::Change(Change::Returned {
                entity,
                sequence,
                attempts: None,
                application_properties,
            }),
        }
    }

    /// Decides what a failed delivery comes to: the message is tried again, or has been tried enough.
    pub(crate) fn decide_failure(
        &self,
        sequence: SequenceNumber,
        changes: &PropertyChanges,
    ) -> Decision {
        let entity = self.id();
        let entry = self.kept(sequence);
        let attempts = entry.attempts.saturating_add(1);
        if let Some(to) = self.definition.dead_letter
            && self.settings().attempts_max <= attempts
        {
            return self.decide_attempts_burial(sequence, entry, to, attempts, changes);
        }
        let application_properties = match (changes.is_empty(), &entry.body) {
            (true, _) => None,
            (false, None) => return Decision::BodyMissing,
            (false, Some(body)) => Some(merged(body, changes)),
        };
        let attempts = Some(attempts);
        Decision::Change(Change::Returned { entity, sequence, attempts, application_properties })
    }

    /// Decides what a lock's end comes to. Unlike a client's wish it cannot wait for a body.
    pub(crate) fn decide_expiry(&self, sequence: SequenceNumber) -> Change {
        match self.decide_failure(sequence, &PropertyChanges::new()) {
            Decision::Change(change) => change,
            Decision::BodyMissing => Change::Returned {
                entity: self.id(),
                sequence,
                attempts: Some(self.kept(sequence).attempts.saturating_add(1)),
                application_properties: None,
            },
        }
    }

    /// Decides what becomes of a message that is of no use any more.
    pub(crate) fn decide_expired(&self, sequence: SequenceNumber) -> Decision {
        let entity = self.id();
        let entry = self.kept(sequence);
        match self.definition.dead_letter.filter(|_| self.settings().dead_letter_on_expiry) {
            Some(to) => {
                let (reason, description) = (Some(EXPIRY_REASON), Some(EXPIRY_DESCRIPTION));
                let cause = DeadLetterReason::Expired;
                let verdict = Verdict { cause, reason, description, changes: &[] };
                self.decide_burial(sequence, entry, to, entry.attempts, &verdict)
            }
            None => Decision::Change(Change::Removed { entity, sequence }),
        }
    }

    /// Decides how a doomed message whose body is in memory leaves.
    pub(crate) fn decide_doomed(&self, now: Timestamp, sequence: SequenceNumber) -> Decision {
        let attempts = Some(self.kept(sequence).attempts);
        if self.has_expired(sequence, now) && !self.failed_too_often(attempts) {
            return self.decide_expired(sequence);
        }
        let entry = self.kept(sequence);
        let to = self.definition.dead_letter.expect("nothing is doomed in a dead-letter subqueue");
        self.decide_attempts_burial(sequence, entry, to, entry.attempts, &[])
    }

    /// Decides what becomes of a message that cannot be passed on.
    pub(crate) fn decide_undeliverable(
        &self,
        sequence: SequenceNumber,
        to: EntityId,
        cause: DeadLetterReason,
        reason: &str,
        description: &str,
    ) -> Decision {
        let entry = self.kept(sequence);
        let (reason, description) = (Some(reason), Some(description));
        let verdict = Verdict { cause, reason, description, changes: &[] };
        self.decide_burial(sequence, entry, to, entry.attempts, &verdict)
    }

    fn decide_attempts_burial(
        &self,
        sequence: SequenceNumber,
        entry: &Entry,
        to: EntityId,
        attempts: u32,
        changes: &[(Str, Value)],
    ) -> Decision {
        let description =
            format!("Message could not be consumed after {attempts} delivery attempts.");
        let (reason, description) = (Some(ATTEMPTS_REASON), Some(&*description));
        let cause = DeadLetterReason::MaxDeliveryCount;
        let verdict = Verdict { cause, reason, description, changes };
        self.decide_burial(sequence, entry, to, attempts, &verdict)
    }

    fn decide_burial(
        &self,
        sequence: SequenceNumber,
        entry: &Entry,
        to: EntityId,
        attempts: u32,
        verdict: &Verdict<'_>,
    ) -> Decision {
        let Some(body) = &entry.body else { return Decision::BodyMissing };
        let mut changes = verdict.changes.to_vec();
        for (key, text) in [(REASON_KEY, verdict.reason), (DESCRIPTION_KEY, verdict.description)] {
            if let Some(text) = text {
                changes.push((Str::from(key), Value::String(Str::from(shortened(text)))));
            }
        }
        Decision::Change(Change::DeadLettered {
            entity: self.id(),
            to,
            sequence,
            attempts,
            message: Arc::clone(&body.message),
            application_properties: merged(body, &changes),
            reason: verdict.cause,
        })
    }
}

/// The application-properties with the changes. A section that cannot be read (we do not look at
/// every key when a message comes in) does not keep a message from being moved: only the changes
/// are shown then.
fn merged(body: &Body, changes: &[(Str, Value)]) -> Bytes {
    merge_application_properties(body.current_properties(), changes)
        .or_else(|_| merge_application_properties(None, changes))
        .expect("changes alone can be written")
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(REASON_LEN_MAX).map_or(text, |(end, _)| &text[..end])
}
