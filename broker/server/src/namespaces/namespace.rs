//! One namespace, from its store to its routes.

use std::sync::{Arc, OnceLock};

use axum::Router;
use peeklock_core::BrokerSettings;
use peeklock_protocol::connection::Config;
use peeklock_storage::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::warn;

use super::WeakNamespaces;
use super::limits::DROP_WITHIN;
use super::open::{self, Declared};
use crate::amqp::EndpointSettings;
use crate::audit::Audit;
use crate::auth::{self, Authority, TokenError};
use crate::backup::Backups;
use crate::clock::Clock;
use crate::config::{AllowedOrigins, Limits};
use crate::driver::{self, ShardHandle, Stopped};
use crate::faults::Faults;
use crate::http::control::Control;
use crate::http::gateway::Gateway;
use crate::http::{self, HttpContext};
use crate::life::Life;
use crate::metrics::Metrics;
use crate::pressure::{Identities, Memory};
use crate::probe::Probe;
use crate::traces::Tracer;

/// Why connections have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The broker stops.
    Stopping,
    /// Their namespace was dropped.
    Dropped,
}

/// What all namespaces of a broker have alike.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) engine: Arc<Config>,
    pub(crate) engine_with_certificate: Arc<Config>,
    pub(crate) limits: Limits,
    pub(crate) origins: Arc<AllowedOrigins>,
    /// Whether things go wrong when tests want it.
    pub(crate) faults: bool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) life: Life,
    pub(crate) audit: Audit,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) backups: Arc<Backups>,
}

/// What one has for itself.
pub(crate) struct Plan {
    /// The host names it is found by, in lower case; none: by its name.
    pub(crate) hosts: Vec<String>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) core: BrokerSettings,
    pub(crate) declared: Declared,
    /// By a request, while the broker runs.
    pub(crate) made: bool,
}

/// See the module.
pub(crate) struct Namespace {
    hosts: Vec<String>,
    http: HttpContext,
    routes: Router,
    gone: watch::Sender<Option<Gone>>,
    connections: TaskTracker,
    made: bool,
    faults: Option<Arc<Faults>>,
    /// What its own routes can do to namespaces, which only those of the default one can.
    control: Arc<OnceLock<WeakNamespaces>>,
}

/// A connection's stay in a namespace.
pub(crate) struct Stay {
    pub(crate) shard: ShardHandle,
    /// Counts the connection for as long as it stays.
    pub(crate) _token: TaskTrackerToken,
}

impl Namespace {
    /// Loads it and starts its driver.
    pub(crate) fn start(common: &Common, plan: Plan) -> anyhow::Result<Arc<Self>> {
        let Plan { hosts, authority, store, clock, core, declared, made } = plan;
        let open = open::shard(core, declared, clock.clone());
        let shard = driver::start(
            Arc::clone(&store),
            clock.clone(),
            Arc::clone(&authority),
            open,
            Arc::clone(&common.metrics),
        )?;
        let gateway = Gateway::start(shard.clone(), common.memory.shares().bodies)?;
        let http = HttpContext {
            probe: Probe::new(gateway.clone(), Arc::clone(&store)),
            life: common.life.clone(),
            gateway,
            shard,
            started_at: clock.now(),
            settings: Arc::new(EndpointSettings {
                engine: Arc::clone(&common.engine),
                engine_with_certificate: Arc::clone(&common.engine_with_certificate),
                clock,
                authority,
                authorize_within: common.limits.authorize_within,
                settle_within: common.limits.settle_within,
                metrics: Arc::clone(&common.metrics),
                memory: Arc::clone(&common.memory),
                identities: Identities::new(common.limits.of_identity),
                audit: common.audit.clone(),
                tracer: common.tracer.clone(),
            }),
            store,
            origins: Arc::clone(&common.origins),
        };
        let control = Arc::new(OnceLock::new());
        let faults = common.faults.then(Arc::<Faults>::default);
        let routes = http::router(Control {
            http: http.clone(),
            namespaces: Arc::clone(&control),
            faults: faults.clone(),
            backups: Arc::clone(&common.backups),
        });
        let (gone, _) = watch::channel(None);
        let connections = TaskTracker::new();
        Ok(Arc::new(Self { hosts, http, routes, gone, connections, made, faults, control }))
    }

    /// What goes wrong in it, if tests may want that.
    pub(crate) fn faults(&self) -> Option<&Arc<Faults>> {
        self.faults.as_ref()
    }

    /// Lets its routes make and drop others.
    pub(super) fn let_control(&self, namespaces: WeakNamespaces) {
        // The first directory it stands in; there is no other.
        let _ = self.control.set(namespaces);
    }

    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    pub(super) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Waits until its connections are gone, and stops.
    pub(super) async fn end(&self) {
        self.connections.close();
        if tokio::time::timeout(DROP_WITHIN, self.connections.wait()).await.is_err() {
            warn!(connections = self.connections.len(), "some connections of a namespace stay");
        }
        match self.stop().await {
            Ok(Ok(())) | Err(Stopped) => {}
            Ok(Err(error)) => warn!(%error, "the store of a namespace did not close"),
        }
    }

    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub(crate) fn settings(&self) -> &Arc<EndpointSettings> {
        &self.http.settings
    }

    /// What its requests need.
    pub(crate) fn context(&self) -> &HttpContext {
        &self.http
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.http.store
    }

    /// Whether a send and a receive succeed.
    pub(crate) fn probe(&self) -> &Probe {
        &self.http.probe
    }

    /// What is served by HTTP.
    pub(crate) fn routes(&self) -> Router {
        self.routes.clone()
    }

    /// Tells when and why connections have to go.
    pub(crate) fn gone(&self) -> watch::Receiver<Option<Gone>> {
        self.gone.subscribe()
    }

    /// Lets a connection in.
    pub(crate) fn enter(&self) -> Stay {
        Stay { shard: self.http.shard.clone(), _token: self.connections.token() }
    }

    pub(super) fn has_signed(&self, token: &str, audience: &str) -> bool {
        let EndpointSettings { authority, clock, .. } = &*self.http.settings;
        let judged = authority.verify(token, audience, clock.now());
        !matches!(judged, Err(TokenError::Signature | TokenError::Malformed(_)))
    }

    pub(super) fn takes_plain(&self, response: Option<&[u8]>) -> bool {
        auth::sasl(&self.http.settings.authority, "PLAIN", response).is_ok()
    }

    pub(super) fn tell(&self, why: Gone) {
        self.gone.send_replace(Some(why));
    }

    pub(super) async fn stop(&self) -> Result<Result<(), StoreError>, Stopped> {
        self.http.shard.stop().await
    }
}
