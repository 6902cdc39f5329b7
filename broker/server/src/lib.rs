//! The broker's shell: everything that touches the world, around the pure core.

pub mod auth;
pub mod config;
