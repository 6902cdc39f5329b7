//! Who may scrape.
//!
//! Names of entities and what goes on in them are nobody's business who has no right to them, so
//! somebody has to be let in: by where the peer is, by the token of the configuration, or by the right
//! Manage on the default namespace. Whoever shows something is judged by that alone.

use std::net::IpAddr;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};

use super::Metrics;
use crate::auth::{Authority, Operation};
use crate::clock::Clock;
use crate::http::authorize::{Caller, Unauthorized};

/// Why somebody may not scrape.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// From where the peer is, a token is needed.
    #[error("Metrics are for this machine, or for whoever shows a token: see docs/METRICS.md.")]
    NoToken,
    /// What was shown is worth nothing here.
    #[error("{0}")]
    Token(Unauthorized),
}

impl Refused {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            // Another token might help, but this one is good for something.
            Self::Token(Unauthorized::Denied { .. }) => StatusCode::FORBIDDEN,
            Self::Token(unauthorized) => unauthorized.status(),
            Self::NoToken => StatusCode::UNAUTHORIZED,
        }
    }
}

impl Metrics {
    /// Lets a scraper in, or not.
    pub(crate) fn allow(
        &self,
        peer: Option<IpAddr>,
        headers: &HeaderMap,
        authority: &Authority,
        host: &str,
    ) -> Result<(), Refused> {
        let Some(shown) = headers.get(AUTHORIZATION) else {
            let is_near = peer.is_some_and(|peer| self.settings.allowed_networks.allow(peer));
            return if is_near { Ok(()) } else { Err(Refused::NoToken) };
        };
        if let (Some(token), Some(bearer)) = (&self.settings.token, bearer(shown.as_bytes()))
            && token.matches(bearer)
        {
            return Ok(());
        }
        // By the time of day, as with /$peeklock: whoever has moved the clock must be able to go on.
        let now = Clock::real().now();
        let caller = Caller { headers, authority, host, now, metrics: self };
        caller.may(Operation::ReadMetrics, "").map_err(Refused::Token)
    }
}

/// What stands behind `Bearer`.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::HeaderValue;

    use super::*;
    use crate::auth::Secret;
    use crate::config::MetricsSettings;
    use crate::net::AllowedNetworks;

    #[track_caller]
    fn check(metrics: &Metrics, peer: &str, shown: Option<&str>, expected: u16) {
        let mut headers = HeaderMap::new();
        if let Some(shown) = shown {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(shown).unwrap());
        }
        let authority = Authority::new(Vec::new(), None, true);
        let allowed = metrics.allow(peer.parse().ok(), &headers, &authority, "localhost");
        let status = allowed.map_or_else(|refused| refused.status().as_u16(), |()| 200);
        assert_eq!(status, expected, "{peer} with {shown:?}");
    }

    #[test]
    fn this_machine_may_scrape_and_others_need_a_token() {
        let metrics = Metrics::new(MetricsSettings::default());
        for near in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            check(&metrics, near, None, 200);
        }
        for far in ["10.0.0.1", "::2", "::ffff:10.0.0.1", "nowhere"] {
            check(&metrics, far, None, 401);
            check(&metrics, far, Some("Bearer "), 401);
        }
        // What is shown counts, also from near.
        check(&metrics, "127.0.0.1", Some("Bearer wrong"), 401);
    }

    #[test]
    fn the_token_of_the_configuration_lets_in_from_everywhere() {
        let token = Some(Secret::new("canary"));
        let allowed_networks = AllowedNetworks::only(Vec::new());
        let metrics =
            Metrics::new(MetricsSettings { allowed_networks, token, ..MetricsSettings::default() });
        check(&metrics, "127.0.0.1", None, 401);
        check(&metrics, "10.0.0.1", Some("Bearer canary"), 200);
        check(&metrics, "10.0.0.1", Some("bearer  canary"), 200);
        for wrong in ["Bearer canar", "Bearer canary2", "canary", "Basic canary", "Bearer"] {
            check(&metrics, "127.0.0.1", Some(wrong), 401);
        }
        assert!(!format!("{:?}", Arc::as_ref(&metrics).settings).contains("canary"));
    }
}
