//! The broker's shell: everything that touches the world, around the pure core.

pub mod amqp;
pub mod auth;
pub mod config;
