//! Deliveries that go out: cut into frames the peer takes, as far as the session window goes.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Connection, LinkId, SendError, SessionId};
use crate::delivery::{
    DeliveryId, DeliveryTag, OutgoingDelivery, PartsCursor, QueuedDelivery, Sent,
};
use crate::frame::{FrameKind, write_frame};
use crate::link::LinkState;
use crate::output::Output;
use crate::performative::{Role, Transfer};
use crate::session::Session;

impl Connection {
    /// Sends a delivery. Ask [`sendable`](Self::sendable) first: without credit it is refused; what
    /// the session window does not let through is queued and goes on by itself.
    pub fn send(
        &mut self,
        id: LinkId,
        delivery: OutgoingDelivery<'_>,
    ) -> Result<DeliveryId, SendError> {
        let link = self.links.get_mut(id.0).ok_or(SendError::Stale)?;
        if link.state != LinkState::Attached || link.role != Role::Sender {
            return Err(SendError::Stale);
        }
        let session = self.sessions.get_mut(link.session.0).ok_or(SendError::Stale)?;
        let tag = DeliveryTag::new(delivery.tag).ok_or(SendError::TagTooLong)?;
        if !link.credit.use_outgoing() {
            return Err(SendError::NoCredit);
        }
        let delivery_id = session.take_delivery_id();
        if !delivery.settled {
            session.sent.push(delivery_id, Sent { link: id, tag, reported: false });
            link.unsettled += 1;
        }
        self.tags.extend_from_slice(delivery.tag);
        let mut transfer = Transfer {
            handle: link.handle,
            // go-amqp closes the link if any of the next four is missing from the first frame.
            delivery_id: Some(delivery_id),
            delivery_tag: Some(self.tags.split().freeze()),
            message_format: Some(delivery.message_format),
            settled: Some(delivery.settled),
            more: false,
            rcv_settle_mode: None,
            state: delivery.state,
            resume: false,
            aborted: false,
            batchable: false,
        };
        let mut cursor = PartsCursor::default();
        let max = self.remote_max_frame_size as usize;
        let finished = session.queue.is_empty()
            && write_transfers(
                &mut self.output,
                session,
                max,
                &mut transfer,
                delivery.parts,
                &mut cursor,
            );
        if !finished {
            link.queued += 1;
            let parts = SmallVec::from(delivery.parts);
            session.queue.push_back(QueuedDelivery { link: id, transfer, parts, cursor });
        }
        Ok(delivery_id)
    }

    /// The session window has opened: the deliveries behind it go on.
    pub(super) fn continue_queue(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        let max = self.remote_max_frame_size as usize;
        while let Some(mut queued) = session.queue.pop_front() {
            let QueuedDelivery { transfer, parts, cursor, .. } = &mut queued;
            if !write_transfers(&mut self.output, session, max, transfer, parts, cursor) {
                session.queue.push_front(queued);
                return;
            }
            if let Some(link) = self.links.get_mut(queued.link.0) {
                link.queued -= 1;
            }
        }
        // An answer to a drain may have waited for the last of them.
        if !session.flow_links.is_empty() {
            Self::flush_later(&mut self.flush_sessions, id, session);
        }
    }
}

/// Writes frames until the delivery has ended (`true`) or the window is closed (`false`).
fn write_transfers(
    out: &mut Output,
    session: &mut Session,
    max_frame_size: usize,
    transfer: &mut Transfer,
    parts: &[Bytes],
    cursor: &mut PartsCursor,
) -> bool {
    while 0 < session.outgoing_window_left() {
        let remaining = cursor.remaining(parts);
        let len = out.append(|out| {
            write_transfer_head(out, session.channel, max_frame_size, transfer, remaining)
        });
        cursor.take(parts, len, |piece| out.append_payload(piece));
        session.count_outgoing_frame();
        if !transfer.more {
            return true;
        }
        // The frames that follow say neither id nor tag again. They do say `settled`: it costs one
        // octet, and some receivers look at the last frame for it.
        transfer.delivery_id = None;
        transfer.delivery_tag = None;
        transfer.message_format = None;
        transfer.state = None;
    }
    false
}

/// Writes the head of a frame and sets its size to include as much of the payload as fits. Returns
/// how much that is; `transfer.more` says whether there is more.
fn write_transfer_head(
    out: &mut BytesMut,
    channel: u16,
    max_frame_size: usize,
    transfer: &mut Transfer,
    remaining: usize,
) -> usize {
    let start = out.len();
    transfer.more = false;
    write_frame(out, FrameKind::Amqp, channel, |out| transfer.encode(out));
    let mut len = remaining;
    if max_frame_size < out.len() - start + remaining {
        out.truncate(start);
        transfer.more = true;
        write_frame(out, FrameKind::Amqp, channel, |out| transfer.encode(out));
        // A frame takes at least one octet of payload, or a delivery would never end.
        len = max_frame_size.saturating_sub(out.len() - start).max(1);
    }
    let size = u32::try_from(out.len() - start + len).expect("a frame is below its max-frame-size");
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&size.to_be_bytes());
    }
    len
}
