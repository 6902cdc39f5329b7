//! The `Config.json` of Microsoft's Service Bus emulator, as a source of configuration.
//!
//! What it declares becomes queues and topics as the TOML file would declare them, with the emulator's
//! defaults: messages live for an hour and are tried three times. What is wrong is reported by its path
//! in the file. The emulator's quotas bind only where they are asked for.

mod document;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use peeklock_core::entity::settings::QueueSettings;

use self::document::Node;
use super::ConfigError;
use super::Problem;
use super::build::{Check, MIB, refuse};
use super::raw::RawSettings;
use super::settings::Settings;

/// Where the emulator's image has it: a compose file mounts it there.
pub const MOUNTED: &str = "/ServiceBus_Emulator/ConfigFiles/Config.json";
/// What tools wait for in the emulator's output.
pub const READY: &str = "Emulator Service is Successfully Up!";

/// A broker in the place of the emulator.
#[derive(Clone, Debug)]
pub struct EmulatorOptions {
    /// Its configuration file.
    pub file: PathBuf,
    /// Its quotas hold, too.
    pub limits: bool,
}

/// What the file says.
pub(super) struct Emulated {
    pub(super) raw: RawSettings,
    pub(super) warnings: Vec<String>,
}

/// The quotas of the emulator, by its documentation.
mod quota {
    pub(super) const ENTITIES: usize = 50;
    pub(super) const SUBSCRIPTIONS: usize = 50;
    pub(super) const SQL_FILTERS: usize = 70;
    pub(super) const CORRELATION_FILTERS: usize = 1_000;
    pub(super) const CONNECTIONS: usize = 10;
    pub(super) const RECEIVERS: usize = 200;
    pub(super) const MESSAGE_BYTES: u64 = 256 << 10;
    pub(super) const ENTITY_MIB: u64 = 100;
}

/// A member of `Properties`. The key of the TOML file is the same name in another spelling.
struct Property {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    Flag,
    Text,
    /// The name of an entity, or nothing.
    Entity,
    /// With the range of the emulator.
    Count(RangeInclusive<i64>),
    /// With the range of the emulator, in seconds.
    Span(RangeInclusive<u64>),
}

const fn property(name: &'static str, kind: Kind) -> Property {
    Property { name, kind }
}

const WINDOW: &str = "DuplicateDetectionHistoryTimeWindow";
const DUPLICATES: &str = "RequiresDuplicateDetection";
const TIME_TO_LIVE: Property = property("DefaultMessageTimeToLive", Kind::Span(300..=3_600));
const DELIVERIES: Property = property("MaxDeliveryCount", Kind::Count(1..=10));
const LOCK: Property = property("LockDuration", Kind::Span(5..=300));

const QUEUE: [Property; 11] = [
    property("DeadLetteringOnMessageExpiration", Kind::Flag),
    TIME_TO_LIVE,
    property(WINDOW, Kind::Span(5..=300)),
    property("ForwardDeadLetteredMessagesTo", Kind::Entity),
    property("ForwardTo", Kind::Entity),
    LOCK,
    DELIVERIES,
    property(DUPLICATES, Kind::Flag),
    property("RequiresSession", Kind::Flag),
    // The emulator knows neither of these.
    property("AutoDeleteOnIdle", Kind::Span(0..=u64::MAX)),
    property("UserMetadata", Kind::Text),
];
const TOPIC: [Property; 5] = [
    TIME_TO_LIVE,
    property(WINDOW, Kind::Span(5..=300)),
    property(DUPLICATES, Kind::Flag),
    property("AutoDeleteOnIdle", Kind::Span(0..=u64::MAX)),
    property("UserMetadata", Kind::Text),
];
const SUBSCRIPTION: [Property; 10] = [
    property("DeadLetteringOnMessageExpiration", Kind::Flag),
    property("DeadLetteringOnFilterEvaluationExceptions", Kind::Flag),
    TIME_TO_LIVE,
    LOCK,
    DELIVERIES,
    property("ForwardDeadLetteredMessagesTo", Kind::Entity),
    property("ForwardTo", Kind::Entity),
    property("RequiresSession", Kind::Flag),
    property("AutoDeleteOnIdle", Kind::Span(0..=u64::MAX)),
    property("UserMetadata", Kind::Text),
];
const CORRELATION: [&str; 8] = [
    "ContentType",
    "CorrelationId",
    "Label",
    "MessageId",
    "ReplyTo",
    "ReplyToSessionId",
    "SessionId",
    "To",
];

/// What the emulator takes for what is left out.
const TIME_TO_LIVE_DEFAULT: &str = "1h";
const DELIVERIES_DEFAULT: i64 = 3;
const WINDOW_DEFAULT_MS: u64 = 20_000;
/// .NET's longest span, which means without end, in whole days.
const FOREVER_MS: u64 = 10_675_199 * 24 * 3_600_000;

impl EmulatorOptions {
    pub(super) fn read(&self) -> Result<Emulated, ConfigError> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.file == Path::new(MOUNTED) =>
            {
                let warning = format!("there is no {MOUNTED}, so no queue or topic is declared");
                return Ok(Emulated { raw: RawSettings::default(), warnings: vec![warning] });
            }
            Err(error) => return Err(self.error(format!("cannot be read: {error}"))),
        };
        let document =
            document::parse(&text).map_err(|error| self.error(format!("is not JSON: {error}")))?;
        let mut reader = Reader { limits: self.limits, entities: Vec::new(), warnings: Vec::new() };
        let table = reader.document(&Node::root(&document)).map_err(|wrong| self.locate(&wrong))?;
        let raw = toml::from_str(&table.to_string()).map_err(|error: toml::de::Error| {
            self.error(format!("cannot be used: {}", error.message()))
        })?;
        Ok(Emulated { raw, warnings: reader.warnings })
    }

    fn error(&self, reason: String) -> ConfigError {
        ConfigError { source: self.file.display().to_string(), key: String::new(), reason }
    }

    /// Says where something wrong stands, by the path in the file or by the key of the TOML file that it
    /// became.
    pub(super) fn locate(&self, problem: &Problem) -> ConfigError {
        ConfigError { key: json_path(&problem.key), ..self.error(problem.reason.clone()) }
    }

    /// The quotas of the emulator, if they are asked for.
    pub(super) fn limit(&self, settings: &mut Settings) {
        if !self.limits {
            return;
        }
        let core = &mut settings.core;
        core.queues_max = quota::ENTITIES;
        core.subscriptions_max = quota::SUBSCRIPTIONS;
        core.sql_filters_max = quota::SQL_FILTERS;
        core.correlation_filters_max = quota::CORRELATION_FILTERS;
        core.receivers_max = quota::RECEIVERS;
        settings.limits.connections_max = quota::CONNECTIONS;
    }
}

/// `queue[0].lock_duration` as it stands in the file.
fn json_path(key: &str) -> String {
    if !key.starts_with("queue[") && !key.starts_with("topic[") {
        return key.to_owned();
    }
    let segments = key.split('.').map(|segment| {
        let (name, index) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
        let name = match name {
            "queue" => "UserConfig.Namespaces[0].Queues".to_owned(),
            "topic" => "UserConfig.Namespaces[0].Topics".to_owned(),
            "subscription" => "Subscriptions".to_owned(),
            "rule" => "Rules".to_owned(),
            "name" => "Name".to_owned(),
            other => format!("Properties.{}", pascal_case(other)),
        };
        name + index
    });
    segments.collect::<Vec<_>>().join(".")
}

fn pascal_case(key: &str) -> String {
    let word =
        |word: &str| word.get(..1).unwrap_or("").to_uppercase() + word.get(1..).unwrap_or("");
    key.split('_').map(word).collect()
}

fn snake_case(name: &str) -> String {
    let mut key = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !key.is_empty() {
            key.push('_');
        }
        key.push(c.to_ascii_lowercase());
    }
    key
}

/// One reading of a file.
struct Reader {
    limits: bool,
    /// Names that messages can be forwarded to.
    entities: Vec<String>,
    warnings: Vec<String>,
}

impl Reader {
    fn document(&mut self, root: &Node<'_>) -> Check<toml::Table> {
        let config = root.required("UserConfig")?;
        if config.member("NamespaceConfig")?.is_some() {
            return config.wrong("is of the Event Hubs emulator; this broker is no event hub");
        }
        self.members(&config, &["Namespaces", "Logging"])?;
        self.logging(&config)?;
        let namespaces = config.list("Namespaces")?;
        let [namespace] = &namespaces[..] else {
            return config.wrong(format!("Namespaces must be one, not {}", namespaces.len()));
        };
        self.members(namespace, &["Name", "Queues", "Topics"])?;
        if let Some(name) = namespace.member("Name")? {
            name.text()?;
        }
        let (queues, topics) = (namespace.list("Queues")?, namespace.list("Topics")?);
        self.quota(namespace, queues.len() + topics.len(), quota::ENTITIES, "queues and topics")?;
        for entity in queues.iter().chain(&topics) {
            self.entities.push(entity.required("Name")?.text()?.to_owned());
        }
        let queues: Vec<_> = queues.iter().map(|queue| self.queue(queue)).collect::<Check<_>>()?;
        let topics: Vec<_> = topics.iter().map(|topic| self.topic(topic)).collect::<Check<_>>()?;
        Ok(table([("queue", queues.into()), ("topic", topics.into())]))
    }

    fn logging(&mut self, config: &Node<'_>) -> Check<()> {
        let Some(logging) = config.member("Logging")? else { return Ok(()) };
        self.members(&logging, &["Type"])?;
        let Some(kind) = logging.member("Type")? else { return Ok(()) };
        let text = kind.text()?;
        let is_known =
            |part: &str| ["file", "console"].contains(&part.to_ascii_lowercase().as_str());
        if !text.split(',').map(str::trim).all(is_known) {
            return kind.wrong(format!("{text:?} is not \"File\", \"Console\" or both"));
        }
        if text.to_ascii_lowercase().contains("file") {
            let path = &kind.path;
            self.warnings.push(format!("{path}: the log goes to standard error, to no file"));
        }
        Ok(())
    }

    fn queue(&mut self, node: &Node<'_>) -> Check<toml::Table> {
        self.members(node, &["Name", "Properties"])?;
        self.entity(node, &QUEUE)
    }

    fn topic(&mut self, node: &Node<'_>) -> Check<toml::Table> {
        self.members(node, &["Name", "Properties", "Subscriptions"])?;
        let mut topic = self.entity(node, &TOPIC)?;
        let subscriptions = node.list("Subscriptions")?;
        self.quota(node, subscriptions.len(), quota::SUBSCRIPTIONS, "subscriptions")?;
        let subscriptions: Vec<_> =
            subscriptions.iter().map(|node| self.subscription(node)).collect::<Check<_>>()?;
        self.filter_quota(node, &subscriptions)?;
        topic.insert("subscription".into(), subscriptions.into());
        Ok(topic)
    }

    fn subscription(&mut self, node: &Node<'_>) -> Check<toml::Table> {
        self.members(node, &["Name", "Properties", "Rules"])?;
        let mut subscription = self.entity(node, &SUBSCRIPTION)?;
        let rules: Vec<_> =
            node.list("Rules")?.iter().map(|rule| self.rule(rule)).collect::<Check<_>>()?;
        // Without rules it gets the default rule; with rules it has just these.
        if !rules.is_empty() {
            subscription.insert("rule".into(), rules.into());
        }
        Ok(subscription)
    }

    /// What queues, topics and subscriptions share.
    fn entity(&mut self, node: &Node<'_>, known: &[Property]) -> Check<toml::Table> {
        let mut entity = table([("name", node.required("Name")?.text()?.into())]);
        if let Some(properties) = node.member("Properties")? {
            for (name, value) in properties.members()? {
                let property = known.iter().find(|known| known.name.eq_ignore_ascii_case(name));
                match property {
                    Some(property) => {
                        if let Some(toml) = self.value(&value, &property.kind)? {
                            entity.insert(snake_case(property.name), toml);
                        }
                    }
                    None => self.ignored(&value),
                }
            }
        }
        let mut default = |key: &str, value: toml::Value| {
            entity.entry(key).or_insert(value);
        };
        default("default_message_time_to_live", TIME_TO_LIVE_DEFAULT.into());
        if known.iter().any(|property| property.name == DELIVERIES.name) {
            default("max_delivery_count", DELIVERIES_DEFAULT.into());
        }
        let takes_messages_in = known.iter().any(|property| property.name == DUPLICATES);
        if takes_messages_in {
            self.duplicate_window(node, &mut entity);
        }
        if self.limits && takes_messages_in {
            let bytes = |bytes: u64| toml::Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX));
            entity.insert("max_message_size".into(), bytes(quota::MESSAGE_BYTES));
            entity.insert("max_size".into(), bytes(quota::ENTITY_MIB * MIB));
        }
        Ok(entity)
    }

    /// A window means nothing by itself here, and cannot be as short as the emulator lets it be.
    fn duplicate_window(&mut self, node: &Node<'_>, entity: &mut toml::Table) {
        let is_wanted = entity.remove(&snake_case(DUPLICATES));
        let key = snake_case(WINDOW);
        if is_wanted != Some(toml::Value::Boolean(true)) {
            entity.remove(&key);
            return;
        }
        let given = entity.get(&key).and_then(toml::Value::as_str);
        let given = given.and_then(|text| text.strip_suffix("ms")?.parse().ok());
        let least = QueueSettings::DUPLICATE_WINDOW_MIN.0;
        if given.is_some_and(|given: u64| given < least) {
            let path = &node.path;
            self.warnings.push(format!("{path}: {WINDOW} is less than 20 s, so it is 20 s"));
        }
        let window = given.unwrap_or(WINDOW_DEFAULT_MS).max(least);
        entity.insert(key, format!("{window}ms").into());
    }

    /// None where nothing is said by it.
    fn value(&self, node: &Node<'_>, kind: &Kind) -> Check<Option<toml::Value>> {
        Ok(Some(match kind {
            Kind::Flag => node.flag()?.into(),
            Kind::Text => node.text()?.into(),
            Kind::Entity => {
                let name = node.text()?;
                if name.is_empty() {
                    return Ok(None);
                }
                if !self.entities.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    return node.wrong(format!("there is no queue or topic {name:?} in this file"));
                }
                name.into()
            }
            Kind::Count(range) => {
                let count = node.count()?;
                if self.limits && !range.contains(&count) {
                    let (least, most) = (range.start(), range.end());
                    return node.wrong(format!("{count} is not between {least} and {most}"));
                }
                count.into()
            }
            Kind::Span(range) => {
                let span = node.span()?;
                if self.limits
                    && !(range.start() * 1_000..=range.end().saturating_mul(1_000)).contains(&span)
                {
                    let (least, most) = (range.start(), range.end());
                    let reason = format!("is not between {least} and {most} seconds");
                    return node.wrong(reason);
                }
                format!("{}ms", span.min(FOREVER_MS)).into()
            }
        }))
    }

    fn rule(&mut self, node: &Node<'_>) -> Check<toml::Table> {
        self.members(node, &["Name", "Properties"])?;
        let mut rule = table([("name", node.required("Name")?.text()?.into())]);
        let properties = node.required("Properties")?;
        self.members(&properties, &["FilterType", "CorrelationFilter", "SqlFilter", "Action"])?;
        let kind = properties.required("FilterType")?;
        let (wanted, other) = match kind.text()?.to_ascii_lowercase().as_str() {
            "correlation" => ("CorrelationFilter", "SqlFilter"),
            "sql" => ("SqlFilter", "CorrelationFilter"),
            _ => return kind.wrong(format!("{} is not \"Correlation\" or \"Sql\"", kind.value)),
        };
        let filter = properties.required(wanted)?;
        if wanted == "SqlFilter" {
            rule.insert("sql_filter".into(), self.expression(&filter)?);
        } else {
            rule.insert("correlation_filter".into(), correlation(&filter)?.into());
        }
        if let Some(other) = properties.member(other)? {
            self.ignored(&other);
        }
        if let Some(action) = properties.member("Action")? {
            rule.insert("sql_action".into(), self.expression(&action)?);
        }
        Ok(rule)
    }

    fn expression(&mut self, node: &Node<'_>) -> Check<toml::Value> {
        self.members(node, &["SqlExpression"])?;
        Ok(node.required("SqlExpression")?.text()?.into())
    }

    /// Warns of members that mean nothing here.
    fn members(&mut self, node: &Node<'_>, known: &[&str]) -> Check<()> {
        for (name, member) in node.members()? {
            if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                self.ignored(&member);
            }
        }
        Ok(())
    }

    fn ignored(&mut self, node: &Node<'_>) {
        self.warnings.push(format!("{} is ignored: it means nothing here", node.path));
    }

    fn quota(&self, node: &Node<'_>, count: usize, most: usize, what: &str) -> Check<()> {
        if self.limits && most < count {
            return node.wrong(format!("has {count} {what}, and the emulator allows {most}"));
        }
        Ok(())
    }

    fn filter_quota(&self, topic: &Node<'_>, subscriptions: &[toml::Table]) -> Check<()> {
        let rules = || {
            let rules = subscriptions.iter().filter_map(|subscription| subscription.get("rule"));
            rules.filter_map(toml::Value::as_array).flatten()
        };
        let count = |key: &str| rules().filter(|rule| rule.get(key).is_some()).count();
        self.quota(topic, count("sql_filter"), quota::SQL_FILTERS, "SQL filters")?;
        let correlation = count("correlation_filter");
        self.quota(topic, correlation, quota::CORRELATION_FILTERS, "correlation filters")
    }
}

/// What is not known is refused: without it the filter would let through too much.
fn correlation(filter: &Node<'_>) -> Check<toml::Table> {
    let mut criteria = toml::Table::new();
    for (name, value) in filter.members()? {
        if name.eq_ignore_ascii_case("Properties") {
            criteria.insert("properties".into(), application_properties(&value)?.into());
            continue;
        }
        let Some(known) = CORRELATION.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            return value.wrong("is nothing that a correlation filter can ask for");
        };
        criteria.insert(snake_case(known), value.text()?.into());
    }
    if criteria.is_empty() {
        return filter.wrong("asks for nothing");
    }
    Ok(criteria)
}

fn application_properties(node: &Node<'_>) -> Check<toml::Table> {
    let value = |(name, node): (&str, Node<'_>)| {
        let value = match node.value {
            serde_json::Value::String(text) => text.as_str().into(),
            serde_json::Value::Bool(truth) => (*truth).into(),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => number.into(),
                (None, Some(number)) => number.into(),
                (None, None) => return node.wrong("is too large a number"),
            },
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => {
                return node.wrong("must be a string, a number, true or false");
            }
        };
        Ok((name.to_owned(), value))
    };
    node.members()?.into_iter().map(value).collect()
}

fn table<const N: usize>(entries: [(&str, toml::Value); N]) -> toml::Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The addresses of the emulator: AMQP, and HTTP at the port that its variable names. All interfaces:
/// it runs in a container, and others reach for it.
pub(super) fn addresses(http_port: Option<&str>) -> Result<[String; 2], ConfigError> {
    let port = http_port.unwrap_or("5300");
    if port.parse::<u16>().is_err() {
        let source = "environment variable EMULATOR_HTTP_PORT".to_owned();
        let reason = format!("{port:?} is not a port");
        return Err(ConfigError { source, key: String::new(), reason });
    }
    Ok(["0.0.0.0:5672".to_owned(), format!("0.0.0.0:{port}")])
}

/// Entities of two files would be hard to tell apart.
pub(super) fn check_alone(raw: &RawSettings) -> Check<()> {
    if raw.queue.is_some() || raw.topic.is_some() {
        let key = if raw.queue.is_some() { "queue" } else { "topic" };
        return refuse(key, 0..0, "cannot be declared beside --emulator-config");
    }
    Ok(())
}
