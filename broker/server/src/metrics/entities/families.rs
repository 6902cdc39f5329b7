//! The families: what each is called, what it means, and where its samples come from.

use peeklock_core::{DeadLetterReason, EntityKind, EntityStatistics, OldestMessage};

use super::Told;
use super::text::{self, Labels};
use crate::metrics::{Family, Kind, Pieces};

const OF_ENTITY: &[&str] = &["namespace", "entity"];

/// A family with samples for each entity that is shown.
pub(super) struct OfEntities {
    family: Family,
    samples: EntitySamples,
}

/// Which samples an entity has.
enum EntitySamples {
    /// One with this number, if it makes sense for such an entity.
    One(fn(&EntityStatistics) -> Option<u64>),
    /// Its messages by where they stand.
    States,
    /// Its dead letters by why they are.
    Reasons,
    /// How old its oldest message is.
    Age,
}

/// A family with samples for each namespace, whatever is shown of its entities.
pub(super) struct OfNamespaces {
    family: Family,
    samples: NamespaceSamples,
}

enum NamespaceSamples {
    States,
    Bytes,
    Kinds,
    Hidden,
}

/// A label's value, and how many messages are told under it.
type State = (&'static str, fn(&EntityStatistics) -> u64);

/// A label's value, and which entities are told under it.
type KindOfEntity = (&'static str, fn(EntityKind) -> bool);

/// Where messages stand. These add up to all there are.
const STATES: [State; 6] = [
    ("active", |entity| entity.active),
    ("dead_letter", |entity| entity.dead_letter),
    ("deferred", |entity| entity.deferred),
    ("scheduled", |entity| entity.scheduled),
    ("transfer", |entity| entity.transfer),
    ("transfer_dead_letter", |entity| entity.transfer_dead_letter),
];

/// The only one of these in which a topic itself has messages.
const SCHEDULED: &str = "scheduled";

const KINDS: [KindOfEntity; 3] = [
    ("queue", |kind| matches!(kind, EntityKind::Queue)),
    ("subscription", |kind| matches!(kind, EntityKind::Subscription { .. })),
    ("topic", |kind| matches!(kind, EntityKind::Topic)),
];

/// All families here, in their order.
#[cfg(test)]
pub(in crate::metrics) fn families() -> impl Iterator<Item = &'static Family> {
    let of_entities = OF_ENTITIES.iter().map(|of| &of.family);
    of_entities.chain(OF_NAMESPACES.iter().map(|of| &of.family))
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    of: fn(&EntityStatistics) -> Option<u64>,
) -> OfEntities {
    let family = Family { name, kind: Kind::Gauge, labels: OF_ENTITY, help };
    OfEntities { family, samples: EntitySamples::One(of) }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    of: fn(&EntityStatistics) -> Option<u64>,
) -> OfEntities {
    let family = Family { name, kind: Kind::Counter, labels: OF_ENTITY, help };
    OfEntities { family, samples: EntitySamples::One(of) }
}

/// What topics do not have: they hold no messages for receivers.
fn held(entity: &EntityStatistics, value: u64) -> Option<u64> {
    (entity.kind != EntityKind::Topic).then_some(value)
}

/// By name.
pub(super) static OF_ENTITIES: [OfEntities; 18] = [
    counter(
        "peeklock_entity_abandoned_messages_total",
        "Deliveries that receivers gave up. The last attempt, which makes a dead letter, counts as that.",
        |entity| held(entity, entity.counters.abandoned),
    ),
    gauge(
        "peeklock_entity_bytes",
        "Octets of all messages of an entity, in whatever state; those of a topic with what its subscriptions hold.",
        |entity| Some(entity.bytes),
    ),
    counter(
        "peeklock_entity_completed_messages_total",
        "Messages that receivers were done with: completed, or received for good without a lock.",
        |entity| held(entity, entity.counters.completed),
    ),
    OfEntities {
        family: Family {
            name: "peeklock_entity_dead_lettered_messages_total",
            kind: Kind::Counter,
            labels: &["namespace", "entity", "reason"],
            help: "Messages that became dead letters, by the broker's reason; application is what receivers and clients wanted. Reasons that an entity cannot have are left out.",
        },
        samples: EntitySamples::Reasons,
    },
    counter(
        "peeklock_entity_deferred_messages_total",
        "Messages that receivers set aside.",
        |entity| held(entity, entity.counters.deferred),
    ),
    gauge(
        "peeklock_entity_demand",
        "Deliveries that receivers have asked for and not got yet.",
        |entity| held(entity, entity.demand),
    ),
    counter(
        "peeklock_entity_duplicate_messages_total",
        "Messages that were dropped because their message-id was there before.",
        |entity| Some(entity.counters.duplicates),
    ),
    counter(
        "peeklock_entity_expired_messages_total",
        "Messages whose time to live was over, whether they were dropped or became dead letters.",
        |entity| held(entity, entity.counters.expired),
    ),
    counter(
        "peeklock_entity_forwarded_messages_total",
        "Messages that went on to another entity by themselves, dead letters among them.",
        |entity| held(entity, entity.counters.forwarded),
    ),
    counter(
        "peeklock_entity_incoming_messages_total",
        "Messages taken in: sent to the entity, forwarded to it, or given to it by its topic; scheduled ones when they are sent, duplicates not.",
        |entity| Some(entity.counters.incoming),
    ),
    gauge(
        "peeklock_entity_locked_messages",
        "Messages that receivers hold locks for, deferred ones among them.",
        |entity| held(entity, entity.locked),
    ),
    gauge("peeklock_entity_locked_sessions", "Message sessions that receivers hold.", |entity| {
        entity.requires_session.then_some(entity.locked_sessions)
    }),
    counter(
        "peeklock_entity_lost_locks_total",
        "Locks of messages that ran out before anybody settled them, by themselves or with the lock of their session.",
        |entity| held(entity, entity.counters.lost_locks),
    ),
    OfEntities {
        family: Family {
            name: "peeklock_entity_messages",
            kind: Kind::Gauge,
            labels: &["namespace", "entity", "state"],
            help: "Messages by where they stand; the states add up to all. Active ones are to be delivered, or locked.",
        },
        samples: EntitySamples::States,
    },
    OfEntities {
        family: Family {
            name: "peeklock_entity_oldest_message_age_seconds",
            kind: Kind::Gauge,
            labels: OF_ENTITY,
            help: "How long ago the oldest active message came; 0 if there is none. Not there while only the store knows, as after a start: then the first scrape has it looked up, and the next one tells.",
        },
        samples: EntitySamples::Age,
    },
    counter(
        "peeklock_entity_outgoing_messages_total",
        "Deliveries to receivers, each attempt counted.",
        |entity| held(entity, entity.counters.outgoing),
    ),
    gauge(
        "peeklock_entity_receivers",
        "Receivers of an entity, those included that browse it or wait for a session.",
        |entity| held(entity, entity.receivers),
    ),
    gauge(
        "peeklock_entity_sessions",
        "Message sessions in memory: all that are held, and those with messages as far as there is room.",
        |entity| entity.requires_session.then_some(entity.sessions),
    ),
];

/// By name.
pub(super) static OF_NAMESPACES: [OfNamespaces; 4] = [
    OfNamespaces {
        family: Family {
            name: "peeklock_entities_hidden",
            kind: Kind::Gauge,
            labels: &["namespace"],
            help: "Entities that have no metrics of their own here, because there are more than metrics.entities in the configuration.",
        },
        samples: NamespaceSamples::Hidden,
    },
    OfNamespaces {
        family: Family {
            name: "peeklock_namespace_bytes",
            kind: Kind::Gauge,
            labels: &["namespace"],
            help: "Octets of all messages of a namespace; what several subscriptions share counts once.",
        },
        samples: NamespaceSamples::Bytes,
    },
    OfNamespaces {
        family: Family {
            name: "peeklock_namespace_entities",
            kind: Kind::Gauge,
            labels: &["namespace", "kind"],
            help: "Queues, topics and subscriptions of a namespace.",
        },
        samples: NamespaceSamples::Kinds,
    },
    OfNamespaces {
        family: Family {
            name: "peeklock_namespace_messages",
            kind: Kind::Gauge,
            labels: &["namespace", "state"],
            help: "Messages of all entities of a namespace by where they stand; what several subscriptions have counts for each.",
        },
        samples: NamespaceSamples::States,
    },
];

impl OfEntities {
    /// Writes the family, and lets others run now and then.
    pub(super) async fn write(
        &self,
        shown: &[(&Told, &EntityStatistics)],
        labels: &Labels,
        out: &mut Pieces,
    ) {
        if shown.is_empty() {
            return;
        }
        text::head(&self.family, out.text());
        for ((told, entity), labels) in shown.iter().zip(labels.iter()) {
            self.samples.write(self.family.name, told, entity, labels, out.text());
            out.rest().await;
        }
    }
}

impl EntitySamples {
    fn write(
        &self,
        name: &str,
        told: &Told,
        entity: &EntityStatistics,
        labels: &str,
        out: &mut String,
    ) {
        match self {
            EntitySamples::One(value) => {
                if let Some(value) = value(entity) {
                    text::sample(name, labels, None, value, out);
                }
            }
            EntitySamples::States => {
                for (state, value) in STATES {
                    if state == SCHEDULED || entity.kind != EntityKind::Topic {
                        text::sample(name, labels, Some(("state", state)), value(entity), out);
                    }
                }
            }
            EntitySamples::Reasons => {
                for reason in DeadLetterReason::ALL {
                    let count = entity.counters.dead_lettered(reason);
                    if count != 0 || can_be(entity, reason) {
                        let more = Some(("reason", reason.name()));
                        text::sample(name, labels, more, count, out);
                    }
                }
            }
            EntitySamples::Age => {
                let age = match entity.oldest {
                    OldestMessage::None => held(entity, 0),
                    OldestMessage::Since(at) => Some(told.now.since(at).0),
                    OldestMessage::Unknown => None,
                };
                if let Some(age) = age {
                    text::seconds(name, labels, age, out);
                }
            }
        }
    }
}

/// Whether an entity of its kind, as it is now, can have such dead letters.
const fn can_be(entity: &EntityStatistics, reason: DeadLetterReason) -> bool {
    let is_subscription = matches!(entity.kind, EntityKind::Subscription { .. });
    match reason {
        DeadLetterReason::Application
        | DeadLetterReason::MaxDeliveryCount
        | DeadLetterReason::Expired => !matches!(entity.kind, EntityKind::Topic),
        DeadLetterReason::FilterError | DeadLetterReason::HeaderSize => is_subscription,
        DeadLetterReason::SessionIdMissing => {
            entity.forwards || (is_subscription && entity.requires_session)
        }
        DeadLetterReason::HopCount
        | DeadLetterReason::TargetNotFound
        | DeadLetterReason::TargetDisabled
        | DeadLetterReason::TargetFull
        | DeadLetterReason::MessageSize
        | DeadLetterReason::TargetRefused => entity.forwards,
    }
}

impl OfNamespaces {
    /// Writes the family. `chosen` says which entities are shown.
    pub(super) fn write(&self, told: &[Told], chosen: &[Vec<usize>], out: &mut String) {
        text::head(&self.family, out);
        let name = self.family.name;
        for (told, chosen) in told.iter().zip(chosen) {
            let mut labels = "namespace=\"".to_owned();
            text::escape(&told.name, &mut labels);
            labels.push('"');
            let mut sample = |more, value| text::sample(name, &labels, more, value, out);
            match self.samples {
                NamespaceSamples::States => {
                    for (state, value) in STATES {
                        sample(Some(("state", state)), told.entities.iter().map(value).sum());
                    }
                }
                NamespaceSamples::Bytes => sample(None, told.entities.iter().map(own_bytes).sum()),
                NamespaceSamples::Kinds => {
                    for (kind, is_meant) in KINDS {
                        let meant = told.entities.iter().filter(|entity| is_meant(entity.kind));
                        sample(Some(("kind", kind)), meant.count() as u64);
                    }
                }
                NamespaceSamples::Hidden => {
                    sample(None, (told.entities.len() - chosen.len()) as u64);
                }
            }
        }
    }
}

/// Those that no other entity counts as well: a topic's has those of its subscriptions.
const fn own_bytes(entity: &EntityStatistics) -> u64 {
    if matches!(entity.kind, EntityKind::Subscription { .. }) { 0 } else { entity.bytes }
}
