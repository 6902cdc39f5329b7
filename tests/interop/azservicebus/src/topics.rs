//! Topics: publishing, subscriptions and their rules.

use std::time::Duration;

use azservicebus::administration::{
    CorrelationRuleFilter, FalseRuleFilter, RuleAction, RuleFilter, RuleProperties, SqlRuleAction,
    SqlRuleFilter, TrueRuleFilter,
};
use azservicebus::receiver::DeadLetterOptions;
use azservicebus::{
    ServiceBusMessage, ServiceBusReceiveMode, ServiceBusReceivedMessage, ServiceBusReceiver,
    ServiceBusReceiverOptions, ServiceBusRuleManager, ServiceBusSessionReceiverOptions, SubQueue,
};
use fe2o3_amqp_types::messaging::ApplicationProperties;
use fe2o3_amqp_types::primitives::{OrderedMap, SimpleValue, Value};
use time::OffsetDateTime;

use crate::{
    ANSWER, Broker, Client, Result, bodies, count, expect, expect_error, nothing_more, one,
    queue_of as topic_of, seen, take,
};

impl Client {
    async fn publish(&mut self, topic: &str, messages: Vec<ServiceBusMessage>) -> Result {
        let mut sender = self.sender(topic).await?;
        for message in messages {
            sender.send_message(message).await?;
        }
        sender.dispose().await?;
        Ok(())
    }

    async fn subscription(&mut self, topic: &str, name: &str) -> Result<ServiceBusReceiver> {
        self.subscription_with(topic, name, ServiceBusReceiverOptions::default()).await
    }

    async fn subscription_with(
        &mut self,
        topic: &str,
        name: &str,
        options: ServiceBusReceiverOptions,
    ) -> Result<ServiceBusReceiver> {
        Ok(self.inner.create_receiver_for_subscription(topic, name, options).await?)
    }

    /// What a subscription has, which has to be that many messages and no more.
    async fn taken(
        &mut self,
        topic: &str,
        name: &str,
        count: u32,
    ) -> Result<Vec<ServiceBusReceivedMessage>> {
        let receiver = self.subscription(topic, name).await?;
        taken_by(receiver, count).await
    }

    async fn expect_bodies(&mut self, topic: &str, name: &str, wanted: &[&str]) -> Result {
        let messages = self.taken(topic, name, u32::try_from(wanted.len())?).await?;
        expect(bodies(&messages)?, strings(wanted), name)
    }
}

async fn taken_by(
    mut receiver: ServiceBusReceiver,
    count: u32,
) -> Result<Vec<ServiceBusReceivedMessage>> {
    let mut messages = Vec::new();
    for _ in 0..count {
        let message = one(&mut receiver).await?;
        receiver.complete_message(&message).await?;
        messages.push(message);
    }
    nothing_more(receiver).await?;
    Ok(messages)
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn sized(body: &str, size: i32, colour: &str) -> ServiceBusMessage {
    let mut message = ServiceBusMessage::new(body);
    message.set_subject(Some(colour.to_owned()));
    let properties = ApplicationProperties::builder().insert("size", SimpleValue::Int(size));
    *message.application_properties_mut() = Some(properties.build());
    message
}

fn property(message: &ServiceBusReceivedMessage, name: &str) -> Option<SimpleValue> {
    message.application_properties()?.0.get(name).cloned()
}

pub(crate) async fn publish(broker: Broker) -> Result {
    let topic = topic_of("publish");
    let mut client = broker.connect_without_retries().await?;
    client.send_bodies(&topic, &["1"]).await?;
    let mut sender = client.sender(&topic).await?;
    sender.send_messages(["2", "3"]).await?;
    for name in ["a", "b"] {
        client.expect_bodies(&topic, name, &["1", "2", "3"]).await?;
    }
    expect_error(client.receiver(&topic).await, &["NotFound"], "a receiver of a topic")?;
    expect_error(client.subscription(&topic, "none").await, &["NotFound"], "no subscription")?;
    client.close().await
}

pub(crate) async fn publish_scheduled(broker: Broker) -> Result {
    let topic = topic_of("publish-scheduled");
    let mut client = broker.connect_without_retries().await?;
    let mut sender = client.sender(&topic).await?;
    let due = OffsetDateTime::now_utc() + Duration::from_secs(3);
    let numbers = sender.schedule_messages(["first", "cancelled"], due).await?;
    let mut second = ServiceBusMessage::new("second");
    second.set_scheduled_enqueue_time(due);
    sender.send_message(second).await?;
    sender.send_message("at once").await?;
    sender.cancel_scheduled_message(numbers[1]).await?;
    let mut receiver = client.subscription(&topic, "a").await?;
    expect(receiver.peek_messages(10, Some(1)).await?.len(), 1, "messages that are due")?;
    let again = sender.cancel_scheduled_message(numbers[1]).await;
    expect_error(again, &["404"], "what is cancelled already")?;
    let messages = taken_by(receiver, 3).await?;
    expect(bodies(&messages)?, strings(&["at once", "first", "second"]), "bodies")?;
    client.close().await
}

pub(crate) async fn filters(broker: Broker) -> Result {
    let topic = topic_of("filters");
    let mut client = broker.connect().await?;
    let messages = vec![
        sized("one", 1, "red"),
        sized("seven", 7, "blue"),
        sized("eight", 8, "red"),
        ServiceBusMessage::new("none"),
    ];
    client.publish(&topic, messages).await?;
    client.expect_bodies(&topic, "everything", &["one", "seven", "eight", "none"]).await?;
    client.expect_bodies(&topic, "nothing", &[]).await?;
    client.expect_bodies(&topic, "sql", &["seven"]).await?;
    client.expect_bodies(&topic, "missing", &["none"]).await?;
    client.expect_bodies(&topic, "correlation", &["one", "eight"]).await?;
    client.expect_bodies(&topic, "typed", &["seven"]).await?;
    client.close().await
}

pub(crate) async fn actions(broker: Broker) -> Result {
    let topic = topic_of("actions");
    let mut client = broker.connect().await?;
    client.publish(&topic, vec![sized("small", 1, "red"), sized("big", 7, "blue")]).await?;
    let mut copies = client.taken(&topic, "a", 2).await?;
    copies.sort_by_key(|copy| copy.subject().map(str::to_owned));
    expect(bodies(&copies)?, strings(&["big", "big"]), "bodies")?;
    let (plain, doubled) = (&copies[0], &copies[1]);
    expect((plain.subject(), doubled.subject()), (Some("blue"), Some("doubled")), "subjects")?;
    expect(property(plain, "size"), Some(SimpleValue::Int(7)), "size of the plain copy")?;
    expect(property(plain, "RuleName"), None, "rule of the plain copy")?;
    let rule = SimpleValue::String("double".to_owned());
    expect(property(doubled, "RuleName"), Some(rule), "rule of the other copy")?;
    // 2 is a long in SQL, and so is what comes of it.
    expect(property(doubled, "size"), Some(SimpleValue::Long(14)), "size of the other copy")?;
    client.close().await
}

fn typed_filter() -> CorrelationRuleFilter {
    let mut properties = OrderedMap::new();
    properties.insert("size".to_owned(), Value::Long(8));
    CorrelationRuleFilter::builder().subject("red").properties(properties).build()
}

fn names(rules: &[RuleProperties]) -> Vec<&str> {
    rules.iter().map(|rule| rule.name.as_str()).collect()
}

/// Takes the first rule away and makes one of each kind.
async fn replace_default_rule(manager: &mut ServiceBusRuleManager) -> Result {
    let rules = manager.get_rules().await?;
    expect(names(&rules), vec![RuleProperties::DEFAULT_RULE_NAME], "rules at first")?;
    expect(&rules[0].filters, &RuleFilter::True(TrueRuleFilter), "filter")?;
    manager.delete_rule(RuleProperties::DEFAULT_RULE_NAME).await?;
    let again = manager.delete_rule(RuleProperties::DEFAULT_RULE_NAME).await;
    expect_error(again, &["404"], "what is deleted already")?;
    manager.create_rule("big", SqlRuleFilter::new("size > 8")).await?;
    let second = manager.create_rule("BIG", SqlRuleFilter::new("size > 9")).await;
    expect_error(second, &["409"], "a second rule of a name")?;
    let wrong = manager.create_rule("wrong", SqlRuleFilter::new("size >")).await;
    expect_error(wrong, &["400", "at character 7"], "no expression")?;
    manager.create_rule("no", FalseRuleFilter).await?;
    manager.create_rule("typed", typed_filter()).await?;
    let action = SqlRuleAction::new("SET sys.Label = 'acted'");
    manager.create_rule("zero", (SqlRuleFilter::new("size = 0"), action.clone())).await?;
    let rules = manager.get_rules().await?;
    expect(names(&rules), vec!["big", "no", "typed", "zero"], "rules")?;
    let RuleFilter::Sql(filter) = &rules[0].filters else { return Err("no SQL filter".into()) };
    expect(filter.expression.as_str(), "size > 8", "filter")?;
    expect(&rules[2].filters, &RuleFilter::Correlation(typed_filter()), "correlation filter")?;
    expect(matches!(rules[2].actions, RuleAction::Empty(_)), true, "no action")?;
    let RuleAction::Sql(found) = &rules[3].actions else { return Err("no action".into()) };
    expect(&found.expression, &action.expression, "action")?;
    expect(rules.iter().all(|rule| rule.created_at.is_some()), true, "a time each")
}

pub(crate) async fn rules(broker: Broker) -> Result {
    let topic = topic_of("rules");
    let mut client = broker.connect_without_retries().await?;
    let mut manager = client.inner.create_rule_manager(&topic, "a").await?;
    replace_default_rule(&mut manager).await?;
    let messages =
        vec![sized("eight", 8, "red"), sized("small", 3, "red"), sized("zero", 0, "red")];
    client.publish(&topic, messages).await?;
    let found = client.taken(&topic, "a", 2).await?;
    expect(bodies(&found)?, strings(&["eight", "zero"]), "bodies")?;
    expect(found[1].subject(), Some("acted"), "subject")?;
    for rule in manager.get_rules().await? {
        manager.delete_rule(rule.name).await?;
    }
    client.send_bodies(&topic, &["to nobody"]).await?;
    manager.create_rule("all", TrueRuleFilter).await?;
    client.send_bodies(&topic, &["again"]).await?;
    client.expect_bodies(&topic, "a", &["again"]).await?;
    manager.dispose().await?;
    client.close().await
}

pub(crate) async fn subscription_peek(broker: Broker) -> Result {
    let topic = topic_of("subscription-peek");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["1", "2", "3"]).await?;
    let mut receiver = client.subscription(&topic, "a").await?;
    let mut locked = take(&mut receiver, 1).await?;
    let seen = receiver.peek_messages(10, Some(1)).await?;
    expect(seen.len(), 3, "messages peeked, the locked one among them")?;
    receiver.renew_message_lock(&mut locked[0]).await?;
    receiver.complete_message(&locked[0]).await?;
    let rest = taken_by(receiver, 2).await?;
    expect(bodies(&rest)?, strings(&["2", "3"]), "bodies")?;
    client.close().await
}

pub(crate) async fn subscription_delete(broker: Broker) -> Result {
    let topic = topic_of("subscription-delete");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["1", "2", "3"]).await?;
    let options = ServiceBusReceiverOptions {
        receive_mode: ServiceBusReceiveMode::ReceiveAndDelete,
        ..Default::default()
    };
    let mut receiver = client.subscription_with(&topic, "a", options).await?;
    let messages = take(&mut receiver, 3).await?;
    expect(bodies(&messages)?, strings(&["1", "2", "3"]), "bodies")?;
    receiver.dispose().await?;
    client.expect_bodies(&topic, "a", &[]).await?;
    client.close().await
}

/// The subscription allows two deliveries.
pub(crate) async fn subscription_dead_letter(broker: Broker) -> Result {
    let topic = topic_of("subscription-dead-letter");
    let mut client = broker.connect().await?;
    client.send_bodies(&topic, &["bad", "poison", "good"]).await?;
    let mut receiver = client.subscription(&topic, "a").await?;
    let bad = one(&mut receiver).await?;
    let why = DeadLetterOptions {
        dead_letter_reason: Some("unreadable".to_owned()),
        ..DeadLetterOptions::default()
    };
    receiver.dead_letter_message(&bad, why).await?;
    for failed in 0..2 {
        let poison = one(&mut receiver).await?;
        expect(seen(&poison)?, ("poison".to_owned(), failed), "body, count")?;
        receiver.abandon_message(&poison, None).await?;
    }
    let good = taken_by(receiver, 1).await?;
    expect(bodies(&good)?, strings(&["good"]), "bodies")?;
    expect(count(&good[0])?, 0, "count")?;
    let options =
        ServiceBusReceiverOptions { sub_queue: SubQueue::DeadLetter, ..Default::default() };
    let dead = taken_by(client.subscription_with(&topic, "a", options).await?, 2).await?;
    expect(bodies(&dead)?, strings(&["bad", "poison"]), "dead letters")?;
    let reasons = [dead[0].dead_letter_reason(), dead[1].dead_letter_reason()];
    expect(reasons, [Some("unreadable"), Some("MaxDeliveryCountExceeded")], "reasons")?;
    client.expect_bodies(&topic, "b", &["bad", "poison", "good"]).await?;
    client.close().await
}

pub(crate) async fn subscription_sessions(broker: Broker) -> Result {
    let topic = topic_of("subscription-sessions");
    let mut client = broker.connect().await?;
    let mut messages = Vec::new();
    for (session, body) in [("x", "x1"), ("y", "y1"), ("x", "x2")] {
        let mut message = ServiceBusMessage::new(body);
        message.set_session_id(session.to_owned())?;
        messages.push(message);
    }
    client.publish(&topic, messages).await?;
    let options = ServiceBusSessionReceiverOptions::default;
    let accept = client.inner.accept_session_for_subscription(&topic, "a", "x", options());
    let mut x = accept.await?;
    let mut found = Vec::new();
    for _ in 0..2 {
        let message = x.receive_message_with_max_wait_time(ANSWER).await?.ok_or("no message")?;
        x.complete_message(&message).await?;
        found.push(message);
    }
    expect(bodies(&found)?, strings(&["x1", "x2"]), "bodies")?;
    x.set_session_state(b"half done".to_vec()).await?;
    x.renew_session_lock().await?;
    expect(x.session_state().await?, b"half done".to_vec(), "state")?;
    x.dispose().await?;
    let next = client.inner.accept_next_session_for_subscription(&topic, "a", options());
    let mut next = next.await?;
    expect(next.session_id(), "y", "session")?;
    let message = next.receive_message_with_max_wait_time(ANSWER).await?.ok_or("no message")?;
    next.complete_message(&message).await?;
    expect(seen(&message)?, ("y1".to_owned(), 0), "body, count")?;
    next.dispose().await?;
    client.close().await
}

/// One subscription forwards to a queue, the other to a topic that takes what is big.
pub(crate) async fn subscription_forward(broker: Broker) -> Result {
    let topic = topic_of("subscription-forward");
    let mut client = broker.connect().await?;
    client.publish(&topic, vec![sized("small", 1, "red"), sized("big", 7, "blue")]).await?;
    let queue = client.receiver(&format!("{topic}.queue")).await?;
    expect(bodies(&taken_by(queue, 2).await?)?, strings(&["small", "big"]), "bodies")?;
    client.expect_bodies(&format!("{topic}.topic"), "end", &["big"]).await?;
    client.close().await
}
