//! One scrape: asks everybody who knows something, and writes it down.
//!
//! Drivers are asked short questions and disks are asked on a thread that may block. What does not
//! answer in time is left out: the rest is still worth having.

use std::time::Duration;

use peeklock_core::Broker;
use peeklock_storage::Health;

use super::{Page, families};
use crate::namespaces::{Namespace, Namespaces};

/// What the default namespace is called here.
const DEFAULT: &str = "default";

/// A core or a disk that takes longer for a short question is left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What one namespace has told.
struct Told {
    name: String,
    health: Option<Health>,
    /// Octets of messages in memory.
    resident: Option<usize>,
}

/// All there is to say now.
pub(crate) async fn scrape(namespaces: &Namespaces) -> String {
    let mut told = vec![ask(DEFAULT, namespaces.default()).await];
    for (name, namespace) in namespaces.further() {
        told.push(ask(name.as_str(), &namespace).await);
    }
    let default = namespaces.default().context();
    let mut page = Page::default();
    page.family(&families::BUILD_INFO).add(&[env!("CARGO_PKG_VERSION")], 1);
    let seconds = default.metrics().started_at_seconds();
    page.family(&families::START_TIME).add(&[], seconds);
    page.family(&families::READY).add(&[], u8::from(default.is_ready().await));
    stores(&mut page, &told);
    memory(&mut page, &told);
    default.metrics().write(&mut page);
    page.into_text()
}

async fn ask(name: &str, namespace: &Namespace) -> Told {
    let store = std::sync::Arc::clone(namespace.store());
    let health = tokio::task::spawn_blocking(move || store.health());
    let health = tokio::time::timeout(ANSWER_WITHIN, health).await;
    let shard = &namespace.context().shard;
    let resident = tokio::time::timeout(ANSWER_WITHIN, shard.query(Broker::resident_bytes)).await;
    Told {
        name: name.to_owned(),
        health: health.ok().and_then(Result::ok),
        resident: resident.ok().and_then(Result::ok),
    }
}

fn stores(page: &mut Page, told: &[Told]) {
    let mut family = |family, value: fn(&Health) -> u64| {
        let mut samples = page.family(family);
        for told in told {
            if let Some(health) = &told.health {
                samples.add(&[&told.name], value(health));
            }
        }
    };
    family(&families::STORE_USED_BYTES, |health| health.used);
    family(&families::STORE_FREE_BYTES, |health| health.free);
    family(&families::STORE_SENDS_ALLOWED, |health| u64::from(health.sends_allowed));
    family(&families::STORE_QUEUED_BYTES, |health| health.queued_bytes);
    family(&families::STORE_COMPACTION_PENDING_BYTES, |health| health.debt);
}

fn memory(page: &mut Page, told: &[Told]) {
    let mut samples = page.family(&families::MEMORY_BYTES);
    samples.add(&["messages"], told.iter().filter_map(|told| told.resident).sum::<usize>());
}
