//! Sockets: who may connect, what they speak, and the one task a connection.

mod connection;
pub(crate) mod listener;
mod network;
mod sniff;
pub(crate) mod tls;
pub(crate) mod transport;
mod visit;
pub(crate) mod websocket;

pub(crate) use network::AllowedNetworks;
