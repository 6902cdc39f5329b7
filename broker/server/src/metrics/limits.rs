//! How often somebody came to a limit.

use prometheus::{IntCounter, Registry};

use super::families;

/// What has bounds. Each that holds somebody back is counted under its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// Connections of the whole broker.
    Connections,
    /// The networks that peers may come from.
    AllowedNetworks,
    /// The time from connecting to the AMQP open, or to the head of a request.
    HandshakeTimeout,
    /// The time in which a right has to be shown.
    AuthorizationTimeout,
    /// Silence of a peer.
    IdleTimeout,
    /// AMQP sessions of a connection.
    SessionsPerConnection,
    /// Links of a connection.
    LinksPerConnection,
    /// Octets of a frame.
    FrameSize,
    /// Octets of a message.
    MessageSize,
    /// Octets of an entity.
    EntitySize,
    /// Queues and topics.
    Entities,
    /// The free disk space below which sends are refused.
    FreeSpaceReserve,
    /// Memory of the whole broker.
    Memory,
    /// Connections of one identity.
    ConnectionsPerIdentity,
    /// Links of one identity.
    LinksPerIdentity,
    /// Messages that one identity sends in a second.
    SendRatePerIdentity,
    /// Spans on their way to a collector.
    TraceSpans,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 17] = [
        Self::Connections,
        Self::AllowedNetworks,
        Self::HandshakeTimeout,
        Self::AuthorizationTimeout,
        Self::IdleTimeout,
        Self::SessionsPerConnection,
        Self::LinksPerConnection,
        Self::FrameSize,
        Self::MessageSize,
        Self::EntitySize,
        Self::Entities,
        Self::FreeSpaceReserve,
        Self::Memory,
        Self::ConnectionsPerIdentity,
        Self::LinksPerIdentity,
        Self::SendRatePerIdentity,
        Self::TraceSpans,
    ];

    /// Its name in metrics, and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::AllowedNetworks => "allowed_networks",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::AuthorizationTimeout => "authorization_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::SessionsPerConnection => "sessions_per_connection",
            Self::LinksPerConnection => "links_per_connection",
            Self::FrameSize => "frame_size",
            Self::MessageSize => "message_size",
            Self::EntitySize => "entity_size",
            Self::Entities => "entities",
            Self::FreeSpaceReserve => "free_space_reserve",
            Self::Memory => "memory",
            Self::ConnectionsPerIdentity => "connections_per_identity",
            Self::LinksPerIdentity => "links_per_identity",
            Self::SendRatePerIdentity => "send_rate_per_identity",
            Self::TraceSpans => "trace_spans",
        }
    }
}

/// A counter for each limit, there from the beginning: what was never hit is zero, not missing.
pub(super) struct LimitHits([IntCounter; Limit::ALL.len()]);

impl LimitHits {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = families::LIMIT_HITS.counters(registry);
        Self(Limit::ALL.map(|limit| counters.with_label_values(&[limit.name()])))
    }

    pub(super) fn add(&self, limit: Limit, count: u32) {
        self.0[limit as usize].inc_by(count.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Page;

    #[test]
    fn each_limit_is_counted_under_its_own_name() {
        let registry = Registry::new();
        let hits = LimitHits::new(&registry);
        for (count, limit) in (0..).zip(Limit::ALL) {
            hits.add(limit, count);
        }
        let text = Page::of(&registry).into_text();
        for (count, limit) in Limit::ALL.into_iter().enumerate() {
            let line = format!("peeklock_limit_hits_total{{limit=\"{}\"}} {count}\n", limit.name());
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
