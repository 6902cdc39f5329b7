//! §3.2.1 header.

use bytes::BytesMut;

use crate::codec::{Composite, DecodeError, Reader, composite};

composite! {
    /// How to treat the message on its way.
    #[derive(Default)]
    pub struct Header = "amqp:header:list" 0x70 trimmed {
        /// Whether it must survive a loss of power.
        pub durable: Option<bool> = "durable",
        /// How urgent it is; 4 when missing.
        pub priority: Option<u8> = "priority",
        /// For how many milliseconds it is of use.
        pub ttl: Option<u32> = "ttl",
        /// Whether no other link has acquired it before.
        pub first_acquirer: Option<bool> = "first-acquirer",
        /// How many attempts to deliver it failed. Set it on whatever goes to a client: .NET
        /// fails on a header without, so `Some(0)` is written as a uint like any other number.
        pub delivery_count: Option<u32> = "delivery-count",
    }
}

impl Header {
    /// Reads a header section, its descriptor included.
    pub fn decode(section: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::from_slice(section);
        let header = Self::read_described(&mut r)?;
        r.expect_end()?;
        Ok(header)
    }

    /// Appends a header section.
    pub fn encode(&self, out: &mut BytesMut) {
        self.write_described(out);
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[track_caller]
    fn check(header: &Header, section: &[u8]) {
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(out[..], *section, "wrote {out:02x?}");
        assert_eq!(Header::decode(section).as_ref(), Ok(header));
    }

    #[test]
    fn a_delivery_count_of_zero_is_written() {
        let header = Header { delivery_count: Some(0), ..Header::default() };
        check(&header, &hex!("00 53 70 c0 06 05 40 40 40 40 43"));
    }

    #[test]
    fn nulls_at_the_end_are_left_out() {
        check(&Header::default(), &hex!("00 53 70 45"));
        let header = Header { durable: Some(true), ..Header::default() };
        check(&header, &hex!("00 53 70 c0 02 01 41"));
    }

    #[test]
    fn ttl_in_its_wide_form() {
        let section = hex!("00 53 70 d0 00 00 00 0d 00 00 00 03 41 50 04 70 00 00 ea 60");
        let header = Header {
            durable: Some(true),
            priority: Some(4),
            ttl: Some(60_000),
            ..Header::default()
        };
        assert_eq!(Header::decode(&section), Err(DecodeError::UnexpectedEnd));
        let section = hex!("00 53 70 d0 00 00 00 0c 00 00 00 03 41 50 04 70 00 00 ea 60");
        assert_eq!(Header::decode(&section), Ok(header));
    }
}
