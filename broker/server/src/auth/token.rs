//! A shared access signature as text: `SharedAccessSignature sr=…&sig=…&se=…&skn=…`, in any order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// Far above any token, and little enough to hash for nothing.
const TOKEN_LEN_MAX: usize = 8 * 1024;

/// Why a token grants nothing. The texts are for the peer, in the words of the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not a SAS token.
    #[error("MalformedToken: {0}")]
    Malformed(&'static str),
    /// No key of a rule that is valid there made the signature.
    #[error("InvalidSignature: The token has an invalid signature.")]
    Signature,
    /// It is for another host or path.
    #[error("InvalidAudience: The authorization header contains a token with a wrong audience.")]
    Audience,
    /// No identity provider is known.
    #[error("InvalidToken: Tokens of an identity provider are not accepted; use a SAS token.")]
    NoIssuers,
    /// It is not from an identity provider that is known.
    #[error("InvalidIssuer: Tokens of this issuer are not accepted.")]
    Issuer,
    /// The keys of its issuer could not be asked for, or it was made with one that must be asked for. The
    /// same token may be good a little later.
    #[error("ServerBusy: The keys of the token's issuer are not known now. Please try again.")]
    KeysMissing,
    /// Its time has not come.
    #[error("InvalidToken: The token is not valid yet.")]
    NotYetValid,
    /// Its time is over.
    #[error("ExpiredToken: The token has expired.")]
    Expired,
}

/// The parts of a token. What was signed is kept as it was written.
#[derive(Debug)]
pub(super) struct SasToken<'a> {
    /// `sr`, still percent-encoded: encoders differ in the case of their escapes.
    pub resource: &'a str,
    /// `se` as written.
    pub expiry: &'a str,
    pub expires_at_seconds: u64,
    /// `sig`, decoded.
    pub signature: Vec<u8>,
    /// `skn`, decoded.
    pub rule: String,
}

impl<'a> SasToken<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if TOKEN_LEN_MAX < text.len() {
            return Err(TokenError::Malformed("The token is too long."));
        }
        let (scheme, pairs) = text
            .trim()
            .split_once(' ')
            .ok_or(TokenError::Malformed("The token is not a SharedAccessSignature."))?;
        if !scheme.eq_ignore_ascii_case("SharedAccessSignature") {
            return Err(TokenError::Malformed("The token is not a SharedAccessSignature."));
        }
        let (mut resource, mut expiry, mut signature, mut rule) = (None, None, None, None);
        for pair in pairs.trim_start().split('&') {
            let (key, value) = pair
                .split_once('=')
                .ok_or(TokenError::Malformed("A parameter of the token has no value."))?;
            let slot = match key.to_ascii_lowercase().as_str() {
                "sr" => &mut resource,
                "se" => &mut expiry,
                "sig" => &mut signature,
                "skn" => &mut rule,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(TokenError::Malformed("A parameter of the token is given twice."));
            }
        }
        let missing = TokenError::Malformed("The token lacks one of sr, se, sig and skn.");
        let expiry: &str = expiry.ok_or(missing)?;
        Ok(Self {
            resource: resource.ok_or(missing)?,
            expiry,
            expires_at_seconds: seconds(expiry)?,
            signature: signature_bytes(signature.ok_or(missing)?)?,
            rule: percent_decode_str(rule.ok_or(missing)?)
                .decode_utf8()
                .map_err(|_| TokenError::Malformed("The rule's name is not UTF-8."))?
                .into_owned(),
        })
    }
}

fn seconds(text: &str) -> Result<u64, TokenError> {
    let wrong = TokenError::Malformed("The expiry is not a number of seconds since 1970.");
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    text.parse().map_err(|_| wrong)
}

fn signature_bytes(text: &str) -> Result<Vec<u8>, TokenError> {
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    STANDARD.decode(decoded).map_err(|_| TokenError::Malformed("The signature is not base64."))
}
