//! Messages that are set aside: not in the order of delivery, not in memory, only counted. Scheduled
//! ones wait for their time, deferred ones to be asked for by number.
//!
//! A deferred message that was asked for and is locked stands `apart`: in memory without its body, and
//! outside of the order of delivery. So does what a receiver with a selector took out of the store, and
//! for a moment whatever else leaves it without passing through that order.

use peeklock_storage::CommitPosition;

use super::apply::in_session;
use super::charge::Memory;
use super::lock::Held;
use super::paging::PageRow;
use super::timers::{Timer, TimerKind, Timers};
use super::{Entry, Queue, Standing, Traces};
use crate::effect::MessageLock;
use crate::id::{MessageSessionId, SequenceNumber};
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
        // Its number may have been drawn a while ago.
        self.next_sequence = self.next_sequence.max(sequence.next());
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
            TimerKind::Expiry => &mut self.expiries,
            TimerKind::Activation => &mut self.activations,
        }
    }

    /// A message in memory is set aside until it is asked for by number.
    pub(super) fn defer(&mut self, sequence: SequenceNumber, size: u64) -> Traces {
        let traces = self.remove(sequence);
        self.deferred_count += 1;
        self.bytes += size;
        traces
    }

    /// Puts a message that was read by number in memory, outside of the order of delivery. It is ready
    /// until a lock says otherwise.
    pub(crate) fn set_apart(
        &mut self,
        row: PageRow,
        traces: Traces,
        session: Option<&MessageSessionId>,
    ) {
        let PageRow { sequence, size, attempts, body, .. } = row;
        let (standing, visible_after) = (Standing::Ready, CommitPosition(0));
        let sessions = self.sessions.as_ref();
        let session = session.and_then(|session| sessions?.slot(session));
        let entry = Entry { standing, attempts, traces, session, size, visible_after, body };
        self.watch.touch(sequence);
        assert!(!self.entries.contains_key(&sequence), "it is there once");
        self.insert_apart(sequence, entry);
    }

    fn insert_apart(&mut self, sequence: SequenceNumber, entry: Entry) {
        self.memory += entry.memory();
        if let Some((slot, sessions)) = in_session(entry.session, &mut self.sessions) {
            sessions.change(slot).resident += 1;
        }
        if !entry.traces.deferred {
            self.selecting.taken.insert(sequence);
        }
        let before = self.apart.insert(sequence, entry);
        assert!(before.is_none(), "it is there once");
    }

    /// A client holds a message that stands apart. Its body is read again if it is needed.
    pub(super) fn lock_apart(&mut self, sequence: SequenceNumber, lock: MessageLock) {
        let entry = self.apart.get_mut(&sequence).expect("only what stands apart is fetched");
        assert_eq!(entry.standing, Standing::Ready, "locked while not ready");
        entry.standing = Standing::Locked(lock.token);
        let session = in_session(entry.session, &mut self.sessions);
        let until = if session.is_some() { Held::NO_END } else { lock.until };
        if let Some((slot, sessions)) = session {
            sessions.change(slot).locked.insert(sequence);
        }
        self.locks.insert(lock.token, Held { sequence, until, enlisted: false });
        self.memory -= entry.body.take().map_or(Memory::default(), |body| body.memory());
    }

    /// A message that stood apart is back where it was, or has to leave because it was tried too often.
    pub(super) fn set_aside_again(
        &mut self,
        sequence: SequenceNumber,
        attempts: Option<u32>,
        is_overlaid: bool,
        position: CommitPosition,
    ) -> Traces {
        let mut entry = self.take_apart(sequence).expect("what comes back stood apart");
        let traces = entry.traces;
        if self.failed_too_often(attempts) {
            entry.attempts = attempts.unwrap_or(entry.attempts);
            entry.standing = Standing::Doomed;
            entry.traces.marked = true;
            entry.traces.overlaid |= is_overlaid;
            entry.visible_after = position;
            entry.body = None;
            self.insert_apart(sequence, entry);
            self.doomed.insert(sequence);
        } else if !traces.deferred {
            if let Some(attempts) = attempts {
                entry.attempts = attempts;
                entry.traces.marked = true;
            }
            entry.traces.overlaid |= is_overlaid;
            entry.visible_after = position;
            entry.body = None;
            self.put_back(sequence, entry);
        }
        traces
    }

    /// Takes a message that stands apart out of memory, and ends its lock.
    pub(super) fn take_apart(&mut self, sequence: SequenceNumber) -> Option<Entry> {
        let entry = self.apart.remove(&sequence)?;
        self.selecting.taken.remove(&sequence);
        self.memory -= entry.memory();
        let session = in_session(entry.session, &mut self.sessions);
        let record = session.map(|(slot, sessions)| sessions.change(slot));
        if let Some(record) = record {
            record.resident -= 1;
            if let Standing::Locked(_) = entry.standing {
                record.locked.remove(sequence);
            }
        }
        match entry.standing {
            Standing::Ready => {}
            Standing::Doomed => {
                self.doomed.remove(&sequence);
            }
            Standing::Locked(token) => self.locks.remove(token),
        }
        self.watch.touch(sequence);
        Some(entry)
    }

    /// A message that stood apart is gone for good.
    pub(super) fn remove_apart(&mut self, sequence: SequenceNumber) -> Option<Traces> {
        let entry = self.take_apart(sequence)?;
        self.bytes -= entry.size;
        if entry.traces.deferred {
            self.deferred_count -= 1;
            if let Some((slot, sessions)) = in_session(entry.session, &mut self.sessions) {
                sessions.unshelved(slot, sequence);
            }
        } else {
            self.forget_expiry(sequence, entry.traces);
            self.leave_run(sequence, entry.traces, entry.size);
            self.count -= 1;
            self.gone_from_disk(sequence, &entry);
        }
        Some(entry.traces)
    }

    /// A message that only the store had is gone.
    fn gone_from_disk(&mut self, sequence: SequenceNumber, entry: &Entry) {
        let nothing_on_disk = self.count == self.entries.len() as u64;
        let Some(sessions) = &mut self.sessions else { return self.forget_on_disk(sequence) };
        if let Some(session) = entry.body.as_ref().and_then(|body| body.message.facts().session()) {
            sessions.gone_from_disk(session, sequence);
        }
        if nothing_on_disk {
            sessions.all_in_memory();
        }
    }

    /// Whether a message stands apart: then it cannot be asked for again.
    pub(crate) fn stands_apart(&self, sequence: SequenceNumber) -> bool {
        self.apart.contains_key(&sequence)
    }

    pub(crate) fn apart_count(&self) -> usize {
        self.apart.len()
    }

    /// What stands apart, for comparing: octets of memory, doomed, locked.
    pub(super) fn count_apart(&self) -> (Memory, usize, usize) {
        let mut found = (Memory::default(), 0, 0);
        for entry in self.apart.values() {
            found.0 += entry.memory();
            found.1 += usize::from(entry.standing == Standing::Doomed);
            found.2 += usize::from(matches!(entry.standing, Standing::Locked(_)));
        }
        found
    }
}
