//! Namespaces that the configuration declares beside the default one.

use std::sync::Arc;

use super::Problem;
use super::build::{Check, hosts, parsed, refuse, rules};
use super::issuers::issuers;
use super::queues::queues;
use super::raw::{RawNamespace, RawWanted};
use super::settings::{NamespaceSettings, QueueDeclaration, TopicDeclaration};
use super::topics::topics;
use crate::auth::{Authority, JwtIssuers};
use crate::namespaces::NamespaceName;
use crate::namespaces::limits::{DECLARED_MAX, HOSTS_MAX};

/// A declared one.
pub(super) struct Namespace {
    pub(super) settings: NamespaceSettings,
    /// Nobody can do anything in it.
    pub(super) has_no_rules: bool,
}

/// Takes what the file says. No host leads to two of them, nor to one of the default namespace's own.
pub(super) fn namespaces(
    raw: Vec<RawNamespace>,
    hosts_of_default: Option<&[String]>,
) -> Check<Vec<Namespace>> {
    let mut all: Vec<Namespace> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let list = format!("namespace[{index}]");
        let span = raw.name.span();
        let key = format!("{list}.name");
        if DECLARED_MAX <= index {
            let reason = format!("there are more than {DECLARED_MAX} namespaces");
            return refuse(&key, span, reason);
        }
        let name: NamespaceName = parsed(&key, &raw.name)?;
        if all.iter().any(|other| other.settings.name == name) {
            return refuse(&key, span, format!("the namespace {name} is declared twice"));
        }
        let hosts = own_hosts(&list, raw.hosts)?;
        let finds = |host: &String| {
            let label = host.split('.').next().unwrap_or_default();
            hosts.contains(host) || (hosts.is_empty() && label == name.as_str())
        };
        let lower = |host: &String| host.to_ascii_lowercase();
        let default = hosts_of_default.unwrap_or_default().iter().map(lower);
        let others = all.iter().flat_map(|other| other.settings.hosts.iter().cloned());
        if let Some(host) = default.chain(others).find(finds) {
            let reason = format!("the host {host} is another namespace's already");
            return refuse(&list, span, reason);
        }
        let is_named = |other: &Namespace| {
            let is_label =
                |host: &String| host.split('.').next() == Some(other.settings.name.as_str());
            other.settings.hosts.is_empty() && hosts.iter().any(is_label)
        };
        if let Some(other) = all.iter().find(|other| is_named(other)) {
            let reason = format!("a host of it leads to the namespace {}", other.settings.name);
            return refuse(&list, span, reason);
        }
        let within =
            |problem: Problem| Problem { key: format!("{list}.{}", problem.key), ..problem };
        let rules = rules(raw.rule.unwrap_or_default()).map_err(within)?;
        let queues = queues(raw.queue.unwrap_or_default(), &[]).map_err(within)?;
        let topics = topics(raw.topic.unwrap_or_default(), &queues).map_err(within)?;
        let issuers = issuers(raw.issuer.unwrap_or_default()).map_err(within)?;
        let has_no_rules = rules.is_empty() && issuers.is_empty();
        let tokens_for = (!hosts.is_empty()).then(|| hosts.clone());
        // The well-known key of development is for the default namespace: a key leads to one.
        let authority = Authority::new(rules, tokens_for, false);
        let authority = Arc::new(authority.with_issuers(JwtIssuers::new(issuers)));
        let settings = NamespaceSettings { name, hosts, queues, topics, authority };
        all.push(Namespace { settings, has_no_rules });
    }
    Ok(all)
}

fn own_hosts(list: &str, raw: Option<Vec<toml::Spanned<String>>>) -> Check<Vec<String>> {
    if let Some(over) = raw.as_ref().and_then(|all| all.get(HOSTS_MAX)) {
        return refuse(&format!("{list}.hosts"), over.span(), format!("has more than {HOSTS_MAX}"));
    }
    let hosts = hosts(raw)
        .map_err(|problem| Problem { key: format!("{list}.{}", problem.key), ..problem })?;
    let lower = |host: String| host.to_ascii_lowercase();
    Ok(hosts.unwrap_or_default().into_iter().map(lower).collect())
}

/// What a test asks for with a namespace: entities, as the configuration declares them.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) queues: Vec<QueueDeclaration>,
    pub(crate) topics: Vec<TopicDeclaration>,
    /// Whether its clock can be steered; not said: as that of the default namespace.
    pub(crate) virtual_time: Option<bool>,
}

impl Wanted {
    /// Reads JSON with the keys and values of the configuration.
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|error| format!("no JSON object: {error}"))?;
        // The configuration is read as TOML, which has no null.
        let text = toml::to_string(&value).map_err(|error| format!("no configuration: {error}"))?;
        let raw: RawWanted =
            toml::from_str(&text).map_err(|error| error.message().trim().to_owned())?;
        let said = |problem: Problem| format!("{}: {}", problem.key, problem.reason);
        let queues = queues(raw.queue.unwrap_or_default(), &[]).map_err(said)?;
        let topics = topics(raw.topic.unwrap_or_default(), &queues).map_err(said)?;
        Ok(Self { queues, topics, virtual_time: raw.virtual_time })
    }
}
