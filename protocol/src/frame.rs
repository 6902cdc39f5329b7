//! §2.3: protocol headers, and the eight octets in front of every frame.

use bytes::{BufMut, BytesMut};

use crate::codec::wire_len;
use crate::limits;

/// The protocol header that starts each layer of a connection (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 1.0.0 itself.
    Amqp,
    /// The SASL layer.
    Sasl,
    /// The TLS layer of §5.2.
    Tls,
    /// Anything else: another version, or another protocol altogether.
    Unknown([u8; 8]),
}

impl ProtocolHeader {
    /// How many octets every protocol header has.
    pub const LEN: usize = 8;

    /// Tells which header `octets` are.
    pub fn parse(octets: [u8; Self::LEN]) -> Self {
        match &octets {
            b"AMQP\x00\x01\x00\x00" => Self::Amqp,
            b"AMQP\x03\x01\x00\x00" => Self::Sasl,
            b"AMQP\x02\x01\x00\x00" => Self::Tls,
            _ => Self::Unknown(octets),
        }
    }

    /// The header's octets.
    pub fn to_octets(self) -> [u8; Self::LEN] {
        match self {
            Self::Amqp => *b"AMQP\x00\x01\x00\x00",
            Self::Sasl => *b"AMQP\x03\x01\x00\x00",
            Self::Tls => *b"AMQP\x02\x01\x00\x00",
            Self::Unknown(octets) => octets,
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A performative and its payload.
    Amqp,
    /// One step of the SASL exchange.
    Sasl,
    /// A type that the specification does not define.
    Other(u8),
}

impl FrameKind {
    fn octet(self) -> u8 {
        match self {
            Self::Amqp => 0,
            Self::Sasl => 1,
            Self::Other(octet) => octet,
        }
    }
}

/// §2.3.1: the head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The whole frame's size, these eight octets included.
    pub size: u32,
    /// Where the body starts, in words of four octets.
    pub data_offset_words: u8,
    /// What it carries.
    pub kind: FrameKind,
    /// The channel. §5.3.1: without meaning on a SASL frame.
    pub channel: u16,
}

/// Why eight octets cannot be the head of a frame that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// §2.3.1: smaller than the head itself.
    #[error("a frame of {size} octets is smaller than its header")]
    TooSmall {
        /// The declared size.
        size: u32,
    },
    /// Larger than was agreed, or than is allowed before there is an agreement.
    #[error("a frame of {size} octets is larger than {max}")]
    TooLarge {
        /// The declared size.
        size: u32,
        /// The most that is taken.
        max: u32,
    },
    /// The body would start inside the head or after the end.
    #[error("a data offset of {words} words does not fit a frame of {size} octets")]
    DataOffset {
        /// The declared offset.
        words: u8,
        /// The declared size.
        size: u32,
    },
}

impl FrameHeader {
    /// How many octets the head has.
    pub const LEN: usize = 8;

    /// Reads a head, and refuses the frame before anything is set aside for its body.
    pub fn parse(octets: &[u8; Self::LEN], max_frame_size: u32) -> Result<Self, FrameError> {
        let [s0, s1, s2, s3, words, kind, c0, c1] = *octets;
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if max_frame_size < size {
            return Err(FrameError::TooLarge { size, max: max_frame_size });
        }
        if size < wire_len(Self::LEN) {
            return Err(FrameError::TooSmall { size });
        }
        if words < 2 || size < u32::from(words) * 4 {
            return Err(FrameError::DataOffset { words, size });
        }
        let kind = match kind {
            0 => FrameKind::Amqp,
            1 => FrameKind::Sasl,
            other => FrameKind::Other(other),
        };
        Ok(Self { size, data_offset_words: words, kind, channel: u16::from_be_bytes([c0, c1]) })
    }

    /// Where the body starts, counted from the start of the frame.
    pub fn body_offset(&self) -> usize {
        usize::from(self.data_offset_words) * 4
    }

    /// The largest frame a peer may send while none was agreed on (§2.4.1, §5.3.1).
    pub const MAX_SIZE_BEFORE_OPEN: u32 = limits::MIN_MAX_FRAME_SIZE;
}

/// Appends a frame whose body `write` appends.
#[inline]
pub fn write_frame(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: u16,
    write: impl FnOnce(&mut BytesMut),
) {
    write_frame_head(out, kind, channel, 0, write);
}

/// Appends a frame whose body is what `write` appends and `payload_len` octets that the caller
/// will put behind it.
#[inline]
pub fn write_frame_head(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: u16,
    payload_len: usize,
    write: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.put_slice(&[0, 0, 0, 0, 2, kind.octet(), c0, c1]);
    write(out);
    let size = wire_len(out.len() - start + payload_len);
    if let Some(mut head) = out.get_mut(start..start + 4) {
        head.put_u32(size);
    }
}

/// Appends the empty frame that keeps a connection alive (§2.4.5).
pub fn write_empty_frame(out: &mut BytesMut) {
    write_frame(out, FrameKind::Amqp, 0, |_| {});
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[track_caller]
    fn check(octets: [u8; 8], expected: Result<FrameHeader, FrameError>) {
        assert_eq!(FrameHeader::parse(&octets, 512), expected);
    }

    #[test]
    fn heads_that_fit() {
        let head = FrameHeader { size: 8, data_offset_words: 2, kind: FrameKind::Amqp, channel: 0 };
        check(hex!("00000008 02 00 0000"), Ok(head));
        check(
            hex!("00000200 03 01 0102"),
            Ok(FrameHeader {
                size: 512,
                data_offset_words: 3,
                kind: FrameKind::Sasl,
                channel: 0x0102,
            }),
        );
        check(hex!("00000008 02 07 0000"), Ok(FrameHeader { kind: FrameKind::Other(7), ..head }));
    }

    #[test]
    fn heads_that_are_refused() {
        check(hex!("00000007 02 00 0000"), Err(FrameError::TooSmall { size: 7 }));
        check(hex!("00000000 02 00 0000"), Err(FrameError::TooSmall { size: 0 }));
        check(hex!("00000201 02 00 0000"), Err(FrameError::TooLarge { size: 513, max: 512 }));
        check(hex!("ffffffff 02 00 0000"), Err(FrameError::TooLarge { size: u32::MAX, max: 512 }));
        check(hex!("00000008 01 00 0000"), Err(FrameError::DataOffset { words: 1, size: 8 }));
        check(hex!("00000008 03 00 0000"), Err(FrameError::DataOffset { words: 3, size: 8 }));
    }

    #[test]
    fn a_written_frame_knows_its_size() {
        let mut out = BytesMut::from(&b"before"[..]);
        write_frame(&mut out, FrameKind::Sasl, 3, |out| out.put_slice(b"body"));
        assert_eq!(out[6..], hex!("0000000c 02 01 0003 62 6f 64 79"));
        out.clear();
        write_frame_head(&mut out, FrameKind::Amqp, 0, 256, |out| out.put_u8(9));
        assert_eq!(out[..], hex!("00000109 02 00 0000 09"));
        out.clear();
        write_empty_frame(&mut out);
        assert_eq!(out[..], hex!("00000008 02 00 0000"));
    }

    #[test]
    fn protocol_headers() {
        for header in [ProtocolHeader::Amqp, ProtocolHeader::Sasl, ProtocolHeader::Tls] {
            assert_eq!(ProtocolHeader::parse(header.to_octets()), header);
        }
        let old = *b"AMQP\x00\x00\x09\x01";
        assert_eq!(ProtocolHeader::parse(old), ProtocolHeader::Unknown(old));
        assert_eq!(ProtocolHeader::parse(old).to_octets(), old);
    }
}
