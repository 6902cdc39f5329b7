//! Queues: `QueueDescription`.

use peeklock_core::command::Command;
use peeklock_core::effect::{QueueDescription, Reply};
use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::QueueSettings;

use super::access;
use super::call::{Call, Found, Intent, Listed, is_missing};
use super::entry::Entry;
use super::error::Fault;
use super::paths::Page;
use super::properties::{self, Ages, DUPLICATE_WINDOW, KILOBYTE, MEGABYTE, Properties};
use super::xml::{Element, SCHEMA_INSTANCE, SERVICE_BUS, Writer};

pub(super) const DESCRIPTION: &str = "QueueDescription";

/// Looks for a queue.
pub(super) async fn find(call: &Call<'_>, path: EntityPath) -> Result<Option<Entry>, Fault> {
    let known = describe(call, path).await?;
    Ok(known.map(|known| entry(&known, call.host(), Intent::Read)))
}

pub(super) async fn list(call: &Call<'_>, page: Page) -> Result<Listed, Fault> {
    let (skip, count_max) = (page.skip, page.top + 1);
    let list = |origin| Command::ListQueues { origin, skip, count_max };
    let Reply::QueuesListed { queues } = call.ask(list).await? else {
        return Err(Fault::internal());
    };
    let entry = |queue: &QueueDescription| entry(queue, call.host(), Intent::Read);
    Ok(Listed::new("Queues", page, queues.iter().map(entry).collect()))
}

/// Creates or changes a queue.
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
    call.check_targets(&settings)?;
    let at = path.clone();
    let change = |origin| match intent {
        Intent::Update => Command::UpdateQueue { origin, path: at, settings, access_rules },
        Intent::Create | Intent::Read => {
            let settings = QueueSettings { access_rules: access::first(access_rules), ..settings };
            Command::CreateQueue { origin, path: at, settings }
        }
    };
    call.change(&path, change).await?;
    let known = describe(call, path.clone()).await?;
    let known = known.ok_or_else(|| Fault::missing(path.name()))?;
    Ok(entry(&known, call.host(), intent))
}

/// Deletes a queue, if there is one.
pub(super) async fn delete(call: &Call<'_>, path: EntityPath) -> Result<Found, Fault> {
    let deleted = call.ask(|origin| Command::DeleteQueue { origin, path }).await;
    Found::of(deleted)
}

async fn describe(call: &Call<'_>, path: EntityPath) -> Result<Option<QueueDescription>, Fault> {
    match call.ask(|origin| Command::DescribeQueue { origin, path }).await {
        Ok(Reply::QueueDescribed(known)) => Ok(Some(*known)),
        Ok(_) => Err(Fault::internal()),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a request wants a queue to be like, but for its access rules. What it does not name is as in a
/// new queue, but for what cannot be changed.
fn settings(
    properties: &Properties<'_>,
    before: Option<&QueueSettings>,
) -> Result<QueueSettings, Fault> {
    properties.refuse_what_is_not_there()?;
    let default = QueueSettings::default();
    let (duplicate_window, unused_window) = properties.duplicate_windows(before)?;
    let requires_session = before.is_some_and(|before| before.requires_session);
    let lock_duration = properties.finite_span("LockDuration")?;
    let dead_letter_on_expiry = properties.flag("DeadLetteringOnMessageExpiration")?;
    Ok(QueueSettings {
        lock_duration: lock_duration.unwrap_or(default.lock_duration),
        attempts_max: properties.number("MaxDeliveryCount")?.unwrap_or(default.attempts_max),
        entity_bytes_max: properties.entity_bytes(before.map(|before| before.entity_bytes_max))?,
        message_bytes_max: properties
            .message_bytes(before.map(|before| before.message_bytes_max))?,
        requires_session: properties.flag("RequiresSession")?.unwrap_or(requires_session),
        default_time_to_live: properties.span("DefaultMessageTimeToLive")?,
        dead_letter_on_expiry: dead_letter_on_expiry.unwrap_or(default.dead_letter_on_expiry),
        dead_letter_on_filter_error: before
            .map_or(default.dead_letter_on_filter_error, |b| b.dead_letter_on_filter_error),
        duplicate_window,
        forward_to: properties.target("ForwardTo")?,
        forward_dead_letters_to: properties.target("ForwardDeadLetteredMessagesTo")?,
        auto_delete_on_idle: properties.span("AutoDeleteOnIdle")?,
        status: properties.status()?,
        user_metadata: properties.text("UserMetadata").unwrap_or_default().into(),
        remarks: properties.remarks(before, unused_window)?,
        access_rules: Vec::new(),
    })
}

fn entry(known: &QueueDescription, host: &str, intent: Intent) -> Entry {
    Entry {
        title: known.path.to_string(),
        published: intent.published(known.created_at),
        updated: known.updated_at,
        has_author: true,
        content: content(known, host, intent == Intent::Create),
    }
}

fn content(known: &QueueDescription, host: &str, is_new: bool) -> String {
    let QueueDescription { settings, counts, bytes, .. } = known;
    let remarks = &settings.remarks;
    let window = settings.duplicate_window.or(remarks.unused_duplicate_window);
    let mut writer = Writer::default();
    let w = &mut writer;
    w.open(DESCRIPTION, &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
    properties::write_span(w, "LockDuration", Some(settings.lock_duration));
    w.value("MaxSizeInMegabytes", settings.entity_bytes_max / MEGABYTE);
    w.value("RequiresDuplicateDetection", settings.duplicate_window.is_some());
    w.value("RequiresSession", settings.requires_session);
    properties::write_span(w, "DefaultMessageTimeToLive", settings.default_time_to_live);
    w.value("DeadLetteringOnMessageExpiration", settings.dead_letter_on_expiry);
    let window = Some(window.unwrap_or(DUPLICATE_WINDOW));
    properties::write_span(w, "DuplicateDetectionHistoryTimeWindow", window);
    w.value("MaxDeliveryCount", settings.attempts_max);
    w.value("EnableBatchedOperations", remarks.batched);
    w.value("SizeInBytes", bytes);
    w.value("MessageCount", properties::total(counts));
    w.value("IsAnonymousAccessible", false);
    access::write(w, &settings.access_rules);
    properties::write_status(w, settings.status);
    properties::write_target(w, "ForwardTo", settings.forward_to.as_ref(), host);
    properties::write_text(w, "UserMetadata", &settings.user_metadata);
    let (created, updated) = (known.created_at, known.updated_at);
    Ages { created, updated, accessed: known.accessed_at }.write(w, is_new);
    w.value("SupportOrdering", remarks.ordered);
    if !is_new {
        properties::write_counts(w, counts);
    }
    properties::write_span(w, "AutoDeleteOnIdle", settings.auto_delete_on_idle);
    w.value("EnablePartitioning", remarks.partitioned);
    let to = settings.forward_dead_letters_to.as_ref();
    properties::write_target(w, "ForwardDeadLetteredMessagesTo", to, host);
    w.leaf("EntityAvailabilityStatus", "Available");
    w.value("EnableExpress", remarks.express);
    w.value("MaxMessageSizeInKilobytes", settings.message_bytes_max / KILOBYTE);
    w.close(DESCRIPTION);
    writer.finish()
}
