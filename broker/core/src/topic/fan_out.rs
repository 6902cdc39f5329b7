//! The copies of a message that a topic's subscriptions get.

use bytes::{Bytes, BytesMut};
use peeklock_protocol::codec::DecodeError;
use peeklock_protocol::message::merge_application_properties;
use peeklock_protocol::value::{Str, Value};

use crate::entity::counters::DeadLetterReason;
use crate::filter::{PropertyChange, rewrite};
use crate::message::IncomingMessage;
use crate::queue::{DESCRIPTION_KEY, REASON_KEY};
use crate::topic::limits::COPY_PROPERTIES_BYTES_MAX;

const FILTER_REASON: &str = "FilterException";

/// Why a subscription gets a message as a dead letter at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// As it is counted.
    pub(crate) cause: DeadLetterReason,
    /// As the message says it.
    pub(crate) reason: &'static str,
    pub(crate) description: String,
}

impl Unfit {
    /// A rule could not be evaluated for the message.
    pub(crate) fn by_filter(description: String) -> Self {
        Unfit { cause: DeadLetterReason::FilterError, reason: FILTER_REASON, description }
    }

    /// An action has made a copy whose header and properties are larger than those of any message.
    fn by_size() -> Self {
        Unfit {
            cause: DeadLetterReason::HeaderSize,
            reason: "HeaderSizeExceeded",
            description: "The size quota for this stream has been exceeded.".into(),
        }
    }

    /// Whether it is dropped unless the subscription wants dead letters of failed filters.
    pub(crate) fn is_filter_error(&self) -> bool {
        self.cause == DeadLetterReason::FilterError
    }

    /// The subscription has sessions, and the message is in none.
    pub(crate) fn without_session() -> Self {
        Unfit {
            cause: DeadLetterReason::SessionIdMissing,
            reason: "Session ID is null.",
            description:
                "Session enabled entity doesn't allow a message whose session identifier is \
                          null."
                    .into(),
        }
    }

    /// The application-properties section that says so.
    pub(crate) fn section(&self, message: &IncomingMessage) -> Bytes {
        let text = |text: &str| Value::String(Str::from(text));
        let changes = [
            (Str::from(REASON_KEY), text(self.reason)),
            (Str::from(DESCRIPTION_KEY), text(&self.description)),
        ];
        let place = message.sections().application_properties();
        let own = place.and_then(|place| message.bytes().get(place));
        // A section that cannot be read does not keep the message from being moved.
        merge_application_properties(own, &changes)
            .or_else(|_| merge_application_properties(None, &changes))
            .expect("changes alone can be written")
    }
}

/// The message with what an action changes in it.
pub(crate) fn changed(
    message: &IncomingMessage,
    changes: &[PropertyChange],
) -> Result<IncomingMessage, Unfit> {
    let unreadable = |error: DecodeError| Unfit::by_filter(error.to_string());
    let bytes = rewrite(message.bytes(), message.sections(), changes).map_err(unreadable)?;
    let changed = IncomingMessage::from_wire(&bytes).map_err(unreadable)?;
    let sections = changed.sections();
    let parts = [
        sections.header(),
        sections.message_annotations(),
        sections.properties(),
        sections.application_properties(),
    ];
    let size: usize = parts.into_iter().flatten().map(|place| place.len()).sum();
    if COPY_PROPERTIES_BYTES_MAX < size { Err(Unfit::by_size()) } else { Ok(changed) }
}

/// The message with another application-properties section, which filters are to see.
pub(crate) fn with_section(message: &IncomingMessage, section: &[u8]) -> IncomingMessage {
    let (bytes, sections) = (message.bytes(), message.sections());
    let mut out = BytesMut::with_capacity(bytes.len() + section.len());
    let before = [
        sections.header(),
        sections.delivery_annotations(),
        sections.message_annotations(),
        sections.properties(),
    ];
    for place in before.into_iter().flatten() {
        out.extend_from_slice(&bytes[place]);
    }
    out.extend_from_slice(section);
    for place in [sections.body(), sections.footer()].into_iter().flatten() {
        out.extend_from_slice(&bytes[place]);
    }
    IncomingMessage::from_wire(&out).expect("sections that were read stand in their order")
}
