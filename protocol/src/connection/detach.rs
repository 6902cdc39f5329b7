//! Detach (§2.6.6), in every state a link can be in.

use super::{Connection, Event, LinkId, SessionId, Stale};
use crate::condition::ErrorInfo;
use crate::link::LinkState;
use crate::performative::{Detach, Performative, Role};

impl Connection {
    /// Detaches a link. Nothing can be done with it any more, and its frames are ignored;
    /// `Event::Detach` comes when the peer has confirmed.
    pub fn detach(
        &mut self,
        link: LinkId,
        closed: bool,
        error: Option<ErrorInfo>,
    ) -> Result<(), Stale> {
        match self.links.get(link.0).map(|link| link.state) {
            Some(LinkState::Pending | LinkState::Attaching | LinkState::Attached) => {
                self.start_detach(link, closed, error, true);
                Ok(())
            }
            Some(LinkState::Detaching { .. }) | None => Err(Stale),
        }
    }

    /// The peer broke a rule of the link.
    pub(super) fn fail_link(&mut self, link: LinkId, error: ErrorInfo) {
        self.start_detach(link, true, Some(error.clone()), false);
        self.events.push_back(Event::Detach { link, closed: true, error: Some(error) });
    }

    pub(super) fn start_detach(
        &mut self,
        id: LinkId,
        closed: bool,
        error: Option<ErrorInfo>,
        confirm: bool,
    ) {
        let Some(link) = self.links.get(id.0) else { return };
        let (session, state, handle) = (link.session, link.state, link.handle);
        // What was decided before the detach is still said before it.
        self.flush_session(session);
        if state == LinkState::Pending {
            self.write_null_attach(id);
        }
        // A link the peer has not answered keeps its name, to know the answer when it comes.
        self.release(id, state != LinkState::Attaching);
        if let Some(link) = self.links.get_mut(id.0) {
            link.state = LinkState::Detaching { confirm, errant: error.is_some() };
        }
        self.write_detach(session, Detach { handle, closed, error });
    }

    fn write_detach(&mut self, session: SessionId, detach: Detach) {
        let Some(session) = self.sessions.get(session.0) else { return };
        let channel = session.channel;
        self.write(channel, &Performative::Detach(detach));
    }

    pub(super) fn handle_detach(&mut self, session_id: SessionId, detach: Detach) {
        let Some(session) = self.sessions.get_mut(session_id.0) else { return };
        // A second detach for one link does no harm, whatever the peer thought.
        let Some(id) = session.handles.get(detach.handle) else { return };
        let Some(link) = self.links.get(id.0) else { return };
        let (state, handle) = (link.state, link.handle);
        let Detach { closed, error, .. } = detach;
        match state {
            LinkState::Pending | LinkState::Attaching | LinkState::Attached => {
                if state == LinkState::Pending {
                    self.write_null_attach(id);
                }
                // `closed` is mirrored: a durable subscriber may come back to a suspended link.
                self.write_detach(session_id, Detach { handle, closed, error: None });
                self.events.push_back(Event::Detach { link: id, closed, error });
            }
            LinkState::Detaching { confirm, errant } => {
                if errant {
                    session.remember_errant(detach.handle);
                }
                if confirm {
                    self.events.push_back(Event::Detach { link: id, closed, error });
                }
            }
        }
        self.remove_link(id);
    }

    /// Gives back everything a link holds but its handles.
    fn release(&mut self, id: LinkId, forget_name: bool) {
        let Some(link) = self.links.get_mut(id.0) else { return };
        if link.state == LinkState::Pending {
            self.pending_attaches -= 1;
        }
        if let Some(assembly) = link.assembly.take() {
            self.partial_bytes -= assembly.payload.len();
        }
        link.request = None;
        let Some(session) = self.sessions.get_mut(link.session.0) else { return };
        if 0 < link.unsettled {
            match link.role {
                Role::Sender => session.sent.remove_all(|sent| sent.link == id),
                Role::Receiver => session.received.remove_all(|received| received.link == id),
            }
            link.unsettled = 0;
        }
        if 0 < link.queued {
            session.queue.retain(|queued| queued.link != id);
            link.queued = 0;
        }
        if forget_name {
            let name = (link.name.clone(), link.role);
            if session.names.get(&name) == Some(&id) {
                session.names.remove(&name);
            }
        }
    }

    pub(super) fn remove_link(&mut self, id: LinkId) {
        self.release(id, true);
        let Some(link) = self.links.remove(id.0) else { return };
        let Some(session) = self.sessions.get_mut(link.session.0) else { return };
        session.handle_pool.give_back(link.handle);
        if let Some(remote) = link.remote_handle {
            session.handles.remove(remote);
        }
        if let Some(index) = session.links.iter().position(|other| *other == id) {
            session.links.swap_remove(index);
        }
    }
}
