//! §2.7.3 attach.

use bytes::BytesMut;

use crate::codec::{
    DecodeError, Reader, Wire, composite, put_bool, put_ubyte, read_bool, read_ubyte,
};
use crate::serial::SerialNumber;
use crate::terminus::{SourceField, TargetField};
use crate::value::{Map, RawMap, Str, Symbol, Value};

/// §2.8.1: which end of a link one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that sends.
    Sender,
    /// The end that receives.
    Receiver,
}

impl Role {
    /// The role at the other end.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl Wire for Role {
    const TYPE: &'static str = "boolean";
    #[inline]
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if read_bool(r)? { Self::Receiver } else { Self::Sender })
    }
    #[inline]
    fn write(&self, out: &mut BytesMut) {
        put_bool(out, *self == Self::Receiver);
    }
}

/// §2.8.2: how the sender settles its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenderSettleMode {
    /// All are sent unsettled.
    Unsettled,
    /// All are sent settled.
    Settled,
    /// Each as it says.
    Mixed,
}

impl SenderSettleMode {
    fn number(self) -> u8 {
        match self {
            Self::Unsettled => 0,
            Self::Settled => 1,
            Self::Mixed => 2,
        }
    }
}

impl Wire for SenderSettleMode {
    const TYPE: &'static str = "ubyte";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match read_ubyte(r)? {
            0 => Ok(Self::Unsettled),
            1 => Ok(Self::Settled),
            2 => Ok(Self::Mixed),
            _ => Err(DecodeError::InvalidField { field: "sender-settle-mode" }),
        }
    }
    fn write(&self, out: &mut BytesMut) {
        put_ubyte(out, self.number());
    }
}

impl From<SenderSettleMode> for Value {
    fn from(mode: SenderSettleMode) -> Self {
        Self::Ubyte(mode.number())
    }
}

/// §2.8.3: how the receiver settles its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiverSettleMode {
    /// At once.
    First,
    /// After the sender has settled.
    Second,
}

impl ReceiverSettleMode {
    fn number(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

impl Wire for ReceiverSettleMode {
    const TYPE: &'static str = "ubyte";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match read_ubyte(r)? {
            0 => Ok(Self::First),
            1 => Ok(Self::Second),
            _ => Err(DecodeError::InvalidField { field: "receiver-settle-mode" }),
        }
    }
    fn write(&self, out: &mut BytesMut) {
        put_ubyte(out, self.number());
    }
}

impl From<ReceiverSettleMode> for Value {
    fn from(mode: ReceiverSettleMode) -> Self {
        Self::Ubyte(mode.number())
    }
}

composite! {
    /// Attaches a link to an AMQP session.
    pub struct Attach = "amqp:attach:list" 0x12 {
        /// The link's name, the same at both ends.
        pub name: Str = "name",
        /// The number the sender of this frame gives the link.
        pub handle: u32 = "handle",
        /// Which end the sender of this frame is.
        pub role: Role = "role",
        /// How the link's sender settles. An answer repeats exactly what was asked.
        pub snd_settle_mode: Option<SenderSettleMode>
            = "snd-settle-mode" means SenderSettleMode::Mixed,
        /// How the link's receiver settles. An answer repeats exactly what was asked.
        pub rcv_settle_mode: Option<ReceiverSettleMode>
            = "rcv-settle-mode" means ReceiverSettleMode::First,
        /// Where messages come from.
        pub source: Option<SourceField> = "source",
        /// Where messages go.
        pub target: Option<TargetField> = "target",
        /// The unsettled deliveries of a link that is resumed.
        pub unsettled: Option<RawMap> = "unsettled",
        /// Whether `unsettled` was too large to be sent whole.
        pub incomplete_unsettled: Option<bool> = "incomplete-unsettled" means false,
        /// Where the sender's delivery-count starts.
        pub initial_delivery_count: Option<SerialNumber> = "initial-delivery-count",
        /// The largest message the sender of this frame takes; 0 is any.
        pub max_message_size: Option<u64> = "max-message-size",
        /// Extensions the sender has.
        pub offered_capabilities: Option<Vec<Symbol>> = "offered-capabilities",
        /// Extensions the sender wants.
        pub desired_capabilities: Option<Vec<Symbol>> = "desired-capabilities",
        /// Anything else.
        pub properties: Option<Map> = "properties",
    }
}

impl Attach {
    /// An attach with everything optional left out.
    pub fn new(name: impl Into<Str>, handle: u32, role: Role) -> Self {
        Self {
            name: name.into(),
            handle,
            role,
            snd_settle_mode: None,
            rcv_settle_mode: None,
            source: None,
            target: None,
            unsettled: None,
            incomplete_unsettled: None,
            initial_delivery_count: None,
            max_message_size: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::performative::tests::{check, check_encoded};

    #[test]
    fn name_handle_and_role_are_mandatory() {
        let attach = Attach::new("l", 3, Role::Receiver);
        check(&hex!("00 53 12 c0 07 03 a1 01 6c 52 03 41"), Ok(attach.clone().into()));
        check(&hex!("00 53 12 c0 08 03 a1 01 6c 52 03 56 01"), Ok(attach.clone().into()));
        check_encoded(
            &attach.into(),
            &hex!("00 53 12 c0 12 0e a1 01 6c 52 03 41 40 40 40 40 40 40 40 40 40 40 40"),
        );
        check(
            &hex!("00 53 12 c0 06 02 a1 01 6c 52 03"),
            Err(DecodeError::MissingField { field: "role" }),
        );
    }

    #[test]
    fn a_settle_mode_out_of_range_is_refused() {
        check(
            &hex!("00 53 12 c0 09 04 a1 01 6c 52 03 41 50 03"),
            Err(DecodeError::InvalidField { field: "sender-settle-mode" }),
        );
        check(
            &hex!("00 53 12 c0 0a 05 a1 01 6c 52 03 41 40 50 02"),
            Err(DecodeError::InvalidField { field: "receiver-settle-mode" }),
        );
    }

    #[test]
    fn termini_are_kept_as_they_came() {
        // A target with its address in the long form and the descriptor as a symbol.
        let body = hex!(
            "00 53 12 c0 2c 07 a1 01 6c 52 03 42 40 40 40
                         00 a3 10 61 6d 71 70 3a 74 61 72 67 65 74 3a 6c 69 73 74
                         d0 00 00 00 0a 00 00 00 01 b1 00 00 00 01 71"
        );
        let attach = match crate::performative::tests::decode(&body) {
            Ok(crate::performative::Performative::Attach(attach)) => attach,
            other => panic!("{other:?}"),
        };
        let target = attach.target.as_ref().unwrap();
        assert_eq!(target.address(), Some("q"));
        assert_eq!(target.raw().as_bytes()[..], body[15..]);
        let mut out = BytesMut::new();
        crate::performative::Performative::Attach(attach).encode(&mut out);
        assert!(out.windows(body.len() - 15).any(|part| *part == body[15..]));
    }
}
