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
        self.spread(&arrival, routes);
        sequence
    }

    /// Makes facts of a message and of who gets what of it. The one place that knows how copies are
    /// kept: each is a message of its own, with its own row.
    fn spread(&mut self, arrival: &Arrival, routes: Vec<Route>) {
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
        }
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
        self.commit(&Change::OfTopic(TopicChange::Buried { to, sequence, message, section }));
        self.counters.dead_lettered += 1;
    }
}
