//! `com.microsoft:enumerate-rules`: the rules of a subscription, page by page.

use peeklock_core::command::Command;
use peeklock_core::topic::command::TopicCommand;
use peeklock_core::topic::rules::{Correlation, Rule, RuleFilter, SqlText};
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::{Map, Value};

use super::super::condition::Refusal;
use super::add_rule::CORRELATION_FIELDS;
use super::request::{Request, wrong};
use super::{Context, response};

/// Rules in one answer at most: some 100 octets each, but for long filters. SDKs ask for 100 at a time.
const COUNT_MAX: usize = 1000;
/// The level of the language, which SDKs hand on and nobody asks about.
const COMPATIBILITY_LEVEL: i32 = 20;

// JavaScript compares the number: a symbol would not do.
const RULE_DESCRIPTION: u64 = 0x137_0000_0004;
const EMPTY_ACTION: u64 = 0x137_0000_0005;
const SQL_ACTION: u64 = 0x137_0000_0006;
const SQL_FILTER: u64 = 0x13_7000_0006;
const TRUE_FILTER: u64 = 0x13_7000_0007;
const FALSE_FILTER: u64 = 0x13_7000_0008;
const CORRELATION_FILTER: u64 = 0x13_7000_0009;

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let number = |key: &str, missing: usize| match request.integer(key)? {
        None => Ok(missing),
        Some(number) => usize::try_from(number).map_err(|_| wrong(key, "a number from zero")),
    };
    let (skip, count_max) = (number("skip", 0)?, number("top", COUNT_MAX)?.min(COUNT_MAX));
    let (origin, path) = (context.origin, context.path.clone());
    let command = TopicCommand::ListRules { origin, path, skip, count_max };
    Ok(Command::OfTopic(Box::new(command)))
}

/// Past the end the list is empty: some clients take no other status than 200.
pub(super) fn response(properties: Properties, rules: &[Rule]) -> Message {
    let rule = |rule: &Rule| Value::Map(Map::new().with("rule-description", description(rule)));
    let rules = Value::List(rules.iter().map(rule).collect());
    response::ok(properties, 200, "OK", Map::new().with("rules", rules))
}

fn description(rule: &Rule) -> Value {
    let written = &rule.description;
    // Never null: JavaScript looks into it.
    let action = match &written.action {
        None => described(EMPTY_ACTION, Vec::new()),
        Some(action) => described(SQL_ACTION, text(action)),
    };
    let filter = match &written.filter {
        RuleFilter::True => described(TRUE_FILTER, Vec::new()),
        RuleFilter::False => described(FALSE_FILTER, Vec::new()),
        RuleFilter::Sql(filter) => described(SQL_FILTER, text(filter)),
        RuleFilter::Selector(filter) => described(SQL_FILTER, text(&SqlText::plain(filter))),
        RuleFilter::Correlation(filter) => described(CORRELATION_FILTER, correlation(filter)),
    };
    let created_at = Value::Timestamp(rule.created_at.as_amqp());
    described(RULE_DESCRIPTION, vec![filter, action, Value::from(&*written.name), created_at])
}

fn text(sql: &SqlText) -> Vec<Value> {
    vec![Value::String(sql.text.clone()), Value::Int(COMPATIBILITY_LEVEL)]
}

/// What is not asked for is null.
fn correlation(filter: &Correlation) -> Vec<Value> {
    let field = |(_, wanted)| {
        let found = filter.system.iter().find(|(property, _)| *property == wanted);
        found.map_or(Value::Null, |(_, text)| Value::String(text.clone()))
    };
    let user = filter.user.iter().fold(Map::new(), |mut map, (name, value)| {
        map.insert(name.as_str(), value.clone());
        map
    });
    CORRELATION_FIELDS.into_iter().map(field).chain([Value::Map(user)]).collect()
}

fn described(code: u64, fields: Vec<Value>) -> Value {
    Value::Described(Box::new((Value::Ulong(code), Value::List(fields))))
}
