//! What has a path in a namespace, and the rules about paths and settings.

pub mod access;
pub mod counters;
pub mod kind;
pub mod namespace;
pub mod path;
pub mod settings;
