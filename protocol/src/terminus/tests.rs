//! Termini both ways.

use bytes::Bytes;
use hex_literal::hex;

use super::*;
use crate::codec::put_descriptor;

fn source(octets: &[u8]) -> Result<SourceField, DecodeError> {
    SourceField::read(&mut Reader::new(&Bytes::copy_from_slice(octets)))
}

fn target(octets: &[u8]) -> Result<TargetField, DecodeError> {
    TargetField::read(&mut Reader::new(&Bytes::copy_from_slice(octets)))
}

#[test]
fn a_source_of_ours_has_all_fields() {
    let field = SourceField::from(Source::new("q"));
    assert_eq!(
        field.raw().as_bytes()[..],
        hex!("00 53 28 c0 1a 0b a1 01 71 43 a3 0b 73657373696f6e2d656e64 43 42 40 40 40 40 40 40")
    );
    assert_eq!(source(field.raw().as_bytes()), Ok(field));
}

#[test]
fn null_and_missing_fields_are_defaults() {
    for octets in
        [&hex!("00 53 28 c0 04 01 a1 01 71")[..], &hex!("00 53 28 c0 07 04 a1 01 71 40 40 40")]
    {
        let field = source(octets).unwrap();
        assert_eq!(field.view(), &Source::new("q"));
        assert_eq!(field.address(), Some("q"));
        assert_eq!(field.raw().as_bytes()[..], *octets);
    }
}

#[test]
fn filters_are_values_under_their_names() {
    let filter = Map::new().with(
        Symbol::from_static("com.microsoft:session-filter"),
        Value::Described(Box::new((Value::Ulong(0x13_7000_000c), Value::Null))),
    );
    let field = SourceField::from(Source::new("q").with_filter(filter.clone()));
    let again = source(field.raw().as_bytes()).unwrap();
    assert_eq!(again.view().filter, Some(filter));
    let filter = again.view().filter.as_ref().unwrap().get("com.microsoft:session-filter").unwrap();
    assert_eq!(filter.as_described(), Some((&Value::Ulong(83_483_426_828), &Value::Null)));
}

#[test]
fn a_coordinator_is_a_target_and_an_unknown_target_is_kept() {
    let field = target(&hex!("00 53 30 45")).unwrap();
    assert_eq!(field.view(), &Target::Coordinator(Coordinator::default()));
    assert_eq!(field.address(), None);
    let mut unknown = BytesMut::new();
    put_descriptor(&mut unknown, 0x1234_5678_9abc);
    unknown.extend_from_slice(&hex!("c0 03 01 52 01"));
    let field = target(&unknown).unwrap();
    assert_eq!(field.view(), &Target::Unknown);
    let mut out = BytesMut::new();
    field.write(&mut out);
    assert_eq!(out, unknown);
}

#[test]
fn values_out_of_range_are_refused() {
    assert_eq!(
        source(&hex!("00 53 28 c0 04 02 40 52 03")),
        Err(DecodeError::InvalidField { field: "terminus-durability" })
    );
    assert_eq!(
        source(&hex!("00 53 28 c0 06 03 40 40 a3 01 78")),
        Err(DecodeError::InvalidField { field: "terminus-expiry-policy" })
    );
    assert_eq!(
        source(&hex!("00 53 29 45")),
        Err(DecodeError::UnexpectedDescriptor { wanted: "amqp:source:list", code: 0x29 })
    );
}
