//! AMQP 1.0, sans-IO: bytes to types and types to bytes, and the state machines of connections,
//! AMQP sessions and links.
//!
//! It opens no socket, reads no clock and knows nothing of the broker: no entity, no lock, no
//! queue. What a peer may make it do is bounded by [`limits`].

#![warn(missing_docs)]
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]
#![cfg_attr(
    test,
    expect(clippy::indexing_slicing, reason = "a test that slices wrongly fails, and should")
)]

pub mod codec;
pub mod condition;
pub mod connection;
pub mod delivery;
pub mod delivery_state;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
mod link;
pub mod message;
mod numbers;
pub mod output;
pub mod performative;
pub mod sasl;
mod sasl_exchange;
pub mod serial;
mod session;
mod slots;
pub mod terminus;
pub mod transaction;
pub mod value;
pub mod violation;

pub use codec::DecodeError;
pub use condition::ErrorInfo;
pub use connection::Connection;
pub use delivery_state::DeliveryState;
pub use serial::SerialNumber;
pub use violation::Violation;
