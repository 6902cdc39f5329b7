//! What is true once the configuration was read: checked, complete, and all that travels.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::{BrokerSettings, QueueSettings};
use peeklock_core::topic::rules::RuleDescription;
use peeklock_core::topic::settings::TopicSettings;

use super::{Given, Source};
use crate::auth::{Authority, Secret, Url};
use crate::namespaces::NamespaceName;
use crate::net::AllowedNetworks;
use crate::pressure::{IdentityLimits, Shares};

/// Everything the broker was told. Each part of the broker gets its own slice.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Development: the well-known rule and key of the Service Bus emulator are valid.
    pub dev: bool,
    /// The broker runs in the place of Microsoft's emulator, and says that it is up in its words.
    pub emulator: bool,
    /// Messages are kept in memory only and are gone with the process: for tests.
    pub ephemeral: bool,
    /// The clock can be steered by whoever has the right Manage: for tests.
    pub virtual_time: bool,
    /// Namespaces can be made and dropped by whoever has the right Manage: for tests.
    pub test_control: bool,
    /// Where the store is, unless `ephemeral`.
    pub data_dir: PathBuf,
    /// How carefully rows are kept.
    pub storage: StorageSettings,
    /// Where backups go, if there are any.
    pub backup: Option<BackupSettings>,
    /// Memory of the core, and its bounds.
    pub core: BrokerSettings,
    /// Addresses to listen at, in the order given; at least one.
    pub listeners: Vec<ListenAddress>,
    /// From where peers may connect at all.
    pub allowed_networks: AllowedNetworks,
    /// Whether other machines may connect without TLS. This one always may.
    pub plain_text: bool,
    /// The files of TLS, if there is any.
    pub tls: Option<TlsSettings>,
    /// The web pages whose scripts may connect.
    pub allowed_origins: AllowedOrigins,
    /// Queues that exist because the configuration says so.
    pub queues: Vec<QueueDeclaration>,
    /// Topics that exist because the configuration says so.
    pub topics: Vec<TopicDeclaration>,
    /// Who may do what.
    pub authority: Arc<Authority>,
    /// Namespaces beside the one that all this describes.
    pub namespaces: Vec<NamespaceSettings>,
    /// What one peer, and all of them, may take.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where it is remembered who has changed what.
    pub audit: AuditSettings,
    /// Where spans about messages go, if anywhere.
    pub tracing: Option<TracingSettings>,
    /// What is counted, and who may see it.
    pub metrics: MetricsSettings,
    /// What a person should know about this configuration; to be logged once logging works.
    pub warnings: Vec<String>,
    /// What the sources say, key by key and without secrets; all other keys have their defaults.
    pub given: Given,
    /// Where all this came from.
    pub source: Source,
}

/// The least memory for messages: below it pages of a deep backlog would push each other out.
pub const CACHE_BYTES_MIN: usize = 8 << 20;

/// A namespace that the configuration declares beside the default one.
#[derive(Clone, Debug)]
pub struct NamespaceSettings {
    /// Its name; unique among the declarations.
    pub name: NamespaceName,
    /// The hosts it is found by, in lower case; none: by its name.
    pub hosts: Vec<String>,
    /// Queues that exist because the configuration says so.
    pub queues: Vec<QueueDeclaration>,
    /// Topics that exist because the configuration says so.
    pub topics: Vec<TopicDeclaration>,
    /// Who may do what in it.
    pub authority: Arc<Authority>,
}

/// How carefully rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Sends are refused while the disk has less free space than this.
    pub free_space_reserve: u64,
    /// Start although the log of the store is damaged, giving up what stands behind the damage.
    pub accept_data_loss: bool,
    /// Memory of the default namespace's store; more than it has use for changes nothing.
    pub store_bytes: u64,
}

/// Where backups go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSettings {
    /// The folder that has them all.
    pub directory: PathBuf,
    /// How many stay when a new one is there.
    pub keep: usize,
    /// Files are copied even where a link would do, so that a backup is apart from the store.
    pub copy: bool,
    /// Octets to read and write in a second, at most.
    pub rate: Option<u64>,
    /// What copies leave free on the disk.
    pub free_space_reserve: u64,
}

/// The files of TLS, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate of the broker, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that vouch for clients; without them no client is asked for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Web pages by their origin, `SCHEME://HOST` with a port if it is not the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    /// These, in any case; `*` stands for all.
    pub fn new(origins: impl IntoIterator<Item = String>) -> Self {
        Self(origins.into_iter().map(|origin| origin.to_lowercase()).collect())
    }

    /// Whether scripts of a page may connect.
    pub fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }
}

/// `HOST:PORT` to listen at; the host is a name or an address, brackets of IPv6 taken off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenAddress {
    host: String,
    port: u16,
    /// Whether the broker does not start without it.
    pub(crate) is_needed: bool,
}

impl ListenAddress {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 takes a free one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it, as far as its text tells.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:PORT, as 127.0.0.1:5672 or [::1]:5672");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let fits = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(is_name),
        };
        if fits { Ok(Self { host: host.to_owned(), port, is_needed: true }) } else { Err(wrong()) }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A queue that the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDeclaration {
    /// Its path; unique among the declarations.
    pub path: EntityPath,
    /// What it should be like.
    pub settings: QueueSettings,
    /// Declared by name alone: created with these settings when missing, left as it is when there.
    pub only_if_missing: bool,
}

/// A topic that the configuration declares.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDeclaration {
    /// Its path; unique among the declarations of topics and queues.
    pub path: EntityPath,
    /// What it should be like.
    pub settings: TopicSettings,
    /// The subscriptions it should have; there may be others.
    pub subscriptions: Vec<SubscriptionDeclaration>,
}

/// A subscription that the configuration declares.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionDeclaration {
    /// Its path; unique among the declarations.
    pub path: EntityPath,
    /// What it should be like.
    pub settings: QueueSettings,
    /// The rules it should have; nothing to leave those alone that it has.
    pub rules: Option<Vec<RuleDescription>>,
}

/// What one peer, and all of them, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; the next one is closed at once.
    pub connections_max: usize,
    /// AMQP sessions of a connection.
    pub sessions_per_connection: u16,
    /// Links of a connection, all its sessions together.
    pub links_per_connection: usize,
    /// The largest frame a peer may send.
    pub max_frame_size: u32,
    /// A peer silent for so long is gone; half of it is what the peer is told.
    pub idle_timeout: Duration,
    /// From accept to `open`, at the most.
    pub handshake_timeout: Duration,
    /// A connection that was granted nothing for so long is closed.
    pub authorize_within: Duration,
    /// From the moment when the broker says that it is not ready until it stops to listen.
    pub drain_delay: Duration,
    /// For so long, at the most, receivers may settle what they have when the broker stops.
    pub settle_within: Duration,
    /// From the moment when it stops to listen until connections are cut.
    pub stop_within: Duration,
    /// What one identity may take.
    pub of_identity: IdentityLimits,
    /// The memory of the process, and who gets how much of it.
    pub shares: Shares,
}

/// Where it is remembered who has changed what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// A file of its own; none: the log.
    pub file: Option<PathBuf>,
}

/// Where spans about messages go.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// The collector, without the path for spans.
    pub endpoint: Url,
    /// The part of all traces that is told, from 0 to 1.
    pub sample_ratio: f64,
    /// What this broker is called there.
    pub service_name: String,
    /// Who vouches for the collector; none: whom the system trusts.
    pub ca_file: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A level, or directives as in `info,peeklock::net=debug`; checked.
    pub level: String,
    /// For people or for programs.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Human }
    }
}

/// What is counted, and who may see it.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// Whether anything is.
    pub enabled: bool,
    /// From where it can be seen by anybody.
    pub allowed_networks: AllowedNetworks,
    /// Who shows it may see it from everywhere.
    pub token: Option<Secret>,
    /// How many queues, topics and subscriptions are shown one by one, all namespaces together.
    pub entities_max: usize,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        let allowed_networks = AllowedNetworks::near();
        Self { enabled: true, allowed_networks, token: None, entities_max: 10_000 }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text.
    Human,
    /// One JSON object a line.
    Json,
}
