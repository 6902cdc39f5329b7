//! Transfers that come in (§2.6.12, §2.6.14): frames to deliveries.

use bytes::{Bytes, BytesMut};

use super::fault::Fault;
use super::{Connection, Event, LinkId, SessionId};
use crate::condition;
use crate::delivery::{Assembly, Delivery, Fate, Received};
use crate::limits;
use crate::link::LinkState;
use crate::performative::{Role, Transfer};

impl Connection {
    pub(super) fn handle_transfer(
        &mut self,
        session_id: SessionId,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Fault> {
        let Some(session) = self.sessions.get_mut(session_id.0) else { return Ok(()) };
        if !session.count_incoming_frame(&self.config) {
            let text = "the session's incoming window is used up";
            return Err(Fault::session(session_id, condition::SESSION_WINDOW_VIOLATION, text));
        }
        if session.flow_due {
            Self::flush_later(&mut self.flush_sessions, session_id, session);
        }
        let Some(id) = session.handles.get(transfer.handle) else {
            return Err(self.unattached(session_id, transfer.handle));
        };
        let Some(link) = self.links.get_mut(id.0) else { return Ok(()) };
        match (link.state, link.role) {
            (LinkState::Detaching { .. }, _) => Ok(()),
            (_, Role::Sender) => {
                let text = "a receiver sent a transfer";
                Err(Fault::link(id, condition::NOT_ALLOWED, text))
            }
            (_, Role::Receiver) => match link.assembly.take() {
                None => self.begin_delivery(id, transfer, payload),
                Some(assembly) => self.continue_delivery(id, assembly, transfer, &payload),
            },
        }
    }

    /// The first frame of a delivery, which for most is the only one.
    fn begin_delivery(
        &mut self,
        id: LinkId,
        transfer: Transfer,
        payload: Bytes,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(id.0) else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(link.session.0) else { return Ok(()) };
        let invalid = |text| Fault::link(id, condition::INVALID_FIELD, text);
        let delivery_id = transfer
            .delivery_id
            .ok_or_else(|| invalid("the first transfer of a delivery has no delivery-id"))?;
        let tag = transfer
            .delivery_tag
            .ok_or_else(|| invalid("the first transfer of a delivery has no delivery-tag"))?;
        if limits::DELIVERY_TAG_LEN_MAX < tag.len() {
            return Err(invalid("the delivery-tag is longer than 32 octets"));
        }
        if !link.credit.use_incoming() {
            let text = "there was no credit for this delivery";
            return Err(Fault::link(id, condition::LINK_TRANSFER_LIMIT_EXCEEDED, text));
        }
        if !session.count_incoming_delivery(delivery_id) {
            let text = "the delivery-id does not come after the last one";
            return Err(Fault::session(link.session, condition::INVALID_FIELD, text));
        }
        let settled = transfer.settled.unwrap_or(false);
        if !settled && !transfer.aborted {
            session.received.push(delivery_id, Received { link: id });
            link.unsettled += 1;
        }
        if transfer.aborted {
            self.events.push_back(Event::Aborted { link: id });
            return Ok(());
        }
        let oversize = is_oversize(link.max_message_size, payload.len());
        if !transfer.more {
            self.events.push_back(if oversize {
                Event::Oversize { link: id, id: delivery_id, settled, state: transfer.state }
            } else {
                Event::Delivery(Delivery {
                    link: id,
                    id: delivery_id,
                    tag,
                    message_format: transfer.message_format.unwrap_or(0),
                    settled,
                    state: transfer.state,
                    payload,
                })
            });
            return Ok(());
        }
        let assembly = Box::new(Assembly {
            id: delivery_id,
            tag,
            message_format: transfer.message_format.unwrap_or(0),
            settled,
            state: transfer.state,
            payload: BytesMut::new(),
            fate: if oversize { Fate::Oversize } else { Fate::Kept },
        });
        self.keep_part(id, assembly, &payload)
    }

    fn continue_delivery(
        &mut self,
        id: LinkId,
        mut assembly: Box<Assembly>,
        transfer: Transfer,
        payload: &Bytes,
    ) -> Result<(), Fault> {
        // §2.7.5: the frames of one delivery may leave out its id, but not change it.
        if transfer.delivery_id.is_some_and(|other| other != assembly.id) {
            self.partial_bytes -= assembly.payload.len();
            let text = "a delivery began before the last one on the link had ended";
            return Err(Fault::link(id, condition::NOT_ALLOWED, text));
        }
        // §2.7.5: settled on any frame settles the delivery.
        assembly.settled |= transfer.settled.unwrap_or(false);
        assembly.state = transfer.state.or(assembly.state);
        if transfer.aborted {
            self.partial_bytes -= assembly.payload.len();
            self.forget_received(id, &assembly);
            self.events.push_back(Event::Aborted { link: id });
            return Ok(());
        }
        if transfer.more {
            return self.keep_part(id, assembly, payload);
        }
        let max_message_size = self.links.get(id.0).map_or(0, |link| link.max_message_size);
        let len = assembly.payload.len();
        self.partial_bytes -= len;
        if assembly.settled {
            self.forget_received(id, &assembly);
        }
        let Assembly {
            id: delivery_id,
            tag,
            message_format,
            settled,
            state,
            payload: mut whole,
            fate,
        } = *assembly;
        match fate {
            Fate::Kept if !is_oversize(max_message_size, len + payload.len()) => {}
            Fate::Kept | Fate::Oversize => {
                let oversize = Event::Oversize { link: id, id: delivery_id, settled, state };
                self.events.push_back(oversize);
                return Ok(());
            }
            Fate::Dropped => {
                let dropped = Event::Dropped { link: id, id: delivery_id, settled, state };
                self.events.push_back(dropped);
                return Ok(());
            }
        }
        whole.extend_from_slice(payload);
        self.events.push_back(Event::Delivery(Delivery {
            link: id,
            id: delivery_id,
            tag,
            message_format,
            settled,
            state,
            payload: whole.freeze(),
        }));
        Ok(())
    }

    /// Adds a part to a delivery that is not at its end, unless it has outgrown its limit.
    fn keep_part(
        &mut self,
        id: LinkId,
        mut assembly: Box<Assembly>,
        payload: &Bytes,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(id.0) else { return Ok(()) };
        let len = assembly.payload.len();
        if assembly.fate != Fate::Kept {
            // Nothing of it is kept.
        } else if is_oversize(link.max_message_size, len + payload.len()) {
            assembly.fate = Fate::Oversize;
            assembly.payload = BytesMut::new();
            self.partial_bytes -= len;
        } else {
            let partial_bytes = self.partial_bytes + payload.len();
            if self.config.partial_bytes_max < partial_bytes {
                self.partial_bytes -= len;
                let text = "too many bytes of deliveries that are not complete";
                return Err(Fault::link(id, condition::RESOURCE_LIMIT_EXCEEDED, text));
            }
            self.partial_bytes = partial_bytes;
            assembly.payload.extend_from_slice(payload);
        }
        link.assembly = Some(assembly);
        Ok(())
    }

    /// Octets of deliveries that are not complete.
    pub fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Throws away what has come of deliveries that are not complete, for want of room. What is still
    /// to come of each is thrown away, too, and [`Event::Dropped`] says when it has ended.
    pub fn drop_partial(&mut self) {
        for link in self.links.values_mut() {
            if let Some(assembly) = &mut link.assembly
                && !assembly.payload.is_empty()
            {
                self.partial_bytes -= assembly.payload.len();
                assembly.payload = BytesMut::new();
                assembly.fate = Fate::Dropped;
            }
        }
    }

    /// A delivery whose later frame settled or aborted it is not unsettled after all.
    fn forget_received(&mut self, id: LinkId, assembly: &Assembly) {
        let Some(link) = self.links.get_mut(id.0) else { return };
        let Some(session) = self.sessions.get_mut(link.session.0) else { return };
        if session.received.remove(assembly.id).is_some() {
            link.unsettled -= 1;
        }
    }
}

/// A max-message-size of 0 is no limit (§2.7.3).
fn is_oversize(max_message_size: u64, len: usize) -> bool {
    max_message_size != 0 && u64::try_from(len).is_ok_and(|len| max_message_size < len)
}
