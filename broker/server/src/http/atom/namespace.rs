//! The namespace itself: `NamespaceInfo`.

use std::net::IpAddr;

use peeklock_core::time::Timestamp;

use super::entry::Entry;
use super::time;
use super::xml::{SCHEMA_INSTANCE, SERVICE_BUS, Writer};

/// What the namespace is called: the first part of the host's name.
pub(super) fn name(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        // The colons inside [::1] are not that of a port.
        Some((host, port)) if !port.contains(']') => host,
        _ => host,
    };
    if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
        return host;
    }
    host.split('.').next().unwrap_or(host)
}

/// Bounds are those of the tier Premium, so that is what it is. It is as old as the process: the store
/// does not say.
pub(super) fn entry(host: &str, since: Timestamp) -> Entry {
    let name = name(host);
    let mut writer = Writer::default();
    writer.open("NamespaceInfo", &[("xmlns", SERVICE_BUS), ("xmlns:i", SCHEMA_INSTANCE)]);
    writer.leaf("CreatedTime", &time::show_moment(since));
    writer.leaf("MessagingSKU", "Premium");
    writer.value("MessagingUnits", 1);
    writer.leaf("ModifiedTime", &time::show_moment(since));
    writer.leaf("Name", name);
    writer.leaf("NamespaceType", "Messaging");
    writer.close("NamespaceInfo");
    let content = writer.finish();
    Entry { title: name.to_owned(), published: None, updated: since, has_author: true, content }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_namespace_is_named_by_its_host() {
        for (host, expected) in [
            ("mine.servicebus.windows.net", "mine"),
            ("localhost:5300", "localhost"),
            ("127.0.0.1:5300", "127.0.0.1"),
            ("[::1]:5300", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(name(host), expected);
        }
    }
}
