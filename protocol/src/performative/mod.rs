//! §2.7: the nine performatives, a file each. What they mean is the engine's business.

mod attach;
mod begin;
mod close;
mod detach;
mod disposition;
mod end;
mod flow;
mod open;
mod transfer;

use bytes::{Bytes, BytesMut};

use crate::codec::{Composite, CompositeSpec, DecodeError, Reader, read_descriptor};

pub use attach::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
pub use begin::Begin;
pub use close::Close;
pub use detach::Detach;
pub use disposition::Disposition;
pub use end::End;
pub use flow::Flow;
pub use open::Open;
pub use transfer::Transfer;

/// What the body of an AMQP frame begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performative {
    /// §2.7.1.
    Open(Box<Open>),
    /// §2.7.2.
    Begin(Box<Begin>),
    /// §2.7.3.
    Attach(Box<Attach>),
    /// §2.7.4.
    Flow(Flow),
    /// §2.7.5.
    Transfer(Transfer),
    /// §2.7.6.
    Disposition(Disposition),
    /// §2.7.7.
    Detach(Detach),
    /// §2.7.8.
    End(End),
    /// §2.7.9.
    Close(Close),
}

impl Performative {
    /// Reads the performative at the start of a frame body, and returns it with what follows: the
    /// payload of a transfer.
    #[inline]
    pub fn decode(body: &Bytes) -> Result<(Self, Bytes), DecodeError> {
        let r = &mut Reader::new(body);
        let wanted = "performative";
        let descriptor = read_descriptor(r, wanted)?;
        let Some(descriptor) = descriptor else {
            return Err(DecodeError::UnknownDescriptor { wanted });
        };
        let performative = match descriptor {
            0x14 => Self::Transfer(Transfer::read_list(r)?),
            0x15 => Self::Disposition(Disposition::read_list(r)?),
            0x13 => Self::Flow(Flow::read_list(r)?),
            0x10 => Self::Open(Box::new(Open::read_list(r)?)),
            0x11 => Self::Begin(Box::new(Begin::read_list(r)?)),
            0x12 => Self::Attach(Box::new(Attach::read_list(r)?)),
            0x16 => Self::Detach(Detach::read_list(r)?),
            0x17 => Self::End(End::read_list(r)?),
            0x18 => Self::Close(Close::read_list(r)?),
            code => return Err(DecodeError::UnexpectedDescriptor { wanted, code }),
        };
        // Empty but for transfers; then the buffer need not be held.
        let payload = if r.is_empty() { Bytes::new() } else { r.share(r.rest()) };
        Ok((performative, payload))
    }

    /// Appends descriptor and list, with every field and null for what is not set: pyamqp before
    /// 7.15 reads fields by position and raises an error on a list that is too short.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open(p) => p.write_described(out),
            Self::Begin(p) => p.write_described(out),
            Self::Attach(p) => p.write_described(out),
            Self::Flow(p) => p.write_described(out),
            Self::Transfer(p) => p.write_described(out),
            Self::Disposition(p) => p.write_described(out),
            Self::Detach(p) => p.write_described(out),
            Self::End(p) => p.write_described(out),
            Self::Close(p) => p.write_described(out),
        }
    }

    /// The performative's name in the specification, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Begin(_) => "begin",
            Self::Attach(_) => "attach",
            Self::Flow(_) => "flow",
            Self::Transfer(_) => "transfer",
            Self::Disposition(_) => "disposition",
            Self::Detach(_) => "detach",
            Self::End(_) => "end",
            Self::Close(_) => "close",
        }
    }
}

macro_rules! performative {
    ($($name:ident $wrap:expr;)*) => {
        $(
            impl From<$name> for Performative {
                fn from(performative: $name) -> Self {
                    Self::$name($wrap(performative))
                }
            }

            impl $name {
                /// Appends descriptor and list, without a detour over [`Performative`].
                #[inline]
                pub fn encode(&self, out: &mut BytesMut) {
                    self.write_described(out);
                }
            }
        )*

        /// What the codec takes each performative to look like.
        pub(crate) const SPECS: &[CompositeSpec] = &[$($name::SPEC),*];
    };
}
performative! {
    Open Box::new;
    Begin Box::new;
    Attach Box::new;
    Flow std::convert::identity;
    Transfer std::convert::identity;
    Disposition std::convert::identity;
    Detach std::convert::identity;
    End std::convert::identity;
    Close std::convert::identity;
}

#[cfg(test)]
pub(crate) mod tests;
