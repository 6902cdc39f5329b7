//! Topics: `TopicDescription`.

use peeklock_core::command::Command;
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::QueueSettings;
use peeklock_core::topic::command::{TopicCommand, TopicDescription, TopicReply};
use peeklock_core::topic::settings::TopicSettings;

use super::access;
use super::call::{Call, Found, Intent, Listed, is_missing};
use super::entry::Entry;
use super::error::Fault;
use super::paths::Page;
use super::properties::{self, Ages, DUPLICATE_WINDOW, KILOBYTE, MEGABYTE, Properties};
use super::xml::{Element, SCHEMA_INSTANCE, SERVICE_BUS, Writer};

pub(super) const DESCRIPTION: &str = "TopicDescription";

/// Looks for a topic.
pub(super) async fn find(call: &Call<'_>, path: EntityPath) -> Result<Option<Entry>, Fault> {
    Ok(describe(call, path).await?.map(|known| entry(&known, Intent::Read)))
}

pub(super) async fn list(call: &Call<'_>, page: Page) -> Result<Listed, Fault> {
    let (skip, count_max) = (page.skip, page.top + 1);
    let list =
        |origin| Command::OfTopic(Box::new(TopicCommand::ListTopics { origin, skip, count_max }));
    let Reply::OfTopic(TopicReply::TopicsListed { topics }) = call.ask(list).await? else {
        return Err(Fault::internal());
    };
    let entry = |topic: &TopicDescription| entry(topic, Intent::Read);
    Ok(Listed::new("Topics", page, topics.iter().map(entry).collect()))
}

/// Creates or changes a topic.
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
    let access_rules = access::read(description)?;
    let at = path.clone();
    let change = |origin| {
        Command::OfTopic(Box::new(match intent {
            Intent::Update => {
                TopicCommand::UpdateTopic { origin, path: at, settings, access_rules }
            }
            Intent::Create | Intent::Read => {
                let access_rules = access::first(access_rules);
                let settings = TopicSettings { access_rules, ..settings };
                TopicCommand::CreateTopic { origin, path: at, settings }
            }
        }))
    };
    call.change(&path, change).await?;
    let known = describe(call, path.clone()).await?;
    Ok(entry(&known.ok_or_else(|| Fault::missing(path.name()))?, intent))
}

/// Deletes a topic, if there is one.
pub(super) async fn delete(call: &Call<'_>, path: EntityPath) -> Result<Found, Fault> {
    let delete = |origin| Command::OfTopic(Box::new(TopicCommand::DeleteTopic { origin, path }));
    Found::of(call.ask(delete).await)
}

async fn describe(call: &Call<'_>, path: EntityPath) -> Result<Option<TopicDescription>, Fault> {
    let ask = |origin| Command::OfTopic(Box::new(TopicCommand::DescribeTopic { origin, path }));
    match call.ask(ask).await {
        Ok(Reply::OfTopic(TopicReply::TopicDescribed(known))) => Ok(Some(*known)),
        Ok(_) => Err(Fault::internal()),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a request wants a topic to be like, but for its access rules.
fn settings(
    properties: &Properties<'_>,
    before: Option<&TopicSettings>,
) -> Result<TopicSettings, Fault> {
    properties.refuse_what_is_not_there()?;
    // As far as a topic has them.
    let before = before.map(|before| QueueSettings {
        duplicate_window: before.duplicate_window,
        remarks: before.remarks,
        entity_bytes_max: before.entity_bytes_max,
        message_bytes_max: before.message_bytes_max,
        ..QueueSettings::default()
    });
    let before = before.as_ref();
    let (duplicate_window, unused_window) = properties.duplicate_windows(before)?;
    Ok(TopicSettings {
        entity_bytes_max: properties.entity_bytes(before.map(|before| before.entity_bytes_max))?,
        message_bytes_max: properties
            .message_bytes(before.map(|before| before.message_bytes_max))?,
        default_time_to_live: properties.span("DefaultMessageTimeToLive")?,
        duplicate_window,
        auto_delete_on_idle: properties.span("AutoDeleteOnIdle")?,
        status: properties.status()?,
        user_metadata: properties.text("UserMetadata").unwrap_or_default().into(),
        remarks: properties.remarks(before, unused_window)?,
        access_rules: Vec::new(),
    })
}

fn entry(known: &TopicDescription, intent: Intent) -> Entry {
    Entry {
        title: known.path.to_string(),
        published: intent.published(known.created_at),
        updated: known.updated_at,
        has_author: true,
        content: content(known, intent == Intent::Create),
    }
}

fn content(known: &TopicDescription, is_new: bool) -> String {
    let TopicDescription { settings, counts, bytes, .. } = known;
    let remarks = &settings.remarks;
    let window = settings.duplicate_window.or(remarks.unused_duplicate_window);
    let mut writer = Writer::default();
    let w = &mut writer;
    w.open(DESCRIPTION, &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
    properties::write_span(w, "DefaultMessageTimeToLive", settings.default_time_to_live);
    w.value("MaxSizeInMegabytes", settings.entity_bytes_max / MEGABYTE);
    w.value("RequiresDuplicateDetection", settings.duplicate_window.is_some());
    let window = Some(window.unwrap_or(DUPLICATE_WINDOW));
    properties::write_span(w, "DuplicateDetectionHistoryTimeWindow", window);
    w.value("EnableBatchedOperations", remarks.batched);
    w.value("SizeInBytes", bytes);
    w.value("FilteringMessagesBeforePublishing", remarks.filters_before_publishing);
    w.value("IsAnonymousAccessible", false);
    access::write(w, &settings.access_rules);
    properties::write_status(w, settings.status);
    properties::write_text(w, "UserMetadata", &settings.user_metadata);
    let (created, updated) = (known.created_at, known.updated_at);
    Ages { created, updated, accessed: known.accessed_at }.write(w, is_new);
    w.value("SupportOrdering", remarks.ordered);
    if !is_new {
        properties::write_counts(w, counts);
    }
    w.value("SubscriptionCount", known.subscriptions.len());
    w.value("SqlFilterCount", known.sql_filter_count);
    w.value("CorrelationFilterCount", known.correlation_filter_count);
    properties::write_span(w, "AutoDeleteOnIdle", settings.auto_delete_on_idle);
    w.value("EnablePartitioning", remarks.partitioned);
    w.leaf("EntityAvailabilityStatus", "Available");
    w.value("EnableSubscriptionPartitioning", remarks.subscriptions_partitioned);
    w.value("EnableExpress", remarks.express);
    w.value("MaxMessageSizeInKilobytes", settings.message_bytes_max / KILOBYTE);
    w.close(DESCRIPTION);
    writer.finish()
}
