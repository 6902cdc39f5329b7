//! XML as far as the management API needs it: a request as a small tree, and a writer for answers.
//!
//! Nothing is ever expanded or fetched: a document type is refused, and so is every entity but the
//! five that XML itself has.

use std::fmt::Write as _;

use quick_xml::NsReader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};

use super::limits::{ATTRIBUTES_MAX, BINDINGS_MAX, DEPTH_MAX, ELEMENTS_MAX};

pub(crate) const ATOM: &str = "http://www.w3.org/2005/Atom";
pub(crate) const SERVICE_BUS: &str =
    "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";
pub(crate) const COUNTS: &str = "http://schemas.microsoft.com/netservices/2011/06/servicebus";
pub(crate) const SCHEMA_INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
pub(crate) const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";
pub(crate) const SERIALIZATION: &str = "http://schemas.microsoft.com/2003/10/Serialization/";

/// Which vocabulary an element belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Atom,
    ServiceBus,
    Other,
}

/// An element with what stands in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Element {
    pub(crate) space: Space,
    /// Without a prefix.
    pub(crate) name: String,
    /// What `type` of XML Schema says, without a prefix.
    pub(crate) kind: Option<String>,
    /// All text directly in it.
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

/// The text is not XML, or more of it than anybody needs. The texts are for the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum XmlError {
    #[error("The body of the request is not well-formed XML in UTF-8.")]
    Malformed,
    #[error("The body of the request must not have a document type or entities.")]
    DocumentType,
    #[error("The XML of the request is nested too deeply, or has too many elements.")]
    TooMuch,
}

impl Element {
    /// The first child of that name.
    pub(crate) fn child(&self, space: Space, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.space == space && child.name == name)
    }

    /// The text of a child, unless it is empty: that is as good as none.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        let text = self.child(Space::ServiceBus, name)?.text.as_str();
        (!text.trim().is_empty()).then_some(text)
    }
}

/// Reads a document, and gives its root.
pub(crate) fn parse(document: &[u8]) -> Result<Element, XmlError> {
    let text = std::str::from_utf8(document).map_err(|_| XmlError::Malformed)?;
    // Each use of a prefix looks through the bindings in force.
    if BINDINGS_MAX < text.matches("xmlns").count() {
        return Err(XmlError::TooMuch);
    }
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut count = 0;
    let mut root = None;
    loop {
        let event = reader.read_event().map_err(|_| XmlError::Malformed)?;
        let closed = match event {
            Event::Start(_) | Event::Empty(_) if root.is_some() => {
                return Err(XmlError::Malformed);
            }
            Event::Start(_) | Event::Empty(_)
                if DEPTH_MAX <= open.len() || ELEMENTS_MAX <= count =>
            {
                return Err(XmlError::TooMuch);
            }
            Event::Start(start) => {
                count += 1;
                open.push(element(&reader, &start)?);
                continue;
            }
            Event::Empty(start) => {
                count += 1;
                element(&reader, &start)?
            }
            // The reader checks that it is the one that is open.
            Event::End(_) => open.pop().ok_or(XmlError::Malformed)?,
            Event::Text(text) => {
                let text = text.xml_content().map_err(|_| XmlError::Malformed)?;
                add_text(&mut open, &text)?;
                continue;
            }
            Event::CData(text) => {
                let text = text.xml_content().map_err(|_| XmlError::Malformed)?;
                add_text(&mut open, &text)?;
                continue;
            }
            Event::GeneralRef(reference) => {
                add_text(&mut open, &resolve(&reference)?)?;
                continue;
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            Event::Eof => break,
        };
        match open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None if root.is_none() => root = Some(closed),
            None => return Err(XmlError::Malformed),
        }
    }
    root.filter(|_| open.is_empty()).ok_or(XmlError::Malformed)
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let (space, name) = reader.resolve_element(start.name());
    let space = match space {
        ResolveResult::Bound(Namespace(uri)) if uri == ATOM.as_bytes() => Space::Atom,
        ResolveResult::Bound(Namespace(uri)) if uri == SERVICE_BUS.as_bytes() => Space::ServiceBus,
        ResolveResult::Bound(_) | ResolveResult::Unbound => Space::Other,
        ResolveResult::Unknown(_) => return Err(XmlError::Malformed),
    };
    let name = std::str::from_utf8(name.into_inner()).map_err(|_| XmlError::Malformed)?;
    let mut kind = None;
    // Without the check for doubles, which takes the square of their number.
    for (index, attribute) in start.attributes().with_checks(false).enumerate() {
        if ATTRIBUTES_MAX <= index {
            return Err(XmlError::TooMuch);
        }
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        let (space, local) = reader.resolve_attribute(attribute.key);
        let is_schema_instance = matches!(
            space,
            ResolveResult::Bound(Namespace(uri)) if uri == SCHEMA_INSTANCE.as_bytes()
        );
        if is_schema_instance && local.into_inner() == b"type" {
            let value = attribute.unescape_value().map_err(|_| XmlError::Malformed)?;
            let local = value.rsplit(':').next().unwrap_or_default().trim();
            kind = Some(local.to_owned());
        }
    }
    Ok(Element { space, name: name.to_owned(), kind, text: String::new(), children: Vec::new() })
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, XmlError> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
        return Ok(character.into());
    }
    let name = reference.decode().map_err(|_| XmlError::Malformed)?;
    let text = resolve_predefined_entity(&name).ok_or(XmlError::DocumentType)?;
    Ok(text.to_owned())
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    if !text.chars().all(is_xml) {
        return Err(XmlError::Malformed);
    }
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(XmlError::Malformed),
    }
    Ok(())
}

/// Whether a character can stand in XML 1.0 at all.
const fn is_xml(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        _ => ' ' <= character,
    }
}

/// Writes elements one after the other.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// Opens an element with attributes, in their order.
    pub(crate) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let _ = write!(self.out, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.out, " {key}=\"{}\"", escaped(value));
        }
        self.out.push('>');
    }

    pub(crate) fn close(&mut self, name: &str) {
        let _ = write!(self.out, "</{name}>");
    }

    /// An element with nothing but text in it.
    pub(crate) fn leaf(&mut self, name: &str, text: &str) {
        self.leaf_with(name, &[], text);
    }

    pub(crate) fn leaf_with(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.text(text);
        self.close(name);
    }

    /// Text inside of the element that is open.
    pub(crate) fn text(&mut self, text: &str) {
        self.out.push_str(&escaped(text));
    }

    /// What another writer has written.
    pub(crate) fn raw(&mut self, written: &str) {
        self.out.push_str(written);
    }

    /// A number, or true or false.
    pub(crate) fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = write!(self.out, "<{name}>{value}</{name}>");
    }
}

/// Text that came by AMQP may have characters that XML cannot say. Parsers take a bare carriage
/// return for a line feed.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            character if is_xml(character) => out.push(character),
            _ => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_do_not_matter_and_text_is_unescaped() {
        let text = format!(
            "\u{feff}<?xml version=\"1.0\"?><!-- x --><a:entry xmlns:a=\"{ATOM}\" \
             xmlns=\"{SERVICE_BUS}\" xmlns:q=\"{SCHEMA_INSTANCE}\"><Name q:type=\"d6p1:long\">a&lt;\
             <![CDATA[<b>]]>&#x41;&amp;</Name><none xmlns=\"\"/></a:entry>"
        );
        let root = parse(text.as_bytes()).unwrap();
        assert_eq!((root.space, root.name.as_str()), (Space::Atom, "entry"));
        let name = root.child(Space::ServiceBus, "Name").unwrap();
        assert_eq!((name.text.as_str(), name.kind.as_deref()), ("a<<b>A&", Some("long")));
        assert_eq!(root.children[1].space, Space::Other);
        assert_eq!(root.text_of("Name"), Some("a<<b>A&"));
        assert_eq!(root.text_of("none"), None);
    }

    #[track_caller]
    fn check_refused(text: &str, expected: XmlError) {
        assert_eq!(parse(text.as_bytes()), Err(expected), "{text:.100}");
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "</a>",
            "<a/>x",
            "x<a/>",
            "<a b></a",
            "<p:a/>",
            "<a/><a/>",
            "<a>\u{1}</a>",
            "<a>&#1;</a>",
            "<a>&#xD800;</a>",
            "<a>&</a>",
        ] {
            check_refused(text, XmlError::Malformed);
        }
        assert_eq!(parse(b"<a>\xff</a>"), Err(XmlError::Malformed));
    }

    #[test]
    fn nothing_is_expanded() {
        let laughs = "<!DOCTYPE a [<!ENTITY b \"lol\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
        check_refused(laughs, XmlError::DocumentType);
        check_refused("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", XmlError::DocumentType);
        check_refused("<a>&c;</a>", XmlError::DocumentType);
    }

    #[test]
    fn depth_and_numbers_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        check_refused(&nested(DEPTH_MAX + 1), XmlError::TooMuch);
        check_refused(&"<a>".repeat(100_000), XmlError::TooMuch);
        let wide = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
        assert!(parse(wide(ELEMENTS_MAX).as_bytes()).is_ok());
        check_refused(&wide(ELEMENTS_MAX + 1), XmlError::TooMuch);
        let attributes = |count: usize| format!("<a{}/>", " b=\"\"".repeat(count));
        assert!(parse(attributes(ATTRIBUTES_MAX).as_bytes()).is_ok());
        check_refused(&attributes(ATTRIBUTES_MAX + 1), XmlError::TooMuch);
        check_refused(&format!("<a>{}</a>", "xmlns".repeat(BINDINGS_MAX + 1)), XmlError::TooMuch);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text = "<a> & \"b\" 'c' \r\n é";
        let mut writer = Writer::default();
        writer.open("r", &[("xmlns", SERVICE_BUS), ("x", text)]);
        writer.leaf("t", text);
        writer.leaf("bad", "\u{0}\u{ffff}");
        writer.value("n", 5);
        writer.close("r");
        let root = parse(writer.finish().as_bytes()).unwrap();
        assert_eq!(root.text_of("t"), Some(text));
        assert_eq!(root.text_of("bad"), Some("\u{fffd}\u{fffd}"));
        assert_eq!(root.text_of("n"), Some("5"));
    }
}
