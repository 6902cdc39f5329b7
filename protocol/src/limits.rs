//! Every cap that a peer can push against, with the reason for its number.
//!
//! What an operator has to choose, such as how many links one connection may hold, is in the
//! engine's `Config` instead.

use std::time::Duration;

/// How many containers (list, map, array, described value) may stand inside one another.
///
/// Service Bus SDKs nest four deep at most (attach, filter map, described filter, its list); the
/// decoders of the public clients refuse at 32 too, so nothing that passes here can kill a client.
pub const NESTING_MAX: u8 = 32;

/// How many items all containers read from one frame, message or value may declare together.
///
/// An array of zero-width elements declares 2³²−1 of them in nine bytes, so the sum is what has to
/// be bounded, and before anything is allocated. 65,536 decoded values are below 4 MiB.
pub const ITEMS_MAX: u32 = 65_536;

/// How many messages one batch envelope may hold when the caller has no tighter number.
///
/// An empty inner message costs five bytes on the wire and a slice of 32 bytes here. A 1 MiB batch
/// of the smallest messages the SDKs produce stays below this.
pub const ENVELOPE_MESSAGES_MAX: usize = 65_536;

/// §2.3: no peer may be asked to take frames smaller than this.
pub const MIN_MAX_FRAME_SIZE: u32 = 512;

/// §2.8.14 has no upper bound for a delivery-tag but says "up to 32 octets of binary data".
pub const DELIVERY_TAG_LEN_MAX: usize = 32;

/// The largest frame before the peer's open is known, SASL frames included.
///
/// §2.4.1 and §5.3.1 allow 512 octets, but clients write more: an open with the properties that
/// Java, .NET and Python send comes near it, and the JMS client logs in with a whole JSON web token
/// as its password. This is room for both, and little for somebody who is not authenticated.
pub const EARLY_FRAME_SIZE_MAX: u32 = 8192;

/// What a client may send ahead while the caller decides about its SASL credentials. Clients that
/// pipeline send header, open, begin and a few attaches, some 2 KiB.
pub const HELD_BYTES_MAX: usize = 64 << 10;

/// The longest attach. It is kept until the caller has answered, so it is part of what one
/// connection may hold. The longest known is a JMS selector with a few hundred identifiers.
pub const ATTACH_LEN_MAX: usize = 64 << 10;

/// The shortest idle-time-out of a peer that is served, in milliseconds. Below it heartbeats are
/// load, not signs of life; clients use 5 s and more.
pub const IDLE_TIME_OUT_MILLIS_MIN: u32 = 100;

/// How long our close waits for its answer. It is one round trip; a client that takes longer is
/// gone.
pub const CLOSE_ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Unsettled deliveries sent on one AMQP session, beyond which no more are sent. Each costs some
/// 60 bytes here and may be visited by every disposition; the largest prefetch seen is 5,000.
pub const UNSETTLED_PER_SESSION_MAX: usize = 1 << 16;

/// Holes among the unsettled deliveries below which squeezing them out is not worth a thought.
pub(crate) const UNSETTLED_HOLES_MIN: usize = 64;

/// Room for unsettled deliveries that an empty session keeps.
pub(crate) const UNSETTLED_KEPT_MAX: usize = 1024;

/// A disposition this short is copied for each delivery of its range without counting: it holds
/// no more than an outcome with a short transaction id or error condition.
pub(crate) const DISPOSITION_LEN_FREE: usize = 128;

/// Octets of longer dispositions that may be copied for the deliveries of one range. A range of
/// 1,000 dead-letters with a reason of a kilobyte passes.
pub(crate) const DISPOSITION_COPIES_MAX: usize = 1 << 20;

/// Handles remembered per session after a detach with an error, to tell amqp:session:errant-link
/// from amqp:session:unattached-handle. Only what was under way meanwhile can come.
pub(crate) const ERRANT_HANDLES_KEPT: usize = 8;

/// Channels remembered per connection after the peer has ended their sessions. Only what the peer
/// wrote right after its end can come; clients hold one AMQP session a connection, or a few.
pub(crate) const ENDED_CHANNELS_KEPT: usize = 64;

/// Payloads up to this size are copied into the output instead of being referred to. Measured: up
/// to about here the copy is cheaper than one more element in the vectored write.
pub(crate) const PAYLOAD_COPIED_MAX: usize = 1024;

/// Output buffer that an idle connection keeps.
pub(crate) const OUTPUT_BUFFER_KEPT_MAX: usize = 4096;
