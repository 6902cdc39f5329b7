//! The rules with their keys, and what they make of a token or a password.
//!
//! Rules come from the configuration and from entities, and both change while the broker runs. Whoever
//! holds a grant learns of it by [`Authority::changes`], and asks what it is still worth.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use hmac::{Hmac, Mac};
use peeklock_core::entity::access;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::{Span, Timestamp};
use sha2::Sha256;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::audience::Audience;
use super::token::SasToken;
use super::{
    Certificate, CertificateRule, Credential, FirstAnswers, Grant, JwtIssuers, ResourcePath,
    Rights, Secret, TokenError,
};

/// The rule and key that clients of the Service Bus emulator have in their connection strings.
const DEV_RULE: &str = "RootManageSharedAccessKey";
const DEV_KEY: &str = "SAS_KEY_VALUE";

/// A name, two keys, and what whoever holds one of them may do where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRule {
    name: Arc<str>,
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
        Self { name: name.into(), primary_key, secondary_key, rights, place }
    }

    /// A rule that an entity has in its settings.
    fn of_entity(rule: &access::AccessRule, place: ResourcePath) -> Self {
        let access::AccessRule { name, rights, primary_key, secondary_key, .. } = rule;
        let rights = Rights { send: rights.send, listen: rights.listen, manage: rights.manage };
        Self {
            name: name.clone(),
            primary_key: primary_key.into(),
            secondary_key: Some(secondary_key.into()),
            rights,
            place,
        }
    }

    /// Whether two rules cannot be told apart by name and place.
    pub fn same_place(&self, other: &AccessRule) -> bool {
        self.name == other.name && self.place == other.place
    }

    fn keys(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.primary_key).chain(&self.secondary_key)
    }

    /// The key that somebody proves to have. All are tried, so that the time does not tell which.
    fn proven(&self, proves: impl Fn(&Secret) -> bool) -> Option<&Secret> {
        self.keys().fold(None, |found, key| if proves(key) { Some(key) } else { found })
    }

    fn source(&self, key: &Secret) -> Credential {
        Credential::Key { rule: self.name.clone(), place: self.place.clone(), key: key.clone() }
    }
}

/// Names the rule, and shows nothing of its keys.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            place if *place == ResourcePath::default() => f.write_str(&self.name),
            place => write!(f, "{} of {place}", self.name),
        }
    }
}

/// What became of a rule of the configuration that was read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleChange {
    /// There is a new rule.
    Added(String),
    /// There is a rule less. What its keys granted is gone.
    Removed(String),
    /// A rule has another primary key, other rights, ….
    Changed {
        /// Which.
        rule: String,
        /// What of it.
        what: &'static str,
    },
    /// The clients with certificates are others, or have other rights.
    Clients,
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(rule) => write!(f, "rule {rule}: added"),
            Self::Removed(rule) => write!(f, "rule {rule}: removed"),
            Self::Changed { rule, what } => write!(f, "rule {rule}: {what} changed"),
            Self::Clients => f.write_str("clients with certificates changed"),
        }
    }
}

/// All there is to decide by.
#[derive(Clone, Debug, Default)]
struct Rules {
    /// Of the configuration; for the namespace and for entities.
    configured: Vec<AccessRule>,
    /// Clients known by their certificates.
    clients: Vec<CertificateRule>,
    /// What entities have in their settings, by where it is valid.
    of_entities: BTreeMap<String, Vec<AccessRule>>,
}

impl Rules {
    fn all(&self) -> impl Iterator<Item = &AccessRule> {
        self.configured.iter().chain(self.of_entities.values().flatten())
    }

    /// The rules that are valid for a path.
    fn covering<'a>(&'a self, path: &'a ResourcePath) -> impl Iterator<Item = &'a AccessRule> {
        let configured = self.configured.iter().filter(|rule| rule.place.covers(path));
        let above = path.and_above().filter_map(|path| self.of_entities.get(path));
        configured.chain(above.flatten())
    }
}

/// Whoever decides what a token or a password is worth.
#[derive(Debug)]
pub struct Authority {
    rules: RwLock<Rules>,
    /// Whose tokens are accepted besides our own. They do not change while the broker runs, but their keys do.
    issuers: JwtIssuers,
    /// The hosts this namespace answers to, in lower case; any, when not given.
    hosts: Option<Vec<String>>,
    /// Counts changes of what credentials are worth.
    generation: watch::Sender<u64>,
}

impl Authority {
    /// How long a grant outlives its token: clocks of client and broker differ by some seconds.
    pub const GRACE: Span = Span::from_secs(5);

    /// With the rules given; in development also with the well-known one, unless a rule of the
    /// namespace has its name.
    pub fn new(rules: Vec<AccessRule>, hosts: Option<Vec<String>>, dev: bool) -> Self {
        let mut configured = rules;
        if dev {
            let key = Secret::new(DEV_KEY);
            let rule = AccessRule::new(DEV_RULE.to_owned(), key, None, Rights::MANAGE, None);
            if !configured.iter().any(|other| other.same_place(&rule)) {
                configured.push(rule);
            }
        }
        let lower = |host: String| host.to_lowercase();
        let hosts = hosts.map(|hosts| hosts.into_iter().map(lower).collect());
        let rules = RwLock::new(Rules { configured, ..Rules::default() });
        Self { rules, issuers: JwtIssuers::default(), hosts, generation: watch::Sender::new(0) }
    }

    /// Knows clients by their certificates as well.
    #[must_use]
    pub fn with_clients(self, clients: Vec<CertificateRule>) -> Self {
        self.write().clients = clients;
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

    /// Asks identity providers for their keys from now on, until the broker stops. A key that is gone takes
    /// with it what it has granted.
    pub(crate) fn start_issuers(
        &self,
        tasks: &TaskTracker,
        stop: &watch::Receiver<bool>,
    ) -> anyhow::Result<FirstAnswers> {
        let generation = self.generation.clone();
        self.issuers.start(tasks, stop, move || count_up(&generation))
    }

    /// Tells of changes after which a credential may be worth less than before. Who holds grants then
    /// looks at them again with [`super::Claims::look_again`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Makes all who hold grants look at them again.
    pub(crate) fn note_change(&self) {
        count_up(&self.generation);
    }

    /// Takes the rules and clients of a configuration that was read again, and says what is different.
    pub(crate) fn adopt(&self, other: &Authority) -> Vec<RuleChange> {
        let (configured, clients) = {
            let other = other.read();
            (other.configured.clone(), other.clients.clone())
        };
        let changes = {
            let mut rules = self.write();
            let mut changes = differences(&rules.configured, &configured);
            if rules.clients != clients {
                changes.push(RuleChange::Clients);
            }
            rules.configured = configured;
            rules.clients = clients;
            changes
        };
        if !changes.is_empty() {
            self.note_change();
        }
        changes
    }

    /// Takes the rules that an entity has from now on; none when it is gone.
    pub(crate) fn set_rules_of(&self, entity: &EntityPath, rules: &[access::AccessRule]) {
        let place = ResourcePath::of_entity(entity);
        let rules: Vec<_> =
            rules.iter().map(|rule| AccessRule::of_entity(rule, place.clone())).collect();
        let is_news = {
            let mut known = self.write();
            let before = if rules.is_empty() {
                known.of_entities.remove(place.as_str()).unwrap_or_default()
            } else {
                known.of_entities.insert(place.to_string(), rules.clone()).unwrap_or_default()
            };
            before != rules
        };
        if is_news {
            self.note_change();
        }
    }

    /// Takes the rules of all entities there are, in the place of those it knew.
    pub(crate) fn set_rules_of_all<'a>(
        &self,
        entities: impl Iterator<Item = (&'a EntityPath, &'a [access::AccessRule])>,
    ) {
        let mut of_entities = BTreeMap::new();
        for (entity, rules) in entities.filter(|(_, rules)| !rules.is_empty()) {
            let place = ResourcePath::of_entity(entity);
            let rules = rules.iter().map(|rule| AccessRule::of_entity(rule, place.clone()));
            let rules = rules.collect();
            of_entities.insert(place.to_string(), rules);
        }
        self.write().of_entities = of_entities;
        self.note_change();
    }

    /// What a SAS token grants for an audience.
    pub fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<Grant, TokenError> {
        let token = SasToken::parse(token)?;
        let wanted = Audience::parse(audience).ok_or(TokenError::Audience)?;
        // A rule counts where it is valid. One that is unknown and one that did not sign are the same
        // to the peer: it need not learn which names exist.
        let (rights, source) = self
            .read()
            .covering(&wanted.path)
            .filter(|rule| *rule.name == *token.rule)
            .find_map(|rule| {
                let key = rule.proven(|key| signed(key, &token))?;
                Some((rule.rights, rule.source(key)))
            })
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
        let valid_until = expires_at.plus(Self::GRACE);
        Ok(Grant { audience: wanted.path, rights, valid_until, source })
    }

    /// What a rule's name and one of its keys grant, with no end. Rules of several entities may share
    /// a name and a key.
    pub(super) fn verify_password(&self, user: &str, password: &[u8]) -> Vec<Grant> {
        let grant = |rule: &AccessRule| {
            let key = rule.proven(|key| key.matches(password))?;
            Some(Grant {
                audience: rule.place.clone(),
                rights: rule.rights,
                valid_until: Timestamp(u64::MAX),
                source: rule.source(key),
            })
        };
        self.read().all().filter(|rule| *rule.name == *user).filter_map(grant).collect()
    }

    /// What a certificate grants until it ends.
    pub(super) fn verify_certificate(&self, certificate: &Certificate) -> Vec<Grant> {
        self.read().clients.iter().filter_map(|rule| rule.grant(certificate)).collect()
    }

    /// What whoever once proved a credential may do now: nothing when its rule or key is gone.
    pub(super) fn worth(&self, grant: &Grant) -> Option<Rights> {
        let rules = self.read();
        match &grant.source {
            Credential::Key { rule: name, place, key } => {
                let is_it = |rule: &&AccessRule| {
                    rule.name == *name && rule.place == *place && rule.keys().any(|own| own == key)
                };
                rules.all().filter(is_it).map(|rule| rule.rights).reduce(Rights::or)
            }
            Credential::Certificate { name, place } => {
                let own = rules.clients.iter().filter(|rule| rule.is_for(name, place));
                own.map(CertificateRule::rights).reduce(Rights::or)
            }
            // What roles are worth is as it was at the start.
            Credential::Issuer(key) => self.issuers.has(key).then_some(grant.rights),
        }
    }

    /// Who shows the token of a request, for the audit log: the rule that it names, if there is one of
    /// that name, or whom an issuer has vouched for. That a rule is named does not mean that its key has
    /// signed.
    pub(crate) fn who_shows(&self, token: &str, now: Timestamp) -> Option<String> {
        let bare = match token.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("Bearer") => rest.trim(),
            Some(_) | None => token,
        };
        if super::is_jwt(bare) {
            let grants = self.issuers.verify(bare, now, Instant::now()).ok()?;
            return grants.first().map(|grant| grant.source.to_string());
        }
        let rule = SasToken::parse(token).ok()?.rule;
        let is_known = self.read().all().any(|known| *known.name == *rule);
        is_known.then_some(rule)
    }

    /// Whether the namespace answers to a host, which is in lower case.
    pub(crate) fn is_home(&self, host: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|home| home == host))
    }

    fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rules> {
        self.rules.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_up(generation: &watch::Sender<u64>) {
    generation.send_modify(|generation| *generation = generation.wrapping_add(1));
}

fn differences(before: &[AccessRule], after: &[AccessRule]) -> Vec<RuleChange> {
    let missing =
        |rule: &&AccessRule, from: &[AccessRule]| !from.iter().any(|other| other.same_place(rule));
    let mut changes = Vec::new();
    for rule in before.iter().filter(|rule| missing(rule, after)) {
        changes.push(RuleChange::Removed(rule.to_string()));
    }
    for rule in after {
        let Some(old) = before.iter().find(|other| other.same_place(rule)) else {
            changes.push(RuleChange::Added(rule.to_string()));
            continue;
        };
        for (what, is_same) in [
            ("primary key", old.primary_key == rule.primary_key),
            ("secondary key", old.secondary_key == rule.secondary_key),
            ("rights", old.rights == rule.rights),
        ] {
            if !is_same {
                changes.push(RuleChange::Changed { rule: rule.to_string(), what });
            }
        }
    }
    changes
}

/// HMAC-SHA256 over the resource and the expiry as they were written, with a line feed between. The
/// key is its text: it looks like base64, and no client decodes it. The comparison takes the same time
/// whatever is wrong.
fn signed(key: &Secret, token: &SasToken<'_>) -> bool {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    mac.update(token.resource.as_bytes());
    mac.update(b"\n");
    mac.update(token.expiry.as_bytes());
    mac.verify_slice(&token.signature).is_ok()
}
