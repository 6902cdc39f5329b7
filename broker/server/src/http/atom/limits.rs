//! What one request to the management API may take, with the reason for each number.

/// Octets of a body. A queue has some 3 kilobytes; the largest rule, which may have 32 KiB, is written
/// many times as long.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Nesting of elements. The deepest is a parameter of a rule: entry, content, description, default
/// rule, filter, parameters, item, value.
pub(super) const DEPTH_MAX: usize = 16;
/// Elements: three for each property of a correlation filter, and no filter has a thousand.
pub(super) const ELEMENTS_MAX: usize = 10_000;
/// Attributes of an element: half a dozen namespaces at most.
pub(super) const ATTRIBUTES_MAX: usize = 16;
/// How often `xmlns` may stand in a body: some SDKs bind a prefix for each property.
pub(super) const BINDINGS_MAX: usize = 4000;
/// Entries of a page when nobody says how many, as in Service Bus.
pub(super) const PAGE_DEFAULT: usize = 100;
/// Entries of a page at most.
pub(super) const PAGE_MAX: usize = 1000;
