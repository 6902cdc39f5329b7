//! Attach (§2.6.3): asked for by the peer and answered by the caller in its own time, or asked for
//! by the caller.

use super::fault::{Fault, error};
use super::{AttachError, Connection, Event, LinkId, SessionId, Stale};
use crate::condition::{self, ErrorInfo};
use crate::limits;
use crate::link::{Credit, FlowDue, Link, LinkState};
use crate::performative::{Attach, Performative, ReceiverSettleMode, Role, SenderSettleMode};
use crate::serial::SerialNumber;
use crate::session::SessionState;
use crate::terminus::{Source, SourceField, TargetField, TargetNode};
use crate::value::{Map, Symbol};

/// How to answer a peer's attach. The default echoes everything.
#[derive(Clone, Debug, Default)]
pub struct AttachReply {
    /// `None` echoes the request's byte for byte; an empty source where it had none, because
    /// pyamqp takes a link with either terminus missing for dead.
    pub source: Option<SourceField>,
    /// The same for the target.
    pub target: Option<TargetField>,
    /// `None` echoes the request's; `mixed` where it had none.
    pub snd_settle_mode: Option<SenderSettleMode>,
    /// `None` echoes the request's; `first` where it had none.
    pub rcv_settle_mode: Option<ReceiverSettleMode>,
    /// Where we receive, `None` is the value of `Config`.
    pub max_message_size: Option<u64>,
    /// Link properties.
    pub properties: Option<Map>,
    /// Offered capabilities.
    pub offered_capabilities: Option<Vec<Symbol>>,
}

impl Connection {
    /// Attaches a link; `attach.handle` is assigned here, whatever it says. `AttachReply` comes
    /// with the answer. Credit may be set at once and is sent after the answer.
    pub fn attach(
        &mut self,
        session: SessionId,
        mut attach: Attach,
    ) -> Result<LinkId, AttachError> {
        let first_serial = self.config.first_serial;
        let id = session;
        let session = match self.sessions.get_mut(id.0) {
            Some(session) if !matches!(session.state, SessionState::Ending { .. }) => session,
            _ => return Err(AttachError::Stale),
        };
        let name = (attach.name.clone(), attach.role);
        if session.names.contains_key(&name) {
            return Err(AttachError::NameInUse);
        }
        let handle =
            session.handle_pool.take(session.remote_handle_max).ok_or(AttachError::LimitReached)?;
        attach.handle = handle;
        if attach.role == Role::Sender {
            attach.initial_delivery_count.get_or_insert(first_serial);
        }
        let link = LinkId(self.links.insert_with(|_| Link {
            session: id,
            state: LinkState::Attaching,
            role: attach.role,
            name: attach.name.clone(),
            handle,
            remote_handle: None,
            request: None,
            max_message_size: attach.max_message_size.unwrap_or(self.config.max_message_size),
            credit: match attach.role {
                Role::Sender => {
                    Credit::sender(attach.initial_delivery_count.unwrap_or(first_serial))
                }
                Role::Receiver => Credit::receiver(SerialNumber::default()),
            },
            flow: FlowDue::No,
            unsettled: 0,
            queued: 0,
            assembly: None,
        }));
        session.names.insert(name, link);
        session.links.push(link);
        let channel = session.channel;
        if !self.write(channel, &Performative::Attach(Box::new(attach))) {
            self.remove_link(link);
            return Err(AttachError::TooLong);
        }
        Ok(link)
    }

    /// Answers a pending attach: the link is there from now on.
    pub fn accept_attach(&mut self, id: LinkId, reply: AttachReply) -> Result<(), Stale> {
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        if link.state != LinkState::Pending {
            return Err(Stale);
        }
        let request = link.request.take().ok_or(Stale)?;
        let session = self.sessions.get_mut(link.session.0).ok_or(Stale)?;
        link.state = LinkState::Attached;
        self.pending_attaches -= 1;
        let max_message_size = match link.role {
            Role::Sender => reply.max_message_size,
            Role::Receiver => {
                link.max_message_size =
                    reply.max_message_size.unwrap_or(self.config.max_message_size);
                Some(link.max_message_size)
            }
        };
        let attach = Attach {
            source: reply.source.or(request.source).or_else(|| Some(Source::default().into())),
            target: reply.target.or(request.target).or_else(|| Some(TargetNode::default().into())),
            snd_settle_mode: reply
                .snd_settle_mode
                .or(request.snd_settle_mode)
                .or(Some(SenderSettleMode::Mixed)),
            rcv_settle_mode: reply
                .rcv_settle_mode
                .or(request.rcv_settle_mode)
                .or(Some(ReceiverSettleMode::First)),
            max_message_size,
            offered_capabilities: reply.offered_capabilities,
            properties: reply.properties,
            ..Self::bare_reply(link, self.config.first_serial)
        };
        let channel = session.channel;
        if !self.write(channel, &Performative::Attach(Box::new(attach))) {
            // §2.8.15: what was asked for cannot be repeated within the peer's own limit.
            self.refuse_accepted(id);
            return Err(Stale);
        }
        let link = self.links.get_mut(id.0).ok_or(Stale)?;
        let session = self.sessions.get_mut(link.session.0).ok_or(Stale)?;
        if let Credit::Sender { credit, drain, unreported: true, .. } = link.credit {
            self.events.push_back(Event::Credit { link: id, credit, drain });
        }
        if link.flow != FlowDue::No {
            session.flow_links.push(id);
            Self::flush_later(&mut self.flush_sessions, link.session, session);
        }
        Ok(())
    }

    /// The answer does not fit the peer's frames: back to pending, and from there to an end.
    fn refuse_accepted(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id.0) {
            link.state = LinkState::Pending;
            self.pending_attaches += 1;
            let text = "the answer does not fit your max-frame-size";
            self.fail_link(id, error(condition::FRAME_SIZE_TOO_SMALL, text));
        }
    }

    /// Refuses a pending attach with an error.
    pub fn reject_attach(&mut self, id: LinkId, error: ErrorInfo) -> Result<(), Stale> {
        match self.links.get(id.0).map(|link| link.state) {
            Some(LinkState::Pending) => {
                self.start_detach(id, true, Some(error), false);
                Ok(())
            }
            _ => Err(Stale),
        }
    }

    /// What every answer to the request of `link` has in common; with null termini it is a refusal.
    fn bare_reply(link: &Link, first_serial: SerialNumber) -> Attach {
        Attach {
            initial_delivery_count: (link.role == Role::Sender).then_some(first_serial),
            ..Attach::new(link.name.clone(), link.handle, link.role)
        }
    }

    /// The first half of a refusal: an attach without termini. The detach has to follow at once,
    /// because JS waits one turn of its event loop for the reason.
    pub(super) fn write_null_attach(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.0) else { return };
        let Some(session) = self.sessions.get(link.session.0) else { return };
        let request = link.request.take();
        let attach = Attach {
            // go-amqp compares the modes before it looks at anything else.
            snd_settle_mode: request.as_ref().and_then(|request| request.snd_settle_mode),
            rcv_settle_mode: request.as_ref().and_then(|request| request.rcv_settle_mode),
            max_message_size: (link.role == Role::Receiver).then_some(link.max_message_size),
            ..Self::bare_reply(link, self.config.first_serial)
        };
        let channel = session.channel;
        self.write(channel, &Performative::Attach(Box::new(attach)));
    }

    pub(super) fn handle_attach(
        &mut self,
        id: SessionId,
        attach: Box<Attach>,
        body_len: usize,
    ) -> Result<(), Fault> {
        let handle = attach.handle;
        if self.config.handle_max < handle {
            return Err(Fault::connection(
                condition::CONNECTION_FRAMING_ERROR,
                format!("handle {handle} is above handle-max"),
            ));
        }
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        if session.handles.get(handle).is_some() {
            return Err(Fault::session(
                id,
                condition::SESSION_HANDLE_IN_USE,
                format!("handle {handle} is in use by another link"),
            ));
        }
        session.forget_errant(handle);
        let role = attach.role.opposite();
        let named = session.names.get(&(attach.name.clone(), role)).copied();
        if let Some((link_id, link)) =
            named.and_then(|named| Some((named, self.links.get_mut(named.0)?)))
        {
            match link.state {
                LinkState::Attaching => {
                    link.state = LinkState::Attached;
                    link.remote_handle = Some(handle);
                    link.credit.handle_initial_count(attach.initial_delivery_count);
                    session.handles.insert(handle, link_id);
                    if link.flow != FlowDue::No {
                        session.flow_links.push(link_id);
                        Self::flush_later(&mut self.flush_sessions, id, session);
                    }
                    self.events.push_back(Event::AttachReply { link: link_id, attach });
                    return Ok(());
                }
                LinkState::Detaching { .. } => {
                    // We gave the link up before the answer came; its detach follows.
                    link.remote_handle = Some(handle);
                    session.handles.insert(handle, link_id);
                    session.names.remove(&(attach.name.clone(), role));
                    return Ok(());
                }
                LinkState::Pending | LinkState::Attached => {
                    let text = "another attach of the same name has taken the link over";
                    self.fail_link(link_id, error(condition::LINK_STOLEN, text));
                }
            }
        }
        self.new_pending_link(id, attach, body_len)
    }

    fn new_pending_link(
        &mut self,
        id: SessionId,
        attach: Box<Attach>,
        body_len: usize,
    ) -> Result<(), Fault> {
        // A refused attach holds a handle until the peer detaches. A peer that never does is cut.
        if self.config.links_max.saturating_mul(2) <= self.links.len() {
            self.reached.links += 1;
            let text = "too many links";
            return Err(Fault::connection(condition::RESOURCE_LIMIT_EXCEEDED, text));
        }
        let Some(session) = self.sessions.get_mut(id.0) else { return Ok(()) };
        let Some(handle) = session.handle_pool.take(session.remote_handle_max) else {
            let text = "your handle-max leaves no handle to answer this attach";
            return Err(Fault::session(id, condition::RESOURCE_LIMIT_EXCEEDED, text));
        };
        let role = attach.role.opposite();
        let mut credit = match role {
            Role::Sender => Credit::sender(self.config.first_serial),
            Role::Receiver => Credit::receiver(SerialNumber::default()),
        };
        credit.handle_initial_count(attach.initial_delivery_count);
        // The name outlives the attach and must not keep all of it in memory.
        let name = attach.name.detached();
        let link = LinkId(self.links.insert_with(|_| Link {
            session: id,
            state: LinkState::Pending,
            role,
            name: name.clone(),
            handle,
            remote_handle: Some(attach.handle),
            request: Some(attach.clone()),
            max_message_size: self.config.max_message_size,
            credit,
            flow: FlowDue::No,
            unsettled: 0,
            queued: 0,
            assembly: None,
        }));
        self.pending_attaches += 1;
        session.handles.insert(attach.handle, link);
        session.names.insert((name, role), link);
        session.links.push(link);
        let refusal = if self.config.links_max < self.links.len() {
            self.reached.links += 1;
            Some("too many links on this connection")
        } else if self.config.pending_attach_max < self.pending_attaches {
            Some("too many attaches wait for an answer on this connection")
        } else if limits::ATTACH_LEN_MAX < body_len {
            Some("the attach is too long")
        } else {
            None
        };
        match refusal {
            Some(text) => {
                let refusal = error(condition::RESOURCE_LIMIT_EXCEEDED, text);
                self.start_detach(link, true, Some(refusal), false);
            }
            None => self.events.push_back(Event::Attach { link, attach }),
        }
        Ok(())
    }
}
