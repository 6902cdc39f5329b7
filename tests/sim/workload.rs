//! What clients do, how often, and with which queues.

use peeklock_core::BrokerSettings;

use crate::model::{Filter, Kind, Paint, Rule, Rules};
use crate::world::LOCK;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Send,
    SendBatch,
    Demand,
    Drain,
    Settle,
    SettleMany,
    SettleStale,
    Renew,
    Browse,
    Describe,
    CloseReceiver,
    OpenReceiver,
    RenewSession,
    SetState,
    GetState,
    ListSessions,
    Schedule,
    Cancel,
    Fetch,
    DeleteBatch,
    Declare,
    SendWithTransaction,
    ScheduleWithTransaction,
    SettleWithTransaction,
    Discharge,
    DischargeStale,
    ChangeRule,
    ChangeSubscription,
    Sync,
    Wait,
    WaitLong,
}

/// What senders write on messages: nothing where there is a zero.
#[derive(Clone, Copy, Default)]
pub(crate) struct Words {
    /// So many sessions.
    pub(crate) sessions: u64,
    /// So many message-ids that are used again and again.
    pub(crate) ids: u64,
    pub(crate) time_to_live_once_in: u64,
    pub(crate) due_once_in: u64,
    /// So many colors, which filters ask for.
    pub(crate) colors: u64,
}

pub(crate) struct Workload {
    pub(crate) weights: Vec<(Action, u64)>,
    pub(crate) queues: Vec<Rules>,
    pub(crate) words: Words,
    pub(crate) body_bytes_max: u64,
    pub(crate) settings: BrokerSettings,
    pub(crate) receivers: usize,
    /// Whether some receivers want no lock.
    pub(crate) takes: bool,
    /// Whether clients defer.
    pub(crate) defers: bool,
}

impl Rules {
    pub(crate) const PLAIN: Rules = Rules {
        kind: Kind::Queue,
        lock_duration: LOCK.0,
        attempts_max: 3,
        requires_session: false,
        time_to_live: None,
        dead_letter_on_expiry: false,
        dead_letter_on_filter_error: false,
        duplicate_window: None,
        forward_to: None,
        forward_dead_letters_to: None,
    };
    pub(crate) const SESSIONS: Rules = Rules { requires_session: true, ..Rules::PLAIN };
    pub(crate) const TOPIC: Rules = Rules { kind: Kind::Topic, ..Rules::PLAIN };

    /// A subscription.
    const fn of(topic: usize, rules: &'static [Rule]) -> Rules {
        let kind = Kind::Subscription { topic, rules, is_fleeting: false };
        Rules { kind, dead_letter_on_filter_error: true, ..Rules::PLAIN }
    }

    /// The same, made and deleted while messages come.
    const fn fleeting(self) -> Rules {
        let Kind::Subscription { topic, rules, .. } = self.kind else { return self };
        Rules { kind: Kind::Subscription { topic, rules, is_fleeting: true }, ..self }
    }
}

impl Workload {
    fn new(weights: &[(Action, u64)], queues: &[Rules]) -> Self {
        Self {
            weights: weights.to_vec(),
            queues: queues.to_vec(),
            words: Words::default(),
            body_bytes_max: 200,
            settings: BrokerSettings::default(),
            receivers: 4,
            takes: true,
            defers: false,
        }
    }

    /// Not where messages are forwarded, scheduled or expire before they are seen.
    pub(crate) fn numbers_are_complete(&self) -> bool {
        let words = self.words;
        let is_plain = |rules: &Rules| {
            rules.kind == Kind::Queue && rules.forward_to.is_none() && rules.time_to_live.is_none()
        };
        self.queues.iter().all(is_plain)
            && (words.due_once_in, words.time_to_live_once_in) == (0, 0)
            && self
                .weights
                .iter()
                .all(|(action, _)| !matches!(action, Action::Schedule | Action::DeleteBatch))
    }

    pub(crate) fn mixed() -> Self {
        Self::new(MIXED, &[Rules::PLAIN; 3])
    }

    /// Far more sends than receives, and windows so small that most messages are on disk only.
    pub(crate) fn backlog() -> Self {
        use Action::{Browse, Demand, Drain, Renew, Send, SendBatch, Settle, Sync, Wait, WaitLong};
        let weights = &[
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
        ];
        let backlog = Self::new(weights, &[Rules::PLAIN; 2]);
        Self { receivers: 2, body_bytes_max: 1_000, ..backlog }.in_small_windows()
    }

    /// Most messages are on disk only.
    pub(crate) fn in_small_windows(mut self) -> Self {
        self.settings = BrokerSettings {
            window_count_max: 16,
            window_bytes_max: 8 * 1024,
            cache_bytes_max: 16 * 1024,
            page_rows_max: 8,
            page_bytes_max: 4 * 1024,
            ..self.settings
        };
        self
    }

    pub(crate) fn scheduling() -> Self {
        let workload = Self::new(&[MIXED, SCHEDULING].concat(), &[Rules::PLAIN; 2]);
        Self { words: Words { due_once_in: 4, ..Words::default() }, ..workload }
    }

    pub(crate) fn deletion() -> Self {
        let weights = [MIXED, &[(Action::DeleteBatch, 2), (Action::SendBatch, 5)]].concat();
        Self::new(&weights, &[Rules::PLAIN; 2])
    }

    pub(crate) fn deferral() -> Self {
        let workload = Self::new(&[MIXED, DEFERRAL].concat(), &[Rules::PLAIN; 2]);
        Self { defers: true, ..workload }
    }

    pub(crate) fn expiry() -> Self {
        let buries = Rules { dead_letter_on_expiry: true, ..Rules::PLAIN };
        let short = Rules { time_to_live: Some(4_000), ..buries };
        let workload = Self::new(MIXED, &[Rules::PLAIN, buries, short]);
        let words = Words { time_to_live_once_in: 2, ..Words::default() };
        Self { words, ..workload }
    }

    pub(crate) fn duplicates() -> Self {
        let remembers = Rules { duplicate_window: Some(20_000), ..Rules::PLAIN };
        let workload = Self::new(MIXED, &[remembers, Rules::PLAIN, remembers]);
        Self { words: Words { ids: 40, ..Words::default() }, ..workload }
    }

    pub(crate) fn sessions() -> Self {
        let workload = Self::new(&[MIXED, SESSIONS].concat(), &[Rules::SESSIONS, Rules::SESSIONS]);
        Self { words: Words { sessions: 6, ..Words::default() }, receivers: 6, ..workload }
    }

    pub(crate) fn transactions() -> Self {
        Self::new(&[MIXED, TRANSACTIONS].concat(), &[Rules::PLAIN; 3])
    }

    /// A chain that is one queue too long, and one whose dead letters go on.
    pub(crate) fn forwarding() -> Self {
        let to = |queue| Rules { forward_to: Some(queue), ..Rules::PLAIN };
        let dead_to = |queue| Rules { forward_dead_letters_to: Some(queue), ..Rules::PLAIN };
        let queues = [to(1), to(2), to(3), to(4), to(5), dead_to(6), Rules::PLAIN];
        Self { receivers: 8, ..Self::new(MIXED, &queues) }
    }

    /// A topic with filters of every kind, rules and subscriptions that come and go; one that detects
    /// duplicates and whose subscriptions forward; one that is forwarded to; and one nobody listens to.
    pub(crate) fn topics() -> Self {
        let workload =
            Self::new(&[MIXED, SCHEDULING, DEFERRAL, SESSIONS, TOPICS].concat(), TOPIC_WORLD);
        let words =
            Words { sessions: 4, ids: 40, time_to_live_once_in: 10, due_once_in: 8, colors: 4 };
        Self { words, receivers: 16, defers: true, ..workload }
    }

    /// Each feature with each other.
    pub(crate) fn everything() -> Self {
        let weights =
            [MIXED, SCHEDULING, DEFERRAL, SESSIONS, TRANSACTIONS, TOPICS, &[(Action::Browse, 6)]]
                .concat();
        let words =
            Words { sessions: 5, ids: 40, time_to_live_once_in: 5, due_once_in: 8, colors: 3 };
        Self { words, receivers: 14, defers: true, ..Self::new(&weights, EVERYTHING) }
    }
}

const MIXED: &[(Action, u64)] = &[
    (Action::Send, 20),
    (Action::SendBatch, 3),
    (Action::Demand, 15),
    (Action::Drain, 2),
    (Action::Settle, 30),
    (Action::SettleMany, 1),
    (Action::SettleStale, 1),
    (Action::Renew, 3),
    (Action::Browse, 2),
    (Action::Describe, 2),
    (Action::CloseReceiver, 1),
    (Action::OpenReceiver, 2),
    (Action::Sync, 40),
    (Action::Wait, 10),
    (Action::WaitLong, 1),
];

const SCHEDULING: &[(Action, u64)] =
    &[(Action::Schedule, 5), (Action::Cancel, 3), (Action::ScheduleWithTransaction, 1)];

const DEFERRAL: &[(Action, u64)] = &[(Action::Fetch, 5)];

const SESSIONS: &[(Action, u64)] = &[
    (Action::OpenReceiver, 6),
    (Action::CloseReceiver, 3),
    (Action::RenewSession, 5),
    (Action::SetState, 3),
    (Action::GetState, 3),
    (Action::ListSessions, 2),
];

const TRANSACTIONS: &[(Action, u64)] = &[
    (Action::Declare, 4),
    (Action::SendWithTransaction, 6),
    (Action::SettleWithTransaction, 8),
    (Action::Discharge, 4),
    (Action::DischargeStale, 1),
];

const TOPICS: &[(Action, u64)] =
    &[(Action::Send, 10), (Action::ChangeRule, 2), (Action::ChangeSubscription, 1)];

/// What messages are sent to first, as others are forwarded there; subscriptions last.
const TOPIC_WORLD: &[Rules] = &[
    Rules { forward_to: Some(4), ..Rules::PLAIN },
    Rules::TOPIC,
    Rules { duplicate_window: Some(20_000), ..Rules::TOPIC },
    Rules::TOPIC,
    Rules::TOPIC,
    Rules::PLAIN,
    Rules::of(1, &[Rule::new(0, Filter::All)]),
    Rules::of(
        1,
        &[
            Rule::new(1, Filter::Color(0)),
            Rule::new(2, Filter::Lighter(3)),
            Rule::painting(3, Filter::ColorOrHeavy(1, 4), Paint::Color(2)),
            Rule::painting(4, Filter::Colorless, Paint::Nothing),
            Rule::painting(5, Filter::Color(3), Paint::NoColor),
        ],
    ),
    Rules {
        requires_session: true,
        ..Rules::of(1, &[Rule::new(6, Filter::OtherColor(1)), Rule::new(7, Filter::Session(2))])
    },
    Rules::of(1, &[Rule::new(8, Filter::Quarter), Rule::new(9, Filter::Color(2))]),
    Rules {
        dead_letter_on_filter_error: false,
        ..Rules::of(1, &[Rule::new(10, Filter::Quarter), Rule::new(11, Filter::Lighter(2))])
    },
    Rules::of(
        1,
        &[
            Rule::new(12, Filter::Nothing),
            Rule::new(13, Filter::Colorless).fleeting(),
            Rule::new(14, Filter::Lighter(4)).fleeting(),
            Rule::painting(15, Filter::Color(1), Paint::Color(0)).fleeting(),
        ],
    ),
    Rules {
        time_to_live: Some(4_000),
        dead_letter_on_expiry: true,
        ..Rules::of(
            1,
            &[Rule::new(16, Filter::ColorAndWeight(0, 5)), Rule::new(17, Filter::Color(1))],
        )
    },
    Rules::of(1, &[Rule::new(18, Filter::All)]).fleeting(),
    Rules::of(1, &[Rule::new(19, Filter::Session(1))]).fleeting(),
    Rules { forward_to: Some(5), ..Rules::of(2, &[Rule::new(20, Filter::OtherColor(0))]) },
    Rules {
        forward_to: Some(4),
        ..Rules::of(
            2,
            &[
                Rule::new(21, Filter::Lighter(5)),
                Rule::painting(22, Filter::Color(0), Paint::Color(3)),
            ],
        )
    },
    Rules { time_to_live: Some(6_000), ..Rules::of(2, &[Rule::new(23, Filter::All)]) },
    Rules::of(4, &[Rule::new(24, Filter::All)]),
    Rules {
        forward_dead_letters_to: Some(5),
        ..Rules::of(4, &[Rule::painting(25, Filter::Color(3), Paint::Nothing)])
    },
    Rules { time_to_live: Some(5_000), ..Rules::TOPIC },
    Rules { dead_letter_on_expiry: true, ..Rules::of(20, &[Rule::new(26, Filter::All)]) },
    Rules { time_to_live: Some(8_000), ..Rules::of(20, &[Rule::new(27, Filter::OtherColor(3))]) },
];

/// Queues, topics, and subscriptions of them.
const EVERYTHING: &[Rules] = &[
    Rules { forward_to: Some(2), ..Rules::PLAIN },
    Rules { forward_to: Some(3), duplicate_window: Some(20_000), ..Rules::PLAIN },
    Rules {
        time_to_live: Some(6_000),
        dead_letter_on_expiry: true,
        forward_dead_letters_to: Some(4),
        ..Rules::SESSIONS
    },
    Rules { duplicate_window: Some(20_000), dead_letter_on_expiry: true, ..Rules::PLAIN },
    Rules::PLAIN,
    Rules { duplicate_window: Some(20_000), ..Rules::SESSIONS },
    Rules { duplicate_window: Some(20_000), ..Rules::TOPIC },
    Rules::TOPIC,
    Rules { forward_to: Some(3), ..Rules::of(6, &[Rule::new(0, Filter::Lighter(4))]) },
    Rules { forward_to: Some(7), ..Rules::of(6, &[Rule::new(1, Filter::OtherColor(0))]) },
    Rules {
        requires_session: true,
        time_to_live: Some(6_000),
        dead_letter_on_expiry: true,
        ..Rules::of(6, &[Rule::new(2, Filter::Color(1)), Rule::new(3, Filter::Quarter)])
    },
    Rules {
        forward_dead_letters_to: Some(4),
        ..Rules::of(7, &[Rule::painting(4, Filter::All, Paint::Color(0))])
    },
    Rules::of(6, &[Rule::new(5, Filter::Session(1)).fleeting()]),
    Rules::of(6, &[Rule::new(6, Filter::All)]).fleeting(),
];
