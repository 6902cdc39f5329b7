//! What a queue knows of one message in memory.

use std::sync::Arc;

use bytes::Bytes;
use peeklock_storage::CommitPosition;

use super::Shelf;
use super::charge::{Account, Charge, Memory};
use super::sessions::SessionSlot;
use crate::id::{EntityId, LockToken};
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
    /// For the message, if other queues keep it in memory too.
    pub(crate) charge: Option<Arc<Charge>>,
}

/// Which rows a message has: where its own is, and which there are besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Traces {
    /// Its own is with those that are set aside until they are asked for.
    pub(crate) deferred: bool,
    /// Its own is with this topic, and it has a bit in a run.
    pub(crate) shared: Option<EntityId>,
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
    pub(crate) fn memory(&self) -> Memory {
        let mut memory = self.body.as_ref().map_or(Memory::default(), Body::memory);
        memory.own += Self::OVERHEAD;
        memory
    }
}

impl Body {
    /// One that a topic gives to its subscriptions.
    pub(crate) fn shared(message: &Arc<StoredMessage>, account: &Account) -> Self {
        let charge = Charge::new(Entry::BODY_OVERHEAD + message.row().len(), account);
        let (message, charge) = (Arc::clone(message), Some(Arc::new(charge)));
        Body { message, application_properties: None, charge }
    }

    pub(crate) fn memory(&self) -> Memory {
        let section = self.application_properties.as_ref().map_or(0, Bytes::len);
        let whole = Entry::BODY_OVERHEAD + self.message.row().len();
        match &self.charge {
            Some(charge) => Memory { own: section, shared: charge.bytes() },
            None => Memory { own: whole + section, shared: 0 },
        }
    }

    /// The application-properties section as it stands now.
    pub(crate) fn current_properties(&self) -> Option<&[u8]> {
        match &self.application_properties {
            Some(section) => Some(section),
            None => self.message.application_properties(),
        }
    }
}
