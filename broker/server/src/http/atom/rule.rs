//! Rules of subscriptions: `RuleDescription`.

use peeklock_core::command::Command;
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::filter::SystemProperty;
use peeklock_core::time::Timestamp;
use peeklock_core::topic::command::{TopicCommand, TopicReply};
use peeklock_core::topic::rules::{
    Correlation, DEFAULT_RULE, Rule, RuleDescription, RuleFilter, SqlText,
};
use peeklock_protocol::value::Str;

use super::call::{Call, Found, Intent, Listed, is_missing};
use super::entry::Entry;
use super::error::Fault;
use super::paths::Page;
use super::time;
use super::values;
use super::xml::{Element, SCHEMA_INSTANCE, SERVICE_BUS, Space, Writer};

pub(crate) const DESCRIPTION: &str = "RuleDescription";

/// The level of the language, which SDKs hand on and nobody asks about.
const COMPATIBILITY_LEVEL: u8 = 20;

/// The properties of a message that a correlation filter can ask for, in their order.
const CORRELATION_FIELDS: [(&str, SystemProperty); 8] = [
    ("CorrelationId", SystemProperty::CorrelationId),
    ("MessageId", SystemProperty::MessageId),
    ("To", SystemProperty::To),
    ("ReplyTo", SystemProperty::ReplyTo),
    ("Label", SystemProperty::Label),
    ("SessionId", SystemProperty::SessionId),
    ("ReplyToSessionId", SystemProperty::ReplyToSessionId),
    ("ContentType", SystemProperty::ContentType),
];

/// Looks for a rule.
pub(super) async fn find(
    call: &Call<'_>,
    subscription: EntityPath,
    name: &str,
) -> Result<Option<Entry>, Fault> {
    let (path, name) = (subscription, name.into());
    let ask = |origin| TopicCommand::DescribeRule { origin, path, name };
    match call.ask(|origin| Command::OfTopic(Box::new(ask(origin)))).await {
        Ok(Reply::OfTopic(TopicReply::Rules { rules })) => {
            Ok(rules.first().map(|rule| entry(rule, Intent::Read)))
        }
        Ok(_) => Err(Fault::internal()),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lists the rules of a subscription that has to be there.
pub(super) async fn list(
    call: &Call<'_>,
    subscription: EntityPath,
    page: Page,
) -> Result<Listed, Fault> {
    let (path, skip, count_max) = (subscription, page.skip, page.top + 1);
    let list = |origin| TopicCommand::ListRules { origin, path, skip, count_max };
    let list = |origin| Command::OfTopic(Box::new(list(origin)));
    let Reply::OfTopic(TopicReply::Rules { rules }) = call.ask(list).await? else {
        return Err(Fault::internal());
    };
    let entries = rules.iter().map(|rule| entry(rule, Intent::Read)).collect();
    Ok(Listed::new("Rules", page, entries))
}

/// Creates or changes a rule.
pub(super) async fn put(
    call: &Call<'_>,
    subscription: EntityPath,
    name: &str,
    description: &Element,
    intent: Intent,
) -> Result<Entry, Fault> {
    let rule = read(description, Some(name))?;
    let path = subscription.clone();
    let command = |origin| match intent {
        Intent::Update => TopicCommand::UpdateRule { origin, path, rule },
        Intent::Create | Intent::Read => TopicCommand::AddRule { origin, path, rule },
    };
    call.ask(|origin| Command::OfTopic(Box::new(command(origin)))).await?;
    let known = find(call, subscription, name).await?;
    let known = known.ok_or_else(|| Fault::missing(name))?;
    let published = known.published.filter(|_| intent != Intent::Update);
    Ok(Entry { published, ..known })
}

/// Deletes a rule, if there is one.
pub(super) async fn delete(
    call: &Call<'_>,
    subscription: EntityPath,
    name: &str,
) -> Result<Found, Fault> {
    let (path, name) = (subscription, name.into());
    let delete = |origin| TopicCommand::RemoveRule { origin, path, name };
    Found::of(call.ask(|origin| Command::OfTopic(Box::new(delete(origin)))).await)
}

/// Reads a rule. The address of a request says how it is called, and the request may not differ.
pub(crate) fn read(description: &Element, name: Option<&str>) -> Result<RuleDescription, Fault> {
    let given = description.text_of("Name");
    if let (Some(name), Some(given)) = (name, given)
        && !name.eq_ignore_ascii_case(given)
    {
        return Err(Fault::property("Name", "the address names another rule"));
    }
    let part = |name| description.child(Space::ServiceBus, name);
    Ok(RuleDescription {
        name: name.or(given).unwrap_or(DEFAULT_RULE).into(),
        filter: part("Filter").map_or(Ok(RuleFilter::True), filter)?,
        action: part("Action").map_or(Ok(None), action)?,
    })
}

fn filter(element: &Element) -> Result<RuleFilter, Fault> {
    match element.kind.as_deref() {
        Some("TrueFilter") => Ok(RuleFilter::True),
        Some("FalseFilter") => Ok(RuleFilter::False),
        Some("CorrelationFilter") => correlation(element).map(RuleFilter::Correlation),
        Some("SqlFilter") => sql(element).map(RuleFilter::Sql),
        Some(_) | None => Err(Fault::property("Filter", "its type is not known")),
    }
}

fn action(element: &Element) -> Result<Option<SqlText>, Fault> {
    match element.kind.as_deref() {
        Some("EmptyRuleAction") => Ok(None),
        None if element.children.is_empty() => Ok(None),
        Some("SqlRuleAction") => sql(element).map(Some),
        Some(_) | None => Err(Fault::property("Action", "its type is not known")),
    }
}

fn sql(element: &Element) -> Result<SqlText, Fault> {
    let text = element.text_of("SqlExpression");
    let text = text.ok_or_else(|| Fault::property("SqlExpression", "it is empty"))?;
    let parameters = element.child(Space::ServiceBus, "Parameters");
    let parameters = parameters.map_or(Ok(Vec::new()), values::read)?;
    Ok(SqlText { text: text.into(), parameters })
}

fn correlation(element: &Element) -> Result<Correlation, Fault> {
    let field = |(name, property)| Some((property, Str::from(element.text_of(name)?)));
    let system = CORRELATION_FIELDS.into_iter().filter_map(field).collect();
    let user = element.child(Space::ServiceBus, "Properties");
    Ok(Correlation { system, user: user.map_or(Ok(Vec::new()), values::read)? })
}

fn entry(rule: &Rule, intent: Intent) -> Entry {
    Entry {
        title: rule.description.name.to_string(),
        published: intent.published(rule.created_at),
        updated: rule.created_at,
        has_author: false,
        content: content(rule),
    }
}

fn content(rule: &Rule) -> String {
    document(&rule.description, Some(rule.created_at))
}

/// A rule as requests and answers have it.
pub(crate) fn document(description: &RuleDescription, created_at: Option<Timestamp>) -> String {
    let mut writer = Writer::default();
    let w = &mut writer;
    w.open(DESCRIPTION, &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
    write_parts(w, description, created_at);
    w.close(DESCRIPTION);
    writer.finish()
}

/// What stands in a rule.
pub(crate) fn write_parts(
    w: &mut Writer,
    description: &RuleDescription,
    created_at: Option<Timestamp>,
) {
    write_filter(w, &description.filter);
    // Never missing: JavaScript looks into it.
    match &description.action {
        None => w.leaf_with("Action", &[("i:type", "EmptyRuleAction")], ""),
        Some(action) => {
            w.open("Action", &[("i:type", "SqlRuleAction")]);
            write_sql(w, action);
            w.close("Action");
        }
    }
    if let Some(created_at) = created_at {
        w.leaf("CreatedAt", &time::show_exact_moment(created_at));
    }
    w.leaf("Name", &description.name);
}

/// JavaScript takes a filter for one by correlation unless it has an expression.
fn write_filter(w: &mut Writer, filter: &RuleFilter) {
    let kind = match filter {
        RuleFilter::True => "TrueFilter",
        RuleFilter::False => "FalseFilter",
        RuleFilter::Sql(_) | RuleFilter::Selector(_) => "SqlFilter",
        RuleFilter::Correlation(_) => "CorrelationFilter",
    };
    w.open("Filter", &[("i:type", kind)]);
    match filter {
        RuleFilter::True => write_sql(w, &SqlText::plain("1=1")),
        RuleFilter::False => write_sql(w, &SqlText::plain("1=0")),
        RuleFilter::Sql(sql) => write_sql(w, sql),
        RuleFilter::Selector(text) => write_sql(w, &SqlText::plain(text)),
        RuleFilter::Correlation(Correlation { system, user }) => {
            for (name, wanted) in CORRELATION_FIELDS {
                if let Some((_, text)) = system.iter().find(|(property, _)| *property == wanted) {
                    w.leaf(name, text);
                }
            }
            values::write(w, "Properties", user);
        }
    }
    w.close("Filter");
}

fn write_sql(w: &mut Writer, SqlText { text, parameters }: &SqlText) {
    w.leaf("SqlExpression", text);
    w.value("CompatibilityLevel", COMPATIBILITY_LEVEL);
    values::write(w, "Parameters", parameters);
}
