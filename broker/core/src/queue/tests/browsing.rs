//! Receivers that only look.

use std::collections::BTreeSet;

use super::paging::small;
use super::selecting::{colored, send_colors, settle};
use super::*;
use crate::effect::Delivery;
use crate::filter::SqlFilter;
use crate::testing::Dice;

const PEEK: ReceiveMode = ReceiveMode::PeekLock;

fn look(world: &mut World, link: u64, at: &str, selector: Option<&str>) -> ReceiverId {
    let receiver = ReceiverId { connection: 1, link };
    let path = EntityPath::parse(at).unwrap().path;
    let selector = selector.map(|text| Box::new(SqlFilter::selector(text).unwrap()));
    let open = |origin| Command::OpenBrowser { origin, receiver, path, selector };
    let reply = world.ask(open);
    assert!(matches!(reply, Ok(Reply::ReceiverOpened { .. })), "{reply:?}");
    receiver
}

fn see(world: &mut World, receiver: ReceiverId, limit: u64) -> Vec<Delivery> {
    world.handle(Command::Demand { receiver, limit });
    settle(world);
    world.take_deliveries().into_iter().map(|(_, delivery)| delivery).collect()
}

/// Takes the end of a drain, if it has come.
fn take_drained(world: &mut World, receiver: ReceiverId) -> bool {
    let is_meant = |kind: &EffectKind| matches!(kind, EffectKind::Drained { receiver: one } if *one == receiver);
    let found = world.released.iter().position(is_meant);
    found.map(|at| world.released.remove(at)).is_some()
}

#[test]
fn everything_is_seen_once_in_order_and_nothing_is_touched() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    let receiver = world.open(1, "q", PEEK);
    let locked = world.receive(receiver, 2);
    world.settle(&locked[1], abandon()).unwrap();
    let browser = look(&mut world, 2, "q", None);
    let seen = see(&mut world, browser, 3);
    assert_eq!(texts(&seen), ["a", "b", "c"], "locked ones too");
    assert_eq!(seen.iter().map(|one| one.attempts).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(seen.iter().all(|one| one.lock.is_none()));
    assert_eq!(texts(&see(&mut world, browser, 100)), ["d"]);
    world.send_all(q, &["e", "f"]).unwrap();
    assert_eq!(texts(&see(&mut world, browser, 100)), ["e", "f"], "what comes later, too");
    // What comes back was seen.
    world.settle(&locked[0], abandon()).unwrap();
    assert!(see(&mut world, browser, 100).is_empty());
    let other = look(&mut world, 3, "q", None);
    assert_eq!(see(&mut world, other, 100).len(), 6, "each sees everything");
    let all = world.receive(receiver, 100);
    assert_eq!(texts(&all), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(all.iter().map(|one| one.attempts).collect::<Vec<_>>(), [1, 1, 0, 0, 0, 0]);
    assert_eq!(world.stats("q").active_count, 6);
}

/// Nobody is shown what a crash can take back.
#[test]
fn what_is_not_durable_is_not_shown() {
    let (mut world, q) = world();
    let browser = look(&mut world, 1, "q", None);
    world.handle(Command::Demand { receiver: browser, limit: 10 });
    let origin = world.origin();
    let messages = messages(&["a"]);
    world.handle(Command::Send { origin, entity: q, messages, transaction: None });
    world.turn();
    assert!(world.take_deliveries().is_empty());
    world.settle_down();
    assert_eq!(world.take_deliveries().len(), 1);
}

#[test]
fn a_drain_is_answered_when_everything_was_shown() {
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    let colors: Vec<_> = (0..300).map(|n| if n % 100 == 99 { "red" } else { "blue" }).collect();
    send_colors(&mut world, q, &colors);
    for restart in [false, true] {
        if restart {
            world.crash();
        }
        for (link, selector, count) in [(1, Some("color = 'red'"), 3), (2, None, 300)] {
            let browser = look(&mut world, link, "q", selector);
            world.handle(Command::Drain { receiver: browser, limit: 1_000 });
            settle(&mut world);
            assert!(take_drained(&mut world, browser));
            assert_eq!(world.take_deliveries().len(), count);
            // Demand has ended, until there is more.
            world.send(q, "late").unwrap();
            settle(&mut world);
            assert!(world.take_deliveries().is_empty());
            let origin = world.origin();
            let messages = [colored("late", "red")].into_iter().collect();
            world.handle(Command::Send { origin, entity: q, messages, transaction: None });
            let limit = count as u64 + 10;
            world.handle(Command::Drain { receiver: browser, limit });
            settle(&mut world);
            assert!(take_drained(&mut world, browser));
            let late = world.take_deliveries().len();
            assert_eq!(late, if selector.is_some() { 1 } else { 2 });
            world.handle(Command::CloseReceiver { receiver: browser });
            // As before.
            let receiver = world.open(9, "q", ReceiveMode::ReceiveAndDelete);
            let all = world.receive(receiver, 302);
            assert_eq!(all.len(), 302);
            world.handle(Command::CloseReceiver { receiver });
            send_colors(&mut world, q, &colors);
        }
    }
    // One that has been given all it asked for has drained, too.
    let browser = look(&mut world, 1, "q", None);
    world.handle(Command::Drain { receiver: browser, limit: 2 });
    settle(&mut world);
    assert!(take_drained(&mut world, browser));
    assert_eq!(world.take_deliveries().len(), 2);
    let empty = look(&mut world, 2, "q/$DeadLetterQueue", None);
    world.handle(Command::Drain { receiver: empty, limit: 2 });
    assert!({
        settle(&mut world);
        take_drained(&mut world, empty)
    });
}

/// Dead letters have the numbers they had, so what comes later may belong before what was seen.
#[test]
fn dead_letters_are_seen_whenever_they_come() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c"]).unwrap();
    let receiver = world.open(1, "q", PEEK);
    let locked = world.receive(receiver, 3);
    let browser = look(&mut world, 2, "q/$DeadLetterQueue", None);
    let mut seen = Vec::new();
    for at in [2, 0, 1] {
        world.settle(&locked[at], dead_letter()).unwrap();
        let found = see(&mut world, browser, 10);
        seen.extend(found.iter().map(|one| text(one).to_owned()));
    }
    assert_eq!(seen, ["c", "a", "b"]);
}

#[test]
fn a_store_that_fails_is_asked_again() {
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    for _ in 0..10 {
        send_colors(&mut world, q, &["blue"; 10]);
    }
    world.crash();
    let browser = look(&mut world, 1, "q", None);
    world.reads_fail = true;
    world.handle(Command::Drain { receiver: browser, limit: 10 });
    settle(&mut world);
    assert!(world.take_deliveries().is_empty());
    assert!(take_drained(&mut world, browser), "nobody waits for a store that does not answer");
    world.handle(Command::Demand { receiver: browser, limit: 1_000 });
    settle(&mut world);
    world.reads_fail = false;
    world.pass(Span::from_secs(1));
    settle(&mut world);
    assert_eq!(world.take_deliveries().len(), 100);
}

/// What could not be sent because the client took its credit back.
#[test]
fn what_comes_back_is_shown_again() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c", "d"]).unwrap();
    let browser = look(&mut world, 1, "q", None);
    let seen = see(&mut world, browser, 3);
    for returned in &seen[1..] {
        let sequence = returned.sequence;
        world.handle(Command::ReturnBrowsed { receiver: browser, sequence });
    }
    assert_eq!(texts(&see(&mut world, browser, 4)), ["b"]);
    assert_eq!(texts(&see(&mut world, browser, 10)), ["c", "d"]);
    // What is not below the cursor, or not there any more, means nothing.
    for sequence in [SequenceNumber(5), SequenceNumber(u64::MAX)] {
        world.handle(Command::ReturnBrowsed { receiver: browser, sequence });
    }
    let receiver = world.open(2, "q", PEEK);
    let locked = world.receive(receiver, 1);
    world.settle(&locked[0], Settlement::Complete).unwrap();
    let sequence = locked[0].sequence;
    world.handle(Command::ReturnBrowsed { receiver: browser, sequence });
    world.handle(Command::ReturnBrowsed { receiver, sequence });
    assert!(see(&mut world, browser, 100).is_empty());
}

/// More than a browser has in mind: some are shown twice then, and none is left out.
#[test]
fn whatever_comes_back_is_shown_again() {
    let (mut world, q) = world();
    world.checks = false;
    for _ in 0..10 {
        send_colors(&mut world, q, &["blue"; 500]);
    }
    let browser = look(&mut world, 1, "q", None);
    let seen = see(&mut world, browser, 5_000);
    for returned in &seen {
        let sequence = returned.sequence;
        world.handle(Command::ReturnBrowsed { receiver: browser, sequence });
    }
    let again = see(&mut world, browser, 20_000);
    let all: BTreeSet<_> = again.iter().map(|one| one.sequence).collect();
    assert_eq!((seen.len(), all.len()), (5_000, 5_000));
    assert!(see(&mut world, browser, 30_000).is_empty());
}

#[test]
fn a_turn_of_looking_is_bounded() {
    let (mut world, q) = world();
    world.checks = false;
    for _ in 0..10 {
        send_colors(&mut world, q, &["blue"; 500]);
    }
    let browsers = [
        look(&mut world, 1, "q", None),
        look(&mut world, 2, "q", Some("color = 'red'")),
        look(&mut world, 3, "q", None),
    ];
    for receiver in browsers {
        world.handle(Command::Demand { receiver, limit: 4_000 });
    }
    world.settle_down();
    let seen = world.take_deliveries().len();
    assert!((500..5_000).contains(&seen), "{seen} in the first turns");
    world.pass(Span(0));
    assert_eq!(seen + world.take_deliveries().len(), 8_000);
}

#[test]
fn who_may_not_receive_may_not_look() {
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    let (mut world, q) = World::with_queue(BrokerSettings::default(), settings.clone());
    let open = |origin, at: &str| Command::OpenBrowser {
        origin,
        receiver: ReceiverId { connection: 1, link: 1 },
        path: EntityPath::parse(at).unwrap().path,
        selector: None,
    };
    let refused = world.ask(|origin| open(origin, "q"));
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
    let refused = world.ask(|origin| open(origin, "nowhere"));
    assert!(matches!(refused, Err(Error::EntityNotFound(_))), "{refused:?}");
    // Its dead letters are of no session; they go with the queue.
    let browser = look(&mut world, 1, "q/$DeadLetterQueue", None);
    let again = world.ask(|origin| open(origin, "q/$DeadLetterQueue"));
    assert!(matches!(again, Err(Error::InvalidArgument(_))), "{again:?}");
    let path = EntityPath::parse("q").unwrap().path;
    world.ask(|origin| Command::DeleteQueue { origin, path }).unwrap();
    let closed = world.released.iter().any(
        |kind| matches!(kind, EffectKind::ReceiverClosed { receiver, .. } if *receiver == browser),
    );
    assert!(closed);
    assert!(world.send(q, "x").is_err());
}

/// Whatever happens meanwhile: nobody is shown a message twice, everybody is shown what is there in
/// the end, and in queues in the order of the numbers, but for what comes back.
#[test]
fn a_history_leaves_no_message_out_and_shows_none_twice() {
    for seed in 1..=60 {
        history(seed, false);
        history(seed, true);
    }
}

fn history(seed: u64, some_come_back: bool) {
    let mut dice = Dice::new(seed);
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    let bodies: Vec<String> = (0..dice.below(300)).map(|n| n.to_string()).collect();
    for body in &bodies {
        world.send(q, body).unwrap();
    }
    world.crash();
    world.reads_wait = true;
    let receiver = world.open(1, "q", PEEK);
    let browsers: Vec<_> = (2..6)
        .map(|link| {
            look(&mut world, link, if link == 5 { "q/$DeadLetterQueue" } else { "q" }, None)
        })
        .collect();
    let mut seen = vec![Vec::new(); browsers.len()];
    let mut held: Vec<Delivery> = Vec::new();
    let mut given = 0;
    let mut take =
        |world: &mut World, held: &mut Vec<Delivery>, returned: &mut dyn FnMut() -> bool| {
            let mut count = 0;
            for (to, delivery) in world.take_deliveries() {
                match browsers.iter().position(|one| *one == to) {
                    Some(_) if returned() => {
                        let sequence = delivery.sequence;
                        world.handle(Command::ReturnBrowsed { receiver: to, sequence });
                    }
                    Some(at) => seen[at].push(delivery.sequence),
                    None => held.push(delivery),
                }
                count += u64::from(to == receiver);
            }
            given += count;
            given
        };
    for _ in 0..400 {
        let mut returned = || some_come_back && dice.percent(20);
        let so_far = take(&mut world, &mut held, &mut returned);
        match dice.below(10) {
            0..=2 => {
                let origin = world.origin();
                let messages = messages(&["x"]);
                world.handle(Command::Send { origin, entity: q, messages, transaction: None });
            }
            3 => {
                let limit = so_far + dice.below(5) as u64;
                world.handle(Command::Demand { receiver, limit });
            }
            4..=5 if !held.is_empty() => {
                let delivery = held.swap_remove(dice.below(held.len()));
                let settlement = match dice.below(4) {
                    0 => Settlement::Complete,
                    1 => abandon(),
                    _ => dead_letter(),
                };
                let (entity, token) = (delivery.entity, delivery.lock.unwrap().token);
                let (origin, transaction) = (None, None);
                world.handle(Command::Settle { origin, entity, token, settlement, transaction });
            }
            6 => {
                let receiver = browsers[dice.below(browsers.len())];
                let limit = dice.below(600) as u64;
                world.handle(if dice.percent(50) {
                    Command::Demand { receiver, limit }
                } else {
                    Command::Drain { receiver, limit }
                });
            }
            7..=8 => {
                world.answer_read(dice.below(3));
            }
            _ => world.settle_down(),
        }
    }
    world.reads_wait = false;
    while world.answer_read(0) {}
    world.handle(Command::Demand { receiver, limit: 0 });
    for receiver in &browsers {
        world.handle(Command::Demand { receiver: *receiver, limit: 10_000 });
    }
    settle(&mut world);
    take(&mut world, &mut held, &mut || false);
    for (at, seen) in seen.iter().enumerate() {
        let is_dead = at == 3;
        let all: BTreeSet<_> = seen.iter().copied().collect();
        assert_eq!(all.len(), seen.len(), "seed {seed}: none twice");
        assert!(is_dead || some_come_back || seen.is_sorted(), "seed {seed}: in order");
        let entity = if is_dead { EntityId(q.0 + 1) } else { q };
        for there in world.browse(entity, 0, 1_000, usize::MAX) {
            assert!(all.contains(&there.sequence), "seed {seed}: {} left out", there.sequence);
        }
    }
}

#[test]
fn octets_bound_what_is_seen() {
    let (mut world, q) = world();
    world.send_all(q, &["a", "b", "c"]).unwrap();
    let browser = look(&mut world, 1, "q", None);
    world.handle(Command::DemandBytes { receiver: browser, limit: 1 });
    assert_eq!(texts(&see(&mut world, browser, 100)), ["a"]);
    world.handle(Command::DemandBytes { receiver: browser, limit: u64::MAX });
    assert_eq!(texts(&see(&mut world, browser, 100)), ["b", "c"]);
}
