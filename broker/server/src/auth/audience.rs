//! What a token or a rule is about: a path in the namespace, and everything below it.

use std::fmt;

use peeklock_core::entity::path::EntityPath;
use percent_encoding::percent_decode_str;

use super::Resource;

/// Octets of the longest path that an entity can have: a name of 260 characters, `/subscriptions/` and one
/// of 50, and the longest name of a subqueue. A rule is at no longer one.
const PLACE_LEN_MAX: usize = 400;

/// Octets of the longest path that a token may be about: a request for a message over HTTP names its entity,
/// `/messages/`, a message id of 128 characters and a lock. A connection keeps the paths of its tokens.
const AUDIENCE_LEN_MAX: usize = 1024;

/// Segments that are no names: what stands before them is the entity.
const STRUCTURE: [&str; 3] = ["subscriptions", "rules", "messages"];

/// A path in lower case without slashes at its ends; empty for the namespace as a whole. From the
/// configuration it may be a pattern: a `*` in it stands for any characters but a slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ResourcePath {
    text: String,
    is_pattern: bool,
}

impl ResourcePath {
    /// The path that an action is checked against.
    pub(super) fn of(resource: Resource<'_>) -> Self {
        Self::exactly(&resource.to_string())
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    fn exactly(path: &str) -> Self {
        Self { text: path.to_lowercase(), is_pattern: false }
    }

    /// Of entities whose names fit, and all below them. Only for what the configuration says: in what a
    /// peer says a `*` stands for itself.
    pub fn pattern(text: &str) -> Self {
        Self { text: text.to_lowercase(), is_pattern: text.contains('*') }
    }

    /// Where a rule that belongs to an entity is valid.
    pub(super) fn of_entity(path: &EntityPath) -> Self {
        Self::of(Resource::Entity(path))
    }

    /// Whether `other` is this path or lies below it. Below means behind a slash: `order` does not
    /// cover `orders`.
    pub fn covers(&self, other: &ResourcePath) -> bool {
        if self.text.is_empty() {
            return true;
        }
        if self.is_pattern {
            let mut segments = other.text.split('/');
            return self
                .text
                .split('/')
                .all(|pattern| segments.next().is_some_and(|segment| fits(pattern, segment)));
        }
        let rest = other.text.strip_prefix(&self.text);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path and those above it, as far as there can be entities; not that of the namespace.
    pub(super) fn and_above(&self) -> impl Iterator<Item = &str> {
        let ends = self.text.bytes().enumerate().filter(|(_, octet)| *octet == b'/');
        let above = ends.map(|(end, _)| end).take_while(|end| *end <= PLACE_LEN_MAX);
        let whole = Some(self.text.len()).filter(|end| *end <= PLACE_LEN_MAX);
        above.chain(whole).filter_map(|end| self.text.get(..end)).filter(|path| !path.is_empty())
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An audience taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Audience {
    /// In lower case, without a port.
    pub host: String,
    pub path: ResourcePath,
}

impl Audience {
    /// Reads a URI as clients write it: any scheme or none, a host with or without a port, a path that
    /// may be percent-encoded, a query that does not matter. None if there is no host, or the path is no UTF-8
    /// or longer than anything here.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        // Some SDKs sign the whole address of a request.
        let address = uri.split_once('?').map_or(uri, |(address, _)| address);
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = without_port(authority);
        if host.is_empty() {
            return None;
        }
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let path = path.trim_matches('/');
        if AUDIENCE_LEN_MAX < path.len() {
            return None;
        }
        let path = ResourcePath::exactly(path);
        Some(Self { host: host.to_lowercase(), path })
    }

    /// Reads the `sr` of a token, which is form-encoded around the URI: a space may be `+`.
    pub(super) fn parse_form(sr: &str) -> Option<Self> {
        let spaced = sr.replace('+', " ");
        let uri = percent_decode_str(&spaced).decode_utf8().ok()?;
        Self::parse(&uri)
    }
}

/// Whether a segment of a path fits one of a pattern. A `*` stands neither for no name at all, nor for the
/// broker's own nodes, which begin with `$`, nor for what says that the name of the entity is over: what is
/// for the entities in a folder is not for a topic of the folder's name.
fn fits(pattern: &str, segment: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == segment };
    let Some(mut rest) = segment.strip_prefix(head) else { return false };
    let mut pieces = tail.split('*').collect::<Vec<_>>();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        // The first place is the best one: it leaves the most for what follows.
        let Some(at) = rest.find(piece) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    let is_name = !segment.is_empty() && !segment.starts_with('$') && !STRUCTURE.contains(&segment);
    rest.ends_with(last) && is_name
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons inside [::1] are not that of a port.
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(uri: &str, expected: Option<(&str, &str)>) {
        let parsed = Audience::parse(uri).map(|audience| (audience.host, audience.path.text));
        let expected = expected.map(|(host, path)| (host.to_owned(), path.to_owned()));
        assert_eq!(parsed, expected, "{uri}");
    }

    #[test]
    fn what_a_connection_keeps_is_bounded() {
        let of_length = |length: usize| format!("sb://host/{}", "a".repeat(length));
        assert!(Audience::parse(&of_length(AUDIENCE_LEN_MAX)).is_some());
        assert_eq!(Audience::parse(&of_length(AUDIENCE_LEN_MAX + 1)), None);
        // Decoded, as it is kept.
        assert!(
            Audience::parse(&format!("sb://host/{}", "%41".repeat(AUDIENCE_LEN_MAX))).is_some()
        );
    }

    #[test]
    fn audiences_as_clients_write_them() {
        check("sb://host/Orders", Some(("host", "orders")));
        check("amqps://Host.Example:5671/orders/", Some(("host.example", "orders")));
        check("amqp://localhost:5672/a/b/$management", Some(("localhost", "a/b/$management")));
        check("http://host/my%20queue", Some(("host", "my queue")));
        check("https://host", Some(("host", "")));
        check("host/orders", Some(("host", "orders")));
        check("https://h:5300/q/2?api-version=2021-05&x=/a", Some(("h", "q/2")));
        check("h?x=sb://y/z", Some(("h", "")));
        check("host", Some(("host", "")));
        check("sb://[::1]:5672/orders", Some(("[::1]", "orders")));
        check("sb://[::1]/orders", Some(("[::1]", "orders")));
        check("", None);
        check("sb:///orders", None);
        check("sb://host/%ff", None);
    }

    #[test]
    fn the_resource_of_a_token_is_form_encoded() {
        let parsed = Audience::parse_form("sb%3A%2F%2Fhost%2fmy+queue").unwrap();
        assert_eq!(parsed, Audience::parse("sb://host/my queue").unwrap());
        let nested = Audience::parse_form("sb%3a%2f%2fhost%2fmy%2520queue").unwrap();
        assert_eq!(nested, parsed);
    }

    #[track_caller]
    fn check_covers(outer: &str, inner: &str, expected: bool) {
        let path = ResourcePath::exactly;
        assert_eq!(path(outer).covers(&path(inner)), expected, "{outer:?} over {inner:?}");
    }

    #[test]
    fn what_is_above_a_path() {
        let path = ResourcePath::exactly;
        let above = |text: &str| path(text).and_above().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(above("eu/orders/$management"), ["eu", "eu/orders", "eu/orders/$management"]);
        assert_eq!(above("orders"), ["orders"]);
        assert!(above("").is_empty());
        // Whatever a peer writes, there is little to look at.
        assert_eq!(above(&"a/".repeat(500_000)).len(), 200);
        assert!(above(&"a".repeat(401)).is_empty());
    }

    #[test]
    fn covering_stops_at_segments() {
        check_covers("", "orders", true);
        check_covers("", "", true);
        check_covers("orders", "orders", true);
        check_covers("orders", "orders/$management", true);
        check_covers("orders", "orders/$deadletterqueue/$management", true);
        check_covers("orders", "orders2", false);
        check_covers("orders", "order", false);
        check_covers("orders", "", false);
        check_covers("orders/$management", "orders", false);
        check_covers("eu/orders", "eu", false);
        check_covers("eu", "eu/orders", true);
        check_covers("*", "orders", false);
    }

    #[track_caller]
    fn check_pattern(pattern: &str, path: &str, expected: bool) {
        let path = ResourcePath::exactly(path);
        assert_eq!(ResourcePath::pattern(pattern).covers(&path), expected, "{pattern} over {path}");
    }

    #[test]
    fn a_pattern_covers_the_entities_that_fit_and_what_is_below_them() {
        check_pattern("orders", "Orders/$management", true);
        check_pattern("orders", "orders-eu", false);
        check_pattern("Orders-*", "orders-eu", true);
        check_pattern("orders-*", "orders-", true);
        check_pattern("orders-*", "orders-eu/$deadletterqueue", true);
        check_pattern("orders-*", "orders", false);
        check_pattern("orders-*", "my-orders-eu", false);
        check_pattern("*-orders", "eu-orders", true);
        check_pattern("*-orders", "eu-orders-2", false);
        check_pattern("*a*b*", "xxaxxbxx", true);
        check_pattern("*a*b*", "xxbxxaxx", false);
        check_pattern("a*a", "a", false);
        check_pattern("a*a", "aa", true);
        check_pattern("a*bc*c", "abc", false);
        check_pattern("eu/*", "eu/orders", true);
        check_pattern("eu/*", "eu", false);
        check_pattern("eu/*", "us/orders", false);
        check_pattern("eu/*", "eu/Subscriptions/s", false);
        check_pattern("eu/s*", "eu/subscriptions/s", false);
        check_pattern("eu/*", "eu/messages/head", false);
        check_pattern("eu/*", "eu/orders/messages/head", true);
        check_pattern("eu/*/subscriptions/s", "eu/news/subscriptions/s/rules", true);
        check_pattern("*/orders", "eu/orders/subscriptions/s", true);
        check_pattern("*/orders", "eu/us/orders", false);
        check_pattern("*", "orders", true);
        check_pattern("*", "a/b", true);
        // Neither the namespace nor its own nodes.
        check_pattern("*", "", false);
        check_pattern("*", "$management", false);
        check_pattern("*", "$resources/queues", false);
        check_pattern("*nt", "$management", false);
    }
}
