//! `/metrics`: who may scrape, that the text is one, and that its numbers move with what is done.

use std::collections::{BTreeMap, BTreeSet};

use peeklock_protocol::condition;
use peeklock_tests::broker::{DEV_KEY, DEV_RULE};
use peeklock_tests::http::{HttpAnswer, HttpClient};
use peeklock_tests::link::sender;
use peeklock_tests::requests::{cbs_status, put_token};
use peeklock_tests::{TestBroker, sas};

const TOKEN: &str = "canary-MetricsToken-5d20c7";

/// The samples of a page by name and labels, as text.
struct Page {
    samples: BTreeMap<String, f64>,
    /// Each family's name and type, in their order.
    families: Vec<(String, String)>,
}

impl Page {
    /// Reads it as Prometheus does, and more strictly: HELP, TYPE and then all samples of a family, each
    /// once.
    #[track_caller]
    fn read(text: &str) -> Self {
        let mut page = Self { samples: BTreeMap::new(), families: Vec::new() };
        let mut helped = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a text");
                assert!(!help.is_empty(), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(helped.take().as_deref(), Some(name), "HELP stands before TYPE");
                assert!(page.families.iter().all(|(other, _)| other != name), "{name} comes twice");
                page.families.push((name.to_owned(), kind.to_owned()));
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                let name = sample.split('{').next().expect("a name");
                let (family, kind) = page.families.last().expect("a family");
                let suffixes: &[&str] =
                    if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let is_of = |suffix: &&str| name == format!("{family}{suffix}");
                assert!(suffixes.iter().any(is_of), "{line} among the samples of {family}");
                let value = value.parse().unwrap_or_else(|_| panic!("no number in {line}"));
                let earlier = page.samples.insert(sample.to_owned(), value);
                assert_eq!(earlier, None, "{sample} comes twice");
            }
        }
        page
    }

    #[track_caller]
    fn get(&self, sample: &str) -> f64 {
        let found = self.samples.get(sample).copied();
        found.unwrap_or_else(|| panic!("no {sample} in {:?}", self.samples.keys()))
    }

    /// A number that is a count.
    #[track_caller]
    fn count(&self, sample: &str) -> u64 {
        let value = self.get(sample);
        format!("{value}").parse().unwrap_or_else(|_| panic!("{sample} is no count: {value}"))
    }
}

fn anonymous(broker: &TestBroker) -> HttpClient {
    HttpClient::connect(broker.address())
}

#[track_caller]
fn get(mut client: HttpClient) -> HttpAnswer {
    client.ask("GET", "/metrics", &[], b"")
}

#[track_caller]
fn scrape(broker: &TestBroker) -> Page {
    let answer = get(anonymous(broker)).expect(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Page::read(answer.text())
}

#[test]
fn this_machine_may_scrape_without_a_token() {
    let broker = TestBroker::with().queue("metrics", "").start();
    let page = scrape(&broker);
    assert_eq!(page.count("peeklock_ready"), 1);
    assert!(!page.families.is_empty());
    // Who shows a token is judged by it.
    let wrong = get(anonymous(&broker).token(Some("Bearer wrong".into()))).expect(401);
    assert!(wrong.header("www-authenticate").is_some_and(|asked| asked.starts_with("Bearer")));
    get(broker.http()).expect(200);
    // A queue may be called so.
    let path = "/metrics?api-version=2021-05";
    assert_eq!(anonymous(&broker).ask("GET", path, &[], b"").status, 401);
    broker.http().ask("GET", path, &[], b"").expect(200);
    broker.http().ask("POST", "/metrics/messages", &[], b"x").expect(201);
    broker.assert_nothing_above_info_was_logged();
}

#[test]
fn others_need_the_token_or_the_right_manage() {
    let lines = format!("[metrics]\nallowed_networks = []\ntoken = \"{TOKEN}\"");
    let broker = TestBroker::with()
        .rule("sender", "s", "[\"send\", \"listen\"]")
        .config("[[rule]]\nname = \"owner\"\nprimary_key = \"o\"\nrights = [\"manage\"]")
        .config("entity = \"metrics\"")
        .config(&lines)
        .start();
    let missing = get(anonymous(&broker)).expect(401);
    assert!(missing.header("www-authenticate").is_some());
    let right = get(anonymous(&broker).token(Some(format!("Bearer {TOKEN}")))).expect(200);
    get(broker.http()).expect(200);
    let wrongs = [format!("Bearer {TOKEN}x"), TOKEN.to_owned(), format!("Basic {TOKEN}")];
    for wrong in wrongs {
        get(anonymous(&broker).token(Some(wrong))).expect(401);
    }
    get(anonymous(&broker).rule("sender", "s", "")).expect(403);
    // Manage of an entity is not Manage of the namespace, whatever the entity is called.
    get(anonymous(&broker).rule("owner", "o", "metrics")).expect(401);
    get(anonymous(&broker).rule(DEV_RULE, "wrong", "")).expect(401);
    let all = format!("{}{}{}", right.text(), missing.text(), broker.log_text());
    assert!(!all.contains(TOKEN), "the token is shown");
}

#[test]
fn what_is_switched_off_is_not_there() {
    let broker = TestBroker::with().config("[metrics]\nenabled = false").queue("q", "").start();
    get(anonymous(&broker)).expect(404);
    get(broker.http()).expect(404);
    broker.peer().send_texts("q", &["nobody counts"]);
    assert_eq!(broker.peer().drain_texts("q"), ["nobody counts"]);
}

#[test]
fn numbers_move_with_what_is_done() {
    let broker = TestBroker::with().queue("q", "").rule("listener", "l", "[\"listen\"]").start();
    let before = scrape(&broker);
    let mut peer = broker.peer();
    peer.send_texts("q", &["one", "two", "three"]);
    let mut link = peer.attach_receiver("q");
    for _ in 0..3 {
        let received = peer.receive_one(&mut link);
        peer.complete(&received);
    }
    let mut listener = broker.connect().plain("listener", "l").open().begin();
    listener.expect_refusal(sender("q"), condition::UNAUTHORIZED_ACCESS);
    let mut stranger = broker.anonymous_peer();
    let mut cbs = stranger.open_cbs();
    let forged = sas::token("sb://localhost/q", DEV_RULE, "wrong", sas::now() + 60);
    let request =
        put_token("sb://localhost/q", &forged).with_id("1").with_reply_to("answers of $cbs");
    assert_eq!(cbs_status(&stranger.ask(&mut cbs, &request)), 401);
    // Clients of the management API want it so when there is no such entity.
    broker.http().rule(DEV_RULE, DEV_KEY, "").ask("GET", "/nothing", &[], b"").expect(200);

    let after = scrape(&broker);
    let grown = |sample: &str| after.count(sample) - before.count(sample);
    assert_eq!(grown("peeklock_accept_duration_seconds_count"), 3);
    assert_eq!(grown("peeklock_settle_duration_seconds_count"), 3);
    assert_eq!(grown("peeklock_delivery_duration_seconds_count"), 3);
    assert_eq!(grown("peeklock_authorization_denials_total{operation=\"link_to_send\"}"), 1);
    assert_eq!(grown("peeklock_authentication_failures_total{reason=\"token_signature\"}"), 1);
    assert_eq!(grown("peeklock_connections_total{protocol=\"amqp\"}"), 3);
    assert_eq!(after.count("peeklock_connections{protocol=\"amqp\"}"), 3);
    // Those of earlier requests may be there still.
    assert!(0 < after.count("peeklock_connections{protocol=\"http\"}"));
    assert_eq!(after.count("peeklock_links{role=\"receiver\"}"), 1);
    assert_eq!(after.count("peeklock_links{role=\"cbs\"}"), 2);
    assert_eq!(after.count("peeklock_http_requests_total{route=\"metrics\",status=\"200\"}"), 1);
    let atom = "peeklock_http_requests_total{route=\"atom\",status=\"200\"}";
    assert_eq!((before.samples.get(atom), after.count(atom)), (None, 1));
    let infinite = "peeklock_accept_duration_seconds_bucket{le=\"+Inf\"}";
    assert_eq!(after.count(infinite), after.count("peeklock_accept_duration_seconds_count"));

    peer.close();
    stranger.close();
    listener.cut();
    // A connection is over when its task has seen that.
    while scrape(&broker).count("peeklock_connections{protocol=\"amqp\"}") != 0 {
        std::thread::yield_now();
    }
    let end = scrape(&broker);
    for role in ["sender", "receiver", "management", "cbs", "coordinator"] {
        assert_eq!(end.count(&format!("peeklock_links{{role=\"{role}\"}}")), 0, "{role}");
    }
}

/// All that docs/METRICS.md tells of is there, and nothing else.
#[test]
fn every_documented_family_is_there() {
    let broker = TestBroker::with().queue("q", "").start();
    broker.peer().send_texts("q", &["x"]);
    // What the values of a label are is not always known before something was counted.
    scrape(&broker);
    let page = scrape(&broker);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");
    let text = std::fs::read_to_string(path).expect("docs/METRICS.md");
    let documented: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
        })
        .collect();
    let found: BTreeSet<_> = page.families.into_iter().collect();
    assert!(30 < found.len());
    assert_eq!(found, documented);
}
