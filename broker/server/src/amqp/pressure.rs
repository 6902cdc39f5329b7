//! What a connection holds and how fast it sends, and how it is held back when that is too much.

use std::time::{Duration, Instant};

use peeklock_core::Error;
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{LinkId, Reached};
use tracing::{debug, info, warn};

use super::endpoint::Endpoint;
use super::link::Link;
use crate::metrics::Limit;
use crate::pressure::{Membership, TOO_FAST, TooMany};

/// How soon one who got no credit is looked at again.
const RELIEF: Duration = Duration::from_millis(100);

/// What SDKs wait and try again for.
const NO_ROOM: &str = "The broker is short of memory. Please try again.";

/// Octets of messages that a connection is given ahead of what it has taken, all its links together: at
/// full speed some hundred small messages, or one of the largest that are usual.
const AHEAD: u64 = 1 << 20;

/// The part of it that each link has at least.
const AHEAD_OF_LINK_MIN: u64 = 16 << 10;

impl Endpoint {
    /// Says how large the buffer is that is read into, if that is worth telling.
    pub(crate) fn note_read_buffer(&mut self, bytes: usize) {
        if bytes != self.read_buffer {
            self.read_buffer = bytes;
            self.note_held();
        }
    }

    /// Whether the connection may take in more than it has to.
    pub(crate) fn has_room(&self) -> bool {
        self.holding.has_room()
    }

    /// Says how much the connection holds, and throws away what there is no room for.
    pub(super) fn note_held(&mut self) {
        self.holding.set(self.held());
        if self.engine.partial_bytes() != 0 && !self.holding.has_room() {
            self.engine.drop_partial();
        }
    }

    fn held(&self) -> usize {
        let messages = self.engine.partial_bytes() + self.pending_bytes;
        messages + self.engine.output_len() + self.read_buffer
    }

    /// Counts what the engine has told the peer of its bounds.
    pub(super) fn count_reached(&mut self) {
        let reached = self.engine.take_reached();
        if reached == Reached::default() {
            return;
        }
        let counts = [
            (Limit::SessionsPerConnection, reached.sessions),
            (Limit::LinksPerConnection, reached.links),
            (Limit::FrameSize, reached.frame_size),
            (Limit::IdleTimeout, reached.idle),
            (Limit::HandshakeTimeout, reached.handshake),
        ];
        for (limit, count) in counts.into_iter().filter(|(_, count)| *count != 0) {
            info!(limit = limit.name(), count, "the peer came to a limit");
            self.settings.metrics.limit_hits(limit, count);
        }
    }

    /// Whether messages are taken in now that came on a link, so many of so many octets together; if
    /// not, what to tell their sender.
    pub(super) fn admit(&self, messages: usize, octets: usize) -> Result<(), ErrorInfo> {
        let in_time = |member: &Membership, count| member.take_sends(count, Instant::now());
        let admitted = self.admit_if(messages, octets, in_time);
        admitted.map_err(|text| ErrorInfo::new(condition::SERVER_BUSY, text))
    }

    /// The same for messages in a request, which no credit was given for.
    pub(super) fn admit_requested(&self, messages: usize, octets: usize) -> Result<(), Error> {
        let in_time =
            |member: &Membership, count| member.take_uncredited(count, Instant::now()).is_ok();
        self.admit_if(messages, octets, in_time).map_err(Error::ServerBusy)
    }

    fn admit_if(
        &self,
        messages: usize,
        octets: usize,
        is_in_time: impl FnOnce(&Membership, u32) -> bool,
    ) -> Result<(), &'static str> {
        let count = u32::try_from(messages).unwrap_or(u32::MAX);
        // A whole message may have come since the connection said last how much it holds.
        let (limit, text) = if !self.holding.has_room_with(|| self.held() + octets) {
            (Limit::Memory, NO_ROOM)
        } else if self.membership.as_ref().is_some_and(|member| !is_in_time(member, count)) {
            (Limit::SendRatePerIdentity, TOO_FAST)
        } else {
            return Ok(());
        };
        self.settings.metrics.limit_hit(limit);
        debug!(limit = limit.name(), count, "messages are refused");
        Err(text)
    }

    /// What a sender is told of a message that was thrown away half way.
    pub(super) fn no_room(&self) -> ErrorInfo {
        self.settings.metrics.limit_hit(Limit::Memory);
        ErrorInfo::new(condition::SERVER_BUSY, NO_ROOM)
    }

    /// How much credit a sender may have at the most, or none for now: then it is looked at again.
    pub(super) fn credit_for(&mut self, id: LinkId, most: u32) -> Option<u32> {
        let (has_room, member) = (self.holding.has_room(), self.membership.as_ref());
        if has_room && member.is_none() {
            return Some(most);
        }
        let now = Instant::now();
        if has_room && member.is_none_or(|member| member.may_send(now)) {
            // Of a rate, no more than comes in a second.
            let rate = member.and_then(Membership::sends_per_second);
            return Some(rate.map_or(most, |rate| most.min(rate)));
        }
        self.starved.insert(id);
        self.relief_due.get_or_insert(now + RELIEF);
        None
    }

    /// Looks again at those who got no credit.
    pub(super) fn relieve(&mut self) {
        self.relief_due = None;
        for id in std::mem::take(&mut self.starved) {
            self.top_up(id);
        }
    }

    /// Counts the connection once it is known whose it is, and closes it when that one has too many.
    pub(super) fn join_identity(&mut self) {
        if self.membership.is_some() || self.is_one_too_many {
            return;
        }
        let Some(name) = self.claims.identity() else { return };
        match self.settings.identities.join(&name) {
            Ok(membership) => {
                self.membership = membership;
                self.count_links();
            }
            Err(TooMany(most)) => {
                self.settings.metrics.limit_hit(Limit::ConnectionsPerIdentity);
                warn!(
                    limit = Limit::ConnectionsPerIdentity.name(),
                    identity = name,
                    most,
                    "one is closed"
                );
                self.is_one_too_many = true;
                self.close_one_too_many();
            }
        }
    }

    /// Closes the connection if its identity has too many, and it is open: before that there is nothing to
    /// close.
    pub(super) fn close_one_too_many(&mut self) {
        if self.is_one_too_many && self.is_open {
            let text = "The maximum number of connections of this identity is reached.";
            self.close(condition::RESOURCE_LIMIT_EXCEEDED, text);
        }
    }

    /// Whether there may be one more link.
    pub(super) fn admit_link(&mut self) -> Result<(), ErrorInfo> {
        let links = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        let Some(membership) = &mut self.membership else { return Ok(()) };
        membership.set_links(links.saturating_add(1)).map_err(|TooMany(most)| {
            self.settings.metrics.limit_hit(Limit::LinksPerIdentity);
            info!(limit = Limit::LinksPerIdentity.name(), most, "a link is refused");
            let text = "The maximum number of links of this identity is reached.";
            ErrorInfo::new(condition::RESOURCE_LIMIT_EXCEEDED, text)
        })
    }

    /// Links were opened or are gone.
    pub(super) fn count_links(&mut self) {
        let links = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        if let Some(membership) = &mut self.membership {
            // More than allowed are there only from before it was known whose they are.
            let _ = membership.set_links(links);
        }
    }

    /// The octets that a receiver may be given, as a total; nothing new while it has room, or while what
    /// is written is not taken.
    pub(super) fn more_bytes(&self, id: LinkId) -> Option<u64> {
        let Some(Link::Outgoing(link)) = self.links.get(&id) else { return None };
        let ahead = if self.holding.has_room() {
            (AHEAD / self.links.len().max(1) as u64).max(AHEAD_OF_LINK_MIN)
        } else {
            // One message at a time.
            1
        };
        let wanted = link.bytes_given.saturating_add(ahead);
        let is_worth_it = link.bytes_limit.saturating_sub(link.bytes_given) <= ahead / 2;
        (is_worth_it && link.bytes_limit < wanted).then_some(wanted)
    }
}
