//! What SASL grants: with PLAIN the rights of a rule, with EXTERNAL those of the client's certificate,
//! with the rest nothing yet.

use peeklock_protocol::sasl::parse_plain;

use super::{Authority, Certificate, Grant};

/// What a user's name and password, or a certificate, have granted to a whole connection.
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
    /// No rule names the certificate, or it has ended.
    #[error("no rule names the client's certificate")]
    Certificate,
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

/// Judges a SASL init with EXTERNAL: rights come from the client's certificate, whatever name it asks to
/// act under.
pub fn external(
    authority: &Authority,
    certificate: Option<&Certificate>,
) -> Result<Option<Granted>, SaslDenied> {
    let certificate = certificate.ok_or(SaslDenied::Mechanism)?;
    let grants = authority.verify_certificate(certificate);
    if grants.is_empty() { Err(SaslDenied::Certificate) } else { Ok(Some(Granted(grants))) }
}
