//! Every way a peer can break the rules, each with the condition the specification names for it.

use crate::codec::DecodeError;
use crate::condition::{self, ErrorInfo};
use crate::frame::FrameError;
use crate::value::Symbol;

/// What the peer did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame whose head cannot be right.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame whose body cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Violation {
    /// The error condition to tell the peer.
    pub fn condition(&self) -> &'static str {
        match self {
            Self::Frame(_) => condition::CONNECTION_FRAMING_ERROR,
            Self::Decode(error) => error.condition(),
        }
    }

    /// The error to tell the peer.
    pub fn to_error(&self) -> ErrorInfo {
        ErrorInfo {
            condition: Symbol::from_static(self.condition()),
            description: Some(self.to_string().into()),
            info: None,
        }
    }
}

impl DecodeError {
    /// The error condition to tell the peer.
    pub fn condition(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => condition::INVALID_FIELD,
            Self::TooManyMessages { .. } => condition::RESOURCE_LIMIT_EXCEEDED,
            // §2.8.15 decode-error: "Data could not be decoded." The rest is that, limits on what
            // may be declared included.
            Self::UnexpectedEnd
            | Self::UnknownCode { .. }
            | Self::UnexpectedCode { .. }
            | Self::CompoundSize { .. }
            | Self::TrailingBytes
            | Self::TooManyItems { .. }
            | Self::TooDeep
            | Self::OddMap { .. }
            | Self::InvalidUtf8
            | Self::InvalidSymbol
            | Self::InvalidBoolean { .. }
            | Self::InvalidChar { .. }
            | Self::UnknownDescriptor { .. }
            | Self::UnexpectedDescriptor { .. }
            | Self::MissingField { .. }
            | Self::SectionOrder { .. }
            | Self::EnvelopeBody => condition::DECODE_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conditions_of_section_2_8() {
        let framing = Violation::from(FrameError::TooSmall { size: 1 });
        assert_eq!(framing.to_error().condition, *"amqp:connection:framing-error");
        let missing = Violation::from(DecodeError::MissingField { field: "handle" });
        assert_eq!(missing.to_error().condition, *"amqp:decode-error");
        let text = missing.to_error().description.unwrap();
        assert_eq!(text, *"the mandatory field handle is missing");
        let range = Violation::from(DecodeError::InvalidField { field: "role" });
        assert_eq!(range.condition(), "amqp:invalid-field");
    }
}
