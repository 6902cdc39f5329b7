//! Making fit what stands beside messages, and nothing else.
//!
//! Only stores all of whose messages are there are repaired: counts, due times, indexes and rows that
//! nobody needs can be made from the messages. Where something is lost or cannot be read, what stands
//! beside it may be all that tells of it, and nothing is changed: that is what backups are for.

#[cfg(feature = "rocksdb")]
mod store;

use peeklock_core::check::{Finding, Problem, check};
use peeklock_storage::{Batch, Store, StoreError};

use super::writer::Writer;

#[cfg(feature = "rocksdb")]
pub(crate) use self::store::repair;

/// What was fixed may show what else there is: with a count put right the next one is seen.
const ROUNDS_MAX: usize = 4;

/// Findings fixed in one round; what is beyond is found in the next.
const FINDINGS_MAX: usize = 100_000;

/// Changes of one batch.
const OPS_MAX: usize = 1000;

/// Why a store is left as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    /// Not all is there, so nothing is touched.
    #[error("the store is damaged, and is left as it is: {0}")]
    Damaged(String),
    /// A read or a write failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It did not come to an end.
    #[error("there is more to repair after {ROUNDS_MAX} rounds")]
    Endless,
}

/// Whether all that is about can be made from messages that are there.
fn is_beside_messages(problem: Problem) -> bool {
    match problem {
        Problem::Orphans
        | Problem::Numbers
        | Problem::MissingTimer
        | Problem::DanglingTimer
        | Problem::MissingSessionEntry
        | Problem::DanglingSessionEntry
        | Problem::DanglingRow
        | Problem::UnheldBody => true,
        Problem::UnreadableTable
        | Problem::UnreadableRow
        | Problem::Entities
        | Problem::NoSession
        | Problem::MissingBody => false,
    }
}

/// Fixes all that is wrong with a store that nobody else has, or nothing. Says how much it was.
#[cfg_attr(not(any(test, feature = "rocksdb")), expect(dead_code, reason = "for stores on disk"))]
fn fix(writer: &mut Writer<'_>) -> Result<usize, RepairError> {
    let mut fixed = 0;
    for _ in 0..ROUNDS_MAX {
        // Before anything of it is changed: a later finding may forbid the fix of an earlier one.
        let findings = findings(writer.store())?;
        if findings.is_empty() {
            return Ok(fixed);
        }
        fixed += findings.len();
        let mut ops = findings.into_iter().flat_map(|finding| finding.fix).peekable();
        while ops.peek().is_some() {
            let mut batch = Batch::default();
            ops.by_ref().take(OPS_MAX).for_each(|op| batch.push(op));
            writer.write(batch)?;
        }
    }
    Err(RepairError::Endless)
}

fn findings(store: &dyn Store) -> Result<Vec<Finding>, RepairError> {
    let (mut findings, mut damage) = (Vec::new(), None);
    check(store, &mut |finding| {
        if !is_beside_messages(finding.problem) || finding.fix.is_empty() {
            damage.get_or_insert(finding.what);
        } else if findings.len() < FINDINGS_MAX {
            findings.push(finding);
        }
    })?;
    damage.map_or(Ok(findings), |what| Err(RepairError::Damaged(what)))
}

#[cfg(test)]
mod tests {
    use peeklock_core::{
        Broker, BrokerSettings, Command, EntityPath, QueueSettings, SeededIds, Timestamp,
    };
    use peeklock_storage::{Key, MemStore, Table};

    use super::*;

    /// Makes a store with an empty queue.
    fn make(writer: &mut Writer<'_>) {
        let mut core = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let path = EntityPath::for_new_entity("q").unwrap();
        let settings = QueueSettings::default();
        core.handle(Timestamp(1_000), Command::EnsureQueue { origin: None, path, settings });
        writer.write(core.take_turn().batch).unwrap();
    }

    /// A row of an entity that there never was.
    fn orphan() -> Key {
        Key::new().with_u32(77).with_u8(0).with_u64(1)
    }

    fn add(writer: &mut Writer<'_>, key: Key) {
        let mut batch = Batch::default();
        batch.put(Table::Message, key, "nobody can read this");
        writer.write(batch).unwrap();
    }

    fn has(writer: &Writer<'_>, key: &Key) -> bool {
        writer.store().get(Table::Message, key).unwrap().is_some()
    }

    #[test]
    fn rows_of_nobody_are_taken_away_and_the_rest_is_left_alone() {
        let store = MemStore::new();
        let mut writer = Writer::new(&store);
        make(&mut writer);
        assert_eq!(fix(&mut writer).unwrap(), 0);
        add(&mut writer, orphan());
        assert_eq!(fix(&mut writer).unwrap(), 1);
        assert!(!has(&writer, &orphan()));
        assert_eq!(fix(&mut writer).unwrap(), 0);
    }

    #[test]
    fn where_a_message_cannot_be_read_nothing_is_touched() {
        let store = MemStore::new();
        let mut writer = Writer::new(&store);
        make(&mut writer);
        add(&mut writer, orphan());
        let message = Key::new().with_u32(1).with_u8(1).with_u64(1);
        add(&mut writer, message.clone());
        assert!(matches!(fix(&mut writer), Err(RepairError::Damaged(_))));
        assert!(has(&writer, &orphan()) && has(&writer, &message));
    }
}
