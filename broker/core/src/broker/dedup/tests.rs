//! Duplicates, as those who send them see it.

use peeklock_protocol::message::{Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_storage::Table;
use smallvec::SmallVec;

use crate::broker::tests::timed::message_with;
use crate::command::{Command, Enlistment, ReceiveMode};
use crate::effect::Reply;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, Origin, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, body_of};
use crate::time::{Span, Timestamp};

const WINDOW: Span = Span::from_secs(80);

fn settings(window: Span) -> QueueSettings {
    QueueSettings { duplicate_window: Some(window), ..QueueSettings::default() }
}

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), settings(WINDOW))
}

/// A message with this id, and the id for a body too.
fn message(id: &str, due: Option<Timestamp>) -> IncomingMessage {
    let properties = Properties { message_id: Some(id.into()), ..Properties::default() };
    let mut message = Message::default().with_properties(properties);
    if let Some(due) = due {
        let key = Symbol::from_static("x-opt-scheduled-enqueue-time");
        let annotations = Map::new().with(key, Value::Timestamp(due.as_amqp()));
        message = message.with_message_annotations(annotations);
    }
    message_with(&message, id)
}

fn batch(ids: &[&str]) -> SmallVec<[IncomingMessage; 1]> {
    ids.iter().map(|id| message(id, None)).collect()
}

fn send(world: &mut World, entity: EntityId, ids: &[&str]) {
    let messages = batch(ids);
    let reply = world.ask(|origin| Command::Send { origin, entity, messages, transaction: None });
    assert!(matches!(reply, Ok(Reply::Accepted)), "{reply:?}");
}

fn schedule(world: &mut World, entity: EntityId, id: &str, due: Timestamp) -> SequenceNumber {
    let messages = vec![message(id, Some(due))];
    let command = |origin| Command::Schedule { origin, entity, messages, transaction: None };
    match world.ask(command) {
        Ok(Reply::Scheduled { sequences }) => sequences[0],
        other => panic!("{other:?}"),
    }
}

/// The bodies of all messages there are, which then are gone.
fn drain(world: &mut World) -> Vec<String> {
    let link = 100 + world.now.0 + world.broker.counters().delivered;
    let receiver = world.open(link, "q", ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 1000);
    world.handle(Command::CloseReceiver { receiver });
    let body = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    deliveries.iter().map(|delivery| body(body_of(delivery.message.bytes()))).collect()
}

fn ids(world: &World) -> usize {
    world.rows.keys().filter(|(table, _)| *table == Table::Dedup).count()
}

#[test]
fn a_duplicate_is_accepted_and_dropped() {
    let (mut world, q) = world();
    send(&mut world, q, &["a"]);
    send(&mut world, q, &["a"]);
    send(&mut world, q, &["b", "a", "b", "c"]);
    assert_eq!(drain(&mut world), ["a", "b", "c"]);
    assert_eq!(world.broker.counters().duplicates, 3);
    // Whether the first is still there does not matter.
    send(&mut world, q, &["a", "d"]);
    assert_eq!(drain(&mut world), ["d"]);
}

#[test]
fn an_id_is_remembered_for_the_window_and_not_longer() {
    for restart in [false, true] {
        let (mut world, q) = world();
        send(&mut world, q, &["a"]);
        world.pass(Span(79_999));
        if restart {
            world.crash();
        }
        send(&mut world, q, &["a", "b"]);
        assert_eq!(drain(&mut world), ["a", "b"]);
        world.pass(Span(1));
        send(&mut world, q, &["a", "b"]);
        assert_eq!(drain(&mut world), ["a"]);
        world.pass(Span(79_999));
        send(&mut world, q, &["a", "b"]);
        assert_eq!(drain(&mut world), ["b"], "its time had run from the first of both");
    }
}

#[test]
fn ids_leave_no_rows_behind() {
    let (mut world, q) = world();
    for second in 0..200 {
        send(&mut world, q, &[&second.to_string()]);
        world.pass(Span::from_secs(1));
        assert!(ids(&world) <= 100, "a window and an eighth are kept");
    }
    drain(&mut world);
    assert!(ids(&world) >= 80);
    world.pass(Span::from_secs(100));
    assert_eq!((ids(&world), world.broker.next_deadline()), (0, None));
    assert_eq!(world.broker.fingerprint_bytes, 0);
    send(&mut world, q, &["7"]);
    assert_eq!(drain(&mut world), ["7"]);
}

#[test]
fn messages_without_an_id_are_all_kept() {
    let (mut world, q) = world();
    world.send_all(q, &["x", "x", "x"]).unwrap();
    assert_eq!((drain(&mut world).len(), ids(&world)), (3, 0));
}

#[test]
fn the_type_of_an_id_does_not_matter_and_its_length_is_bounded() {
    let (mut world, q) = world();
    send(&mut world, q, &["7", &"i".repeat(128)]);
    let number = Properties { message_id: Some(MessageId::Ulong(7)), ..Properties::default() };
    let number = message_with(&Message::default().with_properties(number), "number");
    let messages = SmallVec::from_iter([number]);
    world.ask(|origin| Command::Send { origin, entity: q, messages, transaction: None }).unwrap();
    assert_eq!(drain(&mut world).len(), 2);
    let messages = batch(&[&"i".repeat(129)]);
    let reply =
        world.ask(|origin| Command::Send { origin, entity: q, messages, transaction: None });
    assert!(matches!(reply, Err(Error::InvalidArgument(_))), "{reply:?}");
}

#[test]
fn a_queue_that_does_not_look_for_duplicates_keeps_no_ids() {
    let (mut world, q) = World::with_queue(BrokerSettings::default(), QueueSettings::default());
    send(&mut world, q, &["a", "a"]);
    assert_eq!((ids(&world), drain(&mut world).len()), (0, 2));
}

#[test]
fn scheduled_messages_take_part_in_both_directions() {
    let (mut world, q) = world();
    let due = world.now.plus(Span::from_secs(10));
    assert_eq!(schedule(&mut world, q, "a", due), SequenceNumber(1));
    send(&mut world, q, &["a", "b"]);
    // A duplicate has a number too, which is nobody else's.
    let nothing = schedule(&mut world, q, "b", due);
    let other = schedule(&mut world, q, "c", due);
    assert_ne!(nothing, other);
    assert_eq!(drain(&mut world), ["b"]);
    world.pass(Span::from_secs(10));
    assert_eq!(drain(&mut world), ["a", "c"]);
    // By annotation as well.
    let messages = SmallVec::from_iter([message("c", Some(due.plus(Span(5))))]);
    world.ask(|origin| Command::Send { origin, entity: q, messages, transaction: None }).unwrap();
    world.pass(Span::from_secs(20));
    assert!(drain(&mut world).is_empty());
}

#[test]
fn what_is_sent_while_an_id_is_looked_up_waits_in_order() {
    let (mut world, q) = world();
    send(&mut world, q, &["a"]);
    world.crash();
    world.reads_wait = true;
    let sends: Vec<Origin> = [&["a"][..], &["b"], &["c", "b"], &["d"], &["d"]]
        .into_iter()
        .map(|ids| {
            let (origin, messages) = (world.origin(), batch(ids));
            world.handle(Command::Send { origin, entity: q, messages, transaction: None });
            origin
        })
        .collect();
    while world.turn() || world.sync_one() {}
    assert!(sends.iter().all(|origin| world.take_reply(*origin).is_none()));
    assert!(world.answer_read(0), "the first is looked up alone, it came alone");
    while world.turn() || world.sync_one() {}
    assert!(matches!(world.take_reply(sends[0]), Some(Ok(Reply::Accepted))));
    assert!(world.answer_read(0), "and then all others together");
    assert!(!world.answer_read(0));
    while world.turn() || world.sync_one() {}
    for origin in &sends[1..] {
        assert!(matches!(world.take_reply(*origin), Some(Ok(Reply::Accepted))));
    }
    world.reads_wait = false;
    assert_eq!(drain(&mut world), ["a", "b", "c", "d"]);
}

#[test]
fn a_lookup_that_fails_refuses_what_waited_for_it_and_nothing_else() {
    let (mut world, q) = world();
    send(&mut world, q, &["a"]);
    world.crash();
    world.reads_fail = true;
    let messages = batch(&["b"]);
    let reply =
        world.ask(|origin| Command::Send { origin, entity: q, messages, transaction: None });
    assert_eq!(reply.unwrap_err(), Error::StoreUnavailable);
    world.reads_fail = false;
    send(&mut world, q, &["b", "a"]);
    assert_eq!(drain(&mut world), ["a", "b"]);
}

#[test]
fn what_waits_is_bounded() {
    let settings = BrokerSettings { gate_bytes_max: 1000, ..BrokerSettings::default() };
    let (mut world, q) = World::with_queue(settings, self::settings(WINDOW));
    send(&mut world, q, &["a"]);
    world.crash();
    world.reads_wait = true;
    let origins: Vec<Origin> = (0..5)
        .map(|number| {
            let (origin, messages) = (world.origin(), batch(&[&format!("n{number}")]));
            world.handle(Command::Send { origin, entity: q, messages, transaction: None });
            origin
        })
        .collect();
    while world.turn() || world.sync_one() {}
    let refused = origins
        .iter()
        .filter(|origin| matches!(world.take_reply(**origin), Some(Err(Error::ServerBusy(_)))));
    assert_eq!(refused.count(), 2);
    world.reads_wait = false;
    world.settle_down();
    assert_eq!(drain(&mut world), ["a", "n0", "n1", "n2"]);
}

#[test]
fn sends_that_wait_hear_that_their_queue_is_gone() {
    let (mut world, q) = world();
    send(&mut world, q, &["a"]);
    world.crash();
    world.reads_wait = true;
    let (origin, messages) = (world.origin(), batch(&["b"]));
    world.handle(Command::Send { origin, entity: q, messages, transaction: None });
    while world.turn() || world.sync_one() {}
    let path = crate::entity::path::EntityPath::for_new_entity("q").unwrap();
    let deleted = world.origin();
    world.handle(Command::DeleteQueue { origin: deleted, path });
    world.reads_wait = false;
    world.settle_down();
    let reply = world.take_reply(origin);
    assert!(matches!(reply, Some(Err(Error::EntityNotFound(_)))), "{reply:?}");
    assert_eq!((ids(&world), world.state_rows().len()), (0, 1), "nothing is left of it");
}

#[test]
fn memory_for_ids_is_bounded_and_the_rest_is_looked_up() {
    let settings = BrokerSettings { fingerprint_bytes_max: 320, ..BrokerSettings::default() };
    let (mut world, q) = World::with_queue(settings, self::settings(WINDOW));
    let other = world.ensure_queue("other", self::settings(WINDOW));
    let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for _ in 0..2 {
        for id in &all {
            send(&mut world, q, &[id]);
            send(&mut world, other, &[id]);
            world.pass(Span(300));
            assert!(world.broker.fingerprint_bytes <= 320);
        }
    }
    assert_eq!(drain(&mut world), all);
    assert_eq!(world.broker.counters().duplicates, 200);
}

#[test]
fn a_new_window_holds_from_now_on() {
    let (mut world, q) = world();
    send(&mut world, q, &["a"]);
    world.pass(Span::from_secs(30));
    send(&mut world, q, &["b"]);
    // A shorter one forgets at once,
    world.ensure_queue("q", settings(Span::from_secs(20)));
    send(&mut world, q, &["a", "b"]);
    assert_eq!(drain(&mut world), ["a", "b", "a"]);
    world.pass(Span::from_secs(20));
    send(&mut world, q, &["b"]);
    assert_eq!(drain(&mut world), ["b"]);
    // and a longer one does not bring back what was forgotten.
    world.pass(Span::from_secs(10));
    world.ensure_queue("q", settings(Span::from_secs(3600)));
    for restart in [false, true] {
        if restart {
            world.crash();
        }
        send(&mut world, q, &["b"]);
        assert!(drain(&mut world).is_empty());
    }
    send(&mut world, q, &["a"]);
    assert_eq!(drain(&mut world), ["a"]);
    world.pass(Span::from_secs(3000));
    send(&mut world, q, &["a"]);
    assert!(drain(&mut world).is_empty());
}

#[test]
fn a_duplicate_is_not_answered_before_the_first_is_durable() {
    let (mut world, q) = world();
    let [first, second] = [0, 1].map(|_| {
        let (origin, messages) = (world.origin(), batch(&["a"]));
        world.handle(Command::Send { origin, entity: q, messages, transaction: None });
        origin
    });
    world.turn();
    assert!(world.take_reply(second).is_none());
    world.crash();
    assert!(world.take_reply(first).is_none() && ids(&world) == 0);
    send(&mut world, q, &["a"]);
    assert_eq!(drain(&mut world), ["a"]);
}

fn declare(world: &mut World) -> Enlistment {
    match world.ask(|origin| Command::Declare { origin }) {
        Ok(Reply::Declared { transaction }) => Enlistment { transaction, answered: true },
        other => panic!("{other:?}"),
    }
}

fn send_within(world: &mut World, part: Enlistment, entity: EntityId, ids: &[&str]) {
    let (messages, transaction) = (batch(ids), Some(part));
    let reply = world.ask(|origin| Command::Send { origin, entity, messages, transaction });
    assert!(matches!(reply, Ok(Reply::Enlisted)), "{reply:?}");
}

fn discharge(world: &mut World, part: Enlistment, fail: bool) -> Result<Reply, Error> {
    let transaction = part.transaction;
    world.ask(|origin| Command::Discharge { origin, transaction, fail })
}

#[test]
fn transactions_count_when_they_are_committed_and_not_before() {
    for restart in [false, true] {
        let (mut world, q) = world();
        send(&mut world, q, &["z"]);
        if restart {
            world.crash();
        }
        let (kept, dropped) = (declare(&mut world), declare(&mut world));
        send_within(&mut world, kept, q, &["a", "b", "z"]);
        send_within(&mut world, kept, q, &["a", "c"]);
        send_within(&mut world, dropped, q, &["d"]);
        discharge(&mut world, dropped, true).unwrap();
        send(&mut world, q, &["b", "d"]);
        assert_eq!(drain(&mut world), ["z", "b", "d"], "a rollback leaves nothing behind");
        discharge(&mut world, kept, false).unwrap();
        assert_eq!(drain(&mut world), ["a", "c"]);
        send(&mut world, q, &["a", "c"]);
        assert!(drain(&mut world).is_empty());
    }
}

#[test]
fn what_comes_while_a_commit_looks_ids_up_is_seen() {
    let (mut world, q) = world();
    send(&mut world, q, &["z"]);
    world.crash();
    let part = declare(&mut world);
    send_within(&mut world, part, q, &["a", "b"]);
    world.reads_wait = true;
    world.reads_see_early = true;
    let (committed, sent) = (world.origin(), world.origin());
    let transaction = part.transaction;
    world.handle(Command::Discharge { origin: committed, transaction, fail: false });
    let messages = batch(&["a", "c"]);
    world.handle(Command::Send { origin: sent, entity: q, messages, transaction: None });
    while world.turn() || world.sync_one() {}
    // The send is let through first: the commit must not do it again.
    assert!(world.answer_read(1));
    while world.turn() || world.sync_one() {}
    assert!(matches!(world.take_reply(sent), Some(Ok(Reply::Accepted))));
    assert!(world.answer_read(0));
    world.reads_wait = false;
    world.settle_down();
    assert!(matches!(world.take_reply(committed), Some(Ok(Reply::Discharged))));
    assert_eq!(drain(&mut world), ["z", "a", "c", "b"]);
}

#[test]
fn a_message_scheduled_within_a_transaction_has_its_number_at_once() {
    for fail in [false, true] {
        let (mut world, q) = world();
        let part = declare(&mut world);
        let due = world.now.plus(Span::from_secs(60));
        let (messages, transaction) = (vec![message("a", Some(due))], Some(part.transaction));
        let schedule = |origin| Command::Schedule { origin, entity: q, messages, transaction };
        let reply = world.ask(schedule);
        let Ok(Reply::Scheduled { sequences }) = reply else { panic!("{reply:?}") };
        assert_eq!(sequences, [SequenceNumber(1)]);
        send(&mut world, q, &["b"]);
        discharge(&mut world, part, fail).unwrap();
        assert_eq!(world.stats("q").active_count, 1);
        assert_eq!(drain(&mut world), ["b"]);
        if fail {
            send(&mut world, q, &["a"]);
            assert_eq!(drain(&mut world), ["a"]);
        } else {
            world.crash();
            let reply =
                world.ask(|origin| Command::CancelScheduled { origin, entity: q, sequences });
            assert!(matches!(reply, Ok(Reply::ScheduledCancelled)), "{reply:?}");
        }
        world.pass(Span::from_secs(60));
        assert!(drain(&mut world).is_empty());
        assert_eq!(world.message_rows(), 0);
    }
}
