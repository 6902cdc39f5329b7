//! What clients do, and how often.

use peeklock_core::BrokerSettings;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Send,
    SendBatch,
    Demand,
    Drain,
    Settle,
    SettleStale,
    Renew,
    Browse,
    CloseReceiver,
    OpenReceiver,
    Sync,
    Wait,
    WaitLong,
}

pub(crate) struct Workload {
    pub(crate) weights: Vec<(Action, u64)>,
    pub(crate) queues: usize,
    pub(crate) body_bytes_max: u64,
    pub(crate) settings: BrokerSettings,
    pub(crate) receivers: usize,
}

impl Workload {
    pub(crate) fn mixed() -> Self {
        use Action::{
            Browse, CloseReceiver, Demand, Drain, OpenReceiver, Renew, Send, SendBatch, Settle,
            SettleStale, Sync, Wait, WaitLong,
        };
        Self {
            weights: vec![
                (Send, 20),
                (SendBatch, 3),
                (Demand, 15),
                (Drain, 2),
                (Settle, 30),
                (SettleStale, 1),
                (Renew, 3),
                (Browse, 2),
                (CloseReceiver, 1),
                (OpenReceiver, 2),
                (Sync, 40),
                (Wait, 10),
                (WaitLong, 1),
            ],
            queues: 3,
            body_bytes_max: 200,
            settings: BrokerSettings::default(),
            receivers: 4,
        }
    }

    /// Far more sends than receives, and windows so small that most messages are on disk only.
    pub(crate) fn backlog() -> Self {
        use Action::{Browse, Demand, Drain, Renew, Send, SendBatch, Settle, Sync, Wait, WaitLong};
        let settings = BrokerSettings {
            window_count_max: 16,
            window_bytes_max: 8 * 1024,
            cache_bytes_max: 16 * 1024,
            page_rows_max: 8,
            page_bytes_max: 4 * 1024,
            ..BrokerSettings::default()
        };
        Self {
            weights: vec![
                (Send, 10),
                (SendBatch, 20),
                (Demand, 4),
                (Settle, 8),
                (Browse, 1),
                (Sync, 20),
                (Drain, 1),
                (Renew, 2),
                (Wait, 3),
                (WaitLong, 1),
            ],
            queues: 2,
            body_bytes_max: 1_000,
            settings,
            receivers: 2,
        }
    }
}
