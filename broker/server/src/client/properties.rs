//! The properties of entities, each once: the option, the key of a configuration file, the element of
//! the management API, and how its values are written in each.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use peeklock_core::time::Span;

use crate::config::units::{parse_size, parse_span, show_size};
use crate::http::atom::time;
use crate::http::atom::xml::{Element, Space};

/// A property of an entity.
#[derive(Debug)]
pub struct Property {
    /// The option; with `_` in place of `-`, the key of the configuration file.
    pub(super) option: &'static str,
    pub(super) element: &'static str,
    pub(super) kind: Kind,
    help: &'static str,
}

/// How values look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Count,
    Text,
    Span,
    /// A span that need not end.
    Endless,
    Kilobytes,
    Megabytes,
    /// The name of an entity, or nothing.
    Entity,
    Status,
}

/// A kind of entity.
pub trait Kindred: Clone + std::fmt::Debug + Send + Sync + 'static {
    const PROPERTIES: &'static [Property];
    /// The element of its description.
    const DESCRIPTION: &'static str;
}

#[derive(Clone, Debug)]
pub struct Queue;
#[derive(Clone, Debug)]
pub struct Topic;
#[derive(Clone, Debug)]
pub(super) struct Subscription;

impl Kindred for Queue {
    const PROPERTIES: &'static [Property] = QUEUE;
    const DESCRIPTION: &'static str = "QueueDescription";
}

impl Kindred for Topic {
    const PROPERTIES: &'static [Property] = TOPIC;
    const DESCRIPTION: &'static str = "TopicDescription";
}

impl Kindred for Subscription {
    const PROPERTIES: &'static [Property] = SUBSCRIPTION;
    const DESCRIPTION: &'static str = "SubscriptionDescription";
}

macro_rules! properties {
    ($($name:ident = $option:literal $element:literal $kind:ident $help:literal;)*) => {
        $(const $name: Property = Property {
            option: $option, element: $element, kind: Kind::$kind, help: $help,
        };)*
    };
}

properties! {
    LOCK = "lock-duration" "LockDuration" Span
        "How long a message stays locked for its receiver, 5s to 5m";
    MAX_SIZE = "max-size" "MaxSizeInMegabytes" Megabytes
        "What it may hold, in whole MiB";
    DUPLICATES = "requires-duplicate-detection" "RequiresDuplicateDetection" Flag
        "Drop messages with an id that it has seen lately; cannot be changed later";
    SESSION = "requires-session" "RequiresSession" Flag
        "Each message belongs to a message session; cannot be changed later";
    TIME_TO_LIVE = "default-message-time-to-live" "DefaultMessageTimeToLive" Endless
        "How long messages live that do not say, or `never` for ever";
    ON_EXPIRATION = "dead-lettering-on-message-expiration" "DeadLetteringOnMessageExpiration" Flag
        "Keep expired messages in the dead-letter queue";
    ON_FILTER_ERROR = "dead-lettering-on-filter-evaluation-exceptions"
        "DeadLetteringOnFilterEvaluationExceptions" Flag
        "Keep messages in the dead-letter queue that a filter fails on";
    WINDOW = "duplicate-detection-history-time-window" "DuplicateDetectionHistoryTimeWindow" Span
        "How long ids are remembered, 20s to 7d";
    DELIVERIES = "max-delivery-count" "MaxDeliveryCount" Count
        "Deliveries of a message before it becomes a dead letter";
    BATCHED = "enable-batched-operations" "EnableBatchedOperations" Flag
        "Kept for clients that ask; the broker always batches";
    FILTERS_FIRST = "filtering-messages-before-publishing" "FilteringMessagesBeforePublishing"
        Flag "Kept for clients that ask";
    STATUS = "status" "Status" Status
        "active, disabled, send-disabled or receive-disabled";
    FORWARD = "forward-to" "ForwardTo" Entity
        "Queue or topic that gets all messages; '' for none";
    METADATA = "user-metadata" "UserMetadata" Text
        "A text of your own";
    ORDERING = "support-ordering" "SupportOrdering" Flag
        "Kept for clients that ask; the broker always keeps the order";
    IDLE = "auto-delete-on-idle" "AutoDeleteOnIdle" Endless
        "Delete it when unused for so long, 5m at least, or `never`";
    PARTITIONING = "enable-partitioning" "EnablePartitioning" Flag
        "Kept for clients that ask; cannot be changed later";
    FORWARD_DEAD = "forward-dead-lettered-messages-to" "ForwardDeadLetteredMessagesTo" Entity
        "Queue or topic that gets dead letters; '' for none";
    SUBSCRIPTION_PARTITIONING = "enable-subscription-partitioning" "EnableSubscriptionPartitioning"
        Flag "Kept for clients that ask";
    EXPRESS = "enable-express" "EnableExpress" Flag
        "Kept for clients that ask; messages are durable all the same";
    MAX_MESSAGE = "max-message-size" "MaxMessageSizeInKilobytes" Kilobytes
        "What one message may have, in whole KiB, up to 100 MiB";
}

// In the order in which the service writes them: it refuses others.
const QUEUE: &[Property] = &[
    LOCK,
    MAX_SIZE,
    DUPLICATES,
    SESSION,
    TIME_TO_LIVE,
    ON_EXPIRATION,
    WINDOW,
    DELIVERIES,
    BATCHED,
    STATUS,
    FORWARD,
    METADATA,
    ORDERING,
    IDLE,
    PARTITIONING,
    FORWARD_DEAD,
    EXPRESS,
    MAX_MESSAGE,
];
const TOPIC: &[Property] = &[
    TIME_TO_LIVE,
    MAX_SIZE,
    DUPLICATES,
    WINDOW,
    BATCHED,
    FILTERS_FIRST,
    STATUS,
    METADATA,
    ORDERING,
    IDLE,
    PARTITIONING,
    SUBSCRIPTION_PARTITIONING,
    EXPRESS,
    MAX_MESSAGE,
];
const SUBSCRIPTION: &[Property] = &[
    LOCK,
    SESSION,
    TIME_TO_LIVE,
    ON_EXPIRATION,
    ON_FILTER_ERROR,
    DELIVERIES,
    BATCHED,
    STATUS,
    FORWARD,
    METADATA,
    FORWARD_DEAD,
    IDLE,
];

impl Property {
    /// The key in the configuration file and in JSON.
    pub(super) fn key(&self) -> String {
        self.option.replace('-', "_")
    }

    /// The value in a description, as people write it.
    pub(super) fn read(&self, description: &Element) -> Option<String> {
        let text = &description.child(Space::ServiceBus, self.element)?.text;
        Some(self.kind.show(text))
    }

    fn option_of(&'static self) -> Arg {
        let arg = Arg::new(self.option).long(self.option).help(self.help);
        let kind = self.kind;
        let arg = match kind {
            // As a flag, or with a value to take it back.
            Kind::Flag => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .value_parser(["true", "false"]),
            _ => arg.value_parser(clap::builder::StringValueParser::new().try_map(
                // Checked here, kept as it was written.
                move |text| kind.parse(&text).map(|_| text),
            )),
        };
        match kind {
            Kind::Flag => arg,
            Kind::Count => arg.value_name("N"),
            Kind::Text => arg.value_name("TEXT"),
            Kind::Span | Kind::Endless => arg.value_name("DURATION"),
            Kind::Kilobytes | Kind::Megabytes => arg.value_name("SIZE"),
            Kind::Entity => arg.value_name("ENTITY"),
            Kind::Status => arg.value_name("STATUS"),
        }
    }
}

const STATUSES: [(&str, &str); 4] = [
    ("active", "Active"),
    ("disabled", "Disabled"),
    ("send-disabled", "SendDisabled"),
    ("receive-disabled", "ReceiveDisabled"),
];

impl Kind {
    /// What people write, as the management API has it.
    pub(super) fn parse(self, text: &str) -> Result<String, String> {
        let whole = |unit: u64, name: &str| {
            let bytes = parse_size(text)?;
            if bytes == 0 || !bytes.is_multiple_of(unit) {
                return Err(format!("{text:?} is not a number of whole {name}"));
            }
            Ok((bytes / unit).to_string())
        };
        match self {
            Kind::Flag => match text {
                "true" | "false" => Ok(text.to_owned()),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Kind::Count => text
                .parse::<u32>()
                .map(|n| n.to_string())
                .map_err(|_| format!("{text:?} is no count")),
            Kind::Text => Ok(text.to_owned()),
            Kind::Entity => Ok(text.trim_matches('/').to_owned()),
            Kind::Endless if text.eq_ignore_ascii_case("never") => Ok(time::show_span(None)),
            Kind::Span | Kind::Endless => {
                let duration = duration(text)?;
                let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                Ok(time::show_span(Some(Span(millis))))
            }
            Kind::Kilobytes => whole(1 << 10, "KiB"),
            Kind::Megabytes => whole(1 << 20, "MiB"),
            Kind::Status => {
                let found = STATUSES.iter().find(|(ours, _)| ours.eq_ignore_ascii_case(text));
                let names = STATUSES.map(|(ours, _)| ours).join(", ");
                found.map(|(_, name)| (*name).to_owned()).ok_or(format!("is one of {names}"))
            }
        }
    }

    /// What the management API has, as people write it.
    pub(super) fn show(self, text: &str) -> String {
        let size = |unit: u64| {
            let bytes = text.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
            bytes.map(show_size)
        };
        let shown = match self {
            Kind::Flag | Kind::Count | Kind::Text => None,
            Kind::Entity => Some(entity_of(text)),
            Kind::Span | Kind::Endless => time::parse_span(text).map(show_duration),
            Kind::Kilobytes => size(1 << 10),
            Kind::Megabytes => size(1 << 20),
            Kind::Status => {
                STATUSES.iter().find(|(_, name)| *name == text).map(|(ours, _)| (*ours).to_owned())
            }
        };
        shown.unwrap_or_else(|| text.to_owned())
    }

    /// What people write, as JSON has it.
    pub(super) fn json(self, shown: &str) -> serde_json::Value {
        match self {
            Kind::Flag if shown == "true" => true.into(),
            Kind::Flag if shown == "false" => false.into(),
            Kind::Count => shown.parse::<u64>().map_or_else(|_| shown.into(), Into::into),
            _ => shown.into(),
        }
    }
}

/// `30s`, `5m`, `1d12h`, `PT30S`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('P') {
        let span = time::parse_span(text).filter(|span| *span != time::FOREVER);
        return span.map(Span::as_duration).ok_or_else(|| format!("{text:?} is not a duration"));
    }
    parse_span(text)
}

/// The same in parts that no reader has to calculate with.
pub(super) fn show_duration(span: Span) -> String {
    if span == time::FOREVER {
        return "never".to_owned();
    }
    let mut rest = span.0;
    let mut shown = String::new();
    for (unit, millis) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if millis <= rest {
            // A string takes whatever is written.
            let _ = write!(shown, "{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// The entity of an address, `sb://host/name`.
fn entity_of(address: &str) -> String {
    let path = address.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    path.map_or(address, |(_, path)| path).trim_matches('/').to_owned()
}

/// Properties that a command line gives, as people write them, in the order of the table.
#[derive(Clone, Debug)]
pub(super) struct Given<K> {
    pub(super) values: Vec<(&'static Property, String)>,
    kind: PhantomData<K>,
}

impl<K: Kindred> Given<K> {
    pub(super) const fn new(values: Vec<(&'static Property, String)>) -> Self {
        Self { values, kind: PhantomData }
    }
}

impl<K: Kindred> FromArgMatches for Given<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |property: &'static Property| {
            Some((property, matches.get_one::<String>(property.option)?.clone()))
        };
        Ok(Self::new(K::PROPERTIES.iter().filter_map(value).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<K: Kindred> Args for Given<K> {
    fn augment_args(command: Command) -> Command {
        command.next_help_heading("Properties").args(K::PROPERTIES.iter().map(Property::option_of))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: Kind, text: &str, wire: &str, shown: &str) {
        assert_eq!(kind.parse(text).as_deref(), Ok(wire), "{text}");
        assert_eq!(kind.show(wire), shown);
        assert_eq!(kind.parse(shown).as_deref(), Ok(wire), "{shown} is written as it is read");
    }

    #[test]
    fn values_in_both_spellings() {
        check(Kind::Span, "90s", "PT1M30S", "1m30s");
        check(Kind::Span, "PT30S", "PT30S", "30s");
        check(Kind::Endless, "1d", "P1D", "1d");
        check(Kind::Endless, "never", "P10675199DT2H48M5.4775807S", "never");
        check(Kind::Megabytes, "5GiB", "5120", "5 GiB");
        check(Kind::Kilobytes, "256KiB", "256", "256 KiB");
        check(Kind::Status, "send-disabled", "SendDisabled", "send-disabled");
        check(Kind::Count, "10", "10", "10");
        check(Kind::Entity, "orders", "orders", "orders");
        assert_eq!(Kind::Entity.show("sb://h:1/a/b"), "a/b");
        assert_eq!(show_duration(Span(93_784_005)), "1d2h3m4s5ms");
    }

    #[test]
    fn what_is_none_is_refused() {
        for (kind, text) in [
            (Kind::Span, "never"),
            (Kind::Span, "5 apples"),
            (Kind::Endless, "PT"),
            (Kind::Kilobytes, "1500"),
            (Kind::Megabytes, "0"),
            (Kind::Count, "-1"),
            (Kind::Status, "asleep"),
        ] {
            assert!(kind.parse(text).is_err(), "{text}");
        }
    }
}
