//! The life of topics and subscriptions.

use super::*;
use crate::effect::EffectKind;
use crate::entity::kind::EntityKind;
use crate::entity::settings::EntityStatus;
use crate::id::ReceiverId;
use crate::time::Span;

fn create_subscription(
    world: &mut World,
    address: &str,
    settings: QueueSettings,
) -> Result<TopicReply, Error> {
    let path = path(address);
    ask(world, |origin| TopicCommand::CreateSubscription { origin, path, settings, rule: None })
}

fn create_queue(world: &mut World, name: &str) -> Result<Reply, Error> {
    let (path, settings) = (path(name), QueueSettings::default());
    world.ask(|origin| Command::CreateQueue { origin, path, settings })
}

fn delete_topic(world: &mut World, name: &str) -> Result<TopicReply, Error> {
    let path = path(name);
    ask(world, |origin| TopicCommand::DeleteTopic { origin, path })
}

fn delete_subscription(world: &mut World, name: &str) -> Result<TopicReply, Error> {
    let path = path(name);
    ask(world, |origin| TopicCommand::DeleteSubscription { origin, path })
}

fn open(world: &mut World, address: &str) -> Result<Reply, Error> {
    let receiver = ReceiverId { connection: 9, link: 9 };
    let path = path(address);
    let reply = world.ask(|origin| Command::OpenReceiver {
        origin,
        receiver,
        path,
        mode: ReceiveMode::PeekLock,
        session: None,
    });
    world.handle(Command::CloseReceiver { receiver });
    reply
}

#[test]
fn queues_and_topics_share_their_names() {
    let mut world = world(&[("s", vec![])]);
    assert!(matches!(create_queue(&mut world, "T"), Err(Error::EntityExists(_))));
    assert!(matches!(create_topic(&mut world, "T"), Err(Error::EntityExists(_))));
    create_queue(&mut world, "q").unwrap();
    assert!(matches!(create_topic(&mut world, "Q"), Err(Error::EntityExists(_))));
    let again = create_subscription(&mut world, "T/subscriptions/S", QueueSettings::default());
    assert_eq!(again, Err(Error::EntityExists("T/subscriptions/S".into())));
    let below_queue =
        create_subscription(&mut world, "q/Subscriptions/s", QueueSettings::default());
    assert_eq!(below_queue, Err(Error::EntityNotFound("q".into())));
    let queue = create_queue(&mut world, "t/Subscriptions/x");
    assert!(matches!(queue, Err(Error::InvalidArgument(_))));
    for bad in ["t/Subscriptions/a b", "t/s", "t", "t/Subscriptions/s/$DeadLetterQueue"] {
        let refused = create_subscription(&mut world, bad, QueueSettings::default());
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{bad}");
    }
    let declared = world.ask(|origin| Command::EnsureQueue {
        origin: Some(origin),
        path: path("t"),
        settings: QueueSettings::default(),
    });
    assert!(matches!(declared, Err(Error::EntityNotFound(_))), "{declared:?}");
}

#[test]
fn messages_go_in_at_topics_and_come_out_at_subscriptions() {
    let mut world = world(&[("s", vec![])]);
    for address in ["t/Subscriptions/s", "T/subscriptions/S/$deadletterqueue"] {
        assert!(matches!(open(&mut world, address), Ok(Reply::ReceiverOpened { .. })), "{address}");
    }
    assert_eq!(open(&mut world, "t").unwrap_err(), Error::EntityNotFound("t".into()));
    let dead = open(&mut world, "t/$DeadLetterQueue").unwrap_err();
    assert_eq!(dead, Error::EntityNotFound("t/$DeadLetterQueue".into()));
    open(&mut world, "t/$Transfer/$DeadLetterQueue").unwrap();
    open(&mut world, "t/Subscriptions/s/$Transfer/$DeadLetterQueue").unwrap();
    let sender = |address: &str| {
        let path = path(address);
        move |origin| Command::OpenSender { origin, path }
    };
    assert!(matches!(world.ask(sender("t")), Ok(Reply::SenderOpened { .. })));
    let refused = world.ask(sender("t/Subscriptions/s"));
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
    let path = path("t");
    let managed = world.ask(|origin| Command::OpenManagement { origin, path });
    assert!(matches!(managed, Ok(Reply::ManagementOpened { .. })));
}

#[test]
fn commands_are_for_the_kind_they_name() {
    let mut world = world(&[("s", vec![])]);
    create_queue(&mut world, "q").unwrap();
    let (t, s) = (path("t"), path("t/Subscriptions/s"));
    for path in [t, s] {
        let settings = QueueSettings::default();
        let name = path.clone();
        let described = world.ask(|origin| Command::DescribeQueue { origin, path: name });
        assert!(matches!(described, Err(Error::EntityNotFound(_))), "{path}");
        let name = path.clone();
        let deleted = world.ask(|origin| Command::DeleteQueue { origin, path: name });
        assert!(matches!(deleted, Err(Error::EntityNotFound(_))), "{path}");
        let access_rules = None;
        let updated =
            world.ask(|origin| Command::UpdateQueue { origin, path, settings, access_rules });
        assert!(matches!(updated, Err(Error::EntityNotFound(_))));
    }
    assert!(matches!(describe(&mut world, "q"), Err(Error::EntityNotFound(_))));
    assert!(matches!(delete_topic(&mut world, "t/Subscriptions/s"), Err(Error::EntityNotFound(_))));
    assert!(matches!(delete_subscription(&mut world, "t"), Err(Error::EntityNotFound(_))));
}

#[test]
fn a_topic_tells_what_it_is_like() {
    let mut world = world(&[("b", vec![]), ("a", vec![all("r")])]);
    publish(&mut world, message("x", &[]));
    world.now = world.now.plus(Span(10));
    let settings = TopicSettings { user_metadata: "mine".into(), ..TopicSettings::default() };
    let (t, wanted) = (path("t"), settings.clone());
    ask(&mut world, |origin| TopicCommand::UpdateTopic {
        origin,
        path: t,
        settings: wanted,
        access_rules: None,
    })
    .unwrap();
    world.crash();
    let described = describe(&mut world, "T").unwrap();
    assert_eq!(described.settings, settings);
    assert!(described.created_at < described.updated_at);
    assert_eq!(described.subscriptions, [path("t/Subscriptions/b"), path("t/Subscriptions/a")]);
    assert_eq!(described.counts.active, 0);
    assert!(described.bytes > 0, "what its subscriptions hold counts");
    let path = path("t/Subscriptions/a");
    let ask_for = |origin| TopicCommand::DescribeSubscription { origin, path };
    let Ok(TopicReply::SubscriptionDescribed(described)) = ask(&mut world, ask_for) else {
        panic!("not described")
    };
    assert_eq!((described.counts.active, described.path.name()), (1, "t/Subscriptions/a"));
}

#[test]
fn subscriptions_change_and_go() {
    let mut world = world(&[("s", vec![all("r")]), ("other", vec![all("r")])]);
    let settings = QueueSettings {
        status: EntityStatus::Disabled,
        dead_letter_on_filter_error: false,
        ..QueueSettings::default()
    };
    let (s, wanted) = (path("t/Subscriptions/s"), settings.clone());
    ask(&mut world, |origin| TopicCommand::UpdateSubscription {
        origin,
        path: s,
        settings: wanted,
    })
    .unwrap();
    let off = open(&mut world, "t/Subscriptions/s");
    assert!(matches!(off, Err(Error::EntityDisabled(_))), "{off:?}");
    publish(&mut world, message("x", &[]));
    world.crash();
    assert_eq!(world.stats("t/Subscriptions/s").active_count, 1, "it collects all the same");
    let state = world.broker.durable_state();
    let known = state.entities.iter().find(|known| known.path.name() == "t/Subscriptions/s");
    assert_eq!(known.unwrap().settings, settings);
    assert!(matches!(known.unwrap().kind, EntityKind::Subscription { .. }));
    let rows = world.state_rows().len();
    assert_eq!(delete_subscription(&mut world, "T/Subscriptions/S"), Ok(TopicReply::Deleted));
    assert_eq!(world.message_rows(), 1);
    world.pass(Span::from_secs(10));
    assert_eq!(world.state_rows().len(), rows - 7, "three entities and a rule");
    assert_eq!(world.message_rows(), 1);
    publish(&mut world, message("y", &[]));
    world.crash();
    assert_eq!(take_from(&mut world, "other").len(), 2);
    add_subscription(&mut world, "s", QueueSettings::default(), vec![]);
    assert!(list(&mut world, "s").is_empty(), "nothing is left of the one before");
}

#[test]
fn a_topic_goes_with_its_subscriptions() {
    let mut world = world(&[("a", vec![all("r"), color("c", "red")]), ("b", vec![all("r")])]);
    create_topic(&mut world, "u").unwrap();
    publish(&mut world, message("x", &[]));
    let receiver = world.open(5, "t/Subscriptions/a", ReceiveMode::PeekLock);
    assert_eq!(world.receive(receiver, 1).len(), 1);
    let sent_to = entity(&world, "t");
    assert_eq!(delete_topic(&mut world, "t"), Ok(TopicReply::Deleted));
    let is_told = |kind: &EffectKind| {
        matches!(kind, EffectKind::ReceiverClosed { receiver: closed, error: Error::EntityNotFound(_) }
            if *closed == receiver)
    };
    assert!(world.released.iter().any(is_told));
    world.released.clear();
    assert_eq!(world.message_rows(), 0);
    world.crash();
    assert_eq!(world.broker.durable_state().entities.len(), 3, "the other topic");
    assert!(world.broker.durable_state().rules.is_empty());
    let messages = [message("x", &[])].into_iter().collect();
    let late =
        world.ask(|origin| Command::Send { origin, entity: sent_to, messages, transaction: None });
    assert!(matches!(late, Err(Error::EntityNotFound(_))), "{late:?}");
    create_topic(&mut world, "t").unwrap();
    assert!(describe(&mut world, "t").unwrap().subscriptions.is_empty());
}

#[test]
fn subscriptions_have_bounds_of_their_own() {
    let mut world = World::new(BrokerSettings { queues_max: 2, ..BrokerSettings::default() });
    create_topic(&mut world, "t").unwrap();
    create_queue(&mut world, "q").unwrap();
    for name in ["a", "b", "c"] {
        add_subscription(&mut world, name, QueueSettings::default(), vec![]);
    }
    assert!(matches!(create_topic(&mut world, "u"), Err(Error::QuotaExceeded(_))));
    let settings = QueueSettings {
        duplicate_window: Some(QueueSettings::DUPLICATE_WINDOW_MIN),
        ..QueueSettings::default()
    };
    let refused = create_subscription(&mut world, "t/Subscriptions/d", settings);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    let settings = QueueSettings { forward_to: Some(path("missing")), ..QueueSettings::default() };
    let refused = create_subscription(&mut world, "t/Subscriptions/d", settings);
    assert_eq!(refused, Err(Error::EntityNotFound("missing".into())));
    let settings =
        QueueSettings { forward_to: Some(path("t/Subscriptions/a")), ..QueueSettings::default() };
    let refused = create_subscription(&mut world, "t/Subscriptions/d", settings);
    assert_eq!(refused, Err(Error::EntityNotFound("t/Subscriptions/a".into())));
}

#[test]
fn idle_topics_go_but_not_while_a_subscription_is_used() {
    let idle = Span::from_secs(300);
    let mut world = World::new(BrokerSettings::default());
    let settings = TopicSettings { auto_delete_on_idle: Some(idle), ..TopicSettings::default() };
    let t = path("t");
    ask(&mut world, |origin| TopicCommand::CreateTopic { origin, path: t, settings }).unwrap();
    add_subscription(&mut world, "s", QueueSettings::default(), vec![all("r")]);
    world.pass(Span(idle.0 - 1));
    publish(&mut world, message("x", &[]));
    world.pass(Span(idle.0 - 1));
    let receiver = world.open(3, "t/Subscriptions/s", ReceiveMode::PeekLock);
    assert_eq!(world.receive(receiver, 1).len(), 1);
    world.pass(Span(idle.0 * 2));
    assert!(describe(&mut world, "t").is_ok(), "somebody waits at a subscription");
    world.handle(Command::CloseReceiver { receiver });
    world.pass(Span(idle.0 - 1));
    assert!(describe(&mut world, "t").is_ok());
    world.pass(idle);
    assert!(matches!(describe(&mut world, "t"), Err(Error::EntityNotFound(_))));
    world.released.clear();
    world.crash();
    assert_eq!(world.rows.len(), 1, "only the next number is left");
}

#[test]
fn idle_subscriptions_go_though_messages_come() {
    let idle = Span::from_secs(300);
    let mut world = world(&[("kept", vec![all("r")])]);
    let settings = QueueSettings { auto_delete_on_idle: Some(idle), ..QueueSettings::default() };
    add_subscription(&mut world, "gone", settings, vec![all("r")]);
    world.pass(Span(idle.0 - 1));
    publish(&mut world, message("x", &[]));
    world.pass(Span(1));
    world.released.clear();
    let left = describe(&mut world, "t").unwrap().subscriptions;
    assert_eq!(left, [path("t/Subscriptions/kept")]);
}
