//! §4.2: what a transaction controller asks of the coordinator. It travels as the value of a message;
//! the answers are delivery states.

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Composite, CompositeSpec, DecodeError, Reader, Wire, composite, put_descriptor, read_descriptor,
};
use crate::delivery_state::TxnId;
use crate::message::{BodyKind, Sections, descriptor};
use crate::value::RawValue;

/// A request to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coordination {
    /// §4.5.2: open a transaction.
    Declare {
        /// The distributed transaction it is to be part of.
        global_id: Option<RawValue>,
    },
    /// §4.5.3: end one.
    Discharge {
        /// Which.
        txn_id: Bytes,
        /// Whether to roll it back.
        fail: bool,
    },
}

composite! {
    pub(crate) struct Declare = "amqp:declare:list" 0x31 trimmed {
        global_id: Option<GlobalId> = "global-id",
    }
}
composite! {
    pub(crate) struct Discharge = "amqp:discharge:list" 0x32 trimmed {
        txn_id: TxnId = "txn-id",
        fail: Option<bool> = "fail",
    }
}

/// What the codec takes each request to look like.
pub(crate) const SPECS: &[CompositeSpec] = &[Declare::SPEC, Discharge::SPEC];

/// The specification leaves its type open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct GlobalId(RawValue);

impl Wire for GlobalId {
    const TYPE: &'static str = "*";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        RawValue::read(r).map(Self)
    }
    fn write(&self, out: &mut BytesMut) {
        self.0.encode(out);
    }
}

const WANTED: &str = "declare or discharge";

impl Coordination {
    /// Reads the message of a request.
    pub fn decode(message: &Bytes) -> Result<Self, DecodeError> {
        let sections = Sections::index(message)?;
        let body = match (sections.body_kind(), sections.body()) {
            (Some(BodyKind::Value), Some(body)) => message.slice(body),
            _ => return Err(DecodeError::MissingField { field: WANTED }),
        };
        let mut r = Reader::new(&body);
        read_descriptor(&mut r, WANTED)?;
        let request = match read_descriptor(&mut r, WANTED)? {
            Some(0x31) => {
                let Declare { global_id } = Declare::read_list(&mut r)?;
                Self::Declare { global_id: global_id.map(|id| id.0) }
            }
            Some(0x32) => {
                let Discharge { txn_id, fail } = Discharge::read_list(&mut r)?;
                Self::Discharge { txn_id: txn_id.0, fail: fail.unwrap_or(false) }
            }
            Some(code) => return Err(DecodeError::UnexpectedDescriptor { wanted: WANTED, code }),
            None => return Err(DecodeError::UnknownDescriptor { wanted: WANTED }),
        };
        r.expect_end()?;
        Ok(request)
    }

    /// The message of a request.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_descriptor(&mut out, descriptor::VALUE);
        match self {
            Self::Declare { global_id } => {
                Declare { global_id: global_id.clone().map(GlobalId) }.write_described(&mut out);
            }
            Self::Discharge { txn_id, fail } => {
                let txn_id = TxnId(txn_id.clone());
                Discharge { txn_id, fail: Some(*fail) }.write_described(&mut out);
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::message::Message;
    use crate::value::Value;

    fn read(octets: &[u8]) -> Result<Coordination, DecodeError> {
        Coordination::decode(&Bytes::copy_from_slice(octets))
    }

    #[track_caller]
    fn check_both(request: Coordination, octets: &[u8]) {
        assert_eq!(request.to_bytes()[..], *octets, "wrote {:02x?}", request.to_bytes());
        assert_eq!(read(octets), Ok(request));
    }

    #[test]
    fn requests_both_ways() {
        check_both(Coordination::Declare { global_id: None }, &hex!("00 53 77 00 53 31 45"));
        let global_id = Some(RawValue::from(&Value::Uint(7)));
        check_both(Coordination::Declare { global_id }, &hex!("00 53 77 00 53 31 c0 03 01 52 07"));
        let txn_id = Bytes::from_static(&[1, 2]);
        check_both(
            Coordination::Discharge { txn_id: txn_id.clone(), fail: true },
            &hex!("00 53 77 00 53 32 c0 06 02 a0 02 01 02 41"),
        );
        check_both(
            Coordination::Discharge { txn_id, fail: false },
            &hex!("00 53 77 00 53 32 c0 06 02 a0 02 01 02 42"),
        );
    }

    /// What stands around and in them: other sections, wide encodings, nulls, fields left out.
    #[test]
    fn requests_as_clients_write_them() {
        let declare = Ok(Coordination::Declare { global_id: None });
        assert_eq!(read(&hex!("00 53 70 45 00 53 77 00 53 31 c0 02 01 40")), declare);
        assert_eq!(read(&hex!("00 80 0000000000000077 00 80 0000000000000031 c0 01 00")), declare);
        let commit = Coordination::Discharge { txn_id: Bytes::from_static(&[9]), fail: false };
        assert_eq!(read(&hex!("00 53 77 00 53 32 c0 04 01 a0 01 09")), Ok(commit.clone()));
        assert_eq!(read(&hex!("00 53 77 00 53 32 c0 06 02 b0 00000001 09 40")).ok(), None);
        assert_eq!(read(&hex!("00 53 77 00 53 32 c0 08 02 b0 00000001 09 40")), Ok(commit));
    }

    #[test]
    fn what_is_no_request() {
        for octets in [
            &hex!("00 53 75 a0 01 78")[..],
            &hex!("00 53 77 40"),
            &hex!("00 53 77 00 53 33 c0 04 01 a0 01 09"),
            &hex!("00 53 77 00 53 32 45"),
            &hex!("00 53 77 00 53 32 c0 04 01 a1 01 78"),
        ] {
            assert!(read(octets).is_err(), "{octets:02x?}");
        }
        assert!(Coordination::decode(&Message::default().to_bytes()).is_err());
    }
}
