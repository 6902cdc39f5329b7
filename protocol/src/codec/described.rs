//! §1.2: descriptors. The numeric form and the symbolic form name the same thing; we read both,
//! each exactly, and always write the number.

use bytes::{BufMut, BytesMut};

use super::{DecodeError, Reader, code, read_symbol_slice, read_ulong};

/// Every descriptor that this crate knows in both forms.
pub(crate) const DESCRIPTORS: &[(u64, &str)] = &[
    (0x10, "amqp:open:list"),
    (0x11, "amqp:begin:list"),
    (0x12, "amqp:attach:list"),
    (0x13, "amqp:flow:list"),
    (0x14, "amqp:transfer:list"),
    (0x15, "amqp:disposition:list"),
    (0x16, "amqp:detach:list"),
    (0x17, "amqp:end:list"),
    (0x18, "amqp:close:list"),
    (0x1d, "amqp:error:list"),
    (0x23, "amqp:received:list"),
    (0x24, "amqp:accepted:list"),
    (0x25, "amqp:rejected:list"),
    (0x26, "amqp:released:list"),
    (0x27, "amqp:modified:list"),
    (0x28, "amqp:source:list"),
    (0x29, "amqp:target:list"),
    (0x2b, "amqp:delete-on-close:list"),
    (0x2c, "amqp:delete-on-no-links:list"),
    (0x2d, "amqp:delete-on-no-messages:list"),
    (0x2e, "amqp:delete-on-no-links-or-messages:list"),
    (0x30, "amqp:coordinator:list"),
    (0x31, "amqp:declare:list"),
    (0x32, "amqp:discharge:list"),
    (0x33, "amqp:declared:list"),
    (0x34, "amqp:transactional-state:list"),
    (0x40, "amqp:sasl-mechanisms:list"),
    (0x41, "amqp:sasl-init:list"),
    (0x42, "amqp:sasl-challenge:list"),
    (0x43, "amqp:sasl-response:list"),
    (0x44, "amqp:sasl-outcome:list"),
    (0x70, "amqp:header:list"),
    (0x71, "amqp:delivery-annotations:map"),
    (0x72, "amqp:message-annotations:map"),
    (0x73, "amqp:properties:list"),
    (0x74, "amqp:application-properties:map"),
    (0x75, "amqp:data:binary"),
    (0x76, "amqp:amqp-sequence:list"),
    (0x77, "amqp:amqp-value:*"),
    (0x78, "amqp:footer:map"),
];

/// The numeric form of a symbolic descriptor.
pub(crate) fn descriptor_code(symbol: &[u8]) -> Option<u64> {
    DESCRIPTORS.iter().find(|(_, name)| name.as_bytes() == symbol).map(|(code, _)| *code)
}

/// Reads `0x00` and a descriptor. `None` is one that nothing known here has.
#[inline]
pub(crate) fn read_descriptor(
    r: &mut Reader<'_>,
    wanted: &'static str,
) -> Result<Option<u64>, DecodeError> {
    match r.u8()? {
        code::DESCRIBED => {}
        code => return Err(super::unexpected(wanted, code)),
    }
    match r.peek()? {
        code::SMALL_ULONG | code::ULONG | code::ULONG_0 => read_ulong(r).map(Some),
        code::SYMBOL_8 | code::SYMBOL_32 => read_symbol_slice(r).map(descriptor_code),
        // §1.2 reserves every other type of descriptor.
        _ => r.nested(Reader::skip_value).map(|()| None),
    }
}

/// Writes `0x00` and the descriptor, in one octet when it fits: pyamqp skips `00 53 xx` unread.
#[inline]
pub(crate) fn put_descriptor(out: &mut BytesMut, descriptor: u64) {
    if let Ok(small) = u8::try_from(descriptor) {
        out.put_slice(&[code::DESCRIBED, code::SMALL_ULONG, small]);
    } else {
        out.put_slice(&[code::DESCRIBED, code::ULONG]);
        out.put_u64(descriptor);
    }
}
