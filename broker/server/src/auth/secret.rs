//! A key that cannot be shown by accident.

use std::fmt;
use std::sync::Arc;

use peeklock_core::entity::access::AccessKey;
use subtle::ConstantTimeEq;

/// A key. It has no `Display`, its `Debug` shows nothing, and it compares in constant time.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a key.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is the key somebody presents. How long that takes tells at most the length.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// The bytes to compute with. Only for this folder.
    pub(super) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<&AccessKey> for Secret {
    fn from(key: &AccessKey) -> Self {
        Self(Arc::clone(key.expose()))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.expose())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}
