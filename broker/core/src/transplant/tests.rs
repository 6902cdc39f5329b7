//! What comes to another store is what it was, whatever came between.

use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_storage::{CommitPosition, MemStore, ShardId};

use super::*;
use crate::check::{Finding, Problem, Severity, check};
use crate::command::{Command, ReceiveMode, SessionRequest, Settlement, SubscriberWish};
use crate::effect::{Browsed, MessageState, Reply};
use crate::entity::settings::QueueSettings;
use crate::id::{MessageSessionId, ReceiverId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, text, texts, wire_message};
use crate::time::Span;
use crate::topic::command::{TopicCommand, TopicReply};
use crate::topic::rules::{RuleDescription, RuleFilter, SqlText};
use crate::topic::settings::TopicSettings;

const LATER: Timestamp = Timestamp(9_000_000);

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn entities(world: &World, name: &str) -> QueueEntities {
    world.broker.kin(&path(name)).unwrap()[0]
}

fn wish(name: &str) -> Wish {
    Wish { entity: path(name), name: None, now: LATER }
}

fn renaming(name: &str, to: &str) -> Wish {
    Wish { name: Some(path(to)), ..wish(name) }
}

/// The store that entities go to.
struct Target {
    store: MemStore,
    position: u64,
}

impl Target {
    fn of(world: &World) -> Self {
        Self { store: world.store(), position: 1 }
    }

    /// Copies an entity up to the end of so many batches, and says how many were written.
    fn take_some(&mut self, source: &MemStore, wish: &Wish, most: usize) -> usize {
        let mut transplant = Transplant::plan(source, &self.store, wish).unwrap();
        for count in 0..most {
            let Some(batch) = transplant.next_batch().unwrap() else { return count };
            self.position += 1;
            self.store.submit(ShardId(0), CommitPosition(self.position), batch).unwrap();
        }
        most
    }

    fn take(&mut self, source: &MemStore, wish: &Wish) -> Vec<Part> {
        let transplant = Transplant::plan(source, &self.store, wish).unwrap();
        let parts = transplant.parts().to_vec();
        self.take_some(source, wish, usize::MAX);
        parts
    }

    fn refusal(&self, source: &MemStore, wish: &Wish) -> TransplantError {
        Transplant::plan(source, &self.store, wish).err().expect("a refusal")
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        check(&self.store, &mut |finding| findings.push(finding)).unwrap();
        findings
    }

    /// The broker that starts with it, which has nothing to repair.
    #[track_caller]
    fn world(&self) -> World {
        let findings = self.findings();
        assert!(findings.is_empty(), "{findings:#?}");
        World::of_store(&self.store, LATER)
    }
}

/// A store with other entities, one of which holds something.
fn elsewhere() -> Target {
    let mut world = World::new(BrokerSettings::default());
    let other = world.ensure_queue("other", QueueSettings::default());
    world.ensure_queue("another", QueueSettings::default());
    world.send_all(other, &["mine", "too"]).unwrap();
    Target::of(&world)
}

fn send(world: &mut World, entity: EntityId, head: &Message, body: &[u8]) {
    let wire = [&head.to_bytes()[..], &wire_message(body)].concat();
    let messages = smallvec::smallvec![IncomingMessage::from_wire(&wire).unwrap()];
    world.ask(|origin| Command::Send { origin, entity, messages, transaction: None }).unwrap();
}

fn due(message: Message, at: Timestamp) -> Message {
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    message.with_message_annotations(Map::new().with(key, Value::Timestamp(at.as_amqp())))
}

fn in_session(session: &str) -> Message {
    let properties = Some(Properties { group_id: Some(session.into()), ..Properties::default() });
    Message { properties, ..Message::default() }
}

fn settle_first(world: &mut World, link: u64, address: &str, settlement: Settlement) {
    let receiver = world.open(link, address, ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, settlement).unwrap();
    world.handle(Command::CloseReceiver { receiver });
    world.settle_down();
}

fn dead_letter() -> Settlement {
    let (reason, description) = (Some("Broken".into()), None);
    Settlement::DeadLetter { reason, description, changes: Vec::new() }
}

/// All that an entity shows of its messages.
fn shown(world: &mut World, entity: EntityId) -> Vec<String> {
    let describe = |browsed: &Browsed| {
        let Browsed { sequence, message, attempts, application_properties, state, .. } = browsed;
        let times = (message.enqueued_at(), message.expires_at(), message.enqueue_sequence());
        let bytes = message.bytes();
        format!("{sequence} {state:?} {attempts} {times:?} {application_properties:?} {bytes:?}")
    };
    world.browse(entity, 0, 1000, usize::MAX).iter().map(describe).collect()
}

/// A queue with some of everything: 1 is deferred, 2 dead, 3 failed once, 4 expires, 5 is not due.
fn busy() -> World {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("before", QueueSettings::default());
    let queue = world.ensure_queue("Busy", QueueSettings::default());
    let changes = || vec![("tried".into(), 1_u32.into())];
    world.send(queue, "deferred").unwrap();
    settle_first(&mut world, 1, "busy", Settlement::Defer { changes: changes() });
    world.send(queue, "dead").unwrap();
    settle_first(&mut world, 2, "busy", dead_letter());
    world.send(queue, "failed").unwrap();
    settle_first(&mut world, 3, "busy", Settlement::Abandon { changes: changes() });
    let header = Some(Header { ttl: Some(90_000_000), ..Header::default() });
    send(&mut world, queue, &Message { header, ..Message::default() }, b"expiring");
    send(&mut world, queue, &due(Message::default(), Timestamp(99_000_000)), b"scheduled");
    world
}

#[test]
fn a_queue_is_what_it_was() {
    let mut before = busy();
    let source = before.store();
    let mut target = elsewhere();
    let parts = target.take(&source, &wish("BUSY"));
    let [Part { path, counts, bytes, missing_targets }] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((path.name(), missing_targets.len()), ("Busy", 0), "as it was written");
    let Counts { active, deferred, scheduled, dead_letter, .. } = *counts;
    assert_eq!((active, deferred, scheduled, dead_letter), (3, 1, 1, 1));
    assert_eq!(*bytes, before.message_bytes());

    let mut after = target.world();
    let (old, new) = (entities(&before, "busy"), entities(&after, "busy"));
    assert_ne!(old, new);
    for (old, new) in old.all().into_iter().zip(new.all()) {
        assert_eq!(shown(&mut after, new), shown(&mut before, old));
    }
    assert_eq!(shown(&mut after, new.main).len(), 4);
    // The number that somebody has written down.
    let (entity, sequences) = (new.main, vec![SequenceNumber(1)]);
    let (mode, session) = (ReceiveMode::PeekLock, None);
    let ask = |origin| Command::ReceiveDeferred { origin, entity, sequences, mode, session };
    let Ok(Reply::DeferredReceived { deliveries }) = after.ask(ask) else { panic!("not there") };
    assert_eq!((text(&deliveries[0]), deliveries[0].attempts), ("deferred", 0));
    after.send(entity, "new").unwrap();
    let receiver = after.open(1, "busy", ReceiveMode::ReceiveAndDelete);
    let found = after.receive(receiver, 10);
    assert_eq!(texts(&found), ["failed", "expiring", "new"]);
    let numbers: Vec<u64> = found.iter().map(|delivery| delivery.sequence.0).collect();
    assert_eq!((numbers, found[0].attempts), (vec![3, 4, 6], 1));
    let dead = after.open(2, "busy/$deadletterqueue", ReceiveMode::ReceiveAndDelete);
    assert_eq!(texts(&after.receive(dead, 10)), ["dead"]);
    after.pass(Span(100_000_000));
    assert_eq!(texts(&after.receive(receiver, 20)), ["scheduled"]);
    // What was there is as it was.
    let other = after.open(3, "other", ReceiveMode::ReceiveAndDelete);
    assert_eq!(texts(&after.receive(other, 10)), ["mine", "too"]);
    after.crash();
}

#[test]
fn sessions_keep_their_messages_and_states() {
    let mut before = World::new(BrokerSettings::default());
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    let queue = before.ensure_queue("sessions", settings);
    for (session, body) in [("a", "a1"), ("b", "b1"), ("a", "a2")] {
        send(&mut before, queue, &in_session(session), body.as_bytes());
    }
    send(&mut before, queue, &due(in_session("a"), Timestamp(99_000_000)), b"a3");
    let session = || MessageSessionId::new("a").unwrap();
    let accept = |world: &mut World| {
        let receiver = ReceiverId { connection: 1, link: 1 };
        let (path, mode) = (path("sessions"), ReceiveMode::PeekLock);
        let session = Some(SessionRequest::Named(session()));
        let open = |origin| Command::OpenReceiver { origin, receiver, path, mode, session };
        assert!(matches!(world.ask(open), Ok(Reply::ReceiverOpened { .. })));
        receiver
    };
    let receiver = accept(&mut before);
    let state = Some(Bytes::from_static(b"half way"));
    let set = |origin| Command::SetSessionState {
        origin,
        entity: queue,
        session: session(),
        state: state.clone(),
    };
    before.ask(set).unwrap();
    before.handle(Command::CloseReceiver { receiver });
    before.settle_down();

    let mut target = elsewhere();
    target.take(&before.store(), &wish("sessions"));
    let mut after = target.world();
    let entity = entities(&after, "sessions").main;
    let receiver = accept(&mut after);
    let get = |origin| Command::GetSessionState { origin, entity, session: session() };
    let found = after.ask(get);
    assert!(matches!(&found, Ok(Reply::SessionState { state: found }) if *found == state));
    assert_eq!(texts(&after.receive(receiver, 10)).len(), 2);
    assert_eq!(after.stats("sessions").scheduled_count, 1);
}

#[test]
fn ids_that_were_seen_are_remembered() {
    let mut before = World::new(BrokerSettings::default());
    let duplicate_window = Some(Span::from_secs(600_000));
    let settings = QueueSettings { duplicate_window, ..QueueSettings::default() };
    let queue = before.ensure_queue("once", settings);
    let message_id = Some(MessageId::String("one".into()));
    let properties = Some(Properties { message_id, ..Properties::default() });
    let message = Message { properties, ..Message::default() };
    send(&mut before, queue, &message, b"first");
    let mut target = elsewhere();
    target.take(&before.store(), &wish("once"));
    let mut after = target.world();
    let queue = entities(&after, "once").main;
    send(&mut after, queue, &message, b"again");
    let receiver = after.open(1, "once", ReceiveMode::ReceiveAndDelete);
    assert_eq!(after.receive(receiver, 10).len(), 1);
}

fn create_topic(world: &mut World, name: &str) {
    let (path, settings) = (path(name), TopicSettings::default());
    let create =
        |origin| Command::OfTopic(Box::new(TopicCommand::CreateTopic { origin, path, settings }));
    world.ask(create).unwrap();
}

/// A topic `t` with the subscriptions `all` and `red`, which have got to different places.
fn topic() -> World {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("before", QueueSettings::default());
    create_topic(&mut world, "t");
    let action = Some(SqlText::plain("SET seen = 1"));
    let sql = RuleFilter::Sql(SqlText::plain("color = 'red'"));
    let red = RuleDescription { name: "Red".into(), filter: sql, action };
    for (name, rules) in [("all", None), ("red", Some(vec![red]))] {
        let (path, settings) = (path(&format!("t/Subscriptions/{name}")), QueueSettings::default());
        let ensure = |origin| {
            let origin = Some(origin);
            let command = TopicCommand::EnsureSubscription { origin, path, settings, rules };
            Command::OfTopic(Box::new(command))
        };
        world.ask(ensure).unwrap();
    }
    let topic = entities(&world, "t").main;
    for (color, body) in [("red", "1"), ("blue", "2"), ("red", "3"), ("blue", "4")] {
        publish(&mut world, topic, color, body);
    }
    send(&mut world, topic, &due(Message::default(), Timestamp(99_000_000)), b"later");
    settle_first(&mut world, 1, "t/subscriptions/all", Settlement::Complete);
    settle_first(&mut world, 2, "t/subscriptions/all", dead_letter());
    settle_first(&mut world, 3, "t/subscriptions/red", Settlement::Abandon { changes: vec![] });
    world
}

fn publish(world: &mut World, topic: EntityId, color: &str, body: &str) {
    let properties = Map::new().with("color", color);
    let message = Message::default().with_application_properties(properties);
    send(world, topic, &message, body.as_bytes());
}

#[test]
fn a_topic_comes_with_its_subscriptions_and_their_rules() {
    for (wish, name) in [(wish("t"), "t"), (renaming("T", "Sales/New"), "Sales/New")] {
        let mut before = topic();
        let mut target = elsewhere();
        let parts = target.take(&before.store(), &wish);
        let names: Vec<_> = parts.iter().map(|part| part.path.to_string()).collect();
        let below = |subscription: &str| format!("{name}/Subscriptions/{subscription}");
        assert_eq!(names, [name.to_owned(), below("all"), below("red")]);
        let active: Vec<_> = parts.iter().map(|part| part.counts.active).collect();
        assert_eq!((active, parts[0].counts.scheduled), (vec![0, 2, 2], 1));

        let mut after = target.world();
        let kin = |world: &World, name: &str| world.broker.kin(&path(name)).unwrap();
        let pairs = kin(&before, "t").into_iter().zip(kin(&after, name));
        for (old, new) in pairs.collect::<Vec<_>>() {
            for (old, new) in old.all().into_iter().zip(new.all()) {
                assert_eq!(shown(&mut after, new), shown(&mut before, old));
            }
        }
        let topic = entities(&after, name).main;
        publish(&mut after, topic, "red", "5");
        publish(&mut after, topic, "blue", "6");
        let drained = |world: &mut World, link, subscription: &str| {
            let receiver = world.open(link, &below(subscription), ReceiveMode::ReceiveAndDelete);
            let found = world.receive(receiver, 10);
            let numbers = found.iter().map(|delivery| delivery.sequence.0).collect::<Vec<_>>();
            assert!(numbers.is_sorted(), "{numbers:?}");
            found.iter().map(|delivery| text(delivery).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(drained(&mut after, 1, "all"), ["3", "4", "5", "6"]);
        assert_eq!(drained(&mut after, 2, "red"), ["1", "3", "5"]);
        assert_eq!(drained(&mut after, 3, "all/$deadletterqueue"), ["2"]);
        after.pass(Span(100_000_000));
        let came = after.take_deliveries();
        assert_eq!(came.iter().map(|(_, one)| text(one)).collect::<Vec<_>>(), ["later"]);
        assert_eq!(after.message_rows(), 2, "those of the other queue: nothing is kept for nobody");
        let origin = after.origin();
        let path = path(&below("red"));
        let list = TopicCommand::ListRules { origin, path, skip: 0, count_max: 9 };
        after.handle(Command::OfTopic(Box::new(list)));
        after.settle_down();
        let Some(Ok(Reply::OfTopic(TopicReply::Rules { rules }))) = after.take_reply(origin) else {
            panic!("no rules")
        };
        assert_eq!((rules.len(), &*rules[0].description.name), (1, "Red"));
        after.crash();
    }
}

#[test]
fn what_cannot_be_there_is_refused_before_anything_is_written() {
    let source = busy().store();
    let target = Target::of(&busy());
    let exists = |name: &str| TransplantError::Refused(Error::EntityExists(name.into()));
    assert_eq!(target.refusal(&source, &wish("busy")), exists("Busy"));
    assert_eq!(target.refusal(&source, &renaming("busy", "BEFORE")), exists("BEFORE"));
    let missing = Error::EntityNotFound("nothing".into());
    assert_eq!(target.refusal(&source, &wish("nothing")), TransplantError::Refused(missing));
    let part = target.refusal(&source, &wish("busy/$deadletterqueue"));
    assert!(matches!(part, TransplantError::Refused(Error::EntityNotFound(_))), "{part:?}");
    let name = target.refusal(&source, &renaming("busy", "a b"));
    assert!(matches!(name, TransplantError::Name(..)), "{name:?}");
    let subscription = target.refusal(&topic().store(), &wish("t/subscriptions/red"));
    assert!(subscription.to_string().contains("with its topic"), "{subscription}");

    let mut passing = World::new(BrokerSettings::default());
    let forward_to = Some(path("next"));
    passing.ensure_queue("first", QueueSettings { forward_to, ..QueueSettings::default() });
    let passing = passing.store();
    let itself = target.refusal(&passing, &renaming("first", "next"));
    assert!(matches!(itself, TransplantError::Refused(Error::InvalidArgument(_))), "{itself:?}");
    let transplant = Transplant::plan(&passing, &target.store, &wish("first")).unwrap();
    assert_eq!(transplant.parts()[0].missing_targets, [path("next")]);
}

#[test]
fn a_durable_subscription_of_a_jms_client_is_there_once() {
    let mut world = World::new(BrokerSettings::default());
    create_topic(&mut world, "t");
    let news = EntityPath::for_jms_subscription(&path("t"), "news", "client", true).unwrap();
    let wish = SubscriberWish {
        subscription: news.clone(),
        exclusive: true,
        may_create: true,
        may_create_anywhere: true,
        topic_only: true,
    };
    let (path, mode, wish) = (path("t"), ReceiveMode::PeekLock, Box::new(wish));
    let receiver = ReceiverId { connection: 1, link: 1 };
    let open =
        |origin| Command::OpenSubscriber { origin, receiver, path, mode, selector: None, wish };
    world.ask(open).unwrap();
    let refused = Target::of(&world).refusal(&world.store(), &renaming("t", "v"));
    assert_eq!(refused, TransplantError::Refused(Error::EntityExists(news.to_string())));
    let mut target = elsewhere();
    target.take(&world.store(), &renaming("t", "v"));
    let names = target.world().broker.kin(&self::path("v")).unwrap().len();
    assert_eq!(names, 2);
}

/// Thirteen megabytes: several batches.
fn long() -> World {
    let mut world = World::new(BrokerSettings::default());
    world.ensure_queue("before", QueueSettings::default());
    let queue = world.ensure_queue("long", QueueSettings::default());
    for letter in b'a'..b'p' {
        send(&mut world, queue, &Message::default(), &vec![letter; 900_000]);
    }
    world
}

#[test]
fn a_copy_that_is_interrupted_is_not_seen_and_goes_with_the_next() {
    let mut before = long();
    before.checks = false;
    let source = before.store();
    let all = elsewhere().take_some(&source, &wish("long"), usize::MAX);
    assert!(5 <= all, "{all} batches");
    for most in 1..all {
        let mut target = elsewhere();
        let rows = target.store.health().used;
        assert_eq!(target.take_some(&source, &wish("long"), most), most);
        for finding in target.findings() {
            let Finding { severity, problem, .. } = finding;
            assert_eq!((severity, problem), (Severity::Repairable, Problem::Orphans));
        }
        // A broker goes on without it, and gives its ids to nobody.
        let mut between = World::of_store(&target.store, LATER);
        assert!(!between.broker.has(&path("long")));
        let ids = between.ensure_queue("between", QueueSettings::default());
        assert_eq!(ids, EntityId(10), "{most} batches");
        between.crash();
        let mut target = Target::of(&between);
        target.take(&source, &wish("long"));
        let mut after = target.world();
        let old = entities(&before, "long").main;
        let new = entities(&after, "long").main;
        assert!(ids < new);
        assert_eq!(shown(&mut after, new), shown(&mut before, old));
        assert!(target.store.health().used < rows + source.health().used + 10_000);
    }
}

#[test]
fn a_repair_takes_away_what_was_interrupted() {
    let mut target = elsewhere();
    let rows = target.store.health().used;
    target.take_some(&long().store(), &wish("long"), 3);
    assert!(rows + 4_000_000 < target.store.health().used);
    let mut batch = Batch::default();
    target.findings().into_iter().flat_map(|finding| finding.fix).for_each(|op| batch.push(op));
    target.position += 1;
    target.store.submit(ShardId(0), CommitPosition(target.position), batch).unwrap();
    target.world();
    assert_eq!(target.store.health().used, rows);
}

#[test]
fn whose_dead_letter_it_was_is_said_only_of_who_it_was() {
    let mut before = World::new(BrokerSettings::default());
    before.ensure_queue("graves", QueueSettings::default());
    let to_graves = || {
        let forward_dead_letters_to = Some(path("graves"));
        QueueSettings { forward_dead_letters_to, ..QueueSettings::default() }
    };
    for name in ["kept", "gone"] {
        let queue = before.ensure_queue(name, to_graves());
        before.send(queue, name).unwrap();
        settle_first(&mut before, u64::from(queue.0), name, dead_letter());
    }
    let mut there = World::new(BrokerSettings::default());
    for name in ["one", "two", "three", "Kept"] {
        there.ensure_queue(name, QueueSettings::default());
    }
    let mut target = Target::of(&there);
    target.take(&before.store(), &wish("graves"));
    let mut after = target.world();
    let graves = entities(&after, "graves").main;
    let seen = after.browse(graves, 0, 10, usize::MAX);
    let sources: Vec<_> = seen.iter().map(|seen| seen.dead_letter_source.as_deref()).collect();
    assert_eq!(sources, [Some("Kept"), None]);
    assert!(seen.iter().all(|seen| seen.state == MessageState::Active));
}

#[test]
fn what_is_deleted_when_idle_was_used_when_it_came() {
    let mut before = World::new(BrokerSettings::default());
    let idle = Some(Span::from_secs(600));
    let settings = QueueSettings { auto_delete_on_idle: idle, ..QueueSettings::default() };
    before.ensure_queue("idle", settings);
    let mut target = elsewhere();
    target.take(&before.store(), &wish("idle"));
    let mut after = target.world();
    after.handle(Command::Tick);
    after.settle_down();
    assert!(after.broker.has(&path("idle")));
    after.pass(Span::from_secs(601));
    assert!(!after.broker.has(&path("idle")));
}

#[test]
fn a_message_that_cannot_be_read_is_not_taken_along() {
    let world = busy();
    let source = world.store();
    let mut batch = Batch::default();
    let key = rows::message_key(entities(&world, "busy").main, SequenceNumber(77));
    batch.put(Table::Message, key, "no message");
    source.submit(ShardId(0), CommitPosition(2), batch).unwrap();
    let target = elsewhere();
    let mut transplant = Transplant::plan(&source, &target.store, &wish("busy")).unwrap();
    assert!(transplant.next_batch().is_ok(), "the reservation");
    let error = transplant.next_batch().unwrap_err();
    assert!(matches!(error, TransplantError::UnreadableRow { .. }), "{error}");
}
