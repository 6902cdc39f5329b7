//! What can be wrong with bytes.

/// Why bytes are not the AMQP they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes stop before the value does.
    #[error("the bytes end inside a value")]
    UnexpectedEnd,
    /// No AMQP type has this constructor.
    #[error("0x{code:02x} is not a constructor")]
    UnknownCode {
        /// The octet found.
        code: u8,
    },
    /// A constructor, but not one that is allowed here.
    #[error("expected {wanted}, found constructor 0x{code:02x}")]
    UnexpectedCode {
        /// The type that belongs here.
        wanted: &'static str,
        /// The octet found.
        code: u8,
    },
    /// A compound whose size cannot hold its own count.
    #[error("a compound of {size} octets cannot hold its count")]
    CompoundSize {
        /// The declared size.
        size: u32,
    },
    /// The items of a compound end before its size does.
    #[error("octets are left over inside a compound or after a value")]
    TrailingBytes,
    /// Containers declare more items than one frame or message may hold.
    #[error("{count} more items are too many")]
    TooManyItems {
        /// What the last container declared.
        count: u32,
    },
    /// Containers stand too deep inside one another.
    #[error("values are nested too deep")]
    TooDeep,
    /// A map with a key that has no value.
    #[error("a map of {count} items has a key without a value")]
    OddMap {
        /// The declared count.
        count: u32,
    },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A symbol that is not ASCII.
    #[error("a symbol is not ASCII")]
    InvalidSymbol,
    /// A boolean octet other than 0 and 1.
    #[error("{octet} is not a boolean")]
    InvalidBoolean {
        /// The octet found.
        octet: u8,
    },
    /// A char that is no Unicode scalar value.
    #[error("0x{value:08x} is not a character")]
    InvalidChar {
        /// The code point found.
        value: u32,
    },
    /// A descriptor that nothing known here has.
    #[error("the descriptor of {wanted} is unknown")]
    UnknownDescriptor {
        /// What was expected.
        wanted: &'static str,
    },
    /// A known descriptor in the wrong place.
    #[error("descriptor 0x{code:02x} does not belong where {wanted} is expected")]
    UnexpectedDescriptor {
        /// What was expected.
        wanted: &'static str,
        /// The code found.
        code: u64,
    },
    /// A mandatory field is null or left out.
    #[error("the mandatory field {field} is missing")]
    MissingField {
        /// Its name in the specification.
        field: &'static str,
    },
    /// A field has a value that its type rules out.
    #[error("{field} has a value that is not allowed")]
    InvalidField {
        /// Its name, or the name of its type, in the specification.
        field: &'static str,
    },
    /// §3.2: sections out of order, or one that may occur once twice.
    #[error("the section {section} is out of place")]
    SectionOrder {
        /// The section that was found too late or twice.
        section: &'static str,
    },
    /// A batch envelope whose body is not made of data sections.
    #[error("a batch envelope must be made of data sections")]
    EnvelopeBody,
    /// A batch envelope with more messages than allowed.
    #[error("a batch envelope holds more than {limit} messages")]
    TooManyMessages {
        /// The most that are allowed.
        limit: usize,
    },
}
