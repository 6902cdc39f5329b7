//! What each identity takes: the connections, links and messages of all who prove to be the same.
//!
//! An identity is what the first credential of a connection names: a rule by one of its keys, a client
//! certificate, or the key of an identity provider. Those of each namespace are counted apart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::rate::Rate;

/// What one may have; nothing: as much as there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdentityLimits {
    /// AMQP connections at a time.
    pub connections_max: Option<u32>,
    /// Links at a time.
    pub links_max: Option<u32>,
    /// Messages sent in a second.
    pub sends_per_second: Option<u32>,
}

/// It has all it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it may have {0}")]
pub(crate) struct TooMany(pub(crate) u32);

/// All who are connected to a namespace.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    limits: IdentityLimits,
    known: Mutex<HashMap<Arc<str>, Arc<Mutex<Taken>>>>,
}

/// What one has.
#[derive(Debug)]
struct Taken {
    connections: u32,
    links: u32,
    sends: Option<Rate>,
}

impl Taken {
    fn none(limits: &IdentityLimits) -> Arc<Mutex<Self>> {
        let sends = limits.sends_per_second.map(|rate| Rate::new(rate, Instant::now()));
        Arc::new(Mutex::new(Self { connections: 0, links: 0, sends }))
    }
}

impl Identities {
    pub(crate) fn new(limits: IdentityLimits) -> Arc<Self> {
        Arc::new(Self { limits, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Mutex<Taken>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection. Without limits nobody is counted.
    pub(crate) fn join(self: &Arc<Self>, name: &str) -> Result<Option<Membership>, TooMany> {
        if self.limits == IdentityLimits::default() {
            return Ok(None);
        }
        let mut known = self.known();
        let taken = known.entry(Arc::from(name)).or_insert_with(|| Taken::none(&self.limits));
        let taken = Arc::clone(taken);
        let connections = &mut lock(&taken).connections;
        if let Some(most) = self.limits.connections_max.filter(|most| *most <= *connections) {
            return Err(TooMany(most));
        }
        *connections += 1;
        let name = Arc::from(name);
        Ok(Some(Membership {
            identities: Arc::clone(self),
            name,
            taken: Arc::clone(&taken),
            links: 0,
        }))
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection of an identity.
#[derive(Debug)]
pub(crate) struct Membership {
    identities: Arc<Identities>,
    name: Arc<str>,
    taken: Arc<Mutex<Taken>>,
    links: u32,
}

impl Membership {
    /// Says how many links the connection has. More than it said before are refused when there are too
    /// many.
    pub(crate) fn set_links(&mut self, links: u32) -> Result<(), TooMany> {
        if links == self.links {
            return Ok(());
        }
        let mut taken = lock(&self.taken);
        let all = taken.links - self.links + links;
        let most = self.identities.limits.links_max;
        if let Some(most) = most.filter(|most| self.links < links && *most < all) {
            return Err(TooMany(most));
        }
        taken.links = all;
        self.links = links;
        Ok(())
    }

    /// Counts messages that came; too fast, and they are not to be taken.
    pub(crate) fn take_sends(&self, count: u32, now: Instant) -> bool {
        self.identities.limits.sends_per_second.is_none()
            || lock(&self.taken).sends.as_mut().is_none_or(|rate| rate.take(count, now))
    }

    /// Whether more may come.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        self.identities.limits.sends_per_second.is_none()
            || lock(&self.taken).sends.as_mut().is_none_or(|rate| rate.is_above(now))
    }

    /// How many messages may come in a second.
    pub(crate) fn sends_per_second(&self) -> Option<u32> {
        self.identities.limits.sends_per_second
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut known = self.identities.known();
        let mut taken = lock(&self.taken);
        taken.connections -= 1;
        taken.links -= self.links;
        // Who leaves and comes back at once must not be as good as new.
        let is_idle = taken.sends.as_mut().is_none_or(|rate| rate.is_full(Instant::now()));
        if taken.connections == 0 && is_idle {
            known.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> IdentityLimits {
        IdentityLimits { connections_max: Some(2), links_max: Some(3), sends_per_second: None }
    }

    #[test]
    fn without_limits_nobody_is_counted() {
        let identities = Identities::new(IdentityLimits::default());
        assert!(identities.join("a").unwrap().is_none());
        assert!(identities.known().is_empty());
    }

    #[test]
    fn connections_are_counted_by_identity_and_given_back() {
        let identities = Identities::new(limits());
        let join = |name| identities.join(name).map(Option::unwrap);
        let (first, _second) = (join("a").unwrap(), join("a").unwrap());
        assert_eq!(join("a").unwrap_err(), TooMany(2));
        let other = join("b").unwrap();
        drop(first);
        drop(other);
        assert!(join("a").is_ok());
        assert_eq!(identities.known().len(), 1, "who is gone is forgotten");
    }

    #[test]
    fn links_are_counted_over_all_connections() {
        let identities = Identities::new(limits());
        let join = || identities.join("a").unwrap().unwrap();
        let (mut first, mut second) = (join(), join());
        first.set_links(2).unwrap();
        second.set_links(1).unwrap();
        assert_eq!(second.set_links(2), Err(TooMany(3)));
        first.set_links(1).unwrap();
        second.set_links(2).unwrap();
        drop(second);
        first.set_links(3).unwrap();
    }

    #[test]
    fn one_who_owes_messages_owes_them_after_coming_back() {
        let limits = IdentityLimits { sends_per_second: Some(1000), ..IdentityLimits::default() };
        let identities = Identities::new(limits);
        let member = identities.join("a").unwrap().unwrap();
        let now = Instant::now();
        assert!(member.take_sends(10_000, now));
        assert!(!member.take_sends(1, now) && !member.may_send(now));
        drop(member);
        let member = identities.join("a").unwrap().unwrap();
        assert!(!member.take_sends(1, now));
    }
}
