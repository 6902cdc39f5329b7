//! `PEEKLOCK_` variables. Each becomes a line of TOML, so that one reader serves both.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::raw::RawSettings;
use super::{ConfigError, unquoted};

const PREFIX: &str = "PEEKLOCK_";

/// Top-level keys that a variable may begin with.
const KEYS: [&str; 23] = [
    "data",
    "ephemeral",
    "virtual_time",
    "test_control",
    "dev",
    "listen",
    "allowed_networks",
    "plain_text",
    "tls",
    "http",
    "hosts",
    "queue",
    "topic",
    "rule",
    "namespace",
    "issuer",
    "limits",
    "storage",
    "backup",
    "log",
    "audit",
    "tracing",
    "metrics",
];

/// Variables for the commands of people, which the broker leaves alone.
const OF_COMMANDS: [&str; 3] = ["CONNECTION_STRING", "KEY", "KEY_NAME"];

/// Whether a variable may say anything to us.
pub(super) fn concerns_us((name, _): &(OsString, OsString)) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(PREFIX) || name == "RUST_LOG" || name == "EMULATOR_HTTP_PORT"
}

/// The variables that concern us.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// `PEEKLOCK_CONFIG`: where the file is.
    pub config_file: Option<PathBuf>,
    /// `RUST_LOG`, which other programs read as well.
    pub rust_log: Option<String>,
    /// `EMULATOR_HTTP_PORT`, which counts in the place of the emulator only.
    pub emulator_http_port: Option<String>,
    /// Variables that look like ours and are not.
    pub warnings: Vec<String>,
    /// Name and text, by name.
    values: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn gather(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut found = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if name == "RUST_LOG" {
                found.rust_log = value.into_string().ok().filter(|level| !level.is_empty());
                continue;
            }
            if name == "EMULATOR_HTTP_PORT" {
                found.emulator_http_port = value.into_string().ok().filter(|port| !port.is_empty());
                continue;
            }
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if OF_COMMANDS.contains(&key) {
                continue;
            }
            if key == "CONFIG" {
                found.config_file = Some(PathBuf::from(value));
                continue;
            }
            let first = key.split("__").next().unwrap_or_default().to_ascii_lowercase();
            if !KEYS.contains(&first.as_str()) {
                // Not an error: Kubernetes sets PEEKLOCK_PORT and its like for a service of that name.
                found.warnings.push(format!("the environment variable {name} means nothing here"));
                continue;
            }
            let value = value.into_string().map_err(|_| error(name, "is not UTF-8"))?;
            found.values.insert(name.to_owned(), value);
        }
        Ok(found)
    }

    /// What the variables say together; notes which key came from which of them.
    pub(super) fn raw(
        &self,
        origins: &mut BTreeMap<String, String>,
    ) -> Result<RawSettings, ConfigError> {
        let mut all = RawSettings::default();
        for (name, text) in &self.values {
            let key = name.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", ".");
            let line = format!("{key} = {}", as_toml(&key, text));
            let raw =
                toml::from_str(&line).map_err(|wrong| error(name, &unquoted(wrong.message())))?;
            all.overlay(raw);
            origins.insert(key, source(name));
        }
        Ok(all)
    }
}

fn source(name: &str) -> String {
    format!("environment variable {name}")
}

fn error(name: &str, reason: &str) -> ConfigError {
    ConfigError { source: source(name), key: String::new(), reason: reason.to_owned() }
}

/// The value as TOML writes it: itself if it is TOML, else a string or a list of names.
fn as_toml(key: &str, text: &str) -> String {
    let parsed: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
    // Exactly one value: a line break in it must not bring further keys.
    let value = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    let value = value.unwrap_or_else(|| toml::Value::String(text.to_owned()));
    let names = |text: &str| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| toml::Value::String(name.to_owned())).collect::<Vec<_>>()
    };
    let value = match (key, value) {
        (
            "listen" | "hosts" | "allowed_networks" | "metrics.allowed_networks",
            toml::Value::String(text),
        ) => toml::Value::Array(names(&text)),
        ("queue", toml::Value::String(text)) => {
            let named = |name| toml::Value::Table(toml::Table::from_iter([("name".into(), name)]));
            toml::Value::Array(names(&text).into_iter().map(named).collect())
        }
        (_, value) => value,
    };
    value.to_string()
}
