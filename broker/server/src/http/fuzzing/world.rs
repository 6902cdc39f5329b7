//! A broker that forgets everything, with the routes in front of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use peeklock_core::command::Command;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::{BrokerSettings, EntityStatus, QueueSettings};
use peeklock_core::topic::command::TopicCommand;
use peeklock_core::{Broker, SeededIds, TopicSettings};
use peeklock_protocol::connection::Config;
use peeklock_storage::{MemStore, Store, Table};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use tower_service::Service;

use crate::amqp::EndpointSettings;
use crate::audit::Audit;
use crate::auth::Authority;
use crate::clock::Clock;
use crate::config::{AllowedOrigins, MetricsSettings};
use crate::driver::{self, ShardHandle};
use crate::http::control::Control;
use crate::http::gateway::Gateway;
use crate::http::{HttpContext, HttpPeer, router};
use crate::life::Life;
use crate::metrics::Metrics;
use crate::pressure::{Identities, IdentityLimits, Memory, Shares};
use crate::probe::Probe;
use crate::telemetry::LogLevel;

pub(in crate::http) const HOST: &str = "mine.example:5300";

/// A token with all rights, or one that nobody signed.
pub(in crate::http) fn token(forged: bool) -> String {
    let resource = utf8_percent_encode(&format!("https://{HOST}"), NON_ALPHANUMERIC).to_string();
    let expiry = 4_500_000_000_u64;
    let key: &[u8] = if forged { b"another" } else { b"SAS_KEY_VALUE" };
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key will do");
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    let rule = "RootManageSharedAccessKey";
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={rule}")
}

pub(in crate::http) struct World {
    routes: Router,
    pub(in crate::http) gateway: Gateway,
    pub(in crate::http) shard: ShardHandle,
}

impl World {
    /// With some entities to ask for.
    pub(in crate::http) async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemStore::new());
        let clock = Clock::steerable();
        let open = Box::new(|store: &dyn Store| {
            let rows = store.scan(Table::State, &Broker::load_range(), usize::MAX, usize::MAX)?;
            let settings = BrokerSettings::default();
            Ok(Broker::load(settings, Box::new(SeededIds::new(1)), rows)?)
        });
        let authority = Arc::new(Authority::new(Vec::new(), None, true));
        let (at, by) = (Arc::clone(&store), clock.clone());
        let metrics = Metrics::new(MetricsSettings::default());
        let counts = Arc::clone(&metrics);
        let shard = driver::start(at, by, Arc::clone(&authority), open, counts).expect("a driver");
        let settings = EndpointSettings {
            engine: Arc::new(Config::default()),
            engine_with_certificate: Arc::new(Config::default()),
            clock: clock.clone(),
            authority,
            authorize_within: Duration::from_secs(20),
            settle_within: Duration::ZERO,
            metrics,
            memory: Memory::new(Shares::of_machine()),
            identities: Identities::new(IdentityLimits::default()),
            audit: Audit::nowhere(),
            tracer: None,
        };
        let gateway = Gateway::start(shard.clone(), u64::MAX).expect("a driver");
        let (life, _) = Life::new(LogLevel::of_no_log());
        let context = HttpContext {
            shard: shard.clone(),
            settings: Arc::new(settings),
            probe: Probe::new(gateway.clone(), Arc::clone(&store)),
            life,
            store,
            origins: Arc::new(AllowedOrigins::new([])),
            gateway: gateway.clone(),
            started_at: clock.now(),
        };
        declare(&gateway).await;
        let control = Control {
            http: context,
            namespaces: Arc::default(),
            faults: None,
            backups: Arc::default(),
        };
        let routes = router(control).layer(Extension(HttpPeer::default()));
        World { routes, gateway, shard }
    }

    pub(in crate::http) async fn ask(&self, request: Request<Body>) -> Response {
        let mut routes = self.routes.clone();
        routes.call(request).await.expect("routes always answer")
    }

    /// No request is open any more, so nobody waits, for an answer or for a message, and no body takes
    /// room. What is being sent goes on for as long as that takes.
    pub(in crate::http) async fn assert_nothing_is_left(&self) {
        // What the last of them left to do is done before this.
        let path = EntityPath::for_new_entity("nobody-makes-this").expect("a path");
        let asked = self.gateway.ask(|origin| Command::OpenManagement { origin, path }).await;
        assert!(asked.is_err(), "there is no such entity");
        until(|| self.gateway.waiting() == 0 && self.gateway.kib_taken() == 0).await;
    }
}

/// Waits until it is so, which has to be soon.
pub(in crate::http) async fn until(is_so: impl Fn() -> bool) {
    let come = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), come).await.expect("it is not so");
}

async fn declare(gateway: &Gateway) {
    let plain = QueueSettings::default;
    let queues = [
        ("q", plain()),
        ("a/b", plain()),
        ("sessions", QueueSettings { requires_session: true, ..plain() }),
        ("small", QueueSettings { message_bytes_max: 100, ..plain() }),
        ("off", QueueSettings { status: EntityStatus::Disabled, ..plain() }),
    ];
    for (name, settings) in queues {
        let path = EntityPath::for_new_entity(name).expect("a path");
        let made = gateway.ask(|origin| Command::CreateQueue { origin, path, settings }).await;
        made.expect("a queue");
    }
    let path = EntityPath::for_new_entity("t").expect("a path");
    let below = EntityPath::for_new_subscription(&path, "s").expect("a path");
    let settings = TopicSettings::default();
    let command = |origin| TopicCommand::CreateTopic { origin, path, settings };
    let made = gateway.ask(|origin| Command::OfTopic(Box::new(command(origin)))).await;
    made.expect("a topic");
    let (path, settings, rule) = (below, plain(), None);
    let command = |origin| TopicCommand::CreateSubscription { origin, path, settings, rule };
    let made = gateway.ask(|origin| Command::OfTopic(Box::new(command(origin)))).await;
    made.expect("a subscription");
}
