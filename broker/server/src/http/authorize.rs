//! What the tokens of a request grant. What that allows is [`auth::authorize`]'s to say.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;

use crate::auth::{self, Action, Authority, Claims, Denied, Operation, Resource, TokenError};
use crate::metrics::{AuthenticationFailure, Metrics};

/// Where programs put the token that cannot set `Authorization` themselves.
pub(crate) const SERVICE_BUS_AUTHORIZATION: &str = "servicebusauthorization";
/// Tokens for where an entity forwards to.
const SUPPLEMENTARY: &str = "servicebussupplementaryauthorization";
const DLQ_SUPPLEMENTARY: &str = "servicebusdlqsupplementaryauthorization";

/// Why a request may not do what it wants. The texts are for the peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unauthorized {
    #[error("40102: Missing authorization token.")]
    Missing,
    #[error("40105: MalformedToken: There is more than one authorization token.")]
    Several,
    #[error("40105: MalformedToken: The token is not text.")]
    NotText,
    #[error(
        "40105: MalformedToken: The token is neither a SharedAccessSignature nor a Bearer token."
    )]
    Scheme,
    #[error("{code}: {error}")]
    Token { code: u16, error: TokenError },
    #[error("40100: Unauthorized access. '{action}' claim(s) are required for this operation.")]
    Denied { action: Action },
}

impl Unauthorized {
    /// 401, unless the same token may be good a little later.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Token { error: TokenError::KeysMissing, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing
            | Self::Several
            | Self::NotText
            | Self::Scheme
            | Self::Token { .. }
            | Self::Denied { .. } => StatusCode::UNAUTHORIZED,
        }
    }
}

impl From<TokenError> for Unauthorized {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Signature
            | TokenError::NoIssuers
            | TokenError::Issuer
            | TokenError::NotYetValid => 40103,
            TokenError::KeysMissing => 50300,
            TokenError::Audience => 40104,
            TokenError::Malformed(_) => 40105,
            TokenError::Expired => 40106,
        };
        Self::Token { code, error }
    }
}

impl From<Denied> for Unauthorized {
    fn from(denied: Denied) -> Self {
        Self::Denied { action: denied.action }
    }
}

/// Who asks: the tokens of one request, and who is to judge them.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) authority: &'a Authority,
    /// The host that the request is for, with its port.
    pub(crate) host: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) metrics: &'a Metrics,
}

impl Caller<'_> {
    /// Allows an operation on a path below the host, decoded and without slashes at its ends. Whatever it
    /// takes, there must be a good token.
    pub(crate) fn may(self, operation: Operation, path: &str) -> Result<(), Unauthorized> {
        self.judge(operation, |caller| {
            let claims = caller.claims(caller.token()?, path)?;
            Ok(auth::authorize(&claims, operation, Resource::Path(path), caller.now)?)
        })
    }

    /// Counts what comes of a refusal.
    fn judge<T>(
        self,
        operation: Operation,
        judge: impl FnOnce(Self) -> Result<T, Unauthorized>,
    ) -> Result<T, Unauthorized> {
        judge(self).inspect_err(|refused| match refused {
            Unauthorized::Denied { .. } => self.metrics.denied(operation),
            Unauthorized::Token { error, .. } => self.metrics.authentication_failed(*error),
            Unauthorized::Missing => {
                self.metrics.authentication_failed(AuthenticationFailure::TokenMissing);
            }
            Unauthorized::Several | Unauthorized::NotText | Unauthorized::Scheme => {
                self.metrics.authentication_failed(AuthenticationFailure::TokenMalformed);
            }
        })
    }

    /// Allows an operation on the messages of an entity, by a token for the address of the request or for
    /// what is above it. Queues may be called `orders` and `orders/messages`: who has a right to the latter
    /// has none to the messages of the first. Tells what was shown.
    pub(crate) fn may_touch(
        self,
        operation: Operation,
        entity: &EntityPath,
        address: &str,
    ) -> Result<Claims, Unauthorized> {
        self.judge(operation, |caller| {
            let mut claims = caller.claims(caller.token()?, address)?;
            claims.keep_only_for(entity);
            auth::authorize(&claims, operation, Resource::Path(address), caller.now)?;
            Ok(claims)
        })
    }

    /// Allows to let an entity forward to another one. Whoever may change the one need not be allowed
    /// to send to the other: SDKs then add a token for that.
    pub(crate) fn may_forward_to(self, target: &EntityPath) -> Result<(), Unauthorized> {
        self.judge(Operation::ForwardTo, |caller| caller.try_to_forward(target))
    }

    fn try_to_forward(self, target: &EntityPath) -> Result<(), Unauthorized> {
        let path = target.to_string();
        let supplementary = [SUPPLEMENTARY, DLQ_SUPPLEMENTARY];
        let added =
            supplementary.into_iter().filter_map(|name| self.headers.get(name)?.to_str().ok());
        let mut refused = None;
        for token in added.chain([self.token()?]) {
            let allowed = self.claims(token, &path).and_then(|claims| {
                Ok(auth::authorize(&claims, Operation::ForwardTo, target, self.now)?)
            });
            match allowed {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(Unauthorized::Missing))
    }

    /// The one token of the request itself.
    fn token(&self) -> Result<&str, Unauthorized> {
        let standard = self.headers.get_all(AUTHORIZATION).iter();
        let mut all = standard.chain(self.headers.get_all(SERVICE_BUS_AUTHORIZATION));
        let token = all.next().ok_or(Unauthorized::Missing)?;
        if all.next().is_some() {
            return Err(Unauthorized::Several);
        }
        token.to_str().map_err(|_| Unauthorized::NotText)
    }

    fn claims(&self, token: &str, path: &str) -> Result<Claims, Unauthorized> {
        let path = percent_encoding::utf8_percent_encode(path, percent_encoding::NON_ALPHANUMERIC);
        let audience = format!("https://{}/{path}", self.host);
        let (audience, grants) = match token.split_once(' ') {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("SharedAccessSignature") => {
                let mut grant = self.authority.verify(token, &audience, self.now)?;
                // A request shows its token anew, so there is no grace.
                let end = grant.valid_until.0.saturating_sub(Authority::GRACE.0);
                grant.valid_until = Timestamp(end);
                (grant.audience.clone(), vec![grant])
            }
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => {
                self.authority.verify_jwt(token.trim(), &audience, self.now)?
            }
            // The JavaScript SDK adds tokens for where an entity forwards to without a scheme.
            None if auth::is_jwt(token) => self.authority.verify_jwt(token, &audience, self.now)?,
            Some(_) | None => return Err(Unauthorized::Scheme),
        };
        let mut claims = Claims::default();
        claims.grant_all(audience, grants, self.now).map_err(|_| Unauthorized::Several)?;
        Ok(claims)
    }
}
