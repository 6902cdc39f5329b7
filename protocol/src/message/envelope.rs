//! Batches: one transfer whose data sections are whole messages.

/// The message-format of a transfer that carries a batch, as all Service Bus SDKs send it.
pub const MESSAGE_FORMAT: u32 = 0x8001_3700;
