//! The families that are about the process, its stores and its peers. Those of entities stand beside.

use super::family::families;

families! {
    LIMIT_HITS: Counter "peeklock_limit_hits_total" ["limit"]
        "Times that a limit held somebody back, by the name of the limit.";
    BUILD_INFO: Gauge "peeklock_build_info" ["version"]
        "Always 1; the label says which version runs.";
    START_TIME: Gauge "peeklock_start_time_seconds" []
        "When the broker began to serve, in seconds since 1970.";
    READY: Gauge "peeklock_ready" []
        "1 if the broker takes sends, as /readyz says; else 0.";
    STORE_USED_BYTES: Gauge "peeklock_store_used_bytes" ["namespace"]
        "Octets that the store of a namespace takes on disk, or in memory if it is kept there.";
    STORE_FREE_BYTES: Gauge "peeklock_store_free_bytes" ["namespace"]
        "Octets left on the file system of the store.";
    STORE_SENDS_ALLOWED: Gauge "peeklock_store_sends_allowed" ["namespace"]
        "1 if the store takes new messages; 0 if the disk has less free space than its reserve, or the store failed.";
    STORE_QUEUED_BYTES: Gauge "peeklock_store_queued_bytes" ["namespace"]
        "Octets that were handed to the store and are not on disk yet.";
    STORE_COMPACTION_PENDING_BYTES: Gauge "peeklock_store_compaction_pending_bytes" ["namespace"]
        "Octets that the engine should rewrite to get back into shape, by its own estimate.";
    MEMORY_BYTES: Gauge "peeklock_memory_bytes" ["owner"]
        "Octets of memory by who has them: messages and their bookkeeping (by our own reckoning), or the whole process (resident). The parts do not add up to the whole.";
}
