//! Where the sections of a message are.

use std::ops::Range;

use super::descriptor;
use crate::codec::{DecodeError, Reader, code, read_binary_slice, read_descriptor};
use crate::limits;

/// The places of a message's sections in its bytes. Each range starts at the section's descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    // A section has a descriptor and so is never empty: an empty range is a section left out.
    header: Range<usize>,
    delivery_annotations: Range<usize>,
    message_annotations: Range<usize>,
    properties: Range<usize>,
    application_properties: Range<usize>,
    body: Range<usize>,
    footer: Range<usize>,
    body_kind: Option<BodyKind>,
}

/// §3.2: the three kinds of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One or more data sections.
    Data,
    /// One or more amqp-sequence sections.
    Sequence,
    /// One amqp-value section.
    Value,
}

impl Sections {
    /// Finds the sections of `message`, and refuses those out of order, twice, or unknown.
    ///
    /// Sizes, counts and nesting of all sections but the body are checked; of the body only its
    /// outer size is, as nothing reads further. [`Sections::check_body`] does.
    pub fn index(message: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::from_slice(message);
        let mut found = Self::default();
        let mut last = 0;
        while !r.is_empty() {
            let start = message.len() - r.remaining();
            let descriptor = section_descriptor(&mut r)?;
            if !may_follow(last, descriptor) {
                return Err(DecodeError::SectionOrder { section: name(descriptor) });
            }
            last = descriptor;
            skip_section(&mut r, descriptor)?;
            found.note(descriptor, start..message.len() - r.remaining())?;
        }
        Ok(found)
    }

    fn note(&mut self, descriptor: u64, range: Range<usize>) -> Result<(), DecodeError> {
        let kind = match descriptor {
            descriptor::HEADER => {
                self.header = range;
                return Ok(());
            }
            descriptor::DELIVERY_ANNOTATIONS => {
                self.delivery_annotations = range;
                return Ok(());
            }
            descriptor::MESSAGE_ANNOTATIONS => {
                self.message_annotations = range;
                return Ok(());
            }
            descriptor::PROPERTIES => {
                self.properties = range;
                return Ok(());
            }
            descriptor::APPLICATION_PROPERTIES => {
                self.application_properties = range;
                return Ok(());
            }
            descriptor::FOOTER => {
                self.footer = range;
                return Ok(());
            }
            descriptor::DATA => BodyKind::Data,
            descriptor::SEQUENCE => BodyKind::Sequence,
            descriptor::VALUE => BodyKind::Value,
            code => return Err(DecodeError::UnexpectedDescriptor { wanted: WANTED, code }),
        };
        let start = if self.body.is_empty() { range.start } else { self.body.start };
        self.body = start..range.end;
        self.body_kind = Some(kind);
        Ok(())
    }

    /// The header section.
    pub fn header(&self) -> Option<Range<usize>> {
        present(&self.header)
    }

    /// The delivery-annotations section.
    pub fn delivery_annotations(&self) -> Option<Range<usize>> {
        present(&self.delivery_annotations)
    }

    /// The message-annotations section.
    pub fn message_annotations(&self) -> Option<Range<usize>> {
        present(&self.message_annotations)
    }

    /// The properties section.
    pub fn properties(&self) -> Option<Range<usize>> {
        present(&self.properties)
    }

    /// The application-properties section.
    pub fn application_properties(&self) -> Option<Range<usize>> {
        present(&self.application_properties)
    }

    /// All body sections together.
    pub fn body(&self) -> Option<Range<usize>> {
        present(&self.body)
    }

    /// What the body is made of; a message may have none.
    pub fn body_kind(&self) -> Option<BodyKind> {
        self.body_kind
    }

    /// The footer section.
    pub fn footer(&self) -> Option<Range<usize>> {
        present(&self.footer)
    }

    /// Checks sizes, counts and nesting inside the body too, for a reader that will decode it.
    pub fn check_body(&self, message: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::from_slice(message.get(self.body.clone()).unwrap_or_default());
        while !r.is_empty() {
            section_descriptor(&mut r)?;
            r.skip_value()?;
        }
        Ok(())
    }
}

const WANTED: &str = "section";

fn present(range: &Range<usize>) -> Option<Range<usize>> {
    (!range.is_empty()).then(|| range.clone())
}

#[inline]
fn section_descriptor(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match read_descriptor(r, WANTED)? {
        Some(code @ descriptor::HEADER..=descriptor::FOOTER) => Ok(code),
        Some(code) => Err(DecodeError::UnexpectedDescriptor { wanted: WANTED, code }),
        None => Err(DecodeError::UnknownDescriptor { wanted: WANTED }),
    }
}

/// §3.2: the sections ascend by descriptor. Data and sequences repeat, and no body mixes kinds.
fn may_follow(last: u64, next: u64) -> bool {
    let is_body = |code| (descriptor::DATA..=descriptor::VALUE).contains(&code);
    if is_body(last) && is_body(next) {
        last == next && next != descriptor::VALUE
    } else {
        last < next
    }
}

fn name(descriptor: u64) -> &'static str {
    match descriptor {
        descriptor::HEADER => "header",
        descriptor::DELIVERY_ANNOTATIONS => "delivery-annotations",
        descriptor::MESSAGE_ANNOTATIONS => "message-annotations",
        descriptor::PROPERTIES => "properties",
        descriptor::APPLICATION_PROPERTIES => "application-properties",
        descriptor::DATA => "data",
        descriptor::SEQUENCE => "amqp-sequence",
        descriptor::VALUE => "amqp-value",
        descriptor::FOOTER => "footer",
        _ => "unknown",
    }
}

#[inline]
fn skip_section(r: &mut Reader<'_>, descriptor: u64) -> Result<(), DecodeError> {
    let unexpected = |wanted, code| Err(DecodeError::UnexpectedCode { wanted, code });
    match (descriptor, r.peek()?) {
        (descriptor::DATA, _) => read_binary_slice(r).map(|_| ()),
        (descriptor::VALUE, _)
        | (descriptor::SEQUENCE, code::LIST_0 | code::LIST_8 | code::LIST_32) => skip_outside(r),
        (
            descriptor::HEADER | descriptor::PROPERTIES,
            code::LIST_0 | code::LIST_8 | code::LIST_32,
        ) => r.skip_value(),
        (descriptor::HEADER | descriptor::PROPERTIES | descriptor::SEQUENCE, code) => {
            unexpected("list", code)
        }
        (_, code::MAP_8 | code::MAP_32) => r.skip_value(),
        (_, code) => unexpected("map", code),
    }
}

/// Reads past a value by its outer size.
fn skip_outside(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    for _ in 0..=limits::NESTING_MAX {
        match r.u8()? {
            code::DESCRIBED => r.skip_value()?,
            code::LIST_8 | code::MAP_8 | code::ARRAY_8 => {
                let size = r.u8()?;
                return r.take(usize::from(size)).map(|_| ());
            }
            code::LIST_32 | code::MAP_32 | code::ARRAY_32 => {
                let size = r.u32()?;
                return r.take_u32(size).map(|_| ());
            }
            code => return r.skip_content(code),
        }
    }
    Err(DecodeError::TooDeep)
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    const HEADER: &[u8] = &hex!("00 53 70 45");
    const DELIVERY: &[u8] = &hex!("00 53 71 c1 01 00");
    const ANNOTATIONS: &[u8] = &hex!("00 53 72 c1 06 02 a3 01 61 52 01");
    const PROPERTIES: &[u8] = &hex!("00 53 73 c0 02 01 40");
    const APPLICATION: &[u8] = &hex!("00 53 74 c1 06 02 a1 01 61 52 01");
    const DATA: &[u8] = &hex!("00 53 75 a0 02 de ad");
    const SEQUENCE: &[u8] = &hex!("00 53 76 c0 02 01 43");
    const VALUE: &[u8] = &hex!("00 53 77 40");
    const FOOTER: &[u8] = &hex!("00 53 78 c1 01 00");

    fn index(parts: &[&[u8]]) -> Result<Sections, DecodeError> {
        Sections::index(&parts.concat())
    }

    #[test]
    fn every_section_is_found_where_it_is() {
        let parts = [HEADER, DELIVERY, ANNOTATIONS, PROPERTIES, APPLICATION, DATA, DATA, FOOTER];
        let message = parts.concat();
        let sections = Sections::index(&message).unwrap();
        let at = |range: Option<Range<usize>>| message[range.unwrap()].to_vec();
        assert_eq!(at(sections.header()), HEADER);
        assert_eq!(at(sections.delivery_annotations()), DELIVERY);
        assert_eq!(at(sections.message_annotations()), ANNOTATIONS);
        assert_eq!(at(sections.properties()), PROPERTIES);
        assert_eq!(at(sections.application_properties()), APPLICATION);
        assert_eq!(at(sections.body()), [DATA, DATA].concat());
        assert_eq!(at(sections.footer()), FOOTER);
        assert_eq!(sections.body_kind(), Some(BodyKind::Data));
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(index(&[]), Ok(Sections::default()));
        let no_body = index(&[HEADER, FOOTER]).unwrap();
        assert_eq!((no_body.body(), no_body.body_kind()), (None, None));
        assert_eq!(index(&[VALUE]).unwrap().body_kind(), Some(BodyKind::Value));
        assert_eq!(index(&[SEQUENCE, SEQUENCE]).unwrap().body(), Some(0..14));
    }

    #[test]
    fn sections_out_of_order_or_twice_are_refused() {
        let order = [HEADER, DELIVERY, ANNOTATIONS, PROPERTIES, APPLICATION, DATA, FOOTER];
        for (i, late) in order.iter().enumerate() {
            for early in &order[..i] {
                let refused = index(&[late, early]);
                assert!(matches!(refused, Err(DecodeError::SectionOrder { .. })), "{refused:?}");
                assert!(index(&[early, late]).is_ok());
            }
            let twice = index(&[late, late]);
            assert_eq!(twice.is_ok(), *late == DATA, "{twice:?}");
        }
        let after = index(&[DATA, PROPERTIES]);
        assert_eq!(after, Err(DecodeError::SectionOrder { section: "properties" }));
        assert!(index(&[VALUE, VALUE]).is_err());
        for mixed in [[DATA, SEQUENCE], [SEQUENCE, DATA], [DATA, VALUE], [VALUE, SEQUENCE]] {
            assert!(matches!(index(&mixed), Err(DecodeError::SectionOrder { .. })));
        }
    }

    #[test]
    fn sections_of_the_wrong_type_are_refused() {
        let list = |code| Err(DecodeError::UnexpectedCode { wanted: "list", code });
        assert_eq!(index(&[&hex!("00 53 70 c1 01 00")]), list(0xc1));
        assert_eq!(index(&[&hex!("00 53 73 40")]), list(0x40));
        assert_eq!(index(&[&hex!("00 53 76 a0 00")]), list(0xa0));
        let map = |code| Err(DecodeError::UnexpectedCode { wanted: "map", code });
        assert_eq!(index(&[&hex!("00 53 72 45")]), map(0x45));
        assert_eq!(index(&[&hex!("00 53 78 40")]), map(0x40));
        let binary = Err(DecodeError::UnexpectedCode { wanted: "binary", code: 0xa1 });
        assert_eq!(index(&[&hex!("00 53 75 a1 00")]), binary);
        assert_eq!(
            index(&[&hex!("00 53 10 45")]),
            Err(DecodeError::UnexpectedDescriptor { wanted: "section", code: 0x10 })
        );
        assert_eq!(
            index(&[&hex!("40")]),
            Err(DecodeError::UnexpectedCode { wanted: "section", code: 0x40 })
        );
        assert_eq!(
            index(&[&hex!("00 53 72 c1 04 01 a3 01 61")]),
            Err(DecodeError::OddMap { count: 1 })
        );
    }

    #[test]
    fn a_symbolic_descriptor_is_a_section_too() {
        let message = [&hex!("00 a3 0e")[..], b"amqp:data:binary", &hex!("a0 00")].concat();
        assert!(Sections::index(&message).is_err(), "its length is wrong");
        let message = [&hex!("00 a3 10")[..], b"amqp:data:binary", &hex!("a0 00")].concat();
        assert_eq!(Sections::index(&message).unwrap().body(), Some(0..message.len()));
    }

    #[test]
    fn a_body_is_skipped_by_size_and_checked_on_demand() {
        // A list whose only item claims to be longer than the list.
        let message = hex!("00 53 77 c0 04 01 a0 09 00 00 53 78 c1 01 00");
        let sections = Sections::index(&message).unwrap();
        assert_eq!(sections.body(), Some(0..9));
        assert_eq!(sections.check_body(&message), Err(DecodeError::UnexpectedEnd));
        let good = [VALUE].concat();
        assert_eq!(Sections::index(&good).unwrap().check_body(&good), Ok(()));
        assert_eq!(index(&[&hex!("00 53 77 c0 04 01")]), Err(DecodeError::UnexpectedEnd));
    }
}
