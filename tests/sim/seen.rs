//! What was exercised, so that a run that checked nothing is noticed.

macro_rules! counts {
    ($($field:ident),* $(,)?) => {
        /// How often each thing happened.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Seen {
            $(pub(crate) $field: u64,)*
        }

        impl Seen {
            /// Each count with its name.
            pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }

            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counts! {
    accepted,
    delivered,
    taken,
    completed,
    abandoned,
    released,
    dead_lettered,
    dead_lettered_by_attempts,
    expired,
    renewed,
    lock_lost,
    refused_as_unavailable,
    browsed,
    drained,
    reads,
    failed_reads,
    crashes,
    failed_writes,
    unknown,
    reloads,
}
