//! One request on its way: what it is about, and what it may ask the core.

use peeklock_core::command::Command;
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::entity::settings::QueueSettings;
use peeklock_core::error::Error;
use peeklock_core::id::Origin;
use peeklock_core::time::Timestamp;

use super::super::authorize::Caller;
use super::super::gateway::Gateway;
use super::entry::Entry;
use super::error::Fault;
use super::paths::{Page, Query};

/// See the module.
pub(super) struct Call<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) gateway: &'a Gateway,
    /// Decoded, without slashes at its ends.
    pub(super) path: &'a str,
    pub(super) query: Query,
}

/// What becomes of the thing that is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Intent {
    Read,
    Create,
    Update,
}

impl Intent {
    /// An answer to a change does not say when the thing was created.
    pub(super) fn published(self, created_at: Timestamp) -> Option<Timestamp> {
        (self != Intent::Update).then_some(created_at)
    }
}

/// Whether there was something to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Yes,
    No,
}

impl Found {
    pub(super) fn of(deleted: Result<Reply, Error>) -> Result<Self, Fault> {
        match deleted {
            Ok(_) => Ok(Found::Yes),
            Err(error) if is_missing(&error) => Ok(Found::No),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) const fn is_missing(error: &Error) -> bool {
    matches!(error, Error::EntityNotFound(_))
}

/// A page of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    pub(super) title: &'static str,
    pub(super) entries: Vec<Entry>,
    /// The page behind it, if there is one.
    pub(super) next: Option<Page>,
}

impl Listed {
    /// Of one entry more than the page has, if there are as many.
    pub(super) fn new(title: &'static str, page: Page, mut entries: Vec<Entry>) -> Self {
        let next = (page.top < entries.len())
            .then_some(Page { skip: page.skip.saturating_add(page.top), top: page.top });
        entries.truncate(page.top);
        Listed { title, entries, next }
    }
}

impl Call<'_> {
    pub(super) fn host(&self) -> &str {
        self.caller.host
    }

    /// What was asked for, as an address.
    pub(super) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/{}{}", self.host(), self.path, self.query.show())
    }

    pub(super) async fn ask(
        &self,
        command: impl FnOnce(Origin) -> Command,
    ) -> Result<Reply, Error> {
        self.gateway.ask(command).await
    }

    /// Asks for a change of the thing itself. That something else is missing is the request's fault.
    pub(super) async fn change(
        &self,
        own: &EntityPath,
        command: impl FnOnce(Origin) -> Command,
    ) -> Result<(), Fault> {
        match self.ask(command).await {
            Ok(_) => Ok(()),
            Err(Error::EntityNotFound(missing)) if is_elsewhere(own, &missing) => {
                let text = format!("There is no queue or topic '{missing}' to forward to.");
                Err(Fault::invalid(text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whoever lets an entity forward messages has to be allowed to send where they go.
    pub(super) fn check_targets(&self, settings: &QueueSettings) -> Result<(), Fault> {
        let targets = [&settings.forward_to, &settings.forward_dead_letters_to];
        for target in targets.into_iter().flatten() {
            self.caller.may_forward_to(target)?;
        }
        Ok(())
    }
}

/// Whether a path is neither that of an entity nor that of its topic.
fn is_elsewhere(own: &EntityPath, path: &str) -> bool {
    let same = |own: &EntityPath| own.to_string().eq_ignore_ascii_case(path);
    !same(own) && !own.subscription().is_some_and(|(topic, _)| same(&topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_topic_is_not_a_missing_target() {
        let topic = EntityPath::for_new_entity("orders").unwrap();
        let own = EntityPath::for_new_subscription(&topic, "s").unwrap();
        assert!(!is_elsewhere(&own, "Orders"));
        assert!(!is_elsewhere(&own, "orders/subscriptions/S"));
        assert!(is_elsewhere(&own, "orders/s"));
        assert!(is_elsewhere(&topic, "order"));
    }
}
