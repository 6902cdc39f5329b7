//! Several namespaces in one process, and how whoever connects comes to one of them.
//!
//! A namespace has a store, a core with its driver, keys and a clock of its own; of another one it
//! knows nothing. There is always the default one. Others are found, in this order, by
//!
//! 1. the host that the peer names (AMQP open, SASL init, TLS, HTTP), whatever the port: one of the
//!    namespace's hosts, or, for one that has none, its name as the first label;
//! 2. the key that has signed what the peer shows first: a SAS token, or name and key with SASL PLAIN.
//!
//! Whatever is not found so belongs to the default namespace. What the peer may do there is for the
//! namespace's own rules to say: finding one grants nothing.

pub mod limits;
mod making;
mod name;
mod namespace;
pub(crate) mod open;
mod place;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST};
use peeklock_storage::StoreError;

pub(crate) use self::making::{MakeError, Maker};
pub use self::name::NamespaceName;
pub(crate) use self::namespace::{Common, Gone, Namespace, Plan, Stay};
pub(crate) use self::open::Declared;
pub(crate) use self::place::{OtherNamespace, Place};
use crate::driver::Stopped;
use crate::http::authorize::SERVICE_BUS_AUTHORIZATION;

/// All there are. Clones share them.
#[derive(Clone)]
pub(crate) struct Namespaces(Arc<Directory>);

/// The same for what the namespaces themselves hold.
#[derive(Clone)]
pub(crate) struct WeakNamespaces(Weak<Directory>);

impl WeakNamespaces {
    /// Nothing once the broker has stopped.
    pub(crate) fn upgrade(&self) -> Option<Namespaces> {
        self.0.upgrade().map(Namespaces)
    }
}

struct Directory {
    default: Arc<Namespace>,
    /// If more may be made.
    maker: Option<Maker>,
    others: RwLock<BTreeMap<NamespaceName, Arc<Namespace>>>,
}

impl Namespaces {
    pub(crate) fn new(default: Arc<Namespace>, maker: Option<Maker>) -> Self {
        let directory = Arc::new(Directory { default, maker, others: RwLock::default() });
        let weak = WeakNamespaces(Arc::downgrade(&directory));
        directory.default.let_control(weak);
        Self(directory)
    }

    /// Adds one of which the name is free.
    pub(crate) fn add(&self, name: NamespaceName, namespace: Arc<Namespace>) {
        let mut others = self.0.others.write().unwrap_or_else(PoisonError::into_inner);
        others.insert(name, namespace);
    }

    pub(crate) fn default(&self) -> &Arc<Namespace> {
        &self.0.default
    }

    /// All but the default one, by name.
    pub(crate) fn further(&self) -> Vec<(NamespaceName, Arc<Namespace>)> {
        let others = self.others();
        others.iter().map(|(name, one)| (name.clone(), Arc::clone(one))).collect()
    }

    /// The one that a host names, with or without a port.
    pub(crate) fn by_host(&self, host: &str) -> Option<Arc<Namespace>> {
        let others = self.others();
        if others.is_empty() {
            return None;
        }
        let host = without_port(host).to_ascii_lowercase();
        let named = others.values().find(|one| one.hosts().contains(&host));
        let by_label = || {
            // The numbers of an address are no labels.
            let label = host.split('.').next().filter(|_| host.parse::<IpAddr>().is_err())?;
            others.get(label).filter(|one| one.hosts().is_empty())
        };
        named.or_else(by_label).cloned()
    }

    /// The one of which a key has signed a token, whatever else is wrong with the token.
    pub(crate) fn by_token(&self, token: &str, audience: &str) -> Option<Arc<Namespace>> {
        self.find(|one| one.has_signed(token, audience))
    }

    /// The one that has a rule with this name and key: the response of SASL PLAIN.
    pub(crate) fn by_plain(&self, response: Option<&[u8]>) -> Option<Arc<Namespace>> {
        self.find(|one| one.takes_plain(response))
    }

    /// The one that a request is for.
    pub(crate) fn of_request(&self, request: &Request) -> Arc<Namespace> {
        self.named_by(request).unwrap_or_else(|| Arc::clone(self.default()))
    }

    fn named_by(&self, request: &Request) -> Option<Arc<Namespace>> {
        if self.others().is_empty() {
            return None;
        }
        let headers = request.headers();
        let host = match headers.get(HOST) {
            Some(host) => host.to_str().ok()?,
            None => request.uri().authority()?.as_str(),
        };
        self.by_host(host).or_else(|| {
            let token = headers.get(AUTHORIZATION).or(headers.get(SERVICE_BUS_AUTHORIZATION))?;
            let path = request.uri().path();
            self.by_token(token.to_str().ok()?, &format!("https://{host}{path}"))
        })
    }

    /// The default one is asked first: it is what most mean.
    fn find(&self, fits: impl Fn(&Namespace) -> bool) -> Option<Arc<Namespace>> {
        let others = self.others();
        if others.is_empty() || fits(self.default()) {
            return None;
        }
        others.values().find(|one| fits(one)).cloned()
    }

    /// All there are, the default one first.
    pub(crate) fn all(&self) -> Vec<Arc<Namespace>> {
        let others = self.others().values().cloned().collect::<Vec<_>>();
        std::iter::once(Arc::clone(self.default())).chain(others).collect()
    }

    /// Tells the peers of all to come back later.
    pub(crate) fn tell_all(&self, why: Gone) {
        self.default().tell(why);
        self.others().values().for_each(|one| one.tell(why));
    }

    /// Stops all drivers and closes all stores. Tells the first failure, and goes on.
    pub(crate) async fn stop(&self) -> Result<Result<(), StoreError>, Stopped> {
        let others: Vec<_> = self.others().values().cloned().collect();
        let mut result = Ok(Ok(()));
        for one in others.iter().chain([self.default()]) {
            let closed = one.stop().await;
            if matches!(result, Ok(Ok(()))) {
                result = closed;
            }
        }
        result
    }

    fn others(&self) -> RwLockReadGuard<'_, BTreeMap<NamespaceName, Arc<Namespace>>> {
        self.0.others.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host as others write it too. The colons inside `[::1]` are not that of a port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && !host.ends_with(':') => host,
        _ => host,
    }
}
