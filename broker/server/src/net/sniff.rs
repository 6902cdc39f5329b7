//! What a peer speaks, told by its first byte.
//!
//! One byte is enough, and no more than that must be waited for: each protocol has its own answer for
//! a peer that goes on with something else.

use std::io;

use tokio::net::TcpStream;

/// What a connection is to be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// AMQP, and whatever is nothing else: the engine answers a wrong header with ours (§2.2).
    Amqp,
    /// A TLS record with a handshake.
    Tls,
    /// A method of HTTP.
    Http,
}

impl Protocol {
    pub(super) fn of(first: u8) -> Self {
        match first {
            0x16 => Self::Tls,
            // No method of HTTP that anybody sends begins with the A of AMQP.
            b'B'..=b'Z' => Self::Http,
            _ => Self::Amqp,
        }
    }
}

/// Waits for the first byte and leaves it where it is; nothing at the end of the stream.
pub(super) async fn peek(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let mut first = [0; 1];
    let count = stream.peek(&mut first).await?;
    Ok((0 < count).then(|| Protocol::of(first[0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: &[u8], expected: Protocol) {
        assert_eq!(Protocol::of(first[0]), expected);
    }

    #[test]
    fn the_first_byte_tells() {
        check(b"AMQP\x00\x01\x00\x00", Protocol::Amqp);
        check(b"AMQP\x03\x01\x00\x00", Protocol::Amqp);
        check(b"\x16\x03\x01\x02\x00", Protocol::Tls);
        for method in ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT"] {
            check(method.as_bytes(), Protocol::Http);
        }
        check(b"PRI * HTTP/2.0\r\n", Protocol::Http);
        check(b"\x00\x00\x00\x00", Protocol::Amqp);
        check(b"get / HTTP/1.1", Protocol::Amqp);
        check(b"\xff", Protocol::Amqp);
    }
}
