//! Who finds which namespace, and what is left of it.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use peeklock_core::BrokerSettings;
use peeklock_protocol::connection::Config;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use super::open::Declared;
use super::*;
use crate::audit::Audit;
use crate::auth::{AccessRule, Authority, Rights, Secret};
use crate::clock::Clock;
use crate::config::{AllowedOrigins, Limits, MetricsSettings, Wanted};
use crate::life::Life;
use crate::metrics::Metrics;
use crate::pressure::{IdentityLimits, Memory, Shares};
use crate::telemetry::LogLevel;

const EXPIRY: u64 = 4_102_444_800;

fn common() -> Common {
    let second = std::time::Duration::from_secs(1);
    Common {
        engine: Arc::new(Config::default()),
        engine_with_certificate: Arc::new(Config::default()),
        limits: Limits {
            connections_max: 10,
            sessions_per_connection: 10,
            links_per_connection: 10,
            max_frame_size: 65_536,
            idle_timeout: second,
            handshake_timeout: second,
            authorize_within: second,
            drain_delay: second,
            settle_within: second,
            stop_within: second,
            of_identity: IdentityLimits::default(),
            shares: Shares::of_machine(),
        },
        origins: Arc::new(AllowedOrigins::new([])),
        faults: false,
        metrics: Metrics::new(MetricsSettings::default()),
        memory: Memory::new(Shares::of_machine()),
        life: Life::new(LogLevel::of_no_log()).0,
        audit: Audit::nowhere(),
        tracer: None,
        backups: Arc::default(),
    }
}

/// With a rule of its own: its name and `key of NAME`.
fn start(name: &str, hosts: &[&str]) -> Arc<Namespace> {
    start_with(name, hosts, BrokerSettings::default())
}

fn start_with(name: &str, hosts: &[&str], core: BrokerSettings) -> Arc<Namespace> {
    let key = Secret::new(format!("key of {name}"));
    let rule = AccessRule::new(name.to_owned(), key, None, Rights::MANAGE, None);
    let plan = Plan {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        authority: Arc::new(Authority::new(vec![rule], None, false)),
        store: open::memory(),
        clock: Clock::real(),
        core,
        declared: Declared::default(),
        made: false,
    };
    Namespace::start(&common(), plan).unwrap()
}

/// The default one, `shop` without hosts, `desk` with one.
fn world() -> Namespaces {
    world_with(BrokerSettings::default())
}

/// The same with such cores.
pub(crate) fn world_with(core: BrokerSettings) -> Namespaces {
    let namespaces = Namespaces::new(start_with("default", &[], core), None);
    namespaces.add("shop".parse().unwrap(), start_with("shop", &[], core));
    namespaces.add("desk".parse().unwrap(), start_with("desk", &["mail.example"], core));
    namespaces
}

impl Namespaces {
    fn name_of(&self, one: &Arc<Namespace>) -> String {
        let named = self
            .others()
            .iter()
            .find(|(_, other)| Arc::ptr_eq(other, one))
            .map(|(name, _)| name.to_string());
        named.unwrap_or_else(|| "default".to_owned())
    }
}

fn token(resource: &str, rule: &str, key: &str) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("{resource}\n{EXPIRY}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={EXPIRY}&skn={rule}")
}

fn plain(rule: &str) -> Vec<u8> {
    format!("\0{rule}\0key of {rule}").into_bytes()
}

#[tokio::test]
async fn a_host_names_a_namespace() {
    let namespaces = world();
    for (host, expected) in [
        ("shop", Some("shop")),
        ("Shop.example:5671", Some("shop")),
        ("shop.servicebus.windows.net", Some("shop")),
        ("mail.example", Some("desk")),
        ("MAIL.example:443", Some("desk")),
        ("desk", None),
        ("desk.example", None),
        ("mail.example.evil", None),
        ("shopping.example", None),
        ("www.shop.example", None),
        ("localhost", None),
        ("127.0.0.1:5672", None),
        ("[::1]:5672", None),
        ("", None),
    ] {
        let found = namespaces.by_host(host).map(|one| namespaces.name_of(&one));
        assert_eq!(found.as_deref(), expected, "{host}");
    }
}

#[tokio::test]
async fn the_numbers_of_an_address_name_no_namespace() {
    let namespaces = world();
    namespaces.add("127".parse().unwrap(), start("127", &[]));
    assert!(namespaces.by_host("127.0.0.1:5672").is_none());
    assert!(namespaces.by_host("127.example").is_some());
}

#[tokio::test]
async fn a_key_leads_to_its_namespace() {
    let namespaces = world();
    let audience = "sb://localhost/q";
    for (rule, key, expected) in [
        ("shop", "key of shop", Some("shop")),
        ("desk", "key of desk", Some("desk")),
        ("default", "key of default", None),
        ("shop", "key of desk", None),
        ("nobody", "key of shop", None),
    ] {
        let found = namespaces.by_token(&token(audience, rule, key), audience);
        let found = found.map(|one| namespaces.name_of(&one));
        assert_eq!(found.as_deref(), expected, "{rule} with {key}");
        let response = format!("\0{rule}\0{key}");
        let found = namespaces.by_plain(Some(response.as_bytes()));
        let found = found.map(|one| namespaces.name_of(&one));
        assert_eq!(found.as_deref(), expected, "{rule} with {key}");
    }
    assert!(namespaces.by_token("nonsense", audience).is_none());
    assert!(namespaces.by_plain(None).is_none());
}

fn request(host: &str, authorization: Option<String>) -> Request {
    let mut request = axum::http::Request::builder().uri("/q").header(HOST, host);
    if let Some(token) = authorization {
        request = request.header(AUTHORIZATION, token);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_request_goes_where_its_host_or_its_token_belongs() {
    let namespaces = world();
    let signed = |rule: &str| Some(token("https://any.example/q", rule, &format!("key of {rule}")));
    for (host, token, expected) in [
        ("any.example", None, "default"),
        ("any.example", signed("default"), "default"),
        ("any.example", signed("shop"), "shop"),
        ("any.example", Some("Bearer nonsense".to_owned()), "default"),
        ("shop.example", None, "shop"),
        // The host counts, and the token is no good there.
        ("shop.example", signed("desk"), "shop"),
        ("mail.example:5300", None, "desk"),
    ] {
        let found = namespaces.of_request(&request(host, token.clone()));
        assert_eq!(namespaces.name_of(&found), expected, "{host} {token:?}");
    }
}

#[tokio::test]
async fn a_connection_moves_until_it_enters() {
    let namespaces = world();
    let name = |place: &Place| namespaces.name_of(place.namespace());
    let mut place = Place::new(namespaces.clone(), None);
    assert_eq!(name(&place), "default");
    place.show_plain(Some(&plain("desk")));
    assert_eq!(name(&place), "desk");
    place.show_plain(Some(&plain("nobody")));
    assert_eq!(name(&place), "default");
    place.show_token(&token("sb://localhost/", "shop", "key of shop"), "sb://localhost/q");
    assert_eq!(name(&place), "shop");
    assert!(place.take_entered().is_none());
    place.enter();
    place.show_plain(Some(&plain("desk")));
    assert_eq!(name(&place), "shop");
    assert!(place.take_entered().is_some());
    assert!(place.take_entered().is_none(), "once is enough");
    assert_eq!(place.name("shop.example"), Ok(()));
    assert_eq!(place.name("any.example"), Ok(()));
    assert_eq!(place.name("mail.example"), Err(OtherNamespace));
    assert_eq!(name(&place), "shop");
}

#[tokio::test]
async fn a_host_counts_more_than_a_key_and_the_last_host_counts() {
    let namespaces = world();
    let name = |place: &Place| namespaces.name_of(place.namespace());
    let mut place = Place::new(namespaces.clone(), Some("shop.example"));
    assert_eq!(name(&place), "shop");
    place.show_plain(Some(&plain("desk")));
    assert_eq!(name(&place), "shop");
    // By way of a proxy with a name of its own.
    assert_eq!(place.name("mail.example"), Ok(()));
    assert_eq!(name(&place), "desk");
    assert_eq!(place.name("unknown.example"), Ok(()));
    assert_eq!(name(&place), "desk");
}

/// One that may make others.
fn maker() -> Namespaces {
    let core = BrokerSettings::default();
    let maker = Maker { common: common(), core, virtual_time: false };
    Namespaces::new(start("default", &[]), Some(maker))
}

fn name(text: &str) -> NamespaceName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_namespace_is_made_with_a_key_and_entities_of_its_own() {
    let namespaces = maker();
    let wanted = br#"{"queue": [{"name": "q", "lock_duration": "5s"}], "topic": [{"name": "t",
        "subscription": [{"name": "s", "rule": [{"name": "r", "sql_filter": "a = 1"}]}]}]}"#;
    let made = namespaces.make(name("one"), Wanted::read(wanted).unwrap()).await.unwrap();
    let response = format!("\0{}\0{}", made.rule, made.key);
    let found = namespaces.by_plain(Some(response.as_bytes())).unwrap();
    assert!(namespaces.by_host("one.example").is_some_and(|one| Arc::ptr_eq(&one, &found)));
    let queues = found.enter().shard.query(|core| core.queue_stats().count()).await.unwrap();
    assert_eq!(queues, 3, "the queue, the topic and its subscription");
    let other = namespaces.make(name("two"), Wanted::default()).await.unwrap();
    assert_ne!(made.key, other.key);
    assert_eq!(made.key.len(), 44);
}

#[tokio::test]
async fn a_name_is_taken_once_and_only_what_was_made_is_dropped() {
    let namespaces = maker();
    namespaces.add(name("declared"), start("declared", &[]));
    namespaces.make(name("one"), Wanted::default()).await.unwrap();
    for taken in ["one", "declared"] {
        let refused = namespaces.make(name(taken), Wanted::default()).await;
        assert!(matches!(refused, Err(MakeError::Exists)), "{taken}");
    }
    for missing in ["declared", "two", ""] {
        let refused = namespaces.drop_made(missing).await;
        assert!(matches!(refused, Err(MakeError::NotMade)), "{missing}");
    }
    namespaces.drop_made("one").await.unwrap();
    namespaces.make(name("one"), Wanted::default()).await.unwrap();
    let off = world();
    assert!(matches!(off.make(name("one"), Wanted::default()).await, Err(MakeError::Off)));
    assert!(matches!(off.drop_made("shop").await, Err(MakeError::Off)));
}

#[tokio::test]
async fn nothing_is_left_of_a_dropped_namespace() {
    let namespaces = maker();
    namespaces.make(name("one"), Wanted::default()).await.unwrap();
    let one = namespaces.by_host("one").unwrap();
    let (weak, store) = (Arc::downgrade(&one), Arc::downgrade(one.store()));
    let stay = one.enter();
    let mut told = one.gone();
    drop(one);
    let mut drop_it = std::pin::pin!(namespaces.drop_made("one"));
    tokio::select! {
        _ = &mut drop_it => panic!("a connection is still there"),
        why = told.wait_for(Option::is_some) => assert_eq!(*why.unwrap(), Some(Gone::Dropped)),
    }
    assert!(namespaces.by_host("one").is_none(), "it is found no more");
    let shard = stay.shard.clone();
    drop(stay);
    drop_it.await.unwrap();
    assert!(shard.query(|_| ()).await.is_err(), "its driver has ended");
    drop(shard);
    // The task that hands out answers ends by itself.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(weak.upgrade().is_none(), "the namespace");
    assert!(store.upgrade().is_none(), "its store");
}

#[tokio::test]
async fn namespaces_are_bounded() {
    let namespaces = maker();
    for n in 0..limits::MADE_MAX {
        namespaces.make(name(&format!("n{n}")), Wanted::default()).await.unwrap();
    }
    let refused = namespaces.make(name("more"), Wanted::default()).await;
    assert!(matches!(refused, Err(MakeError::TooMany)));
    namespaces.drop_made("n7").await.unwrap();
    namespaces.make(name("more"), Wanted::default()).await.unwrap();
}
