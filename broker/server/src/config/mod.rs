//! Configuration: from what the file, the environment and the command line say to [`Settings`].
//!
//! Three sources, the later one wins, value by value; a list is replaced as a whole:
//!
//! 1. the file of `--config` (or of `PEEKLOCK_CONFIG`), in TOML; `deploy/peeklock.example.toml` shows
//!    every key;
//! 2. the environment: `PEEKLOCK_` and the key in capitals, with `__` between section and key, as in
//!    `PEEKLOCK_LIMITS__IDLE_TIMEOUT=60s`. A value is read as TOML, or as plain text when it is none;
//!    lists of plain names are separated by commas (`PEEKLOCK_QUEUE=orders,invoices`);
//! 3. the command line.
//!
//! `--emulator-config` is a source of entities beside these, and brings other defaults: see `emulator`.
//!
//! The level of the log is taken from `RUST_LOG` when none of them gives one.
//!
//! What is wrong is reported with its source, key and reason. A key's value is never shown.

mod build;
mod doors;
mod emulator;
mod environment;
mod given;
mod issuers;
mod namespaces;
mod observing;
mod queues;
mod raw;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use emulator::{EmulatorOptions, MOUNTED as EMULATOR_CONFIG, READY as EMULATOR_READY};
pub use given::{Counts, Difference, Given};
pub use settings::{
    AllowedOrigins, AuditSettings, BackupSettings, CACHE_BYTES_MIN, Limits, ListenAddress,
    LogFormat, LogSettings, MetricsSettings, NamespaceSettings, QueueDeclaration, Settings,
    StorageSettings, SubscriptionDeclaration, TlsSettings, TopicDeclaration, TracingSettings,
};
pub use source::Source;
use toml::Spanned;

pub(crate) use self::namespaces::Wanted;
use self::raw::RawSettings;

/// What the command line may say; each overrides the file and the environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// To take the place of Microsoft's emulator.
    pub emulator: Option<EmulatorOptions>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// `HOST:PORT`s to listen at, in place of those configured; empty: as configured.
    pub listen: Vec<String>,
    /// The broker's certificate.
    pub tls_certificate: Option<PathBuf>,
    /// The key of the certificate.
    pub tls_key: Option<PathBuf>,
    /// Serve others without TLS.
    pub plain_text: bool,
    /// Queues to create with the defaults when missing, beside those configured.
    pub queues: Vec<String>,
    /// The well-known key is valid.
    pub dev: bool,
    /// Keep messages in memory only.
    pub ephemeral: bool,
    /// Let clients steer the clock.
    pub virtual_time: bool,
    /// Let clients make namespaces.
    pub test_control: bool,
    /// Start although the store is damaged.
    pub accept_data_loss: bool,
    /// The level of the log.
    pub log_level: Option<String>,
    /// The format of the log.
    pub log_format: Option<String>,
}

/// What is wrong, where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// A file with its line, a variable, or an option.
    source: String,
    /// As in `queue[0].lock_duration`; empty when the whole source is meant.
    key: String,
    reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Reads all sources. `environment` is the process's, handed in so that tests can have their own.
pub fn load(
    overrides: &Overrides,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, ConfigError> {
    let environment: Vec<_> = environment.into_iter().filter(environment::concerns_us).collect();
    let mut source = Source { overrides: overrides.clone(), environment, file: None };
    let environment = environment::Environment::gather(source.environment.iter().cloned())?;
    let file = overrides.config.as_deref().or(environment.config_file.as_deref());
    let file = file.map(SourceFile::read).transpose()?;
    let mut raw = match &file {
        Some(file) => file.parse()?,
        None => RawSettings::default(),
    };
    let mut origins = BTreeMap::new();
    raw.overlay(environment.raw(&mut origins)?);
    raw.overlay(from_options(overrides, &mut origins));
    if let (None, Some(level)) = (&raw.log.level, &environment.rust_log) {
        origins.insert("log.level".to_owned(), "environment variable RUST_LOG".to_owned());
        raw.log.level = Some(given(level.clone()));
    }
    let mut warnings = environment.warnings;
    let emulator = overrides.emulator.as_ref();
    if let Some(emulator) = emulator {
        emulator::check_alone(&raw).map_err(|problem| locate(&problem, file.as_ref(), &origins))?;
        let emulated = emulator.read()?;
        warnings.extend(emulated.warnings);
        raw.overlay(emulated.raw);
        raw.dev.get_or_insert_with(|| given(true));
        if raw.listen.is_none() {
            let addresses = emulator::addresses(environment.emulator_http_port.as_deref())?;
            raw.listen = Some(addresses.map(given).into());
        }
    }
    let shown = Given::of(&raw, &overrides.queues).map_err(|error| ConfigError {
        source: "configuration".to_owned(),
        key: String::new(),
        reason: format!("cannot be shown: {error}"),
    })?;
    let mut settings = build::build(raw, &overrides.queues).map_err(|problem| match emulator {
        Some(emulator) if is_of_entity(&problem.key) => emulator.locate(&problem),
        Some(_) | None => locate(&problem, file.as_ref(), &origins),
    })?;
    if let Some(emulator) = emulator {
        settings.emulator = true;
        emulator.limit(&mut settings);
    }
    if let Some(data) = &overrides.data {
        settings.data_dir.clone_from(data);
    }
    settings.warnings.extend(warnings);
    settings.given = shown;
    source.file = file.map(|file| (file.path, file.text));
    settings.source = source;
    Ok(settings)
}

fn is_of_entity(key: &str) -> bool {
    key.starts_with("queue[") || key.starts_with("topic[")
}

/// A value that cannot be: its key, and where it stands in its source.
#[derive(Debug)]
struct Problem {
    key: String,
    span: Range<usize>,
    reason: String,
}

struct SourceFile {
    path: PathBuf,
    text: String,
}

impl SourceFile {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(error) => Err(ConfigError {
                source: path.display().to_string(),
                key: String::new(),
                reason: format!("cannot be read: {error}"),
            }),
        }
    }

    /// Reports only the parser's message: the source line beside it could show a key.
    fn parse(&self) -> Result<RawSettings, ConfigError> {
        toml::from_str(&self.text).map_err(|error: toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            let key = key_at(&self.text, span.start);
            self.error(&Problem { key, span, reason: unquoted(error.message()) })
        })
    }

    fn error(&self, problem: &Problem) -> ConfigError {
        let before = self.text.get(..problem.span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        ConfigError {
            source: format!("{}:{line}", self.path.display()),
            key: problem.key.clone(),
            reason: problem.reason.clone(),
        }
    }
}

/// What the parser says of a text in a wrong place, without the text: it may be a key.
fn unquoted(message: &str) -> String {
    for beginning in ["invalid type: ", "invalid value: "] {
        let text = message.strip_prefix(beginning).filter(|rest| rest.starts_with("string "));
        if let Some((_, expected)) = text.and_then(|rest| rest.rsplit_once(", expected ")) {
            return format!("{beginning}string, expected {expected}");
        }
    }
    message.to_owned()
}

/// Values of the command line, and which option each key came from.
fn from_options(overrides: &Overrides, origins: &mut BTreeMap<String, String>) -> RawSettings {
    let mut raw = RawSettings::default();
    let mut origin = |key: &str, option: &str| origins.insert(key.to_owned(), option.to_owned());
    if !overrides.listen.is_empty() {
        origin("listen", "--listen");
        raw.listen = Some(overrides.listen.iter().cloned().map(given).collect());
    }
    let path = |path: &PathBuf| given(path.to_string_lossy().into_owned());
    if let Some(certificate) = &overrides.tls_certificate {
        origin("tls.certificate", "--tls-certificate");
        raw.tls.certificate = Some(path(certificate));
    }
    if let Some(key) = &overrides.tls_key {
        origin("tls.key", "--tls-key");
        raw.tls.key = Some(path(key));
    }
    if overrides.plain_text {
        origin("plain_text", "--plain-text");
        raw.plain_text = Some(given(true));
    }
    if overrides.dev {
        origin("dev", "--dev");
        raw.dev = Some(given(true));
    }
    if overrides.ephemeral {
        origin("ephemeral", "--ephemeral");
        raw.ephemeral = Some(given(true));
    } else if overrides.data.is_some() {
        // A directory named on the command line is meant, whatever the file says.
        raw.ephemeral = Some(given(false));
    }
    if overrides.virtual_time {
        origin("virtual_time", "--virtual-time");
        raw.virtual_time = Some(given(true));
    }
    if overrides.test_control {
        origin("test_control", "--test-control");
        raw.test_control = Some(given(true));
    }
    if overrides.accept_data_loss {
        origin("storage.accept_data_loss", "--accept-data-loss");
        raw.storage.accept_data_loss = Some(given(true));
    }
    if let Some(level) = &overrides.log_level {
        origin("log.level", "--log-level");
        raw.log.level = Some(given(level.clone()));
    }
    if let Some(format) = &overrides.log_format {
        origin("log.format", "--log-format");
        raw.log.format = Some(given(format.clone()));
    }
    raw
}

fn given<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Says which source a wrong value came from: the last one that said anything about its key.
fn locate(
    problem: &Problem,
    file: Option<&SourceFile>,
    origins: &BTreeMap<String, String>,
) -> ConfigError {
    let Problem { key, reason, .. } = problem;
    if key == "--queue" {
        return ConfigError { source: key.clone(), key: String::new(), reason: reason.clone() };
    }
    let covers = |origin: &str| {
        key.strip_prefix(origin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
    };
    match (origins.iter().find(|(origin, _)| covers(origin)), file) {
        (Some((_, source)), _) => {
            ConfigError { source: source.clone(), key: key.clone(), reason: reason.clone() }
        }
        (None, Some(file)) => file.error(problem),
        (None, None) => {
            let source = "configuration".to_owned();
            ConfigError { source, key: key.clone(), reason: reason.clone() }
        }
    }
}

/// The key that stands at or before a place in the text, for mistakes that the parser reports by
/// place alone.
fn key_at(text: &str, offset: usize) -> String {
    let line_end = text.get(offset..).and_then(|rest| rest.find('\n')).map(|end| offset + end);
    let before = text.get(..line_end.unwrap_or(text.len())).unwrap_or(text);
    let mut key = None;
    for line in before.lines().rev().map(str::trim) {
        if line.starts_with('[') && line.contains(']') && !line.contains('=') {
            let section = line.split(']').next().unwrap_or_default().trim_matches('[').trim();
            return match key {
                Some(key) => format!("{section}.{key}"),
                None => section.to_owned(),
            };
        }
        if key.is_none() && !line.starts_with('#') {
            key = line.split_once('=').map(|(key, _)| key.trim());
        }
    }
    key.unwrap_or_default().to_owned()
}
