//! Everything that can be asked of the broker.
//!
//! Commands come from peers by way of the shell, so any of them may come at any time: for a receiver
//! that is gone, with a token that was never drawn, twice. A refused command changes nothing.

use std::ops::Range;

use bytes::Bytes;
use peeklock_protocol::value::{Str, Value};
use peeklock_storage::{Key, StoreError, Table};
use smallvec::SmallVec;

use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::id::{EntityId, LockToken, Origin, ReadId, ReceiverId, SequenceNumber};
use crate::message::IncomingMessage;

/// What is asked, and by whom.
#[derive(Debug)]
pub enum Command {
    /// Creates a queue when it is missing, and changes its settings when they differ. Answered by
    /// [`Reply::QueueEnsured`](crate::effect::Reply::QueueEnsured) if somebody asked.
    EnsureQueue {
        /// Who asked, if an answer is wanted.
        origin: Option<Origin>,
        /// The queue's own path: no subqueue.
        path: EntityPath,
        /// What it should be like.
        settings: QueueSettings,
    },
    /// Asks whether and where messages may be sent.
    OpenSender {
        /// Who asked.
        origin: Origin,
        /// Where to.
        path: EntityPath,
    },
    /// Makes a receiver known. It gets nothing before its first [`Command::Demand`].
    OpenReceiver {
        /// Who asked.
        origin: Origin,
        /// The new receiver.
        receiver: ReceiverId,
        /// Where from.
        path: EntityPath,
        /// What becomes of a message that is delivered.
        mode: ReceiveMode,
    },
    /// Asks for an entity to browse and to settle at, without receiving.
    OpenManagement {
        /// Who asked.
        origin: Origin,
        /// Of what.
        path: EntityPath,
    },
    /// Forgets a receiver. Its locks stay until they expire, so that clients that come back can
    /// still settle.
    CloseReceiver {
        /// Which.
        receiver: ReceiverId,
    },
    /// Takes messages in, all or none.
    Send {
        /// Who asked.
        origin: Origin,
        /// Where to.
        entity: EntityId,
        /// In their order.
        messages: SmallVec<[IncomingMessage; 1]>,
    },
    /// Says how many deliveries a receiver may have been given since it was opened, ever. Counting
    /// from the start means that demand and deliveries cannot cross on the way. May shrink.
    Demand {
        /// Who.
        receiver: ReceiverId,
        /// The total.
        limit: u64,
    },
    /// The same, and to say so once there is nothing more to deliver now; demand then ends.
    Drain {
        /// Who.
        receiver: ReceiverId,
        /// The total.
        limit: u64,
    },
    /// Ends a message lock.
    Settle {
        /// Who wants to hear of it.
        origin: Option<Origin>,
        /// Where the message is.
        entity: EntityId,
        /// The lock.
        token: LockToken,
        /// What to do.
        settlement: Settlement,
    },
    /// Ends several message locks, all or none.
    UpdateDisposition {
        /// Who asked.
        origin: Origin,
        /// Where the messages are.
        entity: EntityId,
        /// The locks.
        tokens: Vec<LockToken>,
        /// What to do with each.
        settlement: Settlement,
    },
    /// Gives locks a full duration from now, all or none.
    RenewLocks {
        /// Who asked.
        origin: Origin,
        /// Where the messages are.
        entity: EntityId,
        /// The locks.
        tokens: Vec<LockToken>,
    },
    /// Looks at messages, locked or not, without touching them.
    Browse {
        /// Who asked.
        origin: Origin,
        /// Where.
        entity: EntityId,
        /// The lowest number of interest.
        from: SequenceNumber,
        /// How many at most.
        count_max: u32,
        /// How many octets at most; the first message always comes.
        bytes_max: usize,
    },
    /// The shell's answer to [`EffectKind::Read`](crate::effect::EffectKind::Read).
    ReadDone {
        /// Which read.
        read: ReadId,
        /// What it found.
        result: Result<ReadRows, StoreError>,
    },
    /// Does what is due by now.
    Tick,
}

/// What becomes of a message when it is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceiveMode {
    /// It is locked for the receiver until settled or expired.
    PeekLock,
    /// It is gone.
    ReceiveAndDelete,
}

/// What a client wants done with a message it has locked.
#[derive(Clone, PartialEq, Debug)]
pub enum Settlement {
    /// Remove it: the work is done.
    Complete,
    /// Put it back, counting a failed delivery.
    Abandon {
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Set it aside until it is asked for by number.
    Defer {
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Move it to the dead-letter subqueue.
    DeadLetter {
        /// Why, in a word.
        reason: Option<Str>,
        /// Why, in a sentence.
        description: Option<Str>,
        /// Application properties to set.
        changes: PropertyChanges,
    },
    /// Put it back as if it had not been delivered.
    Release,
}

/// Application properties to set or overwrite, in order.
pub type PropertyChanges = Vec<(Str, Value)>;

/// Rows the shell is asked to read. It need not know what they mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRequest {
    /// Ranges, each at one time, in this order.
    pub scans: Vec<Scan>,
    /// Single rows.
    pub gets: Vec<(Table, Key)>,
}

/// One range to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// Of which table.
    pub table: Table,
    /// From the start, up to and without the end.
    pub range: Range<Key>,
    /// How many rows at most.
    pub rows_max: usize,
    /// How many octets of keys and values, counted as [`peeklock_storage::Store::scan`] does.
    pub bytes_max: usize,
}

/// What was found, in the order it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadRows {
    /// A list of rows for each scan.
    pub scans: Vec<Vec<(Key, Bytes)>>,
    /// A row, if there, for each get.
    pub gets: Vec<Option<Bytes>>,
}
