//! The life of entities: created, changed, switched off, filled, left alone, deleted.

use peeklock_storage::Table;

use crate::command::{Command, Enlistment, ReceiveMode, Settlement};
use crate::effect::{ClosedLinks, EffectKind, QueueDescription, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, EntityStatus, QueueSettings, Remarks};
use crate::error::Error;
use crate::id::{EntityId, ReceiverId};
use crate::testing::{World, messages, texts};
use crate::time::{Span, Timestamp};

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn create(world: &mut World, name: &str, settings: QueueSettings) -> Result<EntityId, Error> {
    let reply = world.ask(|origin| Command::CreateQueue { origin, path: path(name), settings })?;
    let Reply::QueueEnsured { entity } = reply else { panic!("{reply:?}") };
    Ok(entity)
}

fn update(world: &mut World, name: &str, settings: QueueSettings) -> Result<Reply, Error> {
    world.ask(|origin| Command::UpdateQueue {
        origin,
        path: path(name),
        settings,
        access_rules: None,
    })
}

fn delete(world: &mut World, name: &str) -> Result<Reply, Error> {
    world.ask(|origin| Command::DeleteQueue { origin, path: path(name) })
}

fn describe(world: &mut World, name: &str) -> Result<QueueDescription, Error> {
    let reply = world.ask(|origin| Command::DescribeQueue { origin, path: path(name) })?;
    let Reply::QueueDescribed(description) = reply else { panic!("{reply:?}") };
    Ok(*description)
}

fn open_sender(world: &mut World, address: &str) -> Result<Reply, Error> {
    world.ask(|origin| Command::OpenSender { origin, path: path(address) })
}

fn open_receiver(world: &mut World, link: u64, address: &str) -> Result<Reply, Error> {
    world.ask(|origin| Command::OpenReceiver {
        origin,
        receiver: ReceiverId { connection: 1, link },
        path: path(address),
        mode: ReceiveMode::PeekLock,
        session: None,
    })
}

fn not_found(address: &str) -> Error {
    Error::EntityNotFound(address.into())
}

fn disabled(address: &str) -> Error {
    Error::EntityDisabled(address.into())
}

type ClosedReceiver = (u64, Error);
type ClosedEntity = (EntityId, ClosedLinks, Error);

/// What was closed since the last look: receivers by link, other links by entity.
fn take_closed(world: &mut World) -> (Vec<ClosedReceiver>, Vec<ClosedEntity>) {
    let (mut receivers, mut entities) = (Vec::new(), Vec::new());
    for kind in std::mem::take(&mut world.released) {
        match kind {
            EffectKind::ReceiverClosed { receiver, error } => {
                receivers.push((receiver.link, error));
            }
            EffectKind::EntityClosed { entity, scope, error } => {
                entities.push((entity, scope, error));
            }
            other @ (EffectKind::Reply { .. }
            | EffectKind::Deliver { .. }
            | EffectKind::Drained { .. }
            | EffectKind::AccessChanged { .. }
            | EffectKind::Read { .. }) => world.released.push(other),
        }
    }
    (receivers, entities)
}

#[test]
fn a_queue_is_created_once() {
    let mut world = World::new(BrokerSettings { queues_max: 2, ..BrokerSettings::default() });
    assert_eq!(create(&mut world, "Orders", QueueSettings::default()), Ok(EntityId(1)));
    let again = create(&mut world, "oRDERS", QueueSettings::default());
    assert_eq!(again, Err(Error::EntityExists("oRDERS".into())));
    assert_eq!(create(&mut world, "b", QueueSettings::default()), Ok(EntityId(4)));
    let third = create(&mut world, "c", QueueSettings::default());
    assert_eq!(third, Err(Error::QuotaExceeded("There are too many entities.")));
    let bad = create(&mut world, "a/$DeadLetterQueue", QueueSettings::default());
    assert!(matches!(bad, Err(Error::InvalidArgument(_))));
    world.crash();
    let again = create(&mut world, "orders", QueueSettings::default());
    assert_eq!(again, Err(Error::EntityExists("orders".into())));
}

#[test]
fn some_settings_can_be_changed_and_some_cannot() {
    let mut world = World::new(BrokerSettings::default());
    let missing = update(&mut world, "q", QueueSettings::default());
    assert_eq!(missing.unwrap_err(), not_found("q"));
    create(&mut world, "q", QueueSettings::default()).unwrap();
    let created_at = world.now;
    world.pass(Span(500));
    let changed = QueueSettings {
        attempts_max: 3,
        default_time_to_live: Some(Span(5_000)),
        user_metadata: "mine".into(),
        ..QueueSettings::default()
    };
    update(&mut world, "Q", changed.clone()).unwrap();
    let updated_at = world.now;
    world.pass(Span(500));
    let window = Some(Span::from_secs(60));
    for fixed in [
        QueueSettings { requires_session: true, ..changed.clone() },
        QueueSettings { duplicate_window: window, ..changed.clone() },
        QueueSettings { attempts_max: 0, ..changed.clone() },
    ] {
        let refused = update(&mut world, "q", fixed.clone()).unwrap_err();
        assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
        let declare = |origin| Command::EnsureQueue {
            origin: Some(origin),
            path: path("q"),
            settings: fixed,
        };
        assert_eq!(world.ask(declare).unwrap_err(), refused);
    }
    let remarks = Remarks { partitioned: true, ..Remarks::default() };
    let refused = update(&mut world, "q", QueueSettings { remarks, ..changed.clone() });
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    world.crash();
    let described = describe(&mut world, "q").unwrap();
    assert_eq!(described.settings, changed);
    assert_eq!((described.created_at, described.updated_at), (created_at, updated_at));
    assert_eq!(described.path.to_string(), "q");
}

#[test]
fn forward_targets_are_looked_at() {
    let mut world = World::new(BrokerSettings::default());
    let to =
        |target: &str| QueueSettings { forward_to: Some(path(target)), ..QueueSettings::default() };
    let dead_to = |target: &str| QueueSettings {
        forward_dead_letters_to: Some(path(target)),
        ..QueueSettings::default()
    };
    for settings in [to("b"), dead_to("b")] {
        assert_eq!(create(&mut world, "a", settings), Err(not_found("b")));
    }
    create(&mut world, "b", QueueSettings::default()).unwrap();
    for settings in [to("A"), dead_to("A"), to("b/$DeadLetterQueue")] {
        let refused = create(&mut world, "a", settings);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
    let sessions = QueueSettings { requires_session: true, ..to("b") };
    assert!(matches!(create(&mut world, "a", sessions), Err(Error::InvalidArgument(_))));
    create(&mut world, "a", to("B")).unwrap();
    assert_eq!(update(&mut world, "a", dead_to("c")).unwrap_err(), not_found("c"));
    update(&mut world, "a", dead_to("b")).unwrap();
    // Queues that are declared together may name each other in any order.
    world.ensure_queue("x", to("y"));
}

#[test]
fn a_deleted_queue_leaves_nothing_behind_and_its_number_is_not_used_again() {
    let (mut world, entity) = World::with_queue(
        BrokerSettings::default(),
        QueueSettings { attempts_max: 1, ..QueueSettings::default() },
    );
    let other = world.ensure_queue("other", QueueSettings::default());
    world.send_all(entity, &["a", "b", "c", "d"]).unwrap();
    world.send(other, "stays").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive(receiver, 3);
    world.settle(&held[0], Settlement::Abandon { changes: Vec::new() }).unwrap();
    world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    assert_eq!(world.stats("q").dead_letter_count, 1);
    assert!(matches!(delete(&mut world, "q"), Ok(Reply::QueueDeleted)));
    let (receivers, links) = take_closed(&mut world);
    assert_eq!(
        receivers,
        [(1, not_found("q")), (2, not_found("q/$DeadLetterQueue"))],
        "receivers are told"
    );
    let all = ClosedLinks::All;
    let expected = ["q", "q/$DeadLetterQueue", "q/$Transfer/$DeadLetterQueue"];
    let expected: Vec<_> =
        (1..).map(EntityId).zip(expected).map(|(id, path)| (id, all, not_found(path))).collect();
    assert_eq!(links, expected, "and so is everybody else");
    assert_eq!(world.message_rows(), 1);
    assert_eq!(world.trace_rows(), 0);
    assert_eq!(world.state_rows().len(), 7, "three entities of the other queue, and the next id");
    // What was held is held no more, wherever the question comes from.
    let late = world.settle(&held[1], Settlement::Complete).unwrap_err();
    assert!(matches!(late, Error::EntityNotFound(_)), "{late:?}");
    assert!(world.send(entity, "e").is_err());
    assert_eq!(open_sender(&mut world, "q").unwrap_err(), not_found("q"));
    assert_eq!(delete(&mut world, "q").unwrap_err(), not_found("q"));
    world.handle(Command::CloseReceiver { receiver });
    world.pass(Span::from_secs(600));
    world.crash();
    assert_eq!(open_sender(&mut world, "q").unwrap_err(), not_found("q"));
    assert_eq!(create(&mut world, "q", QueueSettings::default()), Ok(EntityId(7)));
    assert_eq!(world.stats("q").active_count, 0);
    assert_eq!(world.stats("other").active_count, 1);
}

#[test]
fn a_queue_that_was_made_and_deleted_in_one_turn_was_never_there() {
    let mut world = World::new(BrokerSettings::default());
    for command in [
        Command::CreateQueue {
            origin: world.origin(),
            path: path("q"),
            settings: QueueSettings::default(),
        },
        Command::Send {
            origin: world.origin(),
            entity: EntityId(1),
            messages: messages(&["a"]),
            transaction: None,
        },
        Command::DeleteQueue { origin: world.origin(), path: path("q") },
    ] {
        world.handle(command);
    }
    world.settle_down();
    assert_eq!(world.rows.len(), 1, "what the next entity gets");
    world.crash();
    assert_eq!(create(&mut world, "q", QueueSettings::default()), Ok(EntityId(4)));
}

#[test]
fn a_crash_before_the_deletion_is_durable_brings_everything_back() {
    let (mut world, entity) =
        World::with_queue(BrokerSettings::default(), QueueSettings::default());
    world.send(entity, "a").unwrap();
    let origin = world.origin();
    world.handle(Command::DeleteQueue { origin, path: path("q") });
    world.turn();
    assert!(world.take_reply(origin).is_none(), "not yet");
    assert_eq!(take_closed(&mut world), (Vec::new(), Vec::new()), "nobody is told too early");
    world.crash();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(receiver, 10)), ["a"]);
}

#[test]
fn reads_under_way_survive_the_deletion_of_what_they_read() {
    let settings = BrokerSettings { cache_bytes_max: 0, ..BrokerSettings::default() };
    let (mut world, entity) = World::with_queue(settings, QueueSettings::default());
    world.send_all(entity, &["a", "b", "c"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive(receiver, 1).remove(0);
    world.reads_wait = true;
    // A page, a body for a settlement, and a look.
    world.handle(Command::Demand { receiver, limit: 3 });
    let (settled, browsed, gone) = (world.origin(), world.origin(), world.origin());
    let token = held.lock.unwrap().token;
    let settlement = Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
    let transaction = None;
    world.handle(Command::Settle { origin: Some(settled), entity, token, settlement, transaction });
    world.handle(Command::Browse {
        origin: browsed,
        entity,
        from: crate::id::SequenceNumber(1),
        count_max: 10,
        bytes_max: 10_000,
        session: None,
    });
    while world.turn() || world.sync_one() {}
    world.handle(Command::DeleteQueue { origin: gone, path: path("q") });
    world.settle_down();
    assert!(world.take_deliveries().is_empty());
    assert!(matches!(world.take_reply(gone), Some(Ok(Reply::QueueDeleted))));
    assert!(matches!(world.take_reply(settled), Some(Err(Error::EntityNotFound(_)))));
    assert!(matches!(world.take_reply(browsed), Some(Ok(Reply::Browsed { .. }))));
    assert_eq!(world.broker.resident_bytes(), 0);
    assert_eq!(world.rows.len(), 1);
}

#[test]
fn status_says_what_clients_may_do() {
    use EntityStatus::{Active, Disabled, ReceiveDisabled, SendDisabled};
    for (status, sends, receives) in [
        (Active, true, true),
        (SendDisabled, false, true),
        (ReceiveDisabled, true, false),
        (Disabled, false, false),
    ] {
        let (mut world, entity) =
            World::with_queue(BrokerSettings::default(), QueueSettings::default());
        world.send_all(entity, &["a", "b"]).unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let held = world.receive_one(receiver, 1);
        let settings = QueueSettings { status, ..QueueSettings::default() };
        update(&mut world, "q", settings).unwrap();
        let (receivers, links) = take_closed(&mut world);
        let gone = if receives { vec![] } else { vec![(1, disabled("q"))] };
        assert_eq!(receivers, gone, "{status:?}");
        let scopes: Vec<_> = links.iter().map(|(_, scope, _)| *scope).collect();
        let expected: &[_] = match status {
            Active | ReceiveDisabled => &[],
            SendDisabled => &[ClosedLinks::Senders; 3],
            Disabled => &[ClosedLinks::All; 3],
        };
        assert_eq!(scopes, expected, "{status:?}");
        world.crash();

        let refused = |sure: bool, result: Result<Reply, Error>| match result {
            Ok(_) => assert!(sure, "{status:?} lets it happen"),
            Err(error) => assert!(!sure && error == disabled("q"), "{status:?}: {error:?}"),
        };
        refused(sends, open_sender(&mut world, "q"));
        refused(sends, world.send(entity, "c"));
        refused(receives, open_receiver(&mut world, 2, "q"));
        let browse = |origin| Command::Browse {
            origin,
            entity,
            from: crate::id::SequenceNumber(1),
            count_max: 1,
            bytes_max: 1,
            session: None,
        };
        refused(receives, world.ask(browse));
        let open = |origin| Command::OpenManagement { origin, path: path("q") };
        refused(status != Disabled, world.ask(open));
        let tokens = vec![held.lock.unwrap().token];
        let renewed = world.ask(|origin| Command::RenewLocks { origin, entity, tokens });
        let lost = if receives { Error::MessageLockLost } else { disabled("q") };
        assert_eq!(renewed.unwrap_err(), lost);
        let dead = open_receiver(&mut world, 3, "q/$DeadLetterQueue");
        assert_eq!(dead.is_ok(), receives, "{status:?}");
    }
}

#[test]
fn messages_wait_while_receiving_is_switched_off() {
    let (mut world, entity) =
        World::with_queue(BrokerSettings::default(), QueueSettings::default());
    let settings = |status| QueueSettings { status, ..QueueSettings::default() };
    update(&mut world, "q", settings(EntityStatus::ReceiveDisabled)).unwrap();
    world.send(entity, "a").unwrap();
    update(&mut world, "q", settings(EntityStatus::Active)).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    assert_eq!(texts(&world.receive(receiver, 10)), ["a"]);
}

#[test]
fn the_quota_counts_everything_a_queue_holds() {
    let settings = QueueSettings { entity_bytes_max: 30, ..QueueSettings::default() };
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), settings.clone());
    // Ten octets each, with the section around them.
    world.send_all(entity, &["aa", "bb", "cc"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive(receiver, 2);
    let dead = Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
    world.settle(&held[0], dead).unwrap();
    let full = Error::EntityFull { path: "q".into(), size: 30, limit: 30 };
    assert_eq!(world.send(entity, "d").unwrap_err(), full);
    assert_eq!(
        full.to_string(),
        "The maximum entity size has been reached or exceeded for Queue: 'q'. Size of entity in \
         bytes:30, Max entity size in bytes:30."
    );
    world.crash();
    assert_eq!(world.send(entity, "d").unwrap_err(), full);
    let described = describe(&mut world, "q").unwrap();
    assert_eq!(
        (described.bytes, described.counts.active, described.counts.dead_letter),
        (30, 2, 1)
    );
    // More room is room at once.
    update(&mut world, "q", QueueSettings { entity_bytes_max: 40, ..settings }).unwrap();
    world.send(entity, "dd").unwrap();
    assert_eq!(world.stats("q").bytes, 40);
}

#[test]
fn a_queue_nobody_uses_is_deleted() {
    let idle = Span::from_secs(300);
    let settings = QueueSettings { auto_delete_on_idle: Some(idle), ..QueueSettings::default() };
    let (mut world, entity) = World::with_queue(BrokerSettings::default(), settings.clone());
    let is_there = |world: &World| world.broker.queue_stats().next().is_some();
    let minutes = |n: u64| Span::from_secs(60 * n);
    // Each of these is use, and so is what is done to a subqueue.
    world.pass(minutes(4));
    world.send(entity, "a").unwrap();
    world.pass(minutes(4));
    world.browse(EntityId(2), 1, 1, 1);
    world.pass(minutes(4));
    update(&mut world, "q", settings.clone()).unwrap();
    world.pass(minutes(4));
    // A receiver that waits uses the queue all the time; a sender that does not send does not.
    let receiver = world.open(1, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    world.pass(minutes(16));
    open_sender(&mut world, "q").unwrap();
    assert!(is_there(&world));
    world.handle(Command::CloseReceiver { receiver });
    world.pass(Span(299_999));
    assert!(is_there(&world));
    world.pass(Span(1));
    assert!(!is_there(&world));
    let (_, links) = take_closed(&mut world);
    assert_eq!(links[0], (entity, ClosedLinks::All, not_found("q")));
    assert_eq!(world.message_rows(), 0);
    assert_eq!(world.rows.len(), 1);
}

#[test]
fn time_in_which_the_broker_was_down_is_not_idle() {
    let idle = Span::from_secs(300);
    let settings = QueueSettings { auto_delete_on_idle: Some(idle), ..QueueSettings::default() };
    let (mut world, _) = World::with_queue(BrokerSettings::default(), settings);
    world.now = world.now.plus(Span::from_secs(3_600));
    world.crash();
    world.pass(Span(0));
    world.pass(Span(299_999));
    assert_eq!(world.broker.queue_stats().count(), 1);
    world.pass(Span(1));
    assert_eq!(world.broker.queue_stats().count(), 0);
}

#[test]
fn the_last_use_is_written_now_and_then() {
    let (mut world, entity) =
        World::with_queue(BrokerSettings::default(), QueueSettings::default());
    let created = world.now;
    let accessed = |world: &mut World| describe(world, "q").unwrap().accessed_at;
    let written = |world: &World| world.broker.durable_state().entities[0].accessed_at;
    world.pass(Span(59_999));
    world.browse(entity, 1, 1, 1);
    assert_eq!((accessed(&mut world), written(&world)), (created.plus(Span(59_999)), created));
    world.pass(Span(1));
    world.browse(entity, 1, 1, 1);
    let noted = created.plus(Span(60_000));
    assert_eq!((accessed(&mut world), written(&world)), (noted, noted));
    world.pass(Span(10));
    world.send(entity, "a").unwrap();
    assert_eq!(written(&world), noted.plus(Span(10)), "written with what is written anyway");
    world.crash();
    assert_eq!(accessed(&mut world), Timestamp(noted.0 + 10));
}

#[test]
fn deletion_lets_go_of_rows_of_every_table() {
    let (mut world, entity) =
        World::with_queue(BrokerSettings::default(), QueueSettings::default());
    world.send(entity, "a").unwrap();
    let mut keys = Vec::new();
    for (table, owner) in [
        (Table::Dedup, entity),
        (Table::State, EntityId(3)),
        (Table::Message, EntityId(2)),
        (Table::Message, EntityId(4)),
    ] {
        let key = peeklock_storage::Key::new().with_u32(owner.0).with_u8(9);
        world.rows.insert((table, key.clone()), bytes::Bytes::new());
        keys.push((table, key));
    }
    delete(&mut world, "q").unwrap();
    let left: Vec<_> = keys.iter().map(|key| world.rows.contains_key(key)).collect();
    assert_eq!((left, world.ranges_removed), (vec![false, false, false, true], 3));
    // A queue that never held anything leaves no ranges behind.
    create(&mut world, "unused", QueueSettings::default()).unwrap();
    delete(&mut world, "unused").unwrap();
    assert_eq!(world.ranges_removed, 3);
}

#[test]
fn a_transaction_with_a_queue_that_is_gone_is_rolled_back() {
    for reading in [false, true] {
        let cache_bytes_max = if reading { 0 } else { 1 << 20 };
        let settings = BrokerSettings { cache_bytes_max, ..BrokerSettings::default() };
        let (mut world, entity) = World::with_queue(settings, QueueSettings::default());
        let other = world.ensure_queue("other", QueueSettings::default());
        world.send(entity, "a").unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let token = world.receive_one(receiver, 1).lock.unwrap().token;
        let declared = world.ask(|origin| Command::Declare { origin }).unwrap();
        let Reply::Declared { transaction: id } = declared else { panic!("{declared:?}") };
        let transaction = Some(Enlistment { transaction: id, answered: true });
        let messages = messages(&["b"]);
        let send = |origin| Command::Send { origin, entity: other, messages, transaction };
        world.ask(send).unwrap();
        let settlement =
            Settlement::DeadLetter { reason: None, description: None, changes: vec![] };
        let settle = |origin| Command::Settle {
            origin: Some(origin),
            entity,
            token,
            settlement,
            transaction,
        };
        world.ask(settle).unwrap();
        world.reads_wait = true;
        let (deleted, discharged) = (world.origin(), world.origin());
        let delete = Command::DeleteQueue { origin: deleted, path: path("q") };
        let discharge = Command::Discharge { origin: discharged, transaction: id, fail: false };
        if reading {
            world.handle(discharge);
            while world.turn() || world.sync_one() {}
            world.handle(delete);
        } else {
            world.handle(delete);
            world.handle(discharge);
        }
        world.settle_down();
        let answer = world.take_reply(discharged);
        let is_rolled_back = matches!(answer, Some(Err(Error::TransactionRolledBack(_))));
        assert!(is_rolled_back, "{answer:?}");
        assert_eq!(world.stats("other").active_count, 0);
        assert_eq!(world.message_rows(), 0);
    }
}
