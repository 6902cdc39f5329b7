//! What clients see of a queue with sessions, and what memory knows, against the rows.

use std::collections::BTreeSet;

use bytes::Bytes;
use peeklock_storage::Table;

use super::super::tests::id;
use super::{History, SESSIONS};
use crate::command::Command;
use crate::effect::{MessageState, Reply};
use crate::id::SequenceNumber;
use crate::message::StoredMessage;
use crate::queue::Shelf;
use crate::rows;

impl History {
    /// The index is that of the messages, the numbers are those of the rows, and memory shows nothing
    /// else.
    pub(super) fn compare_rows(&self) {
        let all = self.world.rows.iter();
        let own = all.filter(|((_, key), _)| key.reader().u32() == Some(self.entity.0));
        let (mut messages, mut index) = (BTreeSet::new(), BTreeSet::new());
        let (mut set_aside, mut shelved) = (BTreeSet::new(), BTreeSet::new());
        let (mut bytes, mut live, mut marked) = (0, BTreeSet::new(), BTreeSet::new());
        for ((table, key), row) in own {
            let kind = key.as_bytes()[4];
            match (table, kind) {
                (Table::Message, 1) => {
                    let message = StoredMessage::from_row(row.clone()).unwrap();
                    let sequence = rows::sequence_of(key).unwrap();
                    bytes += message.size();
                    messages.insert((message.facts().session().unwrap(), sequence));
                    live.insert(sequence);
                }
                (Table::Message, 2 | 3) => {
                    let message = StoredMessage::from_row(row.clone()).unwrap();
                    let sequence = rows::sequence_of(key).unwrap();
                    bytes += message.size();
                    let shelf = if kind == 2 { Shelf::Scheduled } else { Shelf::Deferred };
                    set_aside.insert((message.facts().session().unwrap(), sequence, shelf as u8));
                    live.insert(sequence);
                }
                (Table::State, 2 | 3) => drop(marked.insert(rows::sequence_of(key).unwrap())),
                (Table::State, 6) => drop(index.insert(rows::session_and_sequence(key).unwrap())),
                (Table::State, 7) => bytes += rows::read_session_state(row).unwrap().bytes,
                (Table::State, 9) => {
                    let (session, sequence) = rows::session_and_sequence(key).unwrap();
                    shelved.insert((session, sequence, rows::shelf_in_index(row) as u8));
                }
                (Table::State, 4 | 5 | 8) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(messages, index);
        assert_eq!(set_aside, shelved);
        assert!(marked.is_subset(&live));
        let state = self.world.broker.durable_state();
        let entity = state.entities.iter().find(|it| it.entity == self.entity).unwrap();
        assert_eq!((entity.count, entity.bytes), (messages.len() as u64, bytes));
        let queue = self.world.broker.queue(self.entity).unwrap();
        for (sequence, entry) in queue.entries_from(SequenceNumber(0)) {
            assert!(live.contains(&sequence), "{sequence} is in memory only");
            let key = rows::mark_key(self.entity, sequence);
            let mark = self.world.rows.get(&(Table::State, key));
            assert_eq!(entry.attempts, mark.map_or(0, |row| rows::read_mark(row).unwrap()));
        }
    }

    /// Looks at all of a session, a part at a time: it is what the rows say.
    pub(super) fn browse_a_session(&mut self) {
        if self.world.reads_fail {
            return;
        }
        let (entity, session) = (self.entity, id(SESSIONS[self.dice.below(SESSIONS.len())]));
        let (count_max, bytes_max) =
            ([1, 2, 100][self.dice.below(3)], [1, 300, 1 << 20][self.dice.below(3)]);
        let (mut from, mut found) = (SequenceNumber::FIRST, Vec::new());
        loop {
            let (start, session) = (from, Some(session.clone()));
            let page = self.world.ask(|origin| Command::Browse {
                origin,
                entity,
                from: start,
                count_max,
                bytes_max,
                session,
            });
            let Ok(Reply::Browsed { messages }) = page else { panic!("{page:?}") };
            assert!(messages.len() <= count_max as usize);
            let Some(last) = messages.last() else { break };
            from = last.sequence.next();
            found.extend(messages.iter().map(|browsed| (browsed.sequence, browsed.state)));
        }
        let states = [MessageState::Active, MessageState::Scheduled, MessageState::Deferred];
        let mut expected = Vec::new();
        for ((table, key), row) in &self.world.rows {
            if *table == Table::Message && key.reader().u32() == Some(entity.0) {
                let message = StoredMessage::from_row(row.clone()).unwrap();
                if message.facts().session().as_ref() == Some(&session) {
                    let state = states[usize::from(key.as_bytes()[4]) - 1];
                    expected.push((rows::sequence_of(key).unwrap(), state));
                }
            }
        }
        expected.sort_by_key(|(sequence, _)| *sequence);
        assert_eq!(found, expected);
        let is_shelved = |(_, state): &&(_, MessageState)| *state != MessageState::Active;
        self.seen.shelved += found.iter().filter(is_shelved).count() as u64;
        self.look();
    }

    /// The messages of a session that are set aside, by the rows.
    pub(super) fn deferred(&self, session: &str) -> Vec<SequenceNumber> {
        let is_deferred = |((table, key), row): &(&(Table, peeklock_storage::Key), &Bytes)| {
            let is_own = key.reader().u32() == Some(self.entity.0);
            let is_set_aside = *table == Table::Message && is_own && key.as_bytes()[4] == 3;
            is_set_aside && {
                let message = StoredMessage::from_row(Bytes::clone(row)).unwrap();
                message.facts().session() == Some(id(session))
            }
        };
        let rows = self.world.rows.iter().filter(is_deferred);
        rows.map(|((_, key), _)| rows::sequence_of(key).unwrap()).collect()
    }
}
