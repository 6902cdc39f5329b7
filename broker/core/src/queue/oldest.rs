//! When the oldest message of a queue came.
//!
//! What is oldest has the lowest number. If that message is in memory its time is known; if the queue
//! was empty when it came its time is remembered, wherever the message goes then. Else (after a start,
//! or when a backlog has been worked off to where only the store knows) it is looked up once, when
//! somebody asks, and remembered until that message is gone.

use super::Queue;
use crate::entity::path::Subqueue;
use crate::id::SequenceNumber;
use crate::time::Timestamp;

/// What is known of the oldest message that is to be delivered, or locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldestMessage {
    /// There is none.
    None,
    /// It became active at this moment.
    Since(Timestamp),
    /// There is one, but only the store knows when it came.
    /// [`crate::Command::FindOldest`] finds out.
    Unknown,
}

/// What a queue remembers of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oldest {
    /// The message with the lowest number, and when it came.
    known: Option<(SequenceNumber, Timestamp)>,
    /// Which messages are gone since somebody began to look.
    gone: Option<Vec<SequenceNumber>>,
}

impl Oldest {
    /// So many may go while somebody looks; after more the look was in vain.
    const GONE_MAX: usize = 64;

    /// A message is gone, or not active any more.
    pub(super) fn gone(&mut self, sequence: SequenceNumber) {
        if self.known.is_some_and(|(known, _)| known == sequence) {
            self.known = None;
        }
        if let Some(gone) = &mut self.gone
            && gone.len() <= Self::GONE_MAX
        {
            gone.push(sequence);
        }
    }
}

impl Queue {
    /// A message comes into the queue. If it is the only one, it is the oldest.
    pub(super) fn note_first(&mut self, sequence: SequenceNumber, at: Option<Timestamp>) {
        if self.count() == 0 {
            self.oldest.known = at.map(|at| (sequence, at));
        }
    }

    /// When the oldest message came, as far as it is known here. Only for a queue's own entity: what is
    /// in subqueues comes with any number.
    pub(crate) fn oldest_message(&self) -> OldestMessage {
        if self.count() == 0 || self.definition.path.subqueue() != Subqueue::Main {
            return OldestMessage::None;
        }
        let known = self.oldest.known.map(|(_, at)| at);
        match known.or_else(|| self.oldest_in_memory()) {
            Some(at) => OldestMessage::Since(at),
            None => OldestMessage::Unknown,
        }
    }

    /// The same, if no older one can be on disk, and what is in memory says it.
    fn oldest_in_memory(&self) -> Option<Timestamp> {
        let first = match &self.sessions {
            // Which of them are on disk only their sessions know.
            Some(_) => *self.entries.first_key_value().filter(|_| self.on_disk_count() == 0)?.0,
            None => self.head(),
        };
        Some(self.entry(first)?.body.as_ref()?.message.enqueued_at())
    }

    /// Somebody looks for it from now on, unless it is known, or somebody looks already.
    pub(crate) fn begin_oldest_look(&mut self) -> bool {
        let begins = self.oldest.gone.is_none() && self.oldest_message() == OldestMessage::Unknown;
        if begins {
            self.oldest.gone = Some(Vec::new());
        }
        begins
    }

    /// What was found. It may be gone again, and then it is not known what is oldest now.
    pub(crate) fn end_oldest_look(&mut self, found: Option<(SequenceNumber, Timestamp)>) {
        let Some(gone) = self.oldest.gone.take() else { return };
        let is_sure = |sequence| gone.len() <= Oldest::GONE_MAX && !gone.contains(&sequence);
        if let Some((sequence, at)) = found
            && is_sure(sequence)
            && self.oldest_message() == OldestMessage::Unknown
        {
            self.oldest.known = Some((sequence, at));
        }
    }
}
