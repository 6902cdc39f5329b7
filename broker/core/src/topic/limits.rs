//! What names of rules may look like. How many rules a topic may have is in
//! [`BrokerSettings`](crate::BrokerSettings).

/// Characters of a rule's name: what Service Bus documents.
pub const RULE_NAME_CHARS_MAX: usize = 50;
