//! Messages that go on by themselves.

use peeklock_protocol::message::{MapSection, Message, Properties};
use peeklock_protocol::value::Value;

use crate::command::{Command, ReceiveMode, Settlement};
use crate::effect::{Delivery, EffectKind, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, EntityStatus, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, text, texts};
use crate::time::Span;

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn plain() -> QueueSettings {
    QueueSettings::default()
}

fn to(target: &str) -> QueueSettings {
    QueueSettings { forward_to: Some(path(target)), ..plain() }
}

fn dead_to(target: &str) -> QueueSettings {
    QueueSettings { forward_dead_letters_to: Some(path(target)), ..plain() }
}

fn world(queues: &[(&str, QueueSettings)]) -> World {
    let mut world = World::new(BrokerSettings::default());
    for (name, settings) in queues {
        world.ensure_queue(name, settings.clone());
    }
    world
}

fn entity(world: &World, address: &str) -> EntityId {
    world.broker.namespace.resolve(&path(address)).unwrap()
}

fn send(world: &mut World, name: &str, bodies: &[&str]) {
    let entity = entity(world, name);
    world.send_all(entity, bodies).unwrap();
}

/// Takes out all there is.
fn take_all(world: &mut World, link: u64, address: &str) -> Vec<Delivery> {
    let receiver = world.open(link, address, ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 10_000);
    world.handle(Command::CloseReceiver { receiver });
    deliveries
}

fn reason(delivery: &Delivery) -> String {
    let section = delivery.application_properties.as_ref().expect("changed properties");
    let entry = MapSection::parse(section).unwrap().get("DeadLetterReason").unwrap();
    let value = entry.expect("a reason").value().unwrap();
    let Value::String(reason) = value else { panic!("{value:?}") };
    reason.to_string()
}

fn dead_letter(world: &mut World, link: u64, address: &str) {
    let receiver = world.open(link, address, ReceiveMode::PeekLock);
    let held = world.receive_one(receiver, 1);
    let settlement = Settlement::DeadLetter {
        reason: Some("Broken".into()),
        description: None,
        changes: vec![("k".into(), 7_u32.into())],
    };
    world.settle(&held, settlement).unwrap();
    world.handle(Command::CloseReceiver { receiver });
}

#[test]
fn a_message_is_kept_only_where_it_comes_to_rest() {
    let mut world = world(&[("c", plain()), ("b", to("c")), ("a", to("b"))]);
    send(&mut world, "c", &["first"]);
    send(&mut world, "a", &["x", "y"]);
    assert_eq!(world.message_rows(), 3);
    assert_eq!((world.stats("a").active_count, world.stats("b").active_count), (0, 0));
    world.crash();
    let found = take_all(&mut world, 1, "c");
    assert_eq!(texts(&found), ["first", "x", "y"]);
    let numbers: Vec<_> = found
        .iter()
        .map(|delivery| (delivery.sequence.0, delivery.message.enqueue_sequence().0))
        .collect();
    assert_eq!(numbers, [(1, 1), (2, 1), (3, 2)], "the first number stays with the message");
    assert!(found.iter().all(|delivery| delivery.attempts == 0));
    assert!(found.iter().all(|delivery| delivery.dead_letter_source.is_none()));
    send(&mut world, "a", &["z"]);
    let found = take_all(&mut world, 2, "c");
    assert_eq!(found[0].message.enqueue_sequence(), SequenceNumber(3), "also after a crash");
}

#[test]
fn the_fifth_hop_is_one_too_many() {
    let mut world = world(&[
        ("f", plain()),
        ("e", to("f")),
        ("d", to("e")),
        ("c", to("d")),
        ("b", to("c")),
        ("a", to("b")),
    ]);
    send(&mut world, "b", &["four"]);
    send(&mut world, "a", &["five"]);
    assert_eq!(texts(&take_all(&mut world, 1, "f")), ["four"]);
    let dead = take_all(&mut world, 2, "e/$DeadLetterQueue");
    assert_eq!(texts(&dead), ["five"]);
    assert_eq!(reason(&dead[0]), "MaxTransferHopCountExceeded");
    assert_eq!(dead[0].message.enqueue_sequence(), SequenceNumber(1));
    assert_eq!(world.rows.len(), world.state_rows().len());
}

#[test]
fn messages_do_not_go_round_for_ever() {
    let mut world = world(&[("a", to("b")), ("b", to("a"))]);
    send(&mut world, "a", &["x"]);
    assert_eq!(texts(&take_all(&mut world, 1, "a/$DeadLetterQueue")), ["x"]);
    // Nor do dead letters.
    let both =
        |target: &str| QueueSettings { forward_dead_letters_to: Some(path(target)), ..to(target) };
    let mut world = self::world(&[("a", both("b")), ("b", both("a"))]);
    send(&mut world, "a", &["x"]);
    assert_eq!(world.message_rows(), 1);
    let found: Vec<_> = ["a", "b"]
        .into_iter()
        .zip(1..)
        .flat_map(|(name, link)| {
            take_all(&mut world, link, &format!("{name}/$Transfer/$DeadLetterQueue"))
        })
        .collect();
    assert_eq!(texts(&found), ["x"]);
    assert_eq!(reason(&found[0]), "MaxTransferHopCountExceeded");
}

#[test]
fn what_cannot_go_on_is_dead_lettered_with_a_reason() {
    let status = |status| QueueSettings { status, ..plain() };
    let cases = [
        (None, "amqp:not-found"),
        (Some(status(EntityStatus::Disabled)), "com.microsoft:entity-disabled"),
        (Some(status(EntityStatus::SendDisabled)), "com.microsoft:entity-disabled"),
        (Some(QueueSettings { entity_bytes_max: 5, ..plain() }), "amqp:resource-limit-exceeded"),
        (
            Some(QueueSettings { message_bytes_max: 5, ..plain() }),
            "amqp:link:message-size-exceeded",
        ),
        (Some(QueueSettings { requires_session: true, ..plain() }), "Session ID is null."),
    ];
    for (target, expected) in cases {
        let mut world = world(&[("a", to("b"))]);
        if let Some(settings) = target {
            world.ensure_queue("b", settings);
        }
        send(&mut world, "a", &["x", "y"]);
        assert_eq!(world.stats("a").dead_letter_count, 2);
        world.crash();
        let dead = take_all(&mut world, 1, "a/$DeadLetterQueue");
        assert_eq!(texts(&dead), ["x", "y"]);
        assert_eq!(reason(&dead[0]), expected);
        assert_eq!((dead[0].sequence.0, dead[0].attempts), (1, 0));
        assert_eq!(world.rows.len(), world.state_rows().len());
    }
}

#[test]
fn a_queue_in_the_middle_of_a_chain_keeps_what_it_cannot_pass_on() {
    let mut world = world(&[("a", to("b")), ("b", to("c"))]);
    send(&mut world, "a", &["x"]);
    let dead = take_all(&mut world, 1, "b/$DeadLetterQueue");
    assert_eq!((texts(&dead), reason(&dead[0])), (vec!["x"], "amqp:not-found".into()));
}

#[test]
fn a_target_with_sessions_takes_what_belongs_to_one() {
    let sessions = QueueSettings { requires_session: true, ..plain() };
    let mut world = world(&[("b", sessions), ("a", to("b"))]);
    let properties = Properties { group_id: Some("s".into()), ..Properties::default() };
    let wire = Message { properties: Some(properties), ..Message::default() }.to_bytes();
    let message = IncomingMessage::from_wire(&wire).unwrap();
    let entity = entity(&world, "a");
    let messages = smallvec::smallvec![message];
    world.ask(|origin| Command::Send { origin, entity, messages, transaction: None }).unwrap();
    assert_eq!((world.stats("b").active_count, world.stats("a").dead_letter_count), (1, 0));
}

#[test]
fn what_a_queue_holds_goes_on_when_forwarding_is_switched_on() {
    // Little memory, so that it has to be read page by page.
    let settings = BrokerSettings {
        cache_bytes_max: 1_000,
        page_rows_max: 3,
        page_bytes_max: 200,
        ..BrokerSettings::default()
    };
    for settings in [settings, BrokerSettings::default()] {
        let mut world = World::new(settings);
        for name in ["a", "b"] {
            world.ensure_queue(name, plain());
        }
        let bodies: Vec<_> = (0..250).map(|n| n.to_string()).collect();
        let mut expected: Vec<_> = bodies.iter().map(String::as_str).collect();
        send(&mut world, "a", &expected);
        world.handle(Command::EnsureQueue { origin: None, path: path("a"), settings: to("b") });
        // What comes now has to wait for what is there.
        send(&mut world, "a", &["late"]);
        expected.push("late");
        world.pass(Span(0));
        assert_eq!(world.stats("a").active_count, 0);
        assert_eq!(world.broker.counters().forwarded, 251);
        assert_eq!(texts(&take_all(&mut world, 1, "b")), expected);
        send(&mut world, "a", &["now"]);
        assert_eq!(world.broker.counters().forwarded, 251, "and then nothing is held any more");
        assert_eq!(texts(&take_all(&mut world, 2, "b")), ["now"]);
    }
}

#[test]
fn many_messages_go_on_a_few_a_turn() {
    let mut world = world(&[("a", plain()), ("b", plain())]);
    let bodies: Vec<_> = (0..250).map(|n| n.to_string()).collect();
    send(&mut world, "a", &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let forwarded = |world: &World| world.broker.counters().forwarded;
    let (now, origin) = (world.now, world.origin());
    world.handle(Command::EnsureQueue { origin: Some(origin), path: path("a"), settings: to("b") });
    assert_eq!((forwarded(&world), world.broker.next_deadline()), (100, Some(now)));
    world.handle(Command::Tick);
    assert_eq!((forwarded(&world), world.broker.next_deadline()), (200, Some(now)));
    world.handle(Command::Tick);
    assert_eq!((forwarded(&world), world.broker.next_deadline()), (250, None));
    // Big ones are fewer.
    let big = "x".repeat(600_000);
    world.ensure_queue("a", plain());
    send(&mut world, "a", &[&big, &big, &big]);
    let origin = world.origin();
    world.handle(Command::EnsureQueue { origin: Some(origin), path: path("a"), settings: to("b") });
    assert_eq!(forwarded(&world), 252);
    world.pass(Span(0));
    assert_eq!(forwarded(&world), 253);
}

#[test]
fn what_a_crash_left_behind_goes_on() {
    let mut world = world(&[("a", plain()), ("b", plain())]);
    send(&mut world, "a", &vec!["x"; 150]);
    let command = Command::EnsureQueue { origin: None, path: path("a"), settings: to("b") };
    world.handle(command);
    world.settle_down();
    world.crash();
    assert_eq!((world.stats("a").active_count, world.stats("b").active_count), (50, 100));
    world.pass(Span(0));
    assert_eq!((world.stats("a").active_count, world.stats("b").active_count), (0, 150));
}

#[test]
fn nobody_receives_from_a_queue_that_forwards() {
    let mut world = world(&[("a", plain()), ("b", plain())]);
    send(&mut world, "a", &["x", "y"]);
    let receiver = world.open(1, "a", ReceiveMode::PeekLock);
    let held = world.receive_one(receiver, 1);
    world.ensure_queue("a", to("b"));
    let closed = world.released.iter().any(|kind| {
        matches!(kind, EffectKind::ReceiverClosed { receiver: closed, error: Error::NotAllowed(_) }
            if *closed == receiver)
    });
    assert!(closed);
    let open = |origin| Command::OpenReceiver {
        origin,
        receiver,
        path: path("a"),
        mode: ReceiveMode::PeekLock,
        session: None,
    };
    assert!(matches!(world.ask(open), Err(Error::NotAllowed(_))));
    // What is locked can still be settled, and goes on if it is not.
    assert_eq!((text(&held), texts(&take_all(&mut world, 2, "b"))), ("x", vec!["y"]));
    world.settle(&held, Settlement::Abandon { changes: vec![("k".into(), 1_u32.into())] }).unwrap();
    let late = take_all(&mut world, 3, "b");
    assert_eq!((texts(&late), late[0].attempts), (vec!["x"], 0));
    assert!(late[0].application_properties.is_some(), "its changed properties go with it");
    assert_eq!(world.rows.len(), world.state_rows().len());
}

#[test]
fn dead_letters_go_on_and_say_where_they_come_from() {
    let mut world = world(&[("Graves", plain()), ("Orders", dead_to("graves"))]);
    send(&mut world, "orders", &["x"]);
    dead_letter(&mut world, 1, "orders");
    world.crash();
    assert_eq!((world.stats("Orders").dead_letter_count, world.message_rows()), (0, 1));
    let seen = world.browse(EntityId(1), 1, 10, 10_000);
    assert_eq!(seen[0].dead_letter_source.as_deref(), Some("Orders"));
    let receiver = world.open(2, "graves", ReceiveMode::PeekLock);
    let found = world.receive_one(receiver, 1);
    assert_eq!(found.dead_letter_source.as_deref(), Some("Orders"));
    assert_eq!((reason(&found).as_str(), found.attempts), ("Broken", 0));
    assert_eq!(found.message.enqueue_sequence(), SequenceNumber(1));
    // A name is known as long as there is somebody of that name.
    let gone = world.ask(|origin| Command::DeleteQueue { origin, path: path("orders") });
    assert!(matches!(gone, Ok(Reply::QueueDeleted)));
    let seen = world.browse(EntityId(1), 1, 10, 10_000);
    assert_eq!(seen[0].dead_letter_source, None);
}

#[test]
fn dead_letters_of_too_many_attempts_go_on_too() {
    let settings = QueueSettings { attempts_max: 1, ..dead_to("graves") };
    let mut world = world(&[("graves", plain()), ("a", settings)]);
    send(&mut world, "a", &["x"]);
    let receiver = world.open(1, "a", ReceiveMode::PeekLock);
    world.receive_one(receiver, 1);
    world.pass(Span::from_secs(60));
    world.settle_down();
    let found = take_all(&mut world, 2, "graves");
    assert_eq!(reason(&found[0]), "MaxDeliveryCountExceeded");
    assert_eq!(found[0].attempts, 0, "attempts are counted anew");
}

#[test]
fn a_message_that_could_not_go_on_may_go_on_as_a_dead_letter() {
    let settings = QueueSettings { forward_to: Some(path("nowhere")), ..dead_to("graves") };
    let mut world = world(&[("graves", plain()), ("a", settings)]);
    send(&mut world, "a", &["x"]);
    let found = take_all(&mut world, 1, "graves");
    assert_eq!(reason(&found[0]), "amqp:not-found");
    assert_eq!(found[0].dead_letter_source.as_deref(), Some("a"));
}

#[test]
fn the_transfer_dead_letter_subqueue_is_an_entity_like_any_other() {
    let mut world = world(&[("a", dead_to("nowhere"))]);
    send(&mut world, "a", &["x", "y"]);
    dead_letter(&mut world, 1, "a");
    dead_letter(&mut world, 2, "a");
    let stats = world.stats("a");
    assert_eq!((stats.dead_letter_count, stats.transfer_dead_letter_count), (0, 2));
    world.crash();
    assert_eq!(world.stats("a").transfer_dead_letter_count, 2);
    let address = "a/$Transfer/$DeadLetterQueue";
    let entity = entity(&world, address);
    assert_eq!(world.browse(entity, 1, 10, 10_000).len(), 2);
    let receiver = world.open(3, address, ReceiveMode::PeekLock);
    let held = world.receive(receiver, 2);
    assert_eq!((texts(&held), reason(&held[0])), (vec!["x", "y"], "amqp:not-found".into()));
    let dead = Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
    assert!(matches!(world.settle(&held[0], dead), Err(Error::NotAllowed(_))));
    world.settle(&held[0], Settlement::Complete).unwrap();
    for _ in 0..20 {
        let delivery = world.take_deliveries().pop().map_or(held[1].clone(), |(_, next)| next);
        world.settle(&delivery, Settlement::Abandon { changes: vec![] }).unwrap();
        world.handle(Command::Demand { receiver, limit: 100 });
        world.settle_down();
    }
    assert_eq!(world.stats("a").transfer_dead_letter_count, 1, "it stays where it is");
    assert!(matches!(world.send(entity, "z"), Err(Error::NotAllowed(_))));
}

#[test]
fn a_queue_that_is_switched_off_passes_nothing_on() {
    let off = QueueSettings { status: EntityStatus::ReceiveDisabled, ..to("b") };
    let mut world = world(&[("b", plain()), ("a", off)]);
    send(&mut world, "a", &["x", "y"]);
    assert_eq!((world.stats("a").active_count, world.stats("b").active_count), (2, 0));
    world.crash();
    world.ensure_queue("a", to("b"));
    assert_eq!(texts(&take_all(&mut world, 1, "b")), ["x", "y"]);
}

#[test]
fn a_crash_at_any_moment_leaves_a_message_at_one_place() {
    let build = || {
        let settings =
            BrokerSettings { cache_bytes_max: 0, page_rows_max: 1, ..BrokerSettings::default() };
        let mut world = World::new(settings);
        for (name, settings) in [("c", plain()), ("b", dead_to("c")), ("a", plain())] {
            world.ensure_queue(name, settings);
        }
        send(&mut world, "a", &["x", "y", "z"]);
        let settings = QueueSettings { attempts_max: 1, ..dead_to("c") };
        world.ensure_queue("b", settings);
        world
    };
    let step = |world: &mut World, number: usize| {
        if number == 0 {
            world.handle(Command::EnsureQueue { origin: None, path: path("a"), settings: to("b") });
            return true;
        }
        match number % 3 {
            1 => world.turn(),
            2 => world.sync_one(),
            _ => world.answer_read(0),
        }
    };
    let mut all_happened = 0;
    for count in 0..38 {
        let mut world = build();
        world.reads_wait = true;
        let happened = (0..count).filter(|number| step(&mut world, *number)).count();
        all_happened = all_happened.max(happened);
        world.crash();
        world.reads_wait = false;
        world.settle_down();
        world.ensure_queue("a", plain());
        let mut found = texts_of(&take_all(&mut world, 1, "a"));
        found.extend(texts_of(&take_all(&mut world, 2, "b")));
        found.sort();
        assert_eq!(found, ["x", "y", "z"], "after {count} steps");
        assert_eq!(world.message_rows(), 0);
    }
    assert!(10 < all_happened, "there was something to interrupt: {all_happened}");
}

fn texts_of(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(delivery).to_owned()).collect()
}

fn with_id(id: &str, body: &str) -> IncomingMessage {
    let properties = Properties { message_id: Some(id.into()), ..Properties::default() };
    let sections = Message { properties: Some(properties), ..Message::default() };
    super::timed::message_with(&sections, body)
}

fn put(world: &mut World, entity: EntityId, messages: &[(&str, &str)]) {
    let messages = messages.iter().map(|(id, body)| with_id(id, body)).collect();
    let send = |origin| Command::Send { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(send), Ok(Reply::Accepted)));
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let body = |delivery: &Delivery| {
        let range = delivery.message.sections().body().unwrap();
        String::from_utf8(delivery.message.bytes()[range][8..].to_vec()).unwrap()
    };
    deliveries.iter().map(body).collect()
}

#[test]
fn a_target_that_detects_duplicates_drops_what_it_has_seen() {
    let window = Some(Span::from_secs(60));
    let unique = || QueueSettings { duplicate_window: window, ..plain() };
    // With and without fingerprints in memory: without, everything has to be looked up.
    for fingerprint_bytes_max in [0, 1 << 20] {
        let settings = BrokerSettings { fingerprint_bytes_max, ..BrokerSettings::default() };
        let mut world = World::new(settings);
        world.ensure_queue("c", unique());
        world.ensure_queue("b", dead_to("c"));
        let a = world.ensure_queue("a", to("c"));
        let b = entity(&world, "b");
        put(&mut world, a, &[("1", "a"), ("2", "b"), ("1", "again")]);
        put(&mut world, a, &[("2", "again"), ("3", "c")]);
        world.crash();
        put(&mut world, a, &[("3", "again"), ("4", "d"), ("4", "again")]);
        assert_eq!((world.stats("a").active_count, world.stats("c").active_count), (0, 4));
        // What is held is looked up before it goes on, and so are dead letters.
        world.ensure_queue("a", plain());
        put(&mut world, a, &[("4", "again"), ("5", "e"), ("5", "again"), ("1", "again")]);
        put(&mut world, b, &[("1", "again")]);
        world.reads_fail = true;
        world.ensure_queue("a", to("c"));
        world.reads_fail = false;
        world.pass(Span::from_secs(1));
        dead_letter(&mut world, 1, "b");
        world.settle_down();
        assert_eq!((world.stats("a").active_count, world.stats("b").dead_letter_count), (0, 0));
        assert_eq!(bodies(&take_all(&mut world, 2, "c")), ["a", "b", "c", "d", "e"]);
        assert_eq!((world.message_rows(), world.broker.counters().damaged), (0, 0));
        world.pass(Span::from_secs(61));
        put(&mut world, a, &[("1", "anew")]);
        assert_eq!(bodies(&take_all(&mut world, 3, "c")), ["anew"]);
    }
}

#[test]
fn a_lookup_outlives_the_queues_it_is_for() {
    for gone in ["a", "c"] {
        let settings = BrokerSettings { fingerprint_bytes_max: 0, ..BrokerSettings::default() };
        let mut world = World::new(settings);
        let window = Some(Span::from_secs(60));
        world.ensure_queue("c", QueueSettings { duplicate_window: window, ..plain() });
        let a = world.ensure_queue("a", to("c"));
        put(&mut world, a, &[("1", "x")]);
        world.reads_wait = true;
        let (origin, deleted) = (world.origin(), world.origin());
        let messages = [with_id("1", "again")].into_iter().collect();
        world.handle(Command::Send { origin, entity: a, messages, transaction: None });
        while world.turn() || world.sync_one() {}
        assert_eq!(world.stats("a").active_count, 1, "it waits");
        world.handle(Command::DeleteQueue { origin: deleted, path: path(gone) });
        world.settle_down();
        assert!(matches!(world.take_reply(deleted), Some(Ok(Reply::QueueDeleted))));
        world.reads_wait = false;
        if gone == "a" {
            assert_eq!(bodies(&take_all(&mut world, 1, "c")), ["x"]);
        } else {
            assert_eq!(bodies(&take_all(&mut world, 1, "a/$DeadLetterQueue")), ["again"]);
        }
    }
}
