//! Listing entities, page by page.

use super::Broker;
use super::topics::{Answer, TOPIC};
use crate::effect::Reply;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::EntityPath;
use crate::error::Error;
use crate::topic::command::TopicReply;

impl Broker {
    pub(super) fn list_queues(&self, skip: usize, count_max: usize) -> Result<Reply, Error> {
        let queues = self.of_that_kind(|kind| kind == EntityKind::Queue);
        let queues = queues.skip(skip).take(count_max).map(|entities| self.describe(entities));
        Ok(Reply::QueuesListed { queues: queues.collect::<Result<_, _>>()? })
    }

    pub(super) fn list_topics(&self, skip: usize, count_max: usize) -> Answer {
        let topics = self.of_that_kind(TOPIC).skip(skip).take(count_max);
        let topics = topics.map(|entities| self.topic_description(entities));
        Ok(TopicReply::TopicsListed { topics: topics.collect::<Result<_, _>>()? })
    }

    pub(super) fn list_subscriptions(
        &self,
        topic: &EntityPath,
        skip: usize,
        count_max: usize,
    ) -> Answer {
        let topic_id = self.of_kind(topic, TOPIC)?.main;
        // A longer path below may be that of another topic, or of a subscription of that.
        let is_of_topic = |entities: &QueueEntities| self.topic_of(entities.main) == Some(topic_id);
        let found = self.namespace.below(topic).filter(is_of_topic);
        let found = found.skip(skip).take(count_max).map(|entities| self.describe(entities));
        Ok(TopicReply::SubscriptionsListed { subscriptions: found.collect::<Result<_, _>>()? })
    }

    /// In the order of their names.
    fn of_that_kind(&self, wanted: fn(EntityKind) -> bool) -> impl Iterator<Item = QueueEntities> {
        let is_wanted = move |entities: &QueueEntities| {
            self.queue(entities.main).is_ok_and(|queue| wanted(queue.definition.kind))
        };
        self.namespace.iter().filter(is_wanted)
    }
}
