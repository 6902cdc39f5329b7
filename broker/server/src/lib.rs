//! The broker's shell: everything that touches the world, around the pure core.

pub mod amqp;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod config;
pub mod healthcheck;
pub mod telemetry;
