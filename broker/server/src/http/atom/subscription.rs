//! Subscriptions: `SubscriptionDescription`.

use peeklock_core::command::Command;
use peeklock_core::effect::{QueueDescription, Reply};
use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::QueueSettings;
use peeklock_core::topic::command::{TopicCommand, TopicReply};

use super::access;
use super::call::{Call, Found, Intent, Listed, is_missing};
use super::entry::Entry;
use super::error::Fault;
use super::paths::Page;
use super::properties::{self, Ages, Properties};
use super::rule;
use super::xml::{Element, SCHEMA_INSTANCE, SERVICE_BUS, Space, Writer};

pub(super) const DESCRIPTION: &str = "SubscriptionDescription";

/// Looks for a subscription.
pub(super) async fn find(call: &Call<'_>, path: EntityPath) -> Result<Option<Entry>, Fault> {
    let known = describe(call, path).await?;
    Ok(known.map(|known| entry(&known, call.host(), Intent::Read)))
}

/// Lists the subscriptions of a topic that has to be there.
pub(super) async fn list(call: &Call<'_>, topic: EntityPath, page: Page) -> Result<Listed, Fault> {
    let (path, skip, count_max) = (topic, page.skip, page.top + 1);
    let list = |origin| TopicCommand::ListSubscriptions { origin, path, skip, count_max };
    let list = |origin| Command::OfTopic(Box::new(list(origin)));
    let Reply::OfTopic(TopicReply::SubscriptionsListed { subscriptions }) = call.ask(list).await?
    else {
        return Err(Fault::internal());
    };
    let entry = |subscription: &QueueDescription| entry(subscription, call.host(), Intent::Read);
    Ok(Listed::new("Subscriptions", page, subscriptions.iter().map(entry).collect()))
}

/// Creates or changes a subscription.
pub(super) async fn put(
    call: &Call<'_>,
    path: EntityPath,
    description: &Element,
    intent: Intent,
) -> Result<Entry, Fault> {
    let before = match intent {
        Intent::Update => match describe(call, path.clone()).await? {
            Some(known) => Some(known.settings),
            None => return Err(Fault::missing(path.name())),
        },
        Intent::Create | Intent::Read => None,
    };
    let settings = settings(&Properties(description), before.as_ref())?;
    call.check_targets(&settings)?;
    let at = path.clone();
    let command = |origin, rule| match intent {
        Intent::Update => TopicCommand::UpdateSubscription { origin, path: at, settings },
        Intent::Create | Intent::Read => {
            TopicCommand::CreateSubscription { origin, path: at, settings, rule }
        }
    };
    let rule = description.child(Space::ServiceBus, "DefaultRuleDescription");
    let rule = rule.map(|element| rule::read(element, None)).transpose()?;
    call.change(&path, |origin| Command::OfTopic(Box::new(command(origin, rule)))).await?;
    let known = describe(call, path.clone()).await?;
    let known = known.ok_or_else(|| Fault::missing(path.name()))?;
    Ok(entry(&known, call.host(), intent))
}

/// Deletes a subscription, if there is one.
pub(super) async fn delete(call: &Call<'_>, path: EntityPath) -> Result<Found, Fault> {
    let delete = |origin| TopicCommand::DeleteSubscription { origin, path };
    Found::of(call.ask(|origin| Command::OfTopic(Box::new(delete(origin)))).await)
}

async fn describe(call: &Call<'_>, path: EntityPath) -> Result<Option<QueueDescription>, Fault> {
    let ask = |origin| TopicCommand::DescribeSubscription { origin, path };
    match call.ask(|origin| Command::OfTopic(Box::new(ask(origin)))).await {
        Ok(Reply::OfTopic(TopicReply::SubscriptionDescribed(known))) => Ok(Some(*known)),
        Ok(_) => Err(Fault::internal()),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn settings(
    properties: &Properties<'_>,
    before: Option<&QueueSettings>,
) -> Result<QueueSettings, Fault> {
    properties.refuse_what_is_not_there()?;
    access::refuse(properties.0, "rules are of topics, and count for their subscriptions")?;
    let default = QueueSettings::default();
    let kept = before.unwrap_or(&default);
    let lock_duration = properties.finite_span("LockDuration")?;
    let on_expiry = properties.flag("DeadLetteringOnMessageExpiration")?;
    let on_filter_error = properties.flag("DeadLetteringOnFilterEvaluationExceptions")?;
    Ok(QueueSettings {
        lock_duration: lock_duration.unwrap_or(default.lock_duration),
        attempts_max: properties.number("MaxDeliveryCount")?.unwrap_or(default.attempts_max),
        // The topic's count.
        entity_bytes_max: kept.entity_bytes_max,
        message_bytes_max: kept.message_bytes_max,
        requires_session: properties.flag("RequiresSession")?.unwrap_or(kept.requires_session),
        default_time_to_live: properties.span("DefaultMessageTimeToLive")?,
        dead_letter_on_expiry: on_expiry.unwrap_or(default.dead_letter_on_expiry),
        dead_letter_on_filter_error: on_filter_error.unwrap_or(default.dead_letter_on_filter_error),
        duplicate_window: None,
        forward_to: properties.target("ForwardTo")?,
        forward_dead_letters_to: properties.target("ForwardDeadLetteredMessagesTo")?,
        auto_delete_on_idle: properties.span("AutoDeleteOnIdle")?,
        status: properties.status()?,
        user_metadata: properties.text("UserMetadata").unwrap_or_default().into(),
        remarks: properties.remarks(before, None)?,
        access_rules: Vec::new(),
    })
}

fn entry(known: &QueueDescription, host: &str, intent: Intent) -> Entry {
    let name = known.path.subscription().map(|(_, name)| name.to_owned());
    Entry {
        title: name.unwrap_or_default(),
        published: intent.published(known.created_at),
        updated: known.updated_at,
        has_author: false,
        content: content(known, host, intent == Intent::Create),
    }
}

fn content(known: &QueueDescription, host: &str, is_new: bool) -> String {
    let QueueDescription { settings, counts, .. } = known;
    let mut writer = Writer::default();
    let w = &mut writer;
    w.open(DESCRIPTION, &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
    properties::write_span(w, "LockDuration", Some(settings.lock_duration));
    w.value("RequiresSession", settings.requires_session);
    properties::write_span(w, "DefaultMessageTimeToLive", settings.default_time_to_live);
    w.value("DeadLetteringOnMessageExpiration", settings.dead_letter_on_expiry);
    let on_filter_error = settings.dead_letter_on_filter_error;
    w.value("DeadLetteringOnFilterEvaluationExceptions", on_filter_error);
    w.value("MessageCount", properties::total(counts));
    w.value("MaxDeliveryCount", settings.attempts_max);
    w.value("EnableBatchedOperations", settings.remarks.batched);
    properties::write_status(w, settings.status);
    properties::write_target(w, "ForwardTo", settings.forward_to.as_ref(), host);
    let (created, updated) = (known.created_at, known.updated_at);
    Ages { created, updated, accessed: known.accessed_at }.write(w, is_new);
    if !is_new {
        properties::write_counts(w, counts);
    }
    properties::write_text(w, "UserMetadata", &settings.user_metadata);
    let to = settings.forward_dead_letters_to.as_ref();
    properties::write_target(w, "ForwardDeadLetteredMessagesTo", to, host);
    properties::write_span(w, "AutoDeleteOnIdle", settings.auto_delete_on_idle);
    w.leaf("EntityAvailabilityStatus", "Available");
    w.value("IsClientAffine", false);
    w.close(DESCRIPTION);
    writer.finish()
}
