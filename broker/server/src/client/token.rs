//! Shared access signatures, as clients make them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

/// How long a token lasts. Clocks of two machines may differ by minutes.
pub(super) const LIFETIME_SECONDS: u64 = 3600;

/// What lets a client in. It shows nothing of itself.
#[derive(Clone)]
pub(super) enum Credential {
    /// The name of a rule and one of its keys.
    Key { rule: String, key: String },
    /// A token that somebody else has made.
    Token(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Credential {
    /// A token for a resource, made at a moment in seconds since 1970.
    pub(super) fn token(&self, resource: &str, now: u64) -> String {
        match self {
            Self::Token(token) => token.clone(),
            Self::Key { rule, key } => {
                let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
                let expiry = now.saturating_add(LIFETIME_SECONDS);
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
                    .expect("a key of this kind may have any length");
                mac.update(format!("{resource}\n{expiry}").as_bytes());
                let signature = STANDARD.encode(mac.finalize().into_bytes());
                let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
                let rule = utf8_percent_encode(rule, NON_ALPHANUMERIC);
                format!(
                    "SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={rule}"
                )
            }
        }
    }

    /// What a token is to be put for: the resource, unless somebody else has chosen.
    pub(super) fn audience(&self, resource: String) -> String {
        let Self::Token(token) = self else { return resource };
        let mut pairs = token.split_once(' ').map_or("", |(_, pairs)| pairs).split('&');
        let named = pairs.find_map(|pair| pair.trim().strip_prefix("sr="));
        let decoded = named.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
        decoded.unwrap_or(resource)
    }

    /// Whether a token has to be made again before it ends.
    pub(super) const fn renews(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

#[cfg(test)]
mod tests {
    use peeklock_core::time::Timestamp;

    use super::*;
    use crate::auth::Authority;

    #[test]
    fn the_broker_takes_a_token_for_what_it_was_made_for() {
        let now = 1_700_000_000;
        let key = Credential::Key {
            rule: "RootManageSharedAccessKey".into(),
            key: "SAS_KEY_VALUE".into(),
        };
        let token = key.token("sb://localhost/orders", now);
        let authority = Authority::new(Vec::new(), None, true);
        let verify = |audience, seconds: u64| {
            authority.verify(&token, audience, Timestamp(seconds * 1000)).is_ok()
        };
        assert!(verify("sb://localhost/orders", now));
        assert!(verify("amqp://localhost/orders", now + LIFETIME_SECONDS - 1));
        assert!(!verify("sb://localhost/orders", now + LIFETIME_SECONDS + 1));
        assert!(!verify("sb://localhost/other", now));
        assert_eq!(format!("{key:?}"), "[hidden]");
    }

    #[test]
    fn a_foreign_token_is_put_for_what_it_names() {
        let token = Credential::Token("SharedAccessSignature sr=sb%3A%2F%2Fh%2Fq&se=1".into());
        assert_eq!(token.audience("sb://h/other".into()), "sb://h/q");
        assert!(!token.renews());
    }
}
