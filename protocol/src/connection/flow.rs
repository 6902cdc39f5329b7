//! Flow (§2.5.6, §2.6.7 to §2.6.10): credit, drain, echo and session windows, and the flush that
//! writes what was put off.

use super::fault::Fault;
use super::{Connection, Event, LinkId, SessionId, Stale};
use crate::condition;
use crate::frame::{FrameKind, write_frame};
use crate::limits;
use crate::link::{Credit, FlowDue, Link, LinkState};
use crate::performative::{Disposition, Flow, Performative, Role};

impl Connection {
    // ---- we receive

    /// From now on the peer may send `credit` deliveries. Said at the next flush, and only if the
    /// peer does not know it already.
    pub fn set_credit(&mut self, link: LinkId, credit: u32) -> Result<(), Stale> {
        self.change_credit(link, credit, false)
    }

    /// The same, and asks the peer to use the credit up or give it up at once: `Drained` follows.
    pub fn set_credit_drain(&mut self, link: LinkId, credit: u32) -> Result<(), Stale> {
        self.change_credit(link, credit, true)
    }

    fn change_credit(&mut self, id: LinkId, credit: u32, drain: bool) -> Result<(), Stale> {
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        match (link.state, link.role) {
            (LinkState::Attached | LinkState::Attaching, Role::Receiver) => {}
            _ => return Err(Stale),
        }
        if link.credit.set(credit, drain) {
            self.flow_later(id, FlowDue::State);
        }
        Ok(())
    }

    /// Deliveries the peer may still send on a link we receive on.
    pub fn credit(&self, link: LinkId) -> u32 {
        match self.links.get(link.0) {
            Some(link) if link.role == Role::Receiver => link.credit.left(),
            _ => 0,
        }
    }

    // ---- we send

    /// How many deliveries may be sent now. 0 without credit, behind a closed session window, and
    /// while the output or the unsettled deliveries are over their limit. What is sent in spite of
    /// it is queued.
    pub fn sendable(&self, link: LinkId) -> u32 {
        let Some(link) = self.links.get(link.0) else { return 0 };
        let Some(session) = self.sessions.get(link.session.0) else { return 0 };
        let held_up = link.state != LinkState::Attached
            || link.role != Role::Sender
            || !session.queue.is_empty()
            || self.config.output_bytes_max <= self.output.len();
        if held_up {
            return 0;
        }
        let room = limits::UNSETTLED_PER_SESSION_MAX.saturating_sub(session.sent.len());
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        link.credit.left().min(session.outgoing_window_left()).min(room)
    }

    /// The credit a receiver has given and that is not used up.
    pub fn link_credit(&self, link: LinkId) -> u32 {
        match self.links.get(link.0) {
            Some(link) if link.role == Role::Sender => link.credit.left(),
            _ => 0,
        }
    }

    /// The receiver wants its credit used or given up, and `drained` has not been called.
    pub fn is_draining(&self, link: LinkId) -> bool {
        let credit = self.links.get(link.0).map(|link| &link.credit);
        matches!(credit, Some(Credit::Sender { drain: true, .. }))
    }

    /// Deliveries ever sent on a link.
    pub fn delivered_count(&self, link: LinkId) -> u64 {
        match self.links.get(link.0).map(|link| &link.credit) {
            Some(Credit::Sender { delivered, .. }) => *delivered,
            _ => 0,
        }
    }

    /// Deliveries of a link that are not settled, or still wait for their turn to go out.
    pub fn unsettled_count(&self, link: LinkId) -> usize {
        self.links.get(link.0).map_or(0, |link| link.unsettled + link.queued)
    }

    /// There is nothing more to send: gives up the rest of the credit and answers the drain. Does
    /// nothing if the receiver has changed its mind.
    pub fn drained(&mut self, id: LinkId) -> Result<(), Stale> {
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        if link.state != LinkState::Attached || link.role != Role::Sender {
            return Err(Stale);
        }
        if link.credit.give_up() {
            self.flow_later(id, FlowDue::Drained);
        }
        Ok(())
    }

    // ---- the peer's flow

    pub(super) fn handle_flow(&mut self, id: SessionId, flow: &Flow) -> Result<(), Fault> {
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        let was_closed = session.outgoing_window_left() == 0;
        session.handle_window(flow);
        let opened = was_closed && 0 < session.outgoing_window_left();
        match flow.handle {
            None => {
                if flow.echo {
                    session.flow_due = true;
                    Self::flush_later(&mut self.flush_sessions, id, session);
                }
            }
            Some(handle) => match session.handles.get(handle) {
                Some(link) => self.handle_link_flow(link, flow),
                None => return Err(self.unattached(id, handle)),
            },
        }
        if opened {
            self.continue_queue(id);
            if self.sessions.get(id.0).is_some_and(|session| {
                session.queue.is_empty() && 0 < session.outgoing_window_left()
            }) {
                self.events.push_back(Event::SessionWindow(id));
            }
        }
        Ok(())
    }

    fn handle_link_flow(&mut self, id: LinkId, flow: &Flow) {
        let Some(link) = self.links.get_mut(id.0) else { return };
        match link.state {
            LinkState::Pending | LinkState::Attached => {}
            LinkState::Attaching | LinkState::Detaching { .. } => return,
        }
        if link.role == Role::Receiver {
            if link.credit.handle_sender_flow(flow) {
                self.events.push_back(Event::Drained { link: id });
            }
            if flow.echo {
                self.flow_later(id, FlowDue::State);
            }
            return;
        }
        link.credit.handle_receiver_flow(flow);
        let pending = link.state == LinkState::Pending;
        if let Credit::Sender { credit, drain, unreported, .. } = &mut link.credit {
            if pending {
                *unreported = true;
            } else {
                let event = Event::Credit { link: id, credit: *credit, drain: *drain };
                self.events.push_back(event);
            }
        }
        if !flow.drain && link.flow == FlowDue::Drained {
            // The receiver went on before it saw the answer to its drain.
            link.flow = FlowDue::State;
        }
        // The answer to a drain comes with `drained`, and is an answer to its echo as well.
        if flow.echo && !flow.drain {
            self.flow_later(id, FlowDue::State);
        }
    }

    pub(super) fn unattached(&mut self, id: SessionId, handle: u32) -> Fault {
        let errant = self.session_mut(id).is_some_and(|session| session.is_errant(handle));
        if errant {
            let text = format!("the link of handle {handle} was detached with an error");
            Fault::session(id, condition::SESSION_ERRANT_LINK, text)
        } else {
            let text = format!("no link is attached to handle {handle}");
            Fault::session(id, condition::SESSION_UNATTACHED_HANDLE, text)
        }
    }

    // ---- the flush

    fn flow_later(&mut self, id: LinkId, due: FlowDue) {
        let Some(link) = self.links.get_mut(id.0) else { return };
        let listed = link.flow != FlowDue::No;
        if link.flow != FlowDue::Drained {
            link.flow = due;
        }
        // A link that is not attached yet gets into the list when it is.
        if !listed
            && link.state == LinkState::Attached
            && let Some(session) = self.sessions.get_mut(link.session.0)
        {
            session.flow_links.push(id);
            Self::flush_later(&mut self.flush_sessions, link.session, session);
        }
    }

    /// Writes everything that was put off, for every session that has something.
    pub(super) fn flush(&mut self) {
        let mut due = std::mem::take(&mut self.flush_sessions);
        for id in due.drain(..) {
            self.flush_session(id);
        }
        // Nothing written here puts anything off again, so the list's memory can be kept.
        if self.flush_sessions.is_empty() {
            self.flush_sessions = due;
        }
    }

    pub(super) fn flush_session(&mut self, id: SessionId) {
        let Self { sessions, links, output, staged, open_sent, config, .. } = self;
        let out = if *open_sent { output } else { staged };
        let Some(session) = sessions.get_mut(id.0) else { return };
        let channel = session.channel;
        session.flush_due = false;
        out.append(|out| {
            for pending in session.dispositions.drain(..) {
                let disposition = Performative::Disposition(Disposition {
                    role: pending.role,
                    first: pending.first,
                    last: (pending.last != pending.first).then_some(pending.last),
                    settled: pending.settled,
                    state: pending.state,
                    batchable: false,
                });
                write_frame(out, FrameKind::Amqp, channel, |out| disposition.encode(out));
            }
            let mut flow_links = std::mem::take(&mut session.flow_links);
            flow_links.retain(|id| {
                let Some(link) = links.get_mut(id.0) else { return false };
                if link.state != LinkState::Attached {
                    return false;
                }
                // §2.6.10: the drain is over when everything before it has been sent.
                if link.flow == FlowDue::Drained && 0 < link.queued {
                    return true;
                }
                let begun = session.queue.front().is_some_and(|queued| {
                    queued.link == *id && queued.transfer.delivery_id.is_none()
                });
                let unsent = link.queued - usize::from(begun);
                let flow = link_flow(session.flow(config), link, unsent);
                let flow = Performative::Flow(flow);
                write_frame(out, FrameKind::Amqp, channel, |out| flow.encode(out));
                false
            });
            session.flow_links = flow_links;
            if session.flow_due {
                let flow = Performative::Flow(session.flow(config));
                write_frame(out, FrameKind::Amqp, channel, |out| flow.encode(out));
            }
        });
    }
}

/// A link's state as the peer can know it: `unsent` deliveries wait for the session window.
fn link_flow(mut flow: Flow, link: &mut Link, unsent: usize) -> Flow {
    let drained = link.flow == FlowDue::Drained;
    link.flow = FlowDue::No;
    flow.handle = Some(link.handle);
    link.credit.write_to(&mut flow, drained, u32::try_from(unsent).unwrap_or(u32::MAX));
    flow
}
