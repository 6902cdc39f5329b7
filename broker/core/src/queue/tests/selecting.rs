//! Receivers with selectors beside receivers without.

use peeklock_protocol::message::Message;
use peeklock_protocol::value::{Map, Value};

use super::paging::{SMALL_MEMORY_MAX, small};
use super::*;
use crate::effect::Delivery;
use crate::filter::SqlFilter;
use crate::message::IncomingMessage;
use crate::testing::wire_message;
use crate::topic::command::TopicCommand;
use crate::topic::settings::TopicSettings;

const PEEK: ReceiveMode = ReceiveMode::PeekLock;
const DELETE: ReceiveMode = ReceiveMode::ReceiveAndDelete;

pub(super) fn colored(body: &str, color: &str) -> IncomingMessage {
    let properties = Map::new().with("color", Value::from(color));
    let head = Message::default().with_application_properties(properties);
    let wire = [&head.to_bytes()[..], &wire_message(body.as_bytes())].concat();
    IncomingMessage::from_wire(&wire).unwrap()
}

/// Sends messages whose colors these are, each with its place as the body.
pub(super) fn send_colors(world: &mut World, entity: EntityId, colors: &[&str]) {
    let messages =
        colors.iter().enumerate().map(|(n, color)| colored(&n.to_string(), color)).collect();
    let send = |origin| Command::Send { origin, entity, messages, transaction: None };
    assert!(matches!(world.ask(send), Ok(Reply::Accepted)));
}

fn select(world: &mut World, link: u64, at: &str, mode: ReceiveMode, text: &str) -> ReceiverId {
    let receiver = ReceiverId { connection: 1, link };
    let path = EntityPath::parse(at).unwrap().path;
    let selector = Box::new(SqlFilter::selector(text).unwrap());
    let open = |origin| Command::OpenSelectingReceiver { origin, receiver, path, mode, selector };
    assert!(matches!(world.ask(open), Ok(Reply::ReceiverOpened { .. })));
    receiver
}

/// Goes on until nothing is due at once any more.
pub(super) fn settle(world: &mut World) {
    world.settle_down();
    world.pass(Span(0));
}

fn receive(world: &mut World, receiver: ReceiverId, limit: u64) -> Vec<Delivery> {
    world.handle(Command::Demand { receiver, limit });
    settle(world);
    world.take_deliveries().into_iter().map(|(_, delivery)| delivery).collect()
}

#[test]
fn a_receiver_gets_what_its_selector_lets_through_and_the_rest_stays_untouched() {
    let (mut world, q) = world();
    let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
    world.handle(Command::Demand { receiver: red, limit: 100 });
    send_colors(&mut world, q, &["blue", "red", "blue", "red", "red", "blue"]);
    let reds = receive(&mut world, red, 100);
    assert_eq!(texts(&reds), ["1", "3", "4"]);
    assert_eq!(world.stats("q").locked_count, 3);
    let all = world.open(2, "q", PEEK);
    let others = receive(&mut world, all, 100);
    assert_eq!(texts(&others), ["0", "2", "5"]);
    assert!(others.iter().all(|delivery| delivery.attempts == 0));
}

/// What a selector keeps from one receiver, another gets; nobody's turn is lost to one who has no use
/// for what is there.
#[test]
fn receivers_with_and_without_selectors_take_turns() {
    let (mut world, q) = world();
    let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
    let other_red = select(&mut world, 2, "q", PEEK, "color='red'");
    let blue = select(&mut world, 3, "q", PEEK, "color = 'blue'");
    let all = world.open(4, "q", PEEK);
    for receiver in [red, other_red, blue, all] {
        world.handle(Command::Demand { receiver, limit: 1_000 });
    }
    let mut got = std::collections::BTreeMap::<ReceiverId, Vec<String>>::new();
    for _ in 0..100 {
        send_colors(&mut world, q, &["red", "red", "blue", "green"]);
        for (receiver, delivery) in world.take_deliveries() {
            let body = text(&delivery).to_owned();
            assert!(match body.as_str() {
                "0" | "1" => receiver != blue,
                "2" => receiver == blue || receiver == all,
                _ => receiver == all,
            });
            got.entry(receiver).or_default().push(body);
        }
    }
    let counts: Vec<_> = got.values().map(Vec::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 400);
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}

#[test]
fn messages_that_come_back_are_selected_again() {
    let (mut world, q) = world();
    send_colors(&mut world, q, &["blue", "red", "red", "red", "red"]);
    let red = select(&mut world, 1, "q", PEEK, "color = 'red' AND JMSXDeliveryCount < 2");
    let first = receive(&mut world, red, 3);
    assert_eq!(texts(&first), ["1", "2", "3"]);
    world.settle(&first[1], abandon()).unwrap();
    world.settle(&first[0], Settlement::Release).unwrap();
    let again = receive(&mut world, red, 5);
    assert_eq!(texts(&again), ["1", "2"], "in their order, before what was not looked at");
    assert_eq!((again[0].attempts, again[1].attempts), (0, 1));
    world.settle(&again[1], abandon()).unwrap();
    // A lock that ends counts, too: the third failure makes it somebody else's.
    world.pass(LOCK);
    assert_eq!(texts(&receive(&mut world, red, 100)), ["1", "3", "4"]);
    let all = world.open(2, "q", PEEK);
    let rest = receive(&mut world, all, 100);
    assert_eq!(texts(&rest), ["0", "2"]);
    assert_eq!(rest[1].attempts, 2);
}

/// What others hold is looked at when they give it back, wherever the selector has come meanwhile.
#[test]
fn what_others_give_back_is_looked_at() {
    let (mut world, q) = world();
    send_colors(&mut world, q, &["red", "blue", "red"]);
    let all = world.open(1, "q", PEEK);
    let held = receive(&mut world, all, 3);
    let red = select(&mut world, 2, "q", DELETE, "color = 'red'");
    assert!(receive(&mut world, red, 10).is_empty());
    send_colors(&mut world, q, &["blue"]);
    settle(&mut world);
    for delivery in &held {
        world.settle(delivery, abandon()).unwrap();
    }
    assert_eq!(texts(&receive(&mut world, red, 10)), ["0", "2"]);
}

#[test]
fn settlements_change_what_a_selector_sees() {
    let (mut world, q) = world();
    send_colors(&mut world, q, &["red"]);
    let all = world.open(1, "q", PEEK);
    let blue = select(&mut world, 2, "q", PEEK, "color = 'blue'");
    assert!(receive(&mut world, blue, 10).is_empty());
    let held = receive(&mut world, all, 1).remove(0);
    let changes = vec![("color".into(), Value::from("blue"))];
    world.settle(&held, Settlement::Abandon { changes }).unwrap();
    assert_eq!(texts(&receive(&mut world, blue, 10)), ["0"]);
    let dead = select(&mut world, 3, "q/$deadletterqueue", PEEK, "DeadLetterReason LIKE 'Max%'");
    world.handle(Command::Demand { receiver: dead, limit: 10 });
    let (reason, description) = (Some("MaxPower".into()), None);
    for _ in 0..2 {
        send_colors(&mut world, q, &["blue"]);
    }
    for delivery in receive(&mut world, blue, 12) {
        let (reason, description) = (reason.clone(), description.clone());
        let wish = Settlement::DeadLetter { reason, description, changes: Vec::new() };
        world.settle(&delivery, wish).unwrap();
    }
    assert_eq!(world.take_deliveries().len(), 2);
}

#[test]
fn who_drains_hears_when_nothing_more_is_selected() {
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    let colors: Vec<_> = (0..300).map(|n| if n % 100 == 99 { "red" } else { "blue" }).collect();
    send_colors(&mut world, q, &colors);
    for restart in [false, true] {
        if restart {
            world.crash();
        }
        let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
        world.handle(Command::Drain { receiver: red, limit: 50 });
        settle(&mut world);
        let drained = world.released.pop();
        assert!(matches!(drained, Some(EffectKind::Drained { receiver }) if receiver == red));
        let deliveries: Vec<_> = world.take_deliveries().into_iter().map(|(_, d)| d).collect();
        assert_eq!(texts(&deliveries), ["99", "199", "299"]);
        world.handle(Command::CloseReceiver { receiver: red });
        assert!(deliveries.iter().all(|d| world.settle(d, Settlement::Release).is_ok()));
    }
}

/// The backlog is looked at once. What comes later costs one look, and nothing is kept of what is not
/// wanted; who wants everything gets it in order, meanwhile and afterwards.
#[test]
fn a_deep_backlog_that_nobody_selects_is_looked_at_once_and_takes_no_memory() {
    const COUNT: u64 = 20_000;
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    world.checks = false;
    for _ in 0..COUNT / 500 {
        send_colors(&mut world, q, &["blue"; 500]);
    }
    world.crash();
    let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
    assert!(receive(&mut world, red, 1_000).is_empty());
    let pages = world.broker.counters().pages_read;
    // Many pages of four kilobytes; no page twice.
    assert!((COUNT / 16..COUNT / 8).contains(&pages), "{pages} pages");
    assert!(world.broker.resident_bytes() <= SMALL_MEMORY_MAX);
    for number in 1..=200 {
        send_colors(&mut world, q, &["blue", "red"]);
        settle(&mut world);
        let found = world.take_deliveries();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.sequence.0, COUNT + 2 * number);
        let settlement = if number % 2 == 0 { Settlement::Complete } else { abandon() };
        world.settle(&found[0].1, settlement).unwrap();
        if number % 2 == 1 {
            let again = world.take_deliveries();
            assert_eq!(again[0].1.attempts, 1);
            world.settle(&again[0].1, Settlement::Complete).unwrap();
        }
        assert!(world.broker.resident_bytes() <= SMALL_MEMORY_MAX);
    }
    let pages_since = world.broker.counters().pages_read - pages;
    assert!(pages_since <= 400, "{pages_since} pages");
    world.broker.check().unwrap();
    let all = world.open(2, "q", DELETE);
    let rest = receive(&mut world, all, 100_000);
    assert_eq!(rest.len() as u64, COUNT + 200);
    assert!(rest.is_sorted_by_key(|delivery| delivery.sequence));
    world.broker.check().unwrap();
    assert_eq!(world.message_rows(), 0);
}

/// A message that was taken out of the middle of a backlog on disk.
fn taken(settings: QueueSettings) -> (World, EntityId, Delivery) {
    let (mut world, q) = World::with_queue(small(), settings);
    let colors: Vec<_> = (0..200).map(|n| if n == 150 { "red" } else { "blue" }).collect();
    send_colors(&mut world, q, &colors);
    world.crash();
    let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
    let delivery = receive(&mut world, red, 1).remove(0);
    assert_eq!(text(&delivery), "150");
    (world, q, delivery)
}

fn everything(world: &mut World) -> Vec<Delivery> {
    let all = world.open(9, "q", DELETE);
    receive(world, all, 1_000)
}

#[test]
fn what_is_taken_from_the_middle_of_a_backlog_can_be_settled_in_every_way() {
    let (mut world, _, delivery) = taken(QueueSettings::default());
    assert_eq!((world.stats("q").active_count, world.stats("q").locked_count), (200, 1));
    world.settle(&delivery, Settlement::Complete).unwrap();
    assert_eq!(everything(&mut world).len(), 199);

    let (mut world, _, delivery) = taken(QueueSettings::default());
    world.settle(&delivery, dead_letter()).unwrap();
    assert_eq!(world.stats("q").dead_letter_count, 1);
    assert_eq!(everything(&mut world).len(), 199);

    let (mut world, entity, delivery) = taken(QueueSettings::default());
    world.settle(&delivery, Settlement::Defer { changes: Vec::new() }).unwrap();
    assert_eq!(everything(&mut world).len(), 199);
    let fetched = world.ask(|origin| Command::ReceiveDeferred {
        origin,
        entity,
        sequences: vec![delivery.sequence],
        mode: PEEK,
        session: None,
    });
    assert!(matches!(fetched, Ok(Reply::DeferredReceived { .. })));

    // Given back, it is in its place again, whether others have come so far or not.
    for after in [false, true] {
        let (mut world, _, delivery) = taken(QueueSettings::default());
        let all = world.open(9, "q", DELETE);
        if after {
            assert_eq!(receive(&mut world, all, 190).len(), 190);
        }
        world.settle(&delivery, abandon()).unwrap();
        let rest = receive(&mut world, all, 1_000);
        assert_eq!(rest.len(), if after { 10 } else { 200 });
        let found = rest.iter().find(|one| one.sequence == delivery.sequence).unwrap();
        assert_eq!((found.attempts, text(found)), (1, "150"));
        assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
    }
}

#[test]
fn what_is_taken_and_not_settled_survives_locks_and_crashes() {
    let (mut world, _, delivery) = taken(QueueSettings::default());
    assert_eq!(everything(&mut world).len(), 199);
    // It is all there is, and its number is the head.
    world.crash();
    assert_eq!(texts(&everything(&mut world)), ["150"]);

    let (mut world, _, _) = taken(QueueSettings { attempts_max: 1, ..QueueSettings::default() });
    world.pass(LOCK);
    assert_eq!(world.stats("q").dead_letter_count, 1);
    assert_eq!(world.settle(&delivery, abandon()).unwrap_err(), Error::MessageLockLost);
    assert_eq!(everything(&mut world).len(), 199);
    let dead = world.open(3, "q/$DeadLetterQueue", DELETE);
    assert_eq!(texts(&receive(&mut world, dead, 10)), ["150"]);
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn a_store_that_fails_is_asked_again_for_what_is_selected() {
    let (mut world, q) = World::with_queue(small(), QueueSettings::default());
    let colors: Vec<_> = (0..100).map(|n| if n % 2 == 0 { "red" } else { "blue" }).collect();
    send_colors(&mut world, q, &colors);
    world.crash();
    let red = select(&mut world, 1, "q", DELETE, "color = 'red'");
    let mut found = Vec::new();
    for limit in 1..=25 {
        // Pages fail, and so does what they say is wanted.
        world.reads_fail = true;
        assert!(receive(&mut world, red, 2 * limit).len() <= 2);
        world.reads_fail = false;
        world.pass(Span::from_secs(1));
        settle(&mut world);
        found.extend(world.take_deliveries().into_iter().map(|(_, d)| text(&d).to_owned()));
    }
    let expected: Vec<_> = (0..100).step_by(2).map(|n| n.to_string()).collect();
    assert_eq!(found, expected);
}

/// Whoever looks at a long backlog in memory stops now and then, so that others get their turns.
#[test]
fn a_turn_of_looking_is_bounded() {
    let (mut world, q) = world();
    world.checks = false;
    for _ in 0..10 {
        send_colors(&mut world, q, &["blue"; 500]);
    }
    send_colors(&mut world, q, &["red"]);
    let red = select(&mut world, 1, "q", PEEK, "color = 'red'");
    world.handle(Command::Demand { receiver: red, limit: 1 });
    world.settle_down();
    assert!(world.take_deliveries().is_empty(), "there is more to look at than a turn allows");
    let mut turns = 0;
    while world.broker.next_deadline() == Some(world.now) {
        turns += 1;
        world.handle(Command::Tick);
    }
    assert_eq!(turns, 4);
    world.settle_down();
    assert_eq!(world.take_deliveries().len(), 1);
}

#[test]
fn sessions_and_selectors_do_not_go_together() {
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    let (mut world, _) = World::with_queue(BrokerSettings::default(), settings);
    let receiver = ReceiverId { connection: 1, link: 1 };
    let path = EntityPath::parse("q").unwrap().path;
    let selector = Box::new(SqlFilter::selector("color = 'red'").unwrap());
    let mode = PEEK;
    let refused = world.ask(|origin| Command::OpenSelectingReceiver {
        origin,
        receiver,
        path,
        mode,
        selector,
    });
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
}

/// The same where the rows of messages are with their topic.
#[test]
fn what_is_taken_from_a_subscription_can_be_settled_and_survives() {
    let start = || {
        let mut world = World::new(small());
        let topic = EntityPath::parse("t").unwrap().path;
        let (path, settings) = (topic.clone(), TopicSettings::default());
        let create = |origin| {
            Command::OfTopic(Box::new(TopicCommand::CreateTopic { origin, path, settings }))
        };
        world.ask(create).unwrap();
        for name in ["s", "other"] {
            let path = EntityPath::for_new_subscription(&topic, name).unwrap();
            let (settings, rule) = (QueueSettings::default(), None);
            let create = |origin| TopicCommand::CreateSubscription { origin, path, settings, rule };
            world.ask(|origin| Command::OfTopic(Box::new(create(origin)))).unwrap();
        }
        let open = world.ask(|origin| Command::OpenSender { origin, path: topic });
        let Ok(Reply::SenderOpened { entity, .. }) = open else { panic!("{open:?}") };
        let colors: Vec<_> = (0..200).map(|n| if n % 70 == 69 { "red" } else { "blue" }).collect();
        for colors in colors.chunks(7) {
            send_colors(&mut world, entity, colors);
        }
        world.crash();
        let red = select(&mut world, 1, "t/Subscriptions/s", PEEK, "color = 'red'");
        let taken = receive(&mut world, red, 10);
        assert_eq!(taken.iter().map(|one| one.sequence.0).collect::<Vec<_>>(), [70, 140]);
        (world, red, taken)
    };
    let all = |world: &mut World| {
        let all = world.open(9, "t/Subscriptions/s", DELETE);
        receive(world, all, 1_000).iter().map(|one| one.sequence.0).collect::<Vec<_>>()
    };
    let (mut world, red, taken) = start();
    world.settle(&taken[0], abandon()).unwrap();
    world.settle(&taken[1], Settlement::Complete).unwrap();
    let again = world.take_deliveries().remove(0).1;
    assert_eq!((again.sequence, again.attempts), (taken[0].sequence, 1));
    world.settle(&again, dead_letter()).unwrap();
    world.handle(Command::CloseReceiver { receiver: red });
    let rest: Vec<_> = (1..=200).filter(|n| n % 70 != 0).collect();
    assert_eq!(all(&mut world), rest);
    let dead = world.open(8, "t/Subscriptions/s/$DeadLetterQueue", DELETE);
    assert_eq!(receive(&mut world, dead, 10).len(), 1);
    // The other subscription is none the poorer.
    let other = world.open(7, "t/Subscriptions/other", DELETE);
    assert_eq!(receive(&mut world, other, 1_000).len(), 200);
    world.pass(Span::from_secs(60));
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));

    let (mut world, _, taken) = start();
    assert_eq!(all(&mut world), rest);
    world.settle(&taken[1], Settlement::Complete).unwrap();
    world.crash();
    assert_eq!(all(&mut world), [70]);
}
