//! Entities with their properties and rules, as a broker has them or a file wants them.

use peeklock_core::EntityPath;
use peeklock_core::entity::settings::{EntityStatus, QueueSettings};
use peeklock_core::topic::rules::RuleDescription;
use peeklock_core::topic::settings::TopicSettings;

use super::super::entities::subscription_path;
use super::super::failure::Failure;
use super::super::management::{Described, Management, noun};
use super::super::properties::{Kindred, Property, Queue, Subscription, Topic, show_duration};
use super::super::rules;
use crate::config::Settings;
use crate::config::units::show_size;

/// All entities: topics before their subscriptions.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) entities: Vec<Entity>,
    /// The paths of those that clients have made for themselves. No file declares them: they are not
    /// compared, and stay.
    pub(super) of_clients: Vec<String>,
}

/// A kind of entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    Topic,
    Subscription,
}

/// An entity.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) kind: Kind,
    /// Of a subscription, with that of its topic.
    pub(super) path: String,
    /// As people write them, and only what a file can say.
    pub(super) values: Vec<(&'static Property, String)>,
    /// Of a subscription; none where a file leaves them alone.
    pub(super) rules: Option<Vec<RuleDescription>>,
}

impl Kind {
    pub(super) const fn properties(self) -> &'static [Property] {
        match self {
            Self::Queue => Queue::PROPERTIES,
            Self::Topic => Topic::PROPERTIES,
            Self::Subscription => Subscription::PROPERTIES,
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Queue => Queue::DESCRIPTION,
            Self::Topic => Topic::DESCRIPTION,
            Self::Subscription => Subscription::DESCRIPTION,
        }
    }

    pub(super) fn noun(self) -> String {
        noun(self.description())
    }

    /// What it is like when a file says nothing.
    pub(super) fn defaults(self) -> Vec<(&'static Property, String)> {
        let default = QueueSettings::default();
        values(self, &default)
    }
}

impl Entity {
    pub(super) fn is(&self, other: &Self) -> bool {
        self.path.eq_ignore_ascii_case(&other.path)
    }

    pub(super) fn value(&self, property: &Property) -> Option<&str> {
        let found = self.values.iter().find(|(known, _)| known.option == property.option);
        found.map(|(_, value)| value.as_str())
    }
}

impl State {
    /// What a broker has.
    pub(super) async fn read(management: &mut Management<'_>) -> Result<Self, Failure> {
        let mut state = Self::default();
        for queue in management.list("$Resources/Queues").await? {
            if !state.leaves(&queue.name) {
                state.entities.push(described(Kind::Queue, queue.name.clone(), &queue));
            }
        }
        for topic in management.list("$Resources/Topics").await? {
            if state.leaves(&topic.name) {
                continue;
            }
            state.entities.push(described(Kind::Topic, topic.name.clone(), &topic));
            let below = format!("{}/Subscriptions", topic.name);
            for subscription in management.list(&below).await? {
                let path = subscription_path(&topic.name, &subscription.name);
                if state.leaves(&path) {
                    continue;
                }
                let found = management.list(&format!("{path}/Rules")).await?;
                let rules = found.iter().map(rules::read).collect::<Result<Vec<_>, Failure>>()?;
                let entity = described(Kind::Subscription, path, &subscription);
                state.entities.push(Entity { rules: Some(rules), ..entity });
            }
        }
        Ok(state)
    }

    /// Notes what a client has made for itself: subscriptions that JMS clients come back to by their
    /// names, and entities that go with a link.
    fn leaves(&mut self, path: &str) -> bool {
        let is_of_client = EntityPath::parse(path)
            .is_ok_and(|found| found.path.is_of_jms() || found.path.temporary().is_some());
        if is_of_client {
            self.of_clients.push(path.to_owned());
        }
        is_of_client
    }

    /// What a configuration declares.
    pub(super) fn declared(settings: &Settings) -> Self {
        let mut entities = Vec::new();
        for queue in &settings.queues {
            let values = values(Kind::Queue, &queue.settings);
            let path = queue.path.to_string();
            entities.push(Entity { kind: Kind::Queue, path, values, rules: None });
        }
        for topic in &settings.topics {
            let values = values(Kind::Topic, &of_topic(&topic.settings));
            let path = topic.path.to_string();
            entities.push(Entity { kind: Kind::Topic, path: path.clone(), values, rules: None });
            for subscription in &topic.subscriptions {
                let name = subscription.path.subscription();
                let name = name.map(|(_, name)| name.to_owned()).unwrap_or_default();
                entities.push(Entity {
                    kind: Kind::Subscription,
                    path: subscription_path(&path, &name),
                    values: self::values(Kind::Subscription, &subscription.settings),
                    rules: subscription.rules.clone(),
                });
            }
        }
        Self { entities, of_clients: Vec::new() }
    }

    pub(super) fn find(&self, wanted: &Entity) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.is(wanted) && entity.kind == wanted.kind)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let one = |entity: &Entity| {
            let mut object = serde_json::Map::new();
            object.insert("kind".into(), entity.kind.noun().into());
            object.insert("path".into(), entity.path.as_str().into());
            for (property, value) in &entity.values {
                object.insert(property.key(), property.kind.json(value));
            }
            if let Some(list) = &entity.rules {
                let list: Vec<_> = list.iter().map(rules::json_of).collect();
                object.insert("rules".into(), list.into());
            }
            serde_json::Value::Object(object)
        };
        self.entities.iter().map(one).collect()
    }
}

fn described(kind: Kind, path: String, found: &Described) -> Entity {
    let read = |property: &'static Property| {
        // What a file cannot say is not compared.
        kind.defaults()
            .iter()
            .any(|(known, _)| known.option == property.option)
            .then(|| (property, property.read(&found.element).unwrap_or_default()))
    };
    let values = kind.properties().iter().filter_map(read).collect();
    let mut entity = Entity { kind, path, values, rules: None };
    // A window without duplicate detection means nothing.
    if entity
        .values
        .iter()
        .any(|(property, value)| property.option == DUPLICATES && value == "false")
    {
        for (property, value) in &mut entity.values {
            if property.option == WINDOW {
                value.clear();
            }
        }
    }
    entity
}

pub(super) const DUPLICATES: &str = "requires-duplicate-detection";
pub(super) const WINDOW: &str = "duplicate-detection-history-time-window";

/// As far as a topic has them.
fn of_topic(settings: &TopicSettings) -> QueueSettings {
    QueueSettings {
        entity_bytes_max: settings.entity_bytes_max,
        message_bytes_max: settings.message_bytes_max,
        default_time_to_live: settings.default_time_to_live,
        duplicate_window: settings.duplicate_window,
        auto_delete_on_idle: settings.auto_delete_on_idle,
        status: settings.status,
        user_metadata: settings.user_metadata.clone(),
        ..QueueSettings::default()
    }
}

fn values(kind: Kind, settings: &QueueSettings) -> Vec<(&'static Property, String)> {
    let endless = |span: Option<_>| span.map_or("never".to_owned(), show_duration);
    let path = |path: &Option<_>| {
        path.as_ref().map(|path: &peeklock_core::EntityPath| path.to_string()).unwrap_or_default()
    };
    let value = |property: &'static Property| {
        let value = match property.option {
            "lock-duration" => show_duration(settings.lock_duration),
            "max-size" => show_size(settings.entity_bytes_max),
            DUPLICATES => settings.duplicate_window.is_some().to_string(),
            WINDOW => settings.duplicate_window.map(show_duration).unwrap_or_default(),
            "requires-session" => settings.requires_session.to_string(),
            "default-message-time-to-live" => endless(settings.default_time_to_live),
            "dead-lettering-on-message-expiration" => settings.dead_letter_on_expiry.to_string(),
            "dead-lettering-on-filter-evaluation-exceptions" => {
                settings.dead_letter_on_filter_error.to_string()
            }
            "max-delivery-count" => settings.attempts_max.to_string(),
            "status" => status(settings.status).to_owned(),
            "forward-to" => path(&settings.forward_to),
            "forward-dead-lettered-messages-to" => path(&settings.forward_dead_letters_to),
            "user-metadata" => settings.user_metadata.to_string(),
            "auto-delete-on-idle" => endless(settings.auto_delete_on_idle),
            "max-message-size" => show_size(settings.message_bytes_max),
            // Files do not have these.
            _ => return None,
        };
        Some((property, value))
    };
    kind.properties().iter().filter_map(value).collect()
}

const fn status(status: EntityStatus) -> &'static str {
    match status {
        EntityStatus::Active => "active",
        EntityStatus::Disabled => "disabled",
        EntityStatus::SendDisabled => "send-disabled",
        EntityStatus::ReceiveDisabled => "receive-disabled",
    }
}
