//! §3.2.4 properties.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};

use crate::codec::{
    Composite, DecodeError, Reader, Wire, code, composite, put_binary, put_string, put_ulong,
    read_binary, read_descriptor, read_string, read_string_slice, read_ulong, unexpected,
};
use crate::serial::SerialNumber;
use crate::value::{Str, Symbol, Timestamp, Value};

composite! {
    /// What the sender says about the message.
    #[derive(Default)]
    pub struct Properties = "amqp:properties:list" 0x73 trimmed {
        /// Names the message.
        pub message_id: Option<MessageId> = "message-id",
        /// Who sent it.
        pub user_id: Option<Bytes> = "user-id",
        /// The node it is for.
        pub to: Option<Str> = "to",
        /// What it is about.
        pub subject: Option<Str> = "subject",
        /// The node for answers.
        pub reply_to: Option<Str> = "reply-to",
        /// What it answers.
        pub correlation_id: Option<MessageId> = "correlation-id",
        /// The MIME type of the body.
        pub content_type: Option<Symbol> = "content-type",
        /// How the body is packed.
        pub content_encoding: Option<Symbol> = "content-encoding",
        /// When it is of no use any more.
        pub absolute_expiry_time: Option<Timestamp> = "absolute-expiry-time",
        /// When it was made.
        pub creation_time: Option<Timestamp> = "creation-time",
        /// The group it is part of: a Service Bus message session.
        pub group_id: Option<Str> = "group-id",
        /// Its place in that group.
        pub group_sequence: Option<SerialNumber> = "group-sequence",
        /// The group for answers.
        pub reply_to_group_id: Option<Str> = "reply-to-group-id",
    }
}

impl Properties {
    /// Reads a properties section, its descriptor included; text shares its buffer.
    pub fn decode(section: &Bytes) -> Result<Self, DecodeError> {
        Self::read_section(Reader::new(section))
    }

    /// Reads a properties section, its descriptor included; text is copied.
    pub fn decode_slice(section: &[u8]) -> Result<Self, DecodeError> {
        Self::read_section(Reader::from_slice(section))
    }

    fn read_section(mut r: Reader<'_>) -> Result<Self, DecodeError> {
        let properties = Self::read_described(&mut r)?;
        r.expect_end()?;
        Ok(properties)
    }

    /// The group-id of a properties section, its descriptor included, with the other fields skipped:
    /// for those who want nothing else of most messages.
    pub fn group_id_in(section: &[u8]) -> Result<Option<&str>, DecodeError> {
        let Some(mut r) = field(section, GROUP_ID)? else { return Ok(None) };
        let octets = read_string_slice(&mut r)?;
        std::str::from_utf8(octets).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// Appends a properties section.
    pub fn encode(&self, out: &mut BytesMut) {
        self.write_described(out);
    }
}

/// Where the group-id is in the list of properties.
const GROUP_ID: u32 = 10;

/// A reader at one field of a properties section, unless the field is null or missing.
fn field(section: &[u8], index: u32) -> Result<Option<Reader<'_>>, DecodeError> {
    let mut r = Reader::from_slice(section);
    read_descriptor(&mut r, "amqp:properties:list")?;
    let head = r.list_head()?;
    if head.count <= index {
        return Ok(None);
    }
    for _ in 0..index {
        r.skip_value()?;
    }
    Ok(if r.take_null() { None } else { Some(r) })
}

/// §3.2.11–14: a message-id or correlation-id in the type its sender chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MessageId {
    /// A number.
    Ulong(u64),
    /// A UUID in RFC 4122 octet order.
    Uuid([u8; 16]),
    /// Octets.
    Binary(Bytes),
    /// Text.
    String(Str),
}

impl MessageId {
    /// The id as text: what duplicates are found by, whatever type their senders chose.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Ulong(number) => Cow::Owned(number.to_string()),
            Self::Uuid(octets) => Cow::Owned(uuid_text(octets)),
            Self::Binary(octets) => Cow::Owned(hex_text(octets)),
            Self::String(text) => Cow::Borrowed(text),
        }
    }
}

fn hex_text(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        write!(text, "{octet:02x}").expect("a string takes whatever is written");
        text
    })
}

fn uuid_text(octets: &[u8; 16]) -> String {
    let mut text = hex_text(octets);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

impl From<&str> for MessageId {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<MessageId> for Value {
    fn from(id: MessageId) -> Self {
        match id {
            MessageId::Ulong(number) => Self::Ulong(number),
            MessageId::Uuid(octets) => Self::Uuid(octets),
            MessageId::Binary(octets) => Self::Binary(octets),
            MessageId::String(text) => Self::String(text),
        }
    }
}

impl Wire for MessageId {
    const TYPE: &'static str = "*";

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.peek()? {
            code::STRING_8 | code::STRING_32 => read_string(r).map(Self::String),
            code::SMALL_ULONG | code::ULONG | code::ULONG_0 => read_ulong(r).map(Self::Ulong),
            code::BINARY_8 | code::BINARY_32 => read_binary(r).map(Self::Binary),
            code::UUID => {
                r.u8()?;
                r.array().map(Self::Uuid)
            }
            code => Err(unexpected("message-id", code)),
        }
    }

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Ulong(number) => put_ulong(out, *number),
            Self::Uuid(octets) => Value::Uuid(*octets).encode(out),
            Self::Binary(octets) => put_binary(out, octets),
            Self::String(text) => put_string(out, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn all_thirteen_fields_both_ways() {
        let properties = Properties {
            message_id: Some("m".into()),
            user_id: Some(Bytes::from_static(b"u")),
            to: Some("t".into()),
            subject: Some("s".into()),
            reply_to: Some("r".into()),
            correlation_id: Some(MessageId::Ulong(300)),
            content_type: Some("c".into()),
            content_encoding: Some("e".into()),
            absolute_expiry_time: Some(Timestamp(2)),
            creation_time: Some(Timestamp(-1)),
            group_id: Some("g".into()),
            group_sequence: Some(SerialNumber(u32::MAX)),
            reply_to_group_id: Some("h".into()),
        };
        let section = hex!(
            "00 53 73 c0 3c 0d a1 01 6d a0 01 75 a1 01 74 a1 01 73 a1 01 72
             80 00 00 00 00 00 00 01 2c a3 01 63 a3 01 65
             83 00 00 00 00 00 00 00 02 83 ff ff ff ff ff ff ff ff a1 01 67 70 ff ff ff ff a1 01 68"
        );
        let mut out = BytesMut::new();
        properties.encode(&mut out);
        assert_eq!(out[..], section, "wrote {out:02x?}");
        assert_eq!(Properties::decode_slice(&section), Ok(properties));
        assert_eq!(Properties::group_id_in(&section), Ok(Some("g")));
    }

    #[test]
    fn the_group_id_is_found_without_the_others() {
        for (section, group_id) in [
            (&hex!("00 53 73 45")[..], Ok(None)),
            (&hex!("00 53 73 c0 04 03 40 40 40"), Ok(None)),
            (&hex!("00 53 73 c0 0c 0b 40 40 40 40 40 40 40 40 40 40 40"), Ok(None)),
            (&hex!("00 53 73 c0 0e 0b 40 40 40 40 40 40 40 40 40 40 a1 01 67"), Ok(Some("g"))),
            (
                &hex!("00 53 73 c0 0e 0b 40 40 40 40 40 40 40 40 40 40 a1 01 ff"),
                Err(DecodeError::InvalidUtf8),
            ),
            (&hex!("00 53 73 c0 0e 0b 40 40 40 40"), Err(DecodeError::UnexpectedEnd)),
        ] {
            assert_eq!(Properties::group_id_in(section), group_id, "{section:02x?}");
        }
    }

    #[test]
    fn ids_keep_their_type_and_have_a_text() {
        for (id, text) in [
            (MessageId::Ulong(7), "7"),
            (
                MessageId::Uuid(hex!("00112233445566778899aabbccddeeff")),
                "00112233-4455-6677-8899-aabbccddeeff",
            ),
            (MessageId::Binary(Bytes::from_static(&[0xab, 1])), "ab01"),
            (MessageId::String("ü".into()), "ü"),
        ] {
            assert_eq!(id.text(), text);
            let properties = Properties { message_id: Some(id), ..Properties::default() };
            let mut out = BytesMut::new();
            properties.encode(&mut out);
            assert_eq!(Properties::decode(&out.freeze()), Ok(properties));
        }
        assert_eq!(
            Properties::decode_slice(&hex!("00 53 73 c0 03 01 54 01")),
            Err(DecodeError::UnexpectedCode { wanted: "message-id", code: 0x54 })
        );
    }
}
