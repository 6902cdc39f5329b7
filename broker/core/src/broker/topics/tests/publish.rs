//! What subscriptions get of a message.

use peeklock_protocol::message::Properties;

use super::*;
use crate::command::Enlistment;
use crate::entity::settings::EntityStatus;
use crate::time::Span;

#[test]
fn every_subscription_gets_what_its_rules_let_through() {
    let mut world = world(&[
        ("all", vec![all("$Default")]),
        ("red", vec![color("c", "red")]),
        ("big", vec![sql("s", "size > 10")]),
        ("none", vec![rule("f", RuleFilter::False)]),
        ("empty", vec![]),
    ]);
    publish(&mut world, message("a", &[("color", "red".into()), ("size", 5.into())]));
    publish(&mut world, message("b", &[("color", "RED".into()), ("size", 50.into())]));
    publish(&mut world, message("c", &[]));
    world.crash();
    let all = take_from(&mut world, "all");
    assert_eq!(bodies(&all), ["a", "b", "c"]);
    assert_eq!(numbers(&all), [(1, 1), (2, 2), (3, 3)]);
    let red = take_from(&mut world, "red");
    assert_eq!((bodies(&red), numbers(&red)), (vec!["a"], vec![(1, 1)]));
    let big = take_from(&mut world, "big");
    assert_eq!((bodies(&big), numbers(&big)), (vec!["b"], vec![(2, 2)]), "as the topic numbers it");
    assert!(take_from(&mut world, "none").is_empty());
    assert!(take_from(&mut world, "empty").is_empty());
    world.pass(Span::from_secs(10));
    assert_eq!(world.message_rows(), 0);
}

/// What stands in the data sections: a descriptor, a type and a length come first.
fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    fn body(delivery: &Delivery) -> &str {
        let place = delivery.message.sections().body().unwrap();
        std::str::from_utf8(&delivery.message.bytes()[place][5..]).unwrap()
    }
    deliveries.iter().map(body).collect()
}

#[test]
fn nobody_has_to_want_a_message() {
    let mut world = world(&[]);
    publish(&mut world, message("x", &[]));
    add_subscription(&mut world, "late", QueueSettings::default(), vec![all("a")]);
    publish(&mut world, message("y", &[]));
    let late = take_from(&mut world, "late");
    assert_eq!((bodies(&late), numbers(&late)), (vec!["y"], vec![(2, 2)]));
    assert_eq!(world.broker.counters().copied, 1);
}

#[test]
fn plain_matches_are_one_copy_and_each_action_is_another() {
    let rules = vec![
        all("a"),
        sql("b", "size = 5"),
        color("c", "red"),
        sql("no", "size = 6"),
        with_action(color("d", "red"), "SET color = 'blue'; SET sys.Label = 'changed'"),
        with_action(all("e"), "REMOVE size; SET RuleName = 'mine'"),
    ];
    let mut world = world(&[("s", rules)]);
    publish(&mut world, message("x", &[("color", "red".into()), ("size", 5.into())]));
    world.crash();
    let copies = take_from(&mut world, "s");
    assert_eq!(bodies(&copies), ["x", "x", "x"]);
    assert_eq!(numbers(&copies), [(1, 1), (2, 1), (3, 1)]);
    let seen = |name| copies.iter().map(|copy| property(copy, name)).collect::<Vec<_>>();
    let text = |text: &str| Some(Value::from(text));
    assert_eq!(seen("RuleName"), [None, text("d"), text("e")]);
    assert_eq!(seen("color"), [text("red"), text("blue"), text("red")]);
    assert_eq!(seen("size"), [Some(5.into()), Some(5.into()), None]);
    let label = |copy: &Delivery| copy.message.facts().properties().and_then(|p| p.subject);
    assert_eq!(copies.iter().map(label).collect::<Vec<_>>(), [None, Some("changed".into()), None]);
}

#[test]
fn a_filter_that_fails_is_a_dead_letter_if_the_subscription_wants_that() {
    let rules = || vec![sql("f", "1 / size = 1"), color("c", "red")];
    let mut world = world(&[("keeps", rules())]);
    let settings = QueueSettings { dead_letter_on_filter_error: false, ..QueueSettings::default() };
    add_subscription(&mut world, "drops", settings, rules());
    publish(&mut world, message("bad", &[("size", 0.into())]));
    publish(&mut world, message("both", &[("size", 0.into()), ("color", "red".into())]));
    publish(&mut world, message("good", &[("size", 1.into())]));
    world.crash();
    let kept = take_from(&mut world, "keeps");
    assert_eq!((bodies(&kept), numbers(&kept)), (vec!["both", "good"], vec![(2, 2), (4, 4)]));
    let dead = dead_from(&mut world, "keeps");
    assert_eq!((bodies(&dead), numbers(&dead)), (vec!["bad", "both"], vec![(1, 1), (3, 2)]));
    for letter in &dead {
        assert_eq!(property(letter, "DeadLetterReason"), Some("FilterException".into()));
        let description = property(letter, "DeadLetterErrorDescription");
        assert_eq!(description, Some("division by zero".into()));
        assert_eq!(property(letter, "size"), Some(0.into()));
    }
    let dropped = take_from(&mut world, "drops");
    assert_eq!((bodies(&dropped), numbers(&dropped)), (vec!["both", "good"], vec![(2, 2), (4, 4)]));
    assert!(dead_from(&mut world, "drops").is_empty());
    world.pass(Span::from_secs(10));
    assert_eq!((world.message_rows(), world.trace_rows()), (0, 0));
}

#[test]
fn an_action_that_fails_is_a_filter_that_fails() {
    let mut world = world(&[("s", vec![all("a"), with_action(all("b"), "SET sys.Label = 7")])]);
    publish(&mut world, message("x", &[]));
    assert_eq!(bodies(&take_from(&mut world, "s")), ["x"]);
    let dead = dead_from(&mut world, "s");
    assert_eq!(bodies(&dead), ["x"]);
    assert_eq!(property(&dead[0], "RuleName"), None);
    assert_eq!(property(&dead[0], "DeadLetterReason"), Some("FilterException".into()));
}

#[test]
fn a_copy_with_too_many_properties_is_a_dead_letter() {
    let mut world = world(&[]);
    let settings = QueueSettings { dead_letter_on_filter_error: false, ..QueueSettings::default() };
    let doubled = with_action(all("a"), "SET more = text + text; SET again = text + text");
    add_subscription(&mut world, "s", settings, vec![doubled]);
    let text = |len| [("text", Value::from("x".repeat(len)))];
    publish(&mut world, message("fits", &text(13_000)));
    publish(&mut world, message("grows", &text(13_200)));
    assert_eq!(bodies(&take_from(&mut world, "s")), ["fits"]);
    let dead = dead_from(&mut world, "s");
    assert_eq!(bodies(&dead), ["grows"]);
    assert_eq!(property(&dead[0], "DeadLetterReason"), Some("HeaderSizeExceeded".into()));
    assert_eq!((property(&dead[0], "more"), property(&dead[0], "RuleName")), (None, None));
}

#[test]
fn what_all_filters_together_cost_is_bounded() {
    // Each is a thousand steps and more, and comes to nothing.
    let costly = |n| sql(&format!("r{n}"), &format!("text LIKE '%_a_a_a_a_a_b{n}'"));
    let mut world = world(&[
        ("costly", (0..250).map(costly).collect()),
        ("cheap", vec![sql("s", "size = 5"), with_action(all("t"), "SET size = size + 1")]),
    ]);
    let settings = QueueSettings { dead_letter_on_filter_error: false, ..QueueSettings::default() };
    add_subscription(&mut world, "drops", settings, (250..300).map(costly).collect());
    let text = Value::from("a".repeat(20_000));
    publish(&mut world, message("short", &[("size", 5.into()), ("text", "a".into())]));
    publish(&mut world, message("long", &[("size", 5.into()), ("text", text)]));
    assert_eq!(bodies(&take_from(&mut world, "cheap")), ["short", "short", "long", "long"]);
    let dead = dead_from(&mut world, "costly");
    assert_eq!(bodies(&dead), ["long"]);
    let description = property(&dead[0], "DeadLetterErrorDescription");
    assert_eq!(description, Some("more than 262144 steps of all filters together".into()));
    for name in ["costly", "drops"] {
        assert!(take_from(&mut world, name).is_empty());
    }
    assert!(dead_from(&mut world, "drops").is_empty());
}

#[test]
fn a_subscription_with_sessions_buries_what_is_in_none() {
    let mut world = world(&[]);
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    add_subscription(&mut world, "s", settings, vec![all("a")]);
    publish(&mut world, message("lost", &[]));
    let fields = Properties { group_id: Some("g".into()), ..Properties::default() };
    publish(&mut world, encoded("found", &[], fields));
    let dead = dead_from(&mut world, "s");
    assert_eq!(bodies(&dead), ["lost"]);
    assert_eq!(property(&dead[0], "DeadLetterReason"), Some("Session ID is null.".into()));
    assert_eq!(world.stats("t/Subscriptions/s").active_count, 1);
}

#[test]
fn several_topics_and_subscriptions_share_one_commit() {
    let mut world = world(&[("a", vec![all("r")]), ("b", vec![all("r")])]);
    let entity = entity(&world, "t");
    let origin = world.origin();
    let messages = ["x", "y"].map(|body| message(body, &[])).into_iter().collect();
    world.handle(Command::Send { origin, entity, messages, transaction: None });
    assert!(world.turn());
    assert!(world.take_reply(origin).is_none(), "not durable yet");
    assert!(world.sync_one());
    assert!(world.take_reply(origin).is_some(), "all copies are one batch");
    assert_eq!(world.message_rows(), 2);
    let copies = take_from(&mut world, "b");
    assert_eq!(bodies(&copies), ["x", "y"]);
}

#[test]
fn a_topic_admits_messages_like_a_queue() {
    let mut world = World::new(BrokerSettings::default());
    let settings =
        TopicSettings { message_bytes_max: 200, entity_bytes_max: 300, ..TopicSettings::default() };
    let (origin, t) = (Some(world.origin()), path("t"));
    let make = TopicCommand::EnsureTopic { origin, path: t.clone(), settings: settings.clone() };
    world.handle(Command::OfTopic(Box::new(make)));
    world.settle_down();
    add_subscription(&mut world, "a", QueueSettings::default(), vec![all("r")]);
    add_subscription(&mut world, "b", QueueSettings::default(), vec![all("r")]);
    let text = |len| "m".repeat(len);
    let too_large = publish_to(&mut world, "t", message(&text(200), &[]));
    assert!(matches!(too_large, Err(Error::MessageTooLarge { limit: 200, .. })), "{too_large:?}");
    publish(&mut world, message(&text(120), &[]));
    let bytes = describe(&mut world, "t").unwrap().bytes;
    assert!((120..150).contains(&bytes), "{bytes}");
    let full = publish_to(&mut world, "t", message(&text(180), &[]));
    assert!(matches!(full, Err(Error::EntityFull { size, .. }) if size == bytes), "{full:?}");
    world.crash();
    let full = publish_to(&mut world, "t", message(&text(180), &[]));
    assert!(matches!(full, Err(Error::EntityFull { .. })), "also after a crash");
    assert_eq!(take_from(&mut world, "a").len(), 1);
    publish(&mut world, message(&text(50), &[]));
    let settings = TopicSettings { status: EntityStatus::Disabled, ..settings };
    let access_rules = None;
    let update = |origin| TopicCommand::UpdateTopic { origin, path: t, settings, access_rules };
    ask(&mut world, update).unwrap();
    let off = publish_to(&mut world, "t", message("x", &[]));
    assert!(matches!(off, Err(Error::EntityDisabled(name)) if name == "t"));
    assert_eq!(take_from(&mut world, "b").len(), 2, "what is there can be received");
}

#[test]
fn what_is_scheduled_waits_at_the_topic() {
    let mut world = world(&[("s", vec![all("r")])]);
    let topic = entity(&world, "t");
    let due = world.now.plus(Span::from_secs(10));
    let scheduled = Message::data(b"later".to_vec()).with_message_annotations(
        Map::new().with("x-opt-scheduled-enqueue-time", Value::Timestamp(due.as_amqp())),
    );
    let message = IncomingMessage::from_wire(&scheduled.to_bytes()).unwrap();
    publish(&mut world, message);
    assert_eq!(describe(&mut world, "t").unwrap().counts.scheduled, 1);
    assert!(take_from(&mut world, "s").is_empty());
    world.crash();
    // Who comes before the message is due gets it, too.
    add_subscription(&mut world, "late", QueueSettings::default(), vec![all("r")]);
    world.pass(Span::from_secs(10));
    for name in ["s", "late"] {
        let copies = take_from(&mut world, name);
        assert_eq!((bodies(&copies), numbers(&copies)), (vec!["later"], vec![(2, 2)]));
        assert_eq!(copies[0].message.enqueued_at(), due);
    }
    assert_eq!(describe(&mut world, "t").unwrap().counts.scheduled, 0);
    assert_eq!(world.browse(topic, 0, 10, 1000).len(), 0);
}

#[test]
fn a_transaction_publishes_when_it_is_committed() {
    let mut world = world(&[("s", vec![all("r")])]);
    let Ok(Reply::Declared { transaction }) = world.ask(|origin| Command::Declare { origin })
    else {
        panic!("not declared")
    };
    let entity = entity(&world, "t");
    let messages = [message("x", &[])].into_iter().collect();
    let enlisted = Some(Enlistment { transaction, answered: true });
    let sent =
        world.ask(|origin| Command::Send { origin, entity, messages, transaction: enlisted });
    assert!(matches!(sent, Ok(Reply::Enlisted)), "{sent:?}");
    assert!(take_from(&mut world, "s").is_empty());
    let done = world.ask(|origin| Command::Discharge { origin, transaction, fail: false });
    assert!(matches!(done, Ok(Reply::Discharged)), "{done:?}");
    assert_eq!(bodies(&take_from(&mut world, "s")), ["x"]);
}

fn to(target: &str) -> QueueSettings {
    QueueSettings { forward_to: Some(path(target)), ..QueueSettings::default() }
}

#[test]
fn subscriptions_forward_and_topics_are_forwarded_to() {
    let mut world = world(&[]);
    world.ensure_queue("end", QueueSettings::default());
    world.ensure_queue("start", to("t"));
    add_subscription(&mut world, "s", to("end"), vec![color("c", "red")]);
    add_subscription(&mut world, "kept", QueueSettings::default(), vec![all("a")]);
    publish_to(&mut world, "start", message("x", &[("color", "red".into())])).unwrap();
    publish_to(&mut world, "start", message("y", &[])).unwrap();
    assert_eq!(world.message_rows(), 3, "kept only where they come to rest");
    world.crash();
    let end = take_all(&mut world, "end");
    assert_eq!((bodies(&end), numbers(&end)), (vec!["x"], vec![(1, 1)]));
    assert_eq!(end[0].message.header().hops, 2);
    assert_eq!(bodies(&take_from(&mut world, "kept")), ["x", "y"]);
}

#[test]
fn copies_go_on_from_topic_to_topic_but_not_for_ever() {
    let mut world = world(&[]);
    create_topic(&mut world, "u").unwrap();
    add_subscription(&mut world, "on", to("u"), vec![all("a")]);
    for (name, settings) in [("back", to("t")), ("here", QueueSettings::default())] {
        let path = path(&format!("u/Subscriptions/{name}"));
        let make = |origin| TopicCommand::CreateSubscription { origin, path, settings, rule: None };
        ask(&mut world, make).unwrap();
    }
    publish(&mut world, message("x", &[]));
    world.pass(Span(1));
    let here = take_all(&mut world, "u/Subscriptions/here");
    assert_eq!(bodies(&here), ["x", "x"], "directly, and once round");
    let dead = dead_from(&mut world, "on");
    assert_eq!(bodies(&dead), ["x"]);
    let reason = property(&dead[0], "DeadLetterReason");
    assert_eq!(reason, Some("MaxTransferHopCountExceeded".into()));
    assert_eq!(world.message_rows(), 0);
}

#[test]
fn a_dead_letter_that_is_published_shows_why_it_died() {
    let mut world = world(&[("s", vec![sql("r", "DeadLetterReason = 'Broken'")])]);
    let settings =
        QueueSettings { forward_dead_letters_to: Some(path("t")), ..QueueSettings::default() };
    let queue = world.ensure_queue("q", settings);
    let messages = [message("x", &[("k", 1.into())])].into_iter().collect();
    world
        .ask(|origin| Command::Send { origin, entity: queue, messages, transaction: None })
        .unwrap();
    let receiver = world.open(1, "q", ReceiveMode::PeekLock);
    let held = world.receive_one(receiver, 1);
    let settlement = crate::command::Settlement::DeadLetter {
        reason: Some("Broken".into()),
        description: None,
        changes: Vec::new(),
    };
    world.settle(&held, settlement).unwrap();
    let copies = take_from(&mut world, "s");
    assert_eq!(bodies(&copies), ["x"]);
    assert_eq!(property(&copies[0], "k"), Some(1.into()));
    assert_eq!(copies[0].dead_letter_source.as_deref(), Some("q"));
}

#[test]
fn the_shortest_of_three_times_to_live_counts() {
    let mut world = World::new(BrokerSettings::default());
    let second = |n| Some(Span::from_secs(n));
    let settings = TopicSettings { default_time_to_live: second(20), ..TopicSettings::default() };
    let t = path("t");
    ask(&mut world, |origin| TopicCommand::CreateTopic { origin, path: t, settings }).unwrap();
    for (name, default_time_to_live) in [("short", second(10)), ("long", second(30))] {
        let settings = QueueSettings {
            default_time_to_live,
            dead_letter_on_expiry: true,
            ..QueueSettings::default()
        };
        let action = with_action(all("b"), "SET sys.TimeToLive = NULL");
        add_subscription(&mut world, name, settings, vec![all("a"), action]);
    }
    publish(&mut world, message("x", &[]));
    let header = peeklock_protocol::message::Header { ttl: Some(5_000), ..Default::default() };
    let short_lived = Message { header: Some(header), ..Message::data(b"y".to_vec()) };
    publish(&mut world, IncomingMessage::from_wire(&short_lived.to_bytes()).unwrap());
    world.crash();
    let mut counts = Vec::new();
    for _ in 0..4 {
        let active = |name| world.stats(&format!("t/Subscriptions/{name}")).active_count;
        counts.push((active("short"), active("long")));
        world.pass(Span::from_secs(5));
    }
    // An action has no say in how long its copy is kept here.
    assert_eq!(counts, [(4, 4), (2, 2), (0, 2), (0, 2)]);
    assert_eq!(world.stats("t/Subscriptions/long").active_count, 0);
    assert_eq!(bodies(&dead_from(&mut world, "long")), ["x", "x", "y", "y"]);
}

#[test]
fn duplicates_are_found_by_the_topic() {
    let mut world = World::new(BrokerSettings::default());
    let duplicate_window = Some(QueueSettings::DUPLICATE_WINDOW_MIN);
    let settings = TopicSettings { duplicate_window, ..TopicSettings::default() };
    let t = path("t");
    ask(&mut world, |origin| TopicCommand::CreateTopic { origin, path: t, settings }).unwrap();
    add_subscription(&mut world, "s", QueueSettings::default(), vec![all("a")]);
    let with_id = |id: &str| {
        encoded(id, &[], Properties { message_id: Some(id.into()), ..Properties::default() })
    };
    for id in ["1", "2", "1"] {
        publish(&mut world, with_id(id));
    }
    world.crash();
    publish(&mut world, with_id("2"));
    let copies = take_from(&mut world, "s");
    assert_eq!((bodies(&copies), numbers(&copies)), (vec!["1", "2"], vec![(1, 1), (2, 2)]));
    world.pass(QueueSettings::DUPLICATE_WINDOW_MIN);
    world.pass(QueueSettings::DUPLICATE_WINDOW_MIN);
    publish(&mut world, with_id("2"));
    assert_eq!(bodies(&take_from(&mut world, "s")), ["2"]);
}
