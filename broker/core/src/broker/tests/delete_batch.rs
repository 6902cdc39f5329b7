//! Removing the oldest messages that nobody holds.

use peeklock_protocol::message::{Message, Properties};

use super::timed::{message_with, mortal_message, schedule};
use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::Reply;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, SequenceNumber};
use crate::testing::{World, texts};
use crate::time::{Span, Timestamp};

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), QueueSettings::default())
}

/// A broker that keeps next to nothing in memory.
fn small_world() -> (World, EntityId) {
    let small =
        BrokerSettings { window_count_max: 3, page_rows_max: 4, ..BrokerSettings::default() };
    World::with_queue(small, QueueSettings::default())
}

fn delete_of(
    world: &mut World,
    entity: EntityId,
    count_max: u32,
    before: Timestamp,
    session: Option<&str>,
) -> Result<u32, Error> {
    let session = session.map(|id| MessageSessionId::new(id).unwrap());
    let ask = |origin| Command::DeleteBatch { origin, entity, count_max, before, session };
    world.ask(ask).map(|reply| {
        let Reply::BatchDeleted { count } = reply else { panic!("{reply:?}") };
        count
    })
}

/// Removes what came before now.
fn delete(world: &mut World, entity: EntityId, count_max: u32) -> u32 {
    let before = world.now.plus(Span(1));
    delete_of(world, entity, count_max, before, None).unwrap()
}

#[test]
fn the_oldest_are_removed_in_memory_or_not() {
    for (mut world, q) in [world(), small_world()] {
        for n in 0..10 {
            world.send(q, &n.to_string()).unwrap();
        }
        assert_eq!(delete(&mut world, q, 6), 6);
        assert_eq!((world.stats("q").active_count, world.message_rows()), (4, 4));
        world.crash();
        assert_eq!(delete(&mut world, q, 1), 1);
        let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
        assert_eq!(texts(&world.receive(receiver, 10)), ["7", "8", "9"]);
        assert_eq!(delete(&mut world, q, 10), 0);
        assert_eq!(world.stats("q").bytes, 0);
    }
}

#[test]
fn only_what_came_before_the_time_is_removed() {
    let (mut world, q) = world();
    world.send(q, "old").unwrap();
    world.now = world.now.plus(Span(1000));
    let between = world.now;
    world.send(q, "new").unwrap();
    assert_eq!(delete_of(&mut world, q, 10, between, None), Ok(1));
    assert_eq!(delete_of(&mut world, q, 10, between, None), Ok(0));
    assert_eq!(world.stats("q").active_count, 1);
    assert_eq!(delete_of(&mut world, q, 10, Timestamp(u64::MAX), None), Ok(1));
}

#[test]
fn what_is_held_or_set_aside_stays() {
    for (mut world, q) in [world(), small_world()] {
        world.send_all(q, &["deferred", "locked", "free", "mine"]).unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let deliveries = world.receive(receiver, 2);
        world.settle(&deliveries[0], Settlement::Defer { changes: Vec::new() }).unwrap();
        let due = world.now.plus(Span::from_secs(9));
        schedule(&mut world, q, &[(due, "scheduled")]);
        assert_eq!(delete(&mut world, q, 10), 2);
        assert_eq!(world.message_rows(), 3);
        assert!(matches!(world.settle(&deliveries[1], Settlement::Complete), Ok(Reply::Settled)));
    }
}

#[test]
fn nothing_is_left_over_of_what_was_removed() {
    let (mut world, entity) = small_world();
    for n in 0..12_u64 {
        let messages = [mortal_message(Span(60_000), &n.to_string())].into_iter().collect();
        let send = |origin| Command::Send { origin, entity, messages, transaction: None };
        world.ask(send).unwrap();
    }
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let change = vec![("k".into(), 1_i32.into())];
    for delivery in world.receive(receiver, 2) {
        world.settle(&delivery, Settlement::Abandon { changes: change.clone() }).unwrap();
    }
    world.crash();
    assert_eq!(delete(&mut world, entity, 5), 5);
    assert_eq!(world.trace_rows(), 7);
    assert_eq!(delete(&mut world, entity, 50), 7);
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    assert_eq!(world.broker.durable_state().entities[0].expiring_count, 0);
}

#[test]
fn dead_letters_are_removed_too() {
    let (mut world, q) = small_world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    for n in 1..=10 {
        world.send(q, "x").unwrap();
        let delivery = world.receive_one(receiver, n);
        let (reason, description, changes) = (None, None, Vec::new());
        world.settle(&delivery, Settlement::DeadLetter { reason, description, changes }).unwrap();
    }
    let dead_letters = EntityId(q.0 + 1);
    assert_eq!(delete(&mut world, dead_letters, 7), 7);
    assert_eq!(world.stats("q").dead_letter_count, 3);
    assert_eq!(delete(&mut world, dead_letters, 7), 3);
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn no_more_than_four_thousand_go_at_once() {
    let (mut world, q) = world();
    for _ in 0..41 {
        world.send_all(q, &["x"; 100]).unwrap();
    }
    assert_eq!(delete(&mut world, q, u32::MAX), 4000);
    assert_eq!(delete(&mut world, q, u32::MAX), 100);
}

#[test]
fn messages_of_one_session_are_removed() {
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), settings);
    for n in 0..10 {
        let group_id = Some(["s", "t"][n % 2].into());
        let properties = Some(Properties { group_id, ..Properties::default() });
        let message = message_with(&Message { properties, ..Message::default() }, "x");
        let messages = [message].into_iter().collect();
        let send = |origin| Command::Send { origin, entity, messages, transaction: None };
        world.ask(send).unwrap();
    }
    let before = world.now.plus(Span(1));
    assert_eq!(delete_of(&mut world, entity, 3, before, Some("s")), Ok(3));
    world.crash();
    assert_eq!(delete_of(&mut world, entity, 10, before, Some("s")), Ok(2));
    assert_eq!(world.stats("q").active_count, 5);
    assert_eq!(delete_of(&mut world, entity, 10, before, None), Ok(5));
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    let (mut world, q) = small_world();
    let refused = delete_of(&mut world, q, 1, before, Some("s"));
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
}

#[test]
fn what_is_taken_meanwhile_is_not_removed_twice() {
    let (mut world, entity) = small_world();
    for n in 0..10 {
        world.send(entity, &n.to_string()).unwrap();
    }
    world.crash();
    world.reads_wait = true;
    world.reads_see_early = true;
    let (one, two) = (world.origin(), world.origin());
    let before = world.now.plus(Span(1));
    for origin in [one, two] {
        let (count_max, session) = (10, None);
        world.handle(Command::DeleteBatch { origin, entity, count_max, before, session });
    }
    world.settle_down();
    let counts = [one, two].map(|origin| {
        let Some(Ok(Reply::BatchDeleted { count })) = world.take_reply(origin) else { panic!() };
        count
    });
    assert_eq!(counts.iter().sum::<u32>(), 10);
    assert_eq!((world.stats("q").active_count, world.message_rows()), (0, 0));
}

#[test]
fn a_store_that_does_not_answer_removes_nothing() {
    let (mut world, q) = world();
    world.send(q, "x").unwrap();
    world.reads_fail = true;
    let before = world.now.plus(Span(1));
    assert_eq!(delete_of(&mut world, q, 1, before, None), Err(Error::StoreUnavailable));
    assert_eq!(world.stats("q").active_count, 1);
    assert!(world.broker.queue(q).unwrap().watch.is_empty());
    let unknown = delete_of(&mut world, EntityId(99), 1, before, None);
    assert!(matches!(unknown, Err(Error::EntityNotFound(_))));
    world.reads_fail = false;
    assert_eq!(delete_of(&mut world, q, 1, before, None), Ok(1));
    assert_eq!(world.broker.queue(q).unwrap().next_sequence(), SequenceNumber(2));
}
