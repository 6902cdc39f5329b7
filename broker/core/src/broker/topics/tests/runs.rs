//! Messages that a topic keeps for its subscriptions, instead of a copy for each.

use std::collections::BTreeSet;

use peeklock_storage::Table;

use super::*;
use crate::command::Settlement;
use crate::id::{ReceiverId, SequenceNumber};
use crate::rows;
use crate::time::Span;

/// What must hold of the rows at any time: whatever a run says is there, is; whatever a topic keeps is
/// held by somebody, or will be looked for.
pub(super) fn check_rows(world: &World) {
    let topics: Vec<_> = world.broker.topics.iter().collect();
    for (topic, known) in topics {
        let bodies = numbers_of(world, Table::Message, topic);
        let mut held = BTreeSet::new();
        for (subscription, _) in known.subscriptions() {
            for ((_, key), row) in
                world.rows.iter().filter(|((table, _), _)| *table == Table::State)
            {
                let Some(first) = rows::sequence_of(key) else { continue };
                if *key == rows::run_key(subscription, first) {
                    let run = rows::read_run(row).unwrap();
                    assert!(run.numbers(first).next().is_some(), "an empty run has no row");
                    held.extend(run.numbers(first));
                }
            }
        }
        let missing: Vec<_> = held.difference(&bodies).collect();
        assert!(missing.is_empty(), "{missing:?} are held, and not there");
        let stale: Vec<_> = stale_rows(world);
        let is_stale =
            |sequence: &SequenceNumber| stale.iter().any(|range| range.contains(sequence));
        let leaked: Vec<_> = bodies.difference(&held).filter(|body| !is_stale(body)).collect();
        assert!(leaked.is_empty(), "{leaked:?} are there for nobody");
    }
}

fn numbers_of(world: &World, table: Table, entity: EntityId) -> BTreeSet<SequenceNumber> {
    let keys = world.rows.keys().filter(|(other, _)| *other == table);
    let numbers = keys.filter_map(|(_, key)| {
        let sequence = rows::sequence_of(key)?;
        (*key == rows::message_key(entity, sequence)).then_some(sequence)
    });
    numbers.collect()
}

fn stale_rows(world: &World) -> Vec<std::ops::Range<SequenceNumber>> {
    let rows = world.state_rows().into_iter();
    let rows = rows.filter_map(|(key, row)| {
        let row = rows::read_state_row(&key, &row).unwrap();
        if let rows::StateRow::Stale(_, range) = row { Some(range) } else { None }
    });
    rows.collect()
}

/// Whether there is nothing in the store but what says which entities there are.
pub(super) fn is_clean(world: &World) -> bool {
    (world.message_rows(), world.trace_rows()) == (0, 0) && stale_rows(world).is_empty()
}

fn open(world: &mut World, link: u64, name: &str) -> ReceiverId {
    world.open(link, &format!("t/Subscriptions/{name}"), ReceiveMode::PeekLock)
}

fn send_together(world: &mut World, bodies: &[&str]) {
    let entity = entity(world, "t");
    let messages = bodies.iter().map(|body| message(body, &[])).collect();
    world.ask(|origin| Command::Send { origin, entity, messages, transaction: None }).unwrap();
}

#[test]
fn a_message_is_one_row_until_the_last_subscription_is_done_with_it() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    send_together(&mut world, &["x", "y", "z"]);
    assert_eq!((world.message_rows(), world.trace_rows()), (3, 2), "a run for each");
    let receivers = [open(&mut world, 1, "a"), open(&mut world, 2, "b")];
    let held = receivers.map(|receiver| world.receive(receiver, 3));
    world.settle(&held[0][1], Settlement::Complete).unwrap();
    assert_eq!(world.message_rows(), 3, "the other one holds it");
    check_rows(&world);
    world.settle(&held[1][1], Settlement::Complete).unwrap();
    assert_eq!(world.message_rows(), 2, "gone with the last");
    for delivery in [&held[0][0], &held[0][2], &held[1][0], &held[1][2]] {
        world.settle(delivery, Settlement::Complete).unwrap();
        check_rows(&world);
    }
    assert!(is_clean(&world));
    assert_eq!(world.broker.counters().swept, 0, "nobody had to look for them");
}

#[test]
fn what_nobody_counted_is_found_later() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    send_together(&mut world, &["x", "y"]);
    world.crash();
    assert_eq!(take_from(&mut world, "a").len(), 2);
    assert_eq!(world.message_rows(), 2);
    world.pass(Span::from_secs(10));
    assert_eq!((world.message_rows(), stale_rows(&world).len()), (2, 0), "looked, and held");
    assert_eq!(take_from(&mut world, "b").len(), 2);
    assert_eq!((world.message_rows(), stale_rows(&world).len()), (2, 1));
    world.crash();
    world.pass(Span(0));
    assert!(is_clean(&world), "whoever comes after a crash looks, too");
    assert_eq!(world.broker.counters().swept, 2);
}

#[test]
fn a_message_that_is_changed_or_set_aside_leaves_the_run() {
    let mut world = world(&[("s", vec![all("r")])]);
    send_together(&mut world, &["dead", "deferred", "tried", "kept"]);
    let receiver = open(&mut world, 1, "s");
    let held = world.receive(receiver, 4);
    let changes = Vec::new();
    let dead = Settlement::DeadLetter { reason: Some("R".into()), description: None, changes };
    world.settle(&held[0], dead).unwrap();
    let changes = vec![("k".into(), 1.into())];
    world.settle(&held[1], Settlement::Defer { changes }).unwrap();
    let changes = vec![("k".into(), 2.into())];
    world.settle(&held[2], Settlement::Abandon { changes }).unwrap();
    check_rows(&world);
    world.crash();
    let s = entity(&world, "t/Subscriptions/s");
    let seen: Vec<_> = world.browse(s, 0, 10, 1 << 20).iter().map(|b| b.sequence.0).collect();
    assert_eq!(seen, [2, 3, 4]);
    let ask = |origin| Command::ReceiveDeferred {
        origin,
        entity: s,
        sequences: vec![SequenceNumber(2)],
        mode: ReceiveMode::ReceiveAndDelete,
        session: None,
    };
    let Ok(Reply::DeferredReceived { deliveries }) = world.ask(ask) else { panic!() };
    assert_eq!(property(&deliveries[0], "k"), Some(1.into()));
    let dead = dead_from(&mut world, "s");
    assert_eq!(numbers(&dead), [(1, 1)]);
    assert_eq!(property(&dead[0], "DeadLetterReason"), Some("R".into()));
    let rest = take_from(&mut world, "s");
    assert_eq!(numbers(&rest), [(3, 3), (4, 4)]);
    assert_eq!((property(&rest[0], "k"), rest[0].attempts), (Some(2.into()), 1));
    world.pass(Span::from_secs(10));
    assert!(is_clean(&world));
}

#[test]
fn who_does_not_receive_costs_no_memory() {
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| (&**name, vec![all("r")])).collect();
    let mut world = world(&subscriptions);
    let before = world.broker.resident_bytes();
    for _ in 0..20 {
        send_together(&mut world, &["message"; 50]);
    }
    assert_eq!(world.broker.resident_bytes(), before);
    for name in &names {
        let s = entity(&world, &format!("t/Subscriptions/{name}"));
        let queue = world.broker.queue(s).unwrap();
        assert_eq!((queue.count(), queue.resident_run_count()), (1000, 0));
    }
    assert_eq!(take_from(&mut world, "s3").len(), 1000);
}

#[test]
fn memory_for_a_message_counts_once() {
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let subscriptions: Vec<_> = names.iter().map(|name| (&**name, vec![all("r")])).collect();
    let mut world = world(&subscriptions);
    for (link, name) in (1..).zip(&names) {
        open(&mut world, link, name);
    }
    send_together(&mut world, &[&"m".repeat(10_000)]);
    let bytes = world.broker.resident_bytes();
    assert!((10_000..20_000).contains(&bytes), "{bytes}");
    for name in &names {
        assert_eq!(world.stats(&format!("t/Subscriptions/{name}")).resident_count, 1);
        assert_eq!(take_from(&mut world, name).len(), 1);
    }
    assert_eq!(world.broker.resident_bytes(), 0);
    assert!(is_clean(&world));
}

#[test]
fn a_subscription_goes_with_one_range_of_rows() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    for _ in 0..40 {
        send_together(&mut world, &["m"; 100]);
    }
    assert_eq!(take_from(&mut world, "b").len(), 4000);
    let ranges = world.ranges_removed;
    let path = path("t/Subscriptions/a");
    ask(&mut world, |origin| TopicCommand::DeleteSubscription { origin, path }).unwrap();
    assert_eq!(world.ranges_removed - ranges, 3, "one in each table");
    check_rows(&world);
    assert_eq!((world.message_rows(), stale_rows(&world).len()), (4000, 1));
    add_subscription(&mut world, "late", QueueSettings::default(), vec![all("r")]);
    send_together(&mut world, &["n"]);
    world.pass(Span::from_secs(10));
    assert_eq!((world.message_rows(), stale_rows(&world).len()), (1, 0));
    assert_eq!(take_from(&mut world, "late").len(), 1, "none of those before it");
    assert_eq!(take_from(&mut world, "b").len(), 1);
    assert!(is_clean(&world));
}

#[test]
fn a_topic_counts_what_it_keeps_once() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    send_together(&mut world, &[&"m".repeat(1000)]);
    let size = world.message_bytes();
    assert_eq!(describe(&mut world, "t").unwrap().bytes, size);
    for name in ["t/Subscriptions/a", "t/Subscriptions/b"] {
        assert_eq!(world.stats(name).bytes, size);
    }
    world.crash();
    assert_eq!(describe(&mut world, "t").unwrap().bytes, size);
    assert_eq!(take_from(&mut world, "a").len(), 1);
    assert_eq!(describe(&mut world, "t").unwrap().bytes, size);
    assert_eq!(take_from(&mut world, "b").len(), 1);
    world.pass(Span::from_secs(10));
    assert_eq!(describe(&mut world, "t").unwrap().bytes, 0);
}

#[test]
fn a_message_whose_row_is_damaged_is_lost_and_no_other() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    send_together(&mut world, &["x", "y", "z"]);
    let topic = entity(&world, "t");
    let key = |n| (Table::Message, rows::message_key(topic, SequenceNumber(n)));
    world.rows.insert(key(2), bytes::Bytes::from_static(&[9; 40]));
    world.crash();
    for name in ["a", "b"] {
        assert_eq!(numbers(&take_from(&mut world, name)), [(1, 1), (3, 3)]);
    }
    assert_eq!(world.broker.counters().damaged, 2);
    world.pass(Span::from_secs(10));
    assert!(is_clean(&world));
}
