//! `peeklock queue`, `topic` and `subscription`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::management::{Described, Management, noun, opening, write_again};
use super::output;
use super::properties::{Given, Kindred, Property, Queue, Subscription, Topic};
use super::rules::RuleOptions;
use crate::http::atom::xml::{Element, Space, Writer};

/// What can be done with queues.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Create a queue
    Create(Change<Queue>),
    /// Show a queue with its properties and counts
    Show(Named),
    /// List all queues with their counts
    List(Listing),
    /// Change properties of a queue; the others stay as they are
    Update(Change<Queue>),
    /// Delete a queue with all its messages
    Delete(Deletion),
}

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(Change<Topic>),
    /// Show a topic with its properties and counts
    Show(Named),
    /// List all topics with their counts
    List(Listing),
    /// Change properties of a topic; the others stay as they are
    Update(Change<Topic>),
    /// Delete a topic with all its subscriptions and their messages
    Delete(Deletion),
}

/// What can be done with subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionCommand {
    /// Create a subscription, which gets all messages unless a rule is given
    Create(Box<NewSubscription>),
    /// Show a subscription with its properties and counts
    Show(NamedSubscription),
    /// List the subscriptions of a topic with their counts
    List(SubscriptionListing),
    /// Change properties of a subscription; the others stay as they are
    Update(ChangedSubscription),
    /// Delete a subscription with all its messages
    Delete(SubscriptionDeletion),
}

/// A name, and properties.
#[derive(Args, Debug)]
pub struct Change<K: Kindred> {
    /// Name of the entity
    name: String,
    #[command(flatten)]
    properties: Given<K>,
    #[command(flatten)]
    common: Common,
}

/// One entity.
#[derive(Args, Debug)]
pub struct Named {
    /// Name of the entity
    name: String,
    #[command(flatten)]
    common: Common,
}

/// All entities of a kind.
#[derive(Args, Debug)]
pub struct Listing {
    #[command(flatten)]
    common: Common,
}

/// An entity that is to go.
#[derive(Args, Debug)]
pub struct Deletion {
    /// Name of the entity
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

/// A subscription with its first rule.
#[derive(Args, Debug)]
pub struct NewSubscription {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    name: String,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    properties: Given<Subscription>,
    #[command(flatten)]
    common: Common,
}

/// A subscription with other properties.
#[derive(Args, Debug)]
pub struct ChangedSubscription {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    name: String,
    #[command(flatten)]
    properties: Given<Subscription>,
    #[command(flatten)]
    common: Common,
}

/// One subscription.
#[derive(Args, Debug)]
pub struct NamedSubscription {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    name: String,
    #[command(flatten)]
    common: Common,
}

/// All subscriptions of a topic.
#[derive(Args, Debug)]
pub struct SubscriptionListing {
    /// Name of the topic
    topic: String,
    #[command(flatten)]
    common: Common,
}

/// A subscription that is to go.
#[derive(Args, Debug)]
pub struct SubscriptionDeletion {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn queue(command: &QueueCommand) -> Result<(), Failure> {
    match command {
        QueueCommand::Create(new) => create(&new.name, &new.properties, None, &new.common).await,
        QueueCommand::Show(named) => show::<Queue>(&named.name, &named.common).await,
        QueueCommand::List(listing) => list::<Queue>("$Resources/Queues", &listing.common).await,
        QueueCommand::Update(new) => update(&new.name, &new.properties, &new.common).await,
        QueueCommand::Delete(old) => delete::<Queue>(&old.name, old.yes, &old.common).await,
    }
}

pub(super) async fn topic(command: &TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::Create(new) => create(&new.name, &new.properties, None, &new.common).await,
        TopicCommand::Show(named) => show::<Topic>(&named.name, &named.common).await,
        TopicCommand::List(listing) => list::<Topic>("$Resources/Topics", &listing.common).await,
        TopicCommand::Update(new) => update(&new.name, &new.properties, &new.common).await,
        TopicCommand::Delete(old) => delete::<Topic>(&old.name, old.yes, &old.common).await,
    }
}

pub(super) async fn subscription(command: &SubscriptionCommand) -> Result<(), Failure> {
    match command {
        SubscriptionCommand::Create(new) => {
            let rule = new.rule.description("$Default")?;
            let path = subscription_path(&new.topic, &new.name);
            create(&path, &new.properties, rule, &new.common).await
        }
        SubscriptionCommand::Show(named) => {
            show::<Subscription>(&subscription_path(&named.topic, &named.name), &named.common).await
        }
        SubscriptionCommand::List(listing) => {
            let path = format!("{}/Subscriptions", listing.topic);
            list::<Subscription>(&path, &listing.common).await
        }
        SubscriptionCommand::Update(new) => {
            let path = subscription_path(&new.topic, &new.name);
            update(&path, &new.properties, &new.common).await
        }
        SubscriptionCommand::Delete(old) => {
            let path = subscription_path(&old.topic, &old.name);
            delete::<Subscription>(&path, old.yes, &old.common).await
        }
    }
}

/// Where a subscription is.
pub(super) fn subscription_path(topic: &str, name: &str) -> String {
    format!("{topic}/Subscriptions/{name}")
}

async fn create<K: Kindred>(
    path: &str,
    properties: &Given<K>,
    rule: Option<String>,
    common: &Common,
) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let description = new_description(properties, rule)?;
    let made = Management::new(&server).put(path, &description, false).await?;
    report::<K>("created", path, &made, common)
}

/// What a request to create an entity says: nothing but what is given.
pub(super) fn new_description<K: Kindred>(
    properties: &Given<K>,
    rule: Option<String>,
) -> Result<String, Failure> {
    let mut out = Writer::default();
    for (property, text) in &properties.values {
        let value = property.kind.parse(text).map_err(Failure::Argument)?;
        if !value.is_empty() {
            out.leaf(property.element, &value);
        }
    }
    if let Some(rule) = rule {
        out.open("DefaultRuleDescription", &[]);
        out.raw(&rule);
        out.close("DefaultRuleDescription");
    }
    Ok(format!("{}{}</{}>", opening(K::DESCRIPTION), out.finish(), K::DESCRIPTION))
}

/// What a request to change an entity says: all that it was, and what is new. It does not speak of access
/// rules, which then stay as they are: those that were read may have been taken away in the meantime.
pub(super) fn changed_description<K: Kindred>(
    before: &Element,
    properties: &Given<K>,
) -> Result<String, Failure> {
    let mut after = before.clone();
    for (property, text) in &properties.values {
        let value = property.kind.parse(text).map_err(Failure::Argument)?;
        let known = after
            .children
            .iter_mut()
            .find(|child| child.space == Space::ServiceBus && child.name == property.element);
        match known {
            Some(element) => element.text = value,
            None => after.children.push(Element {
                space: Space::ServiceBus,
                name: property.element.to_owned(),
                kind: None,
                text: value,
                children: Vec::new(),
            }),
        }
    }
    // Nothing is forwarded to by an element that is empty; the service wants none at all then.
    after.children.retain(|child| {
        child.name != "AuthorizationRules" && (!child.text.is_empty() || !child.children.is_empty())
    });
    let mut out = Writer::default();
    for child in &after.children {
        if child.space == Space::ServiceBus && child.name != "CountDetails" {
            write_again(child, &mut out);
        }
    }
    Ok(format!("{}{}</{}>", opening(K::DESCRIPTION), out.finish(), K::DESCRIPTION))
}

async fn update<K: Kindred>(
    path: &str,
    properties: &Given<K>,
    common: &Common,
) -> Result<(), Failure> {
    if properties.values.is_empty() {
        return Err(Failure::Argument("name a property to change".to_owned()));
    }
    let server = common.connection.server()?;
    let mut management = Management::new(&server);
    let before = management.need(path, K::DESCRIPTION).await?;
    let description = changed_description(&before.element, properties)?;
    management.put(path, &description, true).await?;
    let after = management.need(path, K::DESCRIPTION).await?;
    report::<K>("updated", path, &after, common)
}

async fn show<K: Kindred>(path: &str, common: &Common) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let found = Management::new(&server).need(path, K::DESCRIPTION).await?;
    if common.json {
        return output::print_json(&json_of::<K>(&found));
    }
    let mut rows = vec![("name".to_owned(), found.name.clone())];
    let shown = |property: &Property| Some((property.key(), property.read(&found.element)?));
    rows.extend(K::PROPERTIES.iter().filter_map(shown).filter(|(_, value)| !value.is_empty()));
    rows.extend(state(&found.element).map(|(key, value)| (key.to_owned(), value)));
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let line =
        |(key, value): &(String, String)| format!("{key:width$}  {}\n", output::one_line(value));
    output::print(&rows.iter().map(line).collect::<String>())
}

async fn list<K: Kindred>(path: &str, common: &Common) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let all = Management::new(&server).list(path).await?;
    if common.json {
        return output::print_json(&all.iter().map(json_of::<K>).collect::<Vec<_>>());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|found| {
            let mut row = vec![found.name.clone()];
            row.extend(COUNTS.map(|(_, name)| count(&found.element, name).unwrap_or_default()));
            let status = K::PROPERTIES.iter().find(|property| property.option == "status");
            row.push(status.and_then(|status| status.read(&found.element)).unwrap_or_default());
            row
        })
        .collect();
    let headings = ["NAME", "ACTIVE", "DEAD", "SCHEDULED", "TRANSFER", "TRANSFER-DEAD", "STATUS"];
    output::print(&output::table(&headings, &rows))
}

async fn delete<K: Kindred>(path: &str, yes: bool, common: &Common) -> Result<(), Failure> {
    let server = common.connection.server()?;
    let mut management = Management::new(&server);
    let found = management.need(path, K::DESCRIPTION).await?;
    let messages = text(&found.element, "MessageCount").unwrap_or("0").to_owned();
    let noun = noun(K::DESCRIPTION);
    output::confirm(&format!("Delete {noun} {path} with {messages} messages?"), yes)?;
    management.delete(path).await?;
    if common.json {
        return output::print_json(&json!({ "deleted": found.name }));
    }
    output::print(&format!("deleted {noun} {path}\n"))
}

fn report<K: Kindred>(
    done: &str,
    path: &str,
    found: &Described,
    common: &Common,
) -> Result<(), Failure> {
    if common.json {
        return output::print_json(&json_of::<K>(found));
    }
    output::print(&format!("{done} {} {path}\n", noun(K::DESCRIPTION)))
}

/// Counts of messages: the key in JSON, the element.
const COUNTS: [(&str, &str); 5] = [
    ("active", "ActiveMessageCount"),
    ("dead_letter", "DeadLetterMessageCount"),
    ("scheduled", "ScheduledMessageCount"),
    ("transfer", "TransferMessageCount"),
    ("transfer_dead_letter", "TransferDeadLetterMessageCount"),
];

fn count(description: &Element, name: &str) -> Option<String> {
    let details = description.child(Space::ServiceBus, "CountDetails")?;
    details.children.iter().find(|child| child.name == name).map(|child| child.text.clone())
}

fn text<'a>(description: &'a Element, name: &str) -> Option<&'a str> {
    description.child(Space::ServiceBus, name).map(|child| child.text.as_str())
}

/// What an entity has, beside its properties.
fn state(description: &Element) -> impl Iterator<Item = (&'static str, String)> {
    let count = |(key, name)| Some((key, count(description, name)?));
    let others = [
        ("messages", "MessageCount"),
        ("bytes", "SizeInBytes"),
        ("subscriptions", "SubscriptionCount"),
        ("created_at", "CreatedAt"),
        ("updated_at", "UpdatedAt"),
        ("accessed_at", "AccessedAt"),
    ];
    let other = |(key, name)| Some((key, text(description, name)?.to_owned()));
    let all: Vec<_> =
        COUNTS.into_iter().filter_map(count).chain(others.into_iter().filter_map(other)).collect();
    all.into_iter()
}

fn json_of<K: Kindred>(found: &Described) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("name".to_owned(), found.name.as_str().into());
    for property in K::PROPERTIES {
        if let Some(value) = property.read(&found.element) {
            object.insert(property.key(), property.kind.json(&value));
        }
    }
    let mut counts = serde_json::Map::new();
    for (key, value) in state(&found.element) {
        let number = value.parse::<u64>().map_or_else(|_| value.clone().into(), Into::into);
        let is_count = COUNTS.iter().any(|(known, _)| *known == key);
        if is_count { &mut counts } else { &mut object }.insert(key.to_owned(), number);
    }
    object.insert("counts".to_owned(), counts.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::atom::xml;

    #[test]
    fn a_change_says_all_that_there_was_but_for_access_rules() {
        let rules = "<AuthorizationRules><AuthorizationRule><KeyName>own</KeyName>\
                     <PrimaryKey>canary</PrimaryKey></AuthorizationRule></AuthorizationRules>";
        for rules in [rules, "<AuthorizationRules/>", ""] {
            let before = format!(
                "{}<MaxDeliveryCount>3</MaxDeliveryCount>{rules}<ForwardTo/>\
                 <UserMetadata>mine</UserMetadata></QueueDescription>",
                opening(Queue::DESCRIPTION)
            );
            let before = xml::parse(before.as_bytes()).unwrap();
            let property = |property: &&Property| property.element == "MaxDeliveryCount";
            let property = Queue::PROPERTIES.iter().find(property).unwrap();
            let given = Given::<Queue>::new(vec![(property, "5".to_owned())]);
            let after = changed_description(&before, &given).unwrap();
            let expected = format!(
                "{}<MaxDeliveryCount>5</MaxDeliveryCount><UserMetadata>mine</UserMetadata>\
                 </QueueDescription>",
                opening(Queue::DESCRIPTION)
            );
            assert_eq!(after, expected);
        }
    }
}
