//! What happened at one entity since the process began.

use std::ops::AddAssign;

/// Why a message became a dead letter, in the broker's own words: few, and the same for ever. What an
/// application says in its own words stands in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadLetterReason {
    /// A receiver wanted it.
    Application,
    /// It was tried as often as it may be.
    MaxDeliveryCount,
    /// It was of no use any more.
    Expired,
    /// A rule could not be evaluated for it.
    FilterError,
    /// A rule's action made its properties too large.
    HeaderSize,
    /// It is in no session, and where it was to go all messages are in one.
    SessionIdMissing,
    /// It was forwarded over too many entities.
    HopCount,
    /// The entity that it was to be forwarded to is not there.
    TargetNotFound,
    /// That entity takes no messages now.
    TargetDisabled,
    /// That entity is full.
    TargetFull,
    /// That entity takes only smaller messages.
    MessageSize,
    /// That entity does not take it, for another reason.
    TargetRefused,
}

impl DeadLetterReason {
    /// How many there are.
    const COUNT: usize = 12;

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Application,
        Self::MaxDeliveryCount,
        Self::Expired,
        Self::FilterError,
        Self::HeaderSize,
        Self::SessionIdMissing,
        Self::HopCount,
        Self::TargetNotFound,
        Self::TargetDisabled,
        Self::TargetFull,
        Self::MessageSize,
        Self::TargetRefused,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::MaxDeliveryCount => "max_delivery_count",
            Self::Expired => "expired",
            Self::FilterError => "filter_error",
            Self::HeaderSize => "header_size",
            Self::SessionIdMissing => "session_id_missing",
            Self::HopCount => "hop_count",
            Self::TargetNotFound => "target_not_found",
            Self::TargetDisabled => "target_disabled",
            Self::TargetFull => "target_full",
            Self::MessageSize => "message_size",
            Self::TargetRefused => "target_refused",
        }
    }
}

/// Plain counters of one entity. They begin at zero with the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntityCounters {
    /// Messages taken in: sent to it, forwarded to it, or given to it by its topic. Duplicates that were
    /// dropped are not among them, and what is scheduled counts when it is sent.
    pub incoming: u64,
    /// Deliveries made, each attempt counted.
    pub outgoing: u64,
    /// Messages removed because a receiver was done with them, or had wanted no lock.
    pub completed: u64,
    /// Deliveries given up by their receivers. The last one, which makes a dead letter, counts as that.
    pub abandoned: u64,
    /// Messages set aside by those who held them.
    pub deferred: u64,
    /// Messages that were of no use any more, whether they were dropped or became dead letters.
    pub expired: u64,
    /// Messages dropped because they were there before.
    pub duplicates: u64,
    /// Locks of messages that ran out, by themselves or with the lock of their session.
    pub lost_locks: u64,
    /// Messages passed on to another entity that took them.
    pub forwarded: u64,
    /// Messages moved to a dead-letter subqueue, by the numbers of the reasons.
    dead_lettered: [u64; DeadLetterReason::COUNT],
}

impl EntityCounters {
    /// Messages moved to a dead-letter subqueue for that reason.
    pub const fn dead_lettered(&self, reason: DeadLetterReason) -> u64 {
        self.dead_lettered[reason as usize]
    }

    /// The same for any reason.
    pub fn all_dead_lettered(&self) -> u64 {
        self.dead_lettered.iter().sum()
    }

    pub(crate) const fn dead_letter(&mut self, reason: DeadLetterReason) {
        self.dead_lettered[reason as usize] += 1;
    }

    /// Takes in what left a subqueue by itself: that is told of the entity it belongs to. What clients do
    /// with the messages in a subqueue is not.
    pub(crate) fn add_moves_of(&mut self, subqueue: &Self) {
        self.forwarded += subqueue.forwarded;
        for (own, other) in self.dead_lettered.iter_mut().zip(subqueue.dead_lettered) {
            *own += other;
        }
    }
}

impl AddAssign<&Self> for EntityCounters {
    fn add_assign(&mut self, other: &Self) {
        self.incoming += other.incoming;
        self.outgoing += other.outgoing;
        self.completed += other.completed;
        self.abandoned += other.abandoned;
        self.deferred += other.deferred;
        self.expired += other.expired;
        self.duplicates += other.duplicates;
        self.lost_locks += other.lost_locks;
        self.add_moves_of(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_number_and_a_name_of_its_own() {
        for (number, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
            let mut counters = EntityCounters::default();
            counters.dead_letter(reason);
            assert_eq!((counters.dead_lettered(reason), counters.all_dead_lettered()), (1, 1));
        }
        let mut names: Vec<_> = DeadLetterReason::ALL.map(DeadLetterReason::name).into();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DeadLetterReason::COUNT);
    }
}
