//! The protocol header exchange (§2.2, §5.3.2): eight octets per layer, SASL's below AMQP's.

use bytes::{Buf, BufMut, BytesMut};

use super::fault::Fault;
use super::{ClientSasl, Connection, Phase, Side};
use crate::condition;
use crate::frame::ProtocolHeader;
use crate::sasl::SaslFrame;
use crate::sasl_exchange::SaslStage;

const HEADER_LEN: usize = ProtocolHeader::LEN;

impl Connection {
    /// The client's first words: the SASL header, or without SASL everything up to open.
    pub(super) fn write_first_header(&mut self) {
        let Side::Client(open) = &self.side else { return };
        if matches!(open.sasl, ClientSasl::None) {
            self.write_header(ProtocolHeader::Amqp);
            self.write_open();
        } else {
            self.write_header(ProtocolHeader::Sasl);
        }
    }

    pub(super) fn write_header(&mut self, header: ProtocolHeader) {
        self.output.append(|out| out.put_slice(&header.to_octets()));
    }

    /// Takes a header if all of it is there. `Ok(false)`: more is wanted.
    pub(super) fn consume_header(&mut self, buffer: &mut BytesMut) -> Result<bool, Fault> {
        if let Some((octets, _)) = buffer.split_first_chunk::<HEADER_LEN>() {
            let header = ProtocolHeader::parse(*octets);
            buffer.advance(HEADER_LEN);
            self.handle_header(header)?;
            return Ok(true);
        }
        // Somebody who speaks another protocol may wait for an answer after fewer octets.
        if !b"AMQP".iter().zip(buffer.iter()).all(|(wanted, octet)| wanted == octet) {
            return Err(self.refuse_header("this is not an AMQP protocol header"));
        }
        self.read_hint = HEADER_LEN - buffer.len();
        Ok(false)
    }

    fn handle_header(&mut self, header: ProtocolHeader) -> Result<(), Fault> {
        let sasl_wanted = match &self.side {
            Side::Server => None,
            Side::Client(open) => Some(!matches!(open.sasl, ClientSasl::None)),
        };
        match (self.phase, header, sasl_wanted) {
            (Phase::Header, ProtocolHeader::Sasl, None) => {
                self.write_header(ProtocolHeader::Sasl);
                self.write_sasl(&SaslFrame::Mechanisms(self.config.sasl.mechanisms.clone()));
                self.phase = Phase::Sasl(SaslStage::AwaitInit);
            }
            (Phase::Header, ProtocolHeader::Amqp, None) => {
                if self.config.sasl.required {
                    return Err(self.refuse_header("SASL is required here"));
                }
                self.write_header(ProtocolHeader::Amqp);
                self.phase = Phase::Opening;
            }
            (Phase::AmqpHeader, ProtocolHeader::Amqp, None) => {
                self.write_header(ProtocolHeader::Amqp);
                self.phase = Phase::Opening;
            }
            (Phase::Header, ProtocolHeader::Sasl, Some(true)) => {
                self.phase = Phase::Sasl(SaslStage::AwaitMechanisms);
            }
            (Phase::Header, ProtocolHeader::Amqp, Some(false))
            | (Phase::AmqpHeader, ProtocolHeader::Amqp, Some(_)) => {
                self.phase = Phase::Opening;
            }
            _ => return Err(self.refuse_header("this protocol header is not supported here")),
        }
        Ok(())
    }

    /// §2.2: answer with the header that would have been right, then close.
    fn refuse_header(&mut self, text: &'static str) -> Fault {
        if matches!(self.side, Side::Server) {
            let right = if self.phase == Phase::AmqpHeader {
                ProtocolHeader::Amqp
            } else {
                ProtocolHeader::Sasl
            };
            self.write_header(right);
        }
        Fault::connection(condition::CONNECTION_FRAMING_ERROR, text)
    }
}
