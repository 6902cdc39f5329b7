//! Every cap that a peer's bytes can push against in the codec, with the reason for its number.
//!
//! What a connection, session or link may hold is configuration of the engine, not a constant here.

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

/// §2.3: no peer may be asked to take frames smaller than this, and before `open` none may send
/// larger ones.
pub const MIN_MAX_FRAME_SIZE: u32 = 512;

/// §2.8.14 has no upper bound for a delivery-tag but says "up to 32 octets of binary data".
pub const DELIVERY_TAG_LEN_MAX: usize = 32;
