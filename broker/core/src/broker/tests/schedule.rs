//! Messages that are not due yet.

use super::timed::{due_message, schedule};
use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::{MessageState, Reply};
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::testing::{World, body_of, texts};
use crate::time::{Span, Timestamp};

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), QueueSettings::default())
}

fn cancel(world: &mut World, entity: EntityId, numbers: &[u64]) -> Result<Reply, Error> {
    let sequences = numbers.iter().copied().map(SequenceNumber).collect();
    world.ask(|origin| Command::CancelScheduled { origin, entity, sequences })
}

fn at(world: &World, seconds: u64) -> Timestamp {
    world.now.plus(Span::from_secs(seconds))
}

fn counts(world: &World) -> (u64, u64) {
    let state = world.broker.durable_state();
    (state.entities[0].count, state.entities[0].scheduled_count)
}

#[test]
fn a_scheduled_message_becomes_active_at_its_time_as_a_new_one() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    assert_eq!(schedule(&mut world, q, &[(due, "later")]), [SequenceNumber(1)]);
    world.send(q, "now").unwrap();
    assert_eq!(counts(&world), (1, 1));
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    assert_eq!(texts(&world.receive(receiver, 10)), ["now"]);
    assert_eq!(world.broker.next_deadline(), Some(due));
    world.pass(Span(59_999));
    assert_eq!(world.take_deliveries().len(), 0);
    world.pass(Span(1));
    let deliveries = world.take_deliveries();
    let [(_, delivery)] = &deliveries[..] else { panic!("{deliveries:?}") };
    assert_eq!(delivery.sequence, SequenceNumber(3));
    assert_eq!(delivery.message.enqueued_at(), due);
    assert_eq!(delivery.state, MessageState::Active);
    assert_eq!((counts(&world), world.message_rows(), world.trace_rows()), ((0, 0), 0, 0));
    assert_eq!((world.stats("q").bytes, world.broker.counters().activated), (0, 1));
}

#[test]
fn it_becomes_active_even_when_nobody_receives() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    schedule(&mut world, q, &[(due, "x")]);
    world.pass(Span::from_secs(60));
    assert_eq!((counts(&world), world.trace_rows()), ((1, 0), 0));
}

#[test]
fn equal_times_go_by_number_and_earlier_times_first() {
    let (mut world, q) = world();
    let (early, late) = (at(&world, 10), at(&world, 20));
    schedule(&mut world, q, &[(late, "c"), (early, "a"), (late, "d"), (early, "b")]);
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    world.receive(receiver, 10);
    world.pass(Span::from_secs(30));
    let deliveries: Vec<_> = world.take_deliveries().into_iter().map(|(_, d)| d).collect();
    assert_eq!(texts(&deliveries), ["a", "b", "c", "d"]);
    assert!(deliveries.iter().is_sorted_by_key(|delivery| delivery.sequence));
}

#[test]
fn a_time_that_is_over_means_now() {
    let (mut world, q) = world();
    let now = world.now;
    assert_eq!(schedule(&mut world, q, &[(now, "x")]), [SequenceNumber(1)]);
    assert_eq!(counts(&world), (1, 0));
    let (due, over) = (at(&world, 1), Timestamp(0));
    let numbers = schedule(&mut world, q, &[(over, "a"), (due, "b"), (over, "c")]);
    assert_eq!(numbers, [2, 3, 4].map(SequenceNumber));
    assert_eq!(counts(&world), (3, 1));
}

#[test]
fn a_message_that_is_sent_with_a_time_waits_for_it() {
    let (mut world, entity) = world();
    let messages = [due_message(at(&world, 5), "x")].into_iter().collect();
    let sent = world.ask(|origin| Command::Send { origin, entity, messages, transaction: None });
    assert!(matches!(sent, Ok(Reply::Accepted)), "{sent:?}");
    assert_eq!(counts(&world), (0, 1));
    world.pass(Span::from_secs(5));
    assert_eq!(counts(&world), (1, 0));
}

#[test]
fn a_cancelled_message_never_comes() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    schedule(&mut world, q, &[(due, "a"), (due, "b"), (due, "c")]);
    assert!(matches!(cancel(&mut world, q, &[1, 3, 3]), Ok(Reply::ScheduledCancelled)));
    assert_eq!((counts(&world), world.message_rows(), world.trace_rows()), ((0, 1), 1, 1));
    assert_eq!(cancel(&mut world, q, &[1]).unwrap_err(), Error::MessageNotFound(1));
    assert!(matches!(cancel(&mut world, q, &[]), Ok(Reply::ScheduledCancelled)));
    world.pass(Span::from_secs(60));
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    assert_eq!(texts(&world.receive(receiver, 10)), ["b"]);
    assert_eq!(cancel(&mut world, q, &[2]).unwrap_err(), Error::MessageNotFound(2));
}

#[test]
fn cancelling_is_all_or_none() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    schedule(&mut world, q, &[(due, "a"), (due, "b")]);
    world.send(q, "active").unwrap();
    for missing in [3, 4] {
        let error = cancel(&mut world, q, &[1, missing, 2]).unwrap_err();
        assert_eq!(error, Error::MessageNotFound(missing));
    }
    assert_eq!(counts(&world), (1, 2));
    let error = cancel(&mut world, EntityId(99), &[1]).unwrap_err();
    assert!(matches!(error, Error::EntityNotFound(_)));
}

#[test]
fn two_cancellations_at_once_remove_it_once() {
    let (mut world, entity) = world();
    let due = at(&world, 60);
    schedule(&mut world, entity, &[(due, "a"), (due, "b")]);
    world.reads_wait = true;
    world.reads_see_early = true;
    let sequences = vec![SequenceNumber(1), SequenceNumber(2)];
    let (one, two) = (world.origin(), world.origin());
    for origin in [one, two] {
        let sequences = sequences.clone();
        world.handle(Command::CancelScheduled { origin, entity, sequences });
    }
    world.turn();
    world.settle_down();
    assert!(matches!(world.take_reply(one), Some(Ok(Reply::ScheduledCancelled))));
    assert!(matches!(world.take_reply(two), Some(Err(Error::MessageNotFound(1)))));
    assert_eq!((counts(&world), world.message_rows()), ((0, 0), 0));
}

#[test]
fn a_cancellation_that_crosses_the_activation_is_refused_or_prevents_it() {
    for answer_cancel_first in [false, true] {
        let (mut world, entity) = world();
        let due = at(&world, 60);
        schedule(&mut world, entity, &[(due, "a")]);
        world.reads_wait = true;
        world.reads_see_early = true;
        let origin = world.origin();
        let sequences = vec![SequenceNumber(1)];
        world.handle(Command::CancelScheduled { origin, entity, sequences });
        world.turn();
        world.now = due;
        world.handle(Command::Tick);
        world.turn();
        world.answer_read(usize::from(!answer_cancel_first));
        world.settle_down();
        let reply = world.take_reply(origin).unwrap();
        assert_eq!(reply.is_ok(), answer_cancel_first, "{reply:?}");
        assert_eq!(counts(&world), (u64::from(!answer_cancel_first), 0));
        assert_eq!(world.trace_rows(), 0);
    }
}

#[test]
fn scheduled_messages_survive_a_crash_at_every_step() {
    for steps in 0..8 {
        let (mut world, entity) = world();
        let due = at(&world, 60);
        schedule(&mut world, entity, &[(due, "a"), (due, "b")]);
        world.now = due;
        world.handle(Command::Tick);
        for _ in 0..steps {
            if !world.turn() {
                world.sync_one();
            }
        }
        world.crash();
        world.pass(Span(0));
        let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
        assert_eq!(texts(&world.receive(receiver, 10)), ["a", "b"], "after {steps} steps");
        assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    }
}

#[test]
fn many_are_activated_page_by_page_with_few_due_times_in_memory() {
    let settings = BrokerSettings {
        timers_max: 4,
        expiries_max: 3,
        page_bytes_max: 100,
        ..BrokerSettings::default()
    };
    let (mut world, q) = World::with_queue(settings, QueueSettings::default());
    let due: Vec<_> = (0..50_u64).map(|n| (at(&world, 1 + n * 7 % 50), n.to_string())).collect();
    for (at, body) in &due {
        schedule(&mut world, q, &[(*at, body)]);
        assert!(world.broker.queue(q).unwrap().activations.resident_count() <= 4);
    }
    let mut expected: Vec<_> = due.iter().map(|(at, body)| (*at, body.as_str())).collect();
    expected.sort_by_key(|(at, _)| *at);
    world.pass(Span::from_secs(20));
    let before_crash = counts(&world).0;
    assert_eq!(before_crash, 20);
    world.crash();
    world.pass(Span::from_secs(100));
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 100);
    let bodies: Vec<_> = expected.iter().map(|(_, body)| *body).collect();
    assert_eq!(texts(&deliveries), bodies);
    assert_eq!(world.trace_rows(), 0);
}

#[test]
fn a_store_that_does_not_answer_delays_the_activation() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    schedule(&mut world, q, &[(due, "a")]);
    world.reads_fail = true;
    assert_eq!(cancel(&mut world, q, &[1]).unwrap_err(), Error::StoreUnavailable);
    world.now = due;
    world.handle(Command::Tick);
    world.settle_down();
    assert_eq!(counts(&world), (0, 1));
    assert_eq!(world.broker.next_deadline(), Some(due.plus(Span::from_secs(1))));
    world.reads_fail = false;
    world.pass(Span::from_secs(1));
    assert_eq!(counts(&world), (1, 0));
}

#[test]
fn browsing_shows_scheduled_messages_in_their_place() {
    let settings = BrokerSettings { window_count_max: 2, ..BrokerSettings::default() };
    let (mut world, q) = World::with_queue(settings, QueueSettings::default());
    let due = at(&world, 60);
    for n in 1..=4 {
        world.send(q, &format!("active {n}")).unwrap();
        schedule(&mut world, q, &[(due, &format!("scheduled {n}"))]);
    }
    let mut shown = |from, count_max, bytes_max| -> Vec<(u64, MessageState)> {
        let browsed = world.browse(q, from, count_max, bytes_max);
        for message in &browsed {
            let body = body_of(message.message.bytes());
            let is_scheduled = body.starts_with(b"scheduled");
            assert_eq!(message.state == MessageState::Scheduled, is_scheduled);
        }
        browsed.into_iter().map(|message| (message.sequence.0, message.state)).collect()
    };
    let all: Vec<_> = (1..=8_u64)
        .map(|n| (n, [MessageState::Scheduled, MessageState::Active][(n % 2) as usize]))
        .collect();
    assert_eq!(shown(0, 100, 1 << 20), all);
    assert_eq!(shown(3, 2, 1 << 20), all[2..4]);
    assert_eq!(shown(4, 100, 0), all[3..4]);
    assert_eq!(shown(8, 100, 1 << 20), all[7..]);
    assert_eq!(shown(9, 100, 1 << 20), []);
}

#[test]
fn scheduled_messages_count_for_the_size_of_the_queue() {
    let settings = QueueSettings { entity_bytes_max: 200, ..QueueSettings::default() };
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), settings);
    let due = at(&world, 60);
    schedule(&mut world, entity, &[(due, &"x".repeat(90))]);
    let messages = vec![due_message(due, &"x".repeat(90))];
    let full = |origin| Command::Schedule { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(full), Err(Error::EntityFull { .. })));
    cancel(&mut world, entity, &[1]).unwrap();
    schedule(&mut world, entity, &[(due, &"x".repeat(90))]);
}

#[test]
fn nothing_is_scheduled_in_a_subqueue() {
    let (mut world, q) = world();
    let (entity, due) = (EntityId(q.0 + 1), at(&world, 60));
    let messages = vec![due_message(due, "x")];
    let ask = |origin| Command::Schedule { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(ask), Err(Error::NotAllowed(_))));
}

#[test]
fn an_activated_message_is_like_any_other() {
    let (mut world, q) = world();
    let due = at(&world, 60);
    schedule(&mut world, q, &[(due, "x")]);
    world.pass(Span::from_secs(60));
    world.crash();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    assert_eq!(delivery.sequence, SequenceNumber(2));
    world.settle(&delivery, Settlement::Complete).unwrap();
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}
