//! What the broker counts and measures for those who watch it.
//!
//! One value for a process, made when it starts and handed down; nothing here is global. What happens
//! often is counted where it happens, in handles that were made beforehand; what merely is, is asked for
//! when somebody scrapes.

mod limits;

use std::sync::Arc;

use prometheus::Registry;

pub(crate) use limits::Limit;

use limits::LimitHits;

/// See the module.
pub(crate) struct Metrics {
    limit_hits: LimitHits,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        Ok(Arc::new(Self { limit_hits: LimitHits::new(&registry)? }))
    }

    /// Somebody came to a limit and was held back or refused.
    pub(crate) fn limit_hit(&self, limit: Limit) {
        self.limit_hits.add(limit);
    }
}
