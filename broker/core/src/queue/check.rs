//! What must hold of a queue between any two facts.

use super::charge::Memory;
use super::{Queue, Standing, Zone};

impl Queue {
    /// Says what does not fit together.
    pub(crate) fn check(&self) -> Result<(), String> {
        let path = &self.definition.path;
        let mut found = (Memory::default(), 0, 0, 0);
        let mut tail_count = 0;
        let mut ready_bytes = 0;
        self.check_sessions().map_err(|problem| format!("{path}: {problem}"))?;
        self.check_runs().map_err(|problem| format!("{path}: {problem}"))?;
        self.check_browsers().map_err(|problem| format!("{path}: {problem}"))?;
        self.check_selecting().map_err(|problem| format!("{path}: {problem}"))?;
        for (sequence, entry) in &self.entries {
            found.0 += entry.memory();
            match entry.standing {
                Standing::Ready
                    if self.window.zone(*sequence, self.next_sequence) == Zone::Tail =>
                {
                    tail_count += 1;
                }
                Standing::Ready => {
                    found.1 += usize::from(entry.session.is_none());
                    ready_bytes += entry.size;
                }
                Standing::Doomed => found.2 += 1,
                Standing::Locked(token) => {
                    found.3 += 1;
                    if self.locks.held(token).map(|held| held.sequence) != Some(*sequence) {
                        return Err(format!("{path}: message {sequence} has a lock of its own"));
                    }
                }
            }
            if self.next_sequence <= *sequence {
                return Err(format!("{path}: message {sequence} is above the next number"));
            }
            if self.window.zone(*sequence, self.next_sequence) == Zone::Disk {
                return Err(format!(
                    "{path}: message {sequence} is in memory and in the disk zone"
                ));
            }
        }
        let (memory, doomed, locked) = self.count_apart();
        found.0 += memory;
        found = (found.0, found.1, found.2 + doomed, found.3 + locked);
        let expected = (self.memory, self.ready.len(), self.doomed.len(), self.locks.len());
        if found != expected {
            return Err(format!(
                "{path}: memory, ready, doomed, locked: {found:?}, not {expected:?}"
            ));
        }
        let bytes_and_tail = (self.ready_bytes, self.window.tail_count);
        if bytes_and_tail != (ready_bytes, tail_count) {
            return Err(format!("{path}: ready octets and tail {bytes_and_tail:?} are wrong"));
        }
        let resident = self.resident_active();
        let all_resident = self.window.on_disk().is_none() && self.sessions.is_none();
        if self.count < resident || (all_resident && self.count != resident) {
            return Err(format!("{path}: {} messages, {resident} in memory", self.count));
        }
        if !self.ready.iter().is_sorted() || self.ready.iter().count() != self.ready.len() {
            return Err(format!("{path}: ready messages out of order"));
        }
        self.expiries.check().map_err(|e| format!("{path}: {e}"))?;
        self.activations.check().map_err(|e| format!("{path}: {e}"))?;
        self.locks.check().and_then(|()| self.receivers.check()).map_err(|e| format!("{path}: {e}"))
    }
}
