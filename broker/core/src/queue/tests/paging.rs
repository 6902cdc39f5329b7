//! Messages that are not in memory: backlogs, bodies that were let go, stores that fail.

use super::*;
use crate::testing::body_of;

/// Room for next to nothing.
pub(super) fn small() -> BrokerSettings {
    BrokerSettings {
        cache_bytes_max: 64 * 1024,
        window_bytes_max: 16 * 1024,
        window_count_max: 64,
        page_rows_max: 16,
        page_bytes_max: 4 * 1024,
        ..BrokerSettings::default()
    }
}

/// So little that no body of a locked message stays.
fn forgetful() -> BrokerSettings {
    BrokerSettings { cache_bytes_max: 0, ..small() }
}

/// What [`small`] may take at most: the cache, and a page over it.
pub(super) const SMALL_MEMORY_MAX: usize = 64 * 1024 + 16 * 1024;

fn small_world() -> (World, EntityId) {
    World::with_queue(small(), QueueSettings::default())
}

#[test]
fn a_deep_backlog_keeps_its_order_and_takes_no_memory() {
    const COUNT: usize = 100_000;
    let (mut world, q) = small_world();
    let bodies: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
    for bodies in bodies.chunks(500) {
        let bodies: Vec<_> = bodies.iter().map(String::as_str).collect();
        world.send_all(q, &bodies).unwrap();
        assert!(world.broker.resident_bytes() <= SMALL_MEMORY_MAX);
    }
    world.crash();
    assert_eq!(world.stats("q").active_count, COUNT as u64);
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let mut expected = 0;
    while expected < COUNT {
        let limit = expected as u64 + 40;
        let deliveries = world.receive(receiver, limit);
        assert!(!deliveries.is_empty(), "stuck at {expected}");
        for delivery in deliveries {
            assert_eq!(text(&delivery), bodies[expected]);
            expected += 1;
            let token = delivery.lock.unwrap().token;
            let settlement = Settlement::Complete;
            world.handle(Command::Settle {
                origin: None,
                entity: q,
                token,
                settlement,
                transaction: None,
            });
        }
        assert!(world.broker.resident_bytes() <= SMALL_MEMORY_MAX);
        assert!(world.stats("q").resident_count <= 64 + 16);
    }
    world.settle_down();
    assert_eq!((world.message_rows(), world.stats("q").bytes), (0, 0));
}

#[test]
fn who_has_caught_up_is_served_from_memory() {
    let (mut world, q) = small_world();
    let numbers: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    for number in &numbers[..200] {
        world.send(q, number).unwrap();
    }
    assert!(world.stats("q").resident_count < 100);
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    let mut seen = world.receive(receiver, 150);
    // More comes in than goes out, and then the receiver catches up while more comes in.
    world.reads_wait = true;
    world.handle(Command::Demand { receiver, limit: 1_000 });
    for number in &numbers[200..250] {
        let origin = world.origin();
        world.handle(Command::Send {
            origin,
            entity: q,
            messages: messages(&[number]),
            transaction: None,
        });
        world.turn();
        world.sync_one();
        world.answer_read(0);
    }
    world.settle_down();
    let pages = world.broker.counters().pages_read;
    for number in &numbers[250..] {
        world.send(q, number).unwrap();
    }
    assert_eq!(world.broker.counters().pages_read, pages, "all of these were kept in memory");
    seen.extend(world.take_deliveries().into_iter().map(|(_, delivery)| delivery));
    assert_eq!(texts(&seen), numbers);
}

#[test]
fn messages_sent_while_the_last_page_is_read_are_kept() {
    let (mut world, q) = small_world();
    world.send_all(q, &["a", "b"]).unwrap();
    world.crash();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    world.reads_wait = true;
    world.handle(Command::Demand { receiver, limit: 10 });
    world.turn();
    let origin = world.origin();
    world.handle(Command::Send {
        origin,
        entity: q,
        messages: messages(&["c", "d"]),
        transaction: None,
    });
    world.settle_down();
    let deliveries: Vec<_> = world.take_deliveries().into_iter().map(|(_, d)| d).collect();
    assert_eq!(texts(&deliveries), ["a", "b", "c", "d"]);
    assert_eq!(world.broker.counters().pages_read, 1);
}

#[test]
fn what_was_forgotten_is_read_again() {
    let (mut world, q) = World::with_queue(forgetful(), QueueSettings::default());
    let numbers: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let bodies: Vec<_> = numbers.iter().map(String::as_str).collect();
    world.send_all(q, &bodies).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 40);
    assert_eq!(texts(&deliveries), numbers);
    assert!(world.broker.resident_bytes() < 40 * 250, "only bookkeeping");
    for delivery in deliveries.iter().rev() {
        world.settle(delivery, abandon()).unwrap();
    }
    let again = world.receive(receiver, 80);
    assert_eq!(texts(&again), numbers);
    assert!(again.iter().all(|delivery| delivery.attempts == 1));
    let browsed = world.browse(q, 0, 100, 10_000);
    assert!(
        browsed.iter().map(|b| body_of(b.message.bytes())).eq(bodies.iter().map(|b| b.as_bytes()))
    );
}

#[test]
fn a_forgotten_message_can_be_changed_and_moved() {
    let (mut world, q) = World::with_queue(forgetful(), QueueSettings::default());
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    let changes = vec![("k".into(), "v".into())];
    world.settle(&deliveries[0], Settlement::Abandon { changes }).unwrap();
    let (reason, description) = (Some("because".into()), Some("I say so".into()));
    let changes = vec![("x".into(), 1_i32.into())];
    world.settle(&deliveries[1], Settlement::DeadLetter { reason, description, changes }).unwrap();

    let delivery = world.receive_one(receiver, 3);
    assert_eq!(text(&delivery), "a");
    assert_eq!(properties(&delivery), ["k"]);
    let dead = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let delivery = world.receive_one(dead, 1);
    assert_eq!(text(&delivery), "b");
    assert_eq!(properties(&delivery), ["x", "DeadLetterReason", "DeadLetterErrorDescription"]);
    // The change is forgotten with the body, and read again with it.
    world.settle(&delivery, Settlement::Release).unwrap();
    let again = world.receive_one(dead, 2);
    assert_eq!(again.application_properties, delivery.application_properties);
}

fn properties(delivery: &crate::effect::Delivery) -> Vec<String> {
    let section = delivery.application_properties.as_ref().unwrap();
    let section = peeklock_protocol::message::MapSection::parse(section).unwrap();
    section.entries().map(|entry| entry.unwrap().key().unwrap().unwrap().to_owned()).collect()
}

#[test]
fn a_forgotten_message_that_fails_too_often_is_read_to_be_moved() {
    let settings = QueueSettings { attempts_max: 1, ..QueueSettings::default() };
    let (mut world, q) = World::with_queue(forgetful(), settings);
    world.send_all(q, &["a", "b", "c"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 3);
    world.handle(Command::CloseReceiver { receiver });
    world.settle(&deliveries[1], abandon()).unwrap();
    assert_eq!(world.stats("q").dead_letter_count, 1);
    // Nobody receives; the move happens all the same, even over a crash in between.
    world.reads_wait = true;
    world.now = world.now.plus(LOCK);
    world.handle(Command::Tick);
    world.turn();
    world.sync_one();
    assert_eq!(world.stats("q").dead_letter_count, 1);
    world.crash();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert!(world.receive(receiver, 5).is_empty());
    assert_eq!((world.stats("q").active_count, world.stats("q").dead_letter_count), (0, 3));
    let dead = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(dead, 5)), ["a", "b", "c"]);
}

#[test]
fn many_forgotten_messages_are_settled_at_once_or_not_at_all() {
    let (mut world, entity) = World::with_queue(forgetful(), QueueSettings::default());
    world.send_all(entity, &["a", "b", "c"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let tokens: Vec<_> =
        world.receive(receiver, 3).iter().map(|delivery| delivery.lock.unwrap().token).collect();
    // While the bodies are read, one of the locks is settled otherwise.
    world.reads_wait = true;
    let origin = world.origin();
    let both = tokens[..2].to_vec();
    let settlement = dead_letter();
    world.handle(Command::UpdateDisposition {
        origin,
        entity,
        tokens: both,
        settlement,
        session: None,
        transaction: None,
    });
    world.turn();
    let token = tokens[0];
    world.handle(Command::Settle {
        origin: None,
        entity,
        token,
        settlement: Settlement::Complete,
        transaction: None,
    });
    world.settle_down();
    assert_eq!(world.take_reply(origin).unwrap().unwrap_err(), Error::MessageLockLost);
    assert_eq!(world.stats("q").active_count, 2);
    // All goes well when nothing comes in between, and too much at once is refused.
    let ask = |world: &mut World, tokens: &[LockToken]| {
        let (tokens, settlement) = (tokens.to_vec(), dead_letter());
        world.ask(|origin| Command::UpdateDisposition {
            origin,
            entity,
            tokens,
            settlement,
            session: None,
            transaction: None,
        })
    };
    assert!(matches!(ask(&mut world, &tokens[1..]), Ok(Reply::Settled)));
    assert_eq!(world.stats("q").dead_letter_count, 2);

    let settings = BrokerSettings { settle_bytes_max: 10, ..forgetful() };
    let (mut world, entity) = World::with_queue(settings, QueueSettings::default());
    world.send_all(entity, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let tokens: Vec<_> =
        world.receive(receiver, 2).iter().map(|delivery| delivery.lock.unwrap().token).collect();
    let (both, settlement) = (tokens.clone(), dead_letter());
    let refused = world.ask(|origin| Command::UpdateDisposition {
        origin,
        entity,
        tokens: both,
        settlement,
        session: None,
        transaction: None,
    });
    assert!(matches!(refused, Err(Error::ServerBusy(_))));
    for token in tokens {
        world.settle_token(entity, token, dead_letter()).unwrap();
    }
}

#[test]
fn locks_are_bounded_too() {
    let (mut world, q) = small_world();
    let numbers: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    for number in &numbers {
        world.send(q, number).unwrap();
    }
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 200);
    assert!(deliveries.len() < 100, "got {}", deliveries.len());
    // Nothing more can come, and who drains is told so.
    world.handle(Command::Drain { receiver, limit: 200 });
    world.settle_down();
    assert!(matches!(world.released.pop(), Some(EffectKind::Drained { .. })));
    // Settling goes on, and then so does receiving.
    world.handle(Command::Demand { receiver, limit: 200 });
    let mut seen = deliveries;
    let mut settled = 0;
    while settled < seen.len() {
        world.settle(&seen[settled], Settlement::Complete).unwrap();
        settled += 1;
        seen.extend(world.take_deliveries().into_iter().map(|(_, delivery)| delivery));
    }
    assert_eq!(texts(&seen), numbers);
}

#[test]
fn a_store_that_fails_to_read_is_asked_again_later() {
    let (mut world, q) = small_world();
    world.send_all(q, &["a", "b"]).unwrap();
    world.crash();
    world.reads_fail = true;
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.handle(Command::Drain { receiver, limit: 2 });
    world.settle_down();
    assert!(matches!(world.released.pop(), Some(EffectKind::Drained { .. })));
    assert!(world.receive(receiver, 2).is_empty());
    let from = SequenceNumber(0);
    let browse = |origin| Command::Browse {
        origin,
        entity: q,
        from,
        count_max: 5,
        bytes_max: 5_000,
        session: None,
    };
    assert_eq!(world.ask(browse).unwrap_err(), Error::StoreUnavailable);
    world.pass(Span(999));
    assert_eq!(world.broker.counters().pages_read, 1);
    world.reads_fail = false;
    world.pass(Span(1));
    let deliveries: Vec<_> = world.take_deliveries().into_iter().map(|(_, d)| d).collect();
    assert_eq!(texts(&deliveries), ["a", "b"]);
}

#[test]
fn a_settlement_that_could_not_be_read_for_can_be_tried_again() {
    let (mut world, q) = World::with_queue(forgetful(), QueueSettings::default());
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.reads_fail = true;
    assert_eq!(world.settle(&delivery, dead_letter()).unwrap_err(), Error::StoreUnavailable);
    world.reads_fail = false;
    world.settle(&delivery, dead_letter()).unwrap();
    assert_eq!(world.stats("q").dead_letter_count, 1);
}

#[test]
fn damaged_rows_are_counted_and_passed_over() {
    let (mut world, q) = small_world();
    world.send_all(q, &["a", "b", "c"]).unwrap();
    let key = crate::rows::message_key(q, SequenceNumber(2));
    let row = world.rows.get_mut(&(peeklock_storage::Table::Message, key)).unwrap();
    *row = bytes::Bytes::from_static(b"no message");
    world.crash();
    assert_eq!(world.browse(q, 0, 10, 10_000).len(), 2);
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(receiver, 5)), ["a", "c"]);
    assert_eq!(world.broker.counters().damaged, 1);
    assert_eq!((world.message_rows(), world.stats("q").active_count), (2, 2));
}

#[test]
fn queues_that_nobody_reads_give_their_memory_back() {
    let (mut world, idle) = small_world();
    let busy = world.ensure_queue("busy", QueueSettings::default());
    let big = "x".repeat(1_000);
    let mut others = vec![idle];
    for number in 0..8 {
        others.push(world.ensure_queue(&format!("other{number}"), QueueSettings::default()));
    }
    for entity in others {
        for _ in 0..10 {
            world.send(entity, &big).unwrap();
        }
    }
    assert!(world.broker.resident_bytes() <= SMALL_MEMORY_MAX);
    let receiver = world.open(1, "busy", ReceiveMode::ReceiveAndDelete);
    world.handle(Command::Demand { receiver, limit: 1_000 });
    for _ in 0..10 {
        world.send(busy, &big).unwrap();
    }
    assert_eq!(world.take_deliveries().len(), 10);
    assert!(world.broker.resident_bytes() < 64 * 1024, "{}", world.broker.resident_bytes());
    let receiver = world.open(2, "q", ReceiveMode::ReceiveAndDelete);
    assert_eq!(world.receive(receiver, 100).len(), 10);
}

#[test]
fn large_messages_are_paged_one_by_one() {
    let (mut world, q) = small_world();
    let big = "x".repeat(10_000);
    for _ in 0..20 {
        world.send(q, &big).unwrap();
    }
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    for received in 1..=20 {
        world.receive_one(receiver, received);
        assert!(world.broker.resident_bytes() <= 16 * 1024 + 2 * 11_000);
    }
}

#[test]
fn what_is_gone_by_now_does_not_hide_what_is_behind_it() {
    let small =
        BrokerSettings { window_count_max: 2, page_rows_max: 2, ..BrokerSettings::default() };
    let (mut world, entity) = World::with_queue(small, QueueSettings::default());
    world.send_all(entity, &["1", "2", "3"]).unwrap();
    world.crash();
    world.send_all(entity, &["4"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    world.reads_wait = true;
    let (origin, from) = (world.origin(), SequenceNumber(0));
    let (count_max, bytes_max) = (10, usize::MAX);
    world.handle(Command::Browse { origin, entity, from, count_max, bytes_max, session: None });
    while world.turn() || world.sync_one() {}
    world.handle(Command::Demand { receiver, limit: 3 });
    while world.turn() || world.sync_one() {}
    while world.answer_read(1) {
        while world.turn() || world.sync_one() {}
    }
    assert_eq!(world.take_deliveries().len(), 3);
    world.settle_down();
    let Some(Ok(Reply::Browsed { messages })) = world.take_reply(origin) else { panic!() };
    let numbers: Vec<_> = messages.iter().map(|message| message.sequence.0).collect();
    assert_eq!(numbers, [4]);
}
