//! One scrape: asks everybody who knows something, and writes it down.
//!
//! Drivers are asked short questions and disks are asked on a thread that may block. What does not
//! answer in time is left out: the rest is still worth having.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peeklock_core::Broker;
use peeklock_storage::statistics::{Counts, Histogram, Statistics};
use peeklock_storage::{Health, Store};

use super::process::Process;
use super::{Page, Pieces, entities, families};
use crate::namespaces::{Namespace, Namespaces};

/// What the default namespace is called here.
const DEFAULT: &str = "default";

/// A core or a disk that takes longer for a short question is left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What one namespace has told.
struct Told {
    name: String,
    store: Arc<dyn Store>,
    health: Option<Health>,
    /// Octets of messages in memory.
    resident: Option<usize>,
}

/// All there is to say now.
pub(crate) async fn scrape(namespaces: &Namespaces) -> Pieces {
    let mut told = vec![ask(DEFAULT, namespaces.default()).await];
    for (name, namespace) in namespaces.further() {
        told.push(ask(name.as_str(), &namespace).await);
    }
    let default = namespaces.default().context();
    let process = tokio::task::spawn_blocking(Process::read).await.unwrap_or_default();
    let mut page = Page::of(default.metrics().registry());
    page.family(&families::BUILD_INFO).add(&[env!("CARGO_PKG_VERSION")], 1);
    let seconds = default.metrics().started_at_seconds();
    page.family(&families::START_TIME).add(&[], seconds);
    page.family(&families::READY).add(&[], u8::from(default.is_ready().await));
    default.metrics().certificate(&mut page);
    default.metrics().latencies.write(&mut page);
    commits(&mut page, &told);
    stores(&mut page, &told);
    let shared = &default.settings.memory;
    memory(&mut page, &told, &process, shared.held());
    page.family(&families::MEMORY_CEILING_BYTES).add(&[], shared.shares().ceiling);
    process.write(&mut page);
    let mut pieces = Pieces::begin(page.into_text());
    entities::write(namespaces, default.metrics().entities(), &mut pieces).await;
    pieces
}

async fn ask(name: &str, namespace: &Namespace) -> Told {
    let store = Arc::clone(namespace.store());
    let asked = Arc::clone(&store);
    let health = tokio::task::spawn_blocking(move || asked.health());
    let health = tokio::time::timeout(ANSWER_WITHIN, health).await;
    let shard = &namespace.context().shard;
    let resident = tokio::time::timeout(ANSWER_WITHIN, shard.query(Broker::resident_bytes)).await;
    Told {
        name: name.to_owned(),
        store,
        health: health.ok().and_then(Result::ok),
        resident: resident.ok().and_then(Result::ok),
    }
}

fn statistics(told: &[Told]) -> impl Iterator<Item = (&str, &Statistics)> {
    told.iter().filter_map(|told| Some((told.name.as_str(), told.store.statistics()?)))
}

fn commits(page: &mut Page, told: &[Told]) {
    let mut family = |family, histogram: fn(&Statistics) -> &Histogram, bounds, per| {
        let mut all = Counts::none(bounds);
        for (_, statistics) in statistics(told) {
            all.add(&histogram(statistics).counts());
        }
        page.family(family).counts(&[], &all, per);
    };
    family(&families::COMMIT_DURATION, |of| &of.commit_micros, Statistics::COMMIT_MICROS, 1e6);
    family(&families::COMMIT_GROUP_BATCHES, |of| &of.group_batches, Statistics::GROUP_BATCHES, 1.0);
    family(&families::COMMIT_GROUP_BYTES, |of| &of.group_bytes, Statistics::GROUP_BYTES, 1.0);
}

fn stores(page: &mut Page, told: &[Told]) {
    let mut family = |family, of_memory: bool, value: fn(&Health) -> u64| {
        let mut samples = page.family(family);
        for told in told.iter().filter(|told| of_memory || told.store.statistics().is_some()) {
            if let Some(health) = &told.health {
                samples.add(&[&told.name], value(health));
            }
        }
    };
    family(&families::STORE_USED_BYTES, true, |health| health.used);
    family(&families::STORE_FREE_BYTES, false, |health| health.free);
    family(&families::STORE_SENDS_ALLOWED, true, |health| u64::from(health.sends_allowed));
    family(&families::STORE_QUEUED_BYTES, true, |health| health.queued_bytes);
    family(&families::STORE_RESERVE_BYTES, false, |health| health.reserve);
    family(&families::STORE_COMPACTION_PENDING_BYTES, false, |health| health.debt);
    family(&families::STORE_WRITE_STALLED, false, |health| u64::from(health.is_stalled));
    family(&families::STORE_MEMTABLE_BYTES, false, |health| health.memtable_bytes);
    family(&families::STORE_LOG_BYTES, false, |health| health.log_bytes);
    family(&families::STORE_CACHE_BYTES, false, |health| health.cache_bytes);
    let mut samples = page.family(&families::STORE_FAILURES);
    for (name, statistics) in statistics(told) {
        samples.add(&[name], statistics.failures.load(Ordering::Relaxed));
    }
}

fn memory(page: &mut Page, told: &[Told], process: &Process, connections: usize) {
    let mut samples = page.family(&families::MEMORY_BYTES);
    samples.add(&["messages"], told.iter().filter_map(|told| told.resident).sum::<usize>());
    samples.add(&["connections"], connections);
    let of_stores = |value: fn(&Health) -> u64| {
        told.iter().filter_map(|told| told.health.as_ref()).map(value).sum::<u64>()
    };
    samples.add(&["store_memtable"], of_stores(|health| health.memtable_bytes));
    samples.add(&["store_cache"], of_stores(|health| health.cache_bytes));
    if let Some(resident) = process.resident_bytes() {
        samples.add(&["resident"], resident);
    }
}
