//! Messages that are being read by number, and whether something happened to them since.
//!
//! A read sees the rows as they were at one moment; what comes of the answer is decided at another.

use std::collections::BTreeMap;

use crate::id::{ReadId, SequenceNumber};

/// Which messages are watched by which reads. Empty but for a moment now and then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(BTreeMap<(SequenceNumber, ReadId), bool>);

impl Watch {
    /// Watches a message from now on, for a read or a chain of reads that the first one names.
    pub(crate) fn begin(&mut self, sequence: SequenceNumber, read: ReadId) {
        self.0.insert((sequence, read), false);
    }

    /// Something happens to a message.
    pub(super) fn touch(&mut self, sequence: SequenceNumber) {
        if self.0.is_empty() {
            return;
        }
        let readers = (sequence, ReadId(0))..=(sequence, ReadId(u64::MAX));
        for (_, is_touched) in self.0.range_mut(readers) {
            *is_touched = true;
        }
    }

    /// Ends watching a message. Says whether it is as it was.
    pub(crate) fn end(&mut self, sequence: SequenceNumber, read: ReadId) -> bool {
        self.0.remove(&(sequence, read)).is_some_and(|is_touched| !is_touched)
    }

    /// Whether nothing is watched.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_hears_of_what_happened_since_it_asked() {
        let mut watch = Watch::default();
        let (one, two) = (SequenceNumber(1), SequenceNumber(2));
        watch.begin(one, ReadId(7));
        watch.begin(two, ReadId(7));
        watch.touch(one);
        watch.begin(one, ReadId(8));
        assert!(!watch.end(one, ReadId(7)));
        assert!(watch.end(two, ReadId(7)));
        assert!(watch.end(one, ReadId(8)));
        assert!(!watch.end(one, ReadId(8)), "it is not watched any more");
        assert!(watch.is_empty());
    }
}
