//! From settings to the store and the core of a namespace.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use peeklock_core::{
    Broker, BrokerSettings, Command, EntityPath, IdSource, LockToken, Origin, TopicCommand,
};
use peeklock_storage::{MemStore, Store};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::clock::Clock;
use crate::config::{QueueDeclaration, StorageSettings, SubscriptionDeclaration, TopicDeclaration};
use crate::driver::OpenShard;

/// Which of the stores on disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// That of the default namespace, with all the memory that a store is measured with.
    First,
    /// One of several others.
    Further,
}

/// A store that is gone with the process.
pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(MemStore::new())
}

/// A store on disk.
#[cfg(feature = "rocksdb")]
pub(crate) fn on_disk(
    path: &Path,
    storage: &StorageSettings,
    rank: Rank,
) -> anyhow::Result<Arc<dyn Store>> {
    use peeklock_storage::rocks::{Options, Reserve, RocksStore};
    let bytes = storage.free_space_reserve;
    let reserve = if bytes == Reserve::DEFAULT.bytes {
        Reserve::DEFAULT
    } else {
        // Who names a number means that number, on a disk of any size.
        Reserve { bytes, percent: 0 }
    };
    let accept_data_loss = storage.accept_data_loss;
    let mut options = Options { reserve, accept_data_loss, ..Options::default() };
    shrink(&mut options, storage.store_bytes);
    if rank == Rank::Further {
        options.cache_bytes /= 4;
        options.write_buffers_bytes /= 4;
        options.message_write_buffer_bytes /= 4;
        options.log_bytes_max /= 4;
    }
    let store = RocksStore::open(path, options)
        .with_context(|| format!("cannot open the store in {}", path.display()))?;
    Ok(Arc::new(store))
}

/// Takes no more memory than there is for it. The parts keep their proportions.
#[cfg(feature = "rocksdb")]
fn shrink(options: &mut peeklock_storage::rocks::Options, store_bytes: u64) {
    let wanted = options.cache_bytes + options.write_buffers_bytes;
    let there = usize::try_from(store_bytes).unwrap_or(usize::MAX);
    if there < wanted {
        let part =
            |bytes: usize| (bytes / 1024).saturating_mul(there / 1024) / (wanted / 1024) * 1024;
        options.cache_bytes = part(options.cache_bytes);
        options.write_buffers_bytes = part(options.write_buffers_bytes);
        options.message_write_buffer_bytes = part(options.message_write_buffer_bytes);
    }
}

/// A store on disk.
#[cfg(not(feature = "rocksdb"))]
pub(crate) fn on_disk(_: &Path, _: &StorageSettings, _: Rank) -> anyhow::Result<Arc<dyn Store>> {
    anyhow::bail!("this build keeps messages in memory only; start it with --ephemeral")
}

/// What the configuration says a namespace should have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    pub(crate) queues: Vec<QueueDeclaration>,
    pub(crate) topics: Vec<TopicDeclaration>,
}

/// Loads the core from a store that has just been opened, and declares the configured entities.
pub(crate) fn shard(core_settings: BrokerSettings, declared: Declared, clock: Clock) -> OpenShard {
    Box::new(move |store| {
        let rows = Broker::state_rows(store)?;
        let ids = Box::new(OsIds(StdRng::from_os_rng()));
        let mut core = Broker::load(core_settings, ids, rows)?;
        for queue in &declared.queues {
            let path = queue.path.clone();
            if queue.only_if_missing && core.queue_stats().any(|known| known.path == path) {
                continue;
            }
            let settings = queue.settings.clone();
            let command = Command::EnsureQueue { origin: STARTUP, path, settings };
            core.declare_entity(clock.now(), command)
                .with_context(|| format!("the queue {} cannot be as configured", queue.path))?;
        }
        for topic in &declared.topics {
            for (path, command) in declarations(topic) {
                core.declare_entity(clock.now(), Command::OfTopic(Box::new(command)))
                    .with_context(|| format!("{path} cannot be as configured"))?;
            }
        }
        Ok(core)
    })
}

/// Who declares what the configuration says: nobody has this connection.
const STARTUP: Option<Origin> = Some(Origin { connection: 0, link: 0, delivery: 0 });

/// What makes a topic and its subscriptions as they are declared.
fn declarations(topic: &TopicDeclaration) -> impl Iterator<Item = (EntityPath, TopicCommand)> {
    let (path, settings) = (topic.path.clone(), topic.settings.clone());
    let own = TopicCommand::EnsureTopic { origin: STARTUP, path, settings };
    let subscriptions = topic.subscriptions.iter().map(|subscription| {
        let SubscriptionDeclaration { path, settings, rules } = subscription.clone();
        let of = path.clone();
        (of, TopicCommand::EnsureSubscription { origin: STARTUP, path, settings, rules })
    });
    std::iter::once((topic.path.clone(), own)).chain(subscriptions)
}

/// Lock tokens from a generator seeded by the operating system: whoever holds one may settle, so
/// none may be guessed.
struct OsIds(StdRng);

impl IdSource for OsIds {
    fn lock_token(&mut self) -> LockToken {
        let mut random = [0; 16];
        self.0.fill_bytes(&mut random);
        LockToken::from_random(random)
    }
}
