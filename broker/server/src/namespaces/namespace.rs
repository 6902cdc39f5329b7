//! One namespace, from its store to its routes.

use std::sync::Arc;

use axum::Router;
use peeklock_core::BrokerSettings;
use peeklock_protocol::connection::Config;
use peeklock_storage::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::open::{self, Declared};
use crate::amqp::EndpointSettings;
use crate::auth::{self, Authority, TokenError};
use crate::clock::Clock;
use crate::config::{AllowedOrigins, Limits};
use crate::driver::{self, ShardHandle, Stopped};
use crate::http::gateway::Gateway;
use crate::http::{self, HttpContext};

/// Why connections have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The broker stops.
    Stopping,
}

/// What all namespaces of a broker have alike.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) engine: Arc<Config>,
    pub(crate) engine_with_certificate: Arc<Config>,
    pub(crate) limits: Limits,
    pub(crate) origins: Arc<AllowedOrigins>,
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
}

/// See the module.
pub(crate) struct Namespace {
    hosts: Vec<String>,
    http: HttpContext,
    routes: Router,
    gone: watch::Sender<Option<Gone>>,
    connections: TaskTracker,
}

/// A connection's stay in a namespace.
pub(crate) struct Stay {
    pub(crate) shard: ShardHandle,
    /// Counts the connection for as long as it stays.
    pub(crate) _token: TaskTrackerToken,
}

impl Namespace {
    /// Loads it and starts its driver.
    pub(crate) async fn start(common: &Common, plan: Plan) -> anyhow::Result<Arc<Self>> {
        let Plan { hosts, authority, store, clock, core, declared } = plan;
        let open = open::shard(core, declared, clock.clone());
        let shard = driver::start(Arc::clone(&store), clock.clone(), Arc::clone(&authority), open)?;
        let http = HttpContext {
            gateway: Gateway::start(shard.clone()).await?,
            shard,
            started_at: clock.now(),
            settings: Arc::new(EndpointSettings {
                engine: Arc::clone(&common.engine),
                engine_with_certificate: Arc::clone(&common.engine_with_certificate),
                clock,
                authority,
                authorize_within: common.limits.authorize_within,
            }),
            store,
            origins: Arc::clone(&common.origins),
        };
        let routes = http::router(http.clone());
        let (gone, _) = watch::channel(None);
        Ok(Arc::new(Self { hosts, http, routes, gone, connections: TaskTracker::new() }))
    }

    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub(crate) fn settings(&self) -> &Arc<EndpointSettings> {
        &self.http.settings
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.http.store
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
