//! Where a connection belongs, as far as it has told.

use std::sync::Arc;

use super::{Namespace, Namespaces};

/// The namespace of one connection. It may change until the connection enters it: with its first
/// grant, or its first link that is more than the way to a grant.
pub(crate) struct Place {
    namespaces: Namespaces,
    namespace: Arc<Namespace>,
    /// A host has named it. Then no key is asked.
    is_named: bool,
    entered: bool,
    /// The connection was told that it has entered.
    told: bool,
}

/// The host that a peer names is another namespace's than the one that has let it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The host is that of another namespace than the one of the credentials.")]
pub(crate) struct OtherNamespace;

impl Place {
    /// Begins with what TLS or HTTP have told of the host.
    pub(crate) fn new(namespaces: Namespaces, host: Option<&str>) -> Self {
        let named = host.and_then(|host| namespaces.by_host(host));
        let is_named = named.is_some();
        let namespace = named.unwrap_or_else(|| Arc::clone(namespaces.default()));
        Self { namespaces, namespace, is_named, entered: false, told: false }
    }

    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// AMQP has named a host. That counts more than what TLS or HTTP have said: a proxy may be on the
    /// way.
    pub(crate) fn name(&mut self, host: &str) -> Result<(), OtherNamespace> {
        let Some(named) = self.namespaces.by_host(host) else { return Ok(()) };
        if self.entered && !Arc::ptr_eq(&named, &self.namespace) {
            return Err(OtherNamespace);
        }
        self.namespace = named;
        self.is_named = true;
        Ok(())
    }

    /// The peer shows a name and a key with SASL PLAIN.
    pub(crate) fn show_plain(&mut self, response: Option<&[u8]>) {
        self.look(|namespaces| namespaces.by_plain(response));
    }

    /// The peer shows a token.
    pub(crate) fn show_token(&mut self, token: &str, audience: &str) {
        self.look(|namespaces| namespaces.by_token(token, audience));
    }

    fn look(&mut self, find: impl Fn(&Namespaces) -> Option<Arc<Namespace>>) {
        if !self.entered && !self.is_named {
            let found = find(&self.namespaces);
            self.namespace = found.unwrap_or_else(|| Arc::clone(self.namespaces.default()));
        }
    }

    /// From now on it stays.
    pub(crate) fn enter(&mut self) {
        self.entered = true;
    }

    /// The namespace, once: when it has been entered.
    pub(crate) fn take_entered(&mut self) -> Option<Arc<Namespace>> {
        if !self.entered || self.told {
            return None;
        }
        self.told = true;
        Some(Arc::clone(&self.namespace))
    }
}
