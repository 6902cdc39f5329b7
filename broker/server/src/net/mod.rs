//! Sockets: who may connect, and the one task a connection.

pub(crate) mod connection;
pub(crate) mod listener;
