//! The rules of subscriptions.

use std::collections::BTreeSet;
use std::mem::discriminant;

use super::{Answer, SUBSCRIPTION};
use crate::broker::Broker;
use crate::change::{Change, TopicChange};
use crate::entity::path::EntityPath;
use crate::error::Error;
use crate::id::EntityId;
use crate::topic::command::TopicReply;
use crate::topic::rules::{Rule, RuleDescription};
use crate::topic::subscription::{Subscription, rule_key};

impl Broker {
    pub(super) fn add_rule(&mut self, path: &EntityPath, rule: RuleDescription) -> Answer {
        let (topic, subscription) = self.rules_of(path)?;
        rule.validate(self.settings.rule_bytes_max)?;
        if self.subscription(topic, subscription)?.rule(&rule.name).is_some() {
            return Err(Error::EntityExists(rule_path(path, &rule.name)));
        }
        let entered = self.topics.get(topic).map(|topic| topic.check_room([&rule], &self.settings));
        entered.unwrap_or(Ok(()))?;
        self.note_use(subscription);
        self.enter_rule(topic, subscription, rule);
        Ok(TopicReply::RuleAdded)
    }

    /// Lets a rule have another filter and action. It keeps its age.
    pub(super) fn update_rule(
        &mut self,
        path: &EntityPath,
        description: RuleDescription,
    ) -> Answer {
        let (topic, subscription) = self.rules_of(path)?;
        let Some(known) = self.subscription(topic, subscription)?.rule(&description.name) else {
            return Err(Error::EntityNotFound(rule_path(path, &description.name)));
        };
        let (before, created_at) = (&known.rule.description, known.rule.created_at);
        description.validate(self.settings.rule_bytes_max)?;
        let counts_alike = discriminant(&before.filter) == discriminant(&description.filter);
        if let Some(topic) = self.topics.get(topic).filter(|_| !counts_alike) {
            topic.check_room([&description], &self.settings)?;
        }
        self.note_use(subscription);
        let name = rule_key(&description.name);
        self.commit(&Change::OfTopic(TopicChange::RuleRemoved { topic, subscription, name }));
        let rule = Box::new(Rule { description, created_at });
        self.commit(&Change::OfTopic(TopicChange::RuleAdded { topic, subscription, rule }));
        Ok(TopicReply::RuleAdded)
    }

    pub(super) fn describe_rule(&self, path: &EntityPath, name: &str) -> Answer {
        let (topic, subscription) = self.rules_of(path)?;
        let known = self.subscription(topic, subscription)?.rule(name);
        let known = known.ok_or_else(|| Error::EntityNotFound(rule_path(path, name)))?;
        Ok(TopicReply::Rules { rules: vec![known.rule.clone()] })
    }

    pub(super) fn remove_rule(&mut self, path: &EntityPath, name: &str) -> Answer {
        let (topic, subscription) = self.rules_of(path)?;
        if self.subscription(topic, subscription)?.rule(name).is_none() {
            return Err(Error::EntityNotFound(rule_path(path, name)));
        }
        self.note_use(subscription);
        let name = rule_key(name);
        self.commit(&Change::OfTopic(TopicChange::RuleRemoved { topic, subscription, name }));
        Ok(TopicReply::RuleRemoved)
    }

    pub(super) fn list_rules(&self, path: &EntityPath, skip: usize, count_max: usize) -> Answer {
        let (topic, subscription) = self.rules_of(path)?;
        let rules = self.subscription(topic, subscription)?.rules();
        let rules = rules.skip(skip).take(count_max).cloned().collect();
        Ok(TopicReply::Rules { rules })
    }

    /// Says whether a subscription, new or not, may have exactly these rules.
    pub(super) fn check_rule_set(
        &self,
        topic: EntityId,
        subscription: Option<EntityId>,
        rules: &[RuleDescription],
    ) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        for rule in rules {
            rule.validate(self.settings.rule_bytes_max)?;
            if !names.insert(rule_key(&rule.name)) {
                return Err(Error::InvalidArgument("Two rules have the same name."));
            }
        }
        let Some(topic) = self.topics.get(topic) else { return Ok(()) };
        // Those it has now may go, but for the time being they count.
        let known = subscription.and_then(|subscription| topic.subscription(subscription));
        let is_new =
            |rule: &&RuleDescription| known.is_none_or(|known| known.rule(&rule.name).is_none());
        topic.check_room(rules.iter().filter(is_new), &self.settings)
    }

    /// Lets a subscription have exactly these rules. What it has already stays as it is.
    pub(super) fn replace_rules(
        &mut self,
        topic: EntityId,
        subscription: EntityId,
        rules: Vec<RuleDescription>,
    ) {
        let Ok(known) = self.subscription(topic, subscription) else { return };
        let is_wanted = |rule: &Rule| rules.contains(&rule.description);
        let gone = known.rules().filter(|rule| !is_wanted(rule));
        let gone: Vec<_> = gone.map(|rule| rule_key(&rule.description.name)).collect();
        for name in gone {
            self.commit(&Change::OfTopic(TopicChange::RuleRemoved { topic, subscription, name }));
        }
        for rule in rules {
            let known = self.subscription(topic, subscription);
            if known.is_ok_and(|known| known.rule(&rule.name).is_none()) {
                self.enter_rule(topic, subscription, rule);
            }
        }
    }

    /// Of all subscriptions, as they are written.
    pub(in crate::broker) fn all_rules(&self) -> Vec<(EntityId, Rule)> {
        let subscriptions = self.topics.iter().flat_map(|(_, topic)| topic.subscriptions());
        let rules = subscriptions.flat_map(|(entity, subscription)| {
            subscription.rules().map(move |rule| (entity, rule.clone()))
        });
        rules.collect()
    }

    fn enter_rule(
        &mut self,
        topic: EntityId,
        subscription: EntityId,
        description: RuleDescription,
    ) {
        let rule = Box::new(Rule { description, created_at: self.now });
        self.commit(&Change::OfTopic(TopicChange::RuleAdded { topic, subscription, rule }));
    }

    /// A subscription and its topic.
    fn rules_of(&self, path: &EntityPath) -> Result<(EntityId, EntityId), Error> {
        let entity = self.of_kind(path, SUBSCRIPTION)?.main;
        let topic = self.topic_of(entity);
        Ok((topic.ok_or_else(|| Error::EntityNotFound(path.to_string()))?, entity))
    }

    pub(super) fn subscription(
        &self,
        topic: EntityId,
        subscription: EntityId,
    ) -> Result<&Subscription, Error> {
        let known = self.topics.get(topic).and_then(|topic| topic.subscription(subscription));
        known.ok_or_else(|| Error::EntityNotFound(subscription.to_string()))
    }
}

/// As Service Bus names a rule.
fn rule_path(subscription: &EntityPath, name: &str) -> String {
    format!("{subscription}/Rules/{name}")
}
