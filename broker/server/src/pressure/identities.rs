//! What each identity takes: the connections, links and messages of all who prove to be the same.
//!
//! An identity is what the first credential of a connection names, or that of a request: a rule by one of
//! its keys, a client certificate, or a subject of an identity provider. Those of each namespace are counted
//! apart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rate::Rate;

/// How many of those who are away are looked at whenever somebody comes or goes. More than one, so that
/// they become fewer than those who came.
const LOOKED_AT: usize = 4;

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

/// What one is told whose messages come too fast. SDKs wait then and try again.
pub(crate) const TOO_FAST: &str = "Messages come faster than is allowed. Please try again.";

/// Its messages come too fast; after this time one may come again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{TOO_FAST}")]
pub(crate) struct TooFast(pub(crate) Duration);

/// All who are connected to a namespace, or have sent to it a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    limits: IdentityLimits,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    each: HashMap<Arc<str>, Arc<Mutex<Taken>>>,
    /// Those of them who had no connection when they were last looked at, and still owed messages. There
    /// may be any number of subjects, so nobody is kept for longer than that.
    away: VecDeque<Arc<str>>,
}

/// What one has.
#[derive(Debug)]
struct Taken {
    connections: u32,
    links: u32,
    sends: Option<Rate>,
    /// It is in the list of those who are away.
    is_away: bool,
}

impl Taken {
    fn none(limits: &IdentityLimits, now: Instant) -> Arc<Mutex<Self>> {
        let sends = limits.sends_per_second.map(|rate| Rate::new(rate, now));
        Arc::new(Mutex::new(Self { connections: 0, links: 0, sends, is_away: false }))
    }

    /// Whether it is as if it had never been here.
    fn is_idle(&mut self, now: Instant) -> bool {
        // Who leaves and comes back at once must not be as good as new.
        self.connections == 0 && self.sends.as_mut().is_none_or(|rate| rate.is_full(now))
    }

    fn take_uncredited(&mut self, count: u32, now: Instant) -> Result<(), TooFast> {
        let taken = self.sends.as_mut().map(|rate| rate.take_uncredited(count, now));
        taken.unwrap_or(Ok(())).map_err(TooFast)
    }
}

impl Known {
    fn of(&mut self, name: &str, limits: &IdentityLimits, now: Instant) -> Arc<Mutex<Taken>> {
        if let Some(taken) = self.each.get(name) {
            return Arc::clone(taken);
        }
        let taken = Taken::none(limits, now);
        self.each.insert(Arc::from(name), Arc::clone(&taken));
        taken
    }

    /// Forgets one if it is idle, or looks again later. One who is away is looked at anyway.
    fn leave(&mut self, name: &str, taken: &mut Taken, now: Instant) {
        if taken.connections != 0 || taken.is_away {
            return;
        }
        if taken.is_idle(now) {
            self.each.remove(name);
        } else if let Some((name, _)) = self.each.get_key_value(name) {
            taken.is_away = true;
            self.away.push_back(Arc::clone(name));
        }
    }

    /// Looks at some of those who are away.
    fn look_around(&mut self, now: Instant) {
        for _ in 0..LOOKED_AT.min(self.away.len()) {
            let Some(name) = self.away.pop_front() else { return };
            let Some(taken) = self.each.get(&name).map(Arc::clone) else { continue };
            let mut taken = lock(&taken);
            if taken.is_idle(now) {
                self.each.remove(&name);
            } else if taken.connections == 0 {
                self.away.push_back(name);
            } else {
                taken.is_away = false;
            }
        }
    }
}

impl Identities {
    pub(crate) fn new(limits: IdentityLimits) -> Arc<Self> {
        Arc::new(Self { limits, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection. Without limits nobody is counted.
    pub(crate) fn join(self: &Arc<Self>, name: &str) -> Result<Option<Membership>, TooMany> {
        if self.limits == IdentityLimits::default() {
            return Ok(None);
        }
        let now = Instant::now();
        let mut known = self.known();
        known.look_around(now);
        let taken = known.of(name, &self.limits, now);
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

    /// Whether messages are counted at all.
    pub(crate) fn counts_sends(&self) -> bool {
        self.limits.sends_per_second.is_some()
    }

    /// Counts messages of one who needs no connection for them; too fast, and they are not to be taken.
    pub(crate) fn take_sends(&self, name: &str, count: u32, now: Instant) -> Result<(), TooFast> {
        if !self.counts_sends() {
            return Ok(());
        }
        let mut known = self.known();
        known.look_around(now);
        let taken = known.of(name, &self.limits, now);
        let mut taken = lock(&taken);
        let result = taken.take_uncredited(count, now);
        known.leave(name, &mut taken, now);
        result
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

    /// Counts messages that came with the credit of a link; too fast, and they are not to be taken.
    pub(crate) fn take_sends(&self, count: u32, now: Instant) -> bool {
        self.identities.limits.sends_per_second.is_none()
            || lock(&self.taken).sends.as_mut().is_none_or(|rate| rate.take(count, now))
    }

    /// The same for messages that no credit was given for.
    pub(crate) fn take_uncredited(&self, count: u32, now: Instant) -> Result<(), TooFast> {
        if !self.identities.counts_sends() {
            return Ok(());
        }
        lock(&self.taken).take_uncredited(count, now)
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
        let now = Instant::now();
        let mut known = self.identities.known();
        known.look_around(now);
        let mut taken = lock(&self.taken);
        taken.connections -= 1;
        taken.links -= self.links;
        known.leave(&self.name, &mut taken, now);
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
        assert!(identities.known().each.is_empty());
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
        assert_eq!(identities.known().each.len(), 1, "who is gone is forgotten");
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

    const SLOW: IdentityLimits =
        IdentityLimits { connections_max: None, links_max: None, sends_per_second: Some(10) };

    #[test]
    fn messages_by_way_of_a_connection_and_without_are_counted_together() {
        let identities = Identities::new(SLOW);
        let member = identities.join("a").unwrap().unwrap();
        let now = Instant::now();
        assert_eq!(identities.take_sends("a", 20, now), Ok(()));
        assert_eq!(identities.take_sends("a", 1, now), Err(TooFast(Duration::from_secs(1))));
        assert!(!member.may_send(now) && !member.take_sends(1, now));
        assert_eq!(member.take_uncredited(1, now), Err(TooFast(Duration::from_secs(1))));
        assert_eq!(identities.take_sends("b", 1, now), Ok(()), "another one");
        let unlimited = Identities::new(limits());
        assert_eq!(unlimited.take_sends("a", u32::MAX, now), Ok(()));
        assert!(unlimited.known().each.is_empty());
    }

    /// Each is somebody else, and none comes back.
    #[test]
    fn those_who_left_are_forgotten_once_they_owe_nothing() {
        let (identities, start) = (Identities::new(SLOW), Instant::now());
        for number in 0..1000 {
            let name = format!("subject {number}");
            identities.take_sends(&name, 10_000, start).unwrap();
            let member = identities.join(&format!("connected {number}")).unwrap().unwrap();
            assert!(member.take_sends(10_000, start));
        }
        assert_eq!(identities.known().each.len(), 2000, "all owe something");
        let later = start + Duration::from_hours(1);
        for _ in 0..1000 {
            // Too many of them are refused, as they have to be.
            let _ = identities.take_sends("somebody", 1, later);
        }
        let known = identities.known();
        assert!(known.each.len() <= 1 && known.away.len() <= 1, "{}", known.each.len());
    }

    #[test]
    fn one_who_is_away_and_comes_back_is_known_for_as_long_as_it_stays() {
        let (identities, start) = (Identities::new(SLOW), Instant::now());
        identities.take_sends("a", 10, start).unwrap();
        let member = identities.join("a").unwrap().unwrap();
        let later = start + Duration::from_hours(1);
        for _ in 0..10 {
            identities.take_sends("b", 0, later).unwrap();
        }
        assert_eq!(identities.known().away.len(), 0);
        drop(member);
        assert!(identities.known().away.len() <= 1);
        for _ in 0..10 {
            identities.take_sends("b", 0, later + Duration::from_hours(1)).unwrap();
        }
        assert!(identities.known().each.is_empty(), "b owes nothing, and a has left");
    }
}
