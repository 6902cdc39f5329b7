//! Messages that are set aside until they are asked for by number.

use super::timed::schedule;
use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::{Delivery, MessageState, Reply};
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::testing::{World, text, texts};
use crate::time::Span;

const LOCK: Span = Span::from_secs(60);

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), QueueSettings::default())
}

fn deferral() -> Settlement {
    Settlement::Defer { changes: Vec::new() }
}

fn abandon() -> Settlement {
    Settlement::Abandon { changes: Vec::new() }
}

fn dead_letter() -> Settlement {
    Settlement::DeadLetter { reason: Some("why".into()), description: None, changes: Vec::new() }
}

/// A queue whose messages were all sent, received and deferred, numbered from 1.
fn world_with_deferred(settings: QueueSettings, bodies: &[&str]) -> (World, EntityId) {
    let (mut world, q) = World::with_queue(BrokerSettings::default(), settings);
    defer_all(&mut world, q, bodies);
    (world, q)
}

fn defer_all(world: &mut World, q: EntityId, bodies: &[&str]) {
    world.send_all(q, bodies).unwrap();
    let receiver = world.open(77, "q", ReceiveMode::PeekLock);
    for delivery in world.receive(receiver, bodies.len() as u64) {
        assert!(matches!(world.settle(&delivery, deferral()), Ok(Reply::Settled)));
    }
    world.handle(Command::CloseReceiver { receiver });
}

fn ask(
    world: &mut World,
    entity: EntityId,
    numbers: &[u64],
    mode: ReceiveMode,
) -> Result<Vec<Delivery>, Error> {
    let sequences = numbers.iter().copied().map(SequenceNumber).collect();
    let session = None;
    let ask = |origin| Command::ReceiveDeferred { origin, entity, sequences, mode, session };
    world.ask(ask).map(|reply| {
        let Reply::DeferredReceived { deliveries } = reply else { panic!("{reply:?}") };
        deliveries
    })
}

fn fetch(world: &mut World, entity: EntityId, numbers: &[u64]) -> Vec<Delivery> {
    ask(world, entity, numbers, ReceiveMode::PeekLock).unwrap()
}

#[track_caller]
fn assert_missing(world: &mut World, entity: EntityId, numbers: &[u64], missing: u64) {
    for mode in [ReceiveMode::PeekLock, ReceiveMode::ReceiveAndDelete] {
        let error = ask(world, entity, numbers, mode).unwrap_err();
        assert_eq!(error, Error::MessageNotFound(missing));
    }
}

/// Active and deferred messages of the first queue.
fn counts(world: &World) -> (u64, u64) {
    let state = world.broker.durable_state();
    (state.entities[0].count, state.entities[0].deferred_count)
}

#[test]
fn a_deferred_message_comes_only_when_asked_for() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a", "b"]);
    assert_eq!((counts(&world), world.message_rows()), ((0, 2), 2));
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(world.receive(receiver, 10).len(), 0);
    let deliveries = fetch(&mut world, q, &[2, 1, 2]);
    assert_eq!(texts(&deliveries), ["b", "a"]);
    let delivery = &deliveries[0];
    assert_eq!((delivery.sequence, delivery.attempts), (SequenceNumber(2), 0));
    assert_eq!(delivery.state, MessageState::Deferred);
    assert_eq!(delivery.lock.unwrap().until, world.now.plus(LOCK));
    assert_eq!(counts(&world), (0, 2));
    for delivery in &deliveries {
        assert!(matches!(world.settle(delivery, Settlement::Complete), Ok(Reply::Settled)));
    }
    assert_eq!((counts(&world), world.message_rows(), world.trace_rows()), ((0, 0), 0, 0));
    assert_eq!(world.stats("q").bytes, 0);
    assert_missing(&mut world, q, &[1], 1);
}

#[test]
fn receiving_for_good_removes_it_at_once() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a", "b"]);
    let deliveries = ask(&mut world, q, &[1], ReceiveMode::ReceiveAndDelete).unwrap();
    assert_eq!((texts(&deliveries), deliveries[0].lock), (vec!["a"], None));
    assert_eq!((counts(&world), world.message_rows()), ((0, 1), 1));
    assert_missing(&mut world, q, &[1], 1);
}

#[test]
fn all_are_received_or_none() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a", "b"]);
    world.send(q, "active").unwrap();
    let due = world.now.plus(LOCK);
    schedule(&mut world, q, &[(due, "scheduled")]);
    for missing in [3, 4, 5] {
        assert_missing(&mut world, q, &[1, missing, 2], missing);
    }
    let held = fetch(&mut world, q, &[1]);
    assert_missing(&mut world, q, &[2, 1], 1);
    world.settle(&held[0], abandon()).unwrap();
    assert_eq!(fetch(&mut world, q, &[2, 1]).len(), 2);
    assert_eq!(ask(&mut world, q, &[], ReceiveMode::PeekLock).unwrap().len(), 0);
}

#[test]
fn a_deferred_message_that_is_given_back_stays_deferred() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a"]);
    let mut attempts = 0;
    for (settlement, counts_up) in
        [(abandon(), true), (Settlement::Release, false), (deferral(), false), (abandon(), true)]
    {
        let delivery = fetch(&mut world, q, &[1]).remove(0);
        assert_eq!((delivery.attempts, text(&delivery)), (attempts, "a"));
        assert!(matches!(world.settle(&delivery, settlement), Ok(Reply::Settled)));
        let again = world.settle(&delivery, Settlement::Complete);
        assert_eq!(again.unwrap_err(), Error::MessageLockLost);
        attempts += u32::from(counts_up);
        assert_eq!(counts(&world), (0, 1));
    }
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(world.receive(receiver, 10).len(), 0);
}

#[test]
fn its_lock_is_renewed_and_runs_out_like_any_other() {
    let (mut world, entity) = world_with_deferred(QueueSettings::default(), &["a"]);
    let token = fetch(&mut world, entity, &[1])[0].lock.unwrap().token;
    world.pass(Span::from_secs(59));
    let tokens = vec![token];
    let renewed = world.ask(|origin| Command::RenewLocks { origin, entity, tokens });
    assert!(matches!(renewed, Ok(Reply::Renewed { .. })), "{renewed:?}");
    world.pass(Span::from_secs(59));
    assert_missing(&mut world, entity, &[1], 1);
    world.pass(Span::from_secs(1));
    let late = world.settle_token(entity, token, Settlement::Complete);
    assert_eq!(late.unwrap_err(), Error::MessageLockLost);
    assert_eq!(fetch(&mut world, entity, &[1])[0].attempts, 1);
}

#[test]
fn failing_too_often_after_being_asked_for_dead_letters_it() {
    let settings = QueueSettings { attempts_max: 2, ..QueueSettings::default() };
    for by_expiry in [false, true] {
        let (mut world, q) = world_with_deferred(settings.clone(), &["a"]);
        for _ in 0..2 {
            let delivery = fetch(&mut world, q, &[1]).remove(0);
            if by_expiry {
                world.pass(LOCK);
            } else {
                world.settle(&delivery, abandon()).unwrap();
            }
        }
        assert_missing(&mut world, q, &[1], 1);
        assert_eq!(counts(&world), (0, 0));
        let receiver = world.open(1, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        assert_eq!((text(&delivery), delivery.sequence.0, delivery.attempts), ("a", 1, 2));
        world.settle(&delivery, Settlement::Complete).unwrap();
        assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    }
}

#[test]
fn one_that_failed_too_often_before_a_crash_leaves_when_it_is_touched() {
    let settings = QueueSettings { attempts_max: 1, ..QueueSettings::default() };
    let (mut world, q) = world_with_deferred(settings, &["a", "b"]);
    fetch(&mut world, q, &[1]);
    world.reads_fail = true;
    world.pass(LOCK);
    world.crash();
    world.reads_fail = false;
    assert_eq!(counts(&world), (0, 2));
    assert_missing(&mut world, q, &[2, 1], 1);
    assert_eq!((counts(&world), world.stats("q").dead_letter_count), ((0, 1), 1));
}

#[test]
fn a_deferred_message_can_be_dead_lettered() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a"]);
    let delivery = fetch(&mut world, q, &[1]).remove(0);
    assert!(matches!(world.settle(&delivery, dead_letter()), Ok(Reply::Settled)));
    assert_eq!((counts(&world), world.stats("q").dead_letter_count), ((0, 0), 1));
    let receiver = world.open(1, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    assert!(delivery.application_properties.is_some());
    // And deferred there, too.
    assert!(matches!(world.settle(&delivery, deferral()), Ok(Reply::Settled)));
    let dead_letters = EntityId(q.0 + 1);
    let delivery = fetch(&mut world, dead_letters, &[1]).remove(0);
    assert!(delivery.application_properties.is_some());
    world.settle(&delivery, Settlement::Complete).unwrap();
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn changed_properties_stay_with_a_deferred_message() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let change = |key: &str| vec![(key.into(), 1_i32.into())];
    world.settle(&delivery, abandon()).unwrap();
    let delivery = world.receive_one(receiver, 2);
    world.settle(&delivery, Settlement::Defer { changes: change("one") }).unwrap();
    world.crash();
    let mut sections = Vec::new();
    let settlements = [
        Settlement::Defer { changes: change("two") },
        Settlement::Abandon { changes: change("three") },
        abandon(),
        Settlement::Complete,
    ];
    for settlement in settlements {
        let delivery = fetch(&mut world, q, &[1]).remove(0);
        sections.push(delivery.application_properties.clone().unwrap());
        world.settle(&delivery, settlement).unwrap();
    }
    assert!(sections[0].len() < sections[1].len() && sections[1].len() < sections[2].len());
    assert_eq!(sections[2], sections[3]);
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn browsing_shows_deferred_messages_in_their_place() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a", "b"]);
    world.send(q, "c").unwrap();
    fetch(&mut world, q, &[1]);
    let delivery = fetch(&mut world, q, &[2]).remove(0);
    world.settle(&delivery, abandon()).unwrap();
    let browsed = world.browse(q, 0, 10, 1 << 20);
    let shown: Vec<_> = browsed
        .iter()
        .map(|message| (message.sequence.0, message.state, message.attempts))
        .collect();
    let (deferred, active) = (MessageState::Deferred, MessageState::Active);
    assert_eq!(shown, [(1, deferred, 0), (2, deferred, 1), (3, active, 0)]);
}

#[test]
fn two_requests_at_once_get_it_once() {
    for first in [0, 1] {
        let (mut world, entity) = world_with_deferred(QueueSettings::default(), &["a"]);
        world.reads_wait = true;
        world.reads_see_early = true;
        let origins = [world.origin(), world.origin()];
        for origin in origins {
            let (sequences, mode) = (vec![SequenceNumber(1)], ReceiveMode::PeekLock);
            let session = None;
            world.handle(Command::ReceiveDeferred { origin, entity, sequences, mode, session });
        }
        world.turn();
        world.answer_read(first);
        world.settle_down();
        let replies = origins.map(|origin| world.take_reply(origin).unwrap());
        assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1);
        assert!(replies[1 - first].is_err());
        assert!(world.broker.queue(entity).unwrap().watch.is_empty());
    }
}

#[test]
fn what_changed_while_it_was_read_is_read_again() {
    let (mut world, entity) = world_with_deferred(QueueSettings::default(), &["a"]);
    let held = fetch(&mut world, entity, &[1]).remove(0);
    world.settle(&held, Settlement::Release).unwrap();
    world.reads_wait = true;
    world.reads_see_early = true;
    let (one, two) = (world.origin(), world.origin());
    for origin in [one, two] {
        let (sequences, mode) = (vec![SequenceNumber(1)], ReceiveMode::PeekLock);
        world.handle(Command::ReceiveDeferred { origin, entity, sequences, mode, session: None });
    }
    world.turn();
    world.answer_read(0);
    world.turn();
    let Some(Ok(Reply::DeferredReceived { deliveries })) = world.take_reply(one) else { panic!() };
    world.reads_wait = false;
    world.settle(&deliveries[0], abandon()).unwrap();
    let Some(Ok(Reply::DeferredReceived { deliveries })) = world.take_reply(two) else { panic!() };
    assert_eq!(deliveries[0].attempts, 1);
}

#[test]
fn deferral_survives_a_crash_at_every_step() {
    for steps in 0..10 {
        let (mut world, q) = world();
        world.send(q, "a").unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        let origin = world.origin();
        world.handle(Command::Settle {
            origin: Some(origin),
            entity: q,
            token: delivery.lock.unwrap().token,
            settlement: deferral(),
            transaction: None,
        });
        for _ in 0..steps {
            if !world.turn() {
                world.sync_one();
            }
        }
        let answered = world.take_reply(origin).is_some();
        world.crash();
        assert_eq!(world.message_rows(), 1);
        let is_deferred = counts(&world) == (0, 1);
        assert!(is_deferred || (counts(&world) == (1, 0) && !answered), "after {steps} steps");
        if is_deferred {
            assert_eq!(text(&fetch(&mut world, q, &[1])[0]), "a");
            world.crash();
            assert_eq!(text(&fetch(&mut world, q, &[1])[0]), "a");
        }
    }
}

#[test]
fn messages_without_their_bodies_in_memory_are_deferred_too() {
    let settings = BrokerSettings { cache_bytes_max: 0, ..BrokerSettings::default() };
    let (mut world, q) = World::with_queue(settings, QueueSettings::default());
    defer_all(&mut world, q, &["a", "b", "c"]);
    assert_eq!(counts(&world), (0, 3));
    let deliveries = fetch(&mut world, q, &[3, 1]);
    assert_eq!(texts(&deliveries), ["c", "a"]);
    for delivery in &deliveries {
        world.settle(delivery, dead_letter()).unwrap();
    }
    assert_eq!(world.stats("q").dead_letter_count, 2);
}

#[test]
fn many_small_ones_come_in_chunks_and_big_ones_are_refused() {
    let bodies: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &bodies);
    let all: Vec<_> = (1..=100).collect();
    assert_eq!(texts(&fetch(&mut world, q, &all)), bodies);
    let settings = BrokerSettings { settle_bytes_max: 150, ..BrokerSettings::default() };
    let (mut world, q) = World::with_queue(settings, QueueSettings::default());
    let big = "x".repeat(100);
    defer_all(&mut world, q, &[&big, &big]);
    let error = ask(&mut world, q, &[1, 2], ReceiveMode::PeekLock).unwrap_err();
    assert!(matches!(error, Error::ServerBusy(_)), "{error:?}");
    assert_eq!(fetch(&mut world, q, &[1]).len(), 1);
    assert_eq!(fetch(&mut world, q, &[2]).len(), 1);
}

#[test]
fn a_store_that_does_not_answer_leaves_it_where_it_is() {
    let (mut world, q) = world_with_deferred(QueueSettings::default(), &["a"]);
    world.reads_fail = true;
    let error = ask(&mut world, q, &[1], ReceiveMode::ReceiveAndDelete).unwrap_err();
    assert_eq!(error, Error::StoreUnavailable);
    world.reads_fail = false;
    assert_eq!(fetch(&mut world, q, &[1]).len(), 1);
}
