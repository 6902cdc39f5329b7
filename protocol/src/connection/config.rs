//! What a connection is told at its birth.

use std::time::Duration;

use bytes::Bytes;

use crate::limits;
use crate::serial::SerialNumber;
use crate::value::{Map, Str, Symbol};

/// Settings of one end of a connection. One `Arc` of it serves every connection of a listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names this process to the peer; clients only log it.
    pub container_id: Str,
    /// The largest frame we take once the connection is open.
    pub max_frame_size: u32,
    /// The highest channel a peer may use. JS, .NET and Java open one AMQP session per link.
    pub channel_max: u16,
    /// The highest handle a peer may use within one session.
    pub handle_max: u32,
    /// Transfer frames a session may have under way towards us.
    pub incoming_window: u32,
    /// What we announce as our own outgoing window. It limits nothing here; rhea wants it positive.
    pub outgoing_window: u32,
    /// A peer that is silent for this long is closed. Half of it is what the peer is told (§2.4.5).
    pub idle_timeout: Option<Duration>,
    /// How long the peer may take from the first byte to its open.
    pub handshake_timeout: Duration,
    /// The largest message of a link whose attach reply names no other size; 0 is no limit.
    pub max_message_size: u64,
    /// Bytes of not yet complete multi-frame deliveries on one connection.
    pub partial_bytes_max: usize,
    /// Attaches that may wait for the caller's answer on one connection.
    pub pending_attach_max: usize,
    /// Links on one connection.
    pub links_max: usize,
    /// The server's side of SASL.
    pub sasl: SaslPolicy,
    /// With this much unwritten output, [`sendable`](crate::Connection::sendable) answers 0.
    pub output_bytes_max: usize,
    /// Announced in open.
    pub offered_capabilities: Option<Vec<Symbol>>,
    /// Announced in open.
    pub properties: Option<Map>,
    /// Where our transfer-ids, delivery-ids and delivery-counts start. Zero in service, as clients
    /// are used to it; tests start just before the wrap.
    pub first_serial: SerialNumber,
}

impl Default for Config {
    /// What suits a broker; the reasons stand with the numbers.
    fn default() -> Self {
        Self {
            container_id: Str::from_static("peeklock"),
            // What the service documents for its Premium tier; Python asks for the same.
            max_frame_size: 1_048_576,
            // azure-amqp's own value.
            channel_max: 8191,
            // What the service itself announces.
            handle_max: 255,
            incoming_window: 5000,
            outgoing_window: 5000,
            // The peer is told 120 s; azure-amqp refuses less than 5 s.
            idle_timeout: Some(Duration::from_mins(4)),
            handshake_timeout: Duration::from_secs(20),
            max_message_size: 1_048_576,
            partial_bytes_max: 64 << 20,
            pending_attach_max: 1000,
            links_max: 5000,
            sasl: SaslPolicy::default(),
            output_bytes_max: 256 << 10,
            offered_capabilities: None,
            properties: None,
            first_serial: SerialNumber(0),
        }
    }
}

impl Config {
    /// The smallest frame that may be agreed on is 512 bytes (§2.3.1).
    pub(crate) fn max_frame_size(&self) -> u32 {
        self.max_frame_size.max(limits::MIN_MAX_FRAME_SIZE)
    }
}

/// How a server wants its clients to authenticate.
#[derive(Clone, Debug)]
pub struct SaslPolicy {
    /// Offered in this order. A client that picks another is refused without asking the caller.
    pub mechanisms: Vec<Symbol>,
    /// Close a client that starts with the AMQP header instead of the SASL one.
    pub required: bool,
}

impl Default for SaslPolicy {
    fn default() -> Self {
        let mechanisms = ["MSSBCBS", "PLAIN", "ANONYMOUS"].map(Symbol::from_static).to_vec();
        Self { mechanisms, required: false }
    }
}

/// What a client says about itself.
#[derive(Clone, Debug, Default)]
pub struct ClientOpen {
    /// The host it believes it talks to.
    pub hostname: Option<Str>,
    /// `None` takes the one of [`Config`].
    pub container_id: Option<Str>,
    /// How it authenticates.
    pub sasl: ClientSasl,
    /// `None` takes the one of [`Config`].
    pub idle_time_out: Option<Duration>,
    /// `None` takes those of [`Config`].
    pub properties: Option<Map>,
}

/// A client's SASL mechanism.
#[derive(Clone, Debug, Default)]
pub enum ClientSasl {
    /// No SASL layer at all.
    None,
    /// ANONYMOUS.
    #[default]
    Anonymous,
    /// PLAIN.
    Plain {
        /// The authentication identity.
        user: String,
        /// Sent as it is: use TLS.
        password: String,
    },
    /// EXTERNAL: the client certificate says who it is.
    External,
    /// What .NET uses with claims based security.
    MsSbCbs,
    /// Any other.
    Raw {
        /// Its name.
        mechanism: Symbol,
        /// Its initial response.
        response: Option<Bytes>,
    },
}

/// How often a peer came to the bounds of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Sessions above [`Config::channel_max`].
    pub sessions: u32,
    /// Links above [`Config::links_max`].
    pub links: u32,
    /// Frames above `max_frame_size`, or above what is taken before the open.
    pub frame_size: u32,
    /// Silence for [`Config::idle_timeout`].
    pub idle: u32,
    /// No open within [`Config::handshake_timeout`].
    pub handshake: u32,
}
