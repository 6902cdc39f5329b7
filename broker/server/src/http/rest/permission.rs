//! What a request may do, for as long as it is at it: rights are taken away and tokens end while
//! somebody waits.

use axum::http::HeaderMap;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;

use super::super::authorize::{Caller, Unauthorized};
use super::Target;
use crate::amqp::EndpointSettings;
use crate::auth::{Claims, Operation};

/// See the module.
pub(super) struct Permission<'a> {
    settings: &'a EndpointSettings,
    headers: &'a HeaderMap,
    host: &'a str,
    operation: Operation,
    /// None if there can be none of this name.
    entity: Option<&'a EntityPath>,
    address: String,
}

impl<'a> Permission<'a> {
    /// For what the request is about. Nothing is allowed yet.
    pub(super) fn new(
        settings: &'a EndpointSettings,
        headers: &'a HeaderMap,
        host: &'a str,
        target: &'a Target,
    ) -> Self {
        let (operation, address) = (target.wish.operation(), target.resource());
        Self { settings, headers, host, operation, entity: target.entity.as_ref().ok(), address }
    }

    /// Whether it is allowed now.
    pub(super) fn check(&self) -> Result<(), Unauthorized> {
        self.claims().map(|_| ())
    }

    /// When its token ends, if it is allowed now.
    fn end(&self) -> Result<Timestamp, Unauthorized> {
        Ok(self.claims()?.next_expiry().unwrap_or(Timestamp(u64::MAX)))
    }

    /// What was shown, if it is allowed now.
    pub(super) fn claims(&self) -> Result<Claims, Unauthorized> {
        let Self { settings, headers, host, operation, entity, ref address } = *self;
        let caller = Caller {
            headers,
            authority: &settings.authority,
            host,
            now: settings.clock.now(),
            metrics: &settings.metrics,
        };
        match entity {
            Some(entity) => caller.may_touch(operation, entity, address),
            // There is nothing to do there.
            None => caller.may(operation, address).map(|()| Claims::default()),
        }
    }

    /// Waits until it is not allowed any more. A rule that changes, a clock that was moved and the end of
    /// the token are looked at as they come.
    pub(super) async fn withdrawn(&self) -> Unauthorized {
        let mut rules = self.settings.authority.changes();
        let mut clock = self.settings.clock.changes();
        loop {
            let end = match self.end() {
                Ok(end) => end,
                Err(why) => return why,
            };
            let left = self.settings.clock.until(end);
            tokio::select! {
                Ok(()) = rules.changed() => {}
                () = clock.changed() => {}
                () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {}
            }
        }
    }
}
