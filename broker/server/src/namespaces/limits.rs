//! Bounds on namespaces, each with its reason.

/// Service Bus allows 50, and a label of a host's name may have 63.
pub const NAME_LEN_MAX: usize = 50;

/// Namespaces that the configuration declares beside the default one. Each has a store of its own: a
/// writer's thread, open files, and write buffers.
pub const DECLARED_MAX: usize = 64;

/// Host names of one namespace: more than anybody has, and each is compared for each connection.
pub const HOSTS_MAX: usize = 16;

/// Namespaces that tests have made at a time. Each is some tasks and tables in memory, and each may be
/// asked whether a key is its own.
pub const MADE_MAX: usize = 1000;

/// Memory for messages of a namespace that a test has made, before they are read back from the store.
pub const MADE_CACHE_BYTES: usize = 4 * 1024 * 1024;

/// How long the connections of a namespace that is dropped may take to go. They are cut long before.
pub const DROP_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
