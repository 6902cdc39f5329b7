//! Entities in the form of the broker's configuration file.

use std::fmt::Write as _;

use peeklock_core::topic::rules::{Correlation, RuleDescription, RuleFilter, SqlText};
use peeklock_protocol::value::{Str, Value};

use super::super::properties::Kind as ValueKind;
use super::super::rules::{SYSTEM, show_filter};
use super::state::{DUPLICATES, Entity, Kind, State};

/// The condition of a rule that lets nothing through.
pub(super) const NOTHING: &str = "1 = 0";

/// The file, and what it cannot say.
pub(super) fn toml(state: &State) -> (String, Vec<String>) {
    let mut out = String::from("# Entities, as `peeklock topology export` has found them.\n");
    let mut left_out = Vec::new();
    for entity in &state.entities {
        let table = match entity.kind {
            Kind::Queue => "queue",
            Kind::Topic => "topic",
            Kind::Subscription => "topic.subscription",
        };
        let name = match entity.kind {
            Kind::Subscription => entity.path.rsplit('/').next().unwrap_or_default(),
            Kind::Queue | Kind::Topic => &entity.path,
        };
        line(&mut out, &format!("\n[[{table}]]\nname = {}", quoted(name)));
        properties(&mut out, entity);
        // Also the rule that it was created with: a file that says nothing leaves rules alone.
        let Some(rules) = entity.rules.as_deref() else { continue };
        if rules.is_empty() {
            line(&mut out, "rule = []");
        }
        for described in rules {
            line(&mut out, "\n[[topic.subscription.rule]]");
            if !rule(&mut out, described) {
                let text = format!(
                    "the filter or action of rule {} of {} ({})",
                    described.name,
                    entity.path,
                    show_filter(&described.filter)
                );
                left_out.push(text);
            }
        }
    }
    (out, left_out)
}

/// What differs from what the file means by saying nothing.
fn properties(out: &mut String, entity: &Entity) {
    let defaults = entity.kind.defaults();
    for (property, value) in &entity.values {
        let is_default = defaults
            .iter()
            .any(|(known, default)| known.option == property.option && default == value);
        // A window says by itself that duplicates are looked for.
        if is_default || value.is_empty() || property.option == DUPLICATES {
            continue;
        }
        let value = match property.kind {
            ValueKind::Flag | ValueKind::Count => value.clone(),
            // What files call never, which they cannot say.
            ValueKind::Endless if value == "never" => continue,
            _ => quoted(value),
        };
        line(out, &format!("{} = {value}", property.key()));
    }
}

/// Writes a rule; false if something of it had to be left out.
fn rule(out: &mut String, rule: &RuleDescription) -> bool {
    line(out, &format!("name = {}", quoted(&rule.name)));
    let plain = |sql: &SqlText| sql.parameters.is_empty();
    let mut whole = true;
    match &rule.filter {
        RuleFilter::True => {}
        RuleFilter::False => line(out, &format!("sql_filter = {}", quoted(NOTHING))),
        RuleFilter::Sql(sql) => {
            whole &= plain(sql);
            line(out, &format!("sql_filter = {}", quoted(&sql.text)));
        }
        // Of subscriptions of JMS clients alone, which are not in a file.
        RuleFilter::Selector(_) => whole = false,
        RuleFilter::Correlation(wanted) => whole &= correlation(out, wanted),
    }
    if let Some(action) = &rule.action {
        whole &= plain(action);
        line(out, &format!("sql_action = {}", quoted(&action.text)));
    }
    whole
}

fn correlation(out: &mut String, wanted: &Correlation) -> bool {
    let mut criteria = Vec::new();
    for (property, text) in &wanted.system {
        if let Some((name, _)) = SYSTEM.iter().find(|(_, known)| known == property) {
            criteria.push(format!("{} = {}", name.replace('-', "_"), quoted(text)));
        }
    }
    let written = |(name, value): &(Str, Value)| {
        let value = match value {
            Value::String(text) => quoted(text),
            Value::Bool(truth) => truth.to_string(),
            Value::Double(number) if number.get().is_finite() => {
                toml::Value::Float(number.get()).to_string()
            }
            value => value.as_i64()?.to_string(),
        };
        Some(format!("{} = {value}", quoted(name)))
    };
    let user: Vec<String> = wanted.user.iter().filter_map(written).collect();
    let whole = user.len() == wanted.user.len();
    if !user.is_empty() {
        criteria.push(format!("properties = {{ {} }}", user.join(", ")));
    }
    line(out, &format!("correlation_filter = {{ {} }}", criteria.join(", ")));
    whole
}

/// A string on one line, whatever stands in it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_control() => {
                // A string takes whatever is written.
                let _ = write!(out, "\\u{:04X}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_as_they_were() {
        for text in ["", "a\"b\\c", "two\nlines\t\u{7f}é", "'"] {
            let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }
}
