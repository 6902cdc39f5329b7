//! What the broker counts and measures for those who watch it.
//!
//! One value for a process, made when it starts and handed down, with the registry of the crate
//! `prometheus` in it; nothing here is global. What happens often is counted where it happens, in handles
//! of that registry that were made beforehand; what merely is, is asked for when somebody scrapes.
//! `families` lists all there is about the process; `page` writes what a scraper reads; `scrape` puts it
//! together.

mod access;
mod backups;
mod entities;
mod families;
mod family;
mod latency;
mod limits;
mod page;
mod peers;
mod pieces;
mod process;
#[cfg(test)]
mod reference;
mod refusals;
mod requests;
mod scrape;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use access::Refused;
pub(crate) use backups::BackupCounts;
pub(crate) use family::{Family, Kind};
pub(crate) use latency::Stopwatch;
pub(crate) use limits::Limit;
pub(crate) use page::{CONTENT_TYPE, Page};
pub(crate) use peers::{CountedLink, CreditRole, LinkRole, Protocol};
pub(crate) use pieces::Pieces;
pub(crate) use refusals::AuthenticationFailure;
pub(crate) use requests::Route;
pub(crate) use scrape::scrape;

use crate::config::MetricsSettings;
use crate::net::tls::Tls;
use entities::EntitiesShown;
use latency::Latencies;
use limits::LimitHits;
use peers::Peers;
use refusals::Refusals;
use requests::Requests;

/// How long a scraper waits for another one. Whoever is told to come later than this has lost nothing:
/// scrapes come every few seconds.
const TURN_WITHIN: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Metrics {
    settings: MetricsSettings,
    started_at: SystemTime,
    /// One scrape at a time, so that nobody can load the broker with them.
    turn: Semaphore,
    registry: Registry,
    limit_hits: LimitHits,
    latencies: Latencies,
    peers: Peers,
    refusals: Refusals,
    requests: Requests,
    /// Of which the certificate is shown, if there is any.
    tls: OnceLock<Arc<Tls>>,
    entities: EntitiesShown,
    backups: Arc<BackupCounts>,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new(settings: MetricsSettings) -> Arc<Self> {
        let registry = Registry::new();
        Arc::new(Self {
            entities: EntitiesShown::new(settings.entities_max),
            settings,
            started_at: crate::clock::time_of_day(),
            turn: Semaphore::new(1),
            limit_hits: LimitHits::new(&registry),
            latencies: Latencies::new(),
            peers: Peers::new(&registry),
            refusals: Refusals::new(&registry),
            requests: Requests::new(&registry),
            tls: OnceLock::new(),
            backups: Arc::new(BackupCounts::new(&registry)),
            registry,
        })
    }

    /// Whether anything is counted and shown at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// How many entities are shown.
    fn entities(&self) -> &EntitiesShown {
        &self.entities
    }

    /// When the broker began to serve, in seconds since 1970.
    fn started_at_seconds(&self) -> f64 {
        self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// Waits for the turn to scrape; nothing when it does not come soon.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(TURN_WITHIN, self.turn.acquire()).await.ok()?.ok()
    }

    /// Shows when the certificate ends.
    pub(crate) fn watch_certificate(&self, tls: &Arc<Tls>) {
        // There is one for the whole process.
        let _ = self.tls.set(Arc::clone(tls));
    }

    /// Somebody came to a limit and was held back or refused.
    pub(crate) fn limit_hit(&self, limit: Limit) {
        self.limit_hits(limit, 1);
    }

    /// The same, so many times.
    pub(crate) fn limit_hits(&self, limit: Limit, count: u32) {
        self.limit_hits.add(limit, count);
    }

    /// For whoever makes backups.
    pub(crate) fn backups(&self) -> Arc<BackupCounts> {
        Arc::clone(&self.backups)
    }

    /// What is counted, and whoever has something to count adds to it.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// When the certificate ends.
    fn certificate(&self, page: &mut Page) {
        let mut samples = page.family(&families::CERTIFICATE_EXPIRY);
        if let Some(end) = self.tls.get().and_then(|tls| tls.valid_until()) {
            samples.add(&[], end.0 / 1000);
        }
    }
}
