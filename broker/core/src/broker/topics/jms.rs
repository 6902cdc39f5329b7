//! Subscriptions that JMS clients make by receiving from a topic, and leave or delete when they go.
//!
//! They are subscriptions like any other. What JMS knows of them is in their names: who made them, and
//! whether they outlive their receivers (`EntityPath::for_jms_subscription`).

use peeklock_protocol::value::Str;

use super::{Answer, SUBSCRIPTION, TOPIC};
use crate::broker::{Broker, Seat, queue_mut};
use crate::command::{ReceiveMode, SubscriberWish};
use crate::effect::Reply;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::filter::SqlFilter;
use crate::id::{EntityId, ReceiverId};
use crate::queue::Queue;
use crate::topic::rules::{DEFAULT_RULE, RuleDescription, RuleFilter};

impl Broker {
    pub(in crate::broker) fn open_subscriber(
        &mut self,
        receiver: ReceiverId,
        path: &EntityPath,
        mode: ReceiveMode,
        selector: Option<Box<SqlFilter>>,
        wish: &SubscriberWish,
    ) -> Result<Reply, Error> {
        let Ok(topic) = self.of_kind(path, TOPIC) else {
            if wish.topic_only {
                return Err(Error::EntityNotFound(path.to_string()));
            }
            return self.open_receiver(receiver, path, mode, selector);
        };
        self.enabled(topic.main)?;
        let rule = rule(selector.as_deref());
        self.make_subscription(topic.main, wish, rule)?;
        let reply = self.open_receiver(receiver, &wish.subscription, mode, None)?;
        if wish.exclusive
            && let Reply::ReceiverOpened { entity, .. } = &reply
            && let Some(queue) = queue_mut(&mut self.queues, *entity)
        {
            queue.sole_receiver = Some(receiver);
        }
        Ok(reply)
    }

    /// Sees to it that a subscription is there which gets what its receiver wants. A client that asks
    /// for something else under the same name gets a new one: so JMS has it.
    fn make_subscription(
        &mut self,
        topic: EntityId,
        wish: &SubscriberWish,
        rule: RuleDescription,
    ) -> Result<(), Error> {
        let path = &wish.subscription;
        let settings = self.settings_for_jms(topic, path)?;
        self.check_subscription(path, &settings)?;
        let known = self.namespace.queue(path);
        let is_same = known.is_some_and(|known| self.gets_just(topic, known.main, &rule));
        let elsewhere = self.namesake(path);
        if let Some(known) = known {
            self.may_join(known, wish, is_same)?;
        }
        if !is_same && !wish.may_create {
            return Err(Error::ManageRequired(path.to_string()));
        }
        if let Some(other) = elsewhere {
            // Whoever may receive here need not hear which other topics there are.
            let (_, name) = path.subscription().unwrap_or_else(|| (path.clone(), path.name()));
            if !wish.may_create_anywhere {
                return Err(Error::ManageRequired(name.to_owned()));
            }
            if self.queue(other.main)?.consumer_count() != 0 {
                return Err(Error::SubscriptionInUse(name.to_owned()));
            }
        }
        if !is_same {
            let rules = vec![rule];
            self.check_rule_set(topic, None, &rules)?;
            if let Some(outdated) = known {
                self.remove_queue(outdated);
            }
            self.new_subscription(topic, path.clone(), settings, rules)?;
        }
        if let Some(other) = elsewhere {
            self.remove_queue(other);
        }
        Ok(())
    }

    /// Refuses whom those who receive from a subscription now would not have beside them.
    fn may_join(
        &self,
        known: QueueEntities,
        wish: &SubscriberWish,
        stays: bool,
    ) -> Result<(), Error> {
        let queue = self.queue(known.main)?;
        let is_taken = queue.sole_receiver.is_some() || wish.exclusive || !stays;
        if is_taken && queue.consumer_count() != 0 {
            return Err(Error::SubscriptionInUse(queue.definition.path.to_string()));
        }
        Ok(())
    }

    /// The durable subscription of the same client and name at another topic. To JMS they are one.
    pub(in crate::broker) fn namesake(&self, path: &EntityPath) -> Option<QueueEntities> {
        let mut known = self.durable_subscriptions(path.durable_name()?);
        known.find(|known| known.definition.path != *path).map(Queue::entities)
    }

    /// Subscriptions of that name, which a JMS client made, of all topics.
    fn durable_subscriptions(&self, name: &str) -> impl Iterator<Item = &Queue> {
        self.topics.durable(name).filter_map(|entity| self.queue(entity).ok())
    }

    pub(in crate::broker) fn find_subscription(&self, name: &str) -> Result<Reply, Error> {
        let queue = self.durable_subscriptions(name).next();
        let queue = queue.ok_or_else(|| Error::EntityNotFound(name.to_owned()))?;
        let (entity, path) = (queue.id(), queue.definition.path.clone());
        let topic = self.topic_of(entity).and_then(|topic| self.topics.get(topic));
        let rules = topic.and_then(|topic| topic.subscription(entity));
        let selector = rules.and_then(|rules| {
            rules.rules().find_map(|rule| match &rule.description.filter {
                RuleFilter::Selector(text) => Some(text.clone()),
                RuleFilter::True
                | RuleFilter::False
                | RuleFilter::Sql(_)
                | RuleFilter::Correlation(_) => None,
            })
        });
        Ok(Reply::SubscriptionFound { path, selector, in_use: queue.consumer_count() != 0 })
    }

    /// Deletes what was found, if it still is as it was found: somebody may receive from it by now.
    pub(super) fn unsubscribe(&mut self, path: &EntityPath) -> Answer {
        let known = self.of_kind(path, SUBSCRIPTION)?;
        if self.queue(known.main)?.consumer_count() != 0 {
            return Err(Error::SubscriptionInUse(path.to_string()));
        }
        self.delete_of_kind(path, SUBSCRIPTION)
    }

    /// A receiver goes, and with the last one what was made for it. Those that only look neither keep it
    /// nor end it.
    pub(in crate::broker) fn leave_receiver(&mut self, receiver: ReceiverId) {
        let known = self.receivers.get(&receiver).copied();
        self.close_receiver(receiver);
        let entity = known.filter(|(_, seat)| !matches!(seat, Seat::Browser(_)));
        let Some(queue) = entity.and_then(|(entity, _)| self.queue(entity).ok()) else { return };
        let is_whole = queue.definition.path.subqueue() == Subqueue::Main;
        if is_whole && queue.definition.path.is_fleeting() && queue.consumer_count() == 0 {
            let entities = queue.entities();
            self.remove_queue(entities);
        }
    }

    fn settings_for_jms(&self, topic: EntityId, path: &EntityPath) -> Result<QueueSettings, Error> {
        let message_bytes_max = self.queue(topic)?.settings().message_bytes_max;
        Ok(QueueSettings {
            message_bytes_max,
            // JMS clients prefetch a lot and renew nothing.
            lock_duration: QueueSettings::LOCK_DURATION_MAX,
            // After a crash nobody comes to say that the last receiver has gone.
            auto_delete_on_idle: path
                .is_fleeting()
                .then_some(QueueSettings::AUTO_DELETE_ON_IDLE_MIN),
            ..QueueSettings::default()
        })
    }

    /// Whether a rule is all that a subscription has.
    fn gets_just(&self, topic: EntityId, subscription: EntityId, rule: &RuleDescription) -> bool {
        self.subscription(topic, subscription).is_ok_and(|known| {
            let mut rules = known.rules();
            rules.next().is_some_and(|known| is_alike(&known.description, rule))
                && rules.next().is_none()
        })
    }
}

fn rule(selector: Option<&SqlFilter>) -> RuleDescription {
    let filter = selector.map_or(RuleFilter::True, |one| RuleFilter::Selector(one.text().into()));
    RuleDescription { name: DEFAULT_RULE.into(), filter, action: None }
}

/// Whether two rules let the same through, however it is written.
fn is_alike(one: &RuleDescription, other: &RuleDescription) -> bool {
    let canonical =
        |text: &Str| SqlFilter::selector(text).map(|filter| filter.canonical().to_owned());
    match (&one.filter, &other.filter) {
        (RuleFilter::Selector(one), RuleFilter::Selector(other)) => {
            canonical(one) == canonical(other)
        }
        (one, other) => one == other,
    }
}
