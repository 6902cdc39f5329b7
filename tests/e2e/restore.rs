//! One entity out of a backup: as it was into a store that no broker has, and as new messages into a
//! broker that runs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Array, Map, Symbol, Value};
use peeklock_tests::broker::{binary, show};
use peeklock_tests::link::receiver;
use peeklock_tests::message::Message;
use peeklock_tests::{Peer, TestBroker};
use serde_json::Value as Json;

use crate::backup::{World, ask, ask_as, create, offline};
use crate::upgrade::deferred;

const DEAD: &str = "orders/$deadletterqueue";
const DAY_MILLIS: i64 = 86_400_000;

#[track_caller]
fn done(broker: &TestBroker, arguments: &[&str]) {
    let output = ask(broker, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Restores an entity into a data directory.
fn restore(backup: &Path, entity: &str, into: &Path, more: &[&str]) -> Output {
    let fixed: [&OsStr; 6] = [
        "restore".as_ref(),
        backup.as_ref(),
        "--entity".as_ref(),
        entity.as_ref(),
        "--into".as_ref(),
        into.as_ref(),
    ];
    let arguments = fixed.into_iter().chain(more.iter().map(OsStr::new));
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

#[track_caller]
fn assert_ended(output: &Output, code: i32, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(why), "{said}");
}

fn json(output: &Output) -> Json {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn order(number: u64) -> Message {
    let size = if number.is_multiple_of(97) { 40_000 } else { 300 };
    let octet = u8::try_from(number % 251).expect("an octet");
    Message::data(vec![octet; size]).with_id(number).with_property("number", number)
}

/// Receives the first messages and settles them so.
fn settle_first(peer: &mut Peer, address: &str, count: usize, state: &DeliveryState) {
    let mut link = peer.attach_receiver(address);
    let batch = peer.drain(&mut link, u32::try_from(count).expect("a credit"));
    assert_eq!(batch.len(), count);
    for received in &batch {
        peer.settle(received, state.clone());
    }
    peer.detach(&link);
}

fn due(number: u64) -> Message {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.expect("a time").as_millis()).expect("a time");
    let at = Value::Timestamp(now + DAY_MILLIS);
    order(number).with_annotation("x-opt-scheduled-enqueue-time", at)
}

/// Orders 0 to 9 are deferred, 10 to 19 dead, 20 to 29 failed once, the last are scheduled.
fn fill(broker: &TestBroker) {
    done(broker, &["queue", "create", "orders"]);
    let mut peer = broker.peer();
    let orders: Vec<Message> = (0..1000).map(order).collect();
    peer.send_messages("orders", &orders);
    settle_first(&mut peer, "orders", 10, &deferred());
    settle_first(&mut peer, "orders", 10, &DeliveryState::Rejected(None));
    settle_first(&mut peer, "orders", 10, &peeklock_tests::link::abandoned());
    peer.send_messages("orders", &(1000..1010).map(due).collect::<Vec<_>>());
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    let number = |message: &Message| message.id().as_u64().expect("a number");
    messages.iter().map(number).collect()
}

/// Messages by their numbers, as applications keep them of those they defer.
fn fetch(peer: &mut Peer, address: &str, sequences: &[i64]) -> Vec<Bytes> {
    let mut management = peer.open_management(address);
    let body = Map::new()
        .with("sequence-numbers", Array::longs(sequences.iter().copied()))
        .with("receiver-settle-mode", Value::Uint(0));
    let fetched = peer.manage(&mut management, "com.microsoft:receive-by-sequence-number", body);
    assert_eq!(fetched.status, 200, "{fetched:?}");
    let Value::List(list) = fetched.entry("messages") else { panic!("{fetched:?}") };
    let octets = |entry: &Value| entry.get("message").and_then(Value::as_binary).cloned();
    let messages = list.iter().map(|entry| Message::decode(&octets(entry).expect("a message")));
    messages.map(|message| message.data_octets().clone()).collect()
}

#[test]
fn a_deleted_queue_comes_back_as_it_was() {
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    let data = world.dir.path().join("data");
    fill(&broker);
    // Half of it goes into table files, the other half is in the log.
    broker.stop();
    broker.restart();
    let mut peer = broker.peer();
    peer.send_messages("orders", &(2000..2500).map(order).collect::<Vec<_>>());
    let before = (peer.browse_all("orders"), peer.browse_all(DEAD));
    assert_eq!((before.0.len(), before.1.len()), (1500, 10));
    let backup = world.backup(&create(&broker));

    peer.send_texts("orders", &["not in the backup"]);
    peer.send_texts("q", &["of somebody else"]);
    drop(peer);
    let running = restore(&backup, "orders", &data, &[]);
    assert_ended(&running, 1, "in use");
    done(&broker, &["queue", "delete", "orders", "--yes"]);
    assert!(broker.stop().success());

    assert_ended(&restore(&backup, "nothing", &data, &[]), 5, "nothing");
    assert_ended(&restore(&backup, "q", &data, &[]), 6, "already exists");
    assert_ended(&restore(&backup, "orders", &data, &["--as", "Q"]), 6, "already exists");
    assert_ended(&restore(&backup, "orders", &data, &["--namespace", "other"]), 1, "other");
    assert_ended(&restore(&backup, "orders", &world.dir.path().join("typo"), &[]), 1, "no store");
    let restored = restore(&backup, "ORDERS", &data, &["--json"]);
    assert!(restored.status.success(), "{restored:?}");
    let report = json(&restored);
    assert_eq!(report["check"]["verdict"], "clean", "{report}");
    let counts = &report["entities"][0]["counts"];
    let count = |kind: &str| counts[kind].as_u64();
    assert_eq!((count("active"), count("deferred")), (Some(1490), Some(10)), "{report}");
    assert_eq!((count("dead_letter"), count("scheduled")), (Some(10), Some(10)), "{report}");
    assert_ended(&restore(&backup, "orders", &data, &[]), 6, "already exists");
    let verified = offline(&["backup".as_ref(), "verify".as_ref(), &backup]);
    assert!(verified.status.success(), "it is still what it was: {verified:?}");

    broker.restart();
    let mut peer = broker.peer();
    assert_eq!(peer.browse_all("orders"), before.0);
    assert_eq!(peer.browse_all(DEAD), before.1);
    let aside: Vec<_> =
        before.0.iter().filter(|message| message.id().as_u64().is_some_and(|id| id < 10)).collect();
    let written_down: Vec<i64> = aside.iter().map(|message| message.sequence_number()).collect();
    assert_eq!(written_down.len(), 10);
    let bodies: Vec<_> = (0..10).map(|number| order(number).data_octets().clone()).collect();
    assert_eq!(fetch(&mut peer, "orders", &written_down), bodies);
    peer.send_messages("orders", &[order(5000)]);
    let drained = peer.drain_messages("orders");
    let expected: Vec<u64> = (20..1000).chain(2000..2500).chain([5000]).collect();
    assert_eq!(numbers(&drained), expected);
    assert!(drained.is_sorted_by_key(Message::sequence_number));
    assert!(drained[..10].iter().all(|message| message.delivery_count() == 1));
    assert!(drained.iter().all(|message| {
        let number = message.id().as_u64().expect("a number");
        message.data_octets() == order(number).data_octets()
    }));
    assert_eq!(numbers(&peer.drain_messages(DEAD)), (10..20).collect::<Vec<_>>());
    assert_eq!(peer.drain_texts("q"), ["of somebody else"]);
}

fn session(id: &str) -> Attach {
    let filter = Map::new().with(Symbol::from_static("com.microsoft:session-filter"), id);
    let source = Source::new("steps").with_filter(filter);
    Attach { source: Some(source.into()), ..receiver("steps") }
}

/// A topic under another name, and a queue with sessions.
#[test]
fn a_topic_comes_with_its_subscriptions_and_a_session_with_its_state() {
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    let data = world.dir.path().join("data");
    for command in [
        &["topic", "create", "news"][..],
        &["subscription", "create", "news", "all"],
        &["subscription", "create", "news", "even", "--sql", "number % 2 = 0"],
        &["queue", "create", "steps", "--requires-session"],
    ] {
        done(&broker, command);
    }
    let mut peer = broker.peer();
    peer.send_messages("news", &(0..300).map(order).collect::<Vec<_>>());
    settle_first(&mut peer, "news/subscriptions/all", 100, &DeliveryState::Accepted);
    settle_first(&mut peer, "news/subscriptions/all", 5, &DeliveryState::Rejected(None));
    peer.send_messages("steps", &[order(1).with_session("s"), order(2).with_session("s")]);
    let link = peer.attach_for_receiving(session("s"));
    let mut management = peer.open_management("steps");
    let state = Bytes::from_static(b"half way");
    let body = Map::new().with("session-id", "s").with("session-state", state.clone());
    assert_eq!(peer.manage(&mut management, "com.microsoft:set-session-state", body).status, 200);
    peer.detach(&link);
    let nodes = ["all", "even", "all/$deadletterqueue"];
    let below = |topic: &str, node: &str| format!("{topic}/subscriptions/{node}");
    let before = nodes.map(|node| peer.browse_all(&below("news", node)));
    assert_eq!(before.each_ref().map(Vec::len), [195, 150, 5]);
    let backup = world.backup(&create(&broker));
    drop(peer);
    done(&broker, &["queue", "delete", "steps", "--yes"]);
    assert!(broker.stop().success());

    let subscription = restore(&backup, "news/subscriptions/all", &data, &[]);
    assert_ended(&subscription, 6, "with its topic");
    let restored = restore(&backup, "news", &data, &["--as", "Old/News", "--no-check"]);
    assert!(restored.status.success(), "{restored:?}");
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(said.contains("Old/News/Subscriptions/even"), "{said}");
    let restored = restore(&backup, "steps", &data, &[]);
    assert!(restored.status.success(), "{restored:?}");
    assert!(String::from_utf8_lossy(&restored.stdout).contains("default: clean"), "{restored:?}");

    broker.restart();
    let mut peer = broker.peer();
    for topic in ["news", "old/news"] {
        let found = nodes.map(|node| peer.browse_all(&below(topic, node)));
        assert_eq!(found, before, "{topic}");
    }
    peer.send_messages("old/news", &[order(300), order(301)]);
    let mut even: Vec<u64> = (0..300).step_by(2).collect();
    assert_eq!(numbers(&peer.drain_messages("news/subscriptions/even")), even);
    even.push(300);
    assert_eq!(numbers(&peer.drain_messages("old/news/subscriptions/even")), even);
    let mut link = peer.attach_for_receiving(session("s"));
    let mut management = peer.open_management("steps");
    let body = Map::new().with("session-id", "s");
    let found = peer.manage(&mut management, "com.microsoft:get-session-state", body);
    assert_eq!(found.entry("session-state"), &Value::from(state));
    assert_eq!(peer.receive_one(&mut link).message().id(), &Value::Ulong(1));
}

/// Kills of a restore, spread over the time that it takes.
const ROUNDS: u32 = 8;

/// When the kill comes is the subject of the test.
#[test]
fn a_restore_that_is_killed_harms_nothing_and_can_be_repeated() {
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    let data = world.dir.path().join("data");
    let long: Vec<Message> =
        (0..300).map(|number| Message::data(vec![0x2e; 100_000]).with_id(number)).collect();
    done(&broker, &["queue", "create", "long"]);
    broker.peer().send_messages("long", &long);
    broker.peer().send_texts("q", &["stays"]);
    let backup = world.backup(&create(&broker));
    assert!(broker.stop().success());
    let began = Instant::now();
    let whole = restore(&backup, "long", &data, &["--as", "whole", "--no-check"]);
    assert!(whole.status.success(), "{whole:?}");
    let took = began.elapsed();
    let mut interrupted = 0;
    for round in 1..ROUNDS {
        let name = format!("long-{round}");
        let mut child = Command::new(binary())
            .args(["restore".as_ref(), backup.as_os_str(), "--entity".as_ref(), "long".as_ref()])
            .args(["--as", name.as_str(), "--no-check", "--into"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        thread::sleep(took * round / ROUNDS);
        // It may have ended by itself.
        let _ = child.kill();
        let killed = !child.wait().expect("a child of ours").success();
        let checked = offline(&["check".as_ref(), &data]);
        let code = checked.status.code();
        assert!(matches!(code, Some(0 | 8)), "{checked:?}");
        if code == Some(8) {
            assert!(killed, "{checked:?}");
            interrupted += 1;
        }
        if killed {
            // Unless the kill came behind the last batch.
            let again = restore(&backup, "long", &data, &["--as", name.as_str(), "--json"]);
            assert!(matches!(again.status.code(), Some(0 | 6)), "{again:?}");
        }
        let checked = offline(&["check".as_ref(), &data]);
        assert!(checked.status.success(), "{checked:?}");
    }
    show(&format!("{interrupted} restores were interrupted between two batches"));
    broker.restart();
    let mut peer = broker.peer();
    for name in ["long", "whole", "long-1", "long-4", "long-7"] {
        assert_eq!(numbers(&peer.drain_messages(name)), (0..300).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(peer.drain_texts("q"), ["stays"]);
}

#[test]
fn an_entity_of_a_further_namespace_comes_back_there_alone() {
    let world = World::new();
    let key = ("shop", "0123456789abcdef0123456789abcdef");
    let rule = format!(
        "[[namespace]]\nname = \"shop\"\n[[namespace.rule]]\nname = \"{}\"\nprimary_key = \"{}\"\n\
         rights = [\"manage\"]",
        key.0, key.1
    );
    let mut broker = world.setup("").config(&rule).start_at(world.dir.path());
    let data = world.dir.path().join("data");
    let shop = |broker: &TestBroker, arguments: &[&str]| {
        let output = ask_as(broker, key, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    shop(&broker, &["queue", "create", "later"]);
    shop(&broker, &["queue", "create", "orders", "--forward-dead-lettered-messages-to", "later"]);
    shop(&broker, &["send", "orders", "of the shop"]);
    let backup = world.backup(&create(&broker));
    shop(&broker, &["queue", "delete", "orders", "--yes"]);
    shop(&broker, &["queue", "delete", "later", "--yes"]);
    assert!(broker.stop().success());
    assert_ended(&restore(&backup, "orders", &data, &[]), 5, "in the backup");
    let restored = restore(&backup, "orders", &data, &["--namespace", "shop"]);
    assert_ended(&restored, 0, "orders passes messages on to later, which is not there");
    let said = String::from_utf8_lossy(&restored.stdout);
    assert!(said.contains("shop: clean") && !said.contains("default"), "{said}");
    broker.restart();
    assert!(shop(&broker, &["receive", "orders"]).contains("of the shop"));
}

#[test]
fn a_backup_that_has_changed_gives_nothing() {
    let world = World::new();
    let mut broker = world.setup("").start_at(world.dir.path());
    done(&broker, &["queue", "create", "orders"]);
    broker.peer().send_messages("orders", &(0..50).map(order).collect::<Vec<_>>());
    let backup = world.backup(&create(&broker));
    done(&broker, &["queue", "delete", "orders", "--yes"]);
    assert!(broker.stop().success());
    let data = world.dir.path().join("data");
    fs::write(backup.join("data/more.sst"), "").expect("a file");
    assert_ended(&restore(&backup, "orders", &data, &[]), 1, "more.sst is no part of it");
    fs::remove_file(backup.join("data/more.sst")).expect("a file");
    let manifest = backup.join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 9")).expect("a manifest");
    assert_ended(&restore(&backup, "orders", &data, &[]), 1, "version 9");
    let checked = offline(&["check".as_ref(), &data]);
    assert!(checked.status.success(), "{checked:?}");
    fs::write(&manifest, text).expect("a manifest");
    assert!(restore(&backup, "orders", &data, &[]).status.success());
}

/// What `docs/BACKUP.md` says of a broker that is to run on, and what is lost by it.
#[test]
fn a_running_broker_gets_the_messages_of_a_backup_as_new_ones() {
    let world = World::new();
    let broker = world.setup("").start_at(world.dir.path());
    fill(&broker);
    let before = broker.peer().browse_all("orders");
    let backup = world.backup(&create(&broker));
    broker.peer().drain_messages("orders");
    broker.peer().drain_messages(DEAD);
    broker.peer().send_messages("orders", &[order(7000)]);

    let beside = world.restored(&backup, "beside");
    let file = |name: &str| world.dir.path().join(name).display().to_string();
    let (orders, dead) = (file("orders.jsonl"), file("dead.jsonl"));
    done(&beside, &["messages", "export", "orders", "-o", &orders]);
    done(&beside, &["messages", "export", "orders", "--dlq", "-o", &dead]);
    drop(beside);
    done(&broker, &["messages", "import", "orders", "-i", &orders]);
    done(&broker, &["messages", "import", "orders", "-i", &dead]);

    let mut peer = broker.peer();
    let after = peer.browse_all("orders");
    let state = |message: &Message| {
        message.annotation("x-opt-message-state").and_then(Value::as_i64).unwrap_or_default()
    };
    let scheduled = |messages: &[Message]| {
        let due = messages.iter().filter(|message| state(message) == 2);
        let time = |message: &Message| message.annotation("x-opt-scheduled-enqueue-time").cloned();
        due.map(|message| (message.id().clone(), time(message))).collect::<Vec<_>>()
    };
    // What was deferred in the broker itself still is; what was imported is not.
    let own = after.iter().filter(|message| state(message) == 1).count();
    assert_eq!(own, 10);
    let due: Vec<_> = scheduled(&after).into_iter().skip(10).collect();
    assert_eq!(due, scheduled(&before), "what was scheduled is due when it was");
    let drained = peer.drain_messages("orders");
    let expected: Vec<u64> =
        [7000].into_iter().chain(0..10).chain(20..1000).chain(10..20).collect();
    assert_eq!(numbers(&drained), expected, "in their order, dead letters and deferred ones too");
    for message in &drained[1..] {
        let sent = order(message.id().as_u64().expect("a number"));
        assert_eq!(message.data_octets(), sent.data_octets());
        assert_eq!(message.property("number"), sent.property("number"));
        assert_eq!(message.delivery_count(), 0, "attempts count anew");
    }
    let highest = before.iter().map(Message::sequence_number).max();
    assert!(highest < drained.iter().map(Message::sequence_number).min(), "new numbers");
    assert!(peer.drain_messages(DEAD).is_empty());
}
