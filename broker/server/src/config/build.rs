//! The step from raw to settled: every bound, every default, each with its reason.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peeklock_core::entity::settings::BrokerSettings;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

use super::Problem;
use super::doors::{listeners, networks, only, origins, tls, yes};
use super::given::Given as Shown;
use super::issuers::issuers;
use super::namespaces::namespaces;
use super::observing;
use super::queues::{queue_path, queues};
use super::raw::{
    Given, RawAccessRule, RawBackup, RawCount, RawLimits, RawLog, RawMetrics, RawSettings, RawSize,
};
use super::settings::{
    BackupSettings, CACHE_BYTES_MIN, Limits, ListenAddress, LogFormat, LogSettings,
    MetricsSettings, Settings, StorageSettings,
};
use super::source::Source;
use super::topics::topics;
use super::units::{parse_size, parse_span, show_size, show_span};
use crate::auth::{AccessRule, Authority, JwtIssuers, Rights, Secret};
use crate::pressure::{IdentityLimits, Shares};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// In the working directory, where whoever started the broker finds it.
const DATA: &str = "peeklock-data";
/// Each queue or topic takes a few kilobytes of memory, also when it is empty and idle.
const ENTITIES: RangeInclusive<usize> = 1..=1_000_000;
/// From totals alone to all there may be. Each is some three kilobytes of a scrape.
const SHOWN: RangeInclusive<usize> = 0..=1_000_000;
/// Service Bus allows 5000. Above a million, ports and file handles end first.
const CONNECTIONS: (RangeInclusive<u32>, u32) = (1..=1_000_000, 5000);
/// JavaScript, .NET and Java open one AMQP session for each link; 8191 is what .NET asks for.
const SESSIONS: (RangeInclusive<u16>, u16) = (1..=65_535, 8191);
/// Each costs memory before it was proven useful; 5000 receivers is the quota of one entity.
const LINKS: (RangeInclusive<u32>, u32) = (1..=65_535, 5000);
/// AMQP asks for 512 at least. 256 KiB is the service's Standard tier; more only makes buffers grow.
const FRAME: (RangeInclusive<u64>, u64) = (512..=16 * MIB, 256 * KIB);
/// Below it large messages are mostly headers, whatever the memory.
const FRAME_MIN: u64 = 16 << 10;
/// azure-amqp refuses a broker that announces less than 5 s, and we announce half. 4 min is the
/// service's.
const IDLE: (RangeInclusive<Duration>, Duration) =
    (Duration::from_secs(10)..=Duration::from_hours(1), Duration::from_mins(4));
/// A peer that takes longer than this to say `open` is not a client.
const HANDSHAKE: (RangeInclusive<Duration>, Duration) =
    (Duration::from_secs(1)..=Duration::from_mins(5), Duration::from_secs(30));
/// The service drops connections that authorised nothing after about 20 s.
const AUTHORIZATION: (RangeInclusive<Duration>, Duration) =
    (Duration::from_secs(1)..=Duration::from_mins(10), Duration::from_secs(20));
/// Load balancers look every few seconds whether the broker is ready. Most setups have none.
const DRAIN_DELAY: (RangeInclusive<Duration>, Duration) =
    (Duration::ZERO..=Duration::from_mins(10), Duration::ZERO);
/// What handlers of messages mostly take, and short enough for [`STOP`].
const SETTLE: (RangeInclusive<Duration>, Duration) =
    (Duration::ZERO..=Duration::from_mins(5), Duration::from_secs(3));
/// Shorter than the 10 s that container runtimes wait before they kill.
const STOP: (RangeInclusive<Duration>, Duration) =
    (Duration::from_millis(100)..=Duration::from_mins(5), Duration::from_secs(8));
/// From what one namespace needs to more than a machine has.
const CACHE: RangeInclusive<u64> = CACHE_BYTES_MIN as u64..=1024 * GIB;
/// What compactions, a full log and the memtables may need at once, so that messages can be taken out.
const FREE_SPACE: (RangeInclusive<u64>, u64) = (0..=1024 * GIB, 2 * GIB);
/// Each is a folder with all files of all stores.
const BACKUPS: RangeInclusive<usize> = 1..=10_000;
/// Octets a second: below, a backup would not end before the next.
const BACKUP_RATE: RangeInclusive<u64> = 1 << 20..=1024 * GIB;

/// Up to more than a machine has.
const MEMORY: RangeInclusive<u64> = Shares::CEILING_MIN..=1024 * GIB;
/// What a store is measured with: 64 MiB of cache, and 256 MiB for rows that are in no file yet.
const STORE: u64 = 320 * MIB;
/// Connections, links, or messages in a second, of one identity. Left out: as many as there may be.
const OF_IDENTITY: RangeInclusive<u32> = 1..=10_000_000;

pub(super) type Check<T> = Result<T, Problem>;

pub(super) fn build(mut raw: RawSettings, queue_names: &[String]) -> Check<Settings> {
    let dev = raw.dev.is_some_and(Spanned::into_inner);
    let mut warnings = Vec::new();
    let (tls, clients) = tls(raw.tls)?;
    let plain_text = yes(raw.plain_text) || dev;
    let listeners = listeners(raw.listen, tls.is_some(), plain_text)?;
    if dev && listeners.iter().any(|address| !address.is_loopback()) {
        warnings.push(
            "the well-known key of development mode is valid for everybody who reaches this machine"
                .to_owned(),
        );
    }
    let rules = rules(raw.rule.unwrap_or_default())?;
    let issuers = issuers(raw.issuer.unwrap_or_default())?;
    if rules.is_empty() && clients.is_empty() && issuers.is_empty() && !dev {
        warnings.push(
            "no rule is configured, so every client will be refused; add a [[rule]] or use --dev"
                .to_owned(),
        );
    }
    let virtual_time = raw.virtual_time.is_some_and(Spanned::into_inner);
    if virtual_time {
        warnings.push(
            "virtual time is on: whoever has the right Manage can stop the clock and move it forward, \
             and with it locks and tokens; this is for tests, never for production"
                .to_owned(),
        );
    }
    let test_control = test_control(raw.test_control, &listeners, dev)?;
    if test_control {
        warnings.push(
            "test control is on: whoever has the right Manage can make and drop namespaces; this is for \
             tests, never for production"
                .to_owned(),
        );
    }
    let hosts = hosts(raw.hosts)?;
    let shares = shares(raw.limits.memory.take())?;
    let storage = StorageSettings {
        free_space_reserve: size(
            "storage.free_space_reserve",
            raw.storage.free_space_reserve,
            &FREE_SPACE.0,
            FREE_SPACE.1,
        )?,
        accept_data_loss: raw.storage.accept_data_loss.is_some_and(Spanned::into_inner),
        store_bytes: store_bytes(&shares, raw.namespace.as_ref().map_or(0, Vec::len)),
    };
    let namespaces = namespaces(raw.namespace.unwrap_or_default(), hosts.as_deref())?;
    warnings.extend(namespaces.iter().filter(|one| one.has_no_rules).map(|one| {
        let name = &one.settings.name;
        format!("the namespace {name} has no rule, so every client of it will be refused")
    }));
    let queues = queues(raw.queue.unwrap_or_default(), queue_names)?;
    Ok(Settings {
        dev,
        emulator: false,
        ephemeral: raw.ephemeral.is_some_and(Spanned::into_inner),
        virtual_time,
        test_control,
        data_dir: data_dir(raw.data)?,
        backup: backup(raw.backup, storage.free_space_reserve)?,
        storage,
        core: core(raw.storage.cache, raw.limits.entities.take(), &shares)?,
        listeners,
        allowed_networks: networks(raw.allowed_networks)?,
        plain_text,
        tls,
        allowed_origins: origins(raw.http)?,
        topics: topics(raw.topic.unwrap_or_default(), &queues)?,
        queues,
        authority: Arc::new(
            Authority::new(rules, hosts, dev)
                .with_clients(clients)
                .with_issuers(JwtIssuers::new(issuers)),
        ),
        namespaces: namespaces.into_iter().map(|one| one.settings).collect(),
        limits: limits(raw.limits, shares)?,
        log: log(raw.log)?,
        audit: observing::audit(raw.audit)?,
        tracing: observing::tracing(raw.tracing)?,
        metrics: metrics(raw.metrics)?,
        warnings,
        given: Shown::default(),
        source: Source::default(),
    })
}

/// The memory of the first store. Each further one has a quarter of it.
fn store_bytes(shares: &Shares, further: usize) -> u64 {
    let quarters = 4 + u64::try_from(further).unwrap_or(u64::MAX);
    (shares.store / quarters * 4).min(STORE)
}

/// What a test may do to a broker nobody should do to one that others use. With `dev` it is clear that
/// it has nothing to protect.
fn test_control(raw: Given<bool>, listeners: &[ListenAddress], dev: bool) -> Check<bool> {
    let Some(raw) = raw.filter(|raw| *raw.get_ref()) else { return Ok(false) };
    match listeners.iter().find(|address| !address.is_loopback()) {
        Some(outside) if !dev => {
            let reason = format!(
                "other machines reach {outside}; listen at addresses of this machine alone, or use --dev"
            );
            refuse("test_control", raw.span(), reason)
        }
        Some(_) | None => Ok(true),
    }
}

fn data_dir(raw: Given<String>) -> Check<PathBuf> {
    match raw {
        Some(text) if text.get_ref().is_empty() => refuse("data", text.span(), "is empty"),
        Some(text) => Ok(PathBuf::from(text.into_inner())),
        None => Ok(PathBuf::from(DATA)),
    }
}

fn backup(raw: RawBackup, free_space_reserve: u64) -> Check<Option<BackupSettings>> {
    let keep = count("backup.keep", raw.keep, &BACKUPS, 7)?;
    let rate = raw.rate.map(|rate| size("backup.rate", Some(rate), &BACKUP_RATE, 0)).transpose()?;
    let copy = yes(raw.copy);
    Ok(match raw.directory {
        Some(text) if text.get_ref().is_empty() => {
            return refuse("backup.directory", text.span(), "is empty");
        }
        Some(text) => {
            let directory = PathBuf::from(text.into_inner());
            Some(BackupSettings { directory, keep, copy, rate, free_space_reserve })
        }
        None => None,
    })
}

pub(super) fn hosts(raw: Option<Vec<Spanned<String>>>) -> Check<Option<Vec<String>>> {
    let Some(raw) = raw else { return Ok(None) };
    for (index, host) in raw.iter().enumerate() {
        let text = host.get_ref();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            let reason = format!("{text:?} is not a host name (no scheme, no port)");
            return refuse(&format!("hosts[{index}]"), host.span(), reason);
        }
    }
    Ok(Some(raw.into_iter().map(Spanned::into_inner).collect()))
}

fn core(
    cache: Given<RawSize>,
    entities: Given<RawCount>,
    shares: &Shares,
) -> Check<BrokerSettings> {
    let mut settings = BrokerSettings::default();
    let default = settings.queues_max;
    settings.queues_max = count("limits.entities", entities, &ENTITIES, default)?;
    let default = u64::try_from(settings.cache_bytes_max).unwrap_or(u64::MAX);
    let default = default.min(shares.messages).max(*CACHE.start());
    let span = cache.as_ref().map_or(0..0, Spanned::span);
    let bytes = size("storage.cache", cache, &CACHE, default)?;
    if shares.messages_max < bytes {
        let (most, ceiling) = (show_size(shares.messages_max), show_size(shares.ceiling));
        let reason = format!("is more than {most}, the part for it of all memory ({ceiling})");
        return refuse("storage.cache", span, reason);
    }
    let Ok(bytes) = usize::try_from(bytes) else {
        return refuse("storage.cache", span, "is more than this machine can address");
    };
    settings.cache_bytes_max = bytes;
    // One queue with a backlog must not push out all others.
    settings.window_bytes_max = bytes / 8;
    Ok(settings)
}

pub(super) fn rules(raw: Vec<RawAccessRule>) -> Check<Vec<AccessRule>> {
    let mut rules: Vec<AccessRule> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("rule[{index}].{field}");
        let (name_span, name) = (raw.name.span(), raw.name.into_inner());
        if name.is_empty() || name.contains(char::is_control) {
            return refuse(&key("name"), name_span, "must be some text without control characters");
        }
        let primary_key = secret(&key("primary_key"), raw.primary_key)?;
        let secondary_key =
            raw.secondary_key.map(|raw| secret(&key("secondary_key"), raw)).transpose()?;
        let rights = rights(&key("rights"), &raw.rights)?;
        let entity = match &raw.entity {
            Some(text) => Some(queue_path(&key("entity"), text.get_ref(), text.span())?),
            None => None,
        };
        let rule = AccessRule::new(name, primary_key, secondary_key, rights, entity.as_ref());
        if rules.iter().any(|other| other.same_place(&rule)) {
            let reason = "a rule of this name exists for the same entity already";
            return refuse(&key("name"), name_span, reason);
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn secret(key: &str, raw: Spanned<Secret>) -> Check<Secret> {
    if raw.get_ref().is_empty() {
        return refuse(key, raw.span(), "an empty key would let everybody in");
    }
    Ok(raw.into_inner())
}

pub(super) fn rights(key: &str, raw: &Spanned<Vec<Spanned<String>>>) -> Check<Rights> {
    let mut rights = Rights::NONE;
    for right in raw.get_ref() {
        rights = match right.get_ref().to_ascii_lowercase().as_str() {
            "send" => Rights { send: true, ..rights },
            "listen" => Rights { listen: true, ..rights },
            "manage" => Rights::MANAGE,
            _ => {
                let reason = "a right is \"send\", \"listen\" or \"manage\"";
                return refuse(key, right.span(), reason);
            }
        };
    }
    if rights == Rights::NONE {
        return refuse(key, raw.span(), "a rule without rights is of no use");
    }
    Ok(rights)
}

/// The ceiling of the process, and what is below it.
fn shares(raw: Given<RawSize>) -> Check<Shares> {
    if raw.is_none() {
        return Ok(Shares::of_machine());
    }
    Ok(Shares::of(size("limits.memory", raw, &MEMORY, Shares::CEILING_MIN)?))
}

fn of_identity(raw: &mut RawLimits) -> Check<IdentityLimits> {
    let some = |key: &str, raw: Given<RawCount>| {
        raw.is_some().then(|| count(&format!("limits.{key}"), raw, &OF_IDENTITY, 1)).transpose()
    };
    Ok(IdentityLimits {
        connections_max: some("connections_per_identity", raw.connections_per_identity.take())?,
        links_max: some("links_per_identity", raw.links_per_identity.take())?,
        sends_per_second: some(
            "sends_per_second_per_identity",
            raw.sends_per_second_per_identity.take(),
        )?,
    })
}

/// The largest frame, if nobody says how large. It is kept until the last of it is there, so all
/// connections with a part of one must not have more than their share of the memory.
fn frame_size(shares: &Shares, connections: u32) -> u64 {
    let fair = shares.connections / u64::from(connections.max(1));
    (fair / 2 + 1).next_power_of_two().clamp(FRAME_MIN, FRAME.1)
}

fn limits(mut raw: RawLimits, shares: Shares) -> Check<Limits> {
    let of_identity = of_identity(&mut raw)?;
    let connections = count("limits.connections", raw.connections, &CONNECTIONS.0, CONNECTIONS.1)?;
    let links = count("limits.links_per_connection", raw.links_per_connection, &LINKS.0, LINKS.1)?;
    let frame = frame_size(&shares, connections);
    let frame = size("limits.max_frame_size", raw.max_frame_size, &FRAME.0, frame)?;
    let span = |key, raw, (bounds, default): &(RangeInclusive<Duration>, Duration)| {
        time(key, raw, bounds, *default)
    };
    Ok(Limits {
        connections_max: usize::try_from(connections).unwrap_or(usize::MAX),
        sessions_per_connection: count(
            "limits.sessions_per_connection",
            raw.sessions_per_connection,
            &SESSIONS.0,
            SESSIONS.1,
        )?,
        links_per_connection: usize::try_from(links).unwrap_or(usize::MAX),
        max_frame_size: u32::try_from(frame).unwrap_or(u32::MAX),
        idle_timeout: span("limits.idle_timeout", raw.idle_timeout, &IDLE)?,
        handshake_timeout: span("limits.handshake_timeout", raw.handshake_timeout, &HANDSHAKE)?,
        authorize_within: span(
            "limits.authorization_timeout",
            raw.authorization_timeout,
            &AUTHORIZATION,
        )?,
        drain_delay: span("limits.drain_delay", raw.drain_delay, &DRAIN_DELAY)?,
        settle_within: span("limits.settle_timeout", raw.settle_timeout, &SETTLE)?,
        stop_within: span("limits.stop_timeout", raw.stop_timeout, &STOP)?,
        of_identity,
        shares,
    })
}

fn log(raw: RawLog) -> Check<LogSettings> {
    let mut settings = LogSettings::default();
    if let Some(level) = raw.level {
        if level.get_ref().is_empty() || EnvFilter::try_new(level.get_ref()).is_err() {
            let reason = format!(
                "{:?} is not a level (error, warn, info, debug, trace) nor a list of directives as \
                 \"info,peeklock::net=debug\"",
                level.get_ref()
            );
            return refuse("log.level", level.span(), reason);
        }
        settings.level = level.into_inner();
    }
    if let Some(format) = raw.format {
        settings.format = match format.get_ref().as_str() {
            "human" => LogFormat::Human,
            "json" => LogFormat::Json,
            _ => return refuse("log.format", format.span(), "is \"human\" or \"json\""),
        };
    }
    Ok(settings)
}

fn metrics(raw: RawMetrics) -> Check<MetricsSettings> {
    let mut settings = MetricsSettings::default();
    if let Some(enabled) = raw.enabled {
        settings.enabled = enabled.into_inner();
    }
    if let Some(networks) = raw.allowed_networks {
        // None at all is a good choice: then it takes a token.
        settings.allowed_networks = only("metrics.allowed_networks", &networks)?;
    }
    settings.token = raw.token.map(|token| secret("metrics.token", token)).transpose()?;
    let default = settings.entities_max;
    settings.entities_max = count("metrics.entities", raw.entities, &SHOWN, default)?;
    Ok(settings)
}

pub(super) fn time(
    key: &str,
    raw: Given<String>,
    bounds: &RangeInclusive<Duration>,
    default: Duration,
) -> Check<Duration> {
    let Some(raw) = raw else { return Ok(default) };
    match parse_span(raw.get_ref()) {
        Ok(span) => within(key, &raw, span, bounds, show_span),
        Err(reason) => refuse(key, raw.span(), reason),
    }
}

pub(super) fn size(
    key: &str,
    raw: Given<RawSize>,
    bounds: &RangeInclusive<u64>,
    default: u64,
) -> Check<u64> {
    let Some(raw) = raw else { return Ok(default) };
    let size = match raw.get_ref() {
        RawSize::Bytes(bytes) => u64::try_from(*bytes).map_err(|_| "is negative".to_owned()),
        RawSize::Text(text) => parse_size(text),
    };
    match size {
        Ok(size) => within(key, &raw, size, bounds, show_size),
        Err(reason) => refuse(key, raw.span(), reason),
    }
}

pub(super) fn count<T>(
    key: &str,
    raw: Given<RawCount>,
    bounds: &RangeInclusive<T>,
    default: T,
) -> Check<T>
where
    T: TryFrom<i64> + PartialOrd + Copy + Display,
{
    let Some(raw) = raw else { return Ok(default) };
    if let Ok(count) = T::try_from(*raw.get_ref()) {
        return within(key, &raw, count, bounds, |count| count.to_string());
    }
    let reason =
        format!("{} is not between {} and {}", raw.get_ref(), bounds.start(), bounds.end());
    refuse(key, raw.span(), reason)
}

pub(super) fn within<R, T: PartialOrd + Copy>(
    key: &str,
    raw: &Spanned<R>,
    value: T,
    bounds: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Check<T> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (show(*bounds.start()), show(*bounds.end()));
    refuse(key, raw.span(), format!("{} is not between {least} and {most}", show(value)))
}

pub(super) fn parsed<T: std::str::FromStr<Err = String>>(
    key: &str,
    raw: &Spanned<String>,
) -> Check<T> {
    raw.get_ref().parse().or_else(|reason: String| refuse(key, raw.span(), reason))
}

pub(super) fn refuse<T>(key: &str, span: Range<usize>, reason: impl Into<String>) -> Check<T> {
    Err(Problem { key: key.to_owned(), span, reason: reason.into() })
}
