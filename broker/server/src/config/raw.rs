//! What a source of configuration says: text with its place, nothing checked, everything optional.
//!
//! The same shape is filled from the file, from each environment variable and from the command line;
//! a later source overlays an earlier one value by value, lists as a whole. [`super::settings`] holds
//! what is true in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use toml::Spanned;

use crate::auth::Secret;

/// A value, and the bytes of the source it was read from.
pub(super) type Given<T> = Option<Spanned<T>>;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub data: Given<String>,
    pub ephemeral: Given<bool>,
    pub virtual_time: Given<bool>,
    pub test_control: Given<bool>,
    pub dev: Given<bool>,
    pub listen: Option<Vec<Spanned<String>>>,
    pub allowed_networks: Option<Vec<Spanned<String>>>,
    pub plain_text: Given<bool>,
    pub hosts: Option<Vec<Spanned<String>>>,
    pub queue: Option<Vec<RawQueue>>,
    pub topic: Option<Vec<RawTopic>>,
    pub rule: Option<Vec<RawAccessRule>>,
    pub namespace: Option<Vec<RawNamespace>>,
    pub issuer: Option<Vec<RawIssuer>>,
    #[serde(default)]
    pub tls: RawTls,
    #[serde(default)]
    pub http: RawHttp,
    #[serde(default)]
    pub limits: RawLimits,
    #[serde(default)]
    pub storage: RawStorage,
    #[serde(default)]
    pub backup: RawBackup,
    #[serde(default)]
    pub log: RawLog,
    #[serde(default)]
    pub audit: RawAudit,
    #[serde(default)]
    pub tracing: RawTracing,
    #[serde(default)]
    pub metrics: RawMetrics,
}

/// A namespace beside the default one.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNamespace {
    pub name: Spanned<String>,
    pub hosts: Option<Vec<Spanned<String>>>,
    pub queue: Option<Vec<RawQueue>>,
    pub topic: Option<Vec<RawTopic>>,
    pub rule: Option<Vec<RawAccessRule>>,
    pub issuer: Option<Vec<RawIssuer>>,
}

/// A namespace that a test wants.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWanted {
    pub virtual_time: Option<bool>,
    pub queue: Option<Vec<RawQueue>>,
    pub topic: Option<Vec<RawTopic>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    pub name: Spanned<String>,
    pub lock_duration: Given<String>,
    pub max_delivery_count: Given<RawCount>,
    pub max_message_size: Given<RawSize>,
    pub max_size: Given<RawSize>,
    pub requires_session: Given<bool>,
    pub default_message_time_to_live: Given<String>,
    pub dead_lettering_on_message_expiration: Given<bool>,
    pub duplicate_detection_history_time_window: Given<String>,
    pub forward_to: Given<String>,
    pub forward_dead_lettered_messages_to: Given<String>,
    pub auto_delete_on_idle: Given<String>,
    pub status: Given<String>,
    pub user_metadata: Given<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopic {
    pub name: Spanned<String>,
    pub max_message_size: Given<RawSize>,
    pub max_size: Given<RawSize>,
    pub default_message_time_to_live: Given<String>,
    pub duplicate_detection_history_time_window: Given<String>,
    pub auto_delete_on_idle: Given<String>,
    pub status: Given<String>,
    pub user_metadata: Given<String>,
    pub subscription: Option<Vec<RawSubscription>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSubscription {
    pub name: Spanned<String>,
    pub lock_duration: Given<String>,
    pub max_delivery_count: Given<RawCount>,
    pub requires_session: Given<bool>,
    pub default_message_time_to_live: Given<String>,
    pub dead_lettering_on_message_expiration: Given<bool>,
    pub dead_lettering_on_filter_evaluation_exceptions: Given<bool>,
    pub forward_to: Given<String>,
    pub forward_dead_lettered_messages_to: Given<String>,
    pub auto_delete_on_idle: Given<String>,
    pub status: Given<String>,
    pub user_metadata: Given<String>,
    pub rule: Option<Vec<RawRule>>,
}

/// A rule of a subscription.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub name: Spanned<String>,
    pub sql_filter: Given<String>,
    pub correlation_filter: Option<RawCorrelation>,
    pub sql_action: Given<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCorrelation {
    pub correlation_id: Given<String>,
    pub message_id: Given<String>,
    pub to: Given<String>,
    pub reply_to: Given<String>,
    pub label: Given<String>,
    pub session_id: Given<String>,
    pub reply_to_session_id: Given<String>,
    pub content_type: Given<String>,
    pub properties: Option<BTreeMap<String, Spanned<toml::Value>>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccessRule {
    pub name: Spanned<String>,
    pub primary_key: Spanned<Secret>,
    pub secondary_key: Given<Secret>,
    pub rights: Spanned<Vec<Spanned<String>>>,
    pub entity: Given<String>,
}

/// An identity provider.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    pub issuer: Spanned<String>,
    pub audiences: Spanned<Vec<Spanned<String>>>,
    pub jwks_uri: Given<String>,
    pub algorithms: Given<Vec<Spanned<String>>>,
    pub claims: Given<Vec<Spanned<String>>>,
    pub clock_skew: Given<String>,
    pub ca_file: Given<String>,
    pub plain_text: Given<bool>,
    pub refresh_every: Given<String>,
    pub keys_kept_for: Given<String>,
    pub role: Option<Vec<RawRole>>,
}

/// What a role of an identity provider is worth.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRole {
    pub name: Spanned<String>,
    pub rights: Spanned<Vec<Spanned<String>>>,
    pub entity: Given<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub certificate: Given<String>,
    pub key: Given<String>,
    pub client_ca: Given<String>,
    pub client: Option<Vec<RawTlsClient>>,
}

/// A client that is known by its certificate.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTlsClient {
    pub common_name: Given<String>,
    pub dns: Given<String>,
    pub uri: Given<String>,
    pub email: Given<String>,
    pub rights: Spanned<Vec<Spanned<String>>>,
    pub entity: Given<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    pub allowed_origins: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub entities: Given<RawCount>,
    pub connections: Given<RawCount>,
    pub sessions_per_connection: Given<RawCount>,
    pub links_per_connection: Given<RawCount>,
    pub max_frame_size: Given<RawSize>,
    pub idle_timeout: Given<String>,
    pub handshake_timeout: Given<String>,
    pub authorization_timeout: Given<String>,
    pub drain_delay: Given<String>,
    pub settle_timeout: Given<String>,
    pub stop_timeout: Given<String>,
    pub memory: Given<RawSize>,
    pub connections_per_identity: Given<RawCount>,
    pub links_per_identity: Given<RawCount>,
    pub sends_per_second_per_identity: Given<RawCount>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStorage {
    pub cache: Given<RawSize>,
    pub free_space_reserve: Given<RawSize>,
    pub accept_data_loss: Given<bool>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackup {
    pub directory: Given<String>,
    pub keep: Given<RawCount>,
    pub copy: Given<bool>,
    pub rate: Given<RawSize>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub level: Given<String>,
    pub format: Given<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    pub enabled: Given<bool>,
    pub allowed_networks: Option<Vec<Spanned<String>>>,
    pub token: Given<Secret>,
    pub entities: Given<RawCount>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    pub file: Given<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTracing {
    pub otlp_endpoint: Given<String>,
    pub sample_ratio: Given<f64>,
    pub service_name: Given<String>,
    pub ca_file: Given<String>,
}

/// A count as TOML writes it; negative ones are refused with the bounds, not by type.
pub(super) type RawCount = i64;

/// A number of bytes: `1048576` or `"1 MiB"`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a number of bytes, as 1048576 or \"1 MiB\"")]
pub(super) enum RawSize {
    Bytes(i64),
    Text(String),
}

/// Takes what `over` says before what `base` says.
macro_rules! overlay {
    ($base:expr, $over:expr; $($field:ident),+) => { $($base.$field = $over.$field.or($base.$field.take());)+ };
}

impl RawSettings {
    /// Overlays a later source: what it says wins, what it leaves out stays.
    pub(super) fn overlay(&mut self, over: Self) {
        overlay!(self, over; data, ephemeral, virtual_time, test_control, dev, listen, allowed_networks, plain_text,
            hosts, queue, topic, rule, namespace, issuer);
        overlay!(self.tls, over.tls; certificate, key, client_ca, client);
        overlay!(self.http, over.http; allowed_origins);
        overlay!(self.limits, over.limits; entities, connections, sessions_per_connection, links_per_connection,
            max_frame_size, idle_timeout, handshake_timeout, authorization_timeout, drain_delay, settle_timeout,
            stop_timeout, memory, connections_per_identity, links_per_identity, sends_per_second_per_identity);
        overlay!(self.storage, over.storage; cache, free_space_reserve, accept_data_loss);
        overlay!(self.backup, over.backup; directory, keep, copy, rate);
        overlay!(self.log, over.log; level, format);
        overlay!(self.audit, over.audit; file);
        overlay!(self.tracing, over.tracing; otlp_endpoint, sample_ratio, service_name, ca_file);
        overlay!(self.metrics, over.metrics; enabled, allowed_networks, token, entities);
    }
}

/// Nothing that is shown has it.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Complains of a wrong type without quoting the value, which may be a key all the same.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Self::new(text)),
            Ok(_) | Err(_) => Err(de::Error::custom("a key must be a string in quotes")),
        }
    }
}
