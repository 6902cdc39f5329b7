//! Duplicate detection: a message whose id the queue has seen within its window is answered as if it
//! was kept, and dropped.
//!
//! Mostly memory knows that an id is new. When it does not, the rows are asked; meanwhile everything
//! that is sent to the queue waits in order behind a gate, so that it stays in order. What waits is
//! looked up together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;

use super::read::Purpose;
use super::{Broker, queue_mut};
use crate::change::Change;
use crate::command::ReadRequest;
use crate::effect::Reply;
use crate::error::Error;
use crate::id::{EntityId, Origin, ReadId};
use crate::message::IncomingMessage;
use crate::queue::Queue;
use crate::queue::duplicates::Look;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Characters of a message-id that duplicates are found by, as in Service Bus.
const ID_LEN_MAX: usize = 128;

/// What waits, besides the messages' octets.
const SUBMISSION_OVERHEAD: u64 = 250;

/// Sends that wait for lookups, by queue.
#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: BTreeMap<EntityId, Gate>,
    /// Octets of them.
    bytes: u64,
}

#[derive(Debug, Default)]
struct Gate {
    waiting: VecDeque<Submission>,
    /// Whether a lookup for the first of them is under way.
    reading: bool,
}

/// What a client sends or schedules.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) origin: Origin,
    pub(super) messages: SmallVec<[IncomingMessage; 1]>,
    /// Whether the client wants the numbers.
    pub(super) scheduled: bool,
}

/// A lookup for the first sends behind a gate.
#[derive(Debug)]
pub(super) struct GateRead {
    entity: EntityId,
    submission_count: usize,
    lookups: Vec<Lookup>,
}

/// The rows asked for one id.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) entity: EntityId,
    id: String,
    row_count: usize,
}

/// What is known of ids besides what memory knows, while messages are taken in.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// When each id that was looked up was last taken in, if it was.
    found: BTreeMap<(EntityId, String), Option<Timestamp>>,
    /// What is taken in together.
    taken: BTreeSet<(EntityId, String)>,
}

impl Submission {
    fn bytes(&self) -> u64 {
        self.messages
            .iter()
            .fold(0_u64, |sum, one| sum.saturating_add(one.size() + SUBMISSION_OVERHEAD))
    }
}

impl Sieve {
    /// With the rows that were found for these lookups.
    pub(super) fn new(
        lookups: Vec<Lookup>,
        rows: &mut impl Iterator<Item = Option<Bytes>>,
    ) -> Self {
        let mut sieve = Sieve::default();
        for Lookup { entity, id, row_count } in lookups {
            let rows = rows.by_ref().take(row_count).flatten();
            let at = rows.filter_map(|row| crate::rows::duplicates::read(&row)).max();
            sieve.found.insert((entity, id), at);
        }
        sieve
    }
}

impl Broker {
    /// Takes in what a client sends, now or when it was looked up whether it is there already.
    pub(super) fn submit(&mut self, entity: EntityId, submission: Submission) {
        if !self.gates.gates.is_empty() && self.gates.gates.contains_key(&entity) {
            return self.wait_at_gate(entity, submission);
        }
        match self.queue(entity) {
            Ok(queue) if self.undecided(queue, &submission.messages, &Sieve::default()) => {
                self.gates.gates.insert(entity, Gate::default());
                self.wait_at_gate(entity, submission);
                self.pass_gate(entity);
            }
            Ok(_) | Err(_) => self.take_submission(entity, submission, &mut Sieve::default()),
        }
    }

    fn wait_at_gate(&mut self, entity: EntityId, submission: Submission) {
        let bytes = submission.bytes();
        // What cannot be taken anyhow need not wait.
        if let Err(error) = self.may_admit(entity, &submission.messages) {
            return self.reply_at_once(submission.origin, Err(error));
        }
        if self.settings.gate_bytes_max < self.gates.bytes.saturating_add(bytes) {
            let error = Error::ServerBusy("Too many messages wait to be compared with old ones.");
            return self.reply_at_once(submission.origin, Err(error));
        }
        self.gates.bytes += bytes;
        if let Some(gate) = self.gates.gates.get_mut(&entity) {
            gate.waiting.push_back(submission);
        }
    }

    /// Lets through what memory can decide, and looks up the rest.
    fn pass_gate(&mut self, entity: EntityId) {
        while let Some(gate) = self.gates.gates.get(&entity)
            && !gate.reading
        {
            let Some(first) = gate.waiting.front() else {
                self.gates.gates.remove(&entity);
                return;
            };
            let queue = self.queue(entity);
            if queue.is_ok_and(|queue| self.undecided(queue, &first.messages, &Sieve::default())) {
                return self.look_up_waiting(entity);
            }
            if let Some(submission) = self.leave_gate(entity) {
                self.take_submission(entity, submission, &mut Sieve::default());
            }
        }
    }

    fn leave_gate(&mut self, entity: EntityId) -> Option<Submission> {
        let submission = self.gates.gates.get_mut(&entity)?.waiting.pop_front()?;
        self.gates.bytes -= submission.bytes();
        Some(submission)
    }

    fn look_up_waiting(&mut self, entity: EntityId) {
        let (Some(gate), Ok(queue)) = (self.gates.gates.get(&entity), self.queue(entity)) else {
            return;
        };
        let (mut lookups, mut request) = (Vec::new(), ReadRequest::default());
        let mut submission_count = 0;
        for submission in &gate.waiting {
            self.ask_for(queue, &submission.messages, &mut lookups, &mut request);
            submission_count += 1;
            if self.settings.page_rows_max <= request.gets.len() {
                break;
            }
        }
        let read = ReadId(self.next_read);
        if let Some(gate) = self.gates.gates.get_mut(&entity) {
            gate.reading = true;
        }
        self.begin_lookup(entity, read);
        let purpose = GateRead { entity, submission_count, lookups };
        self.start_read(request, Purpose::Duplicates(purpose));
    }

    /// The rows that sends waited for have come, or could not be read.
    pub(super) fn looked_up(
        &mut self,
        read: ReadId,
        of: GateRead,
        gets: Option<Vec<Option<Bytes>>>,
    ) {
        let GateRead { entity, submission_count, lookups } = of;
        if let Some(gate) = self.gates.gates.get_mut(&entity) {
            gate.reading = false;
        }
        let mut sieve = gets.map(|gets| Sieve::new(lookups, &mut gets.into_iter()));
        for _ in 0..submission_count {
            let Some(submission) = self.leave_gate(entity) else { break };
            match &mut sieve {
                Some(sieve) => self.take_submission(entity, submission, sieve),
                None => self.reply_at_once(submission.origin, Err(Error::StoreUnavailable)),
            }
        }
        self.end_lookup(entity, read);
        self.pass_gate(entity);
    }

    fn take_submission(&mut self, entity: EntityId, submission: Submission, sieve: &mut Sieve) {
        let Submission { origin, messages, scheduled } = submission;
        let result = self.may_admit(entity, &messages).map(|()| {
            if scheduled {
                let sequences = self.accept_numbered(entity, messages, sieve);
                Reply::Scheduled { sequences }
            } else {
                self.accept(entity, messages, sieve);
                Reply::Accepted
            }
        });
        self.reply_after_commit(origin, result);
    }

    /// Whether memory cannot say of all these whether they were seen before.
    fn undecided<'a>(
        &self,
        queue: &Queue,
        messages: impl IntoIterator<Item = &'a IncomingMessage>,
        sieve: &Sieve,
    ) -> bool {
        let Some(duplicates) = &queue.duplicates else { return false };
        messages.into_iter().any(|message| {
            message.facts().message_id().is_some_and(|id| {
                duplicates.look(self.now, &id) == Look::Unsure
                    && !sieve.found.contains_key(&(queue.id(), id))
            })
        })
    }

    /// Asks for the rows of all ids that memory cannot say enough about.
    pub(super) fn ask_for<'a>(
        &self,
        queue: &Queue,
        messages: impl IntoIterator<Item = &'a IncomingMessage>,
        lookups: &mut Vec<Lookup>,
        request: &mut ReadRequest,
    ) {
        if queue.duplicates.is_some() {
            for message in messages {
                self.ask_for_id(queue, message.facts().message_id(), lookups, request);
            }
        }
    }

    /// Asks for the rows of one id.
    pub(super) fn ask_for_id(
        &self,
        queue: &Queue,
        id: Option<String>,
        lookups: &mut Vec<Lookup>,
        request: &mut ReadRequest,
    ) {
        let (Some(duplicates), Some(id)) = (&queue.duplicates, id) else { return };
        // What memory has seen only since another lookup began it may forget before this one is done.
        if duplicates.look(self.now, &id) != Look::New {
            let entity = queue.id();
            let row_count = duplicates.ask(entity, self.now, &id, request);
            lookups.push(Lookup { entity, id, row_count });
        }
    }

    /// Whether it has to be looked up whether these were seen before.
    pub(super) fn must_look_up<'a>(
        &self,
        entity: EntityId,
        messages: impl IntoIterator<Item = &'a IncomingMessage>,
        sieve: &Sieve,
    ) -> bool {
        self.queue(entity).is_ok_and(|queue| self.undecided(queue, messages, sieve))
    }

    pub(super) fn begin_lookup(&mut self, entity: EntityId, read: ReadId) {
        let queue = queue_mut(&mut self.queues, entity);
        if let Some(duplicates) = queue.and_then(|queue| queue.duplicates.as_mut()) {
            duplicates.begin_read(read);
        }
    }

    pub(super) fn end_lookup(&mut self, entity: EntityId, read: ReadId) {
        let queue = queue_mut(&mut self.queues, entity);
        if let Some(duplicates) = queue.and_then(|queue| queue.duplicates.as_mut()) {
            duplicates.end_read(read);
        }
    }

    /// Whether a message that is about to be taken in is there already. If not, it is now.
    pub(super) fn is_duplicate(
        &mut self,
        entity: EntityId,
        message: &IncomingMessage,
        sieve: &mut Sieve,
    ) -> bool {
        let now = self.now;
        let Ok(queue) = self.queue(entity) else { return false };
        let Some(duplicates) = &queue.duplicates else { return false };
        let Some(id) = message.facts().message_id() else { return false };
        let key = (entity, id);
        let looked_up = sieve.found.get(&key).copied().flatten();
        if sieve.taken.contains(&key)
            || looked_up.is_some_and(|at| duplicates.remembers(now, at))
            || duplicates.look(now, &key.1) == Look::Seen
        {
            self.counters.duplicates += 1;
            self.tally(entity, |tally| tally.duplicates += 1);
            return true;
        }
        let bucket = duplicates.open_bucket(now);
        let start = bucket.unwrap_or_else(|| duplicates.next_start(now));
        if bucket.is_none() {
            self.commit(&Change::BucketOpened { entity, start });
        }
        self.commit(&Change::Remembered { entity, bucket: start, id: key.1.clone(), at: now });
        sieve.taken.insert(key);
        self.give_up_fingerprints();
        false
    }

    /// Removes the ids that no message can repeat any more.
    pub(super) fn forget_outdated_ids(&mut self, entity: EntityId) {
        let outdated = self.queue(entity).ok().and_then(|queue| {
            queue.duplicates.as_ref().and_then(|duplicates| duplicates.outdated(self.now))
        });
        if let Some((first, last)) = outdated {
            self.commit(&Change::BucketsForgotten { entity, first, last });
        }
    }

    /// Makes room for fingerprints: whoever has most loses the oldest.
    fn give_up_fingerprints(&mut self) {
        while self.settings.fingerprint_bytes_max < self.fingerprint_bytes {
            let queues = self.queues.iter_mut().flatten();
            let largest = queues
                .filter_map(|queue| queue.duplicates.as_mut())
                .max_by_key(|duplicates| duplicates.memory());
            let Some(duplicates) = largest else { return };
            let before = duplicates.memory();
            if !duplicates.evict() {
                return;
            }
            self.fingerprint_bytes -= before - duplicates.memory();
        }
    }
}

/// Refuses ids that are too long to be compared.
pub(super) fn check_ids<'a>(
    queue: &Queue,
    messages: impl IntoIterator<Item = &'a IncomingMessage>,
) -> Result<(), Error> {
    if queue.duplicates.is_none() {
        return Ok(());
    }
    for message in messages {
        let id = message.facts().message_id().unwrap_or_default();
        if id.chars().nth(ID_LEN_MAX).is_some() {
            return Err(Error::InvalidArgument("The message id is longer than 128 characters."));
        }
    }
    Ok(())
}

/// What [`crate::invariant`] asks.
impl Broker {
    pub(crate) fn check_duplicates(&self) -> Result<(), String> {
        let mut fingerprint_bytes = 0;
        for queue in self.queues.iter().flatten() {
            let Some(duplicates) = &queue.duplicates else { continue };
            let path = &queue.definition.path;
            duplicates.check().map_err(|problem| format!("{path}: {problem}"))?;
            fingerprint_bytes += duplicates.memory();
        }
        if fingerprint_bytes != self.fingerprint_bytes {
            return Err(format!("fingerprints take {fingerprint_bytes} octets"));
        }
        let gates = self.gates.gates.values();
        if gates.clone().any(|gate| !gate.reading || gate.waiting.is_empty()) {
            return Err("a gate is shut for nothing".into());
        }
        let bytes: u64 = gates.flat_map(|gate| &gate.waiting).map(Submission::bytes).sum();
        if bytes != self.gates.bytes {
            return Err(format!("{bytes} octets wait at gates, not {}", self.gates.bytes));
        }
        Ok(())
    }
}
