//! What becomes of a message that arrives at a topic.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::arrive::Arrival;
use crate::change::{Change, TopicChange};
use crate::filter::{self, MessageProperties};
use crate::id::{EntityId, SequenceNumber};
use crate::message::RowHeader;
use crate::queue::Queue;
use crate::topic::fan_out::{Unfit, changed, with_section};
use crate::topic::routes::{Copy, Route};

impl Broker {
    /// Gives a message to the subscriptions that want it. The topic itself keeps nothing of it but its
    /// number, which this says.
    pub(in crate::broker) fn publish(
        &mut self,
        topic: EntityId,
        mut arrival: Arrival,
    ) -> SequenceNumber {
        let queue = self.queue(topic).expect("messages arrive at entities we have");
        let sequence = queue.next_sequence();
        self.commit(&Change::Passed { entity: topic, sequence });
        let enqueue_sequence = *arrival.enqueue_sequence.get_or_insert(sequence);
        if let Some(section) = arrival.application_properties.take() {
            arrival.message = with_section(&arrival.message, &section);
        }
        let settings = self.queue(topic).map(Queue::settings);
        let expires_at =
            settings.ok().and_then(|s| arrival.message.facts().expires_at(self.now, s));
        arrival.expires_by = expires_at;
        let standing = filter::Arrival {
            expires_at,
            enqueue_sequence,
            ..filter::Arrival::new(self.now, sequence)
        };
        let properties = MessageProperties::of_incoming(&arrival.message, standing);
        let Some(known) = self.topics.get(topic) else { return sequence };
        let ids = &mut self.ids;
        let routes = known.routes().find(&properties, &mut || ids.lock_token().0);
        self.spread(topic, sequence, &arrival, routes);
        sequence
    }

    /// Makes facts of a message and of who gets what of it. The one place that knows how copies are
    /// kept: the message as it is, by the topic for all who can do without a row of their own; else
    /// each is a message of its own.
    fn spread(
        &mut self,
        topic: EntityId,
        sequence: SequenceNumber,
        arrival: &Arrival,
        mut routes: Vec<Route>,
    ) {
        let mut subscriptions = Vec::new();
        routes.retain(|Route { subscription, copy }| {
            let is_shared = *copy == Copy::Plain && self.may_share(*subscription, arrival);
            if is_shared {
                subscriptions.push(*subscription);
            }
            !is_shared
        });
        if !subscriptions.is_empty() {
            let header = RowHeader {
                hops: arrival.hops,
                dead_letter_source: arrival.dead_letter_source,
                ..RowHeader::new(arrival.enqueue_sequence.unwrap_or(sequence), self.now)
            };
            let message = Arc::new(arrival.message.clone().into_stored(header));
            self.counters.copied += subscriptions.len() as u64;
            for subscription in &subscriptions {
                self.tally(*subscription, |tally| tally.incoming += 1);
            }
            let published = TopicChange::Published { topic, sequence, message, subscriptions };
            self.commit(&Change::OfTopic(published));
        }
        for Route { subscription, copy } in routes {
            let message = match copy {
                Copy::Plain => Ok(arrival.message.clone()),
                Copy::Changed(changes) => changed(&arrival.message, &changes),
                Copy::Failed(error) => Err(Unfit::by_filter(error.to_string())),
            };
            let Ok(queue) = self.queue(subscription) else { continue };
            let settings = queue.settings();
            match message {
                Ok(message) if settings.requires_session && message.facts().session().is_none() => {
                    let copy = arrival.copy(message);
                    self.bury_copy(subscription, copy, &Unfit::without_session());
                }
                Ok(message) => {
                    self.arrive(subscription, arrival.copy(message));
                }
                Err(unfit) if unfit.is_filter_error() && !settings.dead_letter_on_filter_error => {
                    continue;
                }
                Err(unfit) => {
                    let copy = arrival.copy(arrival.message.clone());
                    self.bury_copy(subscription, copy, &unfit);
                }
            }
            self.counters.copied += 1;
            self.tally(subscription, |tally| tally.incoming += 1);
        }
    }

    /// Whether a subscription holds a message without a row of its own. Sessions find their messages by
    /// rows; what expires or goes on by itself is better off with its own.
    fn may_share(&self, subscription: EntityId, arrival: &Arrival) -> bool {
        let Ok(queue) = self.queue(subscription) else { return false };
        queue.shares_with().is_some()
            && arrival.expires_by.is_none()
            && queue.settings().default_time_to_live.is_none()
            && !queue.forwards_messages()
    }

    /// Gives a subscription a message as a dead letter.
    fn bury_copy(&mut self, subscription: EntityId, copy: Arrival, unfit: &Unfit) {
        let Ok(queue) = self.queue(subscription) else { return };
        let sequence = queue.next_sequence();
        let to = queue.entities().dead_letter;
        let section = unfit.section(&copy.message);
        let header = RowHeader {
            hops: copy.hops,
            dead_letter_source: copy.dead_letter_source,
            ..RowHeader::new(copy.enqueue_sequence.unwrap_or(sequence), self.now)
        };
        let message = Arc::new(copy.message.into_stored(header));
        self.commit(&Change::Passed { entity: subscription, sequence });
        let reason = unfit.cause;
        let buried = TopicChange::Buried { subscription, to, sequence, message, section, reason };
        self.commit(&Change::OfTopic(buried));
    }
}
