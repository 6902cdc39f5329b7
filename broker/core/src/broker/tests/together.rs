//! The life of entities and forwarding, together with sessions, schedules and transactions.

use bytes::Bytes;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use smallvec::smallvec;

use super::timed::{due_message, message_with, schedule};
use crate::command::{Command, Enlistment, ReceiveMode, SessionRequest, Settlement};
use crate::effect::{Counts, Delivery, EffectKind, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, EntityStatus, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, MessageSessionId, Origin, ReceiverId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, messages};
use crate::time::{Span, Timestamp};

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn to(target: &str) -> QueueSettings {
    QueueSettings { forward_to: Some(path(target)), ..QueueSettings::default() }
}

fn with_sessions() -> QueueSettings {
    QueueSettings { requires_session: true, ..QueueSettings::default() }
}

fn id(session: &str) -> MessageSessionId {
    MessageSessionId::new(session).unwrap()
}

fn in_session(session: &str, body: &str) -> IncomingMessage {
    let properties = Properties { group_id: Some(session.into()), ..Properties::default() };
    message_with(&Message { properties: Some(properties), ..Message::default() }, body)
}

fn put(world: &mut World, entity: EntityId, message: IncomingMessage) {
    let messages = smallvec![message];
    let reply = world.ask(|origin| Command::Send { origin, entity, messages, transaction: None });
    assert!(matches!(reply, Ok(Reply::Accepted)), "{reply:?}");
}

fn accept(
    world: &mut World,
    link: u64,
    address: &str,
    request: SessionRequest,
) -> (ReceiverId, Origin) {
    let receiver = ReceiverId { connection: 1, link };
    let (origin, mode) = (world.origin(), ReceiveMode::PeekLock);
    let session = Some(request);
    world.handle(Command::OpenReceiver { origin, receiver, path: path(address), mode, session });
    world.settle_down();
    (receiver, origin)
}

fn named(session: &str) -> SessionRequest {
    SessionRequest::Named(id(session))
}

const NEXT: SessionRequest = SessionRequest::NextAvailable { wait: Span::from_secs(60) };

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    let body = |delivery: &Delivery| {
        let range = delivery.message.sections().body().unwrap();
        String::from_utf8(delivery.message.bytes()[range][8..].to_vec()).unwrap()
    };
    deliveries.iter().map(body).collect()
}

fn take_all(world: &mut World, link: u64, address: &str) -> Vec<Delivery> {
    let receiver = world.open(link, address, ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 10_000);
    world.handle(Command::CloseReceiver { receiver });
    deliveries
}

fn closed(world: &World) -> Vec<(u64, &Error)> {
    let closed = world.released.iter().filter_map(|kind| {
        if let EffectKind::ReceiverClosed { receiver, error } = kind {
            Some((receiver.link, error))
        } else {
            None
        }
    });
    closed.collect()
}

/// A queue with a held session that has a state, a waiting receiver, and a scheduled message.
fn busy_session_queue() -> (World, EntityId, Origin) {
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), with_sessions());
    put(&mut world, entity, in_session("s", "a"));
    put(&mut world, entity, in_session("s", "b"));
    let (receiver, origin) = accept(&mut world, 1, "q", named("s"));
    assert!(matches!(world.take_reply(origin), Some(Ok(Reply::ReceiverOpened { .. }))));
    assert_eq!(bodies(&world.receive(receiver, 1)), ["a"]);
    let state = Some(Bytes::from_static(b"half way"));
    let set = |origin| Command::SetSessionState { origin, entity, session: id("s"), state };
    assert!(matches!(world.ask(set), Ok(Reply::SessionStateSet)));
    let (_, waiting) = accept(&mut world, 2, "q", NEXT);
    assert!(world.take_reply(waiting).is_none());
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    let due = world.now.plus(Span::from_secs(3_600));
    let annotations = Map::new().with(key, Value::Timestamp(due.as_amqp()));
    let properties = Properties { group_id: Some("t".into()), ..Properties::default() };
    let sections = Message { properties: Some(properties), ..Message::default() }
        .with_message_annotations(annotations);
    put(&mut world, entity, message_with(&sections, "later"));
    (world, entity, waiting)
}

#[test]
fn a_deleted_queue_takes_its_sessions_along() {
    let (mut world, entity, waiting) = busy_session_queue();
    let other = world.ensure_queue("other", QueueSettings::default());
    world.send(other, "stays").unwrap();
    let delete = |origin| Command::DeleteQueue { origin, path: path("q") };
    assert!(matches!(world.ask(delete), Ok(Reply::QueueDeleted)));
    let gone = Error::EntityNotFound("q".into());
    assert_eq!(closed(&world), [(1, &gone)]);
    assert_eq!(world.take_reply(waiting).unwrap().unwrap_err(), gone);
    assert_eq!((world.message_rows(), world.trace_rows()), (1, 0));
    let renew = |origin| Command::RenewSessionLock { origin, entity, session: id("s") };
    assert!(matches!(world.ask(renew), Err(Error::EntityNotFound(_))));
    world.pass(Span::from_secs(7_200));
    world.crash();
    assert_eq!(world.stats("other").active_count, 1);
}

#[test]
fn a_queue_that_is_switched_off_serves_no_sessions() {
    let (mut world, _, waiting) = busy_session_queue();
    let off = QueueSettings { status: EntityStatus::ReceiveDisabled, ..with_sessions() };
    world.ensure_queue("q", off);
    let disabled = Error::EntityDisabled("q".into());
    assert_eq!(closed(&world), [(1, &disabled)]);
    assert_eq!(world.take_reply(waiting).unwrap().unwrap_err(), disabled);
    let (_, refused) = accept(&mut world, 3, "q", NEXT);
    assert_eq!(world.take_reply(refused).unwrap().unwrap_err(), disabled);
    world.ensure_queue("q", with_sessions());
    let (receiver, _) = accept(&mut world, 4, "q", NEXT);
    assert_eq!(bodies(&world.receive(receiver, 10)), ["a", "b"], "all in order, uncounted");
}

#[test]
fn who_waits_for_a_session_and_what_waits_for_its_time_keep_a_queue() {
    let idle = Some(Span::from_secs(300));
    let settings = QueueSettings { auto_delete_on_idle: idle, ..with_sessions() };
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("waited", settings.clone());
    let (receiver, _) = accept(
        &mut world,
        1,
        "waited",
        SessionRequest::NextAvailable { wait: Span::from_secs(86_400) },
    );
    let plain = QueueSettings { auto_delete_on_idle: idle, ..QueueSettings::default() };
    let scheduled = world.ensure_queue("scheduled", plain);
    let due = world.now.plus(Span::from_secs(3_600));
    schedule(&mut world, scheduled, &[(due, "later")]);
    let names = |world: &World| -> Vec<String> {
        world.broker.queue_stats().map(|stats| stats.path.to_string()).collect()
    };
    world.pass(Span::from_secs(3_599));
    assert_eq!(names(&world), ["waited", "scheduled"]);
    world.handle(Command::CloseReceiver { receiver });
    world.pass(Span::from_secs(300));
    assert_eq!(names(&world), ["scheduled"]);
    world.pass(Span::from_secs(300));
    assert_eq!(names(&world), [""; 0]);
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn a_scheduled_message_goes_on_when_it_is_due() {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("b", QueueSettings::default());
    let a = world.ensure_queue("a", to("b"));
    let due = world.now.plus(Span::from_secs(60));
    schedule(&mut world, a, &[(due, "later")]);
    let stats = |world: &World| (world.stats("a").scheduled_count, world.stats("b").active_count);
    assert_eq!(stats(&world), (1, 0));
    world.crash();
    world.pass(Span::from_secs(60));
    assert_eq!(stats(&world), (0, 1));
    let found = take_all(&mut world, 1, "b");
    assert_eq!(bodies(&found), ["later"]);
    let number = found[0].message.enqueue_sequence();
    assert_eq!((found[0].sequence, number), (SequenceNumber(1), SequenceNumber(2)));
    assert_eq!(found[0].message.enqueued_at(), due);
    // One that names a time is not scheduled again where it arrives.
    put(&mut world, a, due_message(Timestamp(1), "past"));
    assert_eq!(stats(&world), (0, 1));
}

#[test]
fn messages_are_forwarded_into_their_sessions() {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("b", with_sessions());
    let a = world.ensure_queue("a", to("b"));
    for (session, body) in [("s", "1"), ("t", "2"), ("s", "3")] {
        put(&mut world, a, in_session(session, body));
    }
    world.crash();
    let (receiver, _) = accept(&mut world, 1, "b", named("s"));
    assert_eq!(bodies(&world.receive(receiver, 10)), ["1", "3"]);
    let (receiver, _) = accept(&mut world, 2, "b", NEXT);
    assert_eq!(bodies(&world.receive(receiver, 10)), ["2"]);
}

#[test]
fn dead_letters_of_sessions_go_on_into_sessions() {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("graves", with_sessions());
    let settings =
        QueueSettings { forward_dead_letters_to: Some(path("graves")), ..with_sessions() };
    let entity = world.ensure_queue("q", settings);
    put(&mut world, entity, in_session("s", "1"));
    let (receiver, _) = accept(&mut world, 1, "q", named("s"));
    let held = world.receive_one(receiver, 1);
    let dead = Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
    world.settle(&held, dead).unwrap();
    world.crash();
    let (receiver, _) = accept(&mut world, 2, "graves", NEXT);
    let found = world.receive_one(receiver, 1);
    assert_eq!(found.dead_letter_source.as_deref(), Some("q"));
    world.settle(&found, Settlement::Complete).unwrap();
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn what_a_transaction_sends_goes_on_with_its_commit() {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("b", QueueSettings::default());
    let a = world.ensure_queue("a", to("b"));
    let declared = world.ask(|origin| Command::Declare { origin }).unwrap();
    let Reply::Declared { transaction } = declared else { panic!("{declared:?}") };
    let enlistment = Some(Enlistment { transaction, answered: true });
    for body in ["x", "y"] {
        let messages = messages(&[body]);
        let send = |origin| Command::Send { origin, entity: a, messages, transaction: enlistment };
        assert!(matches!(world.ask(send), Ok(Reply::Enlisted)));
    }
    assert_eq!(world.stats("b").active_count, 0);
    let origin = world.origin();
    world.handle(Command::Discharge { origin, transaction, fail: false });
    world.settle_down();
    assert!(matches!(world.take_reply(origin), Some(Ok(Reply::Discharged))));
    world.crash();
    assert_eq!(bodies(&take_all(&mut world, 1, "b")), ["x", "y"]);
}

#[test]
fn every_kind_is_counted_before_and_after_a_crash() {
    let settings = QueueSettings {
        forward_dead_letters_to: Some(path("nowhere")),
        ..QueueSettings::default()
    };
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), settings);
    world
        .send_all(entity, &["locked", "deferred", "dead", "transfer", "active", "2", "3"])
        .unwrap();
    let due = world.now.plus(Span::from_secs(60));
    schedule(&mut world, entity, &[(due, "a"), (due, "b")]);
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive(receiver, 4);
    let dead = || Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
    world.settle(&held[1], Settlement::Defer { changes: vec![] }).unwrap();
    world.settle(&held[3], dead()).unwrap();
    world.ensure_queue("q", QueueSettings::default());
    world.settle(&held[2], dead()).unwrap();
    let describe = |world: &mut World| {
        let reply = world.ask(|origin| Command::DescribeQueue { origin, path: path("q") });
        let Ok(Reply::QueueDescribed(description)) = reply else { panic!("{reply:?}") };
        *description
    };
    let described = describe(&mut world);
    let expected = Counts {
        active: 5,
        deferred: 1,
        dead_letter: 1,
        scheduled: 2,
        transfer: 0,
        transfer_dead_letter: 1,
    };
    assert_eq!(described.counts, expected);
    assert_eq!(described.bytes, world.message_bytes());
    let stats = world.stats("q");
    let counts = [
        stats.active_count,
        stats.deferred_count,
        stats.scheduled_count,
        stats.dead_letter_count,
        stats.transfer_dead_letter_count,
        stats.locked_count,
    ];
    assert_eq!(counts, [4, 1, 2, 1, 1, 1]);
    world.crash();
    assert_eq!(describe(&mut world), described);
    world.ask(|origin| Command::DeleteQueue { origin, path: path("q") }).unwrap();
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}
