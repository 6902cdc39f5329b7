//! Listing queues, topics and subscriptions.

use super::*;

/// The names of a page of what a command lists.
fn page(world: &mut World, command: impl FnOnce(Origin) -> Command) -> Vec<String> {
    let paths: Vec<EntityPath> = match world.ask(command) {
        Ok(Reply::QueuesListed { queues }) => queues.into_iter().map(|queue| queue.path).collect(),
        Ok(Reply::OfTopic(TopicReply::TopicsListed { topics })) => {
            topics.into_iter().map(|topic| topic.path).collect()
        }
        Ok(Reply::OfTopic(TopicReply::SubscriptionsListed { subscriptions })) => {
            subscriptions.into_iter().map(|subscription| subscription.path).collect()
        }
        other => panic!("{other:?}"),
    };
    paths.iter().map(ToString::to_string).collect()
}

fn queues(world: &mut World, skip: usize, count_max: usize) -> Vec<String> {
    page(world, |origin| Command::ListQueues { origin, skip, count_max })
}

fn topics(world: &mut World, skip: usize, count_max: usize) -> Vec<String> {
    let list = |origin| TopicCommand::ListTopics { origin, skip, count_max };
    page(world, |origin| Command::OfTopic(Box::new(list(origin))))
}

fn subscriptions(world: &mut World, topic: &str, skip: usize, count_max: usize) -> Vec<String> {
    let path = path(topic);
    let list = |origin| TopicCommand::ListSubscriptions { origin, path, skip, count_max };
    page(world, |origin| Command::OfTopic(Box::new(list(origin))))
}

#[test]
fn entities_are_listed_by_kind_in_the_order_of_their_names() {
    let mut world = world(&[("b", vec![]), ("A", vec![]), ("c", vec![])]);
    for name in ["Zoo", "a/b", "t/q"] {
        world.ensure_queue(name, QueueSettings::default());
    }
    for name in ["T2", "t/Subscriptions"] {
        create_topic(&mut world, name).unwrap();
    }
    assert_eq!(queues(&mut world, 0, 100), ["a/b", "t/q", "Zoo"]);
    assert_eq!(queues(&mut world, 1, 1), ["t/q"]);
    assert_eq!(queues(&mut world, 3, 1), [""; 0]);
    assert_eq!(topics(&mut world, 0, 100), ["t", "t/Subscriptions", "T2"]);
    assert_eq!(topics(&mut world, 1, 1), ["t/Subscriptions"]);
    let of_t = ["A", "b", "c"].map(|name| format!("t/Subscriptions/{name}"));
    assert_eq!(subscriptions(&mut world, "T", 0, 100), of_t);
    assert_eq!(subscriptions(&mut world, "t", 2, 100), of_t[2..]);
    assert_eq!(subscriptions(&mut world, "T2", 0, 100), [""; 0]);
    let path = path("Zoo");
    let list = |origin| TopicCommand::ListSubscriptions { origin, path, skip: 0, count_max: 1 };
    assert_eq!(ask(&mut world, list), Err(Error::EntityNotFound("Zoo".into())));
}

#[test]
fn the_probe_is_in_no_list_and_counts_for_no_limit() {
    let settings = BrokerSettings { queues_max: 1, ..BrokerSettings::default() };
    let mut world = World::new(settings);
    world.ensure_queue("q", QueueSettings::default());
    let opened = world.ask(|origin| Command::OpenTemporary {
        origin,
        path: EntityPath::probe(),
        is_topic: false,
        receiver: None,
    });
    assert!(matches!(opened, Ok(Reply::SenderOpened { .. })), "{opened:?}");
    assert_eq!(queues(&mut world, 0, 100), ["q"]);
    assert_eq!(world.broker.queue_stats().count(), 1);
    world.settle_down();
    world.crash();
    assert_eq!(queues(&mut world, 0, 100), ["q"]);
    let path = EntityPath::probe();
    let there = world.ask(|origin| Command::OpenSender { origin, path });
    assert!(matches!(there, Ok(Reply::SenderOpened { .. })), "{there:?}");
}

#[test]
fn a_topic_counts_its_filters() {
    let mut world =
        world(&[("a", vec![sql("x", "a = 1"), all("y")]), ("b", vec![color("x", "r")])]);
    let described = describe(&mut world, "t").unwrap();
    assert_eq!((described.sql_filter_count, described.correlation_filter_count), (1, 1));
}
