//! What links of JMS clients ask for beyond other links: subscriptions of topics, which they make by
//! receiving, leave, find and delete; and locks that end with the link.
//!
//! Which subscription a link means follows from its name and the container of its connection, as
//! qpid-jms composes them.

use std::collections::HashSet;

use peeklock_core::{
    Command, EntityPath, Error, LockToken, PathError, SubscriberWish, TopicCommand,
};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{AttachReply, LinkId};
use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::{ExpiryPolicy, Source, Target, TerminusDurability};
use peeklock_protocol::value::{Str, Symbol};
use tracing::debug;

use super::attach::ATTACH;
use super::endpoint::Endpoint;
use super::filters;
use super::link::Link;
use crate::auth::{Operation, Resource};

/// Says of a destination that it is a queue.
const QUEUE: &str = "queue";
const TEMPORARY_QUEUE: &str = "temporary-queue";
/// Says of a destination that it is a topic.
const TOPIC: &str = "topic";
const TEMPORARY_TOPIC: &str = "temporary-topic";
/// All that a destination of a JMS client is said to be.
const DESTINATIONS: [&str; 4] = [QUEUE, TEMPORARY_QUEUE, TOPIC, TEMPORARY_TOPIC];
/// Says of a subscription that several may receive from it at a time.
const SHARED: &str = "shared";
/// Says of one that it is not the client's own.
const GLOBAL: &str = "global";
/// Says that the broker has subscriptions of that kind.
pub(crate) const SHARED_SUBS: &str = "SHARED-SUBS";
/// Says that the broker keeps messages until the time that JMS clients write on them.
pub(crate) const DELAYED_DELIVERY: &str = "DELAYED_DELIVERY";

/// Stands in the names of links between the name of a subscription and what tells the links apart.
const NAME_END: char = '|';

/// What is kept of a link of a JMS client that receives.
#[derive(Debug, Default)]
pub(super) struct JmsLink {
    /// Whether its subscription is shared.
    shared: bool,
    /// What it was given and has not settled. When it goes, that is free at once: such clients do not
    /// settle on another way.
    held: HashSet<LockToken>,
}

impl JmsLink {
    pub(super) fn note_given(&mut self, token: LockToken) {
        self.held.insert(token);
    }

    pub(super) fn note_settled(&mut self, token: LockToken) {
        self.held.remove(&token);
    }

    pub(super) fn held(&self) -> impl Iterator<Item = LockToken> + Clone {
        self.held.iter().copied()
    }

    /// What the answer to its attach offers.
    pub(super) fn offers(&self) -> Option<Vec<Symbol>> {
        self.shared.then(|| vec![Symbol::from_static(SHARED_SUBS)])
    }
}

/// A link that looks for a subscription to delete it.
#[derive(Debug, Default)]
pub(super) struct LookupLink {
    global: bool,
    /// What it asked for.
    name: Box<str>,
    /// The subscription, when it is found.
    pub(super) path: Option<EntityPath>,
}

/// A subscription that a link asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The whole path.
    pub(super) subscription: EntityPath,
    pub(super) exclusive: bool,
    /// Whether it is for a topic and nothing else.
    pub(super) topic_only: bool,
}

/// What is to be kept of a link, if it is a JMS client's.
pub(super) fn link_of(source: &Source, wants_subscription: bool) -> Option<Box<JmsLink>> {
    let is_jms = DESTINATIONS.iter().any(|one| has(source, one));
    let shared = has(source, SHARED);
    (is_jms || wants_subscription).then(|| Box::new(JmsLink { shared, ..JmsLink::default() }))
}

/// Whether a target is described as JMS clients describe theirs.
pub(super) fn is_destination(target: &Target) -> bool {
    let Target::Node(node) = target else { return false };
    node.capabilities.iter().flatten().any(|one| DESTINATIONS.iter().any(|name| one == *name))
}

/// Finds out whether a link asks for a subscription, and for which. `unique` names one that nobody
/// else can mean.
pub(super) fn requested(
    attach: &Attach,
    source: &Source,
    path: &EntityPath,
    container: &str,
    unique: u128,
) -> Result<Option<Wanted>, ErrorInfo> {
    let (shared, global) = (has(source, SHARED), has(source, GLOBAL));
    let is_topic = shared || global || has(source, TOPIC) || has(source, TEMPORARY_TOPIC);
    let durable =
        source.durable != TerminusDurability::None || source.expiry_policy == ExpiryPolicy::Never;
    let asks = is_topic || (durable && !filters::browses(source));
    if !asks || path.subscription().is_some() {
        return Ok(None);
    }
    let fresh = format!("{unique:032x}");
    let (name, client) = match (shared, durable) {
        (true, _) => (base(&attach.name), if global { "" } else { container }),
        (false, true) => (attach.name.as_str(), container),
        (false, false) => (fresh.as_str(), ""),
    };
    match EntityPath::for_jms_subscription(path, name, client, durable) {
        Ok(subscription) => {
            Ok(Some(Wanted { subscription, exclusive: !shared, topic_only: is_topic }))
        }
        // Other links may be called anything.
        Err(_) if !is_topic => Ok(None),
        Err(error) => Err(bad_name(error)),
    }
}

fn bad_name(error: PathError) -> ErrorInfo {
    let text = format!("The link or its client cannot give a subscription its name: {error}.");
    ErrorInfo::new(condition::INVALID_FIELD, text)
}

/// The name of a subscription in that of a link.
fn base(link: &Str) -> &str {
    link.as_str().split(NAME_END).next().unwrap_or_default()
}

/// Whether capabilities of a destination say that it is a topic.
pub(super) fn means_topic(capabilities: Option<&[Symbol]>) -> bool {
    let mut all = capabilities.into_iter().flatten();
    all.any(|one| one == TEMPORARY_TOPIC || one == TOPIC)
}

fn has(source: &Source, capability: &str) -> bool {
    source.capabilities.iter().flatten().any(|one| one == capability)
}

impl Endpoint {
    /// What the core is asked for where a link wants a subscription.
    pub(super) fn wanted_subscription(
        &self,
        attach: &Attach,
        source: &Source,
        path: &EntityPath,
    ) -> Result<Option<SubscriberWish>, ErrorInfo> {
        let wanted = requested(attach, source, path, &self.container, rand::random())?;
        let may_create = self.would_allow(Operation::LinkToMake, path);
        let may_create_anywhere = self.would_allow(Operation::LinkToMake, Resource::Path(""));
        Ok(wanted.map(|Wanted { subscription, exclusive, topic_only }| SubscriberWish {
            subscription,
            exclusive,
            may_create,
            may_create_anywhere,
            topic_only,
        }))
    }

    /// An attach without a source asks for the subscription that was made under the name of the link,
    /// mostly to delete it.
    pub(super) fn look_up_subscription(
        &mut self,
        id: LinkId,
        attach: &Attach,
    ) -> Result<(), ErrorInfo> {
        // Who may do what is asked once it is found. A stranger asks the core for nothing.
        self.refuse_strangers("Looking for a subscription")?;
        let global = attach.desired_capabilities.iter().flatten().any(|one| one == GLOBAL);
        let client = if global { "" } else { self.container.as_str() };
        // Which topic it belongs to is not said; the name is the same for all.
        let any = EntityPath::for_new_entity("t").map_err(bad_name)?;
        let path = EntityPath::for_jms_subscription(&any, base(&attach.name), client, true);
        let path = path.map_err(bad_name)?;
        let name: Box<str> = path.subscription().map(|(_, name)| name.into()).unwrap_or_default();
        let origin = self.origin(id, ATTACH);
        self.commands.push(Command::FindSubscription { origin, name: name.clone() });
        self.links.insert(id, Link::Lookup(LookupLink { global, name, path: None }));
        Ok(())
    }

    /// The core knows the subscription. It is shown to whoever may receive from it, and left to whoever
    /// may delete it.
    pub(super) fn subscription_found(
        &mut self,
        id: LinkId,
        path: EntityPath,
        selector: Option<&Str>,
        in_use: bool,
    ) {
        let Some((topic, _)) = path.subscription() else { return };
        let Some(Link::Lookup(link)) = self.links.get(&id) else { return };
        if self.authorize(Operation::LinkToFind, &path).is_err() {
            let missing = Error::EntityNotFound(link.name.as_ref().into());
            return self.attach_refused(id, &missing);
        }
        if in_use {
            return self.attach_refused(id, &Error::SubscriptionInUse(path.to_string()));
        }
        if let Err(denied) = self.authorize(Operation::LinkToUnsubscribe, &path) {
            return self.reject(id, denied);
        }
        let Some(Link::Lookup(link)) = self.links.get_mut(&id) else { return };
        debug!(link = id.to_u64(), entity = %path, "subscription looked up");
        let kinds: &[&'static str] = if link.global { &[TOPIC, SHARED, GLOBAL] } else { &[TOPIC] };
        let source = Source {
            durable: TerminusDurability::UnsettledState,
            expiry_policy: ExpiryPolicy::Never,
            distribution_mode: Some(Symbol::from_static(filters::COPY)),
            filter: selector.map(filters::selector),
            capabilities: Some(kinds.iter().map(|kind| Symbol::from_static(kind)).collect()),
            ..Source::new(topic.to_string().as_str())
        };
        link.path = Some(path);
        let source = Some(source.into());
        let _ = self.engine.accept_attach(id, AttachReply { source, ..AttachReply::default() });
    }

    /// A link is closed, not only left: whoever had looked up a subscription deletes it by that.
    pub(super) fn unsubscribe(&mut self, id: LinkId) {
        let Some(Link::Lookup(LookupLink { path: Some(path), .. })) = self.links.get(&id) else {
            return;
        };
        let path = path.clone();
        // Nobody is there any more to hear of it.
        let origin = self.origin(id, ATTACH);
        let command = TopicCommand::Unsubscribe { origin, path };
        self.commands.push(Command::OfTopic(Box::new(command)));
    }
}

#[cfg(test)]
mod tests {
    use peeklock_protocol::performative::Role;

    use super::*;

    fn source(capabilities: &[&'static str], durable: bool) -> Source {
        let capabilities = capabilities.iter().map(|one| Symbol::from_static(one)).collect();
        let source = Source { capabilities: Some(capabilities), ..Source::new("t") };
        if !durable {
            return source;
        }
        let durable = TerminusDurability::UnsettledState;
        Source { durable, expiry_policy: ExpiryPolicy::Never, ..source }
    }

    fn wanted(link: &str, source: &Source) -> Result<Option<Wanted>, ErrorInfo> {
        let attach = Attach::new(link, 0, Role::Receiver);
        let topic = EntityPath::for_new_entity("t").unwrap();
        requested(&attach, source, &topic, "client", 0xabc)
    }

    #[track_caller]
    fn check(link: &str, source: &Source, name: &str, exclusive: bool, topic_only: bool) {
        let found = wanted(link, source).unwrap().unwrap();
        assert_eq!(found.subscription.to_string(), format!("t/Subscriptions/{name}"));
        assert_eq!((found.exclusive, found.topic_only), (exclusive, topic_only));
    }

    #[test]
    fn names_of_links_are_names_of_subscriptions() {
        let own = source(&["topic"], true);
        check("sub", &own, "sub$client$D", true, true);
        let plain = source(&[], true);
        check("sub", &plain, "sub$client$D", true, false);
        let copy = Some(Symbol::from_static(filters::COPY));
        assert_eq!(wanted("sub", &Source { distribution_mode: copy.clone(), ..plain }), Ok(None));
        check("sub", &Source { distribution_mode: copy, ..own }, "sub$client$D", true, true);
        let shared = source(&["topic", "shared"], true);
        check("sub", &shared, "sub$client$D", false, true);
        check("sub|2", &shared, "sub$client$D", false, true);
        let global = source(&["topic", "shared", "global"], true);
        check("sub|global", &global, "sub$$D", false, true);
        check("sub|global2", &global, "sub$$D", false, true);
        let volatile = source(&["topic", "shared"], false);
        check("sub|volatile1", &volatile, "sub$client$ND", false, true);
        let volatile = source(&["topic", "shared", "global"], false);
        check("sub|global-volatile1", &volatile, "sub$$ND", false, true);
        let consumer = source(&["topic"], false);
        let fresh = "00000000000000000000000000000abc$$ND";
        check("qpid-jms:receiver:ID:1:1:t", &consumer, fresh, true, true);
    }

    #[test]
    fn other_links_ask_for_no_subscription() {
        assert_eq!(wanted("sub", &source(&["queue"], false)), Ok(None));
        assert_eq!(wanted("sub", &Source::new("t")), Ok(None));
        // One that is durable, and called what no subscription can be.
        assert_eq!(wanted("a link/of mine", &source(&[], true)), Ok(None));
        let error = wanted("a link/of mine", &source(&["topic"], true)).unwrap_err();
        assert_eq!(error.condition, *"amqp:invalid-field");
        assert!(link_of(&source(&["queue"], false), false).is_some());
        assert!(link_of(&Source::new("t"), false).is_none());
        assert_eq!(link_of(&Source::new("t"), true).unwrap().offers(), None);
    }
}
