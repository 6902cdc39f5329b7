//! The SASL exchange (§5.3), both sides: which frame may come next.
//!
//! It decides nothing about credentials; the caller does, in its own time. While it thinks, input
//! is held back, so no AMQP frame is looked at before the outcome (a client may have sent header
//! and open already).

use crate::connection::ClientSasl;
use crate::sasl::SaslFrame;
use crate::value::{Str, Symbol};
use bytes::{BufMut, Bytes, BytesMut};

/// ```text
///  server:  AwaitInit ──init──▶ Deciding ──challenge──▶ AwaitResponse
///                                  │  ▲──────response───────┘
///                                  └──outcome──▶ (the AMQP header)
///  client:  AwaitMechanisms ──init──▶ AwaitOutcome ──outcome──▶ (the AMQP header)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SaslStage {
    AwaitInit,
    /// The caller owes a challenge or an outcome.
    Deciding,
    AwaitResponse,
    AwaitMechanisms,
    AwaitOutcome,
}

impl ClientSasl {
    fn mechanism(&self) -> Option<Symbol> {
        match self {
            Self::None => None,
            Self::Anonymous => Some(Symbol::from("ANONYMOUS")),
            Self::Plain { .. } => Some(Symbol::from("PLAIN")),
            Self::External => Some(Symbol::from("EXTERNAL")),
            Self::MsSbCbs => Some(Symbol::from("MSSBCBS")),
            Self::Raw { mechanism, .. } => Some(mechanism.clone()),
        }
    }

    fn initial_response(&self) -> Option<Bytes> {
        match self {
            Self::None | Self::MsSbCbs => None,
            Self::Anonymous => Some(Bytes::from_static(b"anonymous")),
            Self::External => Some(Bytes::new()),
            Self::Plain { user, password } => {
                let mut response = BytesMut::with_capacity(2 + user.len() + password.len());
                response.put_u8(0);
                response.put_slice(user.as_bytes());
                response.put_u8(0);
                response.put_slice(password.as_bytes());
                Some(response.freeze())
            }
            Self::Raw { response, .. } => response.clone(),
        }
    }

    /// The client's init, if the server offers the mechanism.
    pub(crate) fn init(&self, offered: &[Symbol], hostname: Option<Str>) -> Option<SaslFrame> {
        let mechanism = self.mechanism().filter(|wanted| offered.contains(wanted))?;
        Some(SaslFrame::Init { mechanism, initial_response: self.initial_response(), hostname })
    }
}
