//! What a queue knows of one message in memory.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::CommitPosition;

use super::Shelf;
use super::sessions::SessionSlot;
use crate::id::LockToken;
use crate::message::StoredMessage;
use crate::time::Timestamp;

/// Where a message stands. What is true only there is kept only there.
///
/// ```text
///              lock                  complete, dead-letter
///   Ready ───────────────► Locked ────────────────────────► gone
///     ▲  abandon, release,   │
///     └──────────────────────┤ failed once too often, and
///           expiry           │ the body is not in memory
///                            └─────────► Doomed ──────────► gone, once read
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// To be delivered in its turn.
    Ready,
    /// Held by a receiver. The lock table knows until when.
    Locked(LockToken),
    /// On its way to the dead-letter subqueue, as soon as its body was read.
    Doomed,
}

/// A message in memory. Only what is small is always there.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) standing: Standing,
    /// How many deliveries failed.
    pub(crate) attempts: u32,
    /// Which rows it has.
    pub(crate) traces: Traces,
    /// The session it belongs to, where sessions matter.
    pub(crate) session: Option<SessionSlot>,
    /// Octets of the message.
    pub(crate) size: u64,
    /// Nothing about the message may be shown to anybody before this commit is durable.
    pub(crate) visible_after: CommitPosition,
    /// The rest, if it is in memory.
    pub(crate) body: Option<Body>,
}

/// What can be read again.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) message: Arc<StoredMessage>,
    /// The section that replaces the message's own.
    pub(crate) application_properties: Option<Bytes>,
}

/// Which rows a message has: where its own is, and which there are besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Traces {
    /// Its own is with those that are set aside until they are asked for.
    pub(crate) deferred: bool,
    /// A mark.
    pub(crate) marked: bool,
    /// A changed application-properties section.
    pub(crate) overlaid: bool,
    /// A due time: the first moment at which it is of no use any more.
    pub(crate) expires_at: Option<Timestamp>,
}

impl Traces {
    /// Where its own row is.
    pub(crate) const fn shelf(self) -> Shelf {
        if self.deferred { Shelf::Deferred } else { Shelf::Active }
    }
}

impl Entry {
    /// What an entry without a body takes: its place in the map, the ready order, the lock table.
    const OVERHEAD: usize = 200;
    /// What a body takes besides its octets: the shared message and its sections.
    const BODY_OVERHEAD: usize = 250;

    /// Shows a section in place of the message's own, from the start.
    pub(crate) fn overlay(&mut self, section: &Bytes) {
        self.traces.overlaid = true;
        if let Some(body) = &mut self.body {
            body.application_properties = Some(section.clone());
        }
    }

    /// About how much memory it takes.
    pub(crate) fn memory(&self) -> usize {
        Self::OVERHEAD + self.body.as_ref().map_or(0, Body::memory)
    }
}

impl Body {
    pub(crate) fn memory(&self) -> usize {
        let section = self.application_properties.as_ref().map_or(0, Bytes::len);
        Entry::BODY_OVERHEAD + self.message.row().len() + section
    }

    /// The application-properties section as it stands now.
    pub(crate) fn current_properties(&self) -> Option<&[u8]> {
        match &self.application_properties {
            Some(section) => Some(section),
            None => self.message.application_properties(),
        }
    }
}
