//! Several namespaces: how each door leads to one, and that none shows anything of another.

use peeklock_protocol::condition;
use peeklock_protocol::performative::{Close, Open};
use peeklock_protocol::value::Map;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::link::{receiver, sender};
use peeklock_tests::requests::Requests;
use peeklock_tests::{Peer, TestBroker, sas};

use super::ask::Ask;
use super::tls;
use super::tunnel::{Tls, over_tls, over_websocket_to};

const SHOP_KEY: &str = "key of the shop";
const DESK_KEY: &str = "key of the desk";

/// Beside the default namespace `shop`, found by its name, and `desk`, found by a host. All have the
/// queue `q`, and each one of its own.
const CONFIG: &str = r#"
[[queue]]
name = "q"
[[queue]]
name = "of-default"

[[namespace]]
name = "shop"
[[namespace.queue]]
name = "q"
[[namespace.queue]]
name = "of-shop"
[[namespace.rule]]
name = "owner"
primary_key = "key of the shop"
rights = ["manage"]

[[namespace]]
name = "desk"
hosts = ["mail.example"]
[[namespace.topic]]
name = "of-desk"
[[namespace.queue]]
name = "q"
[[namespace.rule]]
name = "owner"
primary_key = "key of the desk"
rights = ["manage"]
"#;

fn start() -> TestBroker {
    TestBroker::with().config(CONFIG).start()
}

fn open_at(host: &str) -> Open {
    Open {
        container_id: "tests".into(),
        hostname: Some(host.into()),
        max_frame_size: Some(1024 * 1024),
        ..Open::default()
    }
}

/// Sends and receives in `q`, which has to be empty before.
#[track_caller]
fn exchange(peer: &mut Peer, text: &str) {
    peer.send_texts("q", &[text]);
    assert_eq!(peer.drain_texts("q"), [text]);
}

/// Entities that are not there, for a peer that may do everything where it is.
#[track_caller]
fn assert_missing(peer: &mut Peer, names: &[&str]) {
    for name in names {
        peer.expect_refusal(sender(name), condition::NOT_FOUND);
        peer.expect_refusal(receiver(name), condition::NOT_FOUND);
    }
}

/// The rights that a key's token gives on `$cbs`.
#[track_caller]
fn status(peer: &mut Peer, cbs: &mut Requests, host: &str, rule: &str, key: &str) -> i32 {
    let audience = format!("sb://{host}/");
    let token = sas::token(&audience, rule, key, sas::now() + 3600);
    peer.put_token(cbs, &audience, &token)
}

#[test]
fn a_name_and_key_lead_to_their_namespace() {
    let broker = start();
    broker.peer().send_texts("q", &["default"]);
    let mut shop = broker.connect().plain("owner", SHOP_KEY).open().begin();
    shop.send_texts("q", &["shop"]);
    let mut desk = broker.connect().plain("owner", DESK_KEY).open().begin();
    desk.send_texts("q", &["desk"]);
    assert_missing(&mut shop, &["of-default", "of-desk"]);
    assert_missing(&mut desk, &["of-default", "of-shop"]);
    let mut default = broker.peer();
    assert_missing(&mut default, &["of-shop", "of-desk"]);
    assert_eq!(shop.drain_texts("q"), ["shop"]);
    assert_eq!(desk.drain_texts("q"), ["desk"]);
    assert_eq!(default.drain_texts("q"), ["default"]);
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn a_key_with_the_name_of_another_rule_is_refused() {
    let broker = start();
    for (rule, key) in [(DEV_RULE, SHOP_KEY), ("owner", DEV_KEY), ("owner", "")] {
        let mut peer = broker.connect();
        peer.sasl_mechanisms();
        peer.sasl_init("PLAIN", Some(format!("\0{rule}\0{key}").as_bytes()));
        assert_eq!(peer.sasl_outcome(), 1, "{rule} with {key:?}");
    }
}

#[test]
fn the_first_good_token_leads_to_its_namespace_and_no_other_counts_there() {
    let broker = start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", "no key"), 401);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", SHOP_KEY), 202);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", DESK_KEY), 401);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", DEV_RULE, DEV_KEY), 401);
    exchange(&mut peer, "by token");
    assert_missing(&mut peer, &["of-default", "of-desk"]);
    assert!(broker.peer().drain_texts("q").is_empty());
}

/// A peer that asks for more than a way to show tokens belongs somewhere from then on.
#[test]
fn a_link_without_a_token_stays_in_the_default_namespace() {
    let broker = start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    peer.expect_refusal(sender("of-shop"), condition::UNAUTHORIZED_ACCESS);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", SHOP_KEY), 401);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", DEV_RULE, DEV_KEY), 202);
    assert_missing(&mut peer, &["of-shop"]);
}

#[test]
fn the_host_of_open_names_a_namespace() {
    let broker = start();
    for host in ["shop", "shop.example", "SHOP.servicebus.windows.net:5671"] {
        let mut peer = broker.connect().anonymous().open_with(open_at(host)).begin();
        let mut cbs = peer.open_cbs();
        assert_eq!(status(&mut peer, &mut cbs, host, DEV_RULE, DEV_KEY), 401, "{host}");
        assert_eq!(status(&mut peer, &mut cbs, host, "owner", DESK_KEY), 401, "{host}");
        assert_eq!(status(&mut peer, &mut cbs, host, "owner", SHOP_KEY), 202, "{host}");
        exchange(&mut peer, host);
        assert_missing(&mut peer, &["of-default", "of-desk"]);
    }
    let mut peer = broker.connect().anonymous().open_with(open_at("mail.example")).begin();
    let mut cbs = peer.open_cbs();
    assert_eq!(status(&mut peer, &mut cbs, "mail.example", "owner", DESK_KEY), 202);
    peer.attach_sender("of-desk");
}

/// A namespace with hosts is for these only, and so are its tokens.
#[test]
fn a_token_for_a_foreign_host_is_refused() {
    let broker = start();
    let mut peer = broker.anonymous_peer();
    let mut cbs = peer.open_cbs();
    assert_eq!(status(&mut peer, &mut cbs, "desk.example", "owner", DESK_KEY), 401);
    assert_eq!(status(&mut peer, &mut cbs, "mail.example", "owner", DESK_KEY), 202);
}

#[test]
fn credentials_of_one_namespace_do_not_open_a_host_of_another() {
    let broker = start();
    for (rule, key, host) in
        [(DEV_RULE, DEV_KEY, "shop.example"), ("owner", SHOP_KEY, "mail.example")]
    {
        let mut peer = broker.connect().plain(rule, key).open_with(open_at(host));
        let close: Close = peer.expect();
        let error = close.error.expect("an error");
        assert_eq!(error.condition.as_str(), condition::NOT_ALLOWED);
        assert!(!error.description.unwrap_or_default().contains("shop"), "no names are told");
    }
    // Its own host is as good as one that names nothing.
    let mut peer = broker.connect().plain("owner", SHOP_KEY).open_with(open_at("shop.a")).begin();
    exchange(&mut peer, "at home");
}

#[test]
fn the_host_of_tls_names_a_namespace_and_that_of_open_counts_more() {
    let dir = tempfile::tempdir().expect("a folder");
    tls::certificates(dir.path(), &["--host", "shop.example", "--host", "mail.example"]);
    let broker = TestBroker::with()
        .config(CONFIG)
        .argument("--tls-certificate")
        .argument(dir.path().join("server.pem"))
        .argument("--tls-key")
        .argument(dir.path().join("server.key"))
        .start();
    let connect = || over_tls(broker.address(), Tls::trusting(dir.path()).at_host("shop.example"));
    let mut peer = connect();
    peer.sasl_mechanisms();
    peer.sasl_init("PLAIN", Some(format!("\0{DEV_RULE}\0{DEV_KEY}").as_bytes()));
    assert_eq!(peer.sasl_outcome(), 1, "a key of the default namespace");
    let mut peer = connect().plain("owner", SHOP_KEY).open().begin();
    exchange(&mut peer, "by TLS");
    let mut peer = connect().anonymous().open().begin();
    let mut cbs = peer.open_cbs();
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", DESK_KEY), 401);
    assert_eq!(status(&mut peer, &mut cbs, "localhost", "owner", SHOP_KEY), 202);
    assert_missing(&mut peer, &["of-default"]);
    let mut peer = connect().anonymous().open_with(open_at("mail.example")).begin();
    let mut cbs = peer.open_cbs();
    assert_eq!(status(&mut peer, &mut cbs, "mail.example", "owner", DESK_KEY), 202);
    peer.attach_sender("of-desk");
}

#[test]
fn the_host_of_a_websocket_names_a_namespace() {
    let broker = start();
    let connect = || over_websocket_to("shop.example", broker.address(), None);
    let mut peer = connect();
    peer.sasl_mechanisms();
    peer.sasl_init("PLAIN", Some(format!("\0{DEV_RULE}\0{DEV_KEY}").as_bytes()));
    assert_eq!(peer.sasl_outcome(), 1, "a key of the default namespace");
    let mut peer = connect().plain("owner", SHOP_KEY).open().begin();
    exchange(&mut peer, "by WebSocket");
    // Without a host that names one, the key does.
    let mut peer = over_websocket_to("any.example", broker.address(), None)
        .plain("owner", SHOP_KEY)
        .open()
        .begin();
    exchange(&mut peer, "by key");
}

#[test]
fn requests_go_by_their_host_or_their_token() {
    let broker = start();
    let list = |host: &str, rule: &str, key: &str| {
        let ask = Ask::new("GET", "/$Resources/queues?api-version=2021-05");
        let answer = ask.at_host(host).signed(rule, key).send(&broker);
        let has = |name: &str| answer.body.contains(&format!("<title type=\"text\">{name}<"));
        (answer.status, has("of-default"), has("of-shop"))
    };
    assert_eq!(list("localhost", DEV_RULE, DEV_KEY), (200, true, false));
    assert_eq!(list("localhost", "owner", SHOP_KEY), (200, false, true));
    assert_eq!(list("shop.example", "owner", SHOP_KEY), (200, false, true));
    assert_eq!(list("mail.example", "owner", DESK_KEY), (200, false, false));
    for (host, rule, key) in [
        ("shop.example", DEV_RULE, DEV_KEY),
        ("shop.example", "owner", DESK_KEY),
        ("mail.example", "owner", SHOP_KEY),
        ("localhost", "owner", "no key"),
    ] {
        assert_eq!(list(host, rule, key), (401, false, false), "{host} {rule}");
    }
    let unsigned = Ask::new("GET", "/q?api-version=2021-05").at_host("shop.example").unsigned();
    assert_eq!(unsigned.send(&broker).status, 401);
}

#[test]
fn what_is_made_in_one_namespace_is_not_in_another() {
    let broker = start();
    let put = Ask::new("PUT", "/new?api-version=2021-05").with_body(
        "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
         <QueueDescription xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\"/>\
         </content></entry>",
    );
    assert_eq!(put.clone().signed("owner", SHOP_KEY).send(&broker).status, 201);
    assert_missing(&mut broker.peer(), &["new"]);
    assert_eq!(put.send(&broker).status, 201, "the name is free here");
    let delete = Ask::new("DELETE", "/new?api-version=2021-05").signed("owner", SHOP_KEY);
    assert_eq!(delete.send(&broker).status, 200);
    broker.peer().attach_sender("new");
    let mut shop = broker.connect().plain("owner", SHOP_KEY).open().begin();
    assert_missing(&mut shop, &["new"]);
}

/// Each has a clock of its own.
#[test]
fn a_clock_is_that_of_one_namespace() {
    let broker = TestBroker::with().config(CONFIG).virtual_time().start();
    let mut clock = broker.clock();
    clock.freeze();
    let mut shop = broker.connect().plain("owner", SHOP_KEY).open().begin();
    let mut node = shop.open_requests("$management");
    let answer = shop.manage(&mut node, "io.peeklock:read-clock", Map::default());
    assert_eq!(answer.entry("state").as_str(), Some("running"));
}
