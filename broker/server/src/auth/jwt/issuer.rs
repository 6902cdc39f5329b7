//! An issuer whose tokens are accepted: what the configuration says of it, and the keys it has now.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use peeklock_core::time::{Span, Timestamp};
use tokio::sync::Notify;
use tracing::debug;

use super::super::{Credential, Grant, TokenError};
use super::algorithm::{Algorithm, PublicKey};
use super::keys::{Judged, KeySet};
use super::limits::UNKNOWN_KEY_PAUSE;
use super::roles::{self, RoleRule};
use super::token::Jwt;
use super::url::Url;

/// What the configuration says of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// Its name, as in the `iss` of its tokens.
    pub issuer: String,
    /// Whom its tokens must be for: one of these.
    pub audiences: Vec<String>,
    /// Where its keys are; found out from the issuer when not given.
    pub keys: Option<Url>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// The claims that hold roles.
    pub claims: Vec<String>,
    /// What the roles are worth.
    pub roles: Vec<RoleRule>,
    /// How much its clock and ours may differ.
    pub clock_skew: Span,
    /// The authorities that vouch for its server, in PEM; those of the operating system otherwise.
    pub ca_file: Option<PathBuf>,
    /// Whether it may be asked without TLS.
    pub plain_text: bool,
    /// How often its keys are asked for.
    pub refresh_every: Duration,
    /// How long keys are used when it gives no answer.
    pub keys_kept_for: Duration,
}

/// Characters of a subject that are kept, as many as issuers may use.
const SUBJECT_CHARS_MAX: usize = 255;

/// Claims that say whom a token was given to: the first of them that it has. All have `sub`; for the rest
/// there is what Microsoft Entra and others put beside it.
const SUBJECTS: [&str; 5] = ["sub", "oid", "azp", "appid", "client_id"];

/// Claims with the program that has asked for it. Where the subject is a number, this is what people know.
const CLIENTS: [&str; 3] = ["azp", "appid", "client_id"];

/// A key of an issuer, by which a token was signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuerKey {
    pub(super) issuer: Arc<str>,
    pub(super) public: Arc<PublicKey>,
    /// Whom it was given to, by the issuer's word.
    pub(super) subject: Option<Arc<str>>,
    /// The program that has asked for it, if that is somebody else.
    pub(super) client: Option<Arc<str>>,
}

/// Names the issuer, and whom it has vouched for.
impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.subject, &self.client) {
            (Some(subject), Some(client)) => write!(f, "{subject} ({client}) of {}", self.issuer),
            (Some(subject), None) => write!(f, "{subject} of {}", self.issuer),
            (None, _) => f.write_str(&self.issuer),
        }
    }
}

impl IssuerKey {
    /// A name for everybody whom the issuer takes for the same.
    pub(crate) fn identity(&self) -> String {
        match &self.subject {
            Some(subject) => format!("subject {subject:?} of issuer {}", self.issuer),
            None => format!("issuer {}", self.issuer),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    known: RwLock<Known>,
    /// A token names a key that is not known.
    pub(super) wanted: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The last good set, and when it was asked for.
    keys: Option<(KeySet, Instant)>,
    /// When they were last asked for because a token named one that is not among them.
    unknown_asked_at: Option<Instant>,
}

impl Issuer {
    pub(super) fn new(settings: IssuerSettings) -> Self {
        Self { settings, known: RwLock::default(), wanted: Notify::new() }
    }

    /// What a token of this issuer grants. `at` is the time that keys age by.
    pub(super) fn verify(
        &self,
        token: &Jwt<'_>,
        now: Timestamp,
        at: Instant,
    ) -> Result<Vec<Grant>, TokenError> {
        let public = self.check_signature(token, at)?;
        let claims = &token.claims;
        let valid_until = claims.valid_until(now, self.settings.clock_skew)?;
        if !claims.is_for(&self.settings.audiences) {
            return Err(TokenError::Audience);
        }
        let paths = self.settings.claims.iter();
        let names: HashSet<&str> = paths.flat_map(|path| claims.texts(path)).collect();
        let issuer = self.settings.issuer.as_str().into();
        let named = |claim: &str| {
            let name = *claims.texts(claim).first()?;
            let name: String = name.chars().take(SUBJECT_CHARS_MAX).collect();
            (!name.is_empty()).then(|| Arc::from(name))
        };
        let subject: Option<Arc<str>> = SUBJECTS.iter().find_map(|claim| named(claim));
        let client = CLIENTS.iter().find_map(|claim| named(claim));
        let client = client.filter(|client| subject.as_ref() != Some(client));
        let source = Credential::Issuer(IssuerKey { issuer, public, subject, client });
        Ok(roles::grants(&self.settings.roles, &names, valid_until, &source))
    }

    /// The key that has signed a token.
    fn check_signature(&self, token: &Jwt<'_>, at: Instant) -> Result<Arc<PublicKey>, TokenError> {
        let algorithm: Algorithm = token.header.alg.parse().map_err(|_| TokenError::Signature)?;
        if !self.settings.algorithms.contains(&algorithm) {
            debug!(issuer = self.settings.issuer, %algorithm, "the algorithm is not allowed");
            return Err(TokenError::Signature);
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let keys = match &known.keys {
            Some((keys, since))
                if at.saturating_duration_since(*since) < self.settings.keys_kept_for =>
            {
                keys
            }
            // Keys that are too old may have been withdrawn since. Nothing is believed without one.
            Some(_) | None => return Err(TokenError::KeysMissing),
        };
        let id = token.header.kid.as_deref();
        match keys.judge(id, algorithm, token.signed.as_bytes(), &token.signature) {
            Judged::Genuine(public) => Ok(public),
            Judged::Forged => Err(TokenError::Signature),
            Judged::UnknownKey => {
                let pause =
                    |asked: Instant| at.saturating_duration_since(asked) < UNKNOWN_KEY_PAUSE;
                if known.unknown_asked_at.is_some_and(pause) {
                    return Err(TokenError::Signature);
                }
                // The issuer may have a new key. Clients try again when they are told to.
                self.wanted.notify_one();
                Err(TokenError::KeysMissing)
            }
        }
    }

    /// Takes what an answer of the issuer came to. Without a good set the last one stays. Says whether
    /// there were other keys before.
    pub(super) fn take(&self, answer: Option<KeySet>, asked_at: Instant) -> bool {
        let Some(keys) = answer else { return false };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.keys.as_ref().is_none_or(|(old, _)| *old != keys);
        known.keys = Some((keys, asked_at));
        is_new
    }

    /// Whether a key is still one of its own, as far as we were told.
    pub(super) fn has(&self, public: &PublicKey) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.keys.as_ref().is_some_and(|(keys, _)| keys.has(public))
    }

    /// Whether there are keys that may be used.
    pub(super) fn has_keys(&self, at: Instant) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age = known.keys.as_ref().map(|(_, since)| at.saturating_duration_since(*since));
        age.is_some_and(|age| age < self.settings.keys_kept_for)
    }

    /// Keys are asked for because one is not known.
    pub(super) fn asks_for_unknown_key(&self, at: Instant) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.unknown_asked_at = Some(at);
    }

    /// How long to wait before an unknown key may be asked for.
    pub(super) fn pause(&self, at: Instant) -> Duration {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let asked = known.unknown_asked_at.map(|asked| at.saturating_duration_since(asked));
        asked.map_or(Duration::ZERO, |since| UNKNOWN_KEY_PAUSE.saturating_sub(since))
    }
}
