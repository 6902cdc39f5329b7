//! A JSON Web Token as text (RFC 7519, RFC 7515 §7.1), and what it claims. Nothing here is believed before
//! the signature was checked.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peeklock_core::time::{Span, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::super::TokenError;
use super::limits::TOKEN_LEN_MAX;

/// The end of the year 9999 in seconds: no token is good for longer, and what claims so is a mistake.
const LATEST_SECONDS: f64 = 253_402_300_799.0;

/// Whether a text has the form of a token: three parts of base64url.
pub(crate) fn is_jwt(text: &str) -> bool {
    let base64url = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    text.split('.').count() == 3
        && text.split('.').all(|part| !part.is_empty() && part.bytes().all(base64url))
}

/// The parts of a token.
pub(super) struct Jwt<'a> {
    pub(super) header: Header,
    pub(super) claims: Claimed,
    /// What the signature is over.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// What is read of the header. Where a header says that its key could be found (`jku`, `x5u`) or what it
/// is (`jwk`, `x5c`) is not read at all: the keys are those of the issuer.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// Extensions that must be understood. We understand none.
    crit: Option<IgnoredAny>,
}

/// What a token says.
#[derive(Debug)]
pub(super) struct Claimed(Map<String, Value>);

impl<'a> Jwt<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if TOKEN_LEN_MAX < text.len() {
            return Err(TokenError::Malformed("The token is too long."));
        }
        let malformed = TokenError::Malformed("The token is not a JSON Web Token.");
        let (signed, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(malformed)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed("The token needs extensions that are not known."));
        }
        let claims = serde_json::from_slice(&decode(claims)?).map_err(|_| malformed)?;
        Ok(Self { header, claims: Claimed(claims), signed, signature: decode(signature)? })
    }
}

impl Claimed {
    pub(super) fn issuer(&self) -> Option<&str> {
        self.0.get("iss")?.as_str()
    }

    /// Whether the token is for one of these: `aud` is a text or a list of texts.
    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        let known = |one: &Value| {
            one.as_str().is_some_and(|one| audiences.iter().any(|audience| audience == one))
        };
        match self.0.get("aud") {
            Some(Value::Array(all)) => all.iter().any(known),
            Some(one) => known(one),
            None => false,
        }
    }

    /// Until when it is valid, with what clocks may differ. There is no token without an end.
    pub(super) fn valid_until(&self, now: Timestamp, skew: Span) -> Result<Timestamp, TokenError> {
        let wrong = TokenError::Malformed("The token does not say when it ends.");
        let ends = moment(self.0.get("exp").ok_or(wrong)?).ok_or(wrong)?.plus(skew);
        if ends <= now {
            return Err(TokenError::Expired);
        }
        let wrong = TokenError::Malformed("The token does not say when it begins.");
        match self.0.get("nbf").map(|begins| moment(begins).ok_or(wrong)).transpose()? {
            Some(begins) if now.plus(skew) < begins => Err(TokenError::NotYetValid),
            Some(_) | None => Ok(ends),
        }
    }

    /// The texts that a claim holds: its own, or those of its list. What is called a scope holds several
    /// in one text (RFC 8693 §4.2).
    pub(super) fn texts<'a>(&'a self, path: &str) -> Vec<&'a str> {
        let is_scope = matches!(path.rsplit('.').next(), Some("scope" | "scp"));
        let split = |text: &'a str| -> Vec<&'a str> {
            if is_scope { text.split_ascii_whitespace().collect() } else { vec![text] }
        };
        match self.at(path) {
            Some(Value::String(text)) => split(text),
            Some(Value::Array(all)) => {
                all.iter().filter_map(Value::as_str).flat_map(split).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// A claim by its name, or by the names on the way to it with dots between. Some issuers have names
    /// with dots, which are URIs.
    fn at(&self, path: &str) -> Option<&Value> {
        if let Some(found) = self.0.get(path) {
            return Some(found);
        }
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }
}

/// Seconds since 1970 as a number, whole or not (RFC 7519 §2). A text is no number, and neither is what
/// no calendar has.
fn moment(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64()?;
    if seconds.is_nan() || LATEST_SECONDS < seconds {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is between zero and the year 9999"
    )]
    let millis = (seconds.max(0.0) * 1000.0) as u64;
    Some(Timestamp(millis))
}
