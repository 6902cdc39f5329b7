//! What a queue does, seen through commands and effects.

mod browsing;
mod paging;
mod selecting;

use crate::broker::Broker;
use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::{EffectKind, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, LockToken, Origin, ReadId, ReceiverId, SequenceNumber};
use crate::testing::{World, messages, text, texts};
use crate::time::{Span, Timestamp};

const LOCK: Span = Span::from_secs(60);

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), QueueSettings::default())
}

fn world_with_attempts(attempts_max: u32) -> (World, EntityId) {
    let settings = QueueSettings { attempts_max, ..QueueSettings::default() };
    World::with_queue(BrokerSettings::default(), settings)
}

fn abandon() -> Settlement {
    Settlement::Abandon { changes: Vec::new() }
}

fn dead_letter() -> Settlement {
    Settlement::DeadLetter { reason: None, description: None, changes: Vec::new() }
}

#[test]
fn a_message_is_sent_delivered_and_completed() {
    let (mut world, q) = world();
    assert!(matches!(world.send(q, "one"), Ok(Reply::Accepted)));
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 10);
    assert_eq!(
        (text(&delivery), delivery.sequence, delivery.attempts),
        ("one", SequenceNumber(1), 0)
    );
    assert_eq!(delivery.lock.unwrap().until, world.now.plus(LOCK));
    assert_eq!(delivery.message.enqueued_at(), world.now);
    assert_eq!((world.message_rows(), world.stats("q").locked_count), (1, 1));
    assert!(matches!(world.settle(&delivery, Settlement::Complete), Ok(Reply::Settled)));
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    assert_eq!((world.stats("q").active_count, world.stats("q").bytes), (0, 0));
    assert_eq!(world.settle(&delivery, Settlement::Complete).unwrap_err(), Error::MessageLockLost);
}

#[test]
fn nothing_is_promised_before_it_is_durable() {
    let (mut world, entity) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.handle(Command::Demand { receiver, limit: 1 });
    let origin = world.origin();
    world.handle(Command::Send { origin, entity, messages: messages(&["one"]), transaction: None });
    world.turn();
    assert!(world.released.is_empty(), "neither accepted nor delivered yet");
    world.sync_one();
    assert!(matches!(world.take_reply(origin), Some(Ok(Reply::Accepted))));
    let (_, delivery) = world.take_deliveries().remove(0);

    let origin = world.origin();
    let token = delivery.lock.unwrap().token;
    let settlement = Settlement::Complete;
    world.handle(Command::Settle {
        origin: Some(origin),
        entity,
        token,
        settlement,
        transaction: None,
    });
    world.turn();
    assert!(world.take_reply(origin).is_none());
    world.sync_one();
    assert!(matches!(world.take_reply(origin), Some(Ok(Reply::Settled))));
}

#[test]
fn refusals_do_not_wait() {
    let (mut world, entity) = world();
    world.handle(Command::Send {
        origin: Origin { connection: 9, link: 9, delivery: 9 },
        entity,
        messages: messages(&["x"]),
        transaction: None,
    });
    let origin = world.origin();
    let token = LockToken([7; 16]);
    let settlement = Settlement::Complete;
    world.handle(Command::Settle {
        origin: Some(origin),
        entity,
        token,
        settlement,
        transaction: None,
    });
    world.turn();
    assert_eq!(world.take_reply(origin).unwrap().unwrap_err(), Error::MessageLockLost);
}

#[test]
fn receive_and_delete_delivers_what_is_gone_already() {
    let (mut world, entity) = world();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    world.handle(Command::Demand { receiver, limit: 5 });
    world.send(entity, "one").unwrap();
    world.handle(Command::Send {
        origin: Origin { connection: 1, link: 1, delivery: 0 },
        entity,
        messages: messages(&["two"]),
        transaction: None,
    });
    world.turn();
    assert_eq!(world.take_deliveries().len(), 1, "the second is not gone yet");
    world.settle_down();
    let (_, delivery) = world.take_deliveries().remove(0);
    assert_eq!((text(&delivery), delivery.lock), ("two", None));
    assert_eq!((world.message_rows(), world.stats("q").active_count), (0, 0));
}

#[test]
fn sequence_numbers_rise_without_gaps_and_start_at_one() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c"]).unwrap();
    world.send(q, "d").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 10);
    assert_eq!(texts(&deliveries), ["a", "b", "c", "d"]);
    assert!(deliveries.iter().map(|delivery| delivery.sequence.0).eq(1..=4));
    world.crash();
    world.send(q, "e").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    assert_eq!(world.receive_one(receiver, 10).sequence, SequenceNumber(5));
}

#[test]
fn an_abandoned_message_comes_back_first_and_counted() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let first = world.receive_one(receiver, 1);
    world.settle(&first, abandon()).unwrap();
    assert_eq!(world.trace_rows(), 1);
    let again = world.receive(receiver, 3);
    assert_eq!(texts(&again), ["a", "b"]);
    assert_eq!((again[0].attempts, again[1].attempts), (1, 0));
    assert_ne!(again[0].lock.unwrap().token, first.lock.unwrap().token);
    world.settle(&again[0], Settlement::Complete).unwrap();
    assert_eq!(world.trace_rows(), 0);
}

#[test]
fn a_released_message_comes_back_uncounted() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    for limit in 1..20 {
        let delivery = world.receive_one(receiver, limit);
        assert_eq!(delivery.attempts, 0);
        world.settle(&delivery, Settlement::Release).unwrap();
    }
    assert_eq!(world.trace_rows(), 0);
}

#[test]
fn a_lock_that_runs_out_counts_and_cannot_be_settled() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let first = world.receive_one(receiver, 1);
    assert_eq!(world.broker.next_deadline(), Some(world.now.plus(LOCK)));
    // The time is up, though nobody has said so.
    world.now = world.now.plus(LOCK);
    assert_eq!(world.settle(&first, Settlement::Complete).unwrap_err(), Error::MessageLockLost);
    world.pass(Span(0));
    let again = world.receive_one(receiver, 2);
    assert_eq!(again.attempts, 1);
    assert_eq!(world.settle(&first, Settlement::Complete).unwrap_err(), Error::MessageLockLost);
    world.settle(&again, Settlement::Complete).unwrap();
    world.pass(Span::from_secs(600));
    assert_eq!(world.broker.next_deadline(), None);
}

#[test]
fn a_renewed_lock_lasts_its_full_time_again() {
    let (mut world, entity) = world();
    world.send(entity, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let tokens = vec![delivery.lock.unwrap().token];
    for _ in 0..10 {
        world.pass(Span(59_999));
        let renew = |origin| Command::RenewLocks { origin, entity, tokens: tokens.clone() };
        let Ok(Reply::Renewed { until }) = world.ask(renew) else { panic!("not renewed") };
        assert_eq!(until, [world.now.plus(LOCK)]);
    }
    let unknown = vec![tokens[0], LockToken([1; 16])];
    world.pass(Span(30_000));
    let renewed = world.ask(|origin| Command::RenewLocks { origin, entity, tokens: unknown });
    assert_eq!(renewed.unwrap_err(), Error::MessageLockLost);
    world.pass(Span(29_999));
    world.settle(&delivery, Settlement::Complete).unwrap();
}

#[test]
fn after_too_many_attempts_a_message_is_dead_lettered() {
    let (mut world, q) = world_with_attempts(3);
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    for attempt in 0..3 {
        let delivery = world.receive_one(receiver, attempt + 1);
        assert_eq!(u64::from(delivery.attempts), attempt);
        match attempt {
            1 => world.pass(LOCK),
            _ => drop(world.settle(&delivery, abandon()).unwrap()),
        }
    }
    assert!(world.receive(receiver, 10).is_empty());
    let stats = world.stats("q");
    assert_eq!((stats.active_count, stats.dead_letter_count), (0, 1));

    let dead = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let delivery = world.receive_one(dead, 1);
    assert_eq!(
        (text(&delivery), delivery.sequence, delivery.attempts),
        ("a", SequenceNumber(1), 3)
    );
    assert_ne!(delivery.entity, q);
    // There it stays however often it fails.
    world.settle(&delivery, abandon()).unwrap();
    world.pass(Span(0));
    let delivery = world.receive_one(dead, 2);
    assert_eq!(delivery.attempts, 4);
    let refused = world.settle(&delivery, dead_letter()).unwrap_err();
    assert!(matches!(refused, Error::NotAllowed(_)), "{refused}");
    world.settle(&delivery, Settlement::Complete).unwrap();
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn dead_lettering_survives_a_crash_as_a_whole() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    world.settle(&deliveries[1], dead_letter()).unwrap();
    let settle = Command::Settle {
        origin: None,
        entity: q,
        token: deliveries[0].lock.unwrap().token,
        settlement: dead_letter(),
        transaction: None,
    };
    world.handle(settle);
    world.turn();
    world.crash();
    let stats = world.stats("q");
    assert_eq!((stats.active_count, stats.dead_letter_count), (1, 1));
    let dead = world.open(2, "Q/$deadletterqueue", ReceiveMode::PeekLock);
    let delivery = world.receive_one(dead, 5);
    assert_eq!((text(&delivery), delivery.sequence), ("b", SequenceNumber(2)));
    assert!(delivery.application_properties.is_some());
    // Now the lower number follows the higher one.
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, dead_letter()).unwrap();
    assert_eq!(text(&world.take_deliveries().remove(0).1), "a");
}

#[test]
fn several_locks_are_settled_all_or_none() {
    let (mut world, entity) = world();
    world.send_all(entity, &["a", "b", "c"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 3);
    let tokens: Vec<_> = deliveries.iter().map(|delivery| delivery.lock.unwrap().token).collect();
    let ask = |world: &mut World, tokens: Vec<LockToken>, settlement| {
        world.ask(|origin| Command::UpdateDisposition {
            origin,
            entity,
            tokens,
            settlement,
            session: None,
            transaction: None,
        })
    };
    let unknown = vec![tokens[0], LockToken([9; 16])];
    assert_eq!(ask(&mut world, unknown, Settlement::Complete).unwrap_err(), Error::MessageLockLost);
    assert_eq!(world.message_rows(), 3);
    let twice = vec![tokens[0], tokens[1], tokens[0]];
    assert!(matches!(ask(&mut world, twice, Settlement::Complete), Ok(Reply::Settled)));
    assert_eq!(world.message_rows(), 1);
    let many = vec![tokens[2]; BrokerSettings::default().tokens_max + 1];
    assert!(matches!(ask(&mut world, many, Settlement::Complete), Err(Error::InvalidArgument(_))));
}

#[test]
fn limits_on_sizes_are_kept() {
    let settings =
        QueueSettings { message_bytes_max: 108, entity_bytes_max: 300, ..QueueSettings::default() };
    let (mut world, q) = World::with_queue(BrokerSettings::default(), settings);
    let (fits, too_big) = ("x".repeat(100), "x".repeat(101));
    let refused = world.send_all(q, &["a", &too_big]).unwrap_err();
    assert_eq!(refused, Error::MessageTooLarge { size: 109, limit: 108, path: "q".into() });
    assert_eq!(world.message_rows(), 0, "none of a batch is taken");
    world.send_all(q, &[&fits, &fits]).unwrap();
    let full = Error::EntityFull { path: "q".into(), size: 216, limit: 300 };
    assert_eq!(world.send(q, &fits).unwrap_err(), full);
    // Dead letters count, and receiving makes room.
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    world.settle(&deliveries[0], dead_letter()).unwrap();
    assert_eq!(world.send(q, &fits).unwrap_err(), full);
    world.settle(&deliveries[1], Settlement::Complete).unwrap();
    world.send(q, &fits).unwrap();
    assert!(matches!(world.send_all(q, &[]), Ok(Reply::Accepted)), "an empty batch is fine");
}

#[test]
fn receivers_take_turns() {
    let (mut world, q) = world();
    let receivers: Vec<_> = (0..3).map(|n| world.open(n, "q", ReceiveMode::PeekLock)).collect();
    for (receiver, limit) in receivers.iter().zip([100, 2, 100]) {
        world.handle(Command::Demand { receiver: *receiver, limit });
    }
    for number in 0..9 {
        world.send(q, &number.to_string()).unwrap();
    }
    let got: Vec<_> = world.take_deliveries().iter().map(|(receiver, _)| receiver.link).collect();
    assert_eq!(got, [0, 1, 2, 0, 1, 2, 0, 2, 0]);
}

#[test]
fn demand_can_shrink_and_is_a_total() {
    let (mut world, q) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.handle(Command::Demand { receiver, limit: 10 });
    world.handle(Command::Demand { receiver, limit: 1 });
    world.send_all(q, &["a", "b", "c"]).unwrap();
    assert_eq!(world.take_deliveries().len(), 1);
    world.handle(Command::Demand { receiver, limit: 0 });
    assert_eq!(world.receive(receiver, 1).len(), 0);
    assert_eq!(world.receive(receiver, 3).len(), 2);
}

#[test]
fn a_drain_is_answered_behind_the_deliveries() {
    let (mut world, q) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let origin = world.origin();
    world.handle(Command::Send {
        origin,
        entity: q,
        messages: messages(&["a"]),
        transaction: None,
    });
    world.handle(Command::Drain { receiver, limit: 10 });
    world.turn();
    assert!(world.released.is_empty(), "drained waits for the delivery before it");
    world.settle_down();
    let order: Vec<_> = world
        .released
        .iter()
        .map(|kind| match kind {
            EffectKind::Deliver { .. } => "deliver",
            EffectKind::Drained { .. } => "drained",
            EffectKind::Reply { .. } => "reply",
            EffectKind::ReceiverClosed { .. }
            | EffectKind::EntityClosed { .. }
            | EffectKind::AccessChanged { .. }
            | EffectKind::Read { .. } => "other",
        })
        .collect();
    assert_eq!(order, ["reply", "deliver", "drained"]);
    world.released.clear();
    // The demand is gone with the drain.
    world.send(q, "b").unwrap();
    assert!(world.take_deliveries().is_empty());
    world.handle(Command::Drain { receiver, limit: 2 });
    world.settle_down();
    assert!(matches!(world.released[..], [EffectKind::Deliver { .. }, EffectKind::Drained { .. }]));
}

#[test]
fn locks_outlive_their_receiver() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    world.handle(Command::CloseReceiver { receiver });
    world.handle(Command::CloseReceiver { receiver });
    let other = world.open(2, "q", ReceiveMode::PeekLock);
    assert!(world.receive(other, 5).is_empty());
    world.settle(&deliveries[0], Settlement::Complete).unwrap();
    world.pass(LOCK);
    let (receiver, delivery) = world.take_deliveries().remove(0);
    assert_eq!((receiver, text(&delivery), delivery.attempts), (other, "b", 1));
}

#[test]
fn a_crash_frees_locks_and_keeps_counts() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    world.settle(&deliveries[1], abandon()).unwrap();
    world.crash();
    assert_eq!(
        world.settle(&deliveries[0], Settlement::Complete).unwrap_err(),
        Error::MessageLockLost
    );
    assert_eq!(world.broker.counters().pages_read, 0, "nothing is read before somebody asks");
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let deliveries = world.receive(receiver, 2);
    let seen: Vec<_> = deliveries.iter().map(|d| (text(d), d.attempts)).collect();
    assert_eq!(seen, [("a", 0), ("b", 1)]);
}

#[test]
fn browsing_sees_everything_and_touches_nothing() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let locked = world.receive(receiver, 2);
    world.settle(&locked[1], abandon()).unwrap();
    let seen = |world: &mut World, from, count, bytes| {
        let browsed = world.browse(q, from, count, bytes);
        browsed.iter().map(|b| (b.sequence.0, b.attempts)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(seen(&mut world, 0, 10, 10_000), [(1, 0), (2, 1), (3, 0), (4, 0)]);
        assert_eq!(seen(&mut world, 2, 2, 10_000), [(2, 1), (3, 0)]);
        assert_eq!(seen(&mut world, 1, 10, 20), [(1, 0), (2, 1)]);
        assert_eq!(seen(&mut world, 3, 10, 0), [(3, 0)]);
        assert_eq!(seen(&mut world, 5, 10, 10_000), []);
        assert_eq!(seen(&mut world, 1, 0, 10_000), []);
        // The second time around, everything is on disk.
        world.crash();
    }
}

#[test]
fn addresses_find_entities() {
    let (mut world, q) = world();
    let mut open = |address: &str| {
        let path = EntityPath::parse(address).unwrap().path;
        world.ask(|origin| Command::OpenSender { origin, path })
    };
    for address in ["q", "Q", "/q", "amqps://host/Q"] {
        let Ok(Reply::SenderOpened { entity, message_bytes_max }) = open(address) else {
            panic!("{address} not found")
        };
        assert_eq!((entity, message_bytes_max), (q, 1024 * 1024));
    }
    assert_eq!(open("p").unwrap_err(), Error::EntityNotFound("p".into()));
    assert!(matches!(open("q/$DeadLetterQueue"), Err(Error::NotAllowed(_))));
    assert!(matches!(open("q/$transfer/$deadletterqueue"), Err(Error::NotAllowed(_))));
    let path = EntityPath::parse("q/$DeadLetterQueue/$management").unwrap().path;
    let Ok(Reply::ManagementOpened { entity, .. }) =
        world.ask(|origin| Command::OpenManagement { origin, path })
    else {
        panic!("no management of the subqueue")
    };
    assert!(matches!(world.send(entity, "a"), Err(Error::NotAllowed(_))));
}

#[test]
fn declaring_again_changes_settings_only() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let changed = QueueSettings { lock_duration: Span(5_000), ..QueueSettings::default() };
    assert_eq!(world.ensure_queue("Q", changed.clone()), q);
    world.crash();
    assert_eq!(world.ensure_queue("q", changed), q);
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(world.receive_one(receiver, 1).lock.unwrap().until, world.now.plus(Span(5_000)));
    let other = world.ensure_queue("other", QueueSettings::default());
    assert_eq!(other, EntityId(4), "each queue takes three ids");

    let invalid = QueueSettings { attempts_max: 0, ..QueueSettings::default() };
    for (path, settings) in [
        ("q", invalid),
        ("q/$DeadLetterQueue", QueueSettings::default()),
        ("a%20b", QueueSettings::default()),
    ] {
        let path = EntityPath::parse(path).unwrap().path;
        let refused =
            world.ask(|origin| Command::EnsureQueue { origin: Some(origin), path, settings });
        assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn shorter_locks_end_before_longer_ones_taken_earlier() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.receive_one(receiver, 1);
    world.ensure_queue(
        "q",
        QueueSettings { lock_duration: Span(5_000), ..QueueSettings::default() },
    );
    world.receive_one(receiver, 2);
    assert_eq!(world.broker.next_deadline(), Some(world.now.plus(Span(5_000))));
    world.pass(Span(5_000));
    assert_eq!(text(&world.receive_one(receiver, 3)), "b");
}

#[test]
fn commands_about_what_is_not_there_do_no_harm() {
    let (mut world, entity) = world();
    let before = world.rows.clone();
    let receiver = ReceiverId { connection: 8, link: 8 };
    let origin = Origin { connection: 8, link: 8, delivery: 8 };
    let nowhere = EntityId(77);
    let token = LockToken([0; 16]);
    let settlement = Settlement::Complete;
    let from = SequenceNumber(0);
    for command in [
        Command::Demand { receiver, limit: u64::MAX },
        Command::Drain { receiver, limit: u64::MAX },
        Command::CloseReceiver { receiver },
        Command::ReadDone { read: ReadId(99), result: Ok(crate::command::ReadRows::default()) },
        Command::Tick,
        Command::Settle {
            origin: None,
            entity,
            token,
            settlement: settlement.clone(),
            transaction: None,
        },
        Command::Settle {
            origin: None,
            entity: nowhere,
            token,
            settlement: settlement.clone(),
            transaction: None,
        },
        Command::Send { origin, entity: nowhere, messages: messages(&["a"]), transaction: None },
        Command::RenewLocks { origin, entity: nowhere, tokens: vec![] },
        Command::Browse {
            origin,
            entity: nowhere,
            from,
            count_max: 1,
            bytes_max: 1,
            session: None,
        },
        Command::UpdateDisposition {
            origin,
            entity: nowhere,
            tokens: vec![token],
            settlement,
            session: None,
            transaction: None,
        },
    ] {
        world.handle(command);
    }
    world.settle_down();
    assert_eq!(world.rows, before);
    let refused = |kind: &EffectKind| {
        matches!(kind, EffectKind::Reply { result: Err(Error::EntityNotFound(_)), .. })
    };
    assert_eq!((world.released.len(), world.released.iter().all(refused)), (4, true));
}

#[test]
fn a_receiver_is_opened_once() {
    let (mut world, _) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let path = EntityPath::parse("q").unwrap().path;
    let mode = ReceiveMode::PeekLock;
    let again =
        world.ask(|origin| Command::OpenReceiver { origin, receiver, path, mode, session: None });
    assert!(matches!(again, Err(Error::InvalidArgument(_))));
    world.handle(Command::CloseReceiver { receiver });
    world.open(1, "q", ReceiveMode::ReceiveAndDelete);
}

#[test]
fn one_entity_row_is_written_a_turn() {
    let (mut world, entity) = world();
    let origin = world.origin();
    for _ in 0..10 {
        let messages = messages(&["a"]);
        world
            .broker
            .handle(world.now, Command::Send { origin, entity, messages, transaction: None });
    }
    let turn = world.broker.take_turn();
    assert_eq!(turn.batch.len(), 11);
    let empty = world.broker.take_turn();
    assert_eq!((empty.position, empty.batch.len(), empty.effects.len()), (turn.position, 0, 0));
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let until = delivery.lock.unwrap().until;
    world.now = Timestamp(0);
    world.handle(Command::Tick);
    assert_eq!(world.broker.next_deadline(), Some(until));
    world.settle(&delivery, Settlement::Complete).unwrap();
}

#[test]
fn a_broker_is_what_its_rows_say() {
    let (world, _) = world();
    let mut rows = world.state_rows();
    let load = |rows: Vec<_>| {
        let ids = Box::new(crate::id::SeededIds::new(1));
        Broker::load(BrokerSettings::default(), ids, rows)
    };
    assert_eq!(load(rows.clone()).unwrap().durable_state(), world.broker.durable_state());
    // Without its subqueue a queue is not whole.
    rows.retain(|(key, _)| !key.as_bytes().ends_with(&[0, 0, 0, 2]));
    assert!(load(rows).is_err());
}

#[test]
fn reasons_are_cut_and_properties_do_not_grow_without_end() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let big = "x".repeat(200_000);
    let changes = vec![("k".into(), big.as_str().into())];
    let refused = world.settle(&delivery, Settlement::Abandon { changes: changes.clone() });
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    let dead_letter = |changes| Settlement::DeadLetter {
        reason: Some(big.as_str().into()),
        description: Some("\u{1F4A5}".repeat(5_000).into()),
        changes,
    };
    let refused = world.settle(&delivery, dead_letter(changes));
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    // The lock is as it was.
    world.settle(&delivery, dead_letter(Vec::new())).unwrap();
    let dead = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let section = world.receive_one(dead, 1).application_properties.unwrap();
    let section = peeklock_protocol::message::MapSection::parse(&section).unwrap();
    let length = |key| {
        let value = section.get(key).unwrap().unwrap().value().unwrap();
        value.as_str().unwrap().chars().count()
    };
    assert_eq!(length("DeadLetterReason"), 4096);
    assert_eq!(length("DeadLetterErrorDescription"), 4096);
}

#[test]
fn changed_properties_are_delivered_and_survive() {
    let (mut world, q) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    assert_eq!(delivery.application_properties, None);
    let changes = vec![("tries".into(), 1_i32.into()), ("tries".into(), 2_i32.into())];
    world.settle(&delivery, Settlement::Abandon { changes }).unwrap();
    let changed = world.receive_one(receiver, 2).application_properties;
    assert!(changed.is_some());
    world.crash();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    assert_eq!((delivery.application_properties.clone(), delivery.attempts), (changed, 1));
    // One more change builds on the one before.
    let changes = vec![("other".into(), true.into())];
    world.settle(&delivery, Settlement::Abandon { changes }).unwrap();
    let section = world.receive_one(receiver, 2).application_properties.unwrap();
    let section = peeklock_protocol::message::MapSection::parse(&section).unwrap();
    assert!(section.get("tries").unwrap().is_some() && section.get("other").unwrap().is_some());
}

#[test]
fn a_section_that_cannot_be_read_does_not_keep_a_message_from_being_moved() {
    let (mut world, entity) = world_with_attempts(1);
    // Application-properties with a key that is not UTF-8: found out only by who reads the key.
    let wire = [0x00, 0x53, 0x74, 0xc1, 0x05, 0x02, 0xa1, 0x01, 0xff, 0x41];
    let message = crate::message::IncomingMessage::from_wire(&wire).unwrap();
    world
        .ask(|origin| Command::Send {
            origin,
            entity,
            messages: [message].into(),
            transaction: None,
        })
        .unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, abandon()).unwrap();
    assert_eq!(world.stats("q").dead_letter_count, 1);
}

/// Lets a receiver have so many octets, in place of what it had before.
fn allow(world: &mut World, receiver: ReceiverId, limit: u64) {
    world.handle(Command::DemandBytes { receiver, limit });
    world.settle_down();
}

#[test]
fn octets_bound_deliveries_and_one_message_always_fits() {
    let (mut world, q) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let size = messages(&["a"])[0].size();
    allow(&mut world, receiver, 1);
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    assert_eq!(texts(&world.receive(receiver, 3)), ["a"], "larger than allowed, and alone");
    assert!(world.receive(receiver, 3).is_empty());
    allow(&mut world, receiver, size);
    assert!(world.take_deliveries().is_empty(), "it was given as much already");
    allow(&mut world, receiver, size + 1);
    assert_eq!(texts(&world.receive(receiver, 3)), ["b"]);
    // Others are served meanwhile.
    let other = world.open(2, "q", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(other, 1)), ["c"]);
    allow(&mut world, receiver, u64::MAX);
    assert_eq!(texts(&world.receive(receiver, 3)), ["d"]);
}

#[test]
fn a_drain_is_not_over_while_octets_hold_it_back() {
    let (mut world, q) = world();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    allow(&mut world, receiver, 1);
    world.send_all(q, &["a", "b"]).unwrap();
    world.handle(Command::Drain { receiver, limit: 2 });
    world.settle_down();
    assert!(matches!(world.released[..], [EffectKind::Deliver { .. }]), "{:?}", world.released);
    world.released.clear();
    allow(&mut world, receiver, u64::MAX);
    assert!(matches!(world.released[..], [EffectKind::Deliver { .. }, EffectKind::Drained { .. }]));
}
