//! What a queue is told to be like. Numbers and bounds are those of Service Bus Premium.

use std::sync::Arc;

use crate::entity::access::{self, AccessRule};
use crate::entity::path::EntityPath;
use crate::error::Error;
use crate::time::Span;

/// How a queue behaves. Its subqueues follow the same settings, as far as they concern them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueSettings {
    /// How long a peek-lock lasts unless renewed.
    pub lock_duration: Span,
    /// After how many failed deliveries a message moves to the dead-letter subqueue.
    pub attempts_max: u32,
    /// Octets the queue and its dead-letter subqueue may hold together.
    pub entity_bytes_max: u64,
    /// Octets one message may have, sections and all.
    pub message_bytes_max: u64,
    /// Whether every message belongs to a message session, and receivers take sessions.
    pub requires_session: bool,
    /// How long messages are of use that do not say so themselves, and at most; `None` is for ever.
    pub default_time_to_live: Option<Span>,
    /// Whether expired messages move to the dead-letter subqueue instead of being removed.
    pub dead_letter_on_expiry: bool,
    /// Of a subscription: whether messages that its rules cannot be evaluated for move to its
    /// dead-letter subqueue instead of being passed over.
    pub dead_letter_on_filter_error: bool,
    /// For how long a message-id is remembered, so that a second message with it is dropped.
    pub duplicate_window: Option<Span>,
    /// Where messages go on to by themselves.
    pub forward_to: Option<EntityPath>,
    /// Where dead letters go on to by themselves.
    pub forward_dead_letters_to: Option<EntityPath>,
    /// After what time without use the queue is deleted.
    pub auto_delete_on_idle: Option<Span>,
    /// What it lets clients do.
    pub status: EntityStatus,
    /// What its owner wrote on it.
    pub user_metadata: Arc<str>,
    /// What clients set and read back.
    pub remarks: Remarks,
    /// Who may do what, besides those whom the configuration lets. Subscriptions have none of their own.
    pub access_rules: Vec<AccessRule>,
}

/// What clients set and read back, although nothing here depends on it: other brokers need it to get
/// the same behaviour cheaper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remarks {
    /// Spread over several stores. Set once: the order of such entities is weaker.
    pub partitioned: bool,
    /// Held in memory for a while before it is written.
    pub express: bool,
    /// Several operations of a client are written together.
    pub batched: bool,
    /// Messages are delivered in their order.
    pub ordered: bool,
    /// Of a topic: messages that no subscription wants are refused.
    pub filters_before_publishing: bool,
    /// Of a topic: its subscriptions are partitioned too.
    pub subscriptions_partitioned: bool,
    /// For how long message-ids would be remembered if they were.
    pub unused_duplicate_window: Option<Span>,
}

impl Default for Remarks {
    fn default() -> Self {
        Remarks {
            partitioned: false,
            express: false,
            batched: true,
            ordered: true,
            filters_before_publishing: false,
            subscriptions_partitioned: false,
            unused_duplicate_window: None,
        }
    }
}

/// What an entity lets clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EntityStatus {
    /// Everything.
    #[default]
    Active,
    /// Nothing.
    Disabled,
    /// Everything but sending.
    SendDisabled,
    /// Only sending.
    ReceiveDisabled,
}

impl EntityStatus {
    /// Whether messages may be sent.
    pub const fn takes_sends(self) -> bool {
        matches!(self, EntityStatus::Active | EntityStatus::ReceiveDisabled)
    }

    /// Whether messages may be received, looked at and settled.
    pub const fn gives_messages(self) -> bool {
        matches!(self, EntityStatus::Active | EntityStatus::SendDisabled)
    }
}

impl QueueSettings {
    /// Service Bus takes locks from five seconds; shorter ones are useful to tests of clients.
    pub const LOCK_DURATION_MIN: Span = Span(100);
    /// Five minutes, as in Service Bus.
    pub const LOCK_DURATION_MAX: Span = Span::from_secs(300);
    /// The largest message Service Bus Premium can be set to take.
    pub const MESSAGE_BYTES_CEILING: u64 = 100 * 1024 * 1024;
    /// Service Bus takes one second at least.
    pub const TIME_TO_LIVE_MIN: Span = Span::from_secs(1);
    /// Twenty seconds, as in Service Bus.
    pub const DUPLICATE_WINDOW_MIN: Span = Span::from_secs(20);
    /// Seven days, as in Service Bus.
    pub const DUPLICATE_WINDOW_MAX: Span = Span::from_secs(7 * 24 * 3600);
    /// Five minutes, as in Service Bus.
    pub const AUTO_DELETE_ON_IDLE_MIN: Span = Span::from_secs(300);
    /// Characters of user metadata, as in Service Bus.
    pub const USER_METADATA_LEN_MAX: usize = 1024;

    /// Says which bound is broken, if one is.
    pub fn validate(&self) -> Result<(), Error> {
        if self.lock_duration < Self::LOCK_DURATION_MIN
            || Self::LOCK_DURATION_MAX < self.lock_duration
        {
            return Err(Error::InvalidArgument("The lock duration must be 0.1 to 300 seconds."));
        }
        if self.attempts_max == 0 || i32::try_from(self.attempts_max).is_err() {
            return Err(Error::InvalidArgument("The maximum delivery count must be at least 1."));
        }
        if self.message_bytes_max == 0 || Self::MESSAGE_BYTES_CEILING < self.message_bytes_max {
            return Err(Error::InvalidArgument("The maximum message size must be 1 B to 100 MiB."));
        }
        if self.entity_bytes_max == 0 {
            return Err(Error::InvalidArgument("The maximum entity size must not be zero."));
        }
        if self.default_time_to_live.is_some_and(|span| span < Self::TIME_TO_LIVE_MIN) {
            return Err(Error::InvalidArgument("The time to live must be at least one second."));
        }
        let windows = [self.duplicate_window, self.remarks.unused_duplicate_window];
        if windows
            .into_iter()
            .flatten()
            .any(|span| span < Self::DUPLICATE_WINDOW_MIN || Self::DUPLICATE_WINDOW_MAX < span)
        {
            return Err(Error::InvalidArgument(
                "The duplicate detection window must be 20 seconds to 7 days.",
            ));
        }
        if self.auto_delete_on_idle.is_some_and(|span| span < Self::AUTO_DELETE_ON_IDLE_MIN) {
            return Err(Error::InvalidArgument("Idle deletion takes at least five minutes."));
        }
        if Self::USER_METADATA_LEN_MAX < self.user_metadata.chars().count() {
            return Err(Error::InvalidArgument(
                "The user metadata is longer than 1024 characters.",
            ));
        }
        if self.requires_session && self.forward_to.is_some() {
            return Err(Error::InvalidArgument("A queue with sessions cannot forward messages."));
        }
        access::validate(&self.access_rules)
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings {
            lock_duration: Span::from_secs(60),
            attempts_max: 10,
            entity_bytes_max: 80 * 1024 * 1024 * 1024,
            message_bytes_max: 1024 * 1024,
            requires_session: false,
            default_time_to_live: None,
            dead_letter_on_expiry: false,
            dead_letter_on_filter_error: true,
            duplicate_window: None,
            forward_to: None,
            forward_dead_letters_to: None,
            auto_delete_on_idle: None,
            status: EntityStatus::Active,
            user_metadata: "".into(),
            remarks: Remarks::default(),
            access_rules: Vec::new(),
        }
    }
}

/// How much the broker may hold in memory and in flight. The defaults suit two cores and 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerSettings {
    /// Octets of messages and their bookkeeping in memory, over all entities. Beyond it every entity
    /// still gets one page at a time. 128 MiB: the consumer of a queue that is not far behind never
    /// reads the store, and a backlog of any size stays below the memory we promise.
    pub cache_bytes_max: usize,
    /// Octets of ready messages one entity keeps in memory. An eighth of the cache, so that one
    /// entity with a backlog cannot push out all others.
    pub window_bytes_max: usize,
    /// Messages one entity keeps in memory, locked ones included: at some 200 octets of bookkeeping
    /// each, 13 MB. Receivers that lock this many get no more until they settle some.
    pub window_count_max: usize,
    /// Rows of a page. 1024 rows of 1 KiB are about 10 ms of the fastest consumer: several reads long.
    pub page_rows_max: usize,
    /// Octets of a page: what 1024 messages of 1 KiB need.
    pub page_bytes_max: usize,
    /// Queues and topics there may be: 1,000 entities are the default of Service Bus Premium.
    pub queues_max: usize,
    /// Subscriptions of one topic, as in Service Bus.
    pub subscriptions_max: usize,
    /// SQL filters of one topic, as in Service Bus. Each distinct one is run for each message.
    pub sql_filters_max: usize,
    /// Correlation filters of one topic, as in Service Bus. They are looked up, not run.
    pub correlation_filters_max: usize,
    /// Filters of one topic that let everything or nothing through: one for each subscription, and as
    /// many again for actions. Each with an action makes another copy of each message.
    pub constant_filters_max: usize,
    /// Octets of one rule: a correlation filter may ask for many properties.
    pub rule_bytes_max: usize,
    /// Receivers one entity serves: the number of concurrent receives Service Bus allows.
    pub receivers_max: usize,
    /// Lock tokens in one request: a lock on each of 4096 messages is more than any client holds.
    pub tokens_max: usize,
    /// Locks that expire in one turn, so that a turn stays short; the rest follow at once.
    pub expiries_max: usize,
    /// Due times one entity keeps in memory, of each kind, and reads at a time: what a queue that
    /// expires or activates a thousand messages a second needs for a second.
    pub timers_max: usize,
    /// Messages one browse returns, whatever was asked for.
    pub browse_count_max: u32,
    /// Octets of messages one browse returns, but for the first. It is one message to the client.
    pub browse_bytes_max: usize,
    /// Message sessions with messages that one entity keeps in mind, besides those that are held: at
    /// some 500 octets each, 8 MB. Others are looked for in the store when receivers want them.
    pub sessions_known_max: usize,
    /// Octets of bodies read for one request to settle several locks, but for the first.
    pub settle_bytes_max: u64,
    /// Octets of fingerprints of message-ids in memory, over all queues: two million at 16 octets. Ids
    /// that were taken in before are looked up in the store.
    pub fingerprint_bytes_max: usize,
    /// Octets of messages that wait until their ids are looked up, over all queues.
    pub gate_bytes_max: u64,
    /// How long a transaction may be open: two minutes, as in Service Bus.
    pub transaction_time_max: Span,
    /// Messages one transaction sends: a hundred, as in Service Bus. Locks it settles are bounded like
    /// those of one request.
    pub transaction_messages_max: usize,
    /// Octets of the messages of one transaction, unless it is one message: a hundred of 160 KiB.
    pub transaction_bytes_max: u64,
    /// Octets of the messages of all open transactions. They are held in memory until discharged, so
    /// this is what clients that never discharge can take.
    pub transactions_bytes_max: u64,
    /// Transactions open on one connection. A client has one a thread.
    pub connection_transactions_max: usize,
    /// Transactions open in all: with their bookkeeping a few megabytes.
    pub transactions_max: usize,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        BrokerSettings {
            cache_bytes_max: 128 * 1024 * 1024,
            window_bytes_max: 16 * 1024 * 1024,
            window_count_max: 65_536,
            page_rows_max: 1024,
            page_bytes_max: 1024 * 1024,
            queues_max: 1000,
            subscriptions_max: 2000,
            sql_filters_max: 2000,
            correlation_filters_max: 100_000,
            constant_filters_max: 4000,
            rule_bytes_max: 32 * 1024,
            receivers_max: 5000,
            tokens_max: 4096,
            expiries_max: 1000,
            timers_max: 1024,
            browse_count_max: 1000,
            browse_bytes_max: 4 * 1024 * 1024,
            sessions_known_max: 16_384,
            settle_bytes_max: 16 * 1024 * 1024,
            fingerprint_bytes_max: 32 * 1024 * 1024,
            gate_bytes_max: 64 * 1024 * 1024,
            transaction_time_max: Span::from_secs(120),
            transaction_messages_max: 100,
            transaction_bytes_max: 16 * 1024 * 1024,
            transactions_bytes_max: 64 * 1024 * 1024,
            connection_transactions_max: 1000,
            transactions_max: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_bounds() {
        assert_eq!(QueueSettings::default().validate(), Ok(()));
    }

    #[test]
    fn bounds_are_checked() {
        let settings = QueueSettings::default();
        let broken = [
            QueueSettings { lock_duration: Span(99), ..settings.clone() },
            QueueSettings { lock_duration: Span(300_001), ..settings.clone() },
            QueueSettings { attempts_max: 0, ..settings.clone() },
            QueueSettings { attempts_max: 1 << 31, ..settings.clone() },
            QueueSettings { message_bytes_max: 0, ..settings.clone() },
            QueueSettings { message_bytes_max: (100 << 20) + 1, ..settings.clone() },
            QueueSettings { entity_bytes_max: 0, ..settings.clone() },
            QueueSettings { default_time_to_live: Some(Span(999)), ..settings.clone() },
            QueueSettings { duplicate_window: Some(Span(19_999)), ..settings.clone() },
            QueueSettings { duplicate_window: Some(Span(604_800_001)), ..settings.clone() },
            QueueSettings {
                remarks: Remarks {
                    unused_duplicate_window: Some(Span(19_999)),
                    ..Remarks::default()
                },
                ..settings.clone()
            },
            QueueSettings { auto_delete_on_idle: Some(Span(299_999)), ..settings.clone() },
            QueueSettings { user_metadata: "m".repeat(1025).into(), ..settings.clone() },
        ];
        for settings in broken {
            assert!(matches!(settings.validate(), Err(Error::InvalidArgument(_))), "{settings:?}");
        }
    }
}
