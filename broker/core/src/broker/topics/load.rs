//! Topics as they were, from the rows of their entities and rules.

use std::ops::Range;

use crate::broker::{Broker, queue_mut};
use crate::entity::kind::EntityKind;
use crate::entity::path::Subqueue;
use crate::error::LoadError;
use crate::id::{EntityId, SequenceNumber};
use crate::time::Timestamp;
use crate::topic::rules::Rule;

impl Broker {
    /// Brings topics back, once all entities are there.
    pub(in crate::broker) fn load_topics(
        &mut self,
        mut rules: Vec<(EntityId, Rule)>,
        stale: Vec<(EntityId, Range<SequenceNumber>)>,
    ) -> Result<(), LoadError> {
        let Broker { topics, queues, .. } = self;
        let mut next_numbers = Vec::new();
        let known = queues.iter().flatten();
        let of_topics = known.filter(|queue| queue.definition.kind != EntityKind::Queue);
        // A topic has a lower number than its subscriptions.
        for queue in of_topics {
            let (entity, kind) = (queue.id(), queue.definition.kind);
            let is_main = queue.definition.path.subqueue() == Subqueue::Main;
            match kind {
                EntityKind::Topic if is_main => topics.insert(entity),
                EntityKind::Queue | EntityKind::Topic => {}
                EntityKind::Subscription { topic } => {
                    let Some(topic) = topics.get_mut(topic) else {
                        let path = &queue.definition.path;
                        return Err(LoadError::Inconsistent(format!("{path} lacks its topic")));
                    };
                    topic.bytes += queue.own_bytes();
                    if is_main {
                        topic.add_subscription(entity);
                        topics.enter_name(entity, &queue.definition.path);
                        next_numbers.push((kind, queue.next_sequence()));
                    }
                }
            }
        }
        for (kind, next) in next_numbers {
            if let EntityKind::Subscription { topic } = kind
                && let Some(topic) = queue_mut(queues, topic)
            {
                topic.skip_to(next);
            }
        }
        for (entity, range) in stale {
            let (Some(topic), Some(queue)) = (topics.get_mut(entity), queue_mut(queues, entity))
            else {
                let problem = format!("{entity} is to be looked through, and is no topic");
                return Err(LoadError::Inconsistent(problem));
            };
            topic.bodies.load(range);
            queue.sweep_at = Some(Timestamp::default());
        }
        // In the order in which they were added, which is that of the copies their actions make.
        rules.sort_by_key(|(subscription, rule)| (*subscription, rule.created_at));
        for (subscription, rule) in rules {
            let topic = self.topic_of(subscription).and_then(|topic| self.topics.get_mut(topic));
            let topic = topic.filter(|topic| topic.subscription(subscription).is_some());
            let Some(topic) = topic else {
                let problem = format!("a rule belongs to {subscription}, which is no subscription");
                return Err(LoadError::Inconsistent(problem));
            };
            topic.add_rule(subscription, rule).map_err(|error| {
                LoadError::Inconsistent(format!("a rule of {subscription} is not valid: {error}"))
            })?;
        }
        Ok(())
    }
}
