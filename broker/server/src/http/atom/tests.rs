//! Requests as SDKs send them, against a core over a store in memory.

mod access;
mod entities;
mod refusals;
mod rights;
mod rules;
mod table;

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::BodyExt;
use peeklock_core::{Broker, BrokerSettings, SeededIds};
use peeklock_protocol::connection::Config;
use peeklock_storage::{MemStore, Store, Table};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::xml::{ATOM, SCHEMA_INSTANCE, SERVICE_BUS};
use super::*;
use crate::amqp::EndpointSettings;
use crate::audit::Audit;
use crate::auth::{AccessRule, Authority, Rights, Secret};
use crate::clock::{Clock, Step};
use crate::config::{AllowedOrigins, MetricsSettings};
use crate::driver;
use crate::http::gateway::Gateway;
use crate::life::Life;
use crate::metrics::Metrics;
use crate::pressure::{Identities, IdentityLimits, Memory, Shares};
use crate::probe::Probe;
use crate::telemetry::LogLevel;

const HOST: &str = "mine.example:5300";
const ROOT: (&str, &str) = ("RootManageSharedAccessKey", "SAS_KEY_VALUE");
/// The end of 2029, in seconds.
const EXPIRY: u64 = 1_893_456_000;

/// A broker, as its clients see it.
struct World {
    context: HttpContext,
    clock: Clock,
}

/// What came back.
struct Reply {
    status: u16,
    content_type: String,
    etag: Option<String>,
    body: String,
}

/// A request, to be changed by the test that needs another one.
struct Ask {
    method: Method,
    path: String,
    token: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn rule(name: &str, rights: Rights, entity: Option<&str>) -> AccessRule {
    let path = entity.map(|name| EntityPath::for_new_entity(name).unwrap());
    AccessRule::new(name.to_owned(), Secret::new(name), None, rights, path.as_ref())
}

fn token(resource: &str, (name, key): (&str, &str)) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("{resource}\n{EXPIRY}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRY}&skn={name}")
}

impl World {
    fn new() -> Self {
        Self::with(BrokerSettings::default())
    }

    fn with(broker: BrokerSettings) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemStore::new());
        let clock = Clock::steerable();
        clock.steer(Step::Freeze { at: None }).unwrap();
        let open = Box::new(move |store: &dyn Store| {
            let rows = store.scan(Table::State, &Broker::load_range(), usize::MAX, usize::MAX)?;
            Ok(Broker::load(broker, Box::new(SeededIds::new(1)), rows)?)
        });
        let send = Rights { send: true, ..Rights::NONE };
        let listen = Rights { listen: true, ..Rights::NONE };
        let rules = vec![
            rule("sender", send, None),
            rule("listener", listen, None),
            rule("owner", Rights::MANAGE, Some("owned")),
        ];
        let authority = Arc::new(Authority::new(rules, None, true));
        let (at, by) = (Arc::clone(&store), clock.clone());
        let metrics = Metrics::new(MetricsSettings::default());
        let counts = Arc::clone(&metrics);
        let shard = driver::start(at, by, Arc::clone(&authority), open, counts).unwrap();
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
        let gateway = Gateway::start(shard.clone(), u64::MAX).unwrap();
        let started_at = clock.now();
        let settings = Arc::new(settings);
        let origins = Arc::new(AllowedOrigins::new([]));
        let (life, _) = Life::new(LogLevel::of_no_log());
        let probe = Probe::new(gateway.clone(), Arc::clone(&store));
        let context =
            HttpContext { shard, settings, store, origins, gateway, probe, life, started_at };
        World { context, clock }
    }

    async fn send(&self, ask: Ask) -> Reply {
        let uri = format!("{}{}", ask.path, if ask.path.contains('?') { "" } else { API });
        let mut request =
            axum::http::Request::builder().method(ask.method).uri(uri).header("host", HOST);
        if let Some(token) = ask.token {
            request = request.header(AUTHORIZATION, token);
        }
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(ask.body)).unwrap();
        let response = answer(State(self.context.clone()), request).await;
        let header = |name| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (status, content_type) = (response.status().as_u16(), header(CONTENT_TYPE));
        let etag = header(ETAG);
        let body: Bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status, content_type: content_type.unwrap_or_default(), etag, body }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Ask::new(Method::GET, path)).await
    }

    async fn create(&self, path: &str, body: &str) -> Reply {
        self.send(Ask::new(Method::PUT, path).body(body)).await
    }

    async fn update(&self, path: &str, body: &str) -> Reply {
        self.send(Ask::new(Method::PUT, path).header("if-match", "*").body(body)).await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.send(Ask::new(Method::DELETE, path)).await
    }
}

const API: &str = "?api-version=2021-05";

impl Ask {
    fn new(method: Method, path: &str) -> Self {
        let token = Some(token(&format!("https://{HOST}"), ROOT));
        Ask { method, path: path.to_owned(), token, headers: Vec::new(), body: Vec::new() }
    }

    fn token(mut self, token: impl Into<Option<String>>) -> Self {
        self.token = token.into();
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn body(mut self, body: &str) -> Self {
        body.as_bytes().clone_into(&mut self.body);
        self
    }
}

impl Reply {
    #[track_caller]
    fn check(&self, status: u16, part: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.body.contains(part), "{part} is not in {}", self.body);
        self
    }

    #[track_caller]
    fn lacks(&self, part: &str) -> &Self {
        assert!(!self.body.contains(part), "{part} is in {}", self.body);
        self
    }

    /// The names of the entries of a feed.
    fn titles(&self) -> Vec<String> {
        let root = xml::parse(self.body.as_bytes()).unwrap();
        assert_eq!((root.space, root.name.as_str()), (Space::Atom, "feed"));
        let entries = root.children.into_iter().filter(|child| child.name == "entry");
        entries.map(|entry| entry.child(Space::Atom, "title").unwrap().text.clone()).collect()
    }

    /// The ids of the entries of a feed.
    fn ids(&self) -> Vec<String> {
        let root = xml::parse(self.body.as_bytes()).unwrap();
        let entries = root.children.into_iter().filter(|child| child.name == "entry");
        entries.map(|entry| entry.child(Space::Atom, "id").unwrap().text.clone()).collect()
    }
}

/// A body as JavaScript writes it: default namespaces, and something of its own before the content.
fn body(kind: &str, properties: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><entry xmlns=\"{ATOM}\">\
         <updated>2026-01-01T00:00:00Z</updated><content type=\"application/xml\">\
         <{kind} xmlns=\"{SERVICE_BUS}\" xmlns:i=\"{SCHEMA_INSTANCE}\">{properties}</{kind}>\
         </content></entry>"
    )
}

fn queue(properties: &str) -> String {
    body("QueueDescription", properties)
}

fn topic(properties: &str) -> String {
    body("TopicDescription", properties)
}

fn subscription(properties: &str) -> String {
    body("SubscriptionDescription", properties)
}
