//! Topics: rules, copies, and the life of their entities.

mod entities;
mod history;
mod jms;
mod list;
mod publish;
mod rules;
mod runs;
mod runs_history;

use peeklock_protocol::message::{MapSection, Message, Properties};
use peeklock_protocol::value::{Map, Value};

use crate::command::{Command, ReceiveMode};
use crate::effect::{Delivery, Reply};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::Error;
use crate::id::{EntityId, Origin};
use crate::message::IncomingMessage;
use crate::testing::World;
use crate::topic::command::{TopicCommand, TopicDescription, TopicReply};
use crate::topic::rules::{Correlation, Rule, RuleDescription, RuleFilter, SqlText};
use crate::topic::settings::TopicSettings;

fn path(address: &str) -> EntityPath {
    EntityPath::parse(address).unwrap().path
}

fn entity(world: &World, address: &str) -> EntityId {
    world.broker.namespace.resolve(&path(address)).unwrap()
}

fn ask(
    world: &mut World,
    command: impl FnOnce(Origin) -> TopicCommand,
) -> Result<TopicReply, Error> {
    let reply = world.ask(|origin| Command::OfTopic(Box::new(command(origin))))?;
    let Reply::OfTopic(reply) = reply else { panic!("{reply:?}") };
    Ok(reply)
}

fn create_topic(world: &mut World, name: &str) -> Result<TopicReply, Error> {
    let (path, settings) = (path(name), TopicSettings::default());
    ask(world, |origin| TopicCommand::CreateTopic { origin, path, settings })
}

/// A world with a topic `t` and these subscriptions of it.
fn world(subscriptions: &[(&str, Vec<RuleDescription>)]) -> World {
    let mut world = World::new(BrokerSettings::default());
    create_topic(&mut world, "t").unwrap();
    for (name, rules) in subscriptions {
        add_subscription(&mut world, name, QueueSettings::default(), rules.clone());
    }
    world
}

fn add_subscription(
    world: &mut World,
    name: &str,
    settings: QueueSettings,
    rules: Vec<RuleDescription>,
) {
    let path = path(&format!("t/Subscriptions/{name}"));
    let rules = Some(rules);
    ask(world, |origin| TopicCommand::EnsureSubscription {
        origin: Some(origin),
        path,
        settings,
        rules,
    })
    .unwrap();
}

fn rule(name: &str, filter: RuleFilter) -> RuleDescription {
    RuleDescription { name: name.into(), filter, action: None }
}

fn sql(name: &str, text: &str) -> RuleDescription {
    rule(name, RuleFilter::Sql(SqlText::plain(text)))
}

fn all(name: &str) -> RuleDescription {
    rule(name, RuleFilter::True)
}

fn color(name: &str, color: &str) -> RuleDescription {
    let user = vec![("color".into(), color.into())];
    rule(name, RuleFilter::Correlation(Correlation { system: Vec::new(), user }))
}

fn with_action(rule: RuleDescription, action: &str) -> RuleDescription {
    RuleDescription { action: Some(SqlText::plain(action)), ..rule }
}

/// A message with application properties.
fn message(body: &str, properties: &[(&str, Value)]) -> IncomingMessage {
    encoded(body, properties, Properties::default())
}

fn encoded(body: &str, properties: &[(&str, Value)], fields: Properties) -> IncomingMessage {
    let properties =
        properties.iter().fold(Map::new(), |map, (name, value)| map.with(*name, value.clone()));
    let message = Message::data(body.as_bytes().to_vec())
        .with_properties(fields)
        .with_application_properties(properties);
    IncomingMessage::from_wire(&message.to_bytes()).unwrap()
}

fn publish(world: &mut World, message: IncomingMessage) {
    publish_to(world, "t", message).unwrap();
}

fn publish_to(world: &mut World, name: &str, message: IncomingMessage) -> Result<Reply, Error> {
    let entity = entity(world, name);
    let messages = [message].into_iter().collect();
    world.ask(|origin| Command::Send { origin, entity, messages, transaction: None })
}

/// Takes out all there is.
fn take_all(world: &mut World, address: &str) -> Vec<Delivery> {
    let link = 1_000 + u64::from(world.origin().delivery);
    let receiver = world.open(link, address, ReceiveMode::ReceiveAndDelete);
    let deliveries = world.receive(receiver, 10_000);
    world.handle(Command::CloseReceiver { receiver });
    deliveries
}

fn take_from(world: &mut World, subscription: &str) -> Vec<Delivery> {
    take_all(world, &format!("t/Subscriptions/{subscription}"))
}

fn dead_from(world: &mut World, subscription: &str) -> Vec<Delivery> {
    take_all(world, &format!("t/Subscriptions/{subscription}/$DeadLetterQueue"))
}

/// An application property, as the receiver sees it.
fn property(delivery: &Delivery, name: &str) -> Option<Value> {
    let changed = delivery.application_properties.as_deref();
    let section = changed.or_else(|| delivery.message.application_properties())?;
    Some(MapSection::parse(section).unwrap().get(name).unwrap()?.value().unwrap())
}

fn numbers(deliveries: &[Delivery]) -> Vec<(u64, u64)> {
    let numbers =
        |delivery: &Delivery| (delivery.sequence.0, delivery.message.enqueue_sequence().0);
    deliveries.iter().map(numbers).collect()
}

fn describe(world: &mut World, name: &str) -> Result<TopicDescription, Error> {
    let path = path(name);
    let reply = ask(world, |origin| TopicCommand::DescribeTopic { origin, path })?;
    let TopicReply::TopicDescribed(described) = reply else { panic!("{reply:?}") };
    Ok(*described)
}

fn list(world: &mut World, name: &str) -> Vec<Rule> {
    let path = path(&format!("t/Subscriptions/{name}"));
    let list = |origin| TopicCommand::ListRules { origin, path, skip: 0, count_max: usize::MAX };
    let Ok(TopicReply::Rules { rules }) = ask(world, list) else { panic!("not listed") };
    rules
}

fn names(rules: &[Rule]) -> Vec<&str> {
    rules.iter().map(|rule| &*rule.description.name).collect()
}

fn add_rule(world: &mut World, name: &str, rule: RuleDescription) -> Result<TopicReply, Error> {
    let path = path(&format!("t/Subscriptions/{name}"));
    ask(world, |origin| TopicCommand::AddRule { origin, path, rule })
}

fn remove_rule(world: &mut World, name: &str, rule: &str) -> Result<TopicReply, Error> {
    let path = path(&format!("t/Subscriptions/{name}"));
    ask(world, |origin| TopicCommand::RemoveRule { origin, path, name: rule.into() })
}
