//! §3.4 and §4.5: what became of a delivery, or how far it has come.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{
    Composite, CompositeSpec, DecodeError, Reader, Wire, code, composite, consumed, put_descriptor,
    read_binary, read_descriptor,
};
use crate::condition::ErrorInfo;
use crate::value::{Map, RawValue};

/// The state of a delivery as one end tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// §3.4.1: partly received; not an outcome.
    Received {
        /// The section it came to.
        section_number: u32,
        /// How far into that section.
        section_offset: u64,
    },
    /// §3.4.2.
    Accepted,
    /// §3.4.3, mostly with a reason.
    Rejected(Option<ErrorInfo>),
    /// §3.4.4: not acted upon; it may be delivered again.
    Released,
    /// §3.4.5: released, with changes.
    Modified {
        /// Whether it counts as a failed attempt.
        delivery_failed: Option<bool>,
        /// Whether it must not come back over this link.
        undeliverable_here: Option<bool>,
        /// What to merge into the message's annotations.
        message_annotations: Option<Map>,
    },
    /// §4.5.6: the coordinator's answer to `declare`.
    Declared {
        /// The new transaction.
        txn_id: Bytes,
    },
    /// §4.5.8: an outcome that takes effect with a transaction.
    Transactional {
        /// The transaction.
        txn_id: Bytes,
        /// What happens when it commits.
        outcome: Option<Box<DeliveryState>>,
    },
    /// A state that nothing known here has the descriptor of; kept as it came.
    Unknown(RawValue),
}

composite! {
    pub(crate) struct Received = "amqp:received:list" 0x23 {
        section_number: u32 = "section-number",
        section_offset: u64 = "section-offset",
    }
}
composite! {
    pub(crate) struct Accepted = "amqp:accepted:list" 0x24 trimmed {}
}
composite! {
    pub(crate) struct Rejected = "amqp:rejected:list" 0x25 trimmed {
        error: Option<ErrorInfo> = "error",
    }
}
composite! {
    pub(crate) struct Released = "amqp:released:list" 0x26 trimmed {}
}
composite! {
    pub(crate) struct Modified = "amqp:modified:list" 0x27 trimmed {
        delivery_failed: Option<bool> = "delivery-failed",
        undeliverable_here: Option<bool> = "undeliverable-here",
        message_annotations: Option<Map> = "message-annotations",
    }
}
composite! {
    pub(crate) struct Declared = "amqp:declared:list" 0x33 {
        txn_id: TxnId = "txn-id",
    }
}
composite! {
    pub(crate) struct Transactional = "amqp:transactional-state:list" 0x34 {
        txn_id: TxnId = "txn-id",
        outcome: Option<Outcome> = "outcome",
    }
}

/// What the codec takes each state to look like.
pub(crate) const SPECS: &[CompositeSpec] = &[
    Received::SPEC,
    Accepted::SPEC,
    Rejected::SPEC,
    Released::SPEC,
    Modified::SPEC,
    Declared::SPEC,
    Transactional::SPEC,
];

/// §4.5.4: the specification leaves the type open and defines binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TxnId(pub(crate) Bytes);

impl Wire for TxnId {
    const TYPE: &'static str = "*";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_binary(r).map(Self)
    }
    fn write(&self, out: &mut BytesMut) {
        self.0.write(out);
    }
}

/// A state inside a transactional one, which may not be transactional again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome(Box<DeliveryState>);

impl Wire for Outcome {
    const TYPE: &'static str = "*";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_state(r, false).map(|state| Self(Box::new(state)))
    }
    fn write(&self, out: &mut BytesMut) {
        self.0.write(out);
    }
}

impl DeliveryState {
    /// Whether this is an outcome, and thus the end of the delivery; §3.4.
    pub fn is_outcome(&self) -> bool {
        match self {
            Self::Accepted
            | Self::Rejected(_)
            | Self::Released
            | Self::Modified { .. }
            | Self::Declared { .. } => true,
            Self::Received { .. } | Self::Transactional { .. } | Self::Unknown(_) => false,
        }
    }
}

impl Wire for DeliveryState {
    const TYPE: &'static str = "*";

    #[inline]
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_state(r, true)
    }

    #[inline]
    fn write(&self, out: &mut BytesMut) {
        match self {
            // The hot one, written out: an empty list under its descriptor.
            Self::Accepted => {
                put_descriptor(out, Accepted::SPEC.code);
                out.put_u8(code::LIST_0);
            }
            Self::Received { section_number, section_offset } => {
                let (section_number, section_offset) = (*section_number, *section_offset);
                Received { section_number, section_offset }.write_described(out);
            }
            Self::Rejected(error) => Rejected { error: error.clone() }.write_described(out),
            Self::Released => Released {}.write_described(out),
            Self::Modified { delivery_failed, undeliverable_here, message_annotations } => {
                Modified {
                    delivery_failed: *delivery_failed,
                    undeliverable_here: *undeliverable_here,
                    message_annotations: message_annotations.clone(),
                }
                .write_described(out);
            }
            Self::Declared { txn_id } => {
                Declared { txn_id: TxnId(txn_id.clone()) }.write_described(out);
            }
            Self::Transactional { txn_id, outcome } => Transactional {
                txn_id: TxnId(txn_id.clone()),
                outcome: outcome.clone().map(Outcome),
            }
            .write_described(out),
            Self::Unknown(raw) => raw.encode(out),
        }
    }
}

fn read_state(r: &mut Reader<'_>, outermost: bool) -> Result<DeliveryState, DecodeError> {
    let before = r.rest();
    let Some(descriptor) = read_descriptor(r, "delivery-state")? else {
        return unknown(r, before);
    };
    Ok(match descriptor {
        0x23 => {
            let Received { section_number, section_offset } = Received::read_list(r)?;
            DeliveryState::Received { section_number, section_offset }
        }
        0x24 => {
            let Accepted {} = Accepted::read_list(r)?;
            DeliveryState::Accepted
        }
        0x25 => DeliveryState::Rejected(Rejected::read_list(r)?.error),
        0x26 => {
            let Released {} = Released::read_list(r)?;
            DeliveryState::Released
        }
        0x27 => {
            let Modified { delivery_failed, undeliverable_here, message_annotations } =
                Modified::read_list(r)?;
            DeliveryState::Modified { delivery_failed, undeliverable_here, message_annotations }
        }
        0x33 => DeliveryState::Declared { txn_id: Declared::read_list(r)?.txn_id.0 },
        0x34 if outermost => {
            let Transactional { txn_id, outcome } = Transactional::read_list(r)?;
            DeliveryState::Transactional { txn_id: txn_id.0, outcome: outcome.map(|o| o.0) }
        }
        0x34 => return Err(DecodeError::InvalidField { field: "outcome" }),
        _ => return unknown(r, before),
    })
}

/// Keeps a state whose descriptor has been read, from `before` that descriptor on.
fn unknown<'a>(r: &mut Reader<'a>, before: &'a [u8]) -> Result<DeliveryState, DecodeError> {
    r.nested(Reader::skip_value)?;
    let octets = consumed(before, r.rest());
    RawValue::new(r.share(octets)).map(DeliveryState::Unknown)
}

#[cfg(test)]
mod tests;
