//! Begin and end (§2.5).

use super::fault::Fault;
use super::{Connection, Event, LimitReached, LinkId, Phase, SessionId, Stale};
use crate::condition::{self, ErrorInfo};
use crate::limits;
use crate::link::LinkState;
use crate::performative::{Begin, End, Performative};
use crate::session::{Session, SessionState};

impl Connection {
    /// Begins a session. Links may be attached at once; `Event::Begin` comes with the answer.
    pub fn begin(&mut self) -> Result<SessionId, LimitReached> {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return Err(LimitReached);
        }
        let (id, channel) = self.new_session().ok_or(LimitReached)?;
        self.beginning.insert(u32::from(channel), id);
        self.write_begin(id);
        Ok(id)
    }

    /// Ends a session with all its links. `Event::End` comes when the peer has confirmed.
    pub fn end(&mut self, session: SessionId, error: Option<ErrorInfo>) -> Result<(), Stale> {
        match self.sessions.get(session.0).map(|session| session.state) {
            Some(SessionState::Beginning | SessionState::Mapped) => {
                let links = self.end_session(session, error, true);
                if let Some(session) = self.session_mut(session) {
                    session.ended_links = links;
                }
                Ok(())
            }
            Some(SessionState::Ending { .. }) | None => Err(Stale),
        }
    }

    fn new_session(&mut self) -> Option<(SessionId, u16)> {
        let channel = self.channel_pool.take(u32::from(self.remote_channel_max))?;
        let channel = u16::try_from(channel).ok()?;
        let session = Session::new(&self.config, channel);
        Some((SessionId(self.sessions.insert_with(|_| session)), channel))
    }

    fn write_begin(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id.0) else { return };
        let (channel, begin) = (session.channel, session.begin(&self.config));
        self.write(channel, &Performative::Begin(Box::new(begin)));
    }

    pub(super) fn handle_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Fault> {
        if self.config.channel_max < channel {
            self.reached.sessions += 1;
            return Err(Fault::connection(
                condition::CONNECTION_FRAMING_ERROR,
                format!("channel {channel} is above channel-max"),
            ));
        }
        if self.channels.get(u32::from(channel)).is_some() {
            return Err(Fault::connection(
                condition::NOT_ALLOWED,
                format!("a session has begun on channel {channel} already"),
            ));
        }
        let answer = begin.remote_channel.map(u32::from);
        let id = if let Some(ours) = answer {
            self.beginning.remove(ours).ok_or_else(|| {
                Fault::connection(condition::NOT_ALLOWED, "this begin answers none of ours")
            })?
        } else {
            let (id, _) = self.new_session().ok_or_else(|| {
                Fault::connection(
                    condition::RESOURCE_LIMIT_EXCEEDED,
                    "your channel-max leaves no channel to answer this begin",
                )
            })?;
            id
        };
        self.ended_channels.retain(|ended| *ended != channel);
        self.channels.insert(u32::from(channel), id);
        let Some(session) = self.session_mut(id) else { return Ok(()) };
        session.handle_begin(channel, begin);
        if session.state == SessionState::Mapped {
            if answer.is_none() {
                self.write_begin(id);
            }
            self.events.push_back(Event::Begin(id));
        }
        Ok(())
    }

    /// The peer broke a rule of the session.
    pub(super) fn fail_session(&mut self, id: SessionId, error: ErrorInfo) {
        let links = self.end_session(id, Some(error.clone()), false);
        self.events.push_back(Event::End { session: id, error: Some(error), links });
    }

    fn end_session(
        &mut self,
        id: SessionId,
        error: Option<ErrorInfo>,
        confirm: bool,
    ) -> Vec<LinkId> {
        // What was decided before the end is still said before it.
        self.flush_session(id);
        let links = self.drop_links(id);
        if let Some(session) = self.session_mut(id) {
            session.state = SessionState::Ending { confirm };
            let channel = session.channel;
            self.write(channel, &Performative::End(End { error }));
        }
        links
    }

    pub(super) fn handle_end(&mut self, id: SessionId, error: Option<ErrorInfo>) {
        let Some(session) = self.session_mut(id) else { return };
        let (state, channel) = (session.state, session.channel);
        let mut links = std::mem::take(&mut session.ended_links);
        links.append(&mut self.drop_links(id));
        match state {
            SessionState::Beginning | SessionState::Mapped => {
                self.write(channel, &Performative::End(End { error: None }));
                self.events.push_back(Event::End { session: id, error, links });
            }
            SessionState::Ending { confirm: true } => {
                self.events.push_back(Event::End { session: id, error, links });
            }
            SessionState::Ending { confirm: false } => {}
        }
        if let Some(session) = self.sessions.remove(id.0) {
            self.channel_pool.give_back(u32::from(session.channel));
            if let Some(remote) = session.remote_channel {
                self.channels.remove(u32::from(remote));
                self.remember_ended(remote);
            }
        }
    }

    fn remember_ended(&mut self, channel: u16) {
        if self.ended_channels.len() == limits::ENDED_CHANNELS_KEPT {
            self.ended_channels.pop_front();
        }
        self.ended_channels.push_back(channel);
    }

    /// A frame on a channel without a session. pyamqp detaches its links after it has ended their
    /// session, and ends a session again that both ends have ended: what only takes leave of a
    /// session that was there does no harm. Everything else is against §2.5.1.
    pub(super) fn handle_unmapped(
        &self,
        channel: u16,
        performative: &Performative,
    ) -> Result<(), Fault> {
        let leave = matches!(
            performative,
            Performative::Flow(_)
                | Performative::Disposition(_)
                | Performative::Detach(_)
                | Performative::End(_)
        );
        if leave && self.ended_channels.contains(&channel) {
            return Ok(());
        }
        Err(Fault::connection(
            condition::NOT_ALLOWED,
            format!("no session has begun on channel {channel}"),
        ))
    }

    /// Forgets every link of a session, and says which of them the caller has still to hear of.
    fn drop_links(&mut self, id: SessionId) -> Vec<LinkId> {
        let Some(session) = self.session_mut(id) else { return Vec::new() };
        let mut links = session.empty();
        links.retain(|link| {
            let Some(link) = self.links.remove(link.0) else { return false };
            if link.state == LinkState::Pending {
                self.pending_attaches -= 1;
            }
            if let Some(assembly) = link.assembly {
                self.partial_bytes -= assembly.payload.len();
            }
            !matches!(link.state, LinkState::Detaching { confirm: false, .. })
        });
        links
    }
}
