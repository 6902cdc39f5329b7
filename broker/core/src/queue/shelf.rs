//! Messages that are set aside: not in the order of delivery, not in memory, only counted. Scheduled
//! ones wait for their time, deferred ones to be asked for by number.

use super::Queue;
use super::timers::{Timer, TimerKind, Timers};
use crate::id::SequenceNumber;
use crate::time::Timestamp;

/// Which row a message has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Shelf {
    /// To be delivered, or locked.
    #[default]
    Active,
    /// Not due yet.
    Scheduled,
    /// Set aside until it is asked for by number.
    #[expect(dead_code, reason = "deferral is about to use it")]
    Deferred,
}

impl Queue {
    /// Takes in a message that is not due yet.
    pub(super) fn schedule(
        &mut self,
        sequence: SequenceNumber,
        due: Timestamp,
        size: u64,
        timers_max: usize,
    ) {
        assert!(self.next_sequence <= sequence, "numbers are given once");
        self.next_sequence = sequence.next();
        self.scheduled_count += 1;
        self.bytes += size;
        self.activations.add(Timer { at: due, sequence }, size, timers_max);
    }

    /// A scheduled message is due, or is not wanted any more.
    pub(super) fn unschedule(&mut self, sequence: SequenceNumber, due: Timestamp, size: u64) {
        self.scheduled_count -= 1;
        self.bytes -= size;
        self.activations.forget(Timer { at: due, sequence });
        self.watch.touch(sequence);
    }

    /// When messages are due, by what happens then.
    pub(crate) const fn timers(&mut self, kind: TimerKind) -> &mut Timers {
        match kind {
            TimerKind::Activation => &mut self.activations,
        }
    }

    /// A message that was due could not be seen to yet.
    pub(crate) fn put_back(&mut self, kind: TimerKind, timer: Timer, size: u64, count_max: usize) {
        self.timers(kind).add(timer, size, count_max);
    }
}
