//! Addresses as clients write them, and the one form we compare them in.
//!
//! Clients write the same queue as `orders`, `/orders`, `amqps://host:5671/orders`, `Orders`,
//! `orders/$DeadLetterQueue` and so on. All forms are parsed here, once, at the edge.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which part of a queue or subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subqueue {
    /// The entity itself.
    Main,
    /// Where messages go that could not be processed.
    DeadLetter,
    /// Where messages go that could not be forwarded.
    TransferDeadLetter,
}

impl Subqueue {
    /// As it stands at the end of a path.
    const fn suffix(self) -> &'static str {
        match self {
            Subqueue::Main => "",
            Subqueue::DeadLetter => "/$DeadLetterQueue",
            Subqueue::TransferDeadLetter => "/$Transfer/$DeadLetterQueue",
        }
    }
}

/// The path of an entity in its namespace, or of a subqueue of it. Compares without regard to case,
/// displays as it was written.
#[derive(Clone, Debug)]
pub struct EntityPath {
    name: Arc<str>,
    /// `name` in lower case; the same value where it already is.
    folded: Arc<str>,
    subqueue: Subqueue,
}

/// What an address names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The entity.
    pub path: EntityPath,
    /// Whether the address ends in `/$management`, and so means the entity's management node.
    pub management: bool,
}

/// Why an address names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// There is nothing left after host and slashes.
    #[error("the address is empty")]
    Empty,
    /// Longer than [`EntityPath::LEN_MAX`].
    #[error("the path is longer than 260 characters")]
    TooLong,
    /// A percent sign without two hexadecimal digits, or octets that are no UTF-8.
    #[error("the percent-encoding is broken")]
    PercentEncoding,
    /// A character that no name has, or one that cannot stand where it does.
    #[error("the name contains a character that is not allowed there")]
    Character,
}

impl EntityPath {
    /// Characters of a queue's or topic's path, by the documentation.
    pub const LEN_MAX: usize = 260;
    /// Characters of a subscription's name, by the documentation.
    pub const SUBSCRIPTION_LEN_MAX: usize = 50;
    /// Characters of a JMS client's id. Those that qpid-jms draws have about 45.
    pub const CLIENT_LEN_MAX: usize = 128;

    /// Takes an address apart, in any of the forms that clients use. What it names need not exist,
    /// nor be a name that could be given to an entity.
    pub fn parse(address: &str) -> Result<Address, PathError> {
        let path = strip_authority(address).trim_matches('/');
        let decoded = percent_decode(path)?;
        let mut rest = decoded.trim_matches('/');
        let mut management = false;
        if let Some(before) = strip_last_segment(rest, "$management") {
            management = true;
            rest = before;
        }
        let mut subqueue = Subqueue::Main;
        if let Some(before) = strip_last_segment(rest, "$deadletterqueue") {
            subqueue = Subqueue::DeadLetter;
            rest = before;
            if let Some(before) = strip_last_segment(rest, "$transfer") {
                subqueue = Subqueue::TransferDeadLetter;
                rest = before;
            }
        }
        if rest.is_empty() {
            return Err(PathError::Empty);
        }
        if rest.eq_ignore_ascii_case(PROBE) {
            return Err(PathError::Character);
        }
        let (entity, subscription) = split_subscription(rest).unwrap_or((rest, ""));
        let is_too_long = Self::SUBSCRIPTION_LEN_MAX < subscription.len()
            && JmsName::parse(subscription).is_none();
        if Self::LEN_MAX < entity.len() || is_too_long {
            return Err(PathError::TooLong);
        }
        Ok(Address { path: EntityPath::new(rest, subqueue), management })
    }

    /// The path of an entity to create: letters, digits, `.`, `-`, `_`, `~`, and `/` between segments,
    /// with a letter or digit at either end.
    pub fn for_new_entity(name: &str) -> Result<EntityPath, PathError> {
        if name.is_empty() {
            return Err(PathError::Empty);
        }
        if Self::LEN_MAX < name.len() {
            return Err(PathError::TooLong);
        }
        // MassTransit puts `~` between a namespace of .NET and what is in it.
        let is_segment =
            |part: &str| !part.is_empty() && part.chars().all(|c| is_plain(c) || c == '~');
        let is_plain = name.split('/').all(is_segment);
        // What stands behind it would be a subscription.
        if !is_plain || !ends_well(name) || split_subscription(name).is_some() {
            return Err(PathError::Character);
        }
        Ok(EntityPath::new(name, Subqueue::Main))
    }

    /// The path of a subscription to create, of a topic and a name: letters, digits, `.`, `-` and `_`,
    /// with a letter or digit at either end.
    pub fn for_new_subscription(topic: &EntityPath, name: &str) -> Result<EntityPath, PathError> {
        if name.is_empty() {
            return Err(PathError::Empty);
        }
        if Self::SUBSCRIPTION_LEN_MAX < name.len() {
            return Err(PathError::TooLong);
        }
        if !name.chars().all(is_plain) || !ends_well(name) {
            return Err(PathError::Character);
        }
        let topic = Self::for_new_entity(topic.name())?;
        Ok(EntityPath::new(&format!("{topic}/{SUBSCRIPTIONS}/{name}"), Subqueue::Main))
    }

    /// The path of the subscription that a JMS client makes, as Service Bus names it: the name that the
    /// client chose, its id if the subscription is its own, and whether it outlives its receivers.
    pub fn for_jms_subscription(
        topic: &EntityPath,
        name: &str,
        client: &str,
        durable: bool,
    ) -> Result<EntityPath, PathError> {
        if name.is_empty() {
            return Err(PathError::Empty);
        }
        if Self::SUBSCRIPTION_LEN_MAX < name.len() || Self::CLIENT_LEN_MAX < client.len() {
            return Err(PathError::TooLong);
        }
        if !JmsName::allows(name) || !JmsName::allows(client) {
            return Err(PathError::Character);
        }
        let topic = Self::for_new_entity(topic.name())?;
        let full = JmsName { name, client, durable };
        Ok(EntityPath::new(&format!("{topic}/{SUBSCRIPTIONS}/{full}"), Subqueue::Main))
    }

    /// The path of a subscription that may be there, whoever made it.
    pub fn for_subscription(topic: &EntityPath, name: &str) -> Result<EntityPath, PathError> {
        match JmsName::parse(name) {
            Some(JmsName { name, client, durable }) => {
                Self::for_jms_subscription(topic, name, client, durable)
            }
            None => Self::for_new_subscription(topic, name),
        }
    }

    /// The path of an entity that is made for a link and goes with it: a topic, or else a queue.
    pub fn for_temporary(is_topic: bool, unique: u128) -> EntityPath {
        let prefix = if is_topic { TEMPORARY[1] } else { TEMPORARY[0] };
        EntityPath::new(&format!("{prefix}{unique:032x}"), Subqueue::Main)
    }

    /// The entity that was made for a link, if it is one, or a part or subscription of one.
    pub fn temporary(&self) -> Option<EntityPath> {
        let root = self.subscription().map_or_else(|| self.clone(), |(topic, _)| topic);
        let is_one = TEMPORARY.iter().any(|prefix| {
            let rest = root.folded.strip_prefix(prefix);
            rest.is_some_and(|rest| {
                rest.len() == 32 && rest.bytes().all(|octet| octet.is_ascii_hexdigit())
            })
        });
        is_one.then(|| root.with_subqueue(Subqueue::Main))
    }

    /// The path of the queue by which the broker finds out whether it sends and receives. No address of
    /// a peer names it, no list shows it, and it counts for no limit.
    pub fn probe() -> EntityPath {
        EntityPath::new(PROBE, Subqueue::Main)
    }

    /// Whether it is [`EntityPath::probe`], or a part of that.
    pub fn is_probe(&self) -> bool {
        &*self.folded == PROBE
    }

    /// Whether it is a subscription that a JMS client makes by receiving from a topic.
    pub fn is_of_jms(&self) -> bool {
        self.outlives_receivers().is_some()
    }

    /// Whether it is a subscription that goes with the last of its receivers.
    pub(crate) fn is_fleeting(&self) -> bool {
        self.outlives_receivers() == Some(false)
    }

    /// The name of a subscription that a JMS client comes back to, as it is compared.
    pub(crate) fn durable_name(&self) -> Option<&str> {
        let is_durable = self.outlives_receivers() == Some(true);
        split_subscription(&self.folded).map(|(_, name)| name).filter(|_| is_durable)
    }

    /// What the name of a JMS client's subscription says.
    fn outlives_receivers(&self) -> Option<bool> {
        let (_, name) = split_subscription(&self.name)?;
        JmsName::parse(name).map(|name| name.durable)
    }

    /// The path of any entity, as it displays.
    pub(crate) fn of_known_entity(name: &str) -> Result<EntityPath, PathError> {
        match split_subscription(name) {
            Some((topic, name)) => Self::for_subscription(&Self::for_new_entity(topic)?, name),
            None if name == PROBE => Ok(Self::probe()),
            None => Self::for_new_entity(name),
        }
    }

    /// The topic and the name of a subscription, if it could be the path of one.
    pub fn subscription(&self) -> Option<(EntityPath, &str)> {
        let (topic, name) = split_subscription(&self.name)?;
        Some((EntityPath::new(topic, Subqueue::Main), name))
    }

    fn new(name: &str, subqueue: Subqueue) -> Self {
        let name: Arc<str> = name.into();
        let folded = if name.chars().any(char::is_uppercase) {
            name.to_lowercase().into()
        } else {
            Arc::clone(&name)
        };
        EntityPath { name, folded, subqueue }
    }

    /// The entity's name as it was written, without a subqueue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as it is compared.
    pub(crate) fn folded_name(&self) -> &Arc<str> {
        &self.folded
    }

    /// Which part of the entity is meant.
    pub const fn subqueue(&self) -> Subqueue {
        self.subqueue
    }

    /// The same entity, another part.
    #[must_use]
    pub fn with_subqueue(&self, subqueue: Subqueue) -> Self {
        EntityPath { subqueue, ..self.clone() }
    }
}

impl PartialEq for EntityPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for EntityPath {}

impl PartialOrd for EntityPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntityPath {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.folded, self.subqueue).cmp(&(&other.folded, other.subqueue))
    }
}

impl Hash for EntityPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.folded, self.subqueue).hash(state);
    }
}

impl fmt::Display for EntityPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.subqueue.suffix())
    }
}

/// What stands between a topic's name and a subscription's.
const SUBSCRIPTIONS: &str = "Subscriptions";

/// See [`EntityPath::probe`]. No name that could be given begins so.
const PROBE: &str = "$probe";

/// What the names of queues and topics begin with that are made for a link.
const TEMPORARY: [&str; 2] = ["temporary-queue-", "temporary-topic-"];

/// The names of a topic and of a subscription.
fn split_subscription(path: &str) -> Option<(&str, &str)> {
    let (before, name) = path.rsplit_once('/')?;
    let (topic, segment) = before.rsplit_once('/')?;
    segment.eq_ignore_ascii_case(SUBSCRIPTIONS).then_some((topic, name))
}

/// The name of a subscription that a JMS client made.
struct JmsName<'a> {
    name: &'a str,
    client: &'a str,
    durable: bool,
}

impl<'a> JmsName<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (rest, kind) = text.rsplit_once('$')?;
        let (name, client) = rest.split_once('$')?;
        let durable = match kind {
            _ if kind.eq_ignore_ascii_case("D") => true,
            _ if kind.eq_ignore_ascii_case("ND") => false,
            _ => return None,
        };
        let fits = name.len() <= EntityPath::SUBSCRIPTION_LEN_MAX
            && client.len() <= EntityPath::CLIENT_LEN_MAX;
        let is_one = fits && !name.is_empty() && Self::allows(name) && Self::allows(client);
        is_one.then_some(JmsName { name, client, durable })
    }

    /// What can be written in an address, and told from what stands beside it.
    fn allows(part: &str) -> bool {
        let means_more = |c| matches!(c, '$' | '/' | '\\' | '%' | '?' | '#' | '|');
        part.chars().all(|c| c.is_ascii_graphic() && !means_more(c))
    }
}

impl fmt::Display for JmsName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.durable { "D" } else { "ND" };
        write!(f, "{}${}${kind}", self.name, self.client)
    }
}

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

fn ends_well(name: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(is_alphanumeric) && name.ends_with(is_alphanumeric)
}

/// What follows `scheme://host:port`, or everything when there is no scheme.
fn strip_authority(address: &str) -> &str {
    let Some((scheme, rest)) = address.split_once("://") else { return address };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return address;
    }
    rest.split_once('/').map_or("", |(_, path)| path)
}

/// Decodes once: `%2524` becomes `%24`, not `$`.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, PathError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk().ok_or(PathError::PercentEncoding)?;
        octets.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
        rest = after;
    }
    String::from_utf8(octets).map(Cow::Owned).map_err(|_| PathError::PercentEncoding)
}

const fn hex_digit(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::PercentEncoding),
    }
}

/// What stands before the last segment, if that is the one we look for (in lower case).
fn strip_last_segment<'a>(path: &'a str, segment: &str) -> Option<&'a str> {
    let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
    last.eq_ignore_ascii_case(segment).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: &str) {
        let parsed = EntityPath::parse(address).unwrap();
        let management = if parsed.management { "/$management" } else { "" };
        assert_eq!(format!("{}{management}", parsed.path), expected);
    }

    #[test]
    fn every_form_of_an_address_is_understood() {
        check("orders", "orders");
        check("/orders", "orders");
        check("/orders/", "orders");
        check("amqps://host:5671/orders", "orders");
        check("amqp://host/orders", "orders");
        check("sb://host.servicebus.windows.net/orders", "orders");
        check("eu/west/orders", "eu/west/orders");
        check("orders/$management", "orders/$management");
        check("amqps://host/orders/$Management", "orders/$management");
        check("orders/$DeadLetterQueue", "orders/$DeadLetterQueue");
        check("orders/$deadletterqueue", "orders/$DeadLetterQueue");
        check("orders/$DeadLetterQueue/$management", "orders/$DeadLetterQueue/$management");
        check("orders/$Transfer/$DeadLetterQueue", "orders/$Transfer/$DeadLetterQueue");
        check("/orders%2F%24DeadLetterQueue", "orders/$DeadLetterQueue");
        check("%6frders", "orders");
        check("a%2541", "a%41");
        check("topic/Subscriptions/sub", "topic/Subscriptions/sub");
        check("not a scheme://x", "not a scheme://x");
    }

    #[test]
    fn broken_addresses_are_refused() {
        let refused = |address: &str| EntityPath::parse(address).unwrap_err();
        assert_eq!(refused(""), PathError::Empty);
        assert_eq!(refused("///"), PathError::Empty);
        assert_eq!(refused("amqp://host"), PathError::Empty);
        assert_eq!(refused("amqp://host/"), PathError::Empty);
        assert_eq!(refused("$management"), PathError::Empty);
        assert_eq!(refused("/$DeadLetterQueue"), PathError::Empty);
        assert_eq!(refused("a%2"), PathError::PercentEncoding);
        assert_eq!(refused("a%zz"), PathError::PercentEncoding);
        assert_eq!(refused("a%ff"), PathError::PercentEncoding);
        assert_eq!(refused(&"a".repeat(261)), PathError::TooLong);
    }

    #[test]
    fn case_is_kept_and_does_not_matter() {
        let path = |address: &str| EntityPath::parse(address).unwrap().path;
        assert_eq!(path("Orders"), path("oRDERS"));
        assert_eq!(path("Orders").to_string(), "Orders");
        assert_ne!(path("orders"), path("orders/$DeadLetterQueue"));
        assert_eq!(
            path("orders").with_subqueue(Subqueue::DeadLetter),
            path("ORDERS/$deadLetterQueue")
        );
    }

    #[test]
    fn names_of_new_entities_have_rules() {
        for good in ["a", "orders", "Eu/West-1/orders_2.x", "0", "Shop.Contracts~Order/a~~b"] {
            assert_eq!(
                EntityPath::for_new_entity(good).map(|path| path.to_string()),
                Ok(good.into())
            );
        }
        for bad in [
            "~a",
            "a~",
            "a/~",
            "/a",
            "a/",
            "a//b",
            "a b",
            "$cbs",
            "a/$management",
            "-a",
            "a.",
            "é",
            "a%20b",
        ] {
            assert_eq!(EntityPath::for_new_entity(bad), Err(PathError::Character), "{bad}");
        }
        let bad = "t/subscriptions/s";
        assert_eq!(EntityPath::for_new_entity(bad), Err(PathError::Character), "{bad}");
        assert_eq!(EntityPath::for_new_entity(""), Err(PathError::Empty));
        assert_eq!(EntityPath::for_new_entity(&"a".repeat(261)), Err(PathError::TooLong));
    }

    #[test]
    fn no_peer_names_the_probe() {
        let probe = EntityPath::probe();
        assert!(probe.is_probe() && probe.with_subqueue(Subqueue::DeadLetter).is_probe());
        assert!(!EntityPath::parse("probe").unwrap().path.is_probe());
        assert_eq!(EntityPath::of_known_entity(&probe.to_string()), Ok(probe));
        for name in ["$probe", "/$Probe/", "sb://h/$probe/$management", "%24probe/$DeadLetterQueue"]
        {
            assert_eq!(EntityPath::parse(name), Err(PathError::Character), "{name}");
        }
        assert_eq!(EntityPath::for_new_entity("$probe"), Err(PathError::Character));
    }

    #[test]
    fn subscriptions_stand_below_their_topics() {
        let topic = EntityPath::for_new_entity("Eu/News").unwrap();
        let of = |name: &str| EntityPath::for_new_subscription(&topic, name);
        let path = of("All-of_it.1").unwrap();
        assert_eq!(path.to_string(), "Eu/News/Subscriptions/All-of_it.1");
        assert_eq!(path.subscription(), Some((topic.clone(), "All-of_it.1")));
        assert_eq!(topic.subscription(), None);
        let named = |address: &str| EntityPath::parse(address).unwrap().path;
        assert_eq!(named("eu/news/subscriptions/all-of_it.1"), path);
        assert_eq!(
            named("eu/news/subscriptions/all-of_it.1/$deadletterqueue"),
            path.with_subqueue(Subqueue::DeadLetter)
        );
        assert_eq!(EntityPath::of_known_entity(&path.to_string()), Ok(path));
        assert_eq!(EntityPath::of_known_entity("Eu/News"), Ok(topic.clone()));
        for bad in ["a/b", "a b", "$a", "-a", "a.", "a~b"] {
            assert_eq!(of(bad), Err(PathError::Character), "{bad}");
        }
        assert_eq!(of(""), Err(PathError::Empty));
        assert_eq!(of(&"a".repeat(51)), Err(PathError::TooLong));
        let longest = EntityPath::for_new_entity(&"t".repeat(260)).unwrap();
        let path = EntityPath::for_new_subscription(&longest, &"s".repeat(50)).unwrap();
        assert_eq!(named(&path.to_string()), path);
        let too_long = format!("t/Subscriptions/{}", "s".repeat(51));
        assert_eq!(EntityPath::parse(&too_long), Err(PathError::TooLong));
    }

    #[test]
    fn temporary_entities_are_known_by_their_names() {
        for is_topic in [false, true] {
            let path = EntityPath::for_temporary(is_topic, 0xabc);
            assert_eq!(EntityPath::for_new_entity(path.name()), Ok(path.clone()));
            assert_eq!(path.temporary(), Some(path.clone()));
            assert_eq!(path.with_subqueue(Subqueue::DeadLetter).temporary(), Some(path.clone()));
            let own = EntityPath::for_jms_subscription(&path, "s", "", false).unwrap();
            assert_eq!(own.temporary(), Some(path));
        }
        for other in ["orders", "temporary-queue-1", "temporary-queue-"] {
            assert_eq!(
                EntityPath::for_new_entity(other.trim_end_matches('-')).unwrap().temporary(),
                None
            );
        }
    }

    #[test]
    fn subscriptions_of_jms_clients_have_names_of_their_own() {
        let topic = EntityPath::for_new_entity("t").unwrap();
        let of = |name: &str, client: &str, durable| {
            EntityPath::for_jms_subscription(&topic, name, client, durable)
        };
        let own = of("Prices", "ID:4c-1:1", true).unwrap();
        assert_eq!(own.to_string(), "t/Subscriptions/Prices$ID:4c-1:1$D");
        assert!(!own.is_fleeting());
        let shared = of("prices", "", false).unwrap();
        assert_eq!(shared.to_string(), "t/Subscriptions/prices$$ND");
        assert!(shared.is_fleeting() && !topic.is_fleeting());
        let longest = of(&"s".repeat(50), &"c".repeat(128), true).unwrap();
        for path in [own, shared, longest] {
            assert_eq!(EntityPath::parse(&path.to_string()).unwrap().path, path);
            let escaped = path.to_string().replace('$', "%24");
            assert_eq!(EntityPath::parse(&escaped).unwrap().path, path);
            assert_eq!(EntityPath::of_known_entity(&path.to_string()), Ok(path));
        }
        for bad in ["a$b", "a/b", "a b", "a|b", "é", "a%41"] {
            assert_eq!(of(bad, "", true), Err(PathError::Character), "{bad}");
            assert_eq!(of("a", bad, true), Err(PathError::Character), "{bad}");
        }
        assert_eq!(of("", "", true), Err(PathError::Empty));
        assert_eq!(of(&"s".repeat(51), "", true), Err(PathError::TooLong));
        assert_eq!(of("s", &"c".repeat(129), true), Err(PathError::TooLong));
        for bad in ["$c$D", "s$D", "s$c$X", "s$c$D$ND"] {
            assert!(EntityPath::for_subscription(&topic, bad).is_err(), "{bad}");
        }
    }
}
