//! The life of entities: creating, changing, deleting and describing them.

use std::ops::Range;

use super::{Broker, queue_mut};
use crate::change::Change;
use crate::effect::{ClosedLinks, Counts, EffectKind, QueueDescription, Reply};
use crate::entity::access::{self, AccessRule, AccessRuleChange};
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::{EntityPath, Subqueue};
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::id::EntityId;
use crate::queue::Queue;

impl Broker {
    /// For queues that are declared together, in any order: where they forward to need not be there
    /// yet.
    pub(super) fn ensure_queue(
        &mut self,
        path: EntityPath,
        settings: QueueSettings,
    ) -> Result<Reply, Error> {
        check_name(&path)?;
        check_settings(&path, &settings)?;
        match self.namespace.queue(&path) {
            Some(_) => {
                let entities = self.named_queue(&path)?;
                let settings = self.as_declared(entities, settings)?;
                self.change_queue(entities, settings).map(ensured)
            }
            None => self.new_entity(path, EntityKind::Queue, settings).map(ensured),
        }
    }

    pub(super) fn create_queue(
        &mut self,
        path: EntityPath,
        settings: QueueSettings,
    ) -> Result<Reply, Error> {
        check_name(&path)?;
        check_settings(&path, &settings)?;
        if self.namespace.queue(&path).is_some() {
            return Err(Error::EntityExists(path.to_string()));
        }
        self.check_targets(&settings)?;
        self.new_entity(path, EntityKind::Queue, settings).map(ensured)
    }

    pub(super) fn update_queue(
        &mut self,
        path: &EntityPath,
        settings: QueueSettings,
        access_rules: Option<Vec<AccessRuleChange>>,
    ) -> Result<Reply, Error> {
        let entities = self.named_queue(path)?;
        let settings = self.as_updated(entities, settings, access_rules)?;
        check_settings(path, &settings)?;
        self.check_targets(&settings)?;
        self.check_fixed(entities, &settings)?;
        self.note_use(entities.main);
        self.change_queue(entities, settings).map(ensured)
    }

    pub(super) fn delete_queue(&mut self, path: &EntityPath) -> Result<Reply, Error> {
        let entities = self.named_queue(path)?;
        self.remove_queue(entities);
        Ok(Reply::QueueDeleted)
    }

    pub(super) fn describe_queue(&self, path: &EntityPath) -> Result<Reply, Error> {
        let entities = self.named_queue(path)?;
        Ok(Reply::QueueDescribed(Box::new(self.describe(entities)?)))
    }

    /// What anything is like that has subqueues.
    pub(super) fn describe(&self, entities: QueueEntities) -> Result<QueueDescription, Error> {
        let queue = self.queue(entities.main)?;
        let mut accessed_at = queue.accessed_at;
        for subqueue in [entities.dead_letter, entities.transfer_dead_letter] {
            accessed_at = accessed_at.max(self.queue(subqueue)?.accessed_at);
        }
        let definition = &queue.definition;
        Ok(QueueDescription {
            path: definition.path.clone(),
            settings: definition.settings.clone(),
            created_at: definition.created_at,
            updated_at: definition.updated_at,
            accessed_at,
            counts: self.counts(entities)?,
            bytes: self.held_bytes(entities)?,
        })
    }

    /// Messages of a queue, by kind.
    pub(crate) fn counts(&self, entities: QueueEntities) -> Result<Counts, Error> {
        let queue = self.queue(entities.main)?;
        let all_of =
            |entity| self.queue(entity).map(|queue| queue.count() + queue.deferred_count());
        Ok(Counts {
            active: queue.count() + queue.deferred_count(),
            deferred: queue.deferred_count(),
            dead_letter: all_of(entities.dead_letter)?,
            scheduled: queue.scheduled_count(),
            // What is passed on leaves one entity and reaches the other in one commit.
            transfer: 0,
            transfer_dead_letter: all_of(entities.transfer_dead_letter)?,
        })
    }

    /// Octets of everything a queue and its subqueues hold, or a topic and its subscriptions: what its
    /// quota is about.
    pub(crate) fn held_bytes(&self, entities: QueueEntities) -> Result<u64, Error> {
        let mut bytes = self.topics.get(entities.main).map_or(0, |topic| topic.bytes);
        for entity in entities.all() {
            bytes = bytes.saturating_add(self.queue(entity)?.bytes());
        }
        Ok(bytes)
    }

    /// The queue of that path, which is a queue's own.
    fn named_queue(&self, path: &EntityPath) -> Result<QueueEntities, Error> {
        self.of_kind(path, |kind| kind == EntityKind::Queue)
    }

    /// Messages go on to queues and topics, not to subscriptions.
    pub(super) fn check_targets(&self, settings: &QueueSettings) -> Result<(), Error> {
        let targets = [&settings.forward_to, &settings.forward_dead_letters_to];
        for target in targets.into_iter().flatten() {
            self.of_kind(target, |kind| matches!(kind, EntityKind::Queue | EntityKind::Topic))?;
        }
        Ok(())
    }

    pub(super) fn new_entity(
        &mut self,
        path: EntityPath,
        kind: EntityKind,
        mut settings: QueueSettings,
    ) -> Result<EntityId, Error> {
        // Subscriptions have a limit of their own.
        let is_free = matches!(kind, EntityKind::Subscription { .. }) || path.is_probe();
        let count = self.namespace.queue_count() - self.topics.subscription_count();
        if self.settings.queues_max <= count && !is_free {
            return Err(Error::QuotaExceeded("There are too many entities."));
        }
        let next = self.free_ids(3)?;
        let [entity, dead_letter, transfer_dead_letter] =
            [0, 1, 2].map(|offset| EntityId(next.start.0 + offset));
        access::stamp(&mut settings.access_rules, &[], self.now);
        self.tell_access(&path, &[], &settings.access_rules);
        self.commit(&Change::QueueCreated {
            entity,
            dead_letter,
            transfer_dead_letter,
            path,
            kind,
            settings: Box::new(settings),
            at: self.now,
        });
        Ok(entity)
    }

    /// So many ids that no entity has had.
    pub(super) fn free_ids(&self, count: usize) -> Result<Range<EntityId>, Error> {
        let end = self.queues.len().checked_add(count);
        let ids = |end: usize| {
            let (start, end) = (u32::try_from(self.queues.len()).ok()?, u32::try_from(end).ok()?);
            (end < u32::MAX).then_some(EntityId(start)..EntityId(end))
        };
        end.and_then(ids).ok_or(Error::NotAllowed("There are no numbers left for entities."))
    }

    /// Who declares an entity does not say whether it is partitioned; who changes it does.
    pub(super) fn check_fixed(
        &self,
        entities: QueueEntities,
        settings: &QueueSettings,
    ) -> Result<(), Error> {
        let before = self.queue(entities.main)?.settings();
        if before.remarks.partitioned != settings.remarks.partitioned {
            return Err(Error::InvalidArgument(
                "The value of the property EnablePartitioning cannot be changed.",
            ));
        }
        Ok(())
    }

    /// The settings of an entity that is there, when it is declared: who may do what is not declared
    /// with it, so that stays as clients have set it.
    pub(super) fn as_declared(
        &self,
        entities: QueueEntities,
        settings: QueueSettings,
    ) -> Result<QueueSettings, Error> {
        self.as_updated(entities, settings, None)
    }

    /// The settings of an entity that is there, when it is changed. What its access rules keep is looked
    /// up here and not by whoever asks: another change may come between a look and a wish, and what it
    /// has taken away must not come back.
    pub(super) fn as_updated(
        &self,
        entities: QueueEntities,
        settings: QueueSettings,
        access_rules: Option<Vec<AccessRuleChange>>,
    ) -> Result<QueueSettings, Error> {
        let before = &self.queue(entities.main)?.settings().access_rules;
        let access_rules = match access_rules {
            Some(changes) => changes.into_iter().map(|change| change.apply_to(before)).collect(),
            None => before.clone(),
        };
        Ok(QueueSettings { access_rules, ..settings })
    }

    pub(super) fn change_queue(
        &mut self,
        entities: QueueEntities,
        mut settings: QueueSettings,
    ) -> Result<EntityId, Error> {
        let queue = self.queue(entities.main)?;
        let (before, path) = (queue.settings(), queue.definition.path.clone());
        if before.requires_session != settings.requires_session {
            return Err(Error::InvalidArgument(
                "The value of the property RequiresSession cannot be changed.",
            ));
        }
        if before.duplicate_window.is_some() != settings.duplicate_window.is_some() {
            return Err(Error::InvalidArgument(
                "The value of the property RequiresDuplicateDetection cannot be changed.",
            ));
        }
        let at = self.now;
        let rules_before = before.access_rules.clone();
        access::stamp(&mut settings.access_rules, &rules_before, at);
        self.tell_access(&path, &rules_before, &settings.access_rules);
        for entity in entities.all() {
            if *self.queue(entity)?.settings() != settings {
                let settings = Box::new(settings.clone());
                self.commit(&Change::SettingsChanged { entity, settings, at });
                self.close_refused_links(entity);
            }
        }
        Ok(entities.main)
    }

    /// Deletes a queue or a topic, its subqueues and subscriptions, all they hold, and every link to
    /// them.
    pub(super) fn remove_queue(&mut self, entities: QueueEntities) {
        self.remove_subscriptions(entities.main);
        if let Ok(queue) = self.queue(entities.main) {
            let (path, before) = (queue.definition.path.clone(), &queue.settings().access_rules);
            self.tell_access(&path, &before.clone(), &[]);
        }
        let after = self.open_position();
        for entity in entities.all() {
            let Ok(queue) = self.queue(entity) else { continue };
            let error = Error::EntityNotFound(queue.definition.path.to_string());
            self.close_receivers(entity, &error);
            let scope = ClosedLinks::All;
            self.emit(after, EffectKind::EntityClosed { entity, scope, error });
        }
        let QueueEntities { main: entity, dead_letter, transfer_dead_letter } = entities;
        let was_used = self.queue(entity).is_ok_and(Queue::was_used);
        let deleted = Change::QueueDeleted { entity, dead_letter, transfer_dead_letter, was_used };
        self.commit(&deleted);
    }

    /// Tells the shell who may do what at an entity from now on, if that changes.
    fn tell_access(&mut self, path: &EntityPath, before: &[AccessRule], rules: &[AccessRule]) {
        if before != rules {
            let (path, rules) = (path.clone(), rules.to_vec());
            self.emit(self.open_position(), EffectKind::AccessChanged { path, rules });
        }
    }

    /// The access rules of all entities that have any.
    pub fn access_rules(&self) -> impl Iterator<Item = (&EntityPath, &[AccessRule])> {
        let definitions = self.queues.iter().flatten().map(|queue| &queue.definition);
        let own = definitions.filter(|definition| definition.path.subqueue() == Subqueue::Main);
        let rules = own.map(|own| (&own.path, own.settings.access_rules.as_slice()));
        rules.filter(|(_, rules)| !rules.is_empty())
    }

    /// Takes its receivers from an entity, and tells them why.
    pub(super) fn close_receivers(&mut self, entity: EntityId, error: &Error) {
        let after = self.open_position();
        let receivers = queue_mut(&mut self.queues, entity).map(|queue| {
            let mut ids = queue.receivers.ids();
            ids.extend(queue.browsers.ids());
            ids
        });
        for receiver in receivers.unwrap_or_default() {
            self.close_receiver(receiver);
            let error = error.clone();
            self.emit(after, EffectKind::ReceiverClosed { receiver, error });
        }
        self.close_session_receivers(entity, error);
    }
}

const fn ensured(entity: EntityId) -> Reply {
    Reply::QueueEnsured { entity }
}

fn check_name(path: &EntityPath) -> Result<(), Error> {
    if path.subqueue() != Subqueue::Main || EntityPath::for_new_entity(path.name()).is_err() {
        return Err(Error::InvalidArgument("The name of the queue is not valid."));
    }
    Ok(())
}

pub(super) fn check_settings(path: &EntityPath, settings: &QueueSettings) -> Result<(), Error> {
    settings.validate()?;
    let targets = [&settings.forward_to, &settings.forward_dead_letters_to];
    for target in targets.into_iter().flatten() {
        if target.subqueue() != Subqueue::Main {
            return Err(Error::InvalidArgument("Messages cannot be forwarded to a subqueue."));
        }
        if target == path {
            return Err(Error::InvalidArgument("A queue cannot forward messages to itself."));
        }
    }
    Ok(())
}
