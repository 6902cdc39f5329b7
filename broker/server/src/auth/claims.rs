//! What one connection has been granted so far.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;

use super::{Authority, CertificateName, Granted, IssuerKey, ResourcePath, Rights, Secret};

/// Audiences of one connection. A token each for 500 entities and their management nodes; beyond it
/// a token for the namespace is the better one.
const AUDIENCES_MAX: usize = 1000;

/// Grants of one connection, all its tokens together: a token of an identity provider has one for each place
/// that its roles are about, which are few.
const GRANTS_MAX: usize = 4 * AUDIENCES_MAX;

/// Names of one connection that are told.
const NAMES_SHOWN_MAX: usize = 3;

/// Rights on an audience until a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What the rights are about, and all below it.
    pub audience: ResourcePath,
    /// The rights.
    pub rights: Rights,
    /// The first moment at which they are gone; the end of the token and a grace.
    pub valid_until: Timestamp,
    /// What they came from.
    pub source: Credential,
}

impl Grant {
    /// Where it could be good at most, however narrow the token is that it came with.
    fn place(&self) -> &ResourcePath {
        match &self.source {
            Credential::Key { place, .. } | Credential::Certificate { place, .. } => place,
            Credential::Issuer(_) => &self.audience,
        }
    }
}

/// The credential that a grant came from. When it is withdrawn, so is the grant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// A key of a rule, by which a token was signed or which was a password.
    Key {
        /// The rule's name.
        rule: Arc<str>,
        /// Where the rule is.
        place: ResourcePath,
        /// The key.
        key: Secret,
    },
    /// A name in a certificate.
    Certificate {
        /// The name.
        name: CertificateName,
        /// Where the rule is that knows it.
        place: ResourcePath,
    },
    /// A key of an identity provider, by which a token was signed.
    Issuer(IssuerKey),
}

impl Credential {
    /// A name for everybody who has the same one. It holds no secret.
    fn identity(&self) -> String {
        match self {
            Self::Key { rule, place, .. } => format!("rule {rule} of {place}"),
            Self::Certificate { name, place } => format!("certificate {name:?} of {place}"),
            Self::Issuer(key) => key.identity(),
        }
    }
}

/// Whose it is. It shows no key.
impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { rule, place, .. } if *place == ResourcePath::default() => f.write_str(rule),
            Self::Key { rule, place, .. } => write!(f, "{rule} of {place}"),
            Self::Certificate { name, .. } => match name {
                CertificateName::CommonName(name)
                | CertificateName::Dns(name)
                | CertificateName::Uri(name)
                | CertificateName::Email(name) => f.write_str(name),
            },
            Self::Issuer(key) => key.fmt(f),
        }
    }
}

#[cfg(test)]
impl Credential {
    /// The well-known key of development mode.
    pub(crate) fn well_known() -> Self {
        let granted = Authority::new(Vec::new(), None, true)
            .verify_password("RootManageSharedAccessKey", b"SAS_KEY_VALUE");
        granted.into_iter().next().unwrap().source
    }
}

/// The grants of one connection. Empty at first: nothing is allowed.
#[derive(Debug, Default)]
pub struct Claims {
    /// By its user and password, as long as it lives, or by its certificate.
    connection: Vec<Grant>,
    /// By tokens, the newest for each audience.
    tokens: BTreeMap<ResourcePath, Vec<Grant>>,
}

/// The connection holds as many tokens as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("This connection has tokens for {AUDIENCES_MAX} audiences, which is all it may have.")]
pub struct TooManyClaims;

impl Claims {
    /// Adds what SASL has granted.
    pub fn grant_connection(&mut self, granted: Granted) {
        self.connection.extend(granted.into_grants());
    }

    /// Adds what a token grants. It takes the place of an older one for the same audience, also when
    /// it grants less: the caller then looks at the links that are open.
    pub fn grant(&mut self, grant: Grant, now: Timestamp) -> Result<(), TooManyClaims> {
        self.grant_all(grant.audience.clone(), vec![grant], now)
    }

    /// The same for a token that grants several things, whatever audience it was shown for; or nothing,
    /// which takes away what an older one granted.
    pub fn grant_all(
        &mut self,
        audience: ResourcePath,
        grants: Vec<Grant>,
        now: Timestamp,
    ) -> Result<(), TooManyClaims> {
        self.tokens.remove(&audience);
        self.forget_expired(now);
        let held: usize = self.tokens.values().map(Vec::len).sum();
        if AUDIENCES_MAX <= self.tokens.len() || GRANTS_MAX < held + grants.len() {
            return Err(TooManyClaims);
        }
        if !grants.is_empty() {
            self.tokens.insert(audience, grants);
        }
        Ok(())
    }

    /// Leaves what is good for an entity. A token may be for the address of a request, which goes on behind
    /// the entity's name, and might be below another one's, too.
    pub fn keep_only_for(&mut self, entity: &EntityPath) {
        let entity = ResourcePath::of_entity(entity);
        let is_good = |grant: &Grant| grant.place().covers(&entity);
        self.connection.retain(is_good);
        for grants in self.tokens.values_mut() {
            grants.retain(is_good);
        }
    }

    /// Whether nothing was granted, or nothing is left.
    pub fn is_empty(&self) -> bool {
        self.connection.is_empty() && self.tokens.is_empty()
    }

    /// Who the peer is, by the first credential it has shown.
    pub(crate) fn identity(&self) -> Option<String> {
        self.iter().next().map(|grant| grant.source.identity())
    }

    /// Who has proven to be here: the names of rules, certificates or subjects, some of them if there
    /// are many. Nothing before anybody has.
    pub fn who(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.iter().map(|grant| grant.source.to_string()) {
            if names.len() < NAMES_SHOWN_MAX && !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// When the next grant ends, also if that is past and it has not been forgotten yet.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.iter().map(|grant| grant.valid_until).filter(|end| *end != Timestamp(u64::MAX)).min()
    }

    /// Drops the grants that have ended.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.connection.retain(|grant| now < grant.valid_until);
        self.tokens.retain(|_, grants| {
            grants.retain(|grant| now < grant.valid_until);
            !grants.is_empty()
        });
    }

    /// Takes from each grant what its credential is not worth any more, or gives it what it is worth
    /// now. The caller then looks at the links that are open.
    pub fn look_again(&mut self, authority: &Authority) {
        let still_counts = |grant: &mut Grant| match authority.worth(grant) {
            Some(rights) => {
                grant.rights = rights;
                true
            }
            None => false,
        };
        self.connection.retain_mut(still_counts);
        self.tokens.retain(|_, grants| {
            grants.retain_mut(still_counts);
            !grants.is_empty()
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.connection.iter().chain(self.tokens.values().flatten())
    }
}
