//! The broker's side of one AMQP connection: translates between the words of AMQP and those of the
//! core, and nowhere else in the project are they mixed.
//!
//! | file | holds |
//! |---|---|
//! | `endpoint.rs` | the connection as a whole: turns, SASL, claims, letters |
//! | `attach.rs` | which node a link names, and whether the peer may have it |
//! | `incoming.rs` | messages from the peer to an entity |
//! | `outgoing.rs` | deliveries to the peer: demand, drain, settlement |
//! | `coordinator.rs` | transactions: declare, discharge, and what names them elsewhere |
//! | `encode.rs` | a stored message as it goes out |
//! | `request.rs` | the request links `$cbs` and `$management`, and the way of their responses |
//! | `cbs.rs`, `management/` | what such requests mean |
//! | `pressure.rs` | what a connection holds, and how it is held back |
//! | `credits.rs` | credit that is not used yet, for the metrics |
//! | `condition.rs` | the one table from what went wrong to what the peer is told |

mod attach;
pub mod cbs;
pub mod condition;
mod coordinator;
mod credits;
mod dynamic;
mod encode;
mod endpoint;
mod faults;
mod filters;
mod incoming;
pub(crate) mod jms;
mod link;
mod links;
pub mod management;
mod outgoing;
mod pressure;
pub(crate) mod relay;
mod request;
mod session;

pub(crate) use endpoint::{Endpoint, EndpointSettings};
