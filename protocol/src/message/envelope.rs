//! Batches: one transfer whose data sections are whole messages. The envelope's own sections
//! repeat those of the first message and mean nothing more.

use bytes::{Bytes, BytesMut};

use super::{BodyKind, Sections, descriptor};
use crate::codec::{DecodeError, Reader, put_binary, put_descriptor, read_binary, read_descriptor};

/// The message-format of a transfer that carries a batch, as all Service Bus SDKs send it.
pub const MESSAGE_FORMAT: u32 = 0x8001_3700;

/// The messages in an envelope, in order, sharing its buffer; an empty envelope has none. More
/// than `limit` are refused. The messages themselves have not been looked into.
pub fn split(envelope: &Bytes, limit: usize) -> Result<Vec<Bytes>, DecodeError> {
    let sections = Sections::index(envelope)?;
    let Some(body) = sections.body() else { return Ok(Vec::new()) };
    if sections.body_kind() != Some(BodyKind::Data) {
        return Err(DecodeError::EnvelopeBody);
    }
    let body = envelope.slice(body);
    let mut r = Reader::new(&body);
    let mut messages = Vec::new();
    while !r.is_empty() {
        if messages.len() == limit {
            return Err(DecodeError::TooManyMessages { limit });
        }
        read_descriptor(&mut r, "data")?;
        messages.push(read_binary(&mut r)?);
    }
    Ok(messages)
}

/// An envelope of the sections in `head`, already encoded, and `messages`.
pub fn join(head: &[u8], messages: &[Bytes]) -> Bytes {
    let room = messages.iter().map(|message| message.len() + 8).sum::<usize>();
    let mut out = BytesMut::with_capacity(head.len() + room);
    out.extend_from_slice(head);
    for message in messages {
        put_descriptor(&mut out, descriptor::DATA);
        put_binary(&mut out, message);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn what_was_joined_is_split_in_order() {
        let messages = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![7; 300])];
        let envelope = join(&hex!("00 53 70 45"), &messages);
        assert_eq!(envelope.len(), 4 + (5 + 3) + 5 + (8 + 300));
        let split = split(&envelope, 3).unwrap();
        assert_eq!(split, messages);
        assert_eq!(split[0].as_ptr(), envelope[9..].as_ptr());
    }

    #[test]
    fn an_empty_envelope_holds_nothing() {
        assert_eq!(split(&Bytes::new(), 1), Ok(vec![]));
        assert_eq!(split(&join(&hex!("00 53 70 45"), &[]), 0), Ok(vec![]));
    }

    #[test]
    fn too_many_messages_and_other_bodies_are_refused() {
        let envelope = join(&[], &[Bytes::new(), Bytes::new()]);
        assert_eq!(split(&envelope, 1), Err(DecodeError::TooManyMessages { limit: 1 }));
        let value = Bytes::from_static(&hex!("00 53 77 a0 00"));
        assert_eq!(split(&value, 1), Err(DecodeError::EnvelopeBody));
        let late = Bytes::from_static(&hex!("00 53 75 a0 00 00 53 70 45"));
        assert_eq!(split(&late, 1), Err(DecodeError::SectionOrder { section: "header" }));
    }
}
