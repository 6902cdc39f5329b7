//! Bytes as no well-behaved client would write them.

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_protocol::performative::Performative;
use peeklock_protocol::value::Value;

/// The protocol header of the AMQP layer.
pub const AMQP: &[u8; 8] = b"AMQP\x00\x01\x00\x00";
/// The protocol header of the SASL layer.
pub const SASL: &[u8; 8] = b"AMQP\x03\x01\x00\x00";

/// The type octet of AMQP frames.
pub const TYPE_AMQP: u8 = 0;
/// The type octet of SASL frames.
pub const TYPE_SASL: u8 = 1;

/// A frame with this body, whatever it is.
pub fn frame(kind: u8, channel: u16, body: &[u8]) -> Bytes {
    extended_frame(kind, channel, &[], body)
}

/// A frame with an extended header; `extension` is a multiple of four long.
pub fn extended_frame(kind: u8, channel: u16, extension: &[u8], body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(length(8 + extension.len() + body.len()));
    out.put_u8(u8::try_from(2 + extension.len() / 4).expect("a short extended header"));
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_slice(extension);
    out.put_slice(body);
    out.freeze()
}

/// A frame header that promises `size` bytes, and nothing else.
pub fn frame_header(size: u32, data_offset_words: u8, kind: u8) -> [u8; 8] {
    let [a, b, c, d] = size.to_be_bytes();
    [a, b, c, d, data_offset_words, kind, 0, 0]
}

/// A performative and its payload in one AMQP frame.
pub fn amqp_frame(channel: u16, performative: &Performative, payload: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    performative.encode(&mut body);
    body.put_slice(payload);
    frame(TYPE_AMQP, channel, &body)
}

/// A described value with a numeric descriptor.
pub fn described(code: u64, value: Value) -> Value {
    Value::Described(Box::new((Value::Ulong(code), value)))
}

/// A list under `code` whose fields are already encoded: what a performative looks like.
pub fn described_list(code: u8, fields: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[0x00, 0x53, code]);
    out.put_slice(&list(fields));
    out.freeze()
}

/// A list in its long form of items that are already encoded.
pub fn list(items: &[&[u8]]) -> Bytes {
    let items_length: usize = items.iter().map(|item| item.len()).sum();
    let mut out = BytesMut::new();
    out.put_u8(0xd0);
    out.put_u32(length(items_length + 4));
    out.put_u32(length(items.len()));
    for item in items {
        out.put_slice(item);
    }
    out.freeze()
}

/// An array that declares `count` elements without a width.
pub fn zero_width_array(constructor: u8, count: u32) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0xf0);
    out.put_u32(5);
    out.put_u32(count);
    out.put_u8(constructor);
    out.freeze()
}

/// What can be nested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nest {
    /// A list in a list.
    List,
    /// A map in a map, as a value.
    Map,
    /// An array of arrays.
    Array,
    /// A described value that is described.
    Described,
}

/// A value with `depth` containers inside one another.
pub fn nested(kind: Nest, depth: usize) -> Bytes {
    match kind {
        Nest::List => {
            let heads = heads(depth, 9, 1, |out, size| {
                out.put_u8(0xd0);
                out.put_u32(size - 5);
                out.put_u32(1);
            });
            with_tail(heads, &[0x40])
        }
        Nest::Map => {
            let heads = heads(depth, 12, 1, |out, size| {
                out.put_u8(0xd1);
                out.put_u32(size - 5);
                out.put_u32(2);
                out.put_slice(&[0xa3, 1, b'k']);
            });
            with_tail(heads, &[0x40])
        }
        Nest::Array => {
            let heads = heads(depth, 9, 1, |out, size| {
                out.put_u8(0xf0);
                out.put_u32(size - 5);
                out.put_u32(1);
            });
            with_tail(heads, &[0x40])
        }
        Nest::Described => {
            let mut out = BytesMut::with_capacity(depth * 3 + 1);
            for _ in 0..depth {
                out.put_slice(&[0x00, 0x53, 0x01]);
            }
            with_tail(out, &[0x40])
        }
    }
}

/// Writes `depth` heads, each told how many bytes remain including itself.
fn heads(depth: usize, head: usize, tail: usize, write: impl Fn(&mut BytesMut, u32)) -> BytesMut {
    let mut out = BytesMut::with_capacity(depth * head + tail);
    for left in (1..=depth).rev() {
        write(&mut out, length(left * head + tail));
    }
    out
}

fn with_tail(mut out: BytesMut, tail: &[u8]) -> Bytes {
    out.put_slice(tail);
    out.freeze()
}

fn length(octets: usize) -> u32 {
    u32::try_from(octets).expect("a frame below 4 GiB")
}
