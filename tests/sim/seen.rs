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
    // Queues as such.
    accepted,
    delivered,
    taken,
    completed,
    abandoned,
    released,
    dead_lettered,
    dead_lettered_by_attempts,
    dead_letter_deliveries,
    expired,
    renewed,
    lock_lost,
    browsed,
    described,
    counted_exactly,
    drained,
    reloads,
    // Scheduling.
    scheduled,
    activated,
    cancelled,
    not_cancelled,
    browsed_scheduled,
    // Deferral.
    deferred,
    fetched,
    not_fetched,
    browsed_deferred,
    // Expiry.
    expired_to_dead_letter,
    found_expired,
    // Batch deletion.
    batch_deleted,
    // Duplicates.
    duplicates,
    // Forwarding.
    forwarded,
    not_forwarded,
    too_many_hops,
    dead_letters_forwarded,
    // Sessions.
    sessions_opened,
    next_sessions,
    sessions_refused,
    session_waits,
    withdrawn,
    sessions_lost,
    sessions_renewed,
    session_lock_lost,
    session_deliveries,
    states_set,
    states_got,
    listed,
    listed_exactly,
    browsed_in_session,
    browsed_aside_in_session,
    // Transactions.
    declared,
    enlisted,
    committed,
    rolled_back,
    not_committed,
    transaction_unknown,
    sent_with_transactions,
    settled_with_transactions,
    // Topics.
    published,
    published_later,
    wanted_by_nobody,
    copies_delivered,
    changed_copies,
    failed_filters,
    came_or_went,
    left_with_entity,
    // What goes wrong.
    stale_refused,
    reads,
    failed_reads,
    refused_as_unavailable,
    crashes,
    failed_writes,
    taken_back,
}
