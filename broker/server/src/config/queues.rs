//! Queues that the configuration declares.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::{EntityStatus, QueueSettings};
use peeklock_core::time::Span;
use toml::Spanned;

use super::Problem;
use super::build::{Check, GIB, KIB, MIB, count, refuse, size, time};
use super::raw::{Given, RawQueue};
use super::settings::QueueDeclaration;
use super::units::show_size;

/// The range of Service Bus. Shorter locks would expire on their way over a slow network.
const LOCK_DURATION: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_mins(5);
/// The range of AMQP's signed integer, in which administration clients write it.
const MAX_DELIVERY_COUNT: RangeInclusive<u32> = 1..=0x7fff_ffff;
/// 1 MiB is what the service takes by default, 100 MiB what Premium can be set to.
const MAX_MESSAGE_SIZE: RangeInclusive<u64> = KIB..=QueueSettings::MESSAGE_BYTES_CEILING;
/// From room for one message to more than a disk has.
const MAX_SIZE: RangeInclusive<u64> = MIB..=1024 * 1024 * GIB;
/// What the service calls unlimited, and writes for what has no end: the longest span of .NET.
const FOREVER: Duration = Duration::from_hours(10_675_199 * 24);

/// Takes what the file says and the names of the command line.
pub(super) fn queues(raw: Vec<RawQueue>, names: &[String]) -> Check<Vec<QueueDeclaration>> {
    let mut queues: Vec<QueueDeclaration> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("queue[{index}].{field}");
        let span = raw.name.span();
        let path = queue_path(&key("name"), raw.name.get_ref(), span.clone())?;
        if queues.iter().any(|other| other.path == path) {
            return refuse(&key("name"), span, format!("the queue {path} is declared twice"));
        }
        let settings = settings(raw, &path, key)?;
        queues.push(QueueDeclaration { path, settings, only_if_missing: false });
    }
    for name in names {
        let path = queue_path("--queue", name, 0..0)?;
        if queues.iter().all(|other| other.path != path) {
            let settings = QueueSettings::default();
            queues.push(QueueDeclaration { path, settings, only_if_missing: true });
        }
    }
    Ok(queues)
}

pub(super) fn settings(
    raw: RawQueue,
    path: &EntityPath,
    key: impl Fn(&str) -> String,
) -> Check<QueueSettings> {
    let default = QueueSettings::default();
    let size_span = raw.max_size.as_ref().map_or(raw.name.span(), Spanned::span);
    let forward_span = raw.forward_to.as_ref().map_or(0..0, Spanned::span);
    let lock_duration = time(
        &key("lock_duration"),
        raw.lock_duration,
        &LOCK_DURATION,
        default.lock_duration.as_duration(),
    )?;
    let span = |field: &str, raw: Given<String>, least: Span, most: Duration| {
        optional_time(&key(field), raw, &(least.as_duration()..=most))
    };
    let settings = QueueSettings {
        lock_duration: to_span(lock_duration),
        attempts_max: count(
            &key("max_delivery_count"),
            raw.max_delivery_count,
            &MAX_DELIVERY_COUNT,
            default.attempts_max,
        )?,
        message_bytes_max: size(
            &key("max_message_size"),
            raw.max_message_size,
            &MAX_MESSAGE_SIZE,
            default.message_bytes_max,
        )?,
        entity_bytes_max: size(
            &key("max_size"),
            raw.max_size,
            &MAX_SIZE,
            default.entity_bytes_max,
        )?,
        requires_session: raw.requires_session.is_some_and(Spanned::into_inner),
        default_time_to_live: span(
            "default_message_time_to_live",
            raw.default_message_time_to_live,
            QueueSettings::TIME_TO_LIVE_MIN,
            FOREVER,
        )?,
        dead_letter_on_expiry: raw
            .dead_lettering_on_message_expiration
            .is_some_and(Spanned::into_inner),
        dead_letter_on_filter_error: default.dead_letter_on_filter_error,
        duplicate_window: span(
            "duplicate_detection_history_time_window",
            raw.duplicate_detection_history_time_window,
            QueueSettings::DUPLICATE_WINDOW_MIN,
            QueueSettings::DUPLICATE_WINDOW_MAX.as_duration(),
        )?,
        forward_to: forward(&key("forward_to"), raw.forward_to, path)?,
        forward_dead_letters_to: forward(
            &key("forward_dead_lettered_messages_to"),
            raw.forward_dead_lettered_messages_to,
            path,
        )?,
        auto_delete_on_idle: span(
            "auto_delete_on_idle",
            raw.auto_delete_on_idle,
            QueueSettings::AUTO_DELETE_ON_IDLE_MIN,
            FOREVER,
        )?,
        status: status(&key("status"), raw.status)?,
        user_metadata: user_metadata(&key("user_metadata"), raw.user_metadata)?.into(),
        remarks: default.remarks,
        access_rules: default.access_rules,
    };
    if settings.entity_bytes_max < settings.message_bytes_max {
        let reason = format!(
            "{} is less than one message may have (max_message_size is {})",
            show_size(settings.entity_bytes_max),
            show_size(settings.message_bytes_max)
        );
        return refuse(&key("max_size"), size_span, reason);
    }
    if settings.requires_session && settings.forward_to.is_some() {
        let reason = "a queue that requires sessions cannot forward its messages";
        return refuse(&key("forward_to"), forward_span, reason);
    }
    Ok(settings)
}

fn to_span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A span that has no end when it is left out, or as long as the service's unlimited.
fn optional_time(
    key: &str,
    raw: Given<String>,
    bounds: &RangeInclusive<Duration>,
) -> Check<Option<Span>> {
    let is_given = raw.is_some();
    let duration = time(key, raw, bounds, FOREVER)?;
    Ok((is_given && duration < FOREVER).then(|| to_span(duration)))
}

fn forward(key: &str, raw: Given<String>, from: &EntityPath) -> Check<Option<EntityPath>> {
    let Some(raw) = raw else { return Ok(None) };
    let span = raw.span();
    let path = queue_path(key, raw.get_ref(), span.clone())?;
    if path == *from {
        return refuse(key, span, "a queue cannot forward to itself");
    }
    Ok(Some(path))
}

fn status(key: &str, raw: Given<String>) -> Check<EntityStatus> {
    let Some(raw) = raw else { return Ok(EntityStatus::Active) };
    match raw.get_ref().as_str() {
        "active" => Ok(EntityStatus::Active),
        "disabled" => Ok(EntityStatus::Disabled),
        "send-disabled" => Ok(EntityStatus::SendDisabled),
        "receive-disabled" => Ok(EntityStatus::ReceiveDisabled),
        _ => {
            let reason = "is \"active\", \"disabled\", \"send-disabled\" or \"receive-disabled\"";
            refuse(key, raw.span(), reason)
        }
    }
}

fn user_metadata(key: &str, raw: Given<String>) -> Check<String> {
    let Some(raw) = raw else { return Ok(String::new()) };
    if QueueSettings::USER_METADATA_LEN_MAX < raw.get_ref().chars().count() {
        return refuse(key, raw.span(), "has more than 1024 characters");
    }
    Ok(raw.into_inner())
}

pub(super) fn queue_path(key: &str, name: &str, span: Range<usize>) -> Check<EntityPath> {
    EntityPath::for_new_entity(name).map_err(|error| Problem {
        key: key.to_owned(),
        span,
        reason: format!(
            "{name:?} cannot name a queue: {error}; letters, digits, '.', '-', '_', '~' and '/' can, \
             with a letter or digit at both ends"
        ),
    })
}
