//! What is known of one session.

use super::paging::SessionPage;
use crate::command::ReceiveMode;
use crate::id::{MessageSessionId, ReceiverId, SequenceNumber};
use crate::queue::ready::ReadyOrder;
use crate::queue::receiver::Demand;
use crate::time::Timestamp;

/// Who holds a session.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) receiver: ReceiverId,
    pub(crate) mode: ReceiveMode,
    /// The first moment at which the lock is gone.
    pub(crate) until: Timestamp,
    pub(crate) demand: Demand,
}

/// What is known of the state of a session that is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KnownState {
    /// Nothing yet.
    Unknown,
    /// How many octets it has, if there is one.
    Bytes(Option<u64>),
}

/// A session that matters now.
///
/// ```text
///   numbers of its messages:   in memory, or gone   │ in memory or only on disk ...
///                                               disk_from
/// ```
///
/// Behind `disk_from` a message may be in memory too: one that came back to its place after others
/// were forgotten. It is delivered once reading has come that far.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: MessageSessionId,
    /// In memory and to be delivered.
    pub(in crate::queue) ready: ReadyOrder,
    /// In memory and delivered to the holder.
    pub(in crate::queue) locked: ReadyOrder,
    /// How many messages are in memory, wherever they stand.
    pub(in crate::queue) resident: usize,
    /// From which number on there may be messages that only the store holds.
    pub(in crate::queue) disk_from: Option<SequenceNumber>,
    /// Whether there is one for certain. Nobody is given the session for what is only possible.
    pub(in crate::queue) is_sure: bool,
    pub(crate) holder: Option<Holder>,
    pub(in crate::queue) page: Option<SessionPage>,
    pub(crate) state: KnownState,
    pub(super) listed_at: Option<SequenceNumber>,
    pub(super) warm: bool,
    pub(super) changed: bool,
    pub(super) starved: bool,
    /// Whether it stands among those that were left off.
    pub(super) paused: bool,
}

impl Record {
    /// What a record takes besides its id: its place in the maps, orders, a holder.
    const OVERHEAD: usize = 450;

    pub(super) fn new(
        id: MessageSessionId,
        disk_from: Option<SequenceNumber>,
        is_sure: bool,
    ) -> Self {
        Record {
            id,
            ready: ReadyOrder::default(),
            locked: ReadyOrder::default(),
            resident: 0,
            disk_from,
            is_sure,
            holder: None,
            page: None,
            state: KnownState::Unknown,
            listed_at: None,
            warm: false,
            changed: false,
            starved: false,
            paused: false,
        }
    }

    pub(super) fn memory(&self) -> usize {
        Self::OVERHEAD + self.id.as_str().len()
    }

    /// The lowest number a message to be delivered may have, if there is one for certain.
    pub(super) fn first(&self) -> Option<SequenceNumber> {
        match (self.ready.first(), self.disk_from.filter(|_| self.is_sure)) {
            (Some(ready), Some(disk)) => Some(ready.min(disk)),
            (ready, disk) => ready.or(disk),
        }
    }

    /// The message to be delivered next, if it is in memory.
    pub(super) fn next(&self) -> Option<SequenceNumber> {
        let ready = self.ready.first()?;
        self.disk_from.is_none_or(|disk| ready < disk).then_some(ready)
    }

    /// Whether a session stands as it is listed, and nothing can be done for its holder.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(holder) = &self.holder else { return false };
        let is_served = !holder.demand.is_open()
            || (self.next().is_none() && (self.disk_from.is_none() || self.page.is_some()));
        is_served && !holder.demand.is_draining() && self.warm == (self.ready.len() > 0)
    }

    /// Whether a session that nobody holds need not be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.holder.is_none()
            && self.resident == 0
            && self.disk_from.is_none()
            && self.page.is_none()
    }

    /// Whether all that is known of a session that nobody holds is that it may have messages.
    pub(super) fn is_guess(&self) -> bool {
        self.holder.is_none() && self.resident == 0 && self.disk_from.is_some() && !self.is_sure
    }

    /// A page that is being read may still show it.
    pub(super) fn note_gone(&mut self, sequence: SequenceNumber) {
        if let Some(page) = &mut self.page {
            page.note_gone(sequence);
        }
    }
}
