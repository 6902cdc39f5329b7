//! SASL frames: who authenticates how is the caller's business; the order of frames is ours.

use bytes::Bytes;

use super::fault::Fault;
use super::{Connection, Event, Phase, Side};
use crate::condition;
use crate::frame::{FrameKind, ProtocolHeader, write_frame};
use crate::sasl::{SaslCode, SaslFrame};
use crate::sasl_exchange::SaslStage;

impl Connection {
    /// Server: asks the client for more. Nothing happens unless the client's word was last.
    pub fn sasl_challenge(&mut self, challenge: Bytes) {
        if self.phase == Phase::Sasl(SaslStage::Deciding) {
            self.write_sasl(&SaslFrame::Challenge(challenge));
            self.phase = Phase::Sasl(SaslStage::AwaitResponse);
            self.resume();
        }
    }

    /// Server: says how the authentication went. Anything but `Ok` ends the connection. Input that
    /// the client sent ahead is looked at now, so new events may come at once.
    pub fn sasl_outcome(&mut self, code: SaslCode) {
        if self.phase != Phase::Sasl(SaslStage::Deciding) {
            return;
        }
        self.write_sasl(&SaslFrame::Outcome { code, additional_data: None });
        if code == SaslCode::Ok {
            self.phase = Phase::AmqpHeader;
            self.resume();
        } else {
            self.finish(None);
        }
    }

    /// Looks at what came while the caller was thinking. A violation in it ends the connection,
    /// which the caller learns from `Closed`.
    fn resume(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let result = self.consume(&mut held);
        if !held.is_empty() && !self.is_closed() {
            self.held = held;
        }
        if let Err(fault) = result {
            self.fail(*fault.error);
        }
    }

    pub(super) fn write_sasl(&mut self, frame: &SaslFrame) {
        self.output.append(|out| {
            write_frame(out, FrameKind::Sasl, 0, |out| frame.encode(out));
        });
    }

    pub(super) fn handle_sasl(&mut self, stage: SaslStage, body: &Bytes) -> Result<(), Fault> {
        // What stays is copied: it must not pin the read buffer.
        let frame = SaslFrame::decode(&Bytes::copy_from_slice(body))
            .map_err(|error| Fault::violation(error.into()))?;
        match (stage, frame) {
            (SaslStage::AwaitInit, SaslFrame::Init { mechanism, initial_response, hostname }) => {
                if !self.config.sasl.mechanisms.contains(&mechanism) {
                    return Err(Fault::connection(
                        condition::UNAUTHORIZED_ACCESS,
                        "this SASL mechanism was not offered",
                    ));
                }
                self.phase = Phase::Sasl(SaslStage::Deciding);
                self.events.push_back(Event::SaslInit { mechanism, initial_response, hostname });
            }
            (SaslStage::AwaitResponse, SaslFrame::Response(response)) => {
                self.phase = Phase::Sasl(SaslStage::Deciding);
                self.events.push_back(Event::SaslResponse(response));
            }
            (SaslStage::AwaitMechanisms, SaslFrame::Mechanisms(offered)) => {
                let Side::Client(open) = &self.side else { return Ok(()) };
                let Some(init) = open.sasl.init(&offered, open.hostname.clone()) else {
                    return Err(Fault::connection(
                        condition::UNAUTHORIZED_ACCESS,
                        "the server does not offer the SASL mechanism",
                    ));
                };
                self.write_sasl(&init);
                self.phase = Phase::Sasl(SaslStage::AwaitOutcome);
            }
            (SaslStage::AwaitOutcome, SaslFrame::Challenge(_)) => {
                // No mechanism here has anything to add to its initial response; some servers ask
                // all the same and take an empty answer.
                self.write_sasl(&SaslFrame::Response(Bytes::new()));
            }
            (SaslStage::AwaitOutcome, SaslFrame::Outcome { code, .. }) => {
                self.events.push_back(Event::SaslOutcome(code));
                if code == SaslCode::Ok {
                    self.phase = Phase::AmqpHeader;
                    self.write_header(ProtocolHeader::Amqp);
                    self.write_open();
                } else {
                    self.finish(None);
                }
            }
            _ => {
                return Err(Fault::connection(
                    condition::NOT_ALLOWED,
                    "this SASL frame is out of order",
                ));
            }
        }
        Ok(())
    }
}
