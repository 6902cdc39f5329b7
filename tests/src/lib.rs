//! The harness of the tests that cross a crate: the broker as a child process, and a client that
//! speaks frame by frame.
//!
//! It takes the codec of `peeklock-protocol` for performatives and nothing else of the broker, so
//! what it proves it proves from outside.

pub mod administration;
pub mod broker;
pub mod clock;
mod handshake;
pub mod http;
pub mod link;
pub mod message;
pub mod peer;
pub mod raw;
pub mod requests;
mod samples;
pub mod sas;
pub mod topics;
pub mod transactions;

pub use broker::TestBroker;
pub use peer::Peer;
