//! Values both ways, in all their encodings.

use bytes::{Bytes, BytesMut};
use hex_literal::hex;
use proptest::prelude::*;

use super::*;
use crate::codec::{DecodeError, Reader};

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
fn check(octets: &[u8], expected: Result<Value, DecodeError>) {
    let bytes = Bytes::copy_from_slice(octets);
    let mut r = Reader::new(&bytes);
    let found = Value::decode(&mut r).and_then(|value| r.expect_end().map(|()| value));
    assert_eq!(found, expected);
}

/// The first encoding is the one we write.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "cases read better with values")]
fn check_all(value: Value, encodings: &[&[u8]]) {
    assert_eq!(value.to_bytes()[..], *encodings[0], "wrote {:02x?}", value.to_bytes());
    for encoding in encodings {
        check(encoding, Ok(value.clone()));
    }
}

#[test]
fn fixed_width_types_in_all_encodings() {
    check_all(Value::Null, &[&hex!("40")]);
    check_all(Value::Bool(true), &[&hex!("41"), &hex!("56 01")]);
    check_all(Value::Bool(false), &[&hex!("42"), &hex!("56 00")]);
    check_all(Value::Ubyte(200), &[&hex!("50 c8")]);
    check_all(Value::Ushort(513), &[&hex!("60 0201")]);
    check_all(Value::Uint(0), &[&hex!("43"), &hex!("52 00"), &hex!("70 00000000")]);
    check_all(Value::Uint(255), &[&hex!("52 ff"), &hex!("70 000000ff")]);
    check_all(Value::Uint(256), &[&hex!("70 00000100")]);
    check_all(Value::Ulong(0), &[&hex!("44"), &hex!("53 00"), &hex!("80 0000000000000000")]);
    check_all(Value::Ulong(1), &[&hex!("53 01"), &hex!("80 0000000000000001")]);
    check_all(Value::Byte(-1), &[&hex!("51 ff")]);
    check_all(Value::Short(-2), &[&hex!("61 fffe")]);
    check_all(Value::Int(-128), &[&hex!("54 80"), &hex!("71 ffffff80")]);
    check_all(Value::Int(-129), &[&hex!("71 ffffff7f")]);
    check_all(Value::Long(127), &[&hex!("55 7f"), &hex!("81 000000000000007f")]);
    check_all(Value::Long(128), &[&hex!("81 0000000000000080")]);
    check_all(Value::from(1.5_f32), &[&hex!("72 3fc00000")]);
    check_all(Value::from(-1.5_f64), &[&hex!("82 bff8000000000000")]);
    check_all(Value::Decimal32([1, 2, 3, 4]), &[&hex!("74 01020304")]);
    check_all(Value::Decimal64([9; 8]), &[&hex!("84 0909090909090909")]);
    check_all(Value::Decimal128([7; 16]), &[&hex!("94 07070707070707070707070707070707")]);
    check_all(Value::Char('ü'), &[&hex!("73 000000fc")]);
    check_all(Value::Timestamp(-1), &[&hex!("83 ffffffffffffffff")]);
    check_all(Value::Uuid([5; 16]), &[&hex!("98 05050505050505050505050505050505")]);
}

#[test]
fn variable_width_types_in_all_encodings() {
    check_all(Value::from("ü"), &[&hex!("a1 02 c3bc"), &hex!("b1 00000002 c3bc")]);
    check_all(Value::Symbol("s".into()), &[&hex!("a3 01 73"), &hex!("b3 00000001 73")]);
    check_all(
        Value::Binary(Bytes::from_static(&[0xff])),
        &[&hex!("a0 01 ff"), &hex!("b0 00000001 ff")],
    );
    let long = Value::from("x".repeat(256));
    assert_eq!(long.to_bytes()[..5], hex!("b1 00000100"));
}

#[test]
fn compound_types_in_all_encodings() {
    check_all(
        Value::List(vec![]),
        &[&hex!("45"), &hex!("c0 01 00"), &hex!("d0 00000004 00000000")],
    );
    check_all(
        Value::List(vec![Value::Null, Value::Uint(0)]),
        &[&hex!("c0 03 02 40 43"), &hex!("d0 00000006 00000002 40 43")],
    );
    check_all(
        Value::Map(Map::new().with("k", true)),
        &[&hex!("c1 05 02 a1 01 6b 41"), &hex!("d1 00000008 00000002 a1 01 6b 41")],
    );
    check_all(
        Value::Array(Array::new(ElementType::Uint, vec![Value::Uint(0), Value::Uint(0)]).unwrap()),
        &[
            &hex!("e0 0a 02 70 00000000 00000000"),
            &hex!("f0 0000000d 00000002 70 00000000 00000000"),
            &hex!("e0 02 02 43"),
            &hex!("e0 04 02 52 00 00"),
        ],
    );
    check_all(
        Value::Described(Box::new((Value::Symbol("d".into()), Value::Long(1)))),
        &[&hex!("00 a3 01 64 55 01"), &hex!("00 b3 00000001 64 81 0000000000000001")],
    );
}

#[test]
fn arrays_keep_type_and_descriptors() {
    let empty = hex!("e0 02 00 b3");
    check(&empty, Ok(Value::Array(Array::symbols([]))));
    check(&hex!("e0 01 00"), Ok(Value::Array(Array::new(ElementType::Null, vec![]).unwrap())));
    let described = hex!("e0 07 02 00 53 09 50 01 02");
    let mut r = Reader::from_slice(&described);
    let value = Value::decode(&mut r).unwrap();
    let array = value.as_array().unwrap();
    assert_eq!(array.descriptors(), [Value::Ulong(9)]);
    assert_eq!(array.items(), [Value::Ubyte(1), Value::Ubyte(2)]);
    assert_eq!(value.to_bytes()[..], described);
    assert_eq!(Array::new(ElementType::Uint, vec![Value::Int(0)]), Err(MixedArray));
}

#[test]
fn text_that_is_none_is_refused() {
    check(&hex!("a1 01 ff"), Err(DecodeError::InvalidUtf8));
    check(&hex!("b1 00000002 c3 28"), Err(DecodeError::InvalidUtf8));
    check(&hex!("a3 02 c3 bc"), Err(DecodeError::InvalidSymbol));
    check(&hex!("73 0000d800"), Err(DecodeError::InvalidChar { value: 0xd800 }));
    check(&hex!("73 00110000"), Err(DecodeError::InvalidChar { value: 0x0011_0000 }));
    check(&hex!("56 02"), Err(DecodeError::InvalidBoolean { octet: 2 }));
    check(&hex!("e0 03 01 56 02"), Err(DecodeError::InvalidBoolean { octet: 2 }));
    check(&hex!("57 00"), Err(DecodeError::UnknownCode { code: 0x57 }));
    check(&hex!("e0 02 01 57"), Err(DecodeError::UnknownCode { code: 0x57 }));
}

#[test]
fn maps_keep_their_order_and_find_keys_of_either_text_type() {
    let map = Map::new().with(Symbol::from_static("b"), 1_u32).with("a", 2_u32);
    let keys: Vec<_> = map.iter().map(|(key, _)| key.as_str().unwrap()).collect();
    assert_eq!(keys, ["b", "a"]);
    assert_eq!(map.get("b"), Some(&Value::Uint(1)));
    assert_eq!(map.get("a"), Some(&Value::Uint(2)));
    assert_eq!(map.get("c"), None);
    let map = map.with("a", 3_u32);
    assert_eq!((map.len(), map.get("a")), (2, Some(&Value::Uint(3))));
}

#[test]
fn lenient_looks() {
    assert_eq!(Value::Ulong(u64::MAX).as_i64(), None);
    assert_eq!(Value::Ulong(u64::MAX).as_u64(), Some(u64::MAX));
    for five in [Value::Byte(5), Value::Int(5), Value::Uint(5), Value::Long(5), Value::Ubyte(5)] {
        assert_eq!((five.as_i64(), five.as_u64(), five.as_u32()), (Some(5), Some(5), Some(5)));
    }
    assert_eq!(Value::Int(-5).as_u64(), None);
    assert_eq!(Value::from("5").as_i64(), None);
    assert_eq!(Value::Binary(Bytes::from_static(b"x")).as_str(), Some("x"));
    assert_eq!(Value::Binary(Bytes::from_static(b"\xff")).as_str(), None);
    assert_eq!(Value::from("x").items(), [Value::from("x")]);
    assert_eq!(Value::Array(Array::longs([1])).items(), [Value::Long(1)]);
    assert!(Value::Null.items().is_empty());
}

#[test]
fn text_shares_its_buffer_until_detached() {
    let source = Bytes::copy_from_slice(&hex!("a1 03 616263"));
    let Value::String(text) = Value::decode(&mut Reader::new(&source)).unwrap() else { panic!() };
    assert_eq!(text.as_bytes().as_ptr(), source[2..].as_ptr());
    assert_ne!(text.detached().as_bytes().as_ptr(), source[2..].as_ptr());
    assert_eq!(text, text.detached());
}

/// Any value up to a few levels deep.
pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        prop_oneof![any::<u32>(), 0..300_u32].prop_map(Value::Uint),
        prop_oneof![any::<u64>(), 0..300_u64].prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![any::<i32>(), -200..200_i32].prop_map(Value::Int),
        prop_oneof![any::<i64>(), -200..200_i64].prop_map(Value::Long),
        any::<u32>().prop_map(|bits| Value::Float(F32::from_bits(bits))),
        any::<u64>().prop_map(|bits| Value::Double(F64::from_bits(bits))),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|v| Value::Binary(v.into())),
        proptest::collection::vec(any::<char>(), 0..90)
            .prop_map(|chars| Value::from(chars.into_iter().collect::<String>())),
        proptest::collection::vec(0..128_u8, 0..300)
            .prop_map(|v| Value::Symbol(Symbol::from_ascii(v.into()).unwrap())),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..4)
                .prop_map(|entries| Value::Map(Map::from(entries))),
            (inner.clone(), inner.clone()).prop_map(|pair| Value::Described(Box::new(pair))),
            (inner.clone(), 0..5_usize, proptest::collection::vec(inner, 0..2)).prop_map(
                |(item, count, descriptors)| {
                    let element = item.element_type().unwrap_or(ElementType::Null);
                    let item = if item.as_described().is_some() { Value::Null } else { item };
                    let mut array = Array::new(element, vec![item; count]).unwrap();
                    array.descriptors = descriptors;
                    Value::Array(array)
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(value in any_value()) {
        let bytes = value.to_bytes();
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Value::decode(&mut r), Ok(value.clone()));
        prop_assert!(r.is_empty());
        let raw = RawValue::new(bytes.clone()).unwrap();
        prop_assert_eq!(raw.decode(), Ok(value));
        let mut out = BytesMut::new();
        raw.encode(&mut out);
        prop_assert_eq!(out.freeze(), bytes);
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::value(&bytes);
    }
}
