//! Dispositions (§2.6.12, §2.7.6): outcomes and settlement, in both directions.

use super::fault::Fault;
use super::{Connection, Event, LinkId, SessionId, Stale};
use crate::condition;
use crate::delivery::DeliveryId;
use crate::delivery_state::DeliveryState;
use crate::limits;
use crate::link::{Link, LinkState};
use crate::performative::{Disposition, Role};
use crate::slots::Slots;

impl Connection {
    /// Gives the outcome of a delivery we received. Consecutive ones with the same outcome are
    /// written as one range at the next flush. `Err` also if the delivery is settled already.
    pub fn settle_incoming(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        state: DeliveryState,
        settled: bool,
    ) -> Result<(), Stale> {
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        if link.state != LinkState::Attached || link.role != Role::Receiver {
            return Err(Stale);
        }
        let session = self.sessions.get_mut(link.session.0).ok_or(Stale)?;
        if session.received.get_mut(delivery).is_none_or(|received| received.link != id) {
            return Err(Stale);
        }
        if settled {
            session.received.remove(delivery);
            link.unsettled -= 1;
        }
        session.add_disposition(Role::Receiver, delivery, settled, Some(state));
        Self::flush_later(&mut self.flush_sessions, link.session, session);
        Ok(())
    }

    /// Tells the receiver about a delivery we sent: the answer to its outcome in rcv-settle-mode
    /// second. `Err` also if the delivery is settled already.
    pub fn settle_outgoing(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        state: Option<DeliveryState>,
        settled: bool,
    ) -> Result<(), Stale> {
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        if link.state != LinkState::Attached || link.role != Role::Sender {
            return Err(Stale);
        }
        let session = self.sessions.get_mut(link.session.0).ok_or(Stale)?;
        let sent = session.sent.get_mut(delivery).filter(|sent| sent.link == id).ok_or(Stale)?;
        if settled {
            session.sent.remove(delivery);
            link.unsettled -= 1;
        } else {
            // The receiver may answer with another outcome, which is news again.
            sent.reported = false;
        }
        session.add_disposition(Role::Sender, delivery, settled, state);
        Self::flush_later(&mut self.flush_sessions, link.session, session);
        Ok(())
    }

    pub(super) fn handle_disposition(
        &mut self,
        session_id: SessionId,
        disposition: &Disposition,
        body_len: usize,
    ) -> Result<(), Fault> {
        let Self { sessions, links, events, .. } = self;
        let Some(session) = sessions.get_mut(session_id.0) else { return Ok(()) };
        let Disposition { first, settled, ref state, .. } = *disposition;
        let last = disposition.last.unwrap_or(first);
        // Each delivery of the range gets its own copy of the state, so a long state over a long
        // range is more memory than a frame may choose.
        let cost = if body_len <= limits::DISPOSITION_LEN_FREE { 0 } else { body_len };
        let mut budget = limits::DISPOSITION_COPIES_MAX;
        let mut overrun = false;
        match disposition.role {
            Role::Receiver => session.sent.visit_range(first, last, |id, sent| {
                let news = settled || (!sent.reported && state.as_ref().is_some_and(is_outcome));
                overrun |= news && budget < cost;
                if !news || overrun {
                    return false;
                }
                budget -= cost;
                sent.reported = true;
                let (link, tag) = (sent.link, sent.tag);
                events.push_back(Event::Settled { link, id, tag, state: state.clone(), settled });
                if settled {
                    count_settled(links, link);
                }
                settled
            }),
            Role::Sender if settled => session.received.visit_range(first, last, |id, received| {
                let link = received.link;
                let incomplete = links
                    .get(link.0)
                    .and_then(|link| link.assembly.as_ref())
                    .is_some_and(|assembly| assembly.id == id);
                overrun |= budget < cost;
                if incomplete || overrun {
                    return false;
                }
                budget -= cost;
                events.push_back(Event::SettledBySender { link, id, state: state.clone() });
                count_settled(links, link);
                true
            }),
            // What a sender thinks of a delivery before it settles it changes nothing for us.
            Role::Sender => {}
        }
        if overrun {
            let text = "the delivery state is too long for so many deliveries";
            return Err(Fault::session(session_id, condition::RESOURCE_LIMIT_EXCEEDED, text));
        }
        Ok(())
    }
}

fn count_settled(links: &mut Slots<Link>, link: LinkId) {
    if let Some(link) = links.get_mut(link.0) {
        link.unsettled -= 1;
    }
}

/// §3.4: `received` and `declared` are on the way to an outcome, the rest is one. What we do not
/// know may be one.
fn is_outcome(state: &DeliveryState) -> bool {
    match state {
        DeliveryState::Received { .. } => false,
        DeliveryState::Accepted
        | DeliveryState::Rejected(_)
        | DeliveryState::Released
        | DeliveryState::Modified { .. }
        | DeliveryState::Declared { .. }
        | DeliveryState::Transactional { .. }
        | DeliveryState::Unknown(_) => true,
    }
}
