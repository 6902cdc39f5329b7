//! `peeklock rule`.

use clap::{Args, Subcommand};
use peeklock_core::filter::SystemProperty;
use peeklock_core::topic::rules::{Correlation, RuleDescription, RuleFilter, SqlText};
use peeklock_protocol::value::{Str, Value};
use serde_json::json;

use super::Common;
use super::entities::subscription_path;
use super::failure::Failure;
use super::management::{Described, Management};
use super::{output, typed};
use crate::http::atom::rule;
use crate::http::atom::xml::Writer;

/// What can be done with the rules of a subscription.
#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Add a rule; with no filter it lets everything through
    Create(Box<NewRule>),
    /// Show a rule
    Show(NamedRule),
    /// List the rules of a subscription
    List(RuleListing),
    /// Give a rule another filter and action
    Update(Box<NewRule>),
    /// Remove a rule
    Delete(NamedRule),
}

/// A rule of a subscription.
#[derive(Args, Debug)]
pub struct NamedRule {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    subscription: String,
    /// Name of the rule
    name: String,
    #[command(flatten)]
    common: Common,
}

/// A rule with all that it says.
#[derive(Args, Debug)]
pub struct NewRule {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    subscription: String,
    /// Name of the rule
    name: String,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    common: Common,
}

/// All rules of a subscription.
#[derive(Args, Debug)]
pub struct RuleListing {
    /// Name of the topic
    topic: String,
    /// Name of the subscription
    subscription: String,
    #[command(flatten)]
    common: Common,
}

/// What a rule says.
#[derive(Args, Debug)]
#[command(next_help_heading = "Rule")]
pub(super) struct RuleOptions {
    /// Let through what a condition in SQL holds for, as in "color = 'red' AND price > 5"
    #[arg(long, value_name = "CONDITION")]
    sql: Option<String>,
    /// Let through nothing
    #[arg(long, conflicts_with_all = ["sql", "correlation"])]
    none: bool,
    /// Let through what has this property, may be repeated: message-id, correlation-id, to, reply-to,
    /// label, session-id, reply-to-session-id, content-type, or NAME[:TYPE] of the application's
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "sql", value_parser = typed::parse)]
    correlation: Vec<(String, Value)>,
    /// Change what is let through, as in "SET sys.Label = 'new'; REMOVE color"
    #[arg(long, value_name = "STATEMENTS")]
    action: Option<String>,
    /// Value of @NAME in the condition and the action, may be repeated
    #[arg(long, value_name = "NAME[:TYPE]=VALUE", value_parser = typed::parse)]
    parameter: Vec<(String, Value)>,
}

/// How options name what a message says of itself.
pub(super) const SYSTEM: [(&str, SystemProperty); 9] = [
    ("message-id", SystemProperty::MessageId),
    ("correlation-id", SystemProperty::CorrelationId),
    ("to", SystemProperty::To),
    ("reply-to", SystemProperty::ReplyTo),
    ("label", SystemProperty::Label),
    ("session-id", SystemProperty::SessionId),
    ("reply-to-session-id", SystemProperty::ReplyToSessionId),
    ("content-type", SystemProperty::ContentType),
    ("subject", SystemProperty::Label),
];

impl RuleOptions {
    fn filter(&self) -> Result<RuleFilter, Failure> {
        if self.none {
            return Ok(RuleFilter::False);
        }
        if let Some(text) = &self.sql {
            return Ok(RuleFilter::Sql(self.sql_text(text)));
        }
        if self.correlation.is_empty() {
            return Ok(RuleFilter::True);
        }
        let mut wanted = Correlation { system: Vec::new(), user: Vec::new() };
        for (name, value) in &self.correlation {
            match (SYSTEM.iter().find(|(known, _)| known == name), value) {
                (Some((_, property)), Value::String(text)) => {
                    wanted.system.push((*property, text.clone()));
                }
                (Some((name, _)), _) => {
                    return Err(Failure::Argument(format!("{name} is always text")));
                }
                (None, value) => wanted.user.push((Str::from(name.as_str()), value.clone())),
            }
        }
        Ok(RuleFilter::Correlation(wanted))
    }

    fn sql_text(&self, text: &str) -> SqlText {
        let parameter = |(name, value): &(String, Value)| {
            let sign = if name.starts_with('@') { "" } else { "@" };
            (Str::from(format!("{sign}{name}")), value.clone())
        };
        SqlText { text: text.into(), parameters: self.parameter.iter().map(parameter).collect() }
    }

    fn rule(&self, name: &str) -> Result<RuleDescription, Failure> {
        let action = self.action.as_ref().map(|text| self.sql_text(text));
        Ok(RuleDescription { name: name.into(), filter: self.filter()?, action })
    }

    /// What a new subscription is to be created with; nothing if no option says anything.
    pub(super) fn description(&self, name: &str) -> Result<Option<String>, Failure> {
        let rule = self.rule(name)?;
        if rule.filter == RuleFilter::True && rule.action.is_none() {
            return Ok(None);
        }
        Ok(Some(parts(&rule)))
    }
}

/// What stands in a rule's description.
pub(super) fn parts(description: &RuleDescription) -> String {
    let mut out = Writer::default();
    rule::write_parts(&mut out, description, None);
    out.finish()
}

/// The rule that the broker has described.
pub(super) fn read(found: &Described) -> Result<RuleDescription, Failure> {
    rule::read(&found.element, Some(&found.name)).map_err(|fault| Failure::Other(fault.detail))
}

pub(super) fn rule_path(topic: &str, subscription: &str, name: &str) -> String {
    format!("{}/Rules/{name}", subscription_path(topic, subscription))
}

pub(super) async fn run(command: &RuleCommand) -> Result<(), Failure> {
    match command {
        RuleCommand::Create(new) => put(new, false).await,
        RuleCommand::Update(new) => put(new, true).await,
        RuleCommand::Show(named) => {
            let server = named.common.connection.server()?;
            let path = rule_path(&named.topic, &named.subscription, &named.name);
            let found = Management::new(&server).need(&path, rule::DESCRIPTION).await?;
            print(&[read(&found)?], true, &named.common)
        }
        RuleCommand::List(listing) => {
            let server = listing.common.connection.server()?;
            let path =
                format!("{}/Rules", subscription_path(&listing.topic, &listing.subscription));
            let all = Management::new(&server).list(&path).await?;
            let all = all.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
            print(&all, false, &listing.common)
        }
        RuleCommand::Delete(named) => {
            let server = named.common.connection.server()?;
            let path = rule_path(&named.topic, &named.subscription, &named.name);
            Management::new(&server).delete(&path).await?;
            if named.common.json {
                return output::print_json(&json!({ "deleted": named.name }));
            }
            output::print(&format!("deleted rule {path}\n"))
        }
    }
}

async fn put(new: &NewRule, update: bool) -> Result<(), Failure> {
    let server = new.common.connection.server()?;
    let path = rule_path(&new.topic, &new.subscription, &new.name);
    let description = new.rule.rule(&new.name)?;
    let document = rule::document(&description, None);
    let made = Management::new(&server).put(&path, &document, update).await?;
    if new.common.json {
        return print(&[read(&made)?], true, &new.common);
    }
    output::print(&format!("{} rule {path}\n", if update { "updated" } else { "created" }))
}

fn print(rules: &[RuleDescription], single: bool, common: &Common) -> Result<(), Failure> {
    if common.json {
        let all: Vec<_> = rules.iter().map(json_of).collect();
        return match (single, all.first()) {
            (true, Some(one)) => output::print_json(one),
            _ => output::print_json(&all),
        };
    }
    let row = |rule: &RuleDescription| {
        let action = rule.action.as_ref().map_or("", |action| &action.text);
        vec![rule.name.to_string(), show_filter(&rule.filter), action.to_owned()]
    };
    let rows: Vec<_> = rules.iter().map(row).collect();
    output::print(&output::table(&["NAME", "FILTER", "ACTION"], &rows))
}

/// A filter in one line.
pub(super) fn show_filter(filter: &RuleFilter) -> String {
    match filter {
        RuleFilter::True => "everything".to_owned(),
        RuleFilter::False => "nothing".to_owned(),
        RuleFilter::Selector(text) => format!("selector {}", text.as_str()),
        RuleFilter::Sql(sql) => {
            let shown =
                |(name, value): &(Str, Value)| format!(" {}={}", name.as_str(), typed::show(value));
            let parameters: String = sql.parameters.iter().map(shown).collect();
            format!("{}{parameters}", sql.text)
        }
        RuleFilter::Correlation(wanted) => {
            let system = wanted.system.iter().filter_map(|(property, text)| {
                let name = SYSTEM.iter().find(|(_, known)| known == property)?.0;
                Some(format!("{name}={}", text.as_str()))
            });
            let user = wanted.user.iter();
            let user =
                user.map(|(name, value)| format!("{}={}", name.as_str(), typed::show(value)));
            system.chain(user).collect::<Vec<_>>().join(", ")
        }
    }
}

pub(super) fn json_of(rule: &RuleDescription) -> serde_json::Value {
    let parameters = |sql: &SqlText| -> serde_json::Value {
        let value = |(name, value): &(Str, Value)| (name.to_string(), typed::show(value).into());
        sql.parameters.iter().map(value).collect::<serde_json::Map<_, _>>().into()
    };
    let mut object = serde_json::Map::new();
    object.insert("name".into(), rule.name.to_string().into());
    match &rule.filter {
        RuleFilter::True => drop(object.insert("filter".into(), true.into())),
        RuleFilter::False => drop(object.insert("filter".into(), false.into())),
        RuleFilter::Selector(text) => {
            object.insert("selector".into(), text.as_str().into());
        }
        RuleFilter::Sql(sql) => {
            object.insert("sql_filter".into(), sql.text.to_string().into());
            if !sql.parameters.is_empty() {
                object.insert("parameters".into(), parameters(sql));
            }
        }
        RuleFilter::Correlation(wanted) => {
            let mut criteria = serde_json::Map::new();
            for (property, text) in &wanted.system {
                if let Some((name, _)) = SYSTEM.iter().find(|(_, known)| known == property) {
                    criteria.insert(name.replace('-', "_"), text.as_str().into());
                }
            }
            if !wanted.user.is_empty() {
                let value =
                    |(name, value): &(Str, Value)| (name.to_string(), typed::show(value).into());
                let user: serde_json::Map<_, _> = wanted.user.iter().map(value).collect();
                criteria.insert("properties".into(), user.into());
            }
            object.insert("correlation_filter".into(), criteria.into());
        }
    }
    if let Some(action) = &rule.action {
        object.insert("sql_action".into(), action.text.to_string().into());
    }
    object.into()
}
