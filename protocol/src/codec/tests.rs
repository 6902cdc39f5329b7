//! What bytes may not do to a decoder: nest without end, declare what they do not hold, or grow.

use bytes::{Bytes, BytesMut};
use hex_literal::hex;

use super::*;
use crate::limits::{ITEMS_MAX, NESTING_MAX};
use crate::performative::Performative;
use crate::sasl::SaslFrame;
use crate::value::{RawValue, Value};

/// Decoding and skipping agree on whether `octets` are one value.
#[track_caller]
fn both(octets: &[u8]) -> Result<Value, DecodeError> {
    let mut r = Reader::from_slice(octets);
    let decoded = Value::decode(&mut r).and_then(|value| r.expect_end().map(|()| value));
    let skipped = RawValue::new(Bytes::copy_from_slice(octets));
    assert_eq!(decoded.as_ref().err(), skipped.as_ref().err());
    decoded
}

/// A null under `depth` containers, each written by `wrap` around the one inside.
fn nest(depth: usize, wrap: fn(&mut BytesMut, &[u8])) -> Vec<u8> {
    let mut inside = vec![code::NULL];
    for _ in 0..depth {
        let mut out = BytesMut::new();
        wrap(&mut out, &inside);
        inside = out.to_vec();
    }
    inside
}

fn in_list(out: &mut BytesMut, inside: &[u8]) {
    let mut list = ListWriter::new(out);
    list.item(|out| out.extend_from_slice(inside));
    list.finish();
}

fn in_map(out: &mut BytesMut, inside: &[u8]) {
    write_map(out, |out| {
        put_uint(out, 0);
        out.extend_from_slice(inside);
        2
    });
}

/// The element of an array is its constructor octet and the rest of what is inside.
fn in_array(out: &mut BytesMut, inside: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[code::ARRAY_8, 0, 0]);
    out.extend_from_slice(inside);
    patch_compound(out, start, 1, code::ARRAY_32);
}

fn in_described(out: &mut BytesMut, inside: &[u8]) {
    put_descriptor(out, 1);
    out.extend_from_slice(inside);
}

fn in_descriptor(out: &mut BytesMut, inside: &[u8]) {
    out.extend_from_slice(&[code::DESCRIBED]);
    out.extend_from_slice(inside);
    out.extend_from_slice(&[code::NULL]);
}

const WRAPS: [fn(&mut BytesMut, &[u8]); 5] =
    [in_list, in_map, in_array, in_described, in_descriptor];

#[test]
fn nesting_is_refused_one_past_the_limit() {
    let limit = usize::from(NESTING_MAX);
    for wrap in WRAPS {
        for depth in [1, 10, limit] {
            assert!(both(&nest(depth, wrap)).is_ok(), "{depth}");
        }
        assert_eq!(both(&nest(limit + 1, wrap)), Err(DecodeError::TooDeep));
    }
}

/// What was accepted is accepted again once we have encoded it, whatever shorter or longer form
/// it came in: an empty list nests nothing, an empty array does.
#[test]
fn empty_containers_at_the_limit() {
    let limit = usize::from(NESTING_MAX);
    let around = |depth: usize, innermost: &[u8]| {
        let mut octets = hex!("00 43").repeat(depth);
        octets.extend_from_slice(innermost);
        octets
    };
    for empty in
        [&hex!("45")[..], &hex!("c0 01 00"), &hex!("c1 01 00"), &hex!("d1 00000004 00000000")]
    {
        let value = both(&around(limit, empty)).unwrap();
        assert_eq!(both(&value.to_bytes()), Ok(value));
    }
    for empty in [&hex!("e0 01 00")[..], &hex!("e0 02 00 40")] {
        let value = both(&around(limit - 1, empty)).unwrap();
        assert_eq!(both(&value.to_bytes()), Ok(value));
        assert_eq!(both(&around(limit, empty)), Err(DecodeError::TooDeep));
    }
    let array_of_list0 = hex!("e0 02 01 45");
    let value = both(&around(limit - 1, &array_of_list0)).unwrap();
    assert_eq!(both(&value.to_bytes()), Ok(value));
}

/// A million levels, each with its own honest size, run on a stack of 256 KiB: what is refused at
/// level 33 never gets to level 34.
#[test]
fn a_million_levels_do_not_grow_the_stack() {
    let level = |head: &[u8], depth: usize| -> Vec<u8> {
        // Each level claims all that follows; only the outermost claim needs to be true.
        let mut octets = Vec::new();
        for i in 0..depth {
            let left = u32::try_from((depth - i) * head.len()).unwrap();
            octets.extend_from_slice(head);
            if let Some(size) = head.iter().position(|octet| *octet == 0xee) {
                let at = i * head.len() + size;
                octets[at..at + 4].copy_from_slice(&left.to_be_bytes());
            }
        }
        octets.push(code::NULL);
        octets
    };
    let heads: [&[u8]; 5] = [
        &hex!("d0 eeeeeeee 00000001"),
        &hex!("d1 eeeeeeee 00000002 43"),
        &hex!("f0 eeeeeeee 00000001"),
        &hex!("00 53 01"),
        &hex!("00"),
    ];
    let hostile: Vec<Vec<u8>> = heads.iter().map(|head| level(head, 1_000_000)).collect();
    let run = move || {
        for octets in &hostile {
            let mut r = Reader::from_slice(octets);
            assert!(Value::decode(&mut r).is_err());
            assert!(RawValue::read(&mut Reader::from_slice(octets)).is_err());
            for section in [&hex!("00 53 72")[..], &hex!("00 53 76"), &hex!("00 53 77")] {
                let message = [section, octets].concat();
                if let Ok(sections) = crate::message::Sections::index(&message) {
                    assert!(sections.check_body(&message).is_err());
                }
            }
            let open = [&hex!("00 53 10 d0 7fffffff 00000001")[..], octets].concat();
            assert!(Performative::decode(&Bytes::from(open)).is_err());
        }
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
}

const ZERO_WIDTH: [u8; 6] =
    [code::NULL, code::TRUE, code::FALSE, code::UINT_0, code::ULONG_0, code::LIST_0];

#[test]
fn arrays_of_nothing_are_legal_and_bounded() {
    for constructor in ZERO_WIDTH {
        let small = [&hex!("e0 02 03")[..], &[constructor]].concat();
        let array = both(&small).unwrap();
        assert_eq!(array.as_array().unwrap().items().len(), 3);

        let array = |count: u32| {
            let size = hex!("00000005");
            [&[code::ARRAY_32][..], &size, &count.to_be_bytes(), &[constructor]].concat()
        };
        assert!(both(&array(ITEMS_MAX)).is_ok());
        for count in [ITEMS_MAX + 1, u32::MAX] {
            assert_eq!(both(&array(count)), Err(DecodeError::TooManyItems { count }));
        }
    }
}

/// The attack of 2012 and 2026: nine octets that stand for 2³²−1 values, in every frame that a
/// peer may send before it has said who it is.
#[test]
fn arrays_of_nothing_are_refused_in_the_first_frames() {
    let refused = Some(DecodeError::TooManyItems { count: u32::MAX });
    for constructor in ZERO_WIDTH {
        let array = [&hex!("f0 00000005 ffffffff")[..], &[constructor]].concat();
        let with = |head: &[u8], before: &[u8], count: u8| {
            let size = u8::try_from(before.len() + array.len() + 1).unwrap();
            Bytes::from([head, &[code::LIST_8, size, count], before, &array].concat())
        };
        let open = with(&hex!("00 53 10"), &hex!("a1 00 40 40 40 40"), 6);
        assert_eq!(Performative::decode(&open).err(), refused);
        let begin = with(&hex!("00 53 11"), &hex!("40 43 43 43 40"), 6);
        assert_eq!(Performative::decode(&begin).err(), refused);
        let unknown_field = with(&hex!("00 53 17"), &hex!("40"), 2);
        assert_eq!(Performative::decode(&unknown_field).err(), refused);
        let mechanisms = with(&hex!("00 53 40"), &[], 1);
        assert_eq!(SaslFrame::decode(&mechanisms).err(), refused);
        // Read past where a binary is expected, or as a field that the type does not have.
        let init = with(&hex!("00 53 41"), &hex!("a3 01 41"), 2);
        assert!(SaslFrame::decode(&init).is_err());
        let init = with(&hex!("00 53 41"), &hex!("a3 01 41 40 40"), 4);
        assert_eq!(SaslFrame::decode(&init).err(), refused);
    }
}

/// The budget is the frame's, not the array's.
#[test]
fn many_arrays_in_one_frame_share_its_budget() {
    let frame = |arrays: u32, each: u32| {
        let mut body = BytesMut::from(&hex!("00 53 10")[..]);
        let mut list = ListWriter::new(&mut body);
        list.item(|out| put_string(out, "c"));
        (0..8).for_each(|_| list.null());
        list.item(|out| {
            write_map(out, |out| {
                for _ in 0..arrays {
                    put_symbol(out, "k");
                    out.extend_from_slice(&hex!("f0 00000005"));
                    out.extend_from_slice(&each.to_be_bytes());
                    out.extend_from_slice(&[code::NULL]);
                }
                arrays * 2
            });
        });
        list.finish();
        Performative::decode(&body.freeze())
    };
    assert!(frame(10, 1000).is_ok());
    assert_eq!(frame(100, 1000).err(), Some(DecodeError::TooManyItems { count: 1000 }));
    assert_eq!(frame(20, 60_000).err(), Some(DecodeError::TooManyItems { count: 60_000 }));
}

#[test]
fn sizes_are_checked_before_anything_else() {
    for octets in [
        &hex!("b0 ffffffff")[..],
        &hex!("b1 ffffffff 00"),
        &hex!("b3 7fffffff 00"),
        &hex!("a0 01"),
        &hex!("d0 ffffffff 0000ffff 40"),
        &hex!("d1 ffffffff 0000fffe 40"),
        &hex!("f0 ffffffff 00000001 40"),
        &hex!("c0 02 01"),
        &hex!("c0 02 02 40"),
        &hex!("e0 09 02 70 00000001"),
        &hex!("e0 06 02 70 00000001"),
    ] {
        assert_eq!(both(octets), Err(DecodeError::UnexpectedEnd), "{octets:02x?}");
    }
    for octets in [&hex!("c0 00 00")[..], &hex!("e0 00 00"), &hex!("c1 00 00")] {
        assert_eq!(both(octets), Err(DecodeError::CompoundSize { size: 0 }));
    }
    assert_eq!(both(&hex!("d0 00000003 00000000")), Err(DecodeError::CompoundSize { size: 3 }));
    for octets in [&hex!("c0 03 01 40 40")[..], &hex!("e0 03 01 41 41"), &hex!("c1 02 00 40")] {
        assert_eq!(both(octets), Err(DecodeError::TrailingBytes), "{octets:02x?}");
    }
}

#[test]
fn a_map_needs_a_value_for_each_key() {
    assert_eq!(both(&hex!("c1 02 01 40")), Err(DecodeError::OddMap { count: 1 }));
    assert_eq!(both(&hex!("d1 00000005 00000001 40")), Err(DecodeError::OddMap { count: 1 }));
    assert!(both(&hex!("c1 03 02 43 40")).is_ok());
}

#[test]
fn lists_go_to_the_long_form_when_they_must() {
    for (len, expected) in [(254, 0xc0), (255, 0xd0), (70_000, 0xd0)] {
        let mut out = BytesMut::from(&b"before"[..]);
        let mut list = ListWriter::new(&mut out);
        list.item(|out| out.extend_from_slice(&vec![code::NULL; len]));
        // One item of many octets is no list, but its size is what counts here.
        list.finish();
        assert_eq!(out[6], expected, "{len}");
    }
    let many = Value::List(vec![Value::Null; 300]);
    let octets = many.to_bytes();
    assert_eq!(octets[..9], hex!("d0 00000130 0000012c"));
    assert_eq!(both(&octets), Ok(many));
}
