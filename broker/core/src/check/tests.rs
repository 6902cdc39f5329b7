//! What is wrong on purpose is found, and fits once it was repaired.

use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_storage::{Batch, CommitPosition, MemStore, ShardId};

use super::*;
use crate::command::Command;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::message::IncomingMessage;
use crate::testing::{World, wire_message};
use crate::time::{Span, Timestamp};

/// A store with what a test has written, which is no more under test then.
struct Rows {
    store: MemStore,
    position: u64,
}

impl Rows {
    fn of(world: &World) -> Self {
        Self { store: world.store(), position: 1 }
    }

    fn write(&mut self, ops: Vec<Op>) {
        let mut batch = Batch::default();
        for op in ops {
            batch.push(op);
        }
        self.position += 1;
        self.store.submit(ShardId(0), CommitPosition(self.position), batch).unwrap();
    }

    fn check(&self) -> (Totals, Vec<Finding>) {
        let mut findings = Vec::new();
        let totals = check(&self.store, &mut |finding| findings.push(finding)).unwrap();
        (totals, findings)
    }

    /// The rows of a table that begin so.
    fn all(&self, table: Table, prefix: &Key) -> Vec<(Key, Bytes)> {
        self.store.scan(table, &prefix.prefix_range(), usize::MAX, usize::MAX).unwrap()
    }

    /// Expects to find these, and nothing once all that can be was put right.
    #[track_caller]
    fn expect(&mut self, expected: &[(Severity, Problem)]) {
        let (_, findings) = self.check();
        let mut found: Vec<_> =
            findings.iter().map(|finding| (finding.severity, finding.problem)).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, expected, "{findings:#?}");
        for _ in 0..3 {
            for finding in self.check().1 {
                assert!(!finding.fix.is_empty(), "{finding:?}");
                self.write(finding.fix);
            }
        }
        let (_, left) = self.check();
        assert!(left.is_empty(), "{left:#?}");
    }
}

fn kind(entity: u32, kind: u8) -> Key {
    Key::new().with_u32(entity).with_u8(kind)
}

const PLAIN: u32 = 1;
const SESSIONS: u32 = 4;
const ONCE: u32 = 7;

/// Some of everything that a queue can have: 4, 3 and 2 messages.
fn world() -> World {
    let mut world = World::new(BrokerSettings::default());
    let sessions = QueueSettings { requires_session: true, ..QueueSettings::default() };
    let window = Some(Span::from_secs(600));
    let once = QueueSettings { duplicate_window: window, ..QueueSettings::default() };
    assert_eq!(world.ensure_queue("plain", QueueSettings::default()), EntityId(PLAIN));
    assert_eq!(world.ensure_queue("sessions", sessions), EntityId(SESSIONS));
    assert_eq!(world.ensure_queue("once", once), EntityId(ONCE));
    let later = Timestamp(world.now.0 + 60_000);
    send(&mut world, PLAIN, &Message::default());
    send(&mut world, PLAIN, &Message::default());
    let header = Header { ttl: Some(9_000_000), ..Header::default() };
    send(&mut world, PLAIN, &Message { header: Some(header), ..Message::default() });
    send(&mut world, PLAIN, &due(Message::default(), later));
    for session in ["a", "b"] {
        send(&mut world, SESSIONS, &in_session(session));
    }
    send(&mut world, SESSIONS, &due(in_session("a"), later));
    for id in ["one", "two"] {
        let message_id = Some(MessageId::String(id.into()));
        let properties = Some(Properties { message_id, ..Properties::default() });
        send(&mut world, ONCE, &Message { properties, ..Message::default() });
    }
    world
}

fn in_session(session: &str) -> Message {
    let properties = Some(Properties { group_id: Some(session.into()), ..Properties::default() });
    Message { properties, ..Message::default() }
}

fn due(message: Message, at: Timestamp) -> Message {
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    message.with_message_annotations(Map::new().with(key, Value::Timestamp(at.as_amqp())))
}

fn send(world: &mut World, entity: u32, head: &Message) {
    let wire = [&head.to_bytes()[..], &wire_message(b"body")].concat();
    let messages = smallvec::smallvec![IncomingMessage::from_wire(&wire).unwrap()];
    let entity = EntityId(entity);
    world.ask(|origin| Command::Send { origin, entity, messages, transaction: None }).unwrap();
}

fn remove(table: Table, key: &Key) -> Op {
    Op::Remove { table, key: key.clone() }
}

fn put(table: Table, key: Key, value: impl Into<Bytes>) -> Op {
    Op::Put { table, key, value: value.into() }
}

const REPAIRABLE: Severity = Severity::Repairable;
const DAMAGED: Severity = Severity::Damaged;

#[test]
fn what_the_broker_writes_fits_together() {
    let rows = Rows::of(&world());
    let (totals, findings) = rows.check();
    assert!(findings.is_empty(), "{findings:#?}");
    assert_eq!((totals.entities, totals.messages), (3, 9));
    let tables = Table::ALL.into_iter().map(|table| {
        let all = Key::new()..Key::new().with_u32(u32::MAX);
        rows.store.scan(table, &all, usize::MAX, usize::MAX).unwrap().len() as u64
    });
    assert_eq!(totals.rows, tables.sum::<u64>(), "each row was looked at once");
}

#[test]
fn due_times_are_those_of_messages() {
    for (kind_of_timer, other_kind) in [(4, 1), (5, 2)] {
        let mut rows = Rows::of(&world());
        let timers = rows.all(Table::State, &kind(PLAIN, kind_of_timer));
        let [(key, row)] = &timers[..] else { panic!("{timers:?}") };
        rows.write(vec![remove(Table::State, key)]);
        rows.expect(&[(REPAIRABLE, Problem::MissingTimer)]);
        let again = rows.all(Table::State, &kind(PLAIN, kind_of_timer));
        assert_eq!(again, timers, "as it was");
        let mut other = key.as_bytes().to_vec();
        *other.last_mut().unwrap() = 99;
        rows.write(vec![put(Table::State, Key::from(&other[..]), row.clone())]);
        rows.expect(&[(REPAIRABLE, Problem::DanglingTimer)]);
        assert!(!rows.all(Table::Message, &kind(PLAIN, other_kind)).is_empty());
    }
}

#[test]
fn messages_and_the_index_of_their_session_agree() {
    for index in [6, 9] {
        let mut rows = Rows::of(&world());
        let entries = rows.all(Table::State, &kind(SESSIONS, index));
        rows.write(entries.iter().map(|(key, _)| remove(Table::State, key)).collect());
        rows.expect(&[(REPAIRABLE, Problem::MissingSessionEntry)]);
        assert_eq!(rows.all(Table::State, &kind(SESSIONS, index)), entries);
        let (key, row) = &entries[0];
        let mut other = key.as_bytes().to_vec();
        *other.last_mut().unwrap() = 99;
        rows.write(vec![put(Table::State, Key::from(&other[..]), row.clone())]);
        rows.expect(&[(REPAIRABLE, Problem::DanglingSessionEntry)]);
        assert_eq!(rows.all(Table::State, &kind(SESSIONS, index)), entries);
    }
}

#[test]
fn a_message_that_is_gone_is_missed() {
    let mut rows = Rows::of(&world());
    let (key, _) = rows.all(Table::Message, &kind(PLAIN, 1)).swap_remove(0);
    rows.write(vec![remove(Table::Message, &key)]);
    rows.expect(&[(DAMAGED, Problem::Numbers)]);

    let mut rows = Rows::of(&world());
    let (key, _) = rows.all(Table::Message, &kind(SESSIONS, 1)).swap_remove(0);
    rows.write(vec![remove(Table::Message, &key)]);
    rows.expect(&[(REPAIRABLE, Problem::DanglingSessionEntry), (DAMAGED, Problem::Numbers)]);
}

#[test]
fn a_message_that_nobody_counts_is_counted() {
    let mut rows = Rows::of(&world());
    let (_, row) = rows.all(Table::Message, &kind(PLAIN, 1)).swap_remove(0);
    rows.write(vec![put(Table::Message, kind(PLAIN, 1).with_u64(500), row)]);
    rows.expect(&[(REPAIRABLE, Problem::Numbers)]);
    let state = rows.all(Table::State, &Key::new().with_u32(0).with_u8(0));
    let [(_, numbers), ..] = &state[..] else { panic!("{state:?}") };
    assert_eq!(numbers[1..9], 501_u64.to_be_bytes(), "no number is given twice");
}

#[test]
fn rows_that_nobody_can_read_are_set_aside() {
    let mut rows = Rows::of(&world());
    let key = kind(PLAIN, 1).with_u64(77);
    rows.write(vec![put(Table::Message, key.clone(), "no message")]);
    let findings = rows.check().1;
    let kept = findings.iter().find_map(|finding| finding.set_aside.clone());
    assert_eq!(kept, Some((Table::Message, key, Bytes::from_static(b"no message"))));
    assert_eq!(findings[0].entity.as_deref(), Some("plain"));
    rows.expect(&[(DAMAGED, Problem::UnreadableRow)]);
    rows.write(vec![put(Table::State, kind(PLAIN, 77), "of a later release")]);
    rows.expect(&[(DAMAGED, Problem::UnreadableRow)]);
}

#[test]
fn what_is_about_nothing_goes() {
    let mut rows = Rows::of(&world());
    rows.write(vec![
        put(Table::State, kind(PLAIN, 2).with_u64(99), vec![1, 0, 0, 0, 1]),
        put(Table::State, kind(PLAIN, 3).with_u64(99), "section"),
        put(Table::Dedup, Key::new().with_u32(PLAIN).with_u64(5).with_bytes(b"id"), vec![0; 8]),
    ]);
    rows.expect(&[(REPAIRABLE, Problem::DanglingRow)]);
    for table in [Table::Message, Table::State, Table::Dedup] {
        rows.write(vec![put(table, kind(900, 1).with_u64(1), "left behind")]);
        rows.expect(&[(REPAIRABLE, Problem::Orphans)]);
    }
}

#[test]
fn what_keeps_the_broker_from_starting_is_told_and_left() {
    let mut rows = Rows::of(&world());
    rows.write(vec![put(Table::State, Key::new().with_u32(0).with_u8(2).with_u32(PLAIN), "x")]);
    let findings = rows.check().1;
    let unreadable: Vec<_> =
        findings.iter().filter(|one| one.problem == Problem::UnreadableRow).collect();
    assert_eq!((unreadable.len(), unreadable[0].severity), (1, DAMAGED));
    assert!(
        findings.iter().all(|one| one.fix.is_empty()),
        "nobody is taken for gone: {findings:#?}"
    );

    let mut rows = Rows::of(&world());
    rows.write(vec![remove(Table::State, &Key::new().with_u32(0).with_u8(0).with_u32(PLAIN))]);
    let findings = rows.check().1;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert!(findings[0].problem == Problem::Entities && findings[0].fix.is_empty());
}
