//! What SASL grants: with PLAIN the rights of a rule, with the rest nothing yet.

use peeklock_protocol::sasl::parse_plain;

use super::{Authority, Grant};

/// What a user's name and password have granted; valid for the whole connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted(Vec<Grant>);

impl Granted {
    pub(super) fn into_grants(self) -> Vec<Grant> {
        self.0
    }
}

/// Why a peer was not let in. For the log: the peer learns only that it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SaslDenied {
    /// A mechanism that was not offered.
    #[error("the mechanism is not offered")]
    Mechanism,
    /// A PLAIN response without its parts.
    #[error("the PLAIN response is malformed")]
    Malformed,
    /// No rule has this name and key.
    #[error("no rule has this name and key")]
    Password,
}

/// Judges a SASL init. `None` lets the peer in without rights, to show tokens on `$cbs`.
pub fn sasl(
    authority: &Authority,
    mechanism: &str,
    response: Option<&[u8]>,
) -> Result<Option<Granted>, SaslDenied> {
    match mechanism {
        // Whatever is in the response: JavaScript sends the name of its rule, others "anonymous".
        "ANONYMOUS" | "MSSBCBS" => Ok(None),
        "PLAIN" => {
            let plain =
                parse_plain(response.unwrap_or_default()).map_err(|_| SaslDenied::Malformed)?;
            let grants = authority.verify_password(plain.user, plain.password.as_bytes());
            if grants.is_empty() { Err(SaslDenied::Password) } else { Ok(Some(Granted(grants))) }
        }
        _ => Err(SaslDenied::Mechanism),
    }
}
