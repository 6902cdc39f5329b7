//! Durable rows behind one trait.
//!
//! A [`Batch`] of [`Op`]s over a few [`Table`]s is the only thing that changes a [`Store`]. Batches
//! become durable in the order they were submitted, whole or not at all, and a [`CommitPosition`]
//! says how far that has come. Rows are octets under order-preserving [`Key`]s; what they mean is
//! their writer's business, and nothing here knows AMQP, queues or messages.
//!
//! | Where | What |
//! |---|---|
//! | [`memory`] | a store that forgets, with crashes on request |
//! | [`fault`] | a wrapper that fails by seed |
//! | [`statistics`] | counting by size |
//! | [`mod@format`] | the version of what is on disk |
//! | `rocks` (feature `rocksdb`) | the store on disk: group commit, log check, free-space gate |
//!
//! Invariant: no tokio, no clock that decides an outcome, no iterator that outlives a call.

#![warn(missing_docs)]

pub mod batch;
pub mod fault;
pub mod format;
pub mod key;
pub mod memory;
mod report;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod statistics;
pub mod store;

pub use batch::{Batch, CommitPosition, Epoch, Op, Refusal, ShardId, StoreError};
pub use key::{Key, KeyReader, Table};
pub use memory::MemStore;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksStore;
pub use store::{Done, Health, OnDone, Store};
