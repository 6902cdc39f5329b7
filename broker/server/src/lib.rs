//! The broker's shell: everything that touches the world, around the pure core.

pub mod amqp;
mod audit;
pub mod auth;
pub mod bench;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
mod driver;
mod durability;
mod faults;
pub mod healthcheck;
mod http;
mod life;
mod mailbox;
mod metrics;
pub mod namespaces;
mod net;
pub mod pressure;
mod probe;
mod proc;
mod reload;
pub mod serve;
pub mod telemetry;
mod traces;
