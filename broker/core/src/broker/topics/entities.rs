//! The life of topics and subscriptions.

use super::{Answer, SUBSCRIPTION, TOPIC};
use crate::broker::Broker;
use crate::broker::entities::check_settings;
use crate::entity::access::AccessRuleChange;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::id::EntityId;
use crate::topic::command::{TopicDescription, TopicReply};
use crate::topic::rules::RuleDescription;
use crate::topic::settings::TopicSettings;
use crate::topic::topic::Topic;

impl Broker {
    pub(super) fn ensure_topic(&mut self, path: EntityPath, settings: &TopicSettings) -> Answer {
        check_topic_name(&path)?;
        settings.validate()?;
        if self.namespace.queue(&path).is_none() {
            let entity = self.new_entity(path, EntityKind::Topic, settings.to_queue_settings())?;
            return Ok(ensured(entity));
        }
        let entities = self.of_kind(&path, TOPIC)?;
        let settings = self.as_declared(entities, settings.to_queue_settings())?;
        self.change_queue(entities, settings).map(ensured)
    }

    pub(super) fn create_topic(&mut self, path: EntityPath, settings: &TopicSettings) -> Answer {
        check_topic_name(&path)?;
        settings.validate()?;
        if self.namespace.queue(&path).is_some() {
            return Err(Error::EntityExists(path.to_string()));
        }
        self.new_entity(path, EntityKind::Topic, settings.to_queue_settings()).map(ensured)
    }

    pub(super) fn update_topic(
        &mut self,
        path: &EntityPath,
        settings: &TopicSettings,
        access_rules: Option<Vec<AccessRuleChange>>,
    ) -> Answer {
        let entities = self.of_kind(path, TOPIC)?;
        let settings = self.as_updated(entities, settings.to_queue_settings(), access_rules)?;
        settings.validate()?;
        self.check_fixed(entities, &settings)?;
        self.note_use(entities.main);
        self.change_queue(entities, settings).map(ensured)
    }

    pub(super) fn describe_topic(&self, path: &EntityPath) -> Answer {
        let entities = self.of_kind(path, TOPIC)?;
        Ok(TopicReply::TopicDescribed(Box::new(self.topic_description(entities)?)))
    }

    /// What a topic is like.
    pub(in crate::broker) fn topic_description(
        &self,
        entities: QueueEntities,
    ) -> Result<TopicDescription, Error> {
        let described = self.describe(entities)?;
        let topic = self.topics.get(entities.main);
        let filters = topic.map(|topic| topic.routes().counts()).unwrap_or_default();
        let subscriptions = topic.into_iter().flat_map(Topic::subscriptions);
        let paths =
            subscriptions.map(|(entity, _)| Ok(self.queue(entity)?.definition.path.clone()));
        Ok(TopicDescription {
            path: described.path,
            settings: TopicSettings::of_queue_settings(&described.settings),
            created_at: described.created_at,
            updated_at: described.updated_at,
            accessed_at: described.accessed_at,
            counts: described.counts,
            bytes: described.bytes,
            subscriptions: paths.collect::<Result<_, Error>>()?,
            sql_filter_count: filters.sql,
            correlation_filter_count: filters.correlation,
        })
    }

    pub(super) fn ensure_subscription(
        &mut self,
        path: EntityPath,
        settings: QueueSettings,
        rules: Option<Vec<RuleDescription>>,
    ) -> Answer {
        check_new_name(&path)?;
        let topic = self.check_subscription(&path, &settings)?;
        let entities = self.namespace.queue(&path);
        if let Some(rules) = &rules {
            self.check_rule_set(topic, entities.map(|entities| entities.main), rules)?;
        }
        let Some(entities) = entities else {
            let rules = rules.unwrap_or_else(|| vec![RuleDescription::default_rule()]);
            return self.new_subscription(topic, path, settings, rules);
        };
        let entity = self.change_queue(entities, settings)?;
        if let Some(rules) = rules {
            self.replace_rules(topic, entity, rules);
        }
        Ok(ensured(entity))
    }

    pub(super) fn create_subscription(
        &mut self,
        path: EntityPath,
        settings: QueueSettings,
        rule: Option<RuleDescription>,
    ) -> Answer {
        check_new_name(&path)?;
        let topic = self.check_subscription(&path, &settings)?;
        if self.namespace.queue(&path).is_some() {
            return Err(Error::EntityExists(path.to_string()));
        }
        self.check_targets(&settings)?;
        let rules = vec![rule.unwrap_or_else(RuleDescription::default_rule)];
        self.check_rule_set(topic, None, &rules)?;
        self.new_subscription(topic, path, settings, rules)
    }

    pub(super) fn update_subscription(
        &mut self,
        path: &EntityPath,
        settings: &QueueSettings,
    ) -> Answer {
        let entities = self.of_kind(path, SUBSCRIPTION)?;
        self.check_subscription(path, settings)?;
        self.check_targets(settings)?;
        self.note_use(entities.main);
        self.change_queue(entities, settings.clone()).map(ensured)
    }

    pub(super) fn describe_subscription(&self, path: &EntityPath) -> Answer {
        let described = self.describe(self.of_kind(path, SUBSCRIPTION)?)?;
        Ok(TopicReply::SubscriptionDescribed(Box::new(described)))
    }

    pub(super) fn delete_of_kind(
        &mut self,
        path: &EntityPath,
        wanted: fn(EntityKind) -> bool,
    ) -> Answer {
        let entities = self.of_kind(path, wanted)?;
        if let Some(topic) = self.topic_of(entities.main) {
            self.note_use(topic);
        }
        self.remove_queue(entities);
        Ok(TopicReply::Deleted)
    }

    /// Deletes the subscriptions of a topic that is about to go.
    pub(in crate::broker) fn remove_subscriptions(&mut self, topic: EntityId) {
        let subscriptions = self.topics.get(topic).into_iter().flat_map(Topic::subscriptions);
        let subscriptions: Vec<_> = subscriptions.map(|(entity, _)| entity).collect();
        for entity in subscriptions {
            if let Ok(queue) = self.queue(entity) {
                self.remove_queue(queue.entities());
            }
        }
    }

    /// The entity of that path, which is its own and not a subqueue's.
    pub(in crate::broker) fn of_kind(
        &self,
        path: &EntityPath,
        wanted: fn(EntityKind) -> bool,
    ) -> Result<QueueEntities, Error> {
        let entities = self.namespace.queue(path).filter(|entities| {
            path.subqueue() == Subqueue::Main
                && self.queue(entities.main).is_ok_and(|queue| wanted(queue.definition.kind))
        });
        entities.ok_or_else(|| Error::EntityNotFound(path.to_string()))
    }

    /// Says which topic a subscription belongs to, if it could be there as described.
    pub(super) fn check_subscription(
        &self,
        path: &EntityPath,
        settings: &QueueSettings,
    ) -> Result<EntityId, Error> {
        let is_whole = path.subqueue() == Subqueue::Main;
        let Some((topic, name)) = path.subscription().filter(|_| is_whole) else {
            return Err(Error::InvalidArgument("The name of the subscription is not valid."));
        };
        if EntityPath::for_subscription(&topic, name).is_err() {
            return Err(Error::InvalidArgument("The name of the subscription is not valid."));
        }
        check_settings(path, settings)?;
        if settings.duplicate_window.is_some() {
            return Err(Error::InvalidArgument(
                "Duplicates are detected by topics, not by subscriptions.",
            ));
        }
        if !settings.access_rules.is_empty() {
            return Err(Error::InvalidArgument(
                "Authorization rules are of topics, not of subscriptions.",
            ));
        }
        Ok(self.of_kind(&topic, TOPIC)?.main)
    }

    pub(super) fn new_subscription(
        &mut self,
        topic: EntityId,
        path: EntityPath,
        settings: QueueSettings,
        rules: Vec<RuleDescription>,
    ) -> Answer {
        let count = self.topics.get(topic).map_or(0, |topic| topic.subscriptions().len());
        if self.settings.subscriptions_max <= count {
            return Err(Error::QuotaExceeded("The topic has the maximum number of subscriptions."));
        }
        self.note_use(topic);
        let entity = self.new_entity(path, EntityKind::Subscription { topic }, settings)?;
        self.replace_rules(topic, entity, rules);
        Ok(ensured(entity))
    }
}

/// Names as JMS clients give them are for subscriptions that JMS clients make.
fn check_new_name(path: &EntityPath) -> Result<(), Error> {
    let found = path.subscription();
    let is_valid =
        found.is_some_and(|(topic, name)| EntityPath::for_new_subscription(&topic, name).is_ok());
    if is_valid {
        return Ok(());
    }
    Err(Error::InvalidArgument("The name of the subscription is not valid."))
}

fn check_topic_name(path: &EntityPath) -> Result<(), Error> {
    if path.subqueue() != Subqueue::Main || EntityPath::for_new_entity(path.name()).is_err() {
        return Err(Error::InvalidArgument("The name of the topic is not valid."));
    }
    Ok(())
}

const fn ensured(entity: EntityId) -> TopicReply {
    TopicReply::Ensured { entity }
}
