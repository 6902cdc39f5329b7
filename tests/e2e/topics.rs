//! SIGKILL during fan-out: a publish reaches every subscription that asked for it, or none.
//!
//! - What was accepted is in each subscription that lets it through, once for each copy its rules make.
//! - What was not answered is in all of them, or in none.
//! - What was completed in one subscription, and said to be, never comes there again.
//!
//! `PEEKLOCK_KILL_CYCLES` says how often (10 by default), `PEEKLOCK_SEED` how the times are drawn.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Map, Symbol};
use peeklock_tests::broker::{Setup, show};
use peeklock_tests::link::{Link, receiver};
use peeklock_tests::message::Message;
use peeklock_tests::topics::of;
use peeklock_tests::{Peer, TestBroker};

use crate::kill::{
    Shared, drain, from_environment, next, number_of, receive, send, sender, size_of,
};

const SENDERS: u64 = 2;
const SESSION: &str = "x";

/// What is added to the number of a message in a copy that a rule changed.
const CHANGED: u64 = 1 << 40;

/// A subscription, and which copies of a message it is to get.
struct Subscription {
    name: String,
    settings: &'static str,
    rules: &'static [(&'static str, &'static str)],
    copies: fn(u64) -> Vec<u64>,
    ledger: Shared,
}

fn size(number: u64) -> u64 {
    number % 7
}

const fn is_red(number: u64) -> bool {
    number.is_multiple_of(5)
}

fn message(number: u64) -> Bytes {
    let color = if is_red(number) { "red" } else { "blue" };
    Message::data(vec![0x2e; size_of(number)])
        .with_id(number)
        .with_session(SESSION)
        .with_property("color", color)
        .with_property("size", size(number))
        .encode()
}

fn copy_of(message: &Message) -> u64 {
    let is_changed = message.application_properties.get("changed").is_some();
    number_of(message) + if is_changed { CHANGED } else { 0 }
}

fn subscriptions() -> Vec<Subscription> {
    let plain = |name: String| Subscription {
        name,
        settings: "",
        rules: &[],
        copies: |number| vec![number],
        ledger: Shared::default(),
    };
    let mut all: Vec<_> = (0..10).map(|n| plain(format!("plain-{n}"))).collect();
    all.push(Subscription {
        rules: &[("small", "sql_filter = \"size < 3\"")],
        copies: |number| (size(number) < 3).then_some(number).into_iter().collect(),
        ..plain("sql".into())
    });
    all.push(Subscription {
        rules: &[("red", "correlation_filter = { properties = { color = \"red\" } }")],
        copies: |number| is_red(number).then_some(number).into_iter().collect(),
        ..plain("correlation".into())
    });
    all.push(Subscription {
        rules: &[
            ("small", "sql_filter = \"size < 3\""),
            ("red", "sql_filter = \"color = 'red'\"\nsql_action = \"SET changed = TRUE\""),
        ],
        copies: |number| {
            let plain = (size(number) < 3).then_some(number);
            plain.into_iter().chain(is_red(number).then_some(number + CHANGED)).collect()
        },
        ..plain("action".into())
    });
    all.push(Subscription { settings: "requires_session = true", ..plain("sessions".into()) });
    all
}

fn declared(setup: Setup, subscriptions: &[Subscription]) -> Setup {
    subscriptions.iter().fold(setup.topic("t", ""), |setup, one| {
        let settings = format!("max_delivery_count = 1000000\n{}", one.settings);
        let setup = setup.subscription(&one.name, &settings);
        one.rules.iter().fold(setup, |setup, (name, rule)| setup.filter(name, rule))
    })
}

fn attached(broker: &TestBroker, subscription: &Subscription) -> (Peer, Link) {
    let mut peer = broker.peer();
    let address = of(&subscription.name);
    let mut attach = receiver(&address);
    if !subscription.settings.is_empty() {
        let key = Symbol::from_static("com.microsoft:session-filter");
        let source = Source::new(address.as_str()).with_filter(Map::new().with(key, SESSION));
        attach = Attach { source: Some(source.into()), ..attach };
    }
    let link = peer.attach_for_receiving(attach);
    (peer, link)
}

#[test]
fn a_publish_reaches_each_subscription_once_or_none() {
    let cycles = from_environment("PEEKLOCK_KILL_CYCLES", 10);
    let seed = from_environment("PEEKLOCK_SEED", 20_260_102);
    let subscriptions = subscriptions();
    let setup = TestBroker::with().config("[storage]\nfree_space_reserve = 0").durable();
    let mut broker = declared(setup, &subscriptions).start();
    let publishers = Shared::default();
    let mut random = seed | 1;
    for cycle in 0..cycles {
        let senders: Vec<_> = (0..SENDERS).map(|_| sender(&broker, "t")).collect();
        let receivers: Vec<_> = subscriptions.iter().map(|one| attached(&broker, one)).collect();
        thread::scope(|scope| {
            for (n, (peer, link)) in senders.into_iter().enumerate() {
                let worker = cycle * SENDERS + u64::try_from(n).unwrap_or_default();
                let ledger = &publishers;
                scope.spawn(move || send(peer, &link, worker * 10_000_000, message, ledger));
            }
            for ((mut peer, link), one) in receivers.into_iter().zip(&subscriptions) {
                peer.expect_to_be_cut();
                scope.spawn(move || receive(peer, link, cycle, copy_of, &one.ledger));
            }
            // When the kill comes is the subject of the test.
            thread::sleep(Duration::from_millis(50 + next(&mut random) % 950));
            broker.kill();
        });
        broker.restart();
        for one in &subscriptions {
            let faults = one.ledger.with(|ledger| std::mem::take(&mut ledger.faults));
            assert!(faults.is_empty(), "cycle {cycle} of seed {seed}: {}: {faults:#?}", one.name);
        }
    }

    let mut left = 0;
    for one in &subscriptions {
        let (peer, link) = attached(&broker, one);
        left += drain(peer, link, copy_of, &one.ledger).len();
        one.ledger.with(|ledger| {
            assert_eq!(ledger.faults, Vec::<String>::new(), "seed {seed}: {}", one.name);
        });
    }
    // Every message that was passed on at all was published.
    let accepted = publishers.with(|ledger| ledger.accepted.clone());
    let mut published = accepted.clone();
    let (mut completed, mut redelivered) = (0, 0);
    for one in &subscriptions {
        one.ledger.with(|ledger| {
            published.extend(ledger.sequences.keys().map(|copy| copy % CHANGED));
            completed += ledger.completed.len() as u64;
            redelivered += ledger.redelivered;
        });
    }
    for one in &subscriptions {
        let expected: BTreeSet<u64> =
            published.iter().flat_map(|number| (one.copies)(*number)).collect();
        let seen: BTreeSet<u64> =
            one.ledger.with(|ledger| ledger.sequences.keys().copied().collect());
        let lost: Vec<_> = expected.difference(&seen).collect();
        assert!(lost.is_empty(), "seed {seed}: {} never got {lost:?}", one.name);
        let wrong: Vec<_> = seen.difference(&expected).collect();
        assert!(wrong.is_empty(), "seed {seed}: {} got {wrong:?}", one.name);
    }
    show(&format!(
        "{cycles} kills: {} accepted, {} more published, {completed} copies completed, {redelivered} \
         redelivered, {left} left",
        accepted.len(),
        published.len() - accepted.len(),
    ));
    // A run in which nothing happened proves nothing.
    assert!(cycles < accepted.len() as u64, "{} accepted", accepted.len());
    assert!(cycles < completed, "{completed} completed");
    assert!(0 < redelivered && 0 < left, "{redelivered} redelivered, {left} left");
}
