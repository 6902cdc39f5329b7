//! What a topic is told to be like.

use std::sync::Arc;

use crate::entity::access::AccessRule;
use crate::entity::settings::{EntityStatus, QueueSettings, Remarks};
use crate::error::Error;
use crate::time::Span;

/// How a topic behaves: a part of what a queue has, for the same reasons. What its subscriptions do is
/// in their own settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// Octets that the topic and all its subscriptions may hold together.
    pub entity_bytes_max: u64,
    /// Octets one message may have, sections and all.
    pub message_bytes_max: u64,
    /// How long messages are of use that do not say so themselves, and at most; `None` is for ever.
    pub default_time_to_live: Option<Span>,
    /// For how long a message-id is remembered, so that a second message with it is dropped.
    pub duplicate_window: Option<Span>,
    /// After what time without use the topic is deleted.
    pub auto_delete_on_idle: Option<Span>,
    /// What it lets clients do.
    pub status: EntityStatus,
    /// What its owner wrote on it.
    pub user_metadata: Arc<str>,
    /// What clients set and read back.
    pub remarks: Remarks,
    /// Who may do what at the topic and its subscriptions, besides those whom the configuration lets.
    pub access_rules: Vec<AccessRule>,
}

impl TopicSettings {
    /// Says which bound is broken, if one is.
    pub fn validate(&self) -> Result<(), Error> {
        self.to_queue_settings().validate()
    }

    /// As the entity keeps them.
    pub(crate) fn to_queue_settings(&self) -> QueueSettings {
        let TopicSettings {
            entity_bytes_max,
            message_bytes_max,
            default_time_to_live,
            duplicate_window,
            auto_delete_on_idle,
            status,
            user_metadata,
            remarks,
            access_rules,
        } = self.clone();
        QueueSettings {
            entity_bytes_max,
            message_bytes_max,
            default_time_to_live,
            duplicate_window,
            auto_delete_on_idle,
            status,
            user_metadata,
            remarks,
            access_rules,
            ..QueueSettings::default()
        }
    }

    pub(crate) fn of_queue_settings(settings: &QueueSettings) -> Self {
        let settings = settings.clone();
        TopicSettings {
            entity_bytes_max: settings.entity_bytes_max,
            message_bytes_max: settings.message_bytes_max,
            default_time_to_live: settings.default_time_to_live,
            duplicate_window: settings.duplicate_window,
            auto_delete_on_idle: settings.auto_delete_on_idle,
            status: settings.status,
            user_metadata: settings.user_metadata,
            remarks: settings.remarks,
            access_rules: settings.access_rules,
        }
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings::of_queue_settings(&QueueSettings::default())
    }
}
