//! Writing to a store that no broker has.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use peeklock_storage::{Batch, CommitPosition, ShardId, Store, StoreError};

const SHARD: ShardId = ShardId(0);

/// Writes batch after batch, each on disk before the next.
pub(crate) struct Writer<'a> {
    store: &'a dyn Store,
    position: u64,
    reports: Receiver<Result<(), StoreError>>,
}

impl<'a> Writer<'a> {
    #[cfg_attr(
        not(any(test, feature = "rocksdb")),
        expect(dead_code, reason = "for stores on disk")
    )]
    pub(crate) fn new(store: &'a dyn Store) -> Self {
        let (sender, reports) = channel();
        let sender = Mutex::new(sender);
        store.on_done(
            SHARD,
            Box::new(move |done| {
                if let Ok(sender) = sender.lock() {
                    // Whoever waits is gone with the writer.
                    let _ = sender.send(done.result);
                }
            }),
        );
        Self { store, position: 0, reports }
    }

    /// The store it writes to.
    pub(crate) fn store(&self) -> &'a dyn Store {
        self.store
    }

    pub(crate) fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.position += 1;
        self.store.submit(SHARD, CommitPosition(self.position), batch)?;
        let stopped = |_| StoreError::Unknown("the store has stopped".to_owned());
        self.reports.recv().map_err(stopped)?
    }
}
