//! The rules with their keys, and what they make of a token or a password.

use hmac::{Hmac, Mac};
use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::{Span, Timestamp};
use sha2::Sha256;

use super::audience::Audience;
use super::token::SasToken;
use super::{
    Certificate, CertificateRule, Grant, JwtIssuers, ResourcePath, Rights, Secret, TokenError,
};

/// The rule and key that clients of the Service Bus emulator have in their connection strings.
const DEV_RULE: &str = "RootManageSharedAccessKey";
const DEV_KEY: &str = "SAS_KEY_VALUE";

/// A name, two keys, and what whoever holds one of them may do where.
#[derive(Clone, Debug)]
pub struct AccessRule {
    name: String,
    primary_key: Secret,
    secondary_key: Option<Secret>,
    rights: Rights,
    /// The entity it belongs to; the namespace, when empty.
    place: ResourcePath,
}

impl AccessRule {
    /// A rule of the namespace, or of an entity and all below it.
    pub fn new(
        name: String,
        primary_key: Secret,
        secondary_key: Option<Secret>,
        rights: Rights,
        entity: Option<&EntityPath>,
    ) -> Self {
        let place = entity.map(ResourcePath::of_entity).unwrap_or_default();
        Self { name, primary_key, secondary_key, rights, place }
    }

    /// Whether two rules cannot be told apart by name and place.
    pub fn same_place(&self, other: &AccessRule) -> bool {
        self.name == other.name && self.place == other.place
    }

    fn keys(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.primary_key).chain(&self.secondary_key)
    }

    /// Whether one of the keys made the signature. Both are always computed.
    fn signed(&self, token: &SasToken<'_>) -> bool {
        self.keys().fold(false, |found, key| signed(key, token) | found)
    }
}

/// Whoever decides what a token or a password is worth.
#[derive(Debug)]
pub struct Authority {
    rules: Vec<AccessRule>,
    /// Clients known by their certificates.
    clients: Vec<CertificateRule>,
    /// Whose tokens are accepted besides our own.
    issuers: JwtIssuers,
    /// The hosts this namespace answers to, in lower case; any, when not given.
    hosts: Option<Vec<String>>,
}

impl Authority {
    /// How long a grant outlives its token: clocks of client and broker differ by some seconds.
    pub const GRACE: Span = Span::from_secs(5);

    /// With the rules given; in development also with the well-known one, unless a rule of the
    /// namespace has its name.
    pub fn new(rules: Vec<AccessRule>, hosts: Option<Vec<String>>, dev: bool) -> Self {
        let mut rules = rules;
        if dev {
            let key = Secret::new(DEV_KEY);
            let rule = AccessRule::new(DEV_RULE.to_owned(), key, None, Rights::MANAGE, None);
            if !rules.iter().any(|other| other.same_place(&rule)) {
                rules.push(rule);
            }
        }
        let lower = |host: String| host.to_lowercase();
        let hosts = hosts.map(|hosts| hosts.into_iter().map(lower).collect());
        Self { rules, clients: Vec::new(), issuers: JwtIssuers::default(), hosts }
    }

    /// Knows clients by their certificates as well.
    #[must_use]
    pub fn with_clients(mut self, clients: Vec<CertificateRule>) -> Self {
        self.clients = clients;
        self
    }

    /// Accepts the tokens of identity providers as well.
    #[must_use]
    pub fn with_issuers(mut self, issuers: JwtIssuers) -> Self {
        self.issuers = issuers;
        self
    }

    /// The identity providers whose tokens are accepted.
    pub fn issuers(&self) -> &JwtIssuers {
        &self.issuers
    }

    /// What a SAS token grants for an audience.
    pub fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<Grant, TokenError> {
        let token = SasToken::parse(token)?;
        let wanted = Audience::parse(audience).ok_or(TokenError::Audience)?;
        // A rule counts where it is valid. One that is unknown and one that did not sign are the same
        // to the peer: it need not learn which names exist.
        let signer = self
            .rules
            .iter()
            .filter(|rule| rule.name == token.rule && rule.place.covers(&wanted.path))
            .find(|rule| rule.signed(&token))
            .ok_or(TokenError::Signature)?;
        let expires_at = Timestamp(token.expires_at_seconds.saturating_mul(1000));
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        let covered = Audience::parse_form(token.resource).ok_or(TokenError::Audience)?;
        let at_home = self.is_home(&covered.host) && self.is_home(&wanted.host);
        if !at_home || !covered.path.covers(&wanted.path) {
            return Err(TokenError::Audience);
        }
        Ok(Grant {
            audience: wanted.path,
            rights: signer.rights,
            valid_until: expires_at.plus(Self::GRACE),
        })
    }

    /// What a rule's name and one of its keys grant, with no end. Rules of several entities may share
    /// a name and a key.
    pub(super) fn verify_password(&self, user: &str, password: &[u8]) -> Vec<Grant> {
        let matches = |rule: &&AccessRule| {
            rule.name == user && rule.keys().fold(false, |found, key| key.matches(password) | found)
        };
        let grant = |rule: &AccessRule| Grant {
            audience: rule.place.clone(),
            rights: rule.rights,
            valid_until: Timestamp(u64::MAX),
        };
        self.rules.iter().filter(matches).map(grant).collect()
    }

    /// What a certificate grants until it ends.
    pub(super) fn verify_certificate(&self, certificate: &Certificate) -> Vec<Grant> {
        self.clients.iter().filter_map(|rule| rule.grant(certificate)).collect()
    }

    /// Whether the namespace answers to a host, which is in lower case.
    pub(crate) fn is_home(&self, host: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|home| home == host))
    }
}

/// HMAC-SHA256 over the resource and the expiry as they were written, with a line feed between. The
/// key is its text: it looks like base64, and no client decodes it.
fn signed(key: &Secret, token: &SasToken<'_>) -> bool {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    mac.update(token.resource.as_bytes());
    mac.update(b"\n");
    mac.update(token.expiry.as_bytes());
    mac.verify_slice(&token.signature).is_ok()
}
