//! What the sources say, key by key, for people: shown, compared, and never with a secret in it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::raw::RawSettings;

/// Keys that say which one of a list a table is, the first that it has.
const NAMES: [&str; 5] = ["name", "issuer", "common_name", "dns", "uri"];

/// The longest value that is shown; a rule's filter may have more.
const SHOWN_CHARS_MAX: usize = 200;

/// Keys with their values, as in `queue[orders].lock_duration` and `"60s"`. Keys that no source names
/// are not there. Keys of access rules are there as `(hidden)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<String, String>);

/// A key that says something else than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which.
    pub key: String,
    /// What it said; nothing if nobody named it, so that the default was valid.
    pub before: Option<String>,
    /// What it says; nothing for the default.
    pub after: Option<String>,
    /// When that counts.
    pub counts: Counts,
}

/// When a change of the configuration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// From now on.
    Now,
    /// From the next start on.
    NextStart,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now => "from now on",
            Self::NextStart => "from the next start on",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, after, counts } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{key}: {before} -> {after}")?,
            (None, Some(after)) => write!(f, "{key}: {after}, was not set")?,
            (Some(before), None) => write!(f, "{key}: not set, was {before}")?,
            (None, None) => write!(f, "{key}")?,
        }
        write!(f, " ({counts})")
    }
}

impl Given {
    pub(super) fn of(raw: &RawSettings, queue_names: &[String]) -> Result<Self, serde_json::Error> {
        let mut given = BTreeMap::new();
        add(&mut given, String::new(), &serde_json::to_value(raw)?);
        for name in queue_names {
            given.entry(format!("queue[{name}]")).or_insert_with(|| "declared".to_owned());
        }
        Ok(Self(given))
    }

    /// All keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What is different in another one, but for the access rules and the clients with certificates:
    /// [`crate::auth::RuleChange`] tells of those, and knows when a key is another one.
    pub(crate) fn differences(&self, other: &Self) -> Vec<Difference> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let changed = keys.into_iter().filter(|key| !is_of_rules(key)).filter_map(|key| {
            let (before, after) = (self.0.get(key).cloned(), other.0.get(key).cloned());
            let counts = if key == LOG_LEVEL { Counts::Now } else { Counts::NextStart };
            (before != after).then(|| Difference { key: key.clone(), before, after, counts })
        });
        changed.collect()
    }

    /// Takes from another one what counts without a restart.
    pub(crate) fn take_live(&mut self, other: &Self) {
        match other.0.get(LOG_LEVEL) {
            Some(level) => self.0.insert(LOG_LEVEL.to_owned(), level.clone()),
            None => self.0.remove(LOG_LEVEL),
        };
    }
}

/// Besides the rules, the one key that is taken again while the broker runs.
const LOG_LEVEL: &str = "log.level";

fn is_of_rules(key: &str) -> bool {
    let own = match key.strip_prefix("namespace[").and_then(|rest| rest.split_once("].")) {
        Some((_, own)) => own,
        None => key,
    };
    own.starts_with("rule[") || own.starts_with("tls.client[")
}

/// Adds what stands below a key, down to the values. A configuration is as deep as its types are.
fn add(given: &mut BTreeMap<String, String>, key: String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (field, value) in fields {
                let below = if key.is_empty() { field.clone() } else { format!("{key}.{field}") };
                add(given, below, value);
            }
        }
        Value::Array(all) if all.iter().any(Value::is_object) => {
            for (index, one) in all.iter().enumerate() {
                add(given, format!("{key}[{}]", name(one, index)), one);
            }
        }
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            given.insert(key, shown(value));
        }
    }
}

/// What a table of a list is called. Rules of one name are told apart by what they are for.
fn name(table: &Value, index: usize) -> String {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    match (NAMES.into_iter().find_map(text), text("entity")) {
        (Some(name), Some(entity)) => format!("{name} of {entity}"),
        (Some(name), None) => name.to_owned(),
        (None, _) => index.to_string(),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        Given::of(&toml::from_str(text).unwrap(), &[]).unwrap()
    }

    const ALL: &str = r#"
        listen = ["a:1", "b:2"]
        [limits]
        connections = 5
        max_frame_size = "1 MiB"
        [[queue]]
        name = "orders"
        lock_duration = "30s"
        [[topic]]
        name = "news"
        [[topic.subscription]]
        name = "all"
        [[rule]]
        name = "app"
        primary_key = "canary-key"
        rights = ["send"]
        [[rule]]
        name = "app"
        entity = "orders"
        primary_key = "canary-key"
        secondary_key = "canary-key"
        rights = ["listen"]
        [[namespace]]
        name = "shop"
        [[namespace.rule]]
        name = "own"
        primary_key = "canary-key"
        rights = ["send"]
    "#;

    #[test]
    fn keys_are_shown_with_their_names_and_without_secrets() {
        let given = given(ALL);
        let shown: Vec<_> = given.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let expected = [
            "limits.connections = 5",
            "limits.max_frame_size = \"1 MiB\"",
            "listen = [\"a:1\",\"b:2\"]",
            "namespace[shop].name = \"shop\"",
            "namespace[shop].rule[own].name = \"own\"",
            "namespace[shop].rule[own].primary_key = \"(hidden)\"",
            "namespace[shop].rule[own].rights = [\"send\"]",
            "queue[orders].lock_duration = \"30s\"",
            "queue[orders].name = \"orders\"",
            "rule[app of orders].entity = \"orders\"",
            "rule[app of orders].name = \"app\"",
            "rule[app of orders].primary_key = \"(hidden)\"",
            "rule[app of orders].rights = [\"listen\"]",
            "rule[app of orders].secondary_key = \"(hidden)\"",
            "rule[app].name = \"app\"",
            "rule[app].primary_key = \"(hidden)\"",
            "rule[app].rights = [\"send\"]",
            "topic[news].name = \"news\"",
            "topic[news].subscription[all].name = \"all\"",
        ];
        assert_eq!(shown, expected);
        assert!(!format!("{given:?}").contains("canary"));
    }

    #[test]
    fn differences_say_when_they_count_and_leave_rules_to_others() {
        let before = given(ALL);
        let changed = ALL
            .replace("connections = 5", "")
            .replace("30s", "45s")
            .replace("\"app\"", "\"other\"")
            .replace("\"own\"", "\"another\"");
        let mut after = given(&format!("{changed}\n[log]\nlevel = \"debug\""));
        let shown: Vec<_> = before.differences(&after).iter().map(ToString::to_string).collect();
        let expected = [
            "limits.connections: not set, was 5 (from the next start on)",
            "log.level: \"debug\", was not set (from now on)",
            "queue[orders].lock_duration: \"30s\" -> \"45s\" (from the next start on)",
        ];
        assert_eq!(shown, expected);
        let mut running = before.clone();
        running.take_live(&after);
        assert_eq!(running.differences(&after).len(), 2, "the rest still waits");
        after.take_live(&before);
        assert_eq!(before.differences(&after).len(), 2);
    }

    #[test]
    fn long_values_are_cut() {
        let long = "x".repeat(500);
        let given = given(&format!("[[queue]]\nname = \"q\"\nuser_metadata = \"{long}\""));
        assert!(given.iter().all(|(_, value)| value.chars().count() <= SHOWN_CHARS_MAX + 1));
    }
}
