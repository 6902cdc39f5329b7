//! Topics that the configuration declares, with their subscriptions and rules.

use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::BrokerSettings;
use peeklock_core::filter::SystemProperty;
use peeklock_core::topic::rules::{Correlation, RuleDescription, RuleFilter, SqlText};
use peeklock_core::topic::settings::TopicSettings;
use peeklock_protocol::value::{F64, Str, Value};
use toml::Spanned;

use super::Problem;
use super::build::{Check, refuse};
use super::queues::{queue_path, settings};
use super::raw::{Given, RawCorrelation, RawQueue, RawRule, RawSubscription, RawTopic};
use super::settings::{QueueDeclaration, SubscriptionDeclaration, TopicDeclaration};

/// Takes what the file says. Topics share their names with queues.
pub(super) fn topics(
    raw: Vec<RawTopic>,
    queues: &[QueueDeclaration],
) -> Check<Vec<TopicDeclaration>> {
    let mut topics: Vec<TopicDeclaration> = Vec::new();
    for (index, mut raw) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("topic[{index}].{field}");
        let span = raw.name.span();
        let path = queue_path(&key("name"), raw.name.get_ref(), span.clone())?;
        if topics.iter().any(|other| other.path == path)
            || queues.iter().any(|queue| queue.path == path)
        {
            return refuse(&key("name"), span, format!("{path} is declared twice"));
        }
        let of_topic = raw.subscription.take().unwrap_or_default();
        let subscriptions = subscriptions(of_topic, &path, &key("subscription"))?;
        let settings = settings(raw.into_queue(), &path, key)?;
        let settings = TopicSettings {
            entity_bytes_max: settings.entity_bytes_max,
            message_bytes_max: settings.message_bytes_max,
            default_time_to_live: settings.default_time_to_live,
            duplicate_window: settings.duplicate_window,
            auto_delete_on_idle: settings.auto_delete_on_idle,
            status: settings.status,
            user_metadata: settings.user_metadata,
            remarks: settings.remarks,
            access_rules: settings.access_rules,
        };
        topics.push(TopicDeclaration { path, settings, subscriptions });
    }
    Ok(topics)
}

fn subscriptions(
    raw: Vec<RawSubscription>,
    topic: &EntityPath,
    list: &str,
) -> Check<Vec<SubscriptionDeclaration>> {
    let mut subscriptions: Vec<SubscriptionDeclaration> = Vec::new();
    for (index, mut raw) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("{list}[{index}].{field}");
        let (span, name) = (raw.name.span(), raw.name.get_ref());
        let path = EntityPath::for_new_subscription(topic, name).map_err(|error| Problem {
            key: key("name"),
            span: span.clone(),
            reason: format!(
                "{name:?} cannot name a subscription: {error}; up to 50 letters, digits, '.', '-' \
                 and '_' can, with a letter or digit at both ends"
            ),
        })?;
        if subscriptions.iter().any(|other| other.path == path) {
            return refuse(&key("name"), span, format!("{path} is declared twice"));
        }
        let rules = raw.rule.take().map(|rules| self::rules(rules, &key("rule"))).transpose()?;
        let filter_errors = raw.dead_lettering_on_filter_evaluation_exceptions.take();
        let mut settings = settings(raw.into_queue(), &path, key)?;
        if let Some(given) = filter_errors {
            settings.dead_letter_on_filter_error = given.into_inner();
        }
        subscriptions.push(SubscriptionDeclaration { path, settings, rules });
    }
    Ok(subscriptions)
}

fn rules(raw: Vec<RawRule>, list: &str) -> Check<Vec<RuleDescription>> {
    let mut rules: Vec<RuleDescription> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("{list}[{index}]");
        let span = raw.name.span();
        let name = raw.name.into_inner();
        if rules.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return refuse(&key, span, format!("the rule {name} is declared twice"));
        }
        let sql = raw.sql_filter.map(|text| RuleFilter::Sql(SqlText::plain(text.get_ref())));
        let correlation = raw.correlation_filter.map(|raw| correlation(raw, &key)).transpose()?;
        let filter = match (sql, correlation) {
            (None, None) => RuleFilter::True,
            (Some(filter), None) | (None, Some(filter)) => filter,
            (Some(_), Some(_)) => {
                return refuse(
                    &key,
                    span,
                    "has a sql_filter and a correlation_filter; one is enough",
                );
            }
        };
        let action = raw.sql_action.map(|text| SqlText::plain(text.get_ref()));
        let rule = RuleDescription { name: name.into(), filter, action };
        if let Err(error) = rule.validate(BrokerSettings::default().rule_bytes_max) {
            return refuse(&key, span, error.to_string());
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn correlation(raw: RawCorrelation, key: &str) -> Check<RuleFilter> {
    let fields = [
        (SystemProperty::CorrelationId, raw.correlation_id),
        (SystemProperty::MessageId, raw.message_id),
        (SystemProperty::To, raw.to),
        (SystemProperty::ReplyTo, raw.reply_to),
        (SystemProperty::Label, raw.label),
        (SystemProperty::SessionId, raw.session_id),
        (SystemProperty::ReplyToSessionId, raw.reply_to_session_id),
        (SystemProperty::ContentType, raw.content_type),
    ];
    let given = |(property, text): (SystemProperty, Given<String>)| {
        text.map(|text| (property, Str::from(text.into_inner())))
    };
    let system = fields.into_iter().filter_map(given).collect();
    let mut user = Vec::new();
    for (name, value) in raw.properties.unwrap_or_default() {
        let span = value.span();
        user.push((Str::from(name.clone()), property(value, &format!("{key}.{name}"), span)?));
    }
    Ok(RuleFilter::Correlation(Correlation { system, user }))
}

fn property(value: Spanned<toml::Value>, key: &str, span: std::ops::Range<usize>) -> Check<Value> {
    match value.into_inner() {
        toml::Value::String(text) => Ok(Value::String(text.into())),
        // Where it fits: the Go SDK cannot read a list with a `long` in it.
        toml::Value::Integer(number) => {
            Ok(i32::try_from(number).map_or(Value::Long(number), Value::Int))
        }
        toml::Value::Float(number) => Ok(Value::Double(F64::from(number))),
        toml::Value::Boolean(truth) => Ok(Value::Bool(truth)),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            refuse(key, span, "must be a string, a number, true or false")
        }
    }
}

impl RawTopic {
    /// What a queue would have to say to be like it.
    fn into_queue(self) -> RawQueue {
        RawQueue {
            max_message_size: self.max_message_size,
            max_size: self.max_size,
            default_message_time_to_live: self.default_message_time_to_live,
            duplicate_detection_history_time_window: self.duplicate_detection_history_time_window,
            auto_delete_on_idle: self.auto_delete_on_idle,
            status: self.status,
            user_metadata: self.user_metadata,
            ..RawQueue::named(self.name)
        }
    }
}

impl RawSubscription {
    fn into_queue(self) -> RawQueue {
        RawQueue {
            lock_duration: self.lock_duration,
            max_delivery_count: self.max_delivery_count,
            requires_session: self.requires_session,
            default_message_time_to_live: self.default_message_time_to_live,
            dead_lettering_on_message_expiration: self.dead_lettering_on_message_expiration,
            forward_to: self.forward_to,
            forward_dead_lettered_messages_to: self.forward_dead_lettered_messages_to,
            auto_delete_on_idle: self.auto_delete_on_idle,
            status: self.status,
            user_metadata: self.user_metadata,
            ..RawQueue::named(self.name)
        }
    }
}

impl RawQueue {
    const fn named(name: Spanned<String>) -> Self {
        RawQueue {
            name,
            lock_duration: None,
            max_delivery_count: None,
            max_message_size: None,
            max_size: None,
            requires_session: None,
            default_message_time_to_live: None,
            dead_lettering_on_message_expiration: None,
            duplicate_detection_history_time_window: None,
            forward_to: None,
            forward_dead_lettered_messages_to: None,
            auto_delete_on_idle: None,
            status: None,
            user_metadata: None,
        }
    }
}
