//! Topics, their subscriptions and rules: creating, changing, deleting and describing them. What
//! becomes of a message that is sent to a topic is `publish.rs`.

mod entities;
mod jms;
mod load;
mod publish;
mod rules;
mod sweep;
#[cfg(test)]
mod tests;

use peeklock_storage::CommitPosition;

pub(super) use self::sweep::Sweep;

use super::{Broker, queue_mut};
use crate::change::{Change, TopicChange};
use crate::effect::Reply;
use crate::entity::kind::EntityKind;
use crate::entity::path::Subqueue;
use crate::error::Error;
use crate::id::{EntityId, SequenceNumber};
use crate::queue::{Queue, Traces};
use crate::rows;
use crate::topic::command::{TopicCommand, TopicReply};
use crate::topic::topic::Topic;

impl Broker {
    pub(super) fn handle_topic(&mut self, command: TopicCommand) {
        match command {
            TopicCommand::EnsureTopic { origin, path, settings } => {
                let result = self.ensure_topic(path, &settings);
                if let Some(origin) = origin {
                    self.reply_after_commit(origin, result.map(Reply::OfTopic));
                }
            }
            TopicCommand::EnsureSubscription { origin, path, settings, rules } => {
                let result = self.ensure_subscription(path, settings, rules);
                if let Some(origin) = origin {
                    self.reply_after_commit(origin, result.map(Reply::OfTopic));
                }
            }
            TopicCommand::CreateTopic { origin, path, settings } => {
                let result = self.create_topic(path, &settings);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::UpdateTopic { origin, path, settings, access_rules } => {
                let result = self.update_topic(&path, &settings, access_rules);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::DeleteTopic { origin, path } => {
                let result = self.delete_of_kind(&path, TOPIC);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::DescribeTopic { origin, path } => {
                let result = self.describe_topic(&path);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::ListTopics { origin, skip, count_max } => {
                let result = self.list_topics(skip, count_max);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::CreateSubscription { origin, path, settings, rule } => {
                let result = self.create_subscription(path, settings, rule);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::UpdateSubscription { origin, path, settings } => {
                let result = self.update_subscription(&path, &settings);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::DeleteSubscription { origin, path } => {
                let result = self.delete_of_kind(&path, SUBSCRIPTION);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::Unsubscribe { origin, path } => {
                let result = self.unsubscribe(&path);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::DescribeSubscription { origin, path } => {
                let result = self.describe_subscription(&path);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::ListSubscriptions { origin, path, skip, count_max } => {
                let result = self.list_subscriptions(&path, skip, count_max);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::AddRule { origin, path, rule } => {
                let result = self.add_rule(&path, rule);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::UpdateRule { origin, path, rule } => {
                let result = self.update_rule(&path, rule);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::DescribeRule { origin, path, name } => {
                let result = self.describe_rule(&path, &name);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::RemoveRule { origin, path, name } => {
                let result = self.remove_rule(&path, &name);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
            TopicCommand::ListRules { origin, path, skip, count_max } => {
                let result = self.list_rules(&path, skip, count_max);
                self.reply_after_commit(origin, result.map(Reply::OfTopic));
            }
        }
    }

    /// Applies a fact about topics.
    pub(super) fn apply_topic(
        &mut self,
        fact: &Change,
        change: &TopicChange,
        position: CommitPosition,
    ) -> Traces {
        match change {
            TopicChange::Buried { subscription, to, reason, .. } => {
                self.count_dead_letter(*subscription, *reason);
                return self.apply(*to, fact, position);
            }
            TopicChange::Published { topic, sequence, message, subscriptions } => {
                self.give_shared(*topic, *sequence, message, subscriptions, position);
            }
            TopicChange::BodyGone { topic, size, .. } => self.keep_bytes(*topic, 0, *size),
            TopicChange::RuleAdded { topic, subscription, rule } => {
                if let Some(topic) = self.topics.get_mut(*topic) {
                    let added = topic.add_rule(*subscription, rule.as_ref().clone());
                    added.expect("a rule was checked before it came into force");
                }
            }
            TopicChange::RuleRemoved { topic, subscription, name } => {
                if let Some(topic) = self.topics.get_mut(*topic) {
                    topic.remove_rule(*subscription, name);
                }
            }
        }
        Traces::default()
    }

    /// Notes what kind of entity there is now.
    pub(super) fn enter_kind(&mut self, entity: EntityId, kind: EntityKind) {
        match kind {
            EntityKind::Queue => {}
            EntityKind::Topic => self.topics.insert(entity),
            EntityKind::Subscription { topic } => {
                let topic = self.topics.get_mut(topic);
                topic.expect("a subscription has a topic").add_subscription(entity);
                if let Some(queue) = queue_mut(&mut self.queues, entity) {
                    self.topics.enter_name(entity, &queue.definition.path);
                }
            }
        }
    }

    /// Forgets an entity that is gone, as far as it was one of a topic. It goes with its rules.
    pub(super) fn leave_kind(&mut self, queue: &Queue) {
        let is_main = queue.definition.path.subqueue() == Subqueue::Main;
        match queue.definition.kind {
            EntityKind::Topic if is_main => {
                for range in self.topics.remove(queue.id()).bodies.stale() {
                    rows::remove_stale(queue.id(), range.start, &mut self.batch);
                }
            }
            EntityKind::Queue | EntityKind::Topic => {}
            EntityKind::Subscription { topic: of } => {
                let Some(topic) = self.topics.get_mut(of) else { return };
                topic.bytes -= queue.own_bytes();
                if is_main {
                    let rules = topic.remove_subscription(queue.id());
                    self.topics.leave_name(queue.id(), &queue.definition.path);
                    rows::remove_rules(queue.id(), &rules, &mut self.batch);
                    self.note_all_left(of, queue);
                }
            }
        }
    }

    /// Whether somebody receives from a subscription of a topic.
    pub(super) fn has_subscribers(&self, topic: EntityId) -> bool {
        let subscriptions = self.topics.get(topic).into_iter().flat_map(Topic::subscriptions);
        let queues = subscriptions.filter_map(|(entity, _)| self.queue(entity).ok());
        let mut entities = queues.flat_map(|queue| queue.entities().all());
        entities.any(|entity| self.queue(entity).is_ok_and(|queue| queue.receiver_count() != 0))
    }

    /// The topic of a subscription.
    pub(super) fn topic_of(&self, entity: EntityId) -> Option<EntityId> {
        match self.queue(entity).ok()?.definition.kind {
            EntityKind::Subscription { topic } => Some(topic),
            EntityKind::Queue | EntityKind::Topic => None,
        }
    }
}

/// What a command is about.
pub(super) const TOPIC: fn(EntityKind) -> bool = |kind| matches!(kind, EntityKind::Topic);
const SUBSCRIPTION: fn(EntityKind) -> bool = |kind| matches!(kind, EntityKind::Subscription { .. });

/// What [`crate::invariant`] asks.
impl Broker {
    pub(crate) fn check_topics(&self) -> Result<(), String> {
        let mut bytes = std::collections::BTreeMap::<EntityId, u64>::new();
        let (mut topics, mut subscriptions) = (0, 0);
        let mut durable = std::collections::BTreeSet::new();
        for queue in self.queues.iter().flatten() {
            let is_main = queue.definition.path.subqueue() == Subqueue::Main;
            match queue.definition.kind {
                EntityKind::Queue => {}
                EntityKind::Topic => topics += usize::from(is_main),
                EntityKind::Subscription { topic } => {
                    subscriptions += usize::from(is_main);
                    *bytes.entry(topic).or_default() += queue.own_bytes();
                    let name = queue.definition.path.durable_name().filter(|_| is_main);
                    durable.extend(name.map(|name| (name.into(), queue.id())));
                    let above = self.queue(topic).map_or(SequenceNumber(0), Queue::next_sequence);
                    if is_main && above < queue.next_sequence() {
                        return Err(format!("{} is ahead of its topic", queue.definition.path));
                    }
                }
            }
            if queue.is_topic() && queue.count() != 0 {
                return Err(format!("{} holds messages", queue.definition.path));
            }
        }
        if (topics, subscriptions) != (self.topics.iter().count(), self.topics.subscription_count())
        {
            return Err(format!("{topics} topics and {subscriptions} subscriptions, not those"));
        }
        if durable != *self.topics.all_durable() {
            return Err(format!("durable subscriptions {durable:?}, found by other names"));
        }
        for (entity, topic) in self.topics.iter() {
            topic.check().map_err(|problem| format!("topic {entity}: {problem}"))?;
            let found = bytes.get(&entity).copied().unwrap_or_default();
            if topic.bytes != found {
                return Err(format!("topic {entity}: {} octets, not {found}", topic.bytes));
            }
        }
        Ok(())
    }
}

/// An answer, or why not.
pub(super) type Answer = Result<TopicReply, Error>;
