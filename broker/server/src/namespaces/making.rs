//! Namespaces that tests make and drop while the broker runs.

use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peeklock_core::BrokerSettings;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tracing::info;

use super::limits::{MADE_CACHE_BYTES, MADE_MAX};
use super::{Common, Declared, Gone, Namespace, NamespaceName, Namespaces, Plan, open};
use crate::auth::{AccessRule, Authority, Rights, Secret};
use crate::clock::Clock;
use crate::config::Wanted;

/// Octets of a key, as in those of Service Bus.
const KEY_LEN: usize = 32;

/// What it takes to make one.
pub(crate) struct Maker {
    pub(crate) common: Common,
    pub(crate) core: BrokerSettings,
    /// Whether the clock of one can be steered that does not say.
    pub(crate) virtual_time: bool,
}

/// One that was made, for whoever wanted it. It cannot be shown by accident: there is a key in it.
pub(crate) struct Made {
    /// Its only rule, which is valid nowhere else.
    pub(crate) rule: String,
    pub(crate) key: String,
    pub(crate) virtual_time: bool,
}

/// Why none was made or dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("This broker was started without --test-control.")]
    Off,
    #[error("There is a namespace of this name already.")]
    Exists,
    #[error("There are {MADE_MAX} namespaces already, which is all there may be.")]
    TooMany,
    #[error("There is no namespace of this name that was made by a request.")]
    NotMade,
    #[error("The namespace cannot be made: {0:#}")]
    Failed(anyhow::Error),
}

/// One of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: NamespaceName,
    /// By a request, so that it can be dropped by one.
    pub(crate) made: bool,
    pub(crate) connections: usize,
}

impl Namespaces {
    /// Makes one in memory, with a key of its own.
    pub(crate) async fn make(
        &self,
        name: NamespaceName,
        wanted: Wanted,
    ) -> Result<Made, MakeError> {
        let maker = self.0.maker.as_ref().ok_or(MakeError::Off)?;
        self.check_room(&name)?;
        let failed = |error: anyhow::Error| MakeError::Failed(error);
        let mut bytes = [0; KEY_LEN];
        OsRng.try_fill_bytes(&mut bytes).map_err(|error| failed(error.into()))?;
        let key = STANDARD.encode(bytes);
        let rule = name.as_str().to_owned();
        let access =
            AccessRule::new(rule.clone(), Secret::new(key.clone()), None, Rights::MANAGE, None);
        let virtual_time = wanted.virtual_time.unwrap_or(maker.virtual_time);
        let cache_bytes_max = MADE_CACHE_BYTES.min(maker.core.cache_bytes_max);
        let window_bytes_max = maker.core.window_bytes_max.min(cache_bytes_max / 8);
        let plan = Plan {
            hosts: Vec::new(),
            authority: Arc::new(Authority::new(vec![access], None, false)),
            store: open::memory(),
            clock: if virtual_time { Clock::steerable() } else { Clock::real() },
            core: BrokerSettings { cache_bytes_max, window_bytes_max, ..maker.core },
            declared: Declared { queues: wanted.queues, topics: wanted.topics },
            made: true,
        };
        let namespace = Namespace::start(&maker.common, plan).map_err(failed)?;
        if let Err(error) = self.add_made(name, Arc::clone(&namespace)) {
            namespace.end().await;
            return Err(error);
        }
        info!(namespace = rule, "a namespace was made");
        Ok(Made { rule, key, virtual_time })
    }

    /// Drops one that was made: it is found no more, its connections are closed, its memory is free.
    pub(crate) async fn drop_made(&self, name: &str) -> Result<(), MakeError> {
        if self.0.maker.is_none() {
            return Err(MakeError::Off);
        }
        let dropped = {
            let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
            if !others.get(name).is_some_and(|one| one.is_made()) {
                return Err(MakeError::NotMade);
            }
            others.remove(name)
        };
        if let Some(namespace) = dropped {
            namespace.tell(Gone::Dropped);
            namespace.end().await;
            info!(namespace = name, "a namespace was dropped");
        }
        Ok(())
    }

    /// All but the default one, by name.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = |(name, one): (&NamespaceName, &Arc<Namespace>)| Listed {
            name: name.clone(),
            made: one.is_made(),
            connections: one.connection_count(),
        };
        self.others().iter().map(listed).collect()
    }

    fn check_room(&self, name: &NamespaceName) -> Result<(), MakeError> {
        let others = self.others();
        if others.contains_key(name) {
            return Err(MakeError::Exists);
        }
        if MADE_MAX <= others.values().filter(|one| one.is_made()).count() {
            return Err(MakeError::TooMany);
        }
        Ok(())
    }

    /// Another request may have been quicker.
    fn add_made(&self, name: NamespaceName, namespace: Arc<Namespace>) -> Result<(), MakeError> {
        let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
        if MADE_MAX <= others.values().filter(|one| one.is_made()).count() {
            return Err(MakeError::TooMany);
        }
        match others.entry(name) {
            Entry::Vacant(free) => {
                free.insert(namespace);
                Ok(())
            }
            Entry::Occupied(_) => Err(MakeError::Exists),
        }
    }
}
