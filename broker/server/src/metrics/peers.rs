//! Who is connected, by what, and with which links.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge, Registry};

use super::{Metrics, families};

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Amqp,
    AmqpTls,
    Websocket,
    WebsocketTls,
    Http,
    Https,
}

impl Protocol {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Amqp, "amqp"),
        (Self::AmqpTls, "amqp_tls"),
        (Self::Websocket, "websocket"),
        (Self::WebsocketTls, "websocket_tls"),
        (Self::Http, "http"),
        (Self::Https, "https"),
    ];
}

/// What a link is for, as its peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkRole {
    Sender,
    Receiver,
    Management,
    Cbs,
    Coordinator,
}

impl LinkRole {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Sender, "sender"),
        (Self::Receiver, "receiver"),
        (Self::Management, "management"),
        (Self::Cbs, "cbs"),
        (Self::Coordinator, "coordinator"),
    ];
}

/// Whose credit it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CreditRole {
    /// What the broker allows the peer.
    Sender,
    /// What the peer allows the broker.
    Receiver,
}

impl CreditRole {
    pub(crate) const COUNT: usize = 2;
    /// In the order of their numbers.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::Sender, Self::Receiver];

    const fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// How many there are, and of connections, how many there were.
pub(super) struct Peers {
    connections: [IntGauge; Protocol::ALL.len()],
    connected: [IntCounter; Protocol::ALL.len()],
    links: [IntGauge; LinkRole::ALL.len()],
    credit: [IntGauge; CreditRole::COUNT],
}

impl Peers {
    pub(super) fn new(registry: &Registry) -> Self {
        let connections = families::CONNECTIONS.gauges(registry);
        let connected = families::CONNECTIONS_TOTAL.counters(registry);
        let links = families::LINKS.gauges(registry);
        let credit = families::LINK_CREDIT.gauges(registry);
        Self {
            connections: Protocol::ALL.map(|(_, name)| connections.with_label_values(&[name])),
            connected: Protocol::ALL.map(|(_, name)| connected.with_label_values(&[name])),
            links: LinkRole::ALL.map(|(_, name)| links.with_label_values(&[name])),
            credit: CreditRole::ALL.map(|role| credit.with_label_values(&[role.name()])),
        }
    }
}

/// Counts a connection for as long as it lives.
pub(crate) struct CountedConnection {
    metrics: Arc<Metrics>,
    protocol: Protocol,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.metrics.peers.connections[self.protocol as usize].dec();
    }
}

/// Counts a link for as long as it lives.
pub(crate) struct CountedLink {
    metrics: Arc<Metrics>,
    role: LinkRole,
}

impl Drop for CountedLink {
    fn drop(&mut self) {
        self.metrics.peers.links[self.role as usize].dec();
    }
}

impl Metrics {
    /// Counts a connection that has begun to speak.
    pub(crate) fn connection(self: &Arc<Self>, protocol: Protocol) -> CountedConnection {
        self.peers.connected[protocol as usize].inc();
        self.peers.connections[protocol as usize].inc();
        CountedConnection { metrics: Arc::clone(self), protocol }
    }

    /// Counts a link.
    pub(crate) fn link(self: &Arc<Self>, role: LinkRole) -> CountedLink {
        self.peers.links[role as usize].inc();
        CountedLink { metrics: Arc::clone(self), role }
    }
}

impl Metrics {
    /// There is so much more credit, or less.
    pub(crate) fn add_credit(&self, role: CreditRole, change: i64) {
        self.peers.credit[role as usize].add(change);
    }

    /// That of each role, in their order.
    #[cfg(test)]
    pub(crate) fn credit(&self) -> [i64; CreditRole::COUNT] {
        CreditRole::ALL.map(|role| self.peers.credit[role as usize].get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsSettings;
    use crate::metrics::Page;

    #[test]
    fn what_is_there_is_counted_under_its_own_name_until_it_goes() {
        let metrics = Metrics::new(MetricsSettings::default());
        let text = || Page::of(metrics.registry()).into_text();
        for (protocol, name) in Protocol::ALL {
            let now = format!("peeklock_connections{{protocol=\"{name}\"}}");
            let ever = format!("peeklock_connections_total{{protocol=\"{name}\"}}");
            let first = metrics.connection(protocol);
            let second = metrics.connection(protocol);
            assert!(text().contains(&format!("{now} 2\n")), "{}", text());
            drop((first, second));
            assert!(text().contains(&format!("{now} 0\n")), "{}", text());
            assert!(text().contains(&format!("{ever} 2\n")), "{}", text());
        }
        for (role, name) in LinkRole::ALL {
            let link = metrics.link(role);
            assert!(text().contains(&format!("peeklock_links{{role=\"{name}\"}} 1\n")));
            drop(link);
            assert!(text().contains(&format!("peeklock_links{{role=\"{name}\"}} 0\n")));
        }
    }
}
