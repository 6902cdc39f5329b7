//! Subscriptions that JMS clients make.

use super::*;
use crate::command::{Settlement, SubscriberWish};
use crate::effect::EffectKind;
use crate::filter::SqlFilter;
use crate::id::ReceiverId;
use crate::time::Span;

fn of(topic: &str, name: &str, client: &str, durable: bool) -> EntityPath {
    EntityPath::for_jms_subscription(&path(topic), name, client, durable).unwrap()
}

/// One that may do everything, alone.
fn wish(subscription: EntityPath) -> SubscriberWish {
    SubscriberWish {
        subscription,
        exclusive: true,
        may_create: true,
        may_create_anywhere: true,
        topic_only: true,
    }
}

fn shared(subscription: EntityPath) -> SubscriberWish {
    SubscriberWish { exclusive: false, ..wish(subscription) }
}

fn open(
    world: &mut World,
    link: u64,
    at: &str,
    selector: Option<&str>,
    wish: SubscriberWish,
) -> Result<ReceiverId, Error> {
    let receiver = ReceiverId { connection: 1, link };
    let (path, mode, wish) = (path(at), ReceiveMode::PeekLock, Box::new(wish));
    let selector = selector.map(|text| Box::new(SqlFilter::selector(text).unwrap()));
    world
        .ask(|origin| Command::OpenSubscriber { origin, receiver, path, mode, selector, wish })
        .map(|_| receiver)
}

fn close(world: &mut World, receiver: ReceiverId) {
    world.handle(Command::CloseReceiver { receiver });
    world.settle_down();
}

fn receive(world: &mut World, receiver: ReceiverId, limit: u64) -> Vec<String> {
    let deliveries = world.receive(receiver, limit);
    for delivery in &deliveries {
        world.settle(delivery, Settlement::Complete).unwrap();
    }
    deliveries.iter().map(|one| one.sequence.0.to_string()).collect()
}

fn is_there(world: &World, path: &EntityPath) -> bool {
    world.broker.namespace.resolve(path).is_some()
}

fn red() -> IncomingMessage {
    message("r", &[("color", "red".into())])
}

fn blue() -> IncomingMessage {
    message("b", &[("color", "blue".into())])
}

#[test]
fn a_durable_subscription_outlives_its_receivers_and_the_broker() {
    let mut world = world(&[]);
    let own = of("t", "prices", "me", true);
    let first = open(&mut world, 1, "t", Some("color = 'red'"), wish(own.clone())).unwrap();
    publish(&mut world, red());
    assert_eq!(receive(&mut world, first, 10), ["1"]);
    close(&mut world, first);
    for message in [blue(), red()] {
        publish(&mut world, message);
    }
    world.crash();
    // The same, however it is written.
    let again = open(&mut world, 2, "t", Some("color='red'"), wish(own.clone())).unwrap();
    assert_eq!(receive(&mut world, again, 10), ["3"]);
    // Another client's of that name is another one.
    let other = open(&mut world, 3, "t", None, wish(of("t", "prices", "you", true))).unwrap();
    publish(&mut world, blue());
    assert_eq!(receive(&mut world, other, 10), ["4"]);
    assert!(receive(&mut world, again, 10).is_empty());
    let described = world
        .broker
        .topic_description(world.broker.of_kind(&path("t"), super::super::TOPIC).unwrap());
    assert_eq!(described.unwrap().sql_filter_count, 1);
}

/// "A client can change an existing durable subscription by creating a durable `TopicSubscriber` with the
/// same name and a new topic and/or message selector. Changing a durable subscription is equivalent to
/// deleting and recreating it."
#[test]
fn another_selector_or_topic_makes_another_subscription() {
    let mut world = world(&[]);
    create_topic(&mut world, "u").unwrap();
    let own = of("t", "prices", "me", true);
    let first = open(&mut world, 1, "t", Some("color = 'red'"), wish(own.clone())).unwrap();
    publish(&mut world, red());
    // Not while somebody receives from it.
    let refused = open(&mut world, 2, "t", None, shared(own.clone()));
    assert_eq!(refused, Err(Error::SubscriptionInUse(own.to_string())));
    close(&mut world, first);
    let again = open(&mut world, 2, "t", None, wish(own.clone())).unwrap();
    assert!(receive(&mut world, again, 10).is_empty());
    publish(&mut world, blue());
    assert_eq!(receive(&mut world, again, 10), ["2"]);
    let moved = of("u", "prices", "me", true);
    // Nobody hears which other topic it is at, and only those who could delete it that it is in use.
    let refused = open(&mut world, 3, "u", None, wish(moved.clone()));
    assert_eq!(refused, Err(Error::SubscriptionInUse("prices$me$D".into())));
    let wish_here = SubscriberWish { may_create_anywhere: false, ..wish(moved.clone()) };
    let modest = SubscriberWish { may_create: false, ..wish_here.clone() };
    for is_in_use in [true, false] {
        if !is_in_use {
            close(&mut world, again);
        }
        let refused = open(&mut world, 3, "u", None, wish_here.clone());
        assert_eq!(refused, Err(Error::ManageRequired("prices$me$D".into())));
        let refused = open(&mut world, 3, "u", None, modest.clone());
        assert_eq!(refused, Err(Error::ManageRequired(moved.to_string())));
    }
    assert!(is_there(&world, &own) && !is_there(&world, &moved));
    open(&mut world, 3, "u", None, wish(moved.clone())).unwrap();
    assert!(!is_there(&world, &own) && is_there(&world, &moved));
}

#[test]
fn making_one_takes_a_right_and_joining_it_does_not() {
    let mut world = world(&[]);
    let own = of("t", "prices", "me", true);
    let modest = SubscriberWish { may_create: false, ..wish(own.clone()) };
    let refused = open(&mut world, 1, "t", None, modest.clone());
    assert_eq!(refused, Err(Error::ManageRequired(own.to_string())));
    let first = open(&mut world, 1, "t", None, wish(own.clone())).unwrap();
    close(&mut world, first);
    let second = open(&mut world, 2, "t", None, modest.clone()).unwrap();
    close(&mut world, second);
    let refused = open(&mut world, 3, "t", Some("a = 1"), modest);
    assert_eq!(refused, Err(Error::ManageRequired(own.to_string())));
    assert!(is_there(&world, &own), "nothing was lost");
    // Nobody makes one by the way of other subscriptions.
    let (settings, rule) = (QueueSettings::default(), None);
    let path = of("t", "prices", "you", true);
    let create = |origin| TopicCommand::CreateSubscription { origin, path, settings, rule };
    assert!(matches!(ask(&mut world, create), Err(Error::InvalidArgument(_))));
    // They are changed and deleted like others.
    let (path, settings) =
        (own.clone(), QueueSettings { attempts_max: 3, ..QueueSettings::default() });
    ask(&mut world, |origin| TopicCommand::UpdateSubscription { origin, path, settings }).unwrap();
    ask(&mut world, |origin| TopicCommand::DeleteSubscription { origin, path: own.clone() })
        .unwrap();
    assert!(!is_there(&world, &own));
}

#[test]
fn one_that_is_not_durable_goes_with_its_last_receiver() {
    let mut world = world(&[]);
    let fleeting = of("t", "prices", "", false);
    let first = open(&mut world, 1, "t", None, shared(fleeting.clone())).unwrap();
    let second = open(&mut world, 2, "t", None, shared(fleeting.clone())).unwrap();
    for _ in 0..2 {
        publish(&mut world, red());
    }
    assert_eq!(receive(&mut world, first, 1), ["1"]);
    close(&mut world, first);
    assert_eq!(receive(&mut world, second, 10), ["2"], "each message to one of them");
    publish(&mut world, red());
    close(&mut world, second);
    assert!(!is_there(&world, &fleeting));
    world.pass(Span::from_secs(60));
    assert_eq!(world.message_rows(), 0);
    // After a crash nobody says that the last has gone: then it goes with time.
    open(&mut world, 3, "t", None, shared(fleeting.clone())).unwrap();
    world.crash();
    world.pass(Span(0));
    assert!(is_there(&world, &fleeting));
    world.pass(Span::from_secs(300));
    assert!(!is_there(&world, &fleeting));
}

#[test]
fn one_that_is_not_shared_has_one_receiver_at_a_time() {
    let mut world = world(&[]);
    let own = of("t", "prices", "me", true);
    let first = open(&mut world, 1, "t", None, wish(own.clone())).unwrap();
    for wish in [wish(own.clone()), shared(own.clone())] {
        let refused = open(&mut world, 2, "t", None, wish);
        assert_eq!(refused, Err(Error::SubscriptionInUse(own.to_string())));
    }
    close(&mut world, first);
    let both = [1, 2].map(|link| open(&mut world, link, "t", None, shared(own.clone())).unwrap());
    let refused = open(&mut world, 3, "t", None, wish(own.clone()));
    assert_eq!(refused, Err(Error::SubscriptionInUse(own.to_string())));
    for receiver in both {
        close(&mut world, receiver);
    }
    open(&mut world, 3, "t", None, wish(own)).unwrap();
}

#[test]
fn one_is_found_by_its_name_alone() {
    let mut world = world(&[("declared", vec![all("$Default")])]);
    let find = |world: &mut World, name: &str| {
        world.ask(|origin| Command::FindSubscription { origin, name: name.into() })
    };
    let own = of("t", "prices", "me", true);
    let receiver = open(&mut world, 1, "t", Some("a = 1"), wish(own.clone())).unwrap();
    open(&mut world, 2, "t", None, shared(of("t", "prices", "me", false))).unwrap();
    for (name, is_used) in [("prices$me$D", true), ("prices$me$D", false), ("PRICES$me$d", false)] {
        if !is_used {
            // After a crash they are known as before.
            close(&mut world, receiver);
            world.crash();
        }
        let found = find(&mut world, name);
        let Ok(Reply::SubscriptionFound { path, selector, in_use }) = found else {
            panic!("{found:?}")
        };
        assert_eq!((path, selector.as_deref()), (own.clone(), Some("a = 1")));
        assert_eq!(in_use, is_used);
    }
    for missing in ["prices$$D", "prices$you$D", "prices$me$ND", "declared"] {
        let found = find(&mut world, missing);
        assert_eq!(found.err(), Some(Error::EntityNotFound(missing.into())));
    }
    ask(&mut world, |origin| TopicCommand::DeleteTopic { origin, path: path("t") }).unwrap();
    let found = find(&mut world, "prices$me$D");
    assert_eq!(found.err(), Some(Error::EntityNotFound("prices$me$D".into())));
}

#[test]
fn one_that_is_in_use_again_is_not_deleted() {
    let mut world = world(&[]);
    let own = of("t", "prices", "me", true);
    let unsubscribe = |world: &mut World| {
        ask(world, |origin| TopicCommand::Unsubscribe { origin, path: own.clone() }).map(drop)
    };
    let receiver = open(&mut world, 1, "t", None, wish(own.clone())).unwrap();
    assert_eq!(unsubscribe(&mut world), Err(Error::SubscriptionInUse(own.to_string())));
    publish(&mut world, red());
    assert_eq!(receive(&mut world, receiver, 10), ["1"]);
    close(&mut world, receiver);
    assert_eq!(unsubscribe(&mut world), Ok(()));
    assert!(!is_there(&world, &own));
    assert_eq!(unsubscribe(&mut world), Err(Error::EntityNotFound(own.to_string())));
}

fn look(world: &mut World, link: u64, path: &EntityPath) -> ReceiverId {
    let (receiver, path) = (ReceiverId { connection: 9, link }, path.clone());
    let open = |origin| Command::OpenBrowser { origin, receiver, path, selector: None };
    world.ask(open).map(|_| receiver).unwrap()
}

#[test]
fn who_only_looks_is_in_nobodys_way() {
    let mut world = world(&[]);
    let own = of("t", "prices", "me", true);
    let receiver = open(&mut world, 1, "t", None, wish(own.clone())).unwrap();
    close(&mut world, receiver);
    let browser = look(&mut world, 1, &own);
    let receiver = open(&mut world, 2, "t", None, wish(own.clone())).unwrap();
    publish(&mut world, red());
    assert_eq!(receive(&mut world, receiver, 10), ["1"]);
    close(&mut world, receiver);
    let name = "prices$me$D";
    let found = world.ask(|origin| Command::FindSubscription { origin, name: name.into() });
    assert!(matches!(found, Ok(Reply::SubscriptionFound { in_use: false, .. })), "{found:?}");
    ask(&mut world, |origin| TopicCommand::Unsubscribe { origin, path: own.clone() }).unwrap();
    let is_told = |kind: &EffectKind| matches!(kind, EffectKind::ReceiverClosed { receiver: one, .. } if *one == browser);
    assert!(world.released.iter().any(is_told));
    // Nor does it keep or end one that goes with its last receiver.
    let fleeting = of("t", "prices", "", false);
    let receiver = open(&mut world, 3, "t", None, shared(fleeting.clone())).unwrap();
    look(&mut world, 2, &fleeting);
    close(&mut world, receiver);
    assert!(!is_there(&world, &fleeting));
    open(&mut world, 3, "t", None, shared(fleeting.clone())).unwrap();
    world.crash();
    let browser = look(&mut world, 3, &fleeting);
    close(&mut world, browser);
    assert!(is_there(&world, &fleeting));
}

#[test]
fn what_is_no_topic_is_received_from_or_refused() {
    let mut world = world(&[]);
    let q = world.ensure_queue("q", QueueSettings::default());
    world.send(q, "a").unwrap();
    let refused = open(&mut world, 1, "q", None, wish(of("q", "x", "me", true)));
    assert_eq!(refused, Err(Error::EntityNotFound("q".into())));
    let either = SubscriberWish { topic_only: false, ..wish(of("q", "x", "me", true)) };
    let receiver = open(&mut world, 1, "q", None, either).unwrap();
    assert_eq!(receive(&mut world, receiver, 10), ["1"]);
    let missing = of("nowhere", "x", "me", true);
    assert!(open(&mut world, 2, "nowhere", None, wish(missing)).is_err());
}

/// A topic that goes takes its subscriptions along, and tells their receivers.
#[test]
fn they_go_with_their_topic() {
    let mut world = world(&[]);
    let own = of("t", "prices", "", false);
    let receiver = open(&mut world, 1, "t", None, shared(own.clone())).unwrap();
    ask(&mut world, |origin| TopicCommand::DeleteTopic { origin, path: path("t") }).unwrap();
    let is_told = |kind: &EffectKind| matches!(kind, EffectKind::ReceiverClosed { receiver: one, .. } if *one == receiver);
    assert!(world.released.iter().any(is_told));
    close(&mut world, receiver);
    assert!(!is_there(&world, &own));
}
