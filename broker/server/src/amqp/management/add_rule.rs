//! `com.microsoft:add-rule`: a subscription gets one more rule.

use peeklock_core::command::Command;
use peeklock_core::filter::SystemProperty;
use peeklock_core::topic::command::{TopicCommand, TopicReply};
use peeklock_core::topic::rules::{Correlation, RuleDescription, RuleFilter, SqlText};
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Str, Value};
use tracing::warn;

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use super::{Context, enumerate_rules, response};

/// The properties of a message that a correlation filter can ask for, in the order in which the wire
/// lists them.
pub(super) const CORRELATION_FIELDS: [(&str, SystemProperty); 8] = [
    ("correlation-id", SystemProperty::CorrelationId),
    ("message-id", SystemProperty::MessageId),
    ("to", SystemProperty::To),
    ("reply-to", SystemProperty::ReplyTo),
    ("label", SystemProperty::Label),
    ("session-id", SystemProperty::SessionId),
    ("reply-to-session-id", SystemProperty::ReplyToSessionId),
    ("content-type", SystemProperty::ContentType),
];

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let name = request.text("rule-name")?.ok_or_else(|| wrong("rule-name", "a string"))?;
    let description = request.field("rule-description").and_then(Value::as_map);
    let description = description.ok_or_else(|| wrong("rule-description", "a map"))?;
    let rule = RuleDescription {
        name: name.as_str().into(),
        filter: filter(description)?,
        action: expression(description, "sql-rule-action")?,
    };
    let (origin, path) = (context.origin, context.path.clone());
    let command = TopicCommand::AddRule { origin, path, rule };
    Ok(Command::OfTopic(Box::new(command)))
}

fn filter(description: &Map) -> Result<RuleFilter, Refusal> {
    let sql = expression(description, "sql-filter")?.map(RuleFilter::Sql);
    let correlation = match part(description, "correlation-filter")? {
        Some(fields) => Some(RuleFilter::Correlation(correlation(fields)?)),
        None => None,
    };
    match (sql, correlation) {
        (Some(filter), None) | (None, Some(filter)) => Ok(filter),
        (Some(_), Some(_)) | (None, None) => Err(Refusal::argument(
            "A rule has a sql-filter or a correlation-filter, and one of them.",
        )),
    }
}

fn correlation(fields: &Map) -> Result<Correlation, Refusal> {
    let mut system = Vec::new();
    for (key, property) in CORRELATION_FIELDS {
        if let Some(value) = set(fields, key) {
            let text = value.as_str().ok_or_else(|| wrong(key, "a string"))?;
            system.push((property, Str::from(text)));
        }
    }
    let mut user = Vec::new();
    if let Some(properties) = part(fields, "properties")? {
        for (name, value) in properties {
            let name = name.as_str().ok_or_else(|| wrong("properties", "a map from strings"))?;
            if !value.is_null() {
                user.push((Str::from(name), value.clone()));
            }
        }
    }
    Ok(Correlation { system, user })
}

/// A filter or an action as text. An action without one is none.
fn expression(description: &Map, key: &str) -> Result<Option<SqlText>, Refusal> {
    let Some(fields) = part(description, key)? else { return Ok(None) };
    let Some(value) = set(fields, "expression") else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| wrong("expression", "a string"))?;
    Ok(Some(SqlText::plain(text)))
}

/// A map within a map. Null is as good as nothing: some clients write it for what they leave out.
fn part<'a>(fields: &'a Map, key: &str) -> Result<Option<&'a Map>, Refusal> {
    let value = set(fields, key);
    value.map(|value| value.as_map().ok_or_else(|| wrong(key, "a map"))).transpose()
}

fn set<'a>(fields: &'a Map, key: &str) -> Option<&'a Value> {
    fields.get(key).filter(|value| !value.is_null())
}

/// The response to any of the operations on rules.
pub(super) fn response(properties: Properties, reply: &TopicReply, host: &str) -> Message {
    match reply {
        TopicReply::RuleAdded | TopicReply::RuleRemoved => {
            response::ok(properties, 200, "OK", Map::new())
        }
        TopicReply::Rules { rules } => enumerate_rules::response(properties, rules),
        TopicReply::Ensured { .. }
        | TopicReply::Deleted
        | TopicReply::TopicDescribed(_)
        | TopicReply::TopicsListed { .. }
        | TopicReply::SubscriptionsListed { .. }
        | TopicReply::SubscriptionDescribed(_) => {
            warn!("a reply about a topic that fits no request");
            response::refused(properties, &Refusal::internal(), host)
        }
    }
}
