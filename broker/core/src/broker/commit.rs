//! The one place where a fact changes memory and rows.

use peeklock_storage::CommitPosition;

use super::{Broker, queue_mut};
use crate::change::Change;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::id::EntityId;
use crate::queue::duplicates::Duplicates;
use crate::queue::{Definition, Numbers, Queue, Room, Traces};
use crate::rows;
use crate::time::Timestamp;

impl Broker {
    /// Applies a fact, and writes it down.
    pub(super) fn commit(&mut self, change: &Change) {
        let position = self.open_position();
        let traces = match change {
            Change::QueueCreated {
                entity,
                dead_letter,
                transfer_dead_letter,
                path,
                kind,
                settings,
                at,
            } => {
                let entities = QueueEntities {
                    main: *entity,
                    dead_letter: *dead_letter,
                    transfer_dead_letter: *transfer_dead_letter,
                };
                self.add_queue(entities, path, *kind, settings, *at);
                Traces::default()
            }
            Change::QueueDeleted { entity, dead_letter, transfer_dead_letter, .. } => {
                for entity in [*entity, *dead_letter, *transfer_dead_letter] {
                    self.forget(entity);
                }
                Traces::default()
            }
            Change::OfTopic(topic_change) => self.apply_topic(change, topic_change, position),
            Change::DeadLettered { entity, to, reason, .. } => {
                self.count_dead_letter(*entity, *reason);
                let traces = self.apply(*entity, change, position);
                self.apply(*to, change, position);
                traces
            }
            Change::SettingsChanged { entity, .. } => {
                let traces = self.apply(*entity, change, position);
                self.persist_definition(*entity);
                if self.has_bucket_row(*entity) {
                    self.persist_buckets(*entity);
                }
                traces
            }
            Change::BucketOpened { entity, .. } | Change::BucketsForgotten { entity, .. } => {
                let traces = self.apply(*entity, change, position);
                self.persist_buckets(*entity);
                traces
            }
            Change::Accepted { entity, .. }
            | Change::Passed { entity, .. }
            | Change::Remembered { entity, .. }
            | Change::Scheduled { entity, .. }
            | Change::Unscheduled { entity, .. }
            | Change::Deferred { entity, .. }
            | Change::Fetched { entity, .. }
            | Change::Locked { entity, .. }
            | Change::Renewed { entity, .. }
            | Change::Enlisted { entity, .. }
            | Change::Withdrawn { entity, .. }
            | Change::Returned { entity, .. }
            | Change::Removed { entity, .. }
            | Change::Lost { entity, .. }
            | Change::OfSession { entity, .. } => self.apply(*entity, change, position),
        };
        rows::persist(change, traces, &mut self.batch);
        if let Some(topic) = traces.shared {
            self.note_left(topic, change);
        }
    }

    fn add_queue(
        &mut self,
        entities: QueueEntities,
        path: &EntityPath,
        kind: EntityKind,
        settings: &QueueSettings,
        at: Timestamp,
    ) {
        let QueueEntities { main, dead_letter, transfer_dead_letter } = entities;
        for (entity, subqueue) in [
            (main, Subqueue::Main),
            (dead_letter, Subqueue::DeadLetter),
            (transfer_dead_letter, Subqueue::TransferDeadLetter),
        ] {
            let is_main = subqueue == Subqueue::Main;
            let definition = Definition {
                entity,
                dead_letter: is_main.then_some(dead_letter),
                transfer_dead_letter: is_main.then_some(transfer_dead_letter),
                path: path.with_subqueue(subqueue),
                kind,
                settings: settings.clone(),
                created_at: at,
                updated_at: at,
            };
            assert_eq!(self.queues.len(), entity.0 as usize, "ids are given in order");
            self.queues.push(Some(Box::new(Queue::new(definition))));
            self.persist_definition(entity);
            rows::persist_numbers(entity, &Numbers::new(at), &mut self.batch);
            self.touch(entity);
        }
        self.namespace.insert(path, entities);
        self.enter_kind(main, kind);
    }

    /// Drops what memory holds of an entity that is gone. Its receivers were closed before; clients
    /// that wait for a read learn of it when the read is done.
    fn forget(&mut self, entity: EntityId) {
        let Some(queue) = self.queues.get_mut(entity.0 as usize).and_then(Option::take) else {
            return;
        };
        assert_eq!(queue.receiver_count(), 0, "receivers are told before their entity goes");
        self.memory -= queue.memory();
        self.tally_of_gone += &queue.tally;
        self.fingerprint_bytes -= queue.fingerprint_bytes();
        if queue.duplicates.as_ref().is_some_and(Duplicates::has_row) {
            rows::duplicates::remove_buckets(entity, &mut self.batch);
        }
        self.leave_kind(&queue);
        self.deadlines.forget(&queue);
        self.reads.retain(|_, purpose| purpose.owner() != Some(entity));
        if queue.definition.dead_letter.is_some() {
            self.namespace.remove(&queue.definition.path);
        }
    }

    fn has_bucket_row(&self, entity: EntityId) -> bool {
        self.queue(entity)
            .is_ok_and(|queue| queue.duplicates.as_ref().is_some_and(Duplicates::has_row))
    }

    fn persist_buckets(&mut self, entity: EntityId) {
        if let Some(queue) = queue_mut(&mut self.queues, entity)
            && let Some(duplicates) = &queue.duplicates
        {
            rows::duplicates::persist_buckets(entity, duplicates, &mut self.batch);
        }
    }

    fn persist_definition(&mut self, entity: EntityId) {
        if let Some(queue) = queue_mut(&mut self.queues, entity) {
            rows::persist_definition(&queue.definition, &mut self.batch);
        }
    }

    pub(super) fn apply(
        &mut self,
        entity: EntityId,
        change: &Change,
        position: CommitPosition,
    ) -> Traces {
        let traces = self.alter(entity, |queue, room| match change {
            Change::DeadLettered {
                to,
                sequence,
                attempts,
                message,
                application_properties,
                ..
            } if *to == entity => {
                let section = application_properties;
                queue.apply_arrival(*sequence, *attempts, message, section, position, room);
                Traces::default()
            }
            Change::QueueCreated { .. }
            | Change::QueueDeleted { .. }
            | Change::SettingsChanged { .. }
            | Change::Accepted { .. }
            | Change::Passed { .. }
            | Change::BucketOpened { .. }
            | Change::Remembered { .. }
            | Change::BucketsForgotten { .. }
            | Change::OfTopic(_)
            | Change::Scheduled { .. }
            | Change::Unscheduled { .. }
            | Change::Deferred { .. }
            | Change::Fetched { .. }
            | Change::Locked { .. }
            | Change::Renewed { .. }
            | Change::Enlisted { .. }
            | Change::Withdrawn { .. }
            | Change::Returned { .. }
            | Change::Removed { .. }
            | Change::DeadLettered { .. }
            | Change::Lost { .. }
            | Change::OfSession { .. } => queue.apply(change, position, room),
        });
        match change {
            Change::Locked { .. }
            | Change::Fetched { .. }
            | Change::Renewed { .. }
            | Change::Enlisted { .. }
            | Change::Withdrawn { .. } => {}
            Change::BucketOpened { .. }
            | Change::Remembered { .. }
            | Change::BucketsForgotten { .. } => self.wake(entity),
            Change::OfSession { change, .. } if !change.is_written() => self.wake(entity),
            Change::OfSession { .. }
            | Change::OfTopic(_)
            | Change::QueueCreated { .. }
            | Change::QueueDeleted { .. }
            | Change::SettingsChanged { .. }
            | Change::Accepted { .. }
            | Change::Passed { .. }
            | Change::Scheduled { .. }
            | Change::Unscheduled { .. }
            | Change::Deferred { .. }
            | Change::Returned { .. }
            | Change::Removed { .. }
            | Change::DeadLettered { .. }
            | Change::Lost { .. } => self.touch(entity),
        }
        traces
    }

    /// Changes a queue by a fact, and keeps account of what that means for others.
    pub(super) fn alter(
        &mut self,
        entity: EntityId,
        apply: impl FnOnce(&mut Queue, Room) -> Traces,
    ) -> Traces {
        let room = self.room();
        let queue = queue_mut(&mut self.queues, entity).expect("facts are about entities we have");
        let (before, bytes_before) = (queue.memory(), queue.own_bytes());
        let fingerprints_before = queue.fingerprint_bytes();
        let traces = apply(queue, room);
        self.memory = self.memory - before + queue.memory();
        self.fingerprint_bytes =
            self.fingerprint_bytes - fingerprints_before + queue.fingerprint_bytes();
        let (bytes, next) = (queue.own_bytes(), queue.next_sequence());
        let Definition { kind, dead_letter, .. } = queue.definition;
        if let Some(sessions) = &mut queue.sessions {
            rows::persist_session_index(entity, sessions.take_index_changes(), &mut self.batch);
        }
        if let EntityKind::Subscription { topic: of } = kind {
            if let Some(topic) = self.topics.get_mut(of) {
                topic.bytes = topic.bytes - bytes_before + bytes;
            }
            // Its number for a message that they share is above all that they gave before.
            if dead_letter.is_some()
                && queue_mut(&mut self.queues, of).is_some_and(|topic| topic.skip_to(next))
            {
                self.touch(of);
            }
        }
        traces
    }

    /// Notes that an entity's row changes, and that it may have something to give out.
    pub(super) fn touch(&mut self, entity: EntityId) {
        let Some(queue) = queue_mut(&mut self.queues, entity) else { return };
        if !queue.dirty {
            queue.dirty = true;
            self.dirty.push(entity);
        }
        self.wake(entity);
    }

    /// Notes that an entity may have something to give out.
    pub(super) fn wake(&mut self, entity: EntityId) {
        if self.touched.last() != Some(&entity) {
            self.touched.push(entity);
        }
    }

    /// Lets something be done to a queue that may change how much memory it takes.
    pub(super) fn with_queue<T>(
        &mut self,
        entity: EntityId,
        act: impl FnOnce(&mut Queue) -> T,
    ) -> Option<T> {
        let queue = queue_mut(&mut self.queues, entity)?;
        let before = queue.memory();
        let result = act(queue);
        self.memory = self.memory - before + queue.memory();
        Some(result)
    }

    fn room(&self) -> Room {
        Room {
            settings: self.settings,
            full: self.settings.cache_bytes_max <= self.resident_bytes(),
            tight: self.settings.cache_bytes_max / 2 <= self.resident_bytes(),
        }
    }
}
