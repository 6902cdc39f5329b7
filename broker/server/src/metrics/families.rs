//! The families that are about the process, its stores and its peers. Those of entities stand beside.

use super::family::families;

families! {
    BUILD_INFO: Gauge "peeklock_build_info" ["version"]
        "Always 1; the label says which version runs.";
    START_TIME: Gauge "peeklock_start_time_seconds" []
        "When the broker began to serve, in seconds since 1970.";
    READY: Gauge "peeklock_ready" []
        "1 if the broker takes sends, as /readyz says; else 0.";
    CERTIFICATE_EXPIRY: Gauge "peeklock_certificate_expiry_timestamp_seconds" []
        "When the TLS certificate ends that new connections get, in seconds since 1970; missing without TLS.";
    CONNECTIONS: Gauge "peeklock_connections" ["protocol"]
        "Connections there are, by what they speak: amqp, amqp_tls, websocket, websocket_tls, http, https.";
    CONNECTIONS_TOTAL: Counter "peeklock_connections_total" ["protocol"]
        "Connections there were. One that becomes a WebSocket counts as both.";
    LINKS: Gauge "peeklock_links" ["role"]
        "AMQP links there are, by what their peer does: sender, receiver, management, cbs, coordinator.";
    LINK_CREDIT: Gauge "peeklock_link_credit" ["role"]
        "Messages that may be sent on AMQP links to and from entities, by credit that was given and is not used, over all connections: sender, what the broker has allowed senders; receiver, what receivers have allowed the broker. As of the end of the last turn of each connection.";
    HTTP_REQUESTS: Counter "peeklock_http_requests_total" ["route", "status"]
        "HTTP requests by who answered (atom: administration, rest: messages, health, metrics, control, websocket) and with which status.";
    AUTHENTICATION_FAILURES: Counter "peeklock_authentication_failures_total" ["reason"]
        "Tokens, passwords and certificates that were worth nothing, or missing, by what was wrong.";
    AUTHORIZATION_DENIALS: Counter "peeklock_authorization_denials_total" ["operation"]
        "Operations that were denied to somebody whose token was good.";
    LIMIT_HITS: Counter "peeklock_limit_hits_total" ["limit"]
        "Times that a limit held somebody back, by the name of the limit.";
    LAST_BACKUP: Gauge "peeklock_last_backup_timestamp_seconds" []
        "When the newest backup that is whole was begun, in seconds since 1970; 0 if there is none.";
    BACKUPS: Counter "peeklock_backups_total" ["result"]
        "Backups by how they went: ok or failed.";
    ACCEPT_DURATION: Histogram "peeklock_accept_duration_seconds" []
        "From the arrival of a send at the core, before it waits there, to its answer, when the message is on disk. A batch counts once.";
    SETTLE_DURATION: Histogram "peeklock_settle_duration_seconds" []
        "The same for settlements.";
    DELIVERY_DURATION: Histogram "peeklock_delivery_duration_seconds" []
        "From the time at which a message was enqueued, as it says itself (in milliseconds), to its being handed to the connection of a receiver; first deliveries only. It includes the time in which nobody wanted it.";
    COMMIT_DURATION: Histogram "peeklock_commit_duration_seconds" []
        "Writing and syncing one group of batches, all stores on disk together.";
    COMMIT_GROUP_BATCHES: Histogram "peeklock_commit_group_batches" []
        "Batches that were written and synced together: each is what one turn of a core has changed.";
    COMMIT_GROUP_BYTES: Histogram "peeklock_commit_group_bytes" []
        "Octets that were written and synced together.";
    STORE_USED_BYTES: Gauge "peeklock_store_used_bytes" ["namespace"]
        "Octets that the store of a namespace takes on disk, or in memory if it is kept there.";
    STORE_FREE_BYTES: Gauge "peeklock_store_free_bytes" ["namespace"]
        "Octets left on the file system of the store; missing for one in memory, as the reserve and all that the engine says of itself.";
    STORE_SENDS_ALLOWED: Gauge "peeklock_store_sends_allowed" ["namespace"]
        "1 if the store takes new messages; 0 if the disk has less free space than its reserve, or the store failed.";
    STORE_QUEUED_BYTES: Gauge "peeklock_store_queued_bytes" ["namespace"]
        "Octets that were handed to the store and are not on disk yet.";
    STORE_FAILURES: Counter "peeklock_store_failures_total" ["namespace"]
        "Writes that failed. Each closes all connections of the namespace, and the store is opened again.";
    STORE_RESERVE_BYTES: Gauge "peeklock_store_reserve_bytes" ["namespace"]
        "Octets of the file system that must be free for sends to be allowed.";
    STORE_COMPACTION_PENDING_BYTES: Gauge "peeklock_store_compaction_pending_bytes" ["namespace"]
        "Octets that the engine should rewrite to get back into shape, by its own estimate.";
    STORE_WRITE_STALLED: Gauge "peeklock_store_write_stalled" ["namespace"]
        "1 if the engine stops writes, or slows them down, because it cannot keep up; else 0.";
    STORE_MEMTABLE_BYTES: Gauge "peeklock_store_memtable_bytes" ["namespace"]
        "Octets of rows that are in memory and the log, and not in a table file yet.";
    STORE_LOG_BYTES: Gauge "peeklock_store_log_bytes" ["namespace"]
        "Octets of the log on disk.";
    STORE_CACHE_BYTES: Gauge "peeklock_store_cache_bytes" ["namespace"]
        "Octets of table files that are kept in memory.";
    MEMORY_BYTES: Gauge "peeklock_memory_bytes" ["owner"]
        "Octets of memory by who has them: messages (with their bookkeeping, by our own reckoning), connections (what they have received or not written yet), store_memtable and store_cache of all namespaces, and the whole process (resident). The parts do not add up to the whole.";
    MEMORY_CEILING_BYTES: Gauge "peeklock_memory_ceiling_bytes" []
        "Octets of memory that the process may have. A little below it nobody may send.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "Time on a processor, of all threads.";
    PROCESS_START_TIME: Gauge "process_start_time_seconds" []
        "When the process began, in seconds since 1970.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" []
        "Octets of memory that are the process's and in RAM.";
    PROCESS_THREADS: Gauge "process_threads" []
        "Threads.";
    PROCESS_OPEN_FILES: Gauge "process_open_fds" []
        "Files and sockets that are open.";
    PROCESS_FILES_MAX: Gauge "process_max_fds" []
        "Files and sockets that may be open.";
}
