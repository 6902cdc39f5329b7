//! From bytes to frames, and from frames to the session they belong to.

use bytes::{Buf, Bytes, BytesMut};

use super::fault::Fault;
use super::{Connection, Phase};
use crate::condition;
use crate::frame::{FrameError, FrameHeader, FrameKind};
use crate::limits;
use crate::performative::Performative;
use crate::sasl_exchange::SaslStage;
use crate::session::SessionState;

impl Connection {
    pub(super) fn consume(&mut self, buffer: &mut BytesMut) -> Result<(), Fault> {
        if !self.held.is_empty() {
            self.held.unsplit(buffer.split());
            std::mem::swap(&mut self.held, buffer);
        }
        loop {
            self.read_hint = 0;
            let consumed = match self.phase {
                Phase::Closed => {
                    buffer.clear();
                    return Ok(());
                }
                Phase::Header | Phase::AmqpHeader => self.consume_header(buffer)?,
                Phase::Sasl(SaslStage::Deciding) => return self.hold(buffer),
                Phase::Sasl(_) | Phase::Opening | Phase::Open | Phase::Closing => {
                    self.consume_frame(buffer)?
                }
            };
            if !consumed {
                return Ok(());
            }
        }
    }

    /// Keeps what came ahead of the outcome, unread.
    fn hold(&mut self, buffer: &mut BytesMut) -> Result<(), Fault> {
        self.held.unsplit(buffer.split());
        if limits::HELD_BYTES_MAX < self.held.len() {
            return Err(Fault::connection(
                condition::RESOURCE_LIMIT_EXCEEDED,
                "too much was sent ahead of the SASL outcome",
            ));
        }
        Ok(())
    }

    fn max_frame_size(&self) -> u32 {
        match self.phase {
            Phase::Open | Phase::Closing | Phase::Closed => self.config.max_frame_size(),
            Phase::Header | Phase::Sasl(_) | Phase::AmqpHeader | Phase::Opening => {
                limits::EARLY_FRAME_SIZE_MAX
            }
        }
    }

    /// Takes a frame if all of it is there. `Ok(false)`: more is wanted.
    fn consume_frame(&mut self, buffer: &mut BytesMut) -> Result<bool, Fault> {
        let Some((octets, _)) = buffer.split_first_chunk::<{ FrameHeader::LEN }>() else {
            self.read_hint = FrameHeader::LEN - buffer.len();
            return Ok(false);
        };
        let header = FrameHeader::parse(octets, self.max_frame_size()).map_err(|error| {
            self.reached.frame_size += u32::from(matches!(error, FrameError::TooLarge { .. }));
            Fault::violation(error.into())
        })?;
        let size = header.size as usize;
        if buffer.len() < size {
            self.read_hint = size - buffer.len();
            return Ok(false);
        }
        let mut body = buffer.split_to(size).freeze();
        // `parse` has checked that the data begins within the frame.
        body.advance(header.body_offset());
        match (self.phase, header.kind) {
            (Phase::Sasl(stage), FrameKind::Sasl) => self.handle_sasl(stage, &body)?,
            (Phase::Opening | Phase::Open | Phase::Closing, FrameKind::Amqp) => {
                // An empty frame only shows that the peer is alive (§2.4.5).
                if !body.is_empty() {
                    self.handle_amqp(header.channel, &body)?;
                }
            }
            (Phase::Sasl(_), _) => {
                return Err(Fault::connection(
                    condition::CONNECTION_FRAMING_ERROR,
                    "only SASL frames may come before the SASL outcome",
                ));
            }
            (_, FrameKind::Sasl) => {
                return Err(Fault::connection(
                    condition::CONNECTION_FRAMING_ERROR,
                    "SASL frames may not come after the SASL layer",
                ));
            }
            (_, _) => {
                return Err(Fault::connection(
                    condition::CONNECTION_FRAMING_ERROR,
                    "unknown frame type",
                ));
            }
        }
        Ok(true)
    }

    fn handle_amqp(&mut self, channel: u16, body: &Bytes) -> Result<(), Fault> {
        let decode = |body: &Bytes| {
            Performative::decode(body).map_err(|error| Fault::violation(error.into()))
        };
        // Transfer, disposition and flow pass through; what the others say is kept, so it is
        // copied: it must not pin the read buffer.
        let passing = matches!(body.get(..3), Some([0x00, 0x53, 0x13..=0x15]));
        let (mut performative, payload) =
            if passing { decode(body)? } else { decode(&Bytes::copy_from_slice(body))? };
        if let Performative::Transfer(transfer) = &performative
            && transfer.more
        {
            // The rest of the delivery may take its time, and its tag and state are kept until then.
            let len = body.len().saturating_sub(payload.len());
            performative = decode(&Bytes::copy_from_slice(body.get(..len).unwrap_or_default()))?.0;
        }
        match (self.phase, performative) {
            (Phase::Opening | Phase::Open, Performative::Open(open)) => self.handle_open(open),
            (Phase::Open | Phase::Closing, Performative::Close(close)) => {
                self.handle_close(close);
                Ok(())
            }
            (Phase::Open, performative) => {
                let result = self.handle_session(channel, performative, payload, body.len());
                self.contain(result)
            }
            (Phase::Closing, _) => Ok(()),
            _ => Err(Fault::connection(condition::NOT_ALLOWED, "open has to come first")),
        }
    }

    fn handle_session(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: Bytes,
        body_len: usize,
    ) -> Result<(), Fault> {
        let performative = match performative {
            Performative::Begin(begin) => return self.handle_begin(channel, &begin),
            other => other,
        };
        let Some(id) = self.channels.get(u32::from(channel)) else {
            return self.handle_unmapped(channel, &performative);
        };
        let ending = self
            .session_mut(id)
            .is_none_or(|session| matches!(session.state, SessionState::Ending { .. }));
        match performative {
            Performative::End(end) => {
                self.handle_end(id, end.error);
                Ok(())
            }
            _ if ending => Ok(()),
            Performative::Attach(attach) => self.handle_attach(id, attach, body_len),
            Performative::Flow(flow) => self.handle_flow(id, &flow),
            Performative::Transfer(transfer) => self.handle_transfer(id, transfer, payload),
            Performative::Disposition(disposition) => {
                self.handle_disposition(id, &disposition, body_len)
            }
            Performative::Detach(detach) => {
                self.handle_detach(id, detach);
                Ok(())
            }
            Performative::Open(_) | Performative::Begin(_) | Performative::Close(_) => {
                unreachable!("these belong to the connection and have been dealt with")
            }
        }
    }
}
