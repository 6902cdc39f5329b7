//! Open and close (§2.4).

use super::fault::Fault;
use super::{Connection, Event, Phase, Side};
use crate::condition::{self, ErrorInfo};
use crate::limits;
use crate::performative::{Close, Open, Performative};
use crate::sasl::{SaslCode, SaslFrame};

impl Connection {
    /// Sends our open, if it has not been sent. A server answers the peer's open by itself, so this
    /// does something only for a server that wants to speak first.
    pub fn open(&mut self) {
        if self.phase == Phase::Opening && !self.open_sent {
            self.write_open();
        }
    }

    /// Closes the connection. Everything but the peer's close is ignored from now on; `Closed`
    /// comes with it, or when the peer takes too long.
    pub fn close(&mut self, error: Option<ErrorInfo>) {
        match self.phase {
            Phase::Open | Phase::Opening => {
                self.flush();
                self.write_last_words(error);
                self.phase = Phase::Closing;
            }
            // Before AMQP there is no close to exchange.
            Phase::Header | Phase::AmqpHeader | Phase::Sasl(_) => self.finish(None),
            Phase::Closing | Phase::Closed => {}
        }
    }

    pub(super) fn write_open(&mut self) {
        let (hostname, container_id, properties) = match &self.side {
            Side::Server => (None, None, None),
            Side::Client(open) => {
                (open.hostname.clone(), open.container_id.clone(), open.properties.clone())
            }
        };
        let open = Open {
            container_id: container_id.unwrap_or_else(|| self.config.container_id.clone()),
            hostname,
            max_frame_size: Some(self.config.max_frame_size()),
            channel_max: Some(self.config.channel_max),
            idle_time_out: self.timers.announced_idle_time_out(),
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: self.config.offered_capabilities.clone(),
            desired_capabilities: None,
            properties: properties.or_else(|| self.config.properties.clone()),
        };
        let mut staged = std::mem::take(&mut self.staged);
        self.open_sent = true;
        self.write(0, &Performative::Open(Box::new(open)));
        self.output.append_output(&mut staged);
    }

    pub(super) fn handle_open(&mut self, open: Box<Open>) -> Result<(), Fault> {
        if self.phase != Phase::Opening {
            return Err(Fault::connection(
                condition::NOT_ALLOWED,
                "the connection is open already",
            ));
        }
        // §2.7.1 forbids less than 512; a peer that says so is held to the minimum.
        self.remote_max_frame_size =
            open.max_frame_size.unwrap_or(u32::MAX).max(limits::MIN_MAX_FRAME_SIZE);
        self.remote_channel_max = open.channel_max.unwrap_or(u16::MAX);
        if !self.timers.opened(open.idle_time_out) {
            return Err(Fault::connection(
                condition::NOT_ALLOWED,
                "the idle-time-out is too short to be kept",
            ));
        }
        if !self.open_sent {
            self.write_open();
        }
        self.phase = Phase::Open;
        self.remote_open = Some(open.clone());
        self.events.push_back(Event::Open(open));
        Ok(())
    }

    pub(super) fn handle_close(&mut self, close: Close) {
        if self.phase == Phase::Open {
            self.flush();
        }
        self.write_last_words(None);
        self.finish(close.error);
    }

    /// The last thing we say on this connection, in the words of the layer that was reached.
    pub(super) fn write_last_words(&mut self, error: Option<ErrorInfo>) {
        match self.phase {
            Phase::Sasl(_) if matches!(self.side, Side::Server) => {
                let outcome = SaslFrame::Outcome { code: SaslCode::Auth, additional_data: None };
                self.write_sasl(&outcome);
            }
            Phase::Opening | Phase::Open if !self.close_sent => {
                if !self.open_sent {
                    self.write_open();
                }
                self.close_sent = true;
                self.write(0, &Performative::Close(Close { error }));
            }
            _ => {}
        }
    }
}
