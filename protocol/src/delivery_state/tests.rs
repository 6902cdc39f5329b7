//! Delivery states both ways.

use hex_literal::hex;

use super::*;
use crate::codec::put_symbol;
use crate::value::Symbol;

fn read(octets: &[u8]) -> Result<DeliveryState, DecodeError> {
    let mut r = Reader::from_slice(octets);
    DeliveryState::read(&mut r).and_then(|state| r.expect_end().map(|()| state))
}

#[track_caller]
fn check_both(state: DeliveryState, octets: &[u8]) {
    let mut out = BytesMut::new();
    state.write(&mut out);
    assert_eq!(out[..], *octets, "wrote {out:02x?}");
    assert_eq!(read(octets), Ok(state));
}

#[test]
fn every_state_both_ways() {
    check_both(DeliveryState::Accepted, &hex!("00 53 24 45"));
    check_both(DeliveryState::Released, &hex!("00 53 26 45"));
    check_both(DeliveryState::Rejected(None), &hex!("00 53 25 45"));
    let error = ErrorInfo { condition: "a".into(), description: None, info: None };
    check_both(
        DeliveryState::Rejected(Some(error)),
        &hex!("00 53 25 c0 0c 01 00 53 1d c0 06 03 a3 01 61 40 40"),
    );
    check_both(
        DeliveryState::Received { section_number: 0, section_offset: 300 },
        &hex!("00 53 23 c0 0b 02 43 80 000000000000012c"),
    );
    check_both(
        DeliveryState::Modified {
            delivery_failed: Some(true),
            undeliverable_here: None,
            message_annotations: None,
        },
        &hex!("00 53 27 c0 02 01 41"),
    );
    check_both(
        DeliveryState::Modified {
            delivery_failed: None,
            undeliverable_here: Some(true),
            message_annotations: Some(Map::new().with(Symbol::from_static("k"), 1_u32)),
        },
        &hex!("00 53 27 c0 0b 03 40 41 c1 06 02 a3 01 6b 52 01"),
    );
    check_both(
        DeliveryState::Declared { txn_id: Bytes::from_static(&[1, 2]) },
        &hex!("00 53 33 c0 05 01 a0 02 01 02"),
    );
    check_both(
        DeliveryState::Transactional {
            txn_id: Bytes::from_static(&[7]),
            outcome: Some(Box::new(DeliveryState::Accepted)),
        },
        &hex!("00 53 34 c0 08 02 a0 01 07 00 53 24 45"),
    );
}

/// .NET and proton write `accepted` with an empty list8, and the descriptor may be a symbol.
#[test]
fn accepted_in_other_encodings() {
    for octets in [
        &hex!("00 53 24 c0 01 00")[..],
        &hex!("00 53 24 d0 00000004 00000000"),
        &hex!("00 80 0000000000000024 45"),
    ] {
        assert_eq!(read(octets), Ok(DeliveryState::Accepted));
    }
    let mut symbolic = BytesMut::from(&[0][..]);
    put_symbol(&mut symbolic, "amqp:accepted:list");
    symbolic.extend_from_slice(&hex!("45"));
    assert_eq!(read(&symbolic), Ok(DeliveryState::Accepted));
}

/// A state is allowed to be an extension: it is kept and never closes a connection.
#[test]
fn unknown_states_are_kept_as_they_came() {
    for octets in [
        &hex!("00 a3 03 78 3a 79 c0 03 01 52 09")[..],
        &hex!("00 80 0000013700000001 40"),
        &hex!("00 53 10 45"),
        &hex!("00 a3 13 61 6d 71 70 3a 61 63 63 65 70 74 65 64 3a 6c 69 73 74 73 45"),
    ] {
        let Ok(DeliveryState::Unknown(raw)) = read(octets) else {
            panic!("{:?} of {octets:02x?}", read(octets))
        };
        assert_eq!(raw.as_bytes()[..], *octets);
        check_both(DeliveryState::Unknown(raw), octets);
    }
}

#[test]
fn states_that_cannot_be() {
    let nested = hex!("00 53 34 c0 0d 02 a0 01 07 00 53 34 c0 04 01 a0 01 07");
    assert_eq!(read(&nested), Err(DecodeError::InvalidField { field: "outcome" }));
    let no_txn = hex!("00 53 34 c0 02 01 40");
    assert_eq!(read(&no_txn), Err(DecodeError::MissingField { field: "txn-id" }));
    let not_described = hex!("45");
    let wanted = "delivery-state";
    assert_eq!(read(&not_described), Err(DecodeError::UnexpectedCode { wanted, code: 0x45 }));
    let map_in_modified = hex!("00 53 27 c0 05 03 40 40 c0 01");
    assert!(read(&map_in_modified).is_err());
}

#[test]
fn outcomes_end_a_delivery_and_states_do_not() {
    assert!(DeliveryState::Accepted.is_outcome() && DeliveryState::Rejected(None).is_outcome());
    let received = DeliveryState::Received { section_number: 0, section_offset: 0 };
    assert!(!received.is_outcome());
}
