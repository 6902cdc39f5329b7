//! Tokens of identity providers: JSON Web Tokens, and the issuers whose tokens are accepted.
//!
//! A token is checked with the keys that its issuer had when it was last asked; nothing is asked while a
//! client waits. What a token may do is what its roles map to, whatever the client names when it shows it.

mod algorithm;
mod fetch;
mod issuer;
mod keys;
mod limits;
mod refresh;
mod roles;
#[cfg(test)]
mod tests;
mod token;
mod url;

use std::sync::Arc;
use std::time::Instant;

use peeklock_core::time::Timestamp;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::algorithm::Algorithm;
pub(crate) use self::fetch::{FetchError, post, tls as tls_client};
use self::issuer::Issuer;
pub use self::issuer::{IssuerKey, IssuerSettings};
pub use self::roles::RoleRule;
use self::token::Jwt;
pub(crate) use self::token::is_jwt;
pub use self::url::Url;
use super::audience::Audience;
use super::{Authority, Grant, ResourcePath, TokenError};

/// The issuers whose tokens are accepted. Without any, no such token is.
#[derive(Debug, Default)]
pub struct JwtIssuers(Vec<Arc<Issuer>>);

impl JwtIssuers {
    /// Knows issuers, and none of their keys yet.
    pub fn new(issuers: Vec<IssuerSettings>) -> Self {
        Self(issuers.into_iter().map(|settings| Arc::new(Issuer::new(settings))).collect())
    }

    /// What a token grants.
    pub(super) fn verify(
        &self,
        token: &str,
        now: Timestamp,
        at: Instant,
    ) -> Result<Vec<Grant>, TokenError> {
        if self.0.is_empty() {
            return Err(TokenError::NoIssuers);
        }
        let token = Jwt::parse(token)?;
        let name = token.claims.issuer().ok_or(TokenError::Issuer)?;
        let issuer = self.0.iter().find(|issuer| issuer.settings.issuer == name);
        issuer.ok_or(TokenError::Issuer)?.verify(&token, now, at)
    }

    /// Whether a key is still one of its issuer's.
    pub(super) fn has(&self, key: &IssuerKey) -> bool {
        let issuer = self.0.iter().find(|issuer| *issuer.settings.issuer == *key.issuer);
        issuer.is_some_and(|issuer| issuer.has(&key.public))
    }

    /// Asks for keys from now on, until the broker stops, and says when there are others. Fails when a file
    /// of the configuration is of no use.
    pub(super) fn start(
        &self,
        tasks: &TaskTracker,
        stop: &watch::Receiver<bool>,
        changed: impl Fn() + Clone + Send + Sync + 'static,
    ) -> anyhow::Result<FirstAnswers> {
        let mut first = Vec::new();
        for issuer in &self.0 {
            if let Some(ca_file) = &issuer.settings.ca_file {
                fetch::tls(Some(ca_file))?;
            }
            let (asked, answered) = watch::channel(false);
            let changed = changed.clone();
            tasks.spawn(refresh::run(Arc::clone(issuer), changed, asked, stop.clone()));
            first.push(answered);
        }
        Ok(FirstAnswers(first))
    }
}

/// The first answers of issuers, good or bad.
pub(crate) struct FirstAnswers(Vec<watch::Receiver<bool>>);

impl FirstAnswers {
    /// Waits for those of all, but not for ever.
    pub(crate) async fn wait(all: Vec<Self>) {
        let answered = async {
            for mut answered in all.into_iter().flat_map(|one| one.0) {
                // One that stopped gives no answer, and then nobody waits.
                let _ = answered.wait_for(|answered| *answered).await;
            }
        };
        // What is late was complained of by the task that waits for it, or will be.
        let _ = tokio::time::timeout(refresh::FIRST_WITHIN, answered).await;
    }
}

impl Authority {
    /// What a token of an identity provider grants, and the audience it was shown for. It may grant
    /// nothing: then it takes away what an older one for this audience granted.
    pub fn verify_jwt(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<(ResourcePath, Vec<Grant>), TokenError> {
        let wanted = Audience::parse(audience).ok_or(TokenError::Audience)?;
        if !self.is_home(&wanted.host) {
            return Err(TokenError::Audience);
        }
        let grants = self.issuers().verify(token, now, Instant::now())?;
        Ok((wanted.path, grants))
    }
}
