//! The rows of each fact, and state from rows: writing and reading side by side.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[0][00][entity]` | exact numbers of an entity | once an entity and turn |
//! | state | `[0][01]` | the next entity id | with every new entity |
//! | state | `[0][02][entity]` | definition: path and settings | when created or changed |
//! | state | `[0][03][entity]` | the buckets of message-ids of an entity | when one begins or is removed |
//! | dedup | `[entity][start of bucket][message-id]` | when it was taken in | with the message |
//! | message | `[entity][01][sequence]` | see [`crate::message`]; a topic's for its subscriptions | once; removed once |
//! | message | `[entity][02][sequence]` | the same, of a scheduled message | once; removed once |
//! | message | `[entity][03][sequence]` | the same, of a deferred message | once; removed once |
//! | state | `[entity][02][sequence]` | mark: failed deliveries | when there are any |
//! | state | `[entity][03][sequence]` | changed application-properties section | when changed |
//! | state | `[entity][06][session][sequence]` | a message of a session: its size, roughly | with the message |
//! | state | `[entity][07][session]` | when a session's state was set, and its octets' number | when set |
//! | state | `[entity][08][session]` | the state of a session | when set |
//! | state | `[entity][09][session][sequence]` | the same as 06, of one that is set aside, and why it is | with the message |
//!
//! Ids of entities stand in the rows themselves in two places: in definitions, and in front of a message
//! that was a dead letter, where the id of its entity is.
//!
//! Entity ids are 4 octets and sequence numbers 8, big-endian; no entity has the id 0. All rows of the
//! entities themselves lie together, so loading reads one short range and no message.

mod access;
mod moving;
mod rule;
mod runs;
mod sessions;
mod timer;

pub(crate) mod duplicates;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use peeklock_storage::{Batch, Key, Table};

pub(crate) use self::moving::*;
pub(crate) use self::sessions::*;
use crate::change::{Change, TopicChange};
use crate::command::Scan;
use crate::entity::kind::EntityKind;
use crate::entity::path::{EntityPath, PathError, Subqueue};
use crate::entity::settings::{EntityStatus, QueueSettings, Remarks};
use crate::error::LoadError;
use crate::id::{EntityId, SequenceNumber};
use crate::message::ROW_HEADER_LEN;
use crate::queue::timers::{Timer, TimerKind};
use crate::queue::{Definition, Numbers, Shelf, Traces};
use crate::time::{Span, Timestamp};
use crate::topic::rules::Rule;

pub(crate) use self::rule::remove_rules;
pub(crate) use self::runs::*;
use self::timer::remove_timer;
pub(crate) use self::timer::{put_timer, read_timers, timer_key, timer_scan};

const KIND_NUMBERS: u8 = 0;
const KIND_MESSAGE: u8 = 1;
const KIND_SCHEDULED: u8 = 2;
const KIND_DEFERRED: u8 = 3;
const KIND_MARK: u8 = 2;
const KIND_PROPERTIES: u8 = 3;
const KIND_NEXT_ENTITY: u8 = 1;
const KIND_DEFINITION: u8 = 2;
const KIND_BUCKETS: u8 = 3;
/// The owner of the rows that belong to no entity.
const NO_ENTITY: u32 = 0;
/// The form of numbers, definition and mark this release writes and reads.
const FORM: u8 = 1;

/// The tables that have rows of entities, each row with the entity's id in front.
pub(crate) const ENTITY_TABLES: [Table; 3] = [Table::Message, Table::State, Table::Dedup];

/// Octets of key and row of a message besides the message.
pub(crate) const MESSAGE_ROW_OVERHEAD: usize = 13 + ROW_HEADER_LEN;

/// What has to be read to load the state.
pub(crate) fn state_range() -> Range<Key> {
    Key::new().with_u32(NO_ENTITY).prefix_range()
}

pub(crate) fn message_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_MESSAGE, sequence)
}

/// Where a message is, by what became of it.
pub(crate) fn shelf_key(entity: EntityId, shelf: Shelf, sequence: SequenceNumber) -> Key {
    let kind = match shelf {
        Shelf::Active => KIND_MESSAGE,
        Shelf::Scheduled => KIND_SCHEDULED,
        Shelf::Deferred => KIND_DEFERRED,
    };
    row_key(entity, kind, sequence)
}

/// Where the row of a message in memory is.
pub(crate) fn own_key(entity: EntityId, traces: Traces, sequence: SequenceNumber) -> Key {
    match traces.shared {
        Some(topic) => message_key(topic, sequence),
        None => shelf_key(entity, traces.shelf(), sequence),
    }
}

pub(crate) fn properties_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_PROPERTIES, sequence)
}

pub(crate) fn mark_key(entity: EntityId, sequence: SequenceNumber) -> Key {
    row_key(entity, KIND_MARK, sequence)
}

fn row_key(entity: EntityId, kind: u8, sequence: SequenceNumber) -> Key {
    Key::new().with_u32(entity.0).with_u8(kind).with_u64(sequence.0)
}

/// The number at the end of a message's, mark's or section's key.
pub(crate) fn sequence_of(key: &Key) -> Option<SequenceNumber> {
    let mut reader = key.reader();
    reader.u32()?;
    reader.u8()?;
    reader.u64().map(SequenceNumber)
}

/// The scans that find everything about the messages of a range: messages, marks, sections, in this
/// order, each cut off by the same bounds; then, where messages of a topic are, the runs.
pub(crate) fn page_scans(
    entity: EntityId,
    topic: Option<EntityId>,
    range: &Range<SequenceNumber>,
    rows_max: usize,
    bytes_max: usize,
) -> Vec<Scan> {
    let tables = [
        (Table::Message, KIND_MESSAGE),
        (Table::State, KIND_MARK),
        (Table::State, KIND_PROPERTIES),
    ];
    let scan = |(table, kind)| Scan {
        table,
        range: row_key(entity, kind, range.start)..row_key(entity, kind, range.end),
        rows_max,
        bytes_max,
    };
    let runs = topic.map(|_| run_scan(entity, range, rows_max));
    tables.map(scan).into_iter().chain(runs).collect()
}

/// The rows of one message that is to be delivered: its own, its mark, its section.
pub(crate) fn active_gets(entity: EntityId, sequence: SequenceNumber) -> [(Table, Key); 3] {
    [
        (Table::Message, shelf_key(entity, Shelf::Active, sequence)),
        (Table::State, mark_key(entity, sequence)),
        (Table::State, properties_key(entity, sequence)),
    ]
}

/// The scans that find everything about the messages of a range, those set aside included: marks,
/// sections, active, scheduled and deferred messages; then, where messages of a topic are, the runs.
/// No active message is below `head`.
pub(crate) fn shelf_scans(
    entity: EntityId,
    topic: Option<EntityId>,
    range: &Range<SequenceNumber>,
    head: SequenceNumber,
    rows_max: usize,
    bytes_max: usize,
) -> Vec<Scan> {
    let scan = |table, kind, start: SequenceNumber| Scan {
        table,
        range: row_key(entity, kind, start.min(range.end))..row_key(entity, kind, range.end),
        rows_max,
        bytes_max,
    };
    let start = range.start.max(head);
    let runs = topic.map(|_| run_scan(entity, &(start..range.end.max(start)), rows_max));
    let scans = [
        scan(Table::State, KIND_MARK, range.start),
        scan(Table::State, KIND_PROPERTIES, range.start),
        scan(Table::Message, KIND_MESSAGE, start),
        scan(Table::Message, KIND_SCHEDULED, range.start),
        scan(Table::Message, KIND_DEFERRED, range.start),
    ];
    scans.into_iter().chain(runs).collect()
}

/// Appends what a fact means for the rows of messages. `traces` says which rows the message had.
/// Numbers are written once a turn, by [`persist_numbers`], definitions by [`persist_definition`].
pub(crate) fn persist(change: &Change, traces: Traces, batch: &mut Batch) {
    match change {
        Change::Accepted { entity, sequence, message, application_properties, session: _ } => {
            batch.put(Table::Message, message_key(*entity, *sequence), message.row().clone());
            if let Some(section) = application_properties {
                batch.put(Table::State, properties_key(*entity, *sequence), section.clone());
            }
            if let Some(at) = traces.expires_at {
                let timer = Timer { at, sequence: *sequence };
                put_timer(*entity, TimerKind::Expiry, timer, message.size(), batch);
            }
        }
        Change::Scheduled { entity, sequence, message } => {
            let key = shelf_key(*entity, Shelf::Scheduled, *sequence);
            batch.put(Table::Message, key, message.row().clone());
            let timer = Timer { at: message.enqueued_at(), sequence: *sequence };
            put_timer(*entity, TimerKind::Activation, timer, message.size(), batch);
        }
        Change::Unscheduled { entity, sequence, due, size: _, session: _ } => {
            batch.remove(Table::Message, shelf_key(*entity, Shelf::Scheduled, *sequence));
            let timer = Timer { at: *due, sequence: *sequence };
            remove_timer(*entity, TimerKind::Activation, timer, batch);
        }
        Change::Deferred { entity, sequence, message, application_properties } => {
            // The mark and the section keep their keys.
            if traces.shared.is_none() {
                batch.remove(Table::Message, message_key(*entity, *sequence));
            }
            remove_expiry(*entity, *sequence, traces, batch);
            let key = shelf_key(*entity, Shelf::Deferred, *sequence);
            batch.put(Table::Message, key, message.row().clone());
            if let Some(section) = application_properties {
                batch.put(Table::State, properties_key(*entity, *sequence), section.clone());
            }
        }
        Change::Returned { entity, sequence, attempts, application_properties } => {
            if let Some(attempts) = attempts {
                put_mark(*entity, *sequence, *attempts, batch);
            }
            if let Some(section) = application_properties {
                batch.put(Table::State, properties_key(*entity, *sequence), section.clone());
            }
        }
        Change::Removed { entity, sequence } => {
            remove_message(*entity, *sequence, traces, true, batch);
        }
        Change::Lost { entity, sequence, row_exists } => {
            remove_message(*entity, *sequence, traces, *row_exists, batch);
        }
        Change::DeadLettered {
            entity,
            to,
            sequence,
            attempts,
            message,
            application_properties: section,
            ..
        } => {
            remove_message(*entity, *sequence, traces, true, batch);
            batch.put(Table::Message, message_key(*to, *sequence), message.row().clone());
            if *attempts != 0 {
                put_mark(*to, *sequence, *attempts, batch);
            }
            batch.put(Table::State, properties_key(*to, *sequence), section.clone());
        }
        Change::QueueCreated { transfer_dead_letter: last, .. } => {
            put_next_entity(EntityId(last.0 + 1), batch);
        }
        Change::OfSession { entity, session, change } => {
            sessions::persist_session_change(*entity, session, change, batch);
        }
        Change::QueueDeleted { entity, dead_letter, transfer_dead_letter, was_used } => {
            for entity in [*entity, *dead_letter, *transfer_dead_letter] {
                for kind in [KIND_NUMBERS, KIND_DEFINITION] {
                    let key = Key::new().with_u32(NO_ENTITY).with_u8(kind).with_u32(entity.0);
                    batch.remove(Table::State, key);
                }
            }
            // Each range makes later reads a little slower. Queues that come and go without ever
            // being used need none, and one does for all three entities: their ids follow one
            // another.
            if !*was_used {
                return;
            }
            remove_entities(*entity..EntityId(transfer_dead_letter.0 + 1), batch);
        }
        Change::OfTopic(TopicChange::RuleAdded { subscription, rule, .. }) => {
            rule::put_rule(*subscription, rule, batch);
        }
        Change::OfTopic(TopicChange::RuleRemoved { subscription, name, .. }) => {
            rule::remove_rule(*subscription, name, batch);
        }
        Change::OfTopic(TopicChange::Published { topic, sequence, message, .. }) => {
            batch.put(Table::Message, message_key(*topic, *sequence), message.row().clone());
        }
        Change::OfTopic(TopicChange::BodyGone { topic, sequence, .. }) => {
            batch.remove(Table::Message, message_key(*topic, *sequence));
        }
        Change::OfTopic(TopicChange::Buried { to, sequence, message, section, .. }) => {
            batch.put(Table::Message, message_key(*to, *sequence), message.row().clone());
            batch.put(Table::State, properties_key(*to, *sequence), section.clone());
        }
        Change::Remembered { entity, bucket, id, at } => {
            duplicates::put(*entity, *bucket, id, *at, batch);
        }
        Change::BucketsForgotten { entity, first, last } => {
            duplicates::remove(*entity, *first..*last, batch);
        }
        Change::BucketOpened { .. }
        | Change::SettingsChanged { .. }
        | Change::Passed { .. }
        | Change::Fetched { .. }
        | Change::Locked { .. }
        | Change::Renewed { .. }
        | Change::Enlisted { .. }
        | Change::Withdrawn { .. } => {}
    }
}

/// Writes which id the next entity gets.
pub(crate) fn put_next_entity(next: EntityId, batch: &mut Batch) {
    let key = Key::new().with_u32(NO_ENTITY).with_u8(KIND_NEXT_ENTITY);
    batch.put(Table::State, key, next.0.to_be_bytes().to_vec());
}

/// Removes all rows that begin with these ids.
pub(crate) fn remove_entities(ids: Range<EntityId>, batch: &mut Batch) {
    let range = Key::new().with_u32(ids.start.0)..Key::new().with_u32(ids.end.0);
    for table in ENTITY_TABLES {
        batch.remove_range(table, range.clone());
    }
}

fn remove_message(
    entity: EntityId,
    sequence: SequenceNumber,
    traces: Traces,
    row_exists: bool,
    batch: &mut Batch,
) {
    if row_exists && traces.shared.is_none() {
        batch.remove(Table::Message, shelf_key(entity, traces.shelf(), sequence));
    }
    remove_expiry(entity, sequence, traces, batch);
    if traces.marked {
        batch.remove(Table::State, mark_key(entity, sequence));
    }
    if traces.overlaid {
        batch.remove(Table::State, properties_key(entity, sequence));
    }
}

fn remove_expiry(entity: EntityId, sequence: SequenceNumber, traces: Traces, batch: &mut Batch) {
    if let Some(at) = traces.expires_at {
        remove_timer(entity, TimerKind::Expiry, Timer { at, sequence }, batch);
    }
}

fn put_mark(entity: EntityId, sequence: SequenceNumber, attempts: u32, batch: &mut Batch) {
    let mut row = Vec::with_capacity(5);
    row.put_u8(FORM);
    row.put_u32(attempts);
    batch.put(Table::State, mark_key(entity, sequence), row);
}

/// How many deliveries of a message failed, by its mark.
pub(crate) fn read_mark(row: &[u8]) -> Option<u32> {
    let (form, attempts) = row.split_first()?;
    let attempts = attempts.first_chunk::<4>()?;
    (*form == FORM).then_some(u32::from_be_bytes(*attempts))
}

/// Writes what an entity counts.
pub(crate) fn persist_numbers(entity: EntityId, numbers: &Numbers, batch: &mut Batch) {
    let mut row = BytesMut::with_capacity(73);
    row.put_u8(FORM);
    row.put_u64(numbers.next_sequence.0);
    row.put_u64(numbers.head.0);
    row.put_u64(numbers.count);
    row.put_u64(numbers.deferred_count);
    row.put_u64(numbers.scheduled_count);
    row.put_u64(numbers.expiring_count);
    row.put_u64(numbers.bytes);
    row.put_u64(numbers.accessed_at.0);
    row.put_u64(numbers.shared_bytes);
    let key = Key::new().with_u32(NO_ENTITY).with_u8(KIND_NUMBERS).with_u32(entity.0);
    batch.put(Table::State, key, row.freeze());
}

/// Writes what an entity is.
pub(crate) fn persist_definition(definition: &Definition, batch: &mut Batch) {
    let Definition {
        entity,
        dead_letter,
        transfer_dead_letter,
        path,
        kind,
        settings,
        created_at,
        updated_at,
    } = definition;
    let mut row = BytesMut::with_capacity(160);
    row.put_u8(FORM);
    row.put_u32(dead_letter.map_or(0, |entity| entity.0));
    row.put_u32(transfer_dead_letter.map_or(0, |entity| entity.0));
    put_text(path.name(), &mut row);
    row.put_u8(match path.subqueue() {
        Subqueue::Main => 0,
        Subqueue::DeadLetter => 1,
        Subqueue::TransferDeadLetter => 2,
    });
    put_kind(*kind, &mut row);
    row.put_u64(created_at.0);
    row.put_u64(updated_at.0);
    put_settings(settings, &mut row);
    let key = Key::new().with_u32(NO_ENTITY).with_u8(KIND_DEFINITION).with_u32(entity.0);
    batch.put(Table::State, key, row.freeze());
}

fn put_kind(kind: EntityKind, row: &mut BytesMut) {
    let (kind, topic) = match kind {
        EntityKind::Queue => (0, 0),
        EntityKind::Topic => (1, 0),
        EntityKind::Subscription { topic } => (2, topic.0),
    };
    row.put_u8(kind);
    row.put_u32(topic);
}

fn read_kind(fields: &mut Fields<'_>) -> Option<EntityKind> {
    let kind = fields.u8()?;
    let topic = EntityId(fields.u32()?);
    match kind {
        0 => Some(EntityKind::Queue),
        1 => Some(EntityKind::Topic),
        2 => Some(EntityKind::Subscription { topic }),
        _ => None,
    }
}

fn put_settings(settings: &QueueSettings, row: &mut BytesMut) {
    let QueueSettings {
        lock_duration,
        attempts_max,
        entity_bytes_max,
        message_bytes_max,
        requires_session,
        default_time_to_live,
        dead_letter_on_expiry,
        dead_letter_on_filter_error,
        duplicate_window,
        forward_to,
        forward_dead_letters_to,
        auto_delete_on_idle,
        status,
        user_metadata,
        remarks,
        access_rules,
    } = settings;
    row.put_u64(lock_duration.0);
    row.put_u32(*attempts_max);
    row.put_u64(*entity_bytes_max);
    row.put_u64(*message_bytes_max);
    row.put_u8(u8::from(*requires_session));
    put_span(*default_time_to_live, row);
    row.put_u8(u8::from(*dead_letter_on_expiry));
    row.put_u8(u8::from(*dead_letter_on_filter_error));
    put_span(*duplicate_window, row);
    put_text(forward_to.as_ref().map_or("", EntityPath::name), row);
    put_text(forward_dead_letters_to.as_ref().map_or("", EntityPath::name), row);
    put_span(*auto_delete_on_idle, row);
    row.put_u8(match status {
        EntityStatus::Active => 0,
        EntityStatus::Disabled => 1,
        EntityStatus::SendDisabled => 2,
        EntityStatus::ReceiveDisabled => 3,
    });
    put_text(user_metadata, row);
    put_remarks(remarks, row);
    access::put_rules(access_rules, row);
}

fn put_remarks(remarks: &Remarks, row: &mut BytesMut) {
    let Remarks {
        partitioned,
        express,
        batched,
        ordered,
        filters_before_publishing,
        subscriptions_partitioned,
        unused_duplicate_window,
    } = *remarks;
    let flags = [
        partitioned,
        express,
        batched,
        ordered,
        filters_before_publishing,
        subscriptions_partitioned,
    ];
    let bits = flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag));
    row.put_u8(bits);
    put_span(unused_duplicate_window, row);
}

/// Rows of earlier releases end before it.
fn read_remarks(fields: &mut Fields<'_>) -> Option<Remarks> {
    if fields.0.is_empty() {
        return Some(Remarks::default());
    }
    let bits = fields.u8()?;
    let flag = |index: u8| bits >> index & 1 != 0;
    Some(Remarks {
        partitioned: flag(0),
        express: flag(1),
        batched: flag(2),
        ordered: flag(3),
        filters_before_publishing: flag(4),
        subscriptions_partitioned: flag(5),
        unused_duplicate_window: optional_span(fields.u64()?),
    })
}

/// A span that may be missing. None that is set is zero.
fn put_span(span: Option<Span>, row: &mut BytesMut) {
    row.put_u64(span.map_or(0, |span| span.0));
}

fn put_text(text: &str, row: &mut BytesMut) {
    let len = u16::try_from(text.len()).expect("names and metadata are short");
    row.put_u16(len);
    row.put_slice(text.as_bytes());
}

/// A row of the state, read back.
pub(crate) enum StateRow {
    Definition(Definition),
    Numbers(EntityId, Numbers),
    NextEntity(EntityId),
    /// What was forgotten before when, and when each bucket of message-ids began.
    Buckets(EntityId, Timestamp, Vec<Timestamp>),
    /// Of a subscription.
    Rule(EntityId, Rule),
    /// Of a topic: numbers among which there may be messages that nobody holds.
    Stale(EntityId, Range<SequenceNumber>),
}

/// Reads one row of [`state_range`].
pub(crate) fn read_state_row(key: &Key, row: &Bytes) -> Result<StateRow, LoadError> {
    let unreadable = |what| LoadError::UnreadableRow { key: key.to_string(), what };
    let mut parts = key.reader();
    let in_form = || match row.split_first() {
        Some((&FORM, fields)) => Ok(Fields(fields)),
        Some(_) | None => Err(unreadable("of a form this release does not know")),
    };
    match (parts.u32(), parts.u8(), parts.u32()) {
        (Some(NO_ENTITY), Some(KIND_NEXT_ENTITY), None) => {
            let octets = <[u8; 4]>::try_from(&row[..]).map_err(|_| unreadable("not a number"))?;
            Ok(StateRow::NextEntity(EntityId(u32::from_be_bytes(octets))))
        }
        (Some(NO_ENTITY), Some(KIND_NUMBERS), Some(entity)) => read_numbers(&mut in_form()?)
            .map(|numbers| StateRow::Numbers(EntityId(entity), numbers))
            .ok_or_else(|| unreadable("not the numbers of an entity")),
        (Some(NO_ENTITY), Some(KIND_BUCKETS), Some(entity)) => {
            duplicates::read_buckets(&mut in_form()?)
                .map(|(floor, starts)| StateRow::Buckets(EntityId(entity), floor, starts))
                .ok_or_else(|| unreadable("not the buckets of an entity"))
        }
        (Some(NO_ENTITY), Some(KIND_DEFINITION), Some(entity)) => {
            read_definition(EntityId(entity), &mut in_form()?)
                .map(StateRow::Definition)
                .ok_or_else(|| unreadable("not an entity"))
        }
        (Some(NO_ENTITY), Some(rule::KIND_RULE), Some(subscription)) => {
            rule::read_rule(&mut in_form()?)
                .map(|rule| StateRow::Rule(EntityId(subscription), rule))
                .ok_or_else(|| unreadable("not a rule"))
        }
        (Some(NO_ENTITY), Some(runs::KIND_STALE), Some(topic)) => runs::read_stale(key, row)
            .map(|(start, end)| StateRow::Stale(EntityId(topic), start..end))
            .ok_or_else(|| unreadable("not a stretch of a topic")),
        _ => Err(unreadable("of a kind this release does not know")),
    }
}

fn read_numbers(fields: &mut Fields<'_>) -> Option<Numbers> {
    Some(Numbers {
        next_sequence: SequenceNumber(fields.u64()?),
        head: SequenceNumber(fields.u64()?),
        count: fields.u64()?,
        deferred_count: fields.u64()?,
        scheduled_count: fields.u64()?,
        expiring_count: fields.u64()?,
        bytes: fields.u64()?,
        accessed_at: Timestamp(fields.u64()?),
        // Rows of the first release end here.
        shared_bytes: fields.u64().unwrap_or(0),
    })
}

fn read_definition(entity: EntityId, fields: &mut Fields<'_>) -> Option<Definition> {
    let dead_letter = Some(EntityId(fields.u32()?)).filter(|id| id.0 != 0);
    let transfer_dead_letter = Some(EntityId(fields.u32()?)).filter(|id| id.0 != 0);
    let path = EntityPath::of_known_entity(fields.text()?).ok()?;
    let subqueue = match fields.u8()? {
        0 => Subqueue::Main,
        1 => Subqueue::DeadLetter,
        2 => Subqueue::TransferDeadLetter,
        _ => return None,
    };
    Some(Definition {
        entity,
        dead_letter,
        transfer_dead_letter,
        path: path.with_subqueue(subqueue),
        kind: read_kind(fields)?,
        created_at: Timestamp(fields.u64()?),
        updated_at: Timestamp(fields.u64()?),
        settings: read_settings(fields)?,
    })
}

fn read_settings(fields: &mut Fields<'_>) -> Option<QueueSettings> {
    Some(QueueSettings {
        lock_duration: Span(fields.u64()?),
        attempts_max: fields.u32()?,
        entity_bytes_max: fields.u64()?,
        message_bytes_max: fields.u64()?,
        requires_session: fields.u8()? != 0,
        default_time_to_live: optional_span(fields.u64()?),
        dead_letter_on_expiry: fields.u8()? != 0,
        dead_letter_on_filter_error: fields.u8()? != 0,
        duplicate_window: optional_span(fields.u64()?),
        forward_to: optional_path(fields.text()?).ok()?,
        forward_dead_letters_to: optional_path(fields.text()?).ok()?,
        auto_delete_on_idle: optional_span(fields.u64()?),
        status: match fields.u8()? {
            0 => EntityStatus::Active,
            1 => EntityStatus::Disabled,
            2 => EntityStatus::SendDisabled,
            3 => EntityStatus::ReceiveDisabled,
            _ => return None,
        },
        user_metadata: fields.text()?.into(),
        remarks: read_remarks(fields)?,
        access_rules: access::read_rules(fields)?,
    })
}

fn optional_span(millis: u64) -> Option<Span> {
    Some(Span(millis)).filter(|span| span.0 != 0)
}

fn optional_path(name: &str) -> Result<Option<EntityPath>, PathError> {
    if name.is_empty() { Ok(None) } else { EntityPath::for_new_entity(name).map(Some) }
}

/// The fields of a row, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(self.array().map(u16::from_be_bytes)?);
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;

    #[track_caller]
    fn written(fill: impl FnOnce(&mut Batch)) -> StateRow {
        let mut batch = Batch::new(Epoch(0));
        fill(&mut batch);
        let ops = batch.into_ops();
        let [Op::Put { table: Table::State, key, value }] = &ops[..] else { panic!("{ops:?}") };
        assert!(state_range().contains(key));
        read_state_row(key, value).unwrap()
    }

    #[test]
    fn a_definition_reads_back_as_it_was_written() {
        let settings = QueueSettings {
            attempts_max: 3,
            requires_session: true,
            default_time_to_live: Some(Span(7)),
            forward_dead_letters_to: Some(EntityPath::for_new_entity("Graves").unwrap()),
            status: EntityStatus::ReceiveDisabled,
            user_metadata: "mine".into(),
            remarks: Remarks {
                express: true,
                batched: false,
                subscriptions_partitioned: true,
                unused_duplicate_window: Some(Span(8)),
                ..Remarks::default()
            },
            access_rules: access::tests::rules(),
            ..QueueSettings::default()
        };
        let of_topic = EntityKind::Subscription { topic: EntityId(4) };
        for (name, kind, dead_letter, subqueue) in [
            ("Eu/Orders", EntityKind::Queue, Some(EntityId(8)), Subqueue::Main),
            ("Eu/Orders", EntityKind::Topic, None, Subqueue::TransferDeadLetter),
            ("Eu/Subscriptions/Orders", of_topic, None, Subqueue::DeadLetter),
        ] {
            let definition = Definition {
                entity: EntityId(7),
                dead_letter,
                transfer_dead_letter: dead_letter.map(|id| EntityId(id.0 + 1)),
                path: EntityPath::of_known_entity(name).unwrap().with_subqueue(subqueue),
                kind,
                settings: settings.clone(),
                created_at: Timestamp(12),
                updated_at: Timestamp(13),
            };
            let row = written(|batch| persist_definition(&definition, batch));
            let StateRow::Definition(read) = row else { panic!("not a definition") };
            assert_eq!(read, definition);
        }
    }

    #[test]
    fn settings_of_earlier_releases_end_without_remarks_or_access_rules() {
        let settings = QueueSettings { user_metadata: "mine".into(), ..QueueSettings::default() };
        let mut row = BytesMut::new();
        put_settings(&settings, &mut row);
        let (first, second) = (row.len() - 10, row.len() - 1);
        for end in 0..=row.len() {
            let is_whole = [first, second, row.len()].contains(&end);
            let expected = is_whole.then(|| settings.clone());
            assert_eq!(read_settings(&mut Fields(&row[..end])), expected, "{end} octets");
        }
    }

    #[test]
    fn numbers_read_back_as_they_were_written() {
        let numbers = Numbers {
            next_sequence: SequenceNumber(900),
            head: SequenceNumber(800),
            count: 50,
            deferred_count: 3,
            scheduled_count: 4,
            expiring_count: 5,
            bytes: 51_200,
            shared_bytes: 1_024,
            accessed_at: Timestamp(99),
        };
        let row = written(|batch| persist_numbers(EntityId(7), &numbers, batch));
        let StateRow::Numbers(entity, read) = row else { panic!("not numbers") };
        assert_eq!((entity, read), (EntityId(7), numbers));
    }

    #[test]
    fn unknown_rows_of_the_state_stop_the_load() {
        let key = Key::new().with_u32(0).with_u8(9).with_u32(1);
        assert!(read_state_row(&key, &Bytes::new()).is_err());
        for kind in [KIND_NUMBERS, KIND_DEFINITION] {
            let key = Key::new().with_u32(0).with_u8(kind).with_u32(1);
            assert!(read_state_row(&key, &Bytes::from_static(&[2])).is_err());
            assert!(read_state_row(&key, &Bytes::from_static(&[1, 0, 0])).is_err());
        }
    }

    #[test]
    fn keys_of_messages_lie_in_order_and_apart_from_the_state() {
        let key = |entity, sequence| message_key(EntityId(entity), SequenceNumber(sequence));
        assert!(key(1, 255) < key(1, 256) && key(1, u64::MAX) < key(2, 0));
        assert!(!state_range().contains(&key(1, 0)));
        assert_eq!(sequence_of(&key(3, 77)), Some(SequenceNumber(77)));
    }
}
