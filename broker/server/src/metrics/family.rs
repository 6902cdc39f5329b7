//! What a family of metrics is: a name, what it means, and which labels its samples have.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// How the samples of a family behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Only rises, from zero when the process began.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// As the text format has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The names of its labels, in the order in which their values are given.
    pub(crate) labels: &'static [&'static str],
    /// A sentence; `docs/METRICS.md` shows it as well.
    pub(crate) help: &'static str,
}

impl Family {
    /// Counters by the values of the labels, kept in a registry.
    pub(super) fn counters(&self, registry: &Registry) -> IntCounterVec {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        self.kept(registry, IntCounterVec::new(Opts::new(self.name, self.help), self.labels))
    }

    /// The same for what rises and falls.
    pub(super) fn gauges(&self, registry: &Registry) -> IntGaugeVec {
        debug_assert_eq!(self.kind, Kind::Gauge, "{}", self.name);
        self.kept(registry, IntGaugeVec::new(Opts::new(self.name, self.help), self.labels))
    }

    /// Fails only by a mistake in the list of families, which every start shows.
    fn kept<C: Collector + Clone + 'static>(
        &self,
        registry: &Registry,
        made: prometheus::Result<C>,
    ) -> C {
        let registered = made.and_then(|made| {
            registry.register(Box::new(made.clone()))?;
            Ok(made)
        });
        registered.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Declares families, each as a static, and `ALL` with all of them in their order.
macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub(crate) static $id: $crate::metrics::Family = $crate::metrics::Family {
                name: $name,
                kind: $crate::metrics::Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// All of them, in their order.
        #[cfg(test)]
        pub(crate) static ALL: &[&$crate::metrics::Family] = &[$(&$id),+];
    };
}

pub(crate) use families;
