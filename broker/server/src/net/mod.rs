//! Sockets: who may connect, what they speak, and the one task a connection.

pub(crate) mod connection;
pub(crate) mod listener;
mod sniff;
mod visit;
