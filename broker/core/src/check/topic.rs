//! Messages that topics keep for their subscriptions: each is held by somebody, and whatever somebody
//! holds is there.

use std::collections::{BTreeMap, BTreeSet};

use peeklock_storage::{Batch, Op, StoreError, Table};

use super::{Check, PAGE_BYTES, PAGE_ROWS, Problem, Severity, Walked};
use crate::id::{EntityId, SequenceNumber};
use crate::message::StoredMessage;
use crate::queue::runs::{RUN_LEN_MAX, Run};
use crate::rows;

/// Some messages of a topic that follow one another, up to where the next begin.
struct Stretch {
    start: SequenceNumber,
    end: SequenceNumber,
    sizes: BTreeMap<SequenceNumber, u64>,
    held: BTreeSet<SequenceNumber>,
}

impl Check<'_> {
    pub(super) fn topic(&mut self, topic: EntityId) -> Result<(), StoreError> {
        let subscriptions: Vec<EntityId> = self
            .entities
            .iter()
            .filter(|(_, known)| known.topic() == Some(topic))
            .map(|(entity, _)| *entity)
            .collect();
        let all = rows::message_key(topic, SequenceNumber(0))
            ..rows::message_key(topic, SequenceNumber(u64::MAX));
        let mut range = all.clone();
        let mut start = SequenceNumber(0);
        loop {
            let page = match self.store.scan(Table::Message, &range, PAGE_ROWS, PAGE_BYTES) {
                Ok(page) => page,
                Err(error @ StoreError::Corrupt { .. }) => {
                    let what = format!("{error}; nothing behind it is looked at");
                    let problem = Problem::UnreadableTable;
                    self.find(Severity::Damaged, problem, Some(topic), what, vec![]);
                    for entity in subscriptions.iter().chain([&topic]) {
                        self.known_mut(*entity).is_partial = true;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let mut stretch = Stretch {
                start,
                end: SequenceNumber(u64::MAX),
                sizes: BTreeMap::new(),
                held: BTreeSet::new(),
            };
            for (key, row) in &page {
                self.totals.rows += 1;
                let Some(sequence) = super::number_of(key) else { continue };
                let size = StoredMessage::size_of_row(row);
                if let Err(what) = StoredMessage::from_row(row.clone()) {
                    let row = (Table::Message, key, row);
                    self.find_unreadable(Severity::Damaged, topic, row, what);
                }
                stretch.sizes.insert(sequence, size);
                self.totals.messages += 1;
                self.totals.bytes += size;
                let found = &mut self.known_mut(topic).found;
                found.bytes += size;
                found.number(sequence);
            }
            if let Some((last, _)) = page.last() {
                range.start = last.successor();
                let last = stretch.sizes.last_key_value().map(|(sequence, _)| *sequence);
                stretch.end = last.map_or(start, SequenceNumber::next);
            }
            for subscription in &subscriptions {
                self.holders(*subscription, &mut stretch)?;
            }
            self.unheld(topic, &stretch);
            if page.is_empty() {
                return Ok(());
            }
            start = stretch.end;
        }
    }

    /// What a subscription holds of a stretch.
    fn holders(&mut self, subscription: EntityId, stretch: &mut Stretch) -> Result<(), StoreError> {
        let first = SequenceNumber(stretch.start.0.saturating_sub(RUN_LEN_MAX - 1));
        let range = rows::run_key(subscription, first)..rows::run_key(subscription, stretch.end);
        let walked = self.walk(Table::State, range, Some(subscription), |check, key, row| {
            // Others are told of with the rows of the subscription.
            let (Some(first), Some(run)) = (super::number_of(key), rows::read_run(row)) else {
                return Ok(());
            };
            let mut missing = Vec::new();
            for sequence in run.numbers(first) {
                if sequence < stretch.start || stretch.end <= sequence {
                    continue;
                }
                let found = &mut check.known_mut(subscription).found;
                match stretch.sizes.get(&sequence) {
                    Some(size) => {
                        found.active(sequence, *size);
                        found.shared_bytes += size;
                        stretch.held.insert(sequence);
                    }
                    None => missing.push(sequence),
                }
            }
            if !missing.is_empty() {
                let what = format!("the topic does not have {} of its messages", missing.len());
                let fix = without(subscription, first, &run, &missing);
                let problem = Problem::MissingBody;
                check.find(Severity::Damaged, problem, Some(subscription), what, fix);
            }
            Ok(())
        })?;
        self.known_mut(subscription).is_partial |= walked == Walked::Partly;
        Ok(())
    }

    fn unheld(&mut self, topic: EntityId, stretch: &Stretch) {
        for sequence in stretch.sizes.keys().filter(|sequence| !stretch.held.contains(sequence)) {
            let is_stale = self.known(topic).stale.iter().any(|range| range.contains(sequence));
            if !is_stale {
                let what = format!("nobody holds message {sequence}");
                let key = rows::message_key(topic, *sequence);
                let fix = vec![Op::Remove { table: Table::Message, key }];
                let problem = Problem::UnheldBody;
                self.find(Severity::Repairable, problem, Some(topic), what, fix);
            }
        }
    }
}

/// The run of a subscription without some of its messages.
fn without(
    subscription: EntityId,
    first: SequenceNumber,
    run: &Run,
    missing: &[SequenceNumber],
) -> Vec<Op> {
    let mut run = run.clone();
    for sequence in missing {
        let offset = sequence.0.saturating_sub(first.0);
        let word = usize::try_from(offset / 64).ok().and_then(|word| run.words.get_mut(word));
        if let Some(word) = word {
            *word &= !(1 << (offset % 64));
        }
    }
    let mut batch = Batch::default();
    if run.numbers(first).next().is_some() {
        rows::put_run(subscription, first, &run, &mut batch);
    } else {
        rows::remove_run(subscription, first, &mut batch);
    }
    batch.into_ops()
}
