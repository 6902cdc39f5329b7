//! Who may do what: rules with keys, SAS tokens, tokens of identity providers, SASL, the claims of a
//! connection, and the one function that allows or denies.
//!
//! Every front door asks [`authorize`]; what is not granted is denied. Nothing here knows a link or a
//! frame. Keys and tokens are never shown: see [`Secret`].

mod audience;
mod authority;
mod certificate;
mod claims;
mod jwt;
mod operations;
mod sasl;
mod secret;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Timestamp;

pub use self::audience::ResourcePath;
pub use self::authority::{AccessRule, Authority, RuleChange};
pub use self::certificate::{Certificate, CertificateName, CertificateRule, MalformedCertificate};
pub(crate) use self::certificate::{common_names, valid_until};
pub use self::claims::{Claims, Credential, Grant, TooManyClaims};
pub use self::jwt::{Algorithm, IssuerKey, IssuerSettings, JwtIssuers, RoleRule, Url};
pub(crate) use self::jwt::{FetchError, FirstAnswers, is_jwt, post, tls_client};
pub use self::operations::{Door, Needs, Operation};
pub use self::sasl::{Granted, SaslDenied, external, sasl};
pub use self::secret::Secret;
pub use self::token::TokenError;

/// What a peer wants to do to an entity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Put messages in.
    Send,
    /// Take messages out, look at them, settle them.
    Listen,
    /// Change the entity itself.
    Manage,
}

impl Action {
    /// All there are.
    pub const ALL: [Action; 3] = [Action::Send, Action::Listen, Action::Manage];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rights {
    /// [`Action::Send`].
    pub send: bool,
    /// [`Action::Listen`].
    pub listen: bool,
    /// [`Action::Manage`]; implies both others, see [`Rights::allow`].
    pub manage: bool,
}

impl Rights {
    /// Nothing at all.
    pub const NONE: Rights = Rights { send: false, listen: false, manage: false };
    /// Everything.
    pub const MANAGE: Rights = Rights { send: true, listen: true, manage: true };

    /// What either allows.
    #[must_use]
    pub const fn or(self, other: Rights) -> Rights {
        Rights {
            send: self.send || other.send,
            listen: self.listen || other.listen,
            manage: self.manage || other.manage,
        }
    }

    /// Whether an action is among them.
    pub const fn allow(self, action: Action) -> bool {
        match action {
            Action::Send => self.send || self.manage,
            Action::Listen => self.listen || self.manage,
            Action::Manage => self.manage,
        }
    }
}

/// What an action is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// An entity or a subqueue.
    Entity(&'a EntityPath),
    /// The management node of one. Several SDKs ask for a token for just `{entity}/$management`, which
    /// is good for this node and not for the entity's messages.
    Management(&'a EntityPath),
    /// The management node of the namespace itself.
    Namespace,
    /// A path of the management API: an entity, a list of them, a rule.
    Path(&'a str),
}

impl<'a> From<&'a EntityPath> for Resource<'a> {
    fn from(path: &'a EntityPath) -> Self {
        Resource::Entity(path)
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Entity(path) => write!(f, "{path}"),
            Resource::Management(path) => write!(f, "{path}/$management"),
            Resource::Namespace => f.write_str("$management"),
            Resource::Path(path) => f.write_str(path),
        }
    }
}

/// An action was not allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{action}' is not granted for {resource}")]
pub struct Denied {
    /// Which action.
    pub action: Action,
    /// To what.
    pub resource: String,
}

/// Allows an operation, or denies it: THE authorisation function, below all front doors.
///
/// The operation says which rights it takes. Allowed is what a grant that is valid now names: one of these
/// among its rights, and the resource its audience or below it.
pub fn authorize<'a>(
    claims: &Claims,
    needs: impl Into<Needs>,
    resource: impl Into<Resource<'a>>,
    now: Timestamp,
) -> Result<(), Denied> {
    let needs = needs.into().actions();
    // Without a right that it takes, it is open to everybody.
    let Some(action) = needs.last().copied() else { return Ok(()) };
    let resource = resource.into();
    let path = ResourcePath::of(resource);
    let allows = |grant: &Grant| {
        now < grant.valid_until
            && needs.iter().any(|action| grant.rights.allow(*action))
            && grant.audience.covers(&path)
    };
    if claims.iter().any(allows) {
        Ok(())
    } else {
        Err(Denied { action, resource: resource.to_string() })
    }
}
