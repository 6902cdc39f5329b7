//! What clients see of transactions.

use crate::command::{Command, Enlistment, ReceiveMode, Settlement};
use crate::effect::{Delivery, EffectKind, Reply};
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, Origin, TransactionId};
use crate::testing::{World, messages, text, texts};
use crate::time::Span;

const LOCK: Span = Span::from_secs(60);

/// Two queues.
fn world() -> (World, EntityId, EntityId) {
    world_with(BrokerSettings::default(), QueueSettings::default())
}

fn world_with(settings: BrokerSettings, queue: QueueSettings) -> (World, EntityId, EntityId) {
    let (mut world, q) = World::with_queue(settings, queue);
    let other = world.ensure_queue("other", QueueSettings::default());
    (world, q, other)
}

fn declare(world: &mut World) -> TransactionId {
    match world.ask(|origin| Command::Declare { origin }) {
        Ok(Reply::Declared { transaction }) => transaction,
        other => panic!("{other:?}"),
    }
}

const fn answered(transaction: TransactionId) -> Enlistment {
    Enlistment { transaction, answered: true }
}

fn send(
    world: &mut World,
    transaction: TransactionId,
    entity: EntityId,
    bodies: &[&str],
) -> Result<Reply, Error> {
    let (messages, transaction) = (messages(bodies), Some(answered(transaction)));
    world.ask(|origin| Command::Send { origin, entity, messages, transaction })
}

fn settle(
    world: &mut World,
    transaction: TransactionId,
    delivery: &Delivery,
    settlement: Settlement,
) -> Result<Reply, Error> {
    settle_as(world, answered(transaction), delivery, settlement)
}

/// The same for a client that settles first, and so has done with the delivery.
fn settle_first(
    world: &mut World,
    transaction: TransactionId,
    delivery: &Delivery,
) -> Result<Reply, Error> {
    let part = Enlistment { transaction, answered: false };
    settle_as(world, part, delivery, Settlement::Complete)
}

fn settle_as(
    world: &mut World,
    part: Enlistment,
    delivery: &Delivery,
    settlement: Settlement,
) -> Result<Reply, Error> {
    let (entity, token) = (delivery.entity, delivery.lock.unwrap().token);
    world.ask(|origin| Command::Settle {
        origin: Some(origin),
        entity,
        token,
        settlement,
        transaction: Some(part),
    })
}

fn discharge(world: &mut World, transaction: TransactionId, fail: bool) -> Result<Reply, Error> {
    world.ask(|origin| Command::Discharge { origin, transaction, fail })
}

fn drained(world: &mut World, link: u64, address: &str) -> Vec<String> {
    let receiver = world.open(link, address, ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 1000);
    world.handle(Command::CloseReceiver { receiver });
    deliveries.iter().map(|delivery| text(delivery).to_owned()).collect()
}

fn abandon() -> Settlement {
    Settlement::Abandon { changes: Vec::new() }
}

fn dead_letter() -> Settlement {
    Settlement::DeadLetter { reason: Some("why".into()), description: None, changes: Vec::new() }
}

#[test]
fn a_commit_does_everything_at_once() {
    let (mut world, q, other) = world();
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let got = world.receive(receiver, 4);
    let transaction = declare(&mut world);
    for (delivery, settlement) in
        got.iter().zip([Settlement::Complete, abandon(), dead_letter(), Settlement::Release])
    {
        let reply = settle(&mut world, transaction, delivery, settlement);
        assert!(matches!(reply, Ok(Reply::Enlisted)), "{reply:?}");
    }
    assert!(matches!(send(&mut world, transaction, q, &["e"]), Ok(Reply::Enlisted)));
    assert!(matches!(send(&mut world, transaction, other, &["x", "y"]), Ok(Reply::Enlisted)));
    assert_eq!((world.stats("q").active_count, world.stats("q").locked_count), (4, 4));
    assert_eq!(world.stats("other").active_count, 0);

    assert!(matches!(discharge(&mut world, transaction, false), Ok(Reply::Discharged)));
    assert_eq!(drained(&mut world, 2, "q"), ["b", "d", "e"]);
    assert_eq!(drained(&mut world, 3, "q/$DeadLetterQueue"), ["c"]);
    assert_eq!(drained(&mut world, 4, "other"), ["x", "y"]);
    assert_eq!(discharge(&mut world, transaction, false).unwrap_err(), Error::TransactionUnknown);
}

#[test]
fn a_commit_is_one_batch_and_answered_when_it_is_durable() {
    let (mut world, q, other) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &delivery, Settlement::Complete).unwrap();
    send(&mut world, transaction, other, &["x"]).unwrap();
    let origin = world.origin();
    world.handle(Command::Discharge { origin, transaction, fail: false });
    world.turn();
    assert!(world.take_reply(origin).is_none(), "not durable yet");
    assert!(world.sync_one());
    assert!(matches!(world.take_reply(origin), Some(Ok(Reply::Discharged))));
    assert!(!world.sync_one(), "there was one batch");
}

#[test]
fn a_crash_leaves_all_or_nothing() {
    for (durable, left) in [(false, (vec!["a"], vec![])), (true, (vec![], vec!["x"]))] {
        let (mut world, q, other) = world();
        world.send(q, "a").unwrap();
        let receiver = world.open(1, "q", ReceiveMode::PeekLock);
        let delivery = world.receive_one(receiver, 1);
        let transaction = declare(&mut world);
        settle(&mut world, transaction, &delivery, Settlement::Complete).unwrap();
        send(&mut world, transaction, other, &["x"]).unwrap();
        let origin = world.origin();
        world.handle(Command::Discharge { origin, transaction, fail: false });
        world.turn();
        if durable {
            world.sync_one();
        }
        world.crash();
        assert_eq!((drained(&mut world, 2, "q"), drained(&mut world, 3, "other")), {
            let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
            (owned(left.0), owned(left.1))
        });
        assert_eq!(world.message_rows() + world.trace_rows(), 0);
    }
}

#[test]
fn a_roll_back_forgets_sends_and_gives_the_locks_back() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 5);
    let until = delivery.lock.unwrap().until;
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &delivery, Settlement::Complete).unwrap();
    send(&mut world, transaction, q, &["b"]).unwrap();
    world.pass(Span::from_secs(20));
    assert!(matches!(discharge(&mut world, transaction, true), Ok(Reply::Discharged)));
    assert!(world.take_deliveries().is_empty(), "the message is still locked");
    assert_eq!(world.stats("q").active_count, 1);
    // The lock's time went on.
    world.pass(Span::from_secs(39));
    assert!(world.now < until);
    assert!(matches!(world.settle(&delivery, Settlement::Complete), Ok(Reply::Settled)));
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn an_enlisted_lock_is_settled_by_its_transaction_alone() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 5);
    let (transaction, other) = (declare(&mut world), declare(&mut world));
    settle(&mut world, transaction, &delivery, Settlement::Complete).unwrap();
    let refused = |result: Result<Reply, Error>| matches!(result, Err(Error::NotAllowed(_)));
    assert!(refused(world.settle(&delivery, Settlement::Complete)));
    assert!(refused(settle(&mut world, other, &delivery, abandon())));
    assert!(refused(settle(&mut world, transaction, &delivery, abandon())));
    let tokens = vec![delivery.lock.unwrap().token];
    let reply = world.ask(|origin| Command::RenewLocks { origin, entity: q, tokens });
    assert!(matches!(reply, Ok(Reply::Renewed { .. })), "renewing goes on");
    assert!(refused(world.settle(&delivery, Settlement::Complete)));
    assert!(matches!(discharge(&mut world, other, false), Ok(Reply::Discharged)));
    assert!(matches!(discharge(&mut world, transaction, false), Ok(Reply::Discharged)));
    assert_eq!(world.message_rows(), 0);
}

#[test]
fn a_lock_that_ends_before_the_commit_rolls_everything_back() {
    let (mut world, q, other) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let [a, b] = world.receive(receiver, 2).try_into().unwrap();
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &a, Settlement::Complete).unwrap();
    settle(&mut world, transaction, &b, Settlement::Complete).unwrap();
    send(&mut world, transaction, other, &["x"]).unwrap();
    world.pass(Span::from_secs(30));
    let tokens = vec![b.lock.unwrap().token];
    world.ask(|origin| Command::RenewLocks { origin, entity: q, tokens }).unwrap();
    world.pass(Span::from_secs(30));
    let result = discharge(&mut world, transaction, false);
    let Err(Error::TransactionRolledBack(text)) = result else { panic!("{result:?}") };
    assert!(text.contains("lock"), "{text}");
    assert_eq!(world.stats("other").active_count, 0);
    // The lock that was renewed is free for its holder, the other message is ready again.
    assert!(matches!(world.settle(&b, Settlement::Complete), Ok(Reply::Settled)));
    assert_eq!(drained(&mut world, 2, "q"), ["a"]);
}

#[test]
fn a_settlement_that_could_not_be_is_refused_at_once() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 5);
    world.settle(&delivery, dead_letter()).unwrap();
    let graves = world.open(2, "q/$DeadLetterQueue", ReceiveMode::PeekLock);
    let grave = world.receive_one(graves, 1);
    let transaction = declare(&mut world);
    let twice = settle(&mut world, transaction, &grave, dead_letter());
    assert!(matches!(twice, Err(Error::NotAllowed(_))), "{twice:?}");
    let gone = settle(&mut world, transaction, &delivery, Settlement::Complete);
    assert_eq!(gone.unwrap_err(), Error::MessageLockLost);
    // Neither took part, so the transaction goes on without them.
    assert!(matches!(discharge(&mut world, transaction, false), Ok(Reply::Discharged)));
    assert!(matches!(world.settle(&grave, Settlement::Complete), Ok(Reply::Settled)));
}

#[test]
fn several_locks_are_enlisted_together_or_not_at_all() {
    let (mut world, q, _) = world();
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let [a, b] = world.receive(receiver, 2).try_into().unwrap();
    let tokens = [&a, &b, &a].map(|delivery| delivery.lock.unwrap().token).to_vec();
    let transaction = declare(&mut world);
    let update = |tokens, transaction| {
        move |origin| Command::UpdateDisposition {
            origin,
            entity: q,
            tokens,
            settlement: Settlement::Complete,
            session: None,
            transaction: Some(transaction),
        }
    };
    world.settle(&b, abandon()).unwrap();
    let reply = world.ask(update(tokens, transaction));
    assert_eq!(reply.unwrap_err(), Error::MessageLockLost);
    let reply = world.ask(update(vec![a.lock.unwrap().token], transaction));
    assert!(matches!(reply, Ok(Reply::Enlisted)));
    discharge(&mut world, transaction, false).unwrap();
    assert_eq!(drained(&mut world, 2, "q"), ["b"]);
}

#[test]
fn a_transaction_lasts_two_minutes() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let first = declare(&mut world);
    world.pass(Span::from_secs(119));
    let delivery = world.receive_one(receiver, 1);
    settle(&mut world, first, &delivery, Settlement::Complete).unwrap();
    send(&mut world, first, q, &["b"]).unwrap();
    let second = declare(&mut world);
    assert_eq!(world.broker.next_deadline(), Some(world.now.plus(Span::from_secs(1))));
    world.pass(Span::from_secs(1));
    assert!(matches!(world.settle(&delivery, Settlement::Complete), Ok(Reply::Settled)));
    for reply in [
        send(&mut world, first, q, &["c"]),
        settle(&mut world, first, &delivery, Settlement::Complete),
        discharge(&mut world, first, false),
        discharge(&mut world, first, true),
    ] {
        assert_eq!(reply.unwrap_err(), Error::TransactionTimeout);
    }
    assert!(matches!(send(&mut world, second, q, &["d"]), Ok(Reply::Enlisted)));
    assert!(matches!(discharge(&mut world, second, false), Ok(Reply::Discharged)));
    assert_eq!(drained(&mut world, 2, "q"), ["d"]);
}

#[test]
fn time_is_over_even_before_the_timer_fires() {
    let (mut world, q, _) = world();
    let transaction = declare(&mut world);
    send(&mut world, transaction, q, &["a"]).unwrap();
    world.now = world.now.plus(Span::from_secs(120));
    assert_eq!(discharge(&mut world, transaction, false).unwrap_err(), Error::TransactionTimeout);
    assert_eq!(world.stats("q").active_count, 0);
}

#[test]
fn a_transaction_belongs_to_its_connection() {
    let (mut world, q, _) = world();
    let transaction = declare(&mut world);
    let foreign = Origin { connection: 2, link: 1, delivery: 1 };
    let of_others = [
        Command::Send {
            origin: foreign,
            entity: q,
            messages: messages(&["x"]),
            transaction: Some(answered(transaction)),
        },
        Command::Discharge { origin: foreign, transaction, fail: false },
    ];
    for command in of_others {
        world.handle(command);
        world.settle_down();
        let reply = world.take_reply(foreign).unwrap();
        assert_eq!(reply.unwrap_err(), Error::TransactionUnknown);
    }
    // Other links of the connection may use it, also after its time to be told so.
    let second_link = Origin { connection: 1, link: 9, delivery: 1 };
    let messages = messages(&["y"]);
    let send = Command::Send {
        origin: second_link,
        entity: q,
        messages,
        transaction: Some(answered(transaction)),
    };
    world.handle(send);
    world.settle_down();
    assert!(matches!(world.take_reply(second_link), Some(Ok(Reply::Enlisted))));
    world.pass(Span::from_secs(120));
    world.handle(Command::Discharge { origin: foreign, transaction, fail: true });
    world.settle_down();
    let reply = world.take_reply(foreign).unwrap();
    assert_eq!(reply.unwrap_err(), Error::TransactionUnknown);
}

#[test]
fn a_coordinator_link_that_goes_takes_its_transactions_with_it() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 5);
    let here = declare(&mut world);
    let elsewhere = Origin { connection: 1, link: 8, delivery: 1 };
    world.handle(Command::Declare { origin: elsewhere });
    world.settle_down();
    let Some(Ok(Reply::Declared { transaction: there })) = world.take_reply(elsewhere) else {
        panic!("not declared")
    };
    settle(&mut world, here, &delivery, Settlement::Complete).unwrap();
    send(&mut world, here, q, &["b"]).unwrap();
    send(&mut world, there, q, &["c"]).unwrap();
    world.handle(Command::CloseCoordinator { connection: 1, link: 1 });
    assert_eq!(discharge(&mut world, here, false).unwrap_err(), Error::TransactionUnknown);
    assert!(matches!(world.settle(&delivery, Settlement::Complete), Ok(Reply::Settled)));
    assert!(matches!(discharge(&mut world, there, false), Ok(Reply::Discharged)));
    assert_eq!(drained(&mut world, 2, "q"), ["c"]);
}

#[test]
fn a_queue_that_fills_up_before_the_commit_rolls_everything_back() {
    let queue = QueueSettings { entity_bytes_max: 100, ..QueueSettings::default() };
    let (mut world, q, other) = world_with(BrokerSettings::default(), queue);
    let transaction = declare(&mut world);
    let half = "h".repeat(42);
    send(&mut world, transaction, other, &["x"]).unwrap();
    send(&mut world, transaction, q, &[&half]).unwrap();
    let reply = send(&mut world, transaction, q, &[&"h".repeat(100)]);
    assert!(matches!(reply, Err(Error::EntityFull { .. })), "{reply:?}");
    // Two halves fit, three do not, whoever sends them.
    send(&mut world, transaction, q, &[&half]).unwrap();
    world.send(q, &half).unwrap();
    let reply = discharge(&mut world, transaction, false);
    assert!(matches!(reply, Err(Error::TransactionRolledBack(_))), "{reply:?}");
    assert_eq!((world.stats("q").active_count, world.stats("other").active_count), (1, 0));
}

#[test]
fn limits_hold() {
    let settings = BrokerSettings {
        transaction_messages_max: 3,
        transaction_bytes_max: 1000,
        transactions_bytes_max: 4000,
        connection_transactions_max: 2,
        transactions_max: 3,
        tokens_max: 2,
        ..BrokerSettings::default()
    };
    let (mut world, q, _) = world_with(settings, QueueSettings::default());
    let (first, second) = (declare(&mut world), declare(&mut world));
    let third = world.ask(|origin| Command::Declare { origin });
    assert!(matches!(third, Err(Error::NotAllowed(_))), "{third:?}");
    let [b, c] = [2, 3].map(|connection| Origin { connection, link: 1, delivery: 1 });
    for (origin, is_open) in [(b, true), (c, false)] {
        world.handle(Command::Declare { origin });
        world.settle_down();
        let reply = world.take_reply(origin).unwrap();
        let expected = if is_open {
            matches!(reply, Ok(Reply::Declared { .. }))
        } else {
            matches!(reply, Err(Error::ServerBusy(_)))
        };
        assert!(expected, "{reply:?}");
    }

    send(&mut world, first, q, &["a", "b"]).unwrap();
    let fourth = send(&mut world, first, q, &["c", "d"]);
    assert!(matches!(fourth, Err(Error::NotAllowed(_))), "{fourth:?}");
    let large = send(&mut world, first, q, &[&"c".repeat(600)]);
    assert!(matches!(large, Err(Error::NotAllowed(_))), "{large:?}");
    let alone = send(&mut world, second, q, &[&"c".repeat(3000)]);
    assert!(matches!(alone, Ok(Reply::Enlisted)), "{alone:?}");
    let too_much = send(&mut world, first, q, &["c"]);
    assert!(matches!(too_much, Err(Error::ServerBusy(_))), "{too_much:?}");
    discharge(&mut world, second, true).unwrap();
    assert!(matches!(send(&mut world, first, q, &["c"]), Ok(Reply::Enlisted)));
    discharge(&mut world, first, false).unwrap();

    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let got = world.receive(receiver, 3);
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &got[0], Settlement::Complete).unwrap();
    settle(&mut world, transaction, &got[1], Settlement::Complete).unwrap();
    let third = settle(&mut world, transaction, &got[2], Settlement::Complete);
    assert!(matches!(third, Err(Error::NotAllowed(_))), "{third:?}");
}

/// A world in which bodies of locked messages are not kept, with two of them locked.
fn frugal() -> (World, EntityId, Vec<Delivery>) {
    let settings = BrokerSettings { cache_bytes_max: 0, ..BrokerSettings::default() };
    let (mut world, q, _) = world_with(settings, QueueSettings::default());
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let mut got = world.receive(receiver, 1);
    got.extend(world.receive(receiver, 2));
    assert_eq!(texts(&got), ["a", "b"]);
    (world, q, got)
}

#[test]
fn a_commit_waits_for_bodies() {
    let (mut world, q, got) = frugal();
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &got[0], dead_letter()).unwrap();
    settle(&mut world, transaction, &got[1], dead_letter()).unwrap();
    send(&mut world, transaction, q, &["c"]).unwrap();
    world.reads_wait = true;
    let origin = world.origin();
    world.handle(Command::Discharge { origin, transaction, fail: false });
    while world.turn() || world.sync_one() {}
    assert!(world.take_reply(origin).is_none(), "it waits for the store");
    assert_eq!(world.stats("q").active_count, 2, "nothing was done");
    let used = send(&mut world, transaction, q, &["d"]);
    assert_eq!(used.unwrap_err(), Error::TransactionUnknown);
    // Its link may go now: it is decided that it shall be committed.
    world.handle(Command::CloseCoordinator { connection: 1, link: 1 });
    world.reads_wait = false;
    world.settle_down();
    assert_eq!(drained(&mut world, 2, "q"), ["c"]);
    assert_eq!(drained(&mut world, 3, "q/$DeadLetterQueue"), ["a", "b"]);
}

#[test]
fn a_commit_whose_read_fails_or_comes_too_late_is_rolled_back() {
    for late in [false, true] {
        let (mut world, _, got) = frugal();
        let transaction = declare(&mut world);
        settle(&mut world, transaction, &got[0], dead_letter()).unwrap();
        world.reads_wait = true;
        let origin = world.origin();
        world.handle(Command::Discharge { origin, transaction, fail: false });
        while world.turn() || world.sync_one() {}
        world.reads_fail = !late;
        if late {
            world.now = world.now.plus(LOCK);
            world.handle(Command::Tick);
        }
        assert!(world.answer_read(0));
        let reply = world.take_reply(origin).or_else(|| {
            world.turn();
            world.take_reply(origin)
        });
        assert!(matches!(reply, Some(Err(Error::TransactionRolledBack(_)))), "{reply:?}");
        world.reads_fail = false;
        world.reads_wait = false;
        world.settle_down();
        assert_eq!(world.stats("q").dead_letter_count, 0);
        let free = world.settle(&got[0], Settlement::Complete);
        assert_eq!(free.is_ok(), !late, "{free:?}");
    }
}

#[test]
fn a_receiver_that_goes_does_not_end_the_transaction() {
    let (mut world, q, _) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    let transaction = declare(&mut world);
    settle(&mut world, transaction, &delivery, Settlement::Complete).unwrap();
    world.handle(Command::CloseReceiver { receiver });
    assert!(matches!(discharge(&mut world, transaction, false), Ok(Reply::Discharged)));
    assert_eq!(world.message_rows(), 0);
    assert_eq!(world.broker.counters().transactions_committed, 1);
    assert!(world.released.iter().all(|kind| !matches!(kind, EffectKind::Deliver { .. })));
}

#[test]
fn a_refusal_that_nobody_hears_of_spoils_the_transaction() {
    let (mut world, q, other) = world();
    world.send(q, "a").unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, abandon()).unwrap();
    let transaction = declare(&mut world);
    send(&mut world, transaction, other, &["x"]).unwrap();
    let (entity, token) = (q, delivery.lock.unwrap().token);
    let lost = world.ask(|origin| Command::Settle {
        origin: Some(origin),
        entity,
        token,
        settlement: Settlement::Complete,
        transaction: Some(Enlistment { transaction, answered: false }),
    });
    assert_eq!(lost.unwrap_err(), Error::MessageLockLost);
    let reply = discharge(&mut world, transaction, false);
    assert!(matches!(reply, Err(Error::TransactionRolledBack(_))), "{reply:?}");
    assert_eq!(world.stats("other").active_count, 0);
}

/// They would be locked until the lock ends, out of reach of the client that has rolled back.
#[test]
fn what_was_settled_first_is_free_after_a_roll_back() {
    let queue = QueueSettings { attempts_max: 3, ..QueueSettings::default() };
    let (mut world, q, _) = world_with(BrokerSettings::default(), queue);
    world.send_all(q, &["a", "b"]).unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    for count in 0..3_u32 {
        let got = world.receive(receiver, 2 * (u64::from(count) + 1));
        let counts: Vec<_> = got.iter().map(|one| (text(one), one.attempts)).collect();
        // What is answered is still the client's to settle.
        assert_eq!(counts, [("a", count), ("b", 0)]);
        let transaction = declare(&mut world);
        settle_first(&mut world, transaction, &got[0]).unwrap();
        settle(&mut world, transaction, &got[1], Settlement::Complete).unwrap();
        match count {
            0 => assert!(matches!(discharge(&mut world, transaction, true), Ok(Reply::Discharged))),
            1 => world.handle(Command::CloseCoordinator { connection: 1, link: 1 }),
            _ => {
                let stranger = world.settle(&got[0], Settlement::Complete);
                assert!(matches!(stranger, Err(Error::NotAllowed(_))), "{stranger:?}");
                send(&mut world, transaction, q, &["x"]).unwrap();
                let lost = settle_first(&mut world, transaction, &got[0]);
                assert!(lost.is_err(), "it is in the transaction already");
                let reply = discharge(&mut world, transaction, false);
                assert!(matches!(reply, Err(Error::TransactionRolledBack(_))), "{reply:?}");
            }
        }
        world.settle_down();
        world.settle(&got[1], Settlement::Release).unwrap();
    }
    // The third delivery was the last.
    assert_eq!(drained(&mut world, 2, "q"), ["b"]);
    assert_eq!(drained(&mut world, 3, "q/$DeadLetterQueue"), ["a"]);
}

#[test]
fn a_transaction_that_is_spoilt_can_only_be_rolled_back() {
    let (mut world, q, _) = world();
    for (connection, is_spoilt) in [(1, true), (2, false)] {
        let transaction = declare(&mut world);
        send(&mut world, transaction, q, &["a"]).unwrap();
        world.handle(Command::Spoil { connection, transaction, why: "too large".into() });
        match discharge(&mut world, transaction, false) {
            Err(error) => assert_eq!(
                (error, is_spoilt),
                (Error::TransactionRolledBack("too large".into()), true)
            ),
            Ok(reply) => assert!(matches!(reply, Reply::Discharged) && !is_spoilt),
        }
    }
    assert_eq!(drained(&mut world, 1, "q"), ["a"]);
    // One that is not open any more.
    world.handle(Command::Spoil { connection: 1, transaction: TransactionId(1), why: "x".into() });
}
