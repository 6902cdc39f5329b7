//! What one request for messages may take, with the reason for each number.

use std::time::Duration;

/// How long a request waits for a message when it does not say, and at most, as in Service Bus.
pub(in crate::http) const WAIT_MAX: Duration = Duration::from_mins(1);
/// Requests that wait for a message at once: as many receivers as Service Bus lets one entity have.
pub(in crate::http) const WAITING_MAX: usize = 5000;
/// Messages of a batch: as many as `$management` schedules at once.
pub(in crate::http) const BATCH_MESSAGES_MAX: usize = 4096;
/// Application properties of a message in a batch: as many as fit in the 64 KiB that Service Bus lets a
/// message have of them, at sixteen octets each.
pub(in crate::http) const PROPERTIES_IN_MAX: usize = 4096;
/// KiB of bodies that have come and of messages that are not kept yet, of all requests: two of the
/// largest messages there may be, or 256 of the usual size.
pub(in crate::http) const BODIES_KIB_MAX: usize = 256 * 1024;
/// Octets of a body that are understood where they were read: it takes about a millisecond. What is
/// larger would hold up other connections.
pub(in crate::http) const AT_ONCE_BYTES_MAX: usize = 64 * 1024;
/// Larger bodies that are understood at once: what there is to do besides goes on at the same time.
pub(in crate::http) const READERS_MAX: usize = 4;
/// Octets of the body of a request that needs none. Some clients send an empty document.
pub(in crate::http) const UNWANTED_BYTES_MAX: usize = 16 * 1024;
/// Characters of the ids and keys of a message, as in Service Bus.
pub(in crate::http) const ID_CHARS_MAX: usize = 128;
/// Application properties of an answer. Python and Rust read a hundred headers, and an answer has some
/// of its own; what a client cannot read at all is worse than what lacks a property.
pub(in crate::http) const PROPERTIES_OUT_MAX: usize = 85;
/// Octets of them, names included: Service Bus lets a message have so much.
pub(in crate::http) const PROPERTIES_OUT_BYTES_MAX: usize = 64 * 1024;
/// Octets of one text among the `BrokerProperties` of an answer. Senders over AMQP may write more;
/// clients of HTTP do not read headers of any length.
pub(in crate::http) const TEXT_OUT_BYTES_MAX: usize = 4096;
