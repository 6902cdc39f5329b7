//! What is counted for whom, and how old the oldest message is. That all entities together have counted
//! what was counted in all is looked at after each command of every test (`crate::invariant`).

use peeklock_protocol::message::{Message, Properties};

use super::timed::{message_with, mortal_message, schedule};
use crate::broker::statistics::EntityStatistics;
use crate::command::{Command, Enlistment, ReceiveMode, SessionRequest, Settlement};
use crate::effect::Reply;
use crate::entity::counters::{DeadLetterReason, EntityCounters};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, EntityStatus, QueueSettings};
use crate::id::{EntityId, MessageSessionId, ReceiverId};
use crate::message::IncomingMessage;
use crate::queue::oldest::OldestMessage;
use crate::testing::{World, messages};
use crate::time::{Span, Timestamp};
use crate::topic::command::TopicCommand;
use crate::topic::rules::{RuleDescription, RuleFilter, SqlText};
use crate::topic::settings::TopicSettings;

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn statistics(world: &World, name: &str) -> EntityStatistics {
    let all = world.broker.entity_statistics(None, usize::MAX);
    all.into_iter().find(|entity| entity.path.name() == name).unwrap()
}

/// What is not zero, by name.
fn counted(world: &World, name: &str) -> Vec<(&'static str, u64)> {
    let EntityCounters {
        incoming,
        outgoing,
        completed,
        abandoned,
        deferred,
        expired,
        duplicates,
        lost_locks,
        forwarded,
        ..
    } = statistics(world, name).counters;
    let mut counted = vec![
        ("incoming", incoming),
        ("outgoing", outgoing),
        ("completed", completed),
        ("abandoned", abandoned),
        ("deferred", deferred),
        ("expired", expired),
        ("duplicates", duplicates),
        ("lost_locks", lost_locks),
        ("forwarded", forwarded),
    ];
    let counters = statistics(world, name).counters;
    counted.extend(DeadLetterReason::ALL.map(|why| (why.name(), counters.dead_lettered(why))));
    counted.retain(|(_, count)| *count != 0);
    counted
}

fn plain() -> QueueSettings {
    QueueSettings::default()
}

fn world(queue: QueueSettings) -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), queue)
}

fn with_id(id: &str) -> IncomingMessage {
    let properties = Properties { message_id: Some(id.into()), ..Properties::default() };
    message_with(&Message { properties: Some(properties), ..Message::default() }, id)
}

fn send(world: &mut World, entity: EntityId, message: IncomingMessage) {
    let messages = [message].into_iter().collect();
    let send = |origin| Command::Send { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(send), Ok(Reply::Accepted)));
}

fn send_in_session(world: &mut World, entity: EntityId, session: &str) {
    let properties = Properties { group_id: Some(session.into()), ..Properties::default() };
    let message = Message { properties: Some(properties), ..Message::default() };
    send(world, entity, message_with(&message, session));
}

fn open_session(world: &mut World, session: &str) -> ReceiverId {
    let receiver = ReceiverId { connection: 1, link: 1 };
    let session = Some(SessionRequest::Named(MessageSessionId::new(session).unwrap()));
    let (path, mode) = (path("q"), ReceiveMode::PeekLock);
    let open = |origin| Command::OpenReceiver { origin, receiver, path, mode, session };
    assert!(matches!(world.ask(open), Ok(Reply::ReceiverOpened { .. })));
    receiver
}

fn dead_letter() -> Settlement {
    // Whatever the application says, it is no label.
    let reason = Some("expired".into());
    Settlement::DeadLetter { reason, description: None, changes: Vec::new() }
}

#[test]
fn settlements_are_counted_where_they_happen() {
    let (mut world, q) = world(plain());
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive(receiver, 4);
    assert_eq!(counted(&world, "q"), [("incoming", 4), ("outgoing", 4)]);
    world.settle(&held[0], Settlement::Complete).unwrap();
    world.settle(&held[1], Settlement::Defer { changes: Vec::new() }).unwrap();
    world.settle(&held[2], dead_letter()).unwrap();
    world.settle(&held[3], Settlement::Release).unwrap();
    let again = world.receive_one(receiver, 5);
    world.settle(&again, Settlement::Abandon { changes: Vec::new() }).unwrap();
    let expected = [
        ("incoming", 4),
        ("outgoing", 5),
        ("completed", 1),
        ("abandoned", 1),
        ("deferred", 1),
        ("application", 1),
    ];
    assert_eq!(counted(&world, "q"), expected);
    let EntityStatistics { active, deferred, dead_letter, locked, receivers, demand, .. } =
        statistics(&world, "q");
    assert_eq!((active, deferred, dead_letter, locked, receivers, demand), (1, 1, 1, 0, 1, 0));
    assert_eq!(world.receive(receiver, 9).len(), 1);
    let EntityStatistics { locked, demand, .. } = statistics(&world, "q");
    assert_eq!((locked, demand), (1, 3), "one of four was there");
    // What clients do with dead letters is not done with the messages of the queue.
    let undertaker = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let dead = world.receive_one(undertaker, 1);
    world.settle(&dead, Settlement::Complete).unwrap();
    assert_eq!(counted(&world, "q")[1..3], [("outgoing", 6), ("completed", 1)]);
}

#[test]
fn receiving_for_good_completes() {
    let (mut world, q) = world(plain());
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::ReceiveAndDelete);
    world.receive(receiver, 2);
    assert_eq!(counted(&world, "q"), [("incoming", 2), ("outgoing", 2), ("completed", 2)]);
}

#[test]
fn locks_that_are_lost_count_until_the_message_is_dead() {
    let (mut world, q) = world(QueueSettings { attempts_max: 2, ..plain() });
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    world.receive_one(receiver, 1);
    world.pass(Span::from_secs(61));
    assert_eq!(counted(&world, "q").last(), Some(&("lost_locks", 1)));
    world.receive_one(receiver, 2);
    world.pass(Span::from_secs(61));
    let expected = [("incoming", 1), ("outgoing", 2), ("lost_locks", 2), ("max_delivery_count", 1)];
    assert_eq!(counted(&world, "q"), expected);
}

#[test]
fn the_last_abandoned_delivery_makes_a_dead_letter() {
    let (mut world, q) = world(QueueSettings { attempts_max: 1, ..plain() });
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive_one(receiver, 1);
    world.settle(&held, Settlement::Abandon { changes: Vec::new() }).unwrap();
    assert_eq!(counted(&world, "q")[2..], [("max_delivery_count", 1)]);
}

#[test]
fn messages_expire_into_nothing_or_into_dead_letters() {
    for dead_letter_on_expiry in [false, true] {
        let (mut world, q) = world(QueueSettings { dead_letter_on_expiry, ..plain() });
        send(&mut world, q, mortal_message(Span::from_secs(5), "mortal"));
        world.pass(Span::from_secs(6));
        let mut expected = vec![("incoming", 1), ("expired", 1)];
        expected.extend(dead_letter_on_expiry.then_some(("expired", 1)));
        assert_eq!(counted(&world, "q"), expected);
        assert_eq!(statistics(&world, "q").dead_letter, u64::from(dead_letter_on_expiry));
    }
}

#[test]
fn a_lost_session_loses_the_locks_in_it() {
    let (mut world, q) = world(QueueSettings { requires_session: true, ..plain() });
    for session in ["s", "s", "t"] {
        send_in_session(&mut world, q, session);
    }
    let receiver = open_session(&mut world, "s");
    assert_eq!(world.receive(receiver, 5).len(), 2);
    let EntityStatistics { sessions, locked_sessions, locked, receivers, demand, .. } =
        statistics(&world, "q");
    assert_eq!((sessions, locked_sessions, locked, receivers, demand), (2, 1, 2, 1, 3));
    world.pass(Span::from_secs(61));
    assert_eq!(counted(&world, "q"), [("incoming", 3), ("outgoing", 2), ("lost_locks", 2)]);
    let EntityStatistics { sessions, locked_sessions, oldest, .. } = statistics(&world, "q");
    assert_eq!((sessions, locked_sessions), (2, 0));
    assert_eq!(oldest, OldestMessage::Since(Timestamp(1_000_000)));
}

#[test]
fn duplicates_are_not_taken_in() {
    let window = Some(Span::from_secs(60));
    let (mut world, q) = world(QueueSettings { duplicate_window: window, ..plain() });
    for id in ["a", "b", "a", "a"] {
        send(&mut world, q, with_id(id));
    }
    assert_eq!(counted(&world, "q"), [("incoming", 2), ("duplicates", 2)]);
}

#[test]
fn what_is_scheduled_counts_when_it_is_sent_and_no_more_when_it_is_due() {
    let (mut world, q) = world(plain());
    let due = world.now.plus(Span::from_secs(10));
    schedule(&mut world, q, &[(due, "later")]);
    assert_eq!(counted(&world, "q"), [("incoming", 1)]);
    assert_eq!(statistics(&world, "q").scheduled, 1);
    assert_eq!(statistics(&world, "q").oldest, OldestMessage::None);
    world.pass(Span::from_secs(20));
    assert_eq!(counted(&world, "q"), [("incoming", 1)]);
    let EntityStatistics { scheduled, active, oldest, .. } = statistics(&world, "q");
    assert_eq!((scheduled, active, oldest), (0, 1, OldestMessage::Since(world.now)));
}

#[test]
fn each_step_of_forwarding_is_counted() {
    let (mut world, _) = world(plain());
    let to = |name: &str| QueueSettings { forward_to: Some(path(name)), ..plain() };
    world.ensure_queue("b", to("q"));
    let a = world.ensure_queue("a", to("b"));
    world.send(a, "at once").unwrap();
    let passed = [("incoming", 1), ("forwarded", 1)];
    assert_eq!((counted(&world, "a"), counted(&world, "b")), (passed.into(), passed.into()));
    assert_eq!(counted(&world, "q"), [("incoming", 1)]);
    // What is held goes on too, when it may.
    let held = world.ensure_queue("held", plain());
    world.send(held, "later").unwrap();
    world.ensure_queue("held", to("q"));
    assert_eq!(counted(&world, "held"), passed);
    assert_eq!(counted(&world, "q"), [("incoming", 2)]);
    // A dead letter that goes on is told of the queue whose it was.
    let onward = QueueSettings { forward_dead_letters_to: Some(path("q")), ..plain() };
    let dying = world.ensure_queue("dying", onward);
    world.send(dying, "dead").unwrap();
    let receiver = world.open(1, "dying", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, dead_letter()).unwrap();
    let expected = [("incoming", 1), ("outgoing", 1), ("forwarded", 1), ("application", 1)];
    assert_eq!(counted(&world, "dying"), expected);
    assert_eq!(counted(&world, "q"), [("incoming", 3)]);
}

#[test]
fn what_cannot_go_on_says_why() {
    let (mut world, q) = world(plain());
    let to = QueueSettings { forward_to: Some(path("q")), ..plain() };
    let from = world.ensure_queue("from", to);
    let status = EntityStatus::SendDisabled;
    world.ensure_queue("q", QueueSettings { status, ..plain() });
    world.send(from, "a").unwrap();
    world.ensure_queue("q", QueueSettings { message_bytes_max: 1, ..plain() });
    world.send(from, "b").unwrap();
    world.ask(|origin| Command::DeleteQueue { origin, path: path("q") }).unwrap();
    world.send(from, "c").unwrap();
    let expected =
        [("incoming", 3), ("target_not_found", 1), ("target_disabled", 1), ("message_size", 1)];
    assert_eq!(counted(&world, "from"), expected);
    assert!(world.broker.queue(q).is_err());
}

#[test]
fn topics_take_in_and_subscriptions_get_copies() {
    let mut world = World::new(BrokerSettings::default());
    let ask = |world: &mut World, command: TopicCommand| {
        world.handle(Command::OfTopic(Box::new(command)));
        world.settle_down();
    };
    let settings = TopicSettings::default();
    ask(&mut world, TopicCommand::EnsureTopic { origin: None, path: path("t"), settings });
    let sql = |text: &str| RuleFilter::Sql(SqlText::plain(text));
    for (name, filter, action) in [
        ("all", RuleFilter::True, None),
        ("none", RuleFilter::False, None),
        ("own", RuleFilter::True, Some(SqlText::plain("SET x = 1"))),
        ("failing", sql("1 / 0 = 1"), None),
    ] {
        let rule = RuleDescription { name: "rule".into(), filter, action };
        let ensure = TopicCommand::EnsureSubscription {
            origin: None,
            path: path(&format!("t/Subscriptions/{name}")),
            settings: QueueSettings { dead_letter_on_filter_error: true, ..plain() },
            rules: Some(vec![rule]),
        };
        ask(&mut world, ensure);
    }
    let t = statistics(&world, "t").entity;
    world.send_all(t, &["a", "b"]).unwrap();
    assert_eq!(counted(&world, "t"), [("incoming", 2)]);
    assert_eq!(counted(&world, "t/Subscriptions/all"), [("incoming", 2)]);
    assert_eq!(counted(&world, "t/Subscriptions/own"), [("incoming", 2)]);
    assert_eq!(counted(&world, "t/Subscriptions/none"), []);
    let failing = counted(&world, "t/Subscriptions/failing");
    assert_eq!(failing, [("incoming", 2), ("filter_error", 2)]);
    let sum: u64 = ["all", "own", "failing"]
        .map(|name| statistics(&world, &format!("t/Subscriptions/{name}")).bytes)
        .iter()
        .sum();
    assert!(sum > 0 && statistics(&world, "t").bytes <= sum);
}

#[test]
fn transactions_count_when_they_are_committed_and_not_otherwise() {
    for fail in [true, false] {
        let (mut world, q) = world(plain());
        world.send(q, "a").unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let held = world.receive_one(receiver, 1);
        let Ok(Reply::Declared { transaction }) = world.ask(|origin| Command::Declare { origin })
        else {
            panic!("a transaction")
        };
        let enlistment = Some(Enlistment { transaction, answered: true });
        let messages = messages(&["b", "c"]);
        world
            .ask(|origin| Command::Send { origin, entity: q, messages, transaction: enlistment })
            .unwrap();
        world
            .ask(|origin| Command::Settle {
                origin: Some(origin),
                entity: q,
                token: held.lock.unwrap().token,
                settlement: Settlement::Complete,
                transaction: enlistment,
            })
            .unwrap();
        assert_eq!(counted(&world, "q"), [("incoming", 1), ("outgoing", 1)]);
        world.ask(|origin| Command::Discharge { origin, transaction, fail }).unwrap();
        let expected = if fail {
            vec![("incoming", 1), ("outgoing", 1)]
        } else {
            vec![("incoming", 3), ("outgoing", 1), ("completed", 1)]
        };
        assert_eq!(counted(&world, "q"), expected);
    }
}

#[test]
fn pages_follow_one_another_in_the_order_of_paths() {
    let mut world = World::new(BrokerSettings::default());
    for name in ["b", "A", "c", "d"] {
        world.ensure_queue(name, plain());
    }
    let page = |world: &World, after: Option<&str>| {
        let after = after.map(path);
        let page = world.broker.entity_statistics(after.as_ref(), 2);
        page.iter().map(|entity| entity.path.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(page(&world, None), ["A", "b"]);
    world.ask(|origin| Command::DeleteQueue { origin, path: path("b") }).unwrap();
    assert_eq!(page(&world, Some("b")), ["c", "d"], "though it is gone");
    assert_eq!(page(&world, Some("d")), [""; 0]);
}

/// A broker that keeps next to nothing in memory.
fn small() -> BrokerSettings {
    BrokerSettings {
        window_count_max: 2,
        page_rows_max: 2,
        cache_bytes_max: 1000,
        ..BrokerSettings::default()
    }
}

fn oldest(world: &World) -> OldestMessage {
    statistics(world, "q").oldest
}

fn find(world: &mut World, entity: EntityId) {
    world.handle(Command::FindOldest { entity });
    world.settle_down();
}

#[test]
fn the_oldest_message_is_known_without_a_look_at_the_store() {
    for (settings, queue) in [(BrokerSettings::default(), plain()), (small(), plain())] {
        let (mut world, q) = World::with_queue(settings, queue);
        let mut times = Vec::new();
        for body in ["a", "b", "c", "d", "e"] {
            world.pass(Span::from_secs(1));
            world.send(q, body).unwrap();
            times.push(world.now);
        }
        assert_eq!(oldest(&world), OldestMessage::Since(times[0]));
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        for (limit, time) in (1..).zip(&times) {
            assert_eq!(oldest(&world), OldestMessage::Since(*time), "it was not taken yet");
            let held = world.receive_one(receiver, limit);
            assert_eq!(oldest(&world), OldestMessage::Since(*time), "a locked one is still there");
            world.settle(&held, Settlement::Complete).unwrap();
            if oldest(&world) == OldestMessage::Unknown {
                find(&mut world, q);
            }
        }
        assert_eq!(oldest(&world), OldestMessage::None);
    }
}

#[test]
fn what_only_the_store_knows_is_looked_up_once() {
    for requires_session in [false, true] {
        let (mut world, q) = World::with_queue(
            BrokerSettings::default(),
            QueueSettings { requires_session, ..plain() },
        );
        let sent = world.now;
        for _ in 0..2 {
            send_in_session(&mut world, q, "s");
            world.pass(Span::from_secs(1));
        }
        world.crash();
        let accessed = world.broker.durable_state().entities[0].accessed_at;
        assert_eq!(oldest(&world), OldestMessage::Unknown);
        find(&mut world, q);
        assert_eq!(oldest(&world), OldestMessage::Since(sent));
        assert_eq!(world.broker.durable_state().entities[0].accessed_at, accessed, "no use of it");
        // It is remembered: a store that does not answer any more does no harm.
        world.reads_fail = true;
        find(&mut world, q);
        assert_eq!(oldest(&world), OldestMessage::Since(sent));
    }
}

#[test]
fn what_goes_while_it_is_looked_up_is_not_remembered() {
    let (mut world, q) = world(plain());
    world.send_all(q, &["a", "b"]).unwrap();
    world.crash();
    world.reads_wait = true;
    world.reads_see_early = true;
    world.handle(Command::FindOldest { entity: q });
    world.turn();
    let receiver = ReceiverId { connection: 1, link: 1 };
    let (path, mode) = (path("q"), ReceiveMode::ReceiveAndDelete);
    world.handle(Command::OpenReceiver {
        origin: crate::id::Origin { connection: 1, link: 1, delivery: 0 },
        receiver,
        path,
        mode,
        session: None,
    });
    world.handle(Command::Demand { receiver, limit: 1 });
    world.turn();
    // The page comes, and the first message is given; then comes what was looked up before.
    assert!(world.answer_read(1));
    assert_eq!(statistics(&world, "q").active, 1);
    assert!(world.answer_read(0));
    assert_eq!(oldest(&world), OldestMessage::Since(Timestamp(1_000_000)), "that of the second");
    world.settle_down();
}

#[test]
fn a_look_that_fails_can_be_made_again() {
    let (mut world, q) = world(plain());
    world.send(q, "a").unwrap();
    world.crash();
    world.reads_fail = true;
    find(&mut world, q);
    assert_eq!(oldest(&world), OldestMessage::Unknown);
    world.reads_fail = false;
    find(&mut world, q);
    assert_eq!(oldest(&world), OldestMessage::Since(world.now));
    // What was there is not looked for any more when the entity is gone.
    world.reads_wait = true;
    world.crash();
    world.handle(Command::FindOldest { entity: q });
    let origin = world.origin();
    world.handle(Command::DeleteQueue { origin, path: path("q") });
    world.settle_down();
    assert_eq!(world.broker.entity_statistics(None, 10), []);
}

#[test]
fn what_is_set_aside_does_not_hide_what_is_oldest() {
    let settings = BrokerSettings { page_rows_max: 1, ..BrokerSettings::default() };
    let queue = QueueSettings { requires_session: true, ..plain() };
    let (mut world, q) = World::with_queue(settings, queue);
    let times = ["s", "s", "s", "t"].map(|session| {
        world.pass(Span::from_secs(1));
        send_in_session(&mut world, q, session);
        world.now
    });
    let receiver = open_session(&mut world, "s");
    for (delivery, limit) in world.receive(receiver, 3).into_iter().zip(4..) {
        world.settle(&delivery, Settlement::Abandon { changes: Vec::new() }).unwrap();
        let again = world.receive_one(receiver, limit);
        world.settle(&again, Settlement::Defer { changes: Vec::new() }).unwrap();
    }
    world.crash();
    find(&mut world, q);
    assert_eq!(oldest(&world), OldestMessage::Since(times[3]), "behind three with marks");
}
