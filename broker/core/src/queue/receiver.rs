//! The receivers of a queue, and whose turn it is.

use std::collections::{BTreeMap, VecDeque};

use peeklock_storage::CommitPosition;

use super::selecting::GroupId;
use crate::command::ReceiveMode;
use crate::id::ReceiverId;

/// Where a receiver is kept. Used again after it was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(u32);

/// What a receiver says of what it wants. All numbers count from when it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// So many deliveries, and to hear when there is nothing more if it drains.
    Deliveries { limit: u64, drain: bool },
    /// No delivery behind the one that makes it so many octets.
    Bytes { limit: u64 },
}

/// How many messages a receiver wants.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// How many deliveries it may have been given since it was opened.
    limit: u64,
    /// How many it was given.
    given: u64,
    /// How many octets it may have been given before the next delivery.
    bytes_limit: u64,
    /// How many octets it was given.
    bytes_given: u64,
    /// Whether it wants to hear when there is nothing more.
    draining: bool,
    /// What its last delivery waits for.
    last_after: CommitPosition,
}

impl Default for Demand {
    /// Nothing is wanted; and whoever never speaks of octets may be given any number.
    fn default() -> Self {
        Self {
            limit: 0,
            given: 0,
            bytes_limit: u64::MAX,
            bytes_given: 0,
            draining: false,
            last_after: CommitPosition(0),
        }
    }
}

impl Demand {
    pub(crate) fn set(&mut self, wish: Wish) {
        match wish {
            Wish::Deliveries { limit, drain } => {
                self.limit = limit;
                self.draining = drain;
            }
            Wish::Bytes { limit } => self.bytes_limit = limit,
        }
    }

    /// Whether it may be given a message now.
    pub(crate) const fn is_open(&self) -> bool {
        !self.is_met() && self.bytes_given < self.bytes_limit
    }

    /// Whether it was given all it asked for.
    const fn is_met(&self) -> bool {
        self.limit <= self.given
    }

    pub(crate) const fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.given)
    }

    /// Counts a delivery that waits for a commit. Says which commit all so far wait for.
    pub(crate) fn given(&mut self, bytes: u64, after: CommitPosition) -> CommitPosition {
        self.given += 1;
        self.bytes_given += bytes;
        self.last_after = self.last_after.max(after);
        self.last_after
    }

    /// Ends the demand of one who drains and has been given all it asked for, or all there is. Says
    /// which commit its last delivery waits for.
    pub(crate) fn take_drained(&mut self, nothing_left: bool) -> Option<CommitPosition> {
        // Nobody knows what there is for one that octets hold back, until it is given more room.
        let has_all = nothing_left && self.bytes_given < self.bytes_limit;
        let is_done = self.draining && (has_all || self.is_met());
        if is_done {
            self.draining = false;
            self.limit = self.given;
        }
        is_done.then_some(self.last_after)
    }
}

/// One receiving link.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) id: ReceiverId,
    pub(crate) mode: ReceiveMode,
    /// With whom it shares a selector, if it has one.
    pub(crate) group: Option<GroupId>,
    demand: Demand,
    /// Whether it is in the round.
    waiting: bool,
}

/// All receivers of a queue. Those with demand stand in a round; each gets one message at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receivers {
    slots: Vec<Option<Receiver>>,
    free: Vec<u32>,
    /// Those with demand. Who has lost it leaves when the round comes to it.
    round: VecDeque<u32>,
    draining: Vec<u32>,
    /// How many have a selector.
    selecting: usize,
}

impl Receivers {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All of them.
    pub(crate) fn ids(&self) -> Vec<ReceiverId> {
        self.slots.iter().flatten().map(|receiver| receiver.id).collect()
    }

    pub(crate) fn open(
        &mut self,
        id: ReceiverId,
        mode: ReceiveMode,
        group: Option<GroupId>,
    ) -> Slot {
        let receiver = Receiver { id, mode, group, demand: Demand::default(), waiting: false };
        self.selecting += usize::from(group.is_some());
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("receivers are limited")
        });
        self.slots[index as usize] = Some(receiver);
        Slot(index)
    }

    /// Forgets a receiver, and says which group it leaves.
    pub(crate) fn close(&mut self, slot: Slot) -> Option<GroupId> {
        let receiver = self.slots[slot.0 as usize].take();
        self.free.push(slot.0);
        self.round.retain(|index| *index != slot.0);
        self.draining.retain(|index| *index != slot.0);
        let group = receiver.and_then(|receiver| receiver.group);
        self.selecting -= usize::from(group.is_some());
        group
    }

    /// Changes the demand of a receiver.
    pub(crate) fn demand(&mut self, slot: Slot, wish: Wish) {
        let receiver = self.slots[slot.0 as usize].as_mut().expect("the receiver is open");
        let was_draining = receiver.demand.draining;
        receiver.demand.set(wish);
        let drain = receiver.demand.draining;
        if receiver.demand.is_open() && !receiver.waiting {
            receiver.waiting = true;
            self.round.push_back(slot.0);
        }
        if drain && !was_draining {
            self.draining.push(slot.0);
        } else if !drain && was_draining {
            self.draining.retain(|index| *index != slot.0);
        }
    }

    /// Whether anybody may be given any message. Who wants only certain ones is not asked.
    pub(crate) fn any_waiting(&mut self) -> bool {
        if self.selecting == 0 {
            return self.next().is_some();
        }
        self.waiting().any(|receiver| receiver.group.is_none())
    }

    fn waiting(&self) -> impl Iterator<Item = &Receiver> {
        let receivers = self.round.iter().filter_map(|index| self.slots[*index as usize].as_ref());
        receivers.filter(|receiver| receiver.demand.is_open())
    }

    /// Deliveries that all of them want and have not got yet.
    pub(super) fn demand_left(&self) -> u64 {
        self.waiting().map(|receiver| receiver.demand.left()).fold(0, u64::saturating_add)
    }

    /// Whether some want only certain messages.
    pub(crate) const fn any_selecting(&self) -> bool {
        self.selecting != 0
    }

    /// Those who wait for certain messages, and how many they want.
    pub(super) fn groups_waiting(&self) -> BTreeMap<GroupId, u64> {
        let mut groups = BTreeMap::<GroupId, u64>::new();
        for receiver in self.waiting() {
            if let Some(group) = receiver.group {
                let left = groups.entry(group).or_default();
                *left = left.saturating_add(receiver.demand.left());
            }
        }
        groups
    }

    /// How many have the same selector.
    pub(super) fn count_in(&self, group: GroupId) -> usize {
        self.slots.iter().flatten().filter(|receiver| receiver.group == Some(group)).count()
    }

    pub(super) fn round_len(&self) -> usize {
        self.round.len()
    }

    /// There is nothing for the one whose turn it is.
    pub(super) fn pass_turn(&mut self) {
        if let Some(index) = self.round.pop_front() {
            self.round.push_back(index);
        }
    }

    /// Gives the turn to one of a group that waits.
    pub(super) fn turn_of(&mut self, group: GroupId) -> Option<(Slot, ReceiverId)> {
        let slots = &self.slots;
        let is_meant = |index: &u32| {
            let receiver = slots[*index as usize].as_ref();
            receiver.is_some_and(|one| one.group == Some(group) && one.demand.is_open())
        };
        let at = self.round.iter().position(is_meant)?;
        let index = self.round.remove(at)?;
        self.round.push_front(index);
        Some((Slot(index), self.slots[index as usize].as_ref()?.id))
    }

    pub(crate) fn id(&self, slot: Slot) -> ReceiverId {
        self.slots[slot.0 as usize].as_ref().expect("the receiver is open").id
    }

    pub(crate) fn mode(&self, slot: Slot) -> ReceiveMode {
        self.slots[slot.0 as usize].as_ref().expect("the receiver is open").mode
    }

    pub(super) fn any_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Whose turn it is. Those whose demand has shrunk away leave the round.
    pub(crate) fn next(&mut self) -> Option<(Slot, &Receiver)> {
        while let Some(index) = self.round.front().copied() {
            let receiver = self.slots[index as usize].as_mut().expect("the round is of open ones");
            if receiver.demand.is_open() {
                return self.slots[index as usize].as_ref().map(|receiver| (Slot(index), receiver));
            }
            receiver.waiting = false;
            self.round.pop_front();
        }
        None
    }

    /// Counts a delivery to the one whose turn it was; the turn goes to the next.
    pub(crate) fn given(&mut self, slot: Slot, bytes: u64, after: CommitPosition) {
        assert_eq!(self.round.pop_front(), Some(slot.0), "the turn was this receiver's");
        let receiver = self.slots[slot.0 as usize].as_mut().expect("the round is of open ones");
        receiver.demand.given(bytes, after);
        receiver.waiting = receiver.demand.is_open();
        if receiver.waiting {
            self.round.push_back(slot.0);
        }
    }

    /// Ends the demand of those who drain and have been given all they asked for, or all there is for
    /// their group.
    pub(super) fn take_drained(
        &mut self,
        nothing_left: impl Fn(Option<GroupId>) -> bool,
    ) -> Vec<(ReceiverId, CommitPosition)> {
        let mut drained = Vec::new();
        let slots = &mut self.slots;
        self.draining.retain(|index| {
            let receiver = slots[*index as usize].as_mut().expect("only open ones drain");
            let after = receiver.demand.take_drained(nothing_left(receiver.group));
            drained.extend(after.map(|after| (receiver.id, after)));
            after.is_none()
        });
        drained
    }

    /// Says what does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (index, receiver) in self.slots.iter().enumerate() {
            let in_round = self.round.iter().filter(|other| **other as usize == index).count();
            let drains = self.draining.iter().filter(|other| **other as usize == index).count();
            let expected = receiver.as_ref().map_or((0, 0), |receiver| {
                (usize::from(receiver.waiting), usize::from(receiver.demand.draining))
            });
            if (in_round, drains) != expected {
                return Err(format!("slot {index}: in round and draining {in_round}, {drains}"));
            }
            if let Some(receiver) = receiver
                && receiver.demand.is_open()
                && !receiver.waiting
            {
                return Err(format!("slot {index}: demand, but not in the round"));
            }
        }
        Ok(())
    }
}
