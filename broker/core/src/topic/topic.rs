//! Topics and their subscriptions, by entity.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bodies::Bodies;
use super::routes::{FilterCounts, Routes};
use super::rules::{Rule, RuleDescription, RuleFilter};
use super::subscription::{KnownRule, RuleKey, Subscription};
use crate::entity::path::EntityPath;
use crate::entity::settings::BrokerSettings;
use crate::error::Error;
use crate::filter::SyntaxError;
use crate::id::EntityId;

/// One topic.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    subscriptions: BTreeMap<EntityId, Subscription>,
    routes: Routes,
    /// What the topic keeps for the subscriptions.
    pub(crate) bodies: Bodies,
    /// Octets that the subscriptions and their subqueues hold in rows of their own.
    pub(crate) bytes: u64,
}

/// All topics of a broker.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    topics: BTreeMap<EntityId, Topic>,
    /// The subscriptions that JMS clients come back to, of all topics: such a client need not know the
    /// topic.
    durable: BTreeSet<(Arc<str>, EntityId)>,
}

impl Topics {
    pub(crate) fn insert(&mut self, topic: EntityId) {
        let before = self.topics.insert(topic, Topic::default());
        assert!(before.is_none(), "a topic is created once");
    }

    pub(crate) fn remove(&mut self, topic: EntityId) -> Topic {
        let gone = self.topics.remove(&topic).expect("a topic is deleted once");
        assert!(gone.subscriptions.is_empty(), "they go first");
        gone
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn get(&self, topic: EntityId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    pub(crate) fn get_mut(&mut self, topic: EntityId) -> Option<&mut Topic> {
        self.topics.get_mut(&topic)
    }

    /// How many subscriptions all topics have together.
    pub(crate) fn subscription_count(&self) -> usize {
        self.topics.values().map(|topic| topic.subscriptions.len()).sum()
    }

    /// Notes what a new subscription is called.
    pub(crate) fn enter_name(&mut self, subscription: EntityId, path: &EntityPath) {
        if let Some(name) = path.durable_name() {
            self.durable.insert((name.into(), subscription));
        }
    }

    pub(crate) fn leave_name(&mut self, subscription: EntityId, path: &EntityPath) {
        if let Some(name) = path.durable_name() {
            self.durable.remove(&(name.into(), subscription));
        }
    }

    /// The durable subscriptions of a JMS client that have this name, in any case: one, as clients make
    /// them.
    pub(crate) fn durable(&self, name: &str) -> impl Iterator<Item = EntityId> {
        let name: Arc<str> = name.to_lowercase().into();
        let range = (Arc::clone(&name), EntityId(0))..=(name, EntityId(u32::MAX));
        self.durable.range(range).map(|(_, subscription)| *subscription)
    }

    /// All that have such names.
    pub(crate) const fn all_durable(&self) -> &BTreeSet<(Arc<str>, EntityId)> {
        &self.durable
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntityId, &Topic)> {
        self.topics.iter().map(|(entity, topic)| (*entity, topic))
    }
}

impl Topic {
    pub(crate) const fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(crate) fn subscription(&self, entity: EntityId) -> Option<&Subscription> {
        self.subscriptions.get(&entity)
    }

    /// By entity, which is the order in which they were created.
    pub(crate) fn subscriptions(&self) -> impl ExactSizeIterator<Item = (EntityId, &Subscription)> {
        self.subscriptions.iter().map(|(entity, subscription)| (*entity, subscription))
    }

    pub(crate) fn add_subscription(&mut self, entity: EntityId) {
        let before = self.subscriptions.insert(entity, Subscription::default());
        assert!(before.is_none(), "a subscription is created once");
    }

    /// Forgets a subscription, with its rules, and says what they were called.
    pub(crate) fn remove_subscription(&mut self, entity: EntityId) -> Vec<RuleKey> {
        let gone = self.subscriptions.remove(&entity).unwrap_or_default();
        let forget = |(key, known): (RuleKey, KnownRule)| {
            self.routes.remove(entity, &known.rule.description, known.number);
            key
        };
        gone.into_rules().map(forget).collect()
    }

    /// Says why a rule, or several at a time, would be too many.
    pub(crate) fn check_room<'r>(
        &self,
        rules: impl IntoIterator<Item = &'r RuleDescription>,
        settings: &BrokerSettings,
    ) -> Result<(), Error> {
        let FilterCounts { mut constant, mut sql, mut correlation } = self.routes.counts();
        for rule in rules {
            match rule.filter {
                RuleFilter::True | RuleFilter::False => constant += 1,
                RuleFilter::Sql(_) | RuleFilter::Selector(_) => sql += 1,
                RuleFilter::Correlation(_) => correlation += 1,
            }
        }
        let too_many = |what| Err(Error::QuotaExceeded(what));
        if settings.sql_filters_max < sql {
            return too_many("The topic has the maximum number of SQL filters.");
        }
        if settings.correlation_filters_max < correlation {
            return too_many("The topic has the maximum number of correlation filters.");
        }
        if settings.constant_filters_max < constant {
            return too_many("The topic has the maximum number of true and false filters.");
        }
        Ok(())
    }

    pub(crate) fn add_rule(
        &mut self,
        subscription: EntityId,
        rule: Rule,
    ) -> Result<(), SyntaxError> {
        let number = self.routes.insert(subscription, &rule.description)?;
        let known = self.subscriptions.get_mut(&subscription);
        known.expect("rules are of subscriptions we have").insert(rule, number);
        Ok(())
    }

    pub(crate) fn remove_rule(&mut self, subscription: EntityId, name: &str) {
        let known = self.subscriptions.get_mut(&subscription);
        let gone = known.and_then(|subscription| subscription.remove(name));
        let gone = gone.expect("only rules in force are removed");
        self.routes.remove(subscription, &gone.rule.description, gone.number);
    }

    /// Says what does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let rules = || self.subscriptions.values().flat_map(Subscription::rules);
        let FilterCounts { constant, sql, correlation } = self.routes.counts();
        if rules().count() != constant + sql + correlation {
            return Err(format!("{} rules, counted otherwise", rules().count()));
        }
        let with_action = rules().filter(|rule| rule.description.action.is_some()).count();
        if with_action != self.routes.action_count() {
            return Err(format!("{with_action} rules have actions, not as many as there are"));
        }
        self.routes.check()
    }
}
