//! What is written: operations, the batch that makes them one, and what can go wrong.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::key::{Key, Table};

/// Where a batch stands in its shard's order of commits. Chosen by the submitter, strictly rising.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CommitPosition(pub u64);

impl CommitPosition {
    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        CommitPosition(self.0 + 1)
    }
}

/// A group of entities that commit in one order and report together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardId(pub u16);

/// Fencing token. A store opened under one refuses every batch built under an older one, so an owner
/// that was replaced can no longer write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// One change to one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Writes a row. In [`Table::Message`] a key is written once, ever.
    Put {
        /// The table.
        table: Table,
        /// The row's key.
        key: Key,
        /// The row.
        value: Bytes,
    },
    /// Removes a row. In [`Table::Message`] the row must be there, and is removed once.
    Remove {
        /// The table.
        table: Table,
        /// The row's key.
        key: Key,
    },
    /// Removes every row of a range. For few and large ranges: each one slows down later reads.
    RemoveRange {
        /// The table.
        table: Table,
        /// From the start, up to and without the end.
        range: Range<Key>,
    },
}

/// Changes that become durable together or not at all, across tables and entities.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The epoch the submitter built this under.
    pub epoch: Epoch,
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// What an operation costs besides key and value: tags, lengths and its place in memory.
    const OP_OVERHEAD: usize = 16;

    /// A batch without operations.
    pub const fn new(epoch: Epoch) -> Self {
        Batch { epoch, ops: Vec::new(), bytes: 0 }
    }

    /// Appends [`Op::Put`].
    pub fn put(&mut self, table: Table, key: Key, value: impl Into<Bytes>) {
        self.push(Op::Put { table, key, value: value.into() });
    }

    /// Appends [`Op::Remove`].
    pub fn remove(&mut self, table: Table, key: Key) {
        self.push(Op::Remove { table, key });
    }

    /// Appends [`Op::RemoveRange`].
    pub fn remove_range(&mut self, table: Table, range: Range<Key>) {
        self.push(Op::RemoveRange { table, range });
    }

    /// Appends an operation. Later ones win over earlier ones.
    pub fn push(&mut self, op: Op) {
        self.bytes += Self::OP_OVERHEAD
            + match &op {
                Op::Put { key, value, .. } => key.as_bytes().len() + value.len(),
                Op::Remove { key, .. } => key.as_bytes().len(),
                Op::RemoveRange { range, .. } => {
                    range.start.as_bytes().len() + range.end.as_bytes().len()
                }
            };
        self.ops.push(op);
    }

    /// Moves all operations of another batch behind these.
    pub fn append(&mut self, other: &mut Batch) {
        self.ops.append(&mut other.ops);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The operations, in order, by value.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// About how much is written: what queues count by.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// Why a batch was not taken. Nothing of it was or will be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// More is waiting to be written than the writer will hold. Passes by itself.
    #[error("too much is waiting to be written")]
    QueueFull,
    /// A write has failed; only [`Store::reopen`](crate::Store::reopen) helps.
    #[error("the store has failed and must be reopened")]
    Failed,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What can go wrong below the rows.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not written, and never will be.
    #[error("write refused: {0}")]
    Refused(Refusal),
    /// A newer owner, of this epoch, has taken over: drop what is in memory.
    #[error("write refused: a newer owner has taken over under epoch {}", .0.0)]
    Fenced(Epoch),
    /// The write may or may not be found after reopening: answer nothing, reopen, load again.
    #[error("outcome of a write is unknown: {0}")]
    Unknown(String),
    /// A row did not match its checksum. The rest of the store stays usable.
    #[error("damaged row {key} of table {table}: {what}")]
    Corrupt {
        /// Its table.
        table: Table,
        /// Its key, or the key a scan had to find.
        key: Key,
        /// What the engine says.
        what: String,
    },
    /// The log of acknowledged writes is damaged before its end. Opening would lose what follows.
    #[error(
        "the log {file} is damaged at offset {offset} ({what}) and holds valid records behind it; \
         opening it would lose acknowledged writes",
        file = .file.display()
    )]
    DamagedLog {
        /// The file.
        file: PathBuf,
        /// Where its first bad record begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Another process has the store open.
    #[error("the store in {dir} is in use by another process", dir = .dir.display())]
    InUse {
        /// The store's folder.
        dir: PathBuf,
    },
    /// The engine cannot open what is in the folder.
    #[error("cannot open the store in {dir}: {what}", dir = .dir.display())]
    Open {
        /// The store's folder.
        dir: PathBuf,
        /// What the engine says; it names the file.
        what: String,
    },
    /// A newer release has written it, in a form that this one does not know.
    #[error(
        "the store in {dir} is of format version {found}, and this release knows up to version {known}: \
         start it with the release that has written it, or a newer one",
        dir = .dir.display()
    )]
    Newer {
        /// The store's folder.
        dir: PathBuf,
        /// What it says.
        found: u32,
        /// The newest that can be read.
        known: u32,
    },
    /// Reading, or asking the file system, failed.
    #[error("{doing}: {what}")]
    Io {
        /// What was tried.
        doing: String,
        /// The kind, for those who decide by it.
        kind: io::ErrorKind,
        /// What the system says.
        what: String,
    },
    /// This store has no such ability.
    #[error("not supported by this store: {0}")]
    Unsupported(&'static str),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        StoreError::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_operations() {
        let key = Key::new().with_u64(1);
        let mut batch = Batch::new(Epoch(1));
        assert!(batch.is_empty());
        batch.put(Table::Message, key.clone(), vec![0; 100]);
        batch.remove(Table::State, key.clone());
        batch.remove_range(Table::Dedup, key.prefix_range());
        assert_eq!(batch.len(), 3);
        assert_eq!(batch.bytes(), 3 * Batch::OP_OVERHEAD + 108 + 8 + 16);

        let mut all = Batch::new(Epoch(1));
        all.append(&mut batch);
        assert_eq!((all.len(), batch.len(), batch.bytes()), (3, 0, 0));
        assert_eq!(all.bytes(), 3 * Batch::OP_OVERHEAD + 132);
    }

    #[test]
    fn errors_name_what_they_are_about() {
        let damaged = StoreError::DamagedLog {
            file: "/data/000004.log".into(),
            offset: 32_768,
            what: "checksum mismatch".into(),
        };
        let text = damaged.to_string();
        assert!(text.contains("/data/000004.log") && text.contains("32768"), "{text}");
        assert_eq!(
            StoreError::from(Refusal::QueueFull).to_string(),
            "write refused: too much is waiting to be written"
        );
    }
}
