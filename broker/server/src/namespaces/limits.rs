//! Bounds on namespaces, each with its reason.

/// Service Bus allows 50, and a label of a host's name may have 63.
pub const NAME_LEN_MAX: usize = 50;

/// Namespaces that the configuration declares beside the default one. Each has a store of its own: a
/// writer's thread, open files, and write buffers.
pub const DECLARED_MAX: usize = 64;

/// Host names of one namespace: more than anybody has, and each is compared for each connection.
pub const HOSTS_MAX: usize = 16;
