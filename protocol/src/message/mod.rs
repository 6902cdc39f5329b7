//! §3.2: messages. A received message stays the bytes it came as: [`Sections`] finds the sections
//! in it, [`MapSection`] reads entries of one without decoding the others, and the few sections
//! that the broker writes are put in the place of the old ones. [`Message`] is the owned form, for
//! what the broker says itself.

mod annotations;
pub mod envelope;
mod header;
mod owned;
mod properties;
mod sections;

pub use annotations::{
    Entries, Entry, MapSection, MapSectionKind, MapSectionWriter, merge,
    merge_application_properties,
};
pub use header::Header;
pub use owned::{Body, Message};
pub use properties::{MessageId, Properties};
pub use sections::{BodyKind, Sections};

use crate::codec::{Composite, CompositeSpec};

/// What the codec takes the list sections to look like.
pub(crate) const SPECS: &[CompositeSpec] = &[Header::SPEC, Properties::SPEC];

/// The descriptors of the sections.
pub(crate) mod descriptor {
    pub(crate) const HEADER: u64 = 0x70;
    pub(crate) const DELIVERY_ANNOTATIONS: u64 = 0x71;
    pub(crate) const MESSAGE_ANNOTATIONS: u64 = 0x72;
    pub(crate) const PROPERTIES: u64 = 0x73;
    pub(crate) const APPLICATION_PROPERTIES: u64 = 0x74;
    pub(crate) const DATA: u64 = 0x75;
    pub(crate) const SEQUENCE: u64 = 0x76;
    pub(crate) const VALUE: u64 = 0x77;
    pub(crate) const FOOTER: u64 = 0x78;
}
