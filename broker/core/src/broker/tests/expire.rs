//! Messages that are of use for a while only.

use peeklock_protocol::message::{Header, Message, Properties};
use peeklock_protocol::value::Timestamp as AmqpTimestamp;

use super::timed::{message_with, schedule};
use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::Reply;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, text, texts};
use crate::time::{Span, Timestamp};

fn seconds(seconds: u64) -> Span {
    Span::from_secs(seconds)
}

fn mortal(ttl: u32, body: &str) -> IncomingMessage {
    let header = Header { ttl: Some(ttl * 1000), ..Header::default() };
    message_with(&Message { header: Some(header), ..Message::default() }, body)
}

fn send(world: &mut World, entity: EntityId, message: IncomingMessage) {
    let messages = [message].into_iter().collect();
    let send = |origin| Command::Send { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(send), Ok(Reply::Accepted)));
}

fn send_mortal(world: &mut World, entity: EntityId, ttl: u32, body: &str) {
    send(world, entity, mortal(ttl, body));
}

fn settings(dead_letter_on_expiry: bool) -> QueueSettings {
    QueueSettings { dead_letter_on_expiry, ..QueueSettings::default() }
}

fn world(dead_letter_on_expiry: bool) -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), settings(dead_letter_on_expiry))
}

/// A broker that keeps next to nothing in memory.
fn small_world(dead_letter_on_expiry: bool) -> (World, EntityId) {
    let small = BrokerSettings {
        window_count_max: 2,
        page_rows_max: 2,
        timers_max: 3,
        expiries_max: 4,
        ..BrokerSettings::default()
    };
    World::with_queue(small, settings(dead_letter_on_expiry))
}

/// Messages of the queue and of its dead letters, and rows of any kind.
fn counts(world: &World) -> (u64, u64, usize, usize) {
    let stats = world.stats("q");
    (stats.active_count, stats.dead_letter_count, world.message_rows(), world.trace_rows())
}

#[test]
fn an_expired_message_is_gone_whether_anybody_receives_or_not() {
    for crashes in [false, true] {
        let (mut world, q) = world(false);
        send_mortal(&mut world, q, 10, "short");
        send_mortal(&mut world, q, 20, "long");
        world.send(q, "for ever").unwrap();
        assert_eq!(counts(&world), (3, 0, 3, 2));
        if crashes {
            world.crash();
        }
        world.pass(Span(9_999));
        assert_eq!(counts(&world), (3, 0, 3, 2));
        world.pass(Span(1));
        assert_eq!(counts(&world), (2, 0, 2, 1));
        world.pass(seconds(10));
        assert_eq!(counts(&world), (1, 0, 1, 0));
        assert_eq!(world.broker.counters().expired, 2);
        let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
        assert_eq!(texts(&world.receive(receiver, 10)), ["for ever"]);
        assert_eq!(world.stats("q").bytes, 0);
    }
}

#[test]
fn an_expired_message_is_dead_lettered_where_that_is_wanted() {
    for crashes in [false, true] {
        let (mut world, q) = world(true);
        send_mortal(&mut world, q, 10, "x");
        if crashes {
            world.crash();
        }
        world.pass(seconds(10));
        assert_eq!(counts(&world), (0, 1, 1, 1));
        // Dead letters never expire.
        world.pass(seconds(1000));
        world.crash();
        world.pass(seconds(1000));
        let receiver = world.open(1, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        assert_eq!((text(&delivery), delivery.sequence), ("x", SequenceNumber(1)));
        let section = delivery.application_properties.clone().unwrap();
        let shown = String::from_utf8_lossy(&section);
        assert!(shown.contains("TTLExpiredException"), "{shown}");
        world.settle(&delivery, Settlement::Complete).unwrap();
        assert_eq!(counts(&world), (0, 0, 0, 0));
    }
}

#[test]
fn the_smaller_of_what_message_and_queue_say_counts() {
    let absolute = |world: &World, span| {
        let at = AmqpTimestamp(world.now.plus(seconds(span)).as_amqp());
        Some(Properties { absolute_expiry_time: Some(at), ..Properties::default() })
    };
    let check = |header: Option<u32>, until: Option<u64>, by_queue: Option<u64>, expected| {
        let default_time_to_live = by_queue.map(seconds);
        let settings = QueueSettings { default_time_to_live, ..QueueSettings::default() };
        let (mut world, q) = World::with_queue(BrokerSettings::default(), settings);
        let properties = until.and_then(|span| absolute(&world, span));
        let header = header.map(|ttl| Header { ttl: Some(ttl), ..Header::default() });
        let sections = Message { header, properties, ..Message::default() };
        send(&mut world, q, message_with(&sections, "x"));
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        let expires_at = delivery.message.header().expires_at;
        let now = world.now;
        assert_eq!(expires_at, Option::<u64>::map(expected, |span| now.plus(seconds(span))));
    };
    check(None, None, None, None);
    check(Some(10_000), None, None, Some(10));
    check(None, None, Some(10), Some(10));
    check(Some(10_000), None, Some(20), Some(10));
    check(Some(20_000), None, Some(10), Some(10));
    check(None, Some(30), None, Some(30));
    check(None, Some(30), Some(10), Some(10));
    // The header does not depend on the sender's clock.
    check(Some(10_000), Some(1), None, Some(10));
    // What does not fit into the header.
    check(Some(u32::MAX), Some(9_000_000), None, Some(9_000_000));
    // Senders that set none.
    check(Some(0), None, None, None);
}

#[test]
fn a_locked_message_does_not_expire_before_it_is_given_back() {
    for dead_letter_on_expiry in [false, true] {
        let (mut world, q) = world(dead_letter_on_expiry);
        send_mortal(&mut world, q, 10, "completed");
        send_mortal(&mut world, q, 10, "abandoned");
        send_mortal(&mut world, q, 10, "released");
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let deliveries = world.receive(receiver, 3);
        world.pass(seconds(59));
        assert_eq!(world.stats("q").active_count, 3);
        world.settle(&deliveries[0], Settlement::Complete).unwrap();
        world.settle(&deliveries[1], Settlement::Abandon { changes: Vec::new() }).unwrap();
        world.pass(Span(0));
        let dead = u64::from(dead_letter_on_expiry);
        let stats = world.stats("q");
        assert_eq!((stats.active_count, stats.dead_letter_count), (1, dead));
        // A receiver that waits does not get it either.
        assert_eq!(world.receive(receiver, 10).len(), 0);
        world.settle(&deliveries[2], Settlement::Release).unwrap();
        world.pass(Span(0));
        let stats = world.stats("q");
        assert_eq!((stats.active_count, stats.dead_letter_count), (0, 2 * dead));
        assert_eq!(world.take_deliveries().len(), 0);
    }
}

#[test]
fn a_lock_that_ends_after_its_message_expired_lets_it_go() {
    let (mut world, q) = world(true);
    send_mortal(&mut world, q, 10, "x");
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.receive(receiver, 1);
    world.pass(seconds(60));
    assert_eq!(counts(&world).1, 1);
    let reader = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    assert_eq!(world.receive_one(reader, 1).attempts, 1);
}

#[test]
fn nobody_is_given_what_has_expired_before_its_time_is_called() {
    let (mut world, q) = world(true);
    for n in 0..5 {
        send_mortal(&mut world, q, 10, &format!("old {n}"));
    }
    send_mortal(&mut world, q, 60, "good");
    world.now = world.now.plus(seconds(10));
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(receiver, 10)), ["good"]);
    assert_eq!(counts(&world).1, 5);
}

#[test]
fn messages_that_only_the_store_has_expire_page_by_page() {
    for dead_letter_on_expiry in [false, true] {
        for crashes in [false, true] {
            let (mut world, q) = small_world(dead_letter_on_expiry);
            for n in 0..40_u32 {
                let ttl = if n % 4 == 3 { 1000 } else { 10 + n * 7 % 5 };
                send_mortal(&mut world, q, ttl, &n.to_string());
            }
            if crashes {
                world.crash();
            }
            world.pass(seconds(20));
            let dead = if dead_letter_on_expiry { 30 } else { 0 };
            let stats = world.stats("q");
            assert_eq!((stats.active_count, stats.dead_letter_count), (10, dead));
            let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
            let expected: Vec<_> = (0..10).map(|n| (n * 4 + 3).to_string()).collect();
            assert_eq!(texts(&world.receive(receiver, 100)), expected);
            let reader = world.open(2, "q/$DeadLetterQueue", ReceiveMode::ReceiveAndDelete);
            assert_eq!(world.receive(reader, 100).len() as u64, dead);
            assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
        }
    }
}

#[test]
fn a_turn_expires_no_more_than_it_may() {
    let (mut world, q) = World::with_queue(
        BrokerSettings { expiries_max: 10, ..BrokerSettings::default() },
        settings(false),
    );
    for _ in 0..100 {
        send_mortal(&mut world, q, 10, "x");
    }
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.now = world.now.plus(seconds(10));
    world.handle(Command::Drain { receiver, limit: 1 });
    assert_eq!(world.broker.counters().expired, 10);
    // Who asks again does not get around the bound.
    world.handle(Command::Demand { receiver, limit: 1 });
    for ticks in 1.. {
        let expired = world.broker.counters().expired;
        if expired == 100 {
            break;
        }
        assert_eq!(world.broker.next_deadline(), Some(world.now), "the rest is due at once");
        world.handle(Command::Tick);
        // By being given out, and by being due.
        assert!(ticks < 10 && world.broker.counters().expired - expired <= 20);
    }
}

#[test]
fn a_message_that_expires_while_its_page_is_read_does_not_come_back() {
    for reads_see_early in [false, true] {
        let (mut world, q) = small_world(false);
        for n in 0..6_u32 {
            send_mortal(&mut world, q, if n == 3 { 10 } else { 1000 }, &n.to_string());
        }
        world.crash();
        world.pass(Span(0));
        world.reads_wait = true;
        world.reads_see_early = reads_see_early;
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        world.handle(Command::Demand { receiver, limit: 10 });
        world.turn();
        world.now = world.now.plus(seconds(10));
        world.handle(Command::Tick);
        world.turn();
        // The page was asked for first; the expired message is taken out first.
        while world.answer_read(1) {
            world.turn();
        }
        world.settle_down();
        world.reads_wait = false;
        world.settle_down();
        let mut shown = world.take_deliveries();
        shown.retain(|(_, delivery)| text(delivery) == "3");
        assert_eq!(shown.len(), 0);
        world.crash();
        let receiver = world.open(2, "q", ReceiveMode::ReceiveAndDelete);
        assert_eq!(texts(&world.receive(receiver, 10)), ["0", "1", "2", "4", "5"]);
    }
}

#[test]
fn expiry_is_all_or_nothing_at_every_step_of_a_crash() {
    for dead_letter_on_expiry in [false, true] {
        for on_disk in [false, true] {
            for steps in 0..8 {
                let (mut world, q) = world(dead_letter_on_expiry);
                send_mortal(&mut world, q, 10, "x");
                if on_disk {
                    world.crash();
                    world.pass(Span(0));
                }
                world.now = world.now.plus(seconds(10));
                world.handle(Command::Tick);
                for _ in 0..steps {
                    if !world.turn() {
                        world.sync_one();
                    }
                }
                world.crash();
                world.pass(Span(0));
                let dead = u64::from(dead_letter_on_expiry);
                let stats = world.stats("q");
                assert_eq!((stats.active_count, stats.dead_letter_count), (0, dead));
            }
        }
    }
}

#[test]
fn a_scheduled_message_lives_from_when_it_is_due() {
    let (mut world, q) = World::with_queue(
        BrokerSettings::default(),
        QueueSettings { default_time_to_live: Some(seconds(10)), ..QueueSettings::default() },
    );
    let due = world.now.plus(seconds(100));
    schedule(&mut world, q, &[(due, "x")]);
    world.pass(seconds(100));
    world.pass(Span(9_999));
    assert_eq!(counts(&world), (1, 0, 1, 1));
    world.pass(Span(1));
    assert_eq!(counts(&world), (0, 0, 0, 0));
}

#[test]
fn a_deferred_message_expires_when_it_is_touched() {
    for dead_letter_on_expiry in [false, true] {
        let (mut world, entity) = world(dead_letter_on_expiry);
        send_mortal(&mut world, entity, 10, "x");
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        world.settle(&delivery, Settlement::Defer { changes: Vec::new() }).unwrap();
        assert_eq!(world.trace_rows(), 0, "no due time is left");
        world.pass(seconds(1000));
        assert_eq!(world.message_rows(), 1);
        let (sequences, mode) = (vec![SequenceNumber(1)], ReceiveMode::PeekLock);
        let session = None;
        let ask = |origin| Command::ReceiveDeferred { origin, entity, sequences, mode, session };
        assert_eq!(world.ask(ask).unwrap_err(), Error::MessageNotFound(1));
        assert_eq!(world.stats("q").dead_letter_count, u64::from(dead_letter_on_expiry));
        assert_eq!(world.message_rows(), usize::from(dead_letter_on_expiry));
    }
}

#[test]
fn a_store_that_does_not_answer_delays_the_expiry() {
    let (mut world, q) = world(false);
    send_mortal(&mut world, q, 10, "x");
    world.crash();
    world.reads_fail = true;
    world.pass(seconds(10));
    assert_eq!(counts(&world).0, 1);
    world.pass(seconds(5));
    assert_eq!(counts(&world).0, 1);
    world.reads_fail = false;
    world.pass(seconds(2));
    assert_eq!(counts(&world), (0, 0, 0, 0));
}

#[test]
fn few_due_times_are_in_memory_and_completed_messages_leave_none() {
    let (mut world, q) = small_world(false);
    for n in 0..30_u32 {
        send_mortal(&mut world, q, 1000 - n, "x");
        assert!(world.broker.queue(q).unwrap().expiries.resident_count() <= 3);
    }
    assert_eq!(world.trace_rows(), 30);
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    assert_eq!(world.receive(receiver, 100).len(), 30);
    assert_eq!(counts(&world), (0, 0, 0, 0));
    assert_eq!(world.broker.durable_state().entities[0].expiring_count, 0);
    world.pass(seconds(2000));
    assert_eq!(world.broker.counters().expired, 0);
}

#[test]
fn messages_of_sessions_expire_held_or_not() {
    for (dead_letter_on_expiry, crashes) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        let settings = QueueSettings { requires_session: true, ..settings(dead_letter_on_expiry) };
        let (mut world, q) = World::with_queue(BrokerSettings::default(), settings);
        for (session, ttl) in [("s", 10), ("t", 10), ("s", 1000)] {
            let header = Some(Header { ttl: Some(ttl * 1000), ..Header::default() });
            let group_id = Some(session.into());
            let properties = Some(Properties { group_id, ..Properties::default() });
            let sections = Message { header, properties, ..Message::default() };
            send(&mut world, q, message_with(&sections, session));
        }
        if crashes {
            world.crash();
        }
        world.pass(seconds(10));
        let dead = if dead_letter_on_expiry { 2 } else { 0 };
        let stats = world.stats("q");
        assert_eq!((stats.active_count, stats.dead_letter_count), (1, dead));
        let state = world.broker.durable_state();
        assert_eq!(state.entities[0].expiring_count, 1);
        world.pass(seconds(1000));
        assert_eq!(world.stats("q").active_count, 0);
    }
}

#[test]
fn times_far_away_do_no_harm() {
    let (mut world, q) = world(false);
    let at = AmqpTimestamp(i64::MAX);
    let properties = Some(Properties { absolute_expiry_time: Some(at), ..Properties::default() });
    send(&mut world, q, message_with(&Message { properties, ..Message::default() }, "x"));
    let at = AmqpTimestamp(-1);
    let properties = Some(Properties { absolute_expiry_time: Some(at), ..Properties::default() });
    send(&mut world, q, message_with(&Message { properties, ..Message::default() }, "y"));
    assert_eq!(world.broker.next_deadline(), Some(Timestamp(u64::try_from(i64::MAX).unwrap())));
    assert_eq!(counts(&world).0, 2);
}
