//! Entities that go from one store to another together, as the broker of either store sees them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Broker;
use super::entities::check_settings;
use crate::entity::kind::EntityKind;
use crate::entity::namespace::QueueEntities;
use crate::entity::path::EntityPath;
use crate::entity::settings::QueueSettings;
use crate::error::Error;
use crate::id::EntityId;
use crate::topic::topic::Topic;

impl Broker {
    /// A queue; or a topic and behind it its subscriptions, in the order in which they were created.
    pub(crate) fn kin(&self, path: &EntityPath) -> Result<Vec<QueueEntities>, Error> {
        let root = self.of_kind(path, |_| true)?;
        if matches!(self.queue(root.main)?.definition.kind, EntityKind::Subscription { .. }) {
            return Err(Error::InvalidArgument("A subscription goes with its topic: name that."));
        }
        let subscriptions = self.topics.get(root.main).into_iter().flat_map(Topic::subscriptions);
        let theirs = subscriptions.map(|(entity, _)| Ok(self.queue(entity)?.entities()));
        std::iter::once(Ok(root)).chain(theirs).collect()
    }

    /// The ids that entities from elsewhere get, with three for each, if they can be here. How many
    /// there may be is not asked: that is for the configuration, and a broker that has more goes on.
    pub(crate) fn room_for<'p>(
        &self,
        arrivals: impl ExactSizeIterator<Item = (&'p EntityPath, &'p QueueSettings)>,
    ) -> Result<Range<EntityId>, Error> {
        let ids = self.free_ids(3 * arrivals.len())?;
        for (path, settings) in arrivals {
            check_settings(path, settings)?;
            if self.namespace.queue(path).is_some() {
                return Err(Error::EntityExists(path.to_string()));
            }
            // To JMS it is the same one, whatever its topic.
            if let Some(known) = self.namesake(path) {
                let path = &self.queue(known.main)?.definition.path;
                return Err(Error::EntityExists(path.to_string()));
            }
        }
        Ok(ids)
    }

    /// Which entity here has the path of which entity of another broker.
    pub(crate) fn namesakes(&self, other: &Broker) -> BTreeMap<EntityId, EntityId> {
        let here = |theirs: QueueEntities| {
            let path = &other.queue(theirs.main).ok()?.definition.path;
            Some((theirs.main, self.namespace.queue(path)?.main))
        };
        other.namespace.iter().filter_map(here).collect()
    }

    /// Whether there is an entity of that name.
    pub(crate) fn has(&self, path: &EntityPath) -> bool {
        self.namespace.queue(path).is_some()
    }
}
