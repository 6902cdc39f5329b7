//! What all performatives have in common, and the checks their own tests use.

use bytes::{Bytes, BytesMut};
use hex_literal::hex;

use super::*;

pub(crate) fn decode(body: &[u8]) -> Result<Performative, DecodeError> {
    Performative::decode(&Bytes::copy_from_slice(body)).map(|(performative, _)| performative)
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
pub(crate) fn check(body: &[u8], expected: Result<Performative, DecodeError>) {
    assert_eq!(decode(body), expected);
}

#[track_caller]
pub(crate) fn check_encoded(performative: &Performative, expected: &[u8]) {
    let mut out = BytesMut::new();
    performative.encode(&mut out);
    assert_eq!(out[..], *expected, "wrote {out:02x?}");
}

#[test]
fn the_payload_shares_the_buffer_of_the_frame() {
    let body = Bytes::copy_from_slice(&hex!("00 53 14 c0 02 01 43 de ad"));
    let (_, payload) = Performative::decode(&body).unwrap();
    assert_eq!(payload[..], hex!("de ad"));
    assert_eq!(payload.as_ptr(), body[7..].as_ptr());
}

#[test]
fn fields_of_a_later_version_are_read_past() {
    check(&hex!("00 53 17 c0 06 02 40 c0 02 01 40"), Ok(End::default().into()));
    check(&hex!("00 53 17 c0 06 02 40 c0 02 02 40"), Err(DecodeError::UnexpectedEnd));
}

#[test]
fn what_is_no_performative_is_refused() {
    let wanted = "performative";
    check(&hex!(""), Err(DecodeError::UnexpectedEnd));
    check(&hex!("40"), Err(DecodeError::UnexpectedCode { wanted, code: 0x40 }));
    check(&hex!("00 53 24 45"), Err(DecodeError::UnexpectedDescriptor { wanted, code: 0x24 }));
    check(&hex!("00 53 40 45"), Err(DecodeError::UnexpectedDescriptor { wanted, code: 0x40 }));
    check(&hex!("00 a1 01 78 45"), Err(DecodeError::UnknownDescriptor { wanted }));
    check(&hex!("00 53 10"), Err(DecodeError::UnexpectedEnd));
    check(
        &hex!("00 53 10 c1 01 00"),
        Err(DecodeError::UnexpectedCode { wanted: "list", code: 0xc1 }),
    );
}

/// A descriptor symbol names its type only as a whole: neither a prefix nor a longer one does.
#[test]
fn symbolic_descriptors_match_exactly() {
    for spec in SPECS {
        let with = |symbol: &str| {
            let mut body = BytesMut::from(&[0x00][..]);
            crate::codec::put_symbol(&mut body, symbol);
            body.extend_from_slice(&hex!("c0 01 00"));
            decode(&body)
        };
        let mut numeric = BytesMut::new();
        crate::codec::put_descriptor(&mut numeric, spec.code);
        numeric.extend_from_slice(&hex!("c0 01 00"));
        assert_eq!(with(spec.name), decode(&numeric), "{}", spec.name);
        assert!(!matches!(with(spec.name), Err(DecodeError::UnknownDescriptor { .. })));

        let name = spec.name;
        let (shorter, _) = name.split_at(name.len() - 1);
        for near in
            [shorter.to_owned(), format!("{name}t"), format!(" {name}"), name.to_uppercase()]
        {
            let unknown = Err(DecodeError::UnknownDescriptor { wanted: "performative" });
            assert_eq!(with(&near), unknown, "{near}");
        }
    }
}
