//! What names of rules may look like, and what actions may make of a message. How many rules a topic may have is in
//! [`BrokerSettings`](crate::BrokerSettings).

/// Characters of a rule's name: what Service Bus documents.
pub const RULE_NAME_CHARS_MAX: usize = 50;

/// Octets of the header, the annotations and the properties of a copy that an action has changed: what
/// Service Bus documents for all properties of a message.
pub const COPY_PROPERTIES_BYTES_MAX: usize = 64 * 1024;
