//! Who could not say who it is, and what was not allowed.

use prometheus::{IntCounter, Registry};

use super::{Metrics, families};
use crate::auth::{Operation, SaslDenied, TokenError};

/// Why somebody is not who it says, or says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AuthenticationFailure {
    TokenMissing,
    TokenMalformed,
    TokenSignature,
    TokenAudience,
    TokenIssuer,
    TokenKeysMissing,
    TokenNotYetValid,
    TokenExpired,
    TokenWithoutRole,
    SaslMechanism,
    SaslMalformed,
    SaslPassword,
    Certificate,
}

impl AuthenticationFailure {
    const ALL: [(Self, &'static str); 13] = [
        (Self::TokenMissing, "token_missing"),
        (Self::TokenMalformed, "token_malformed"),
        (Self::TokenSignature, "token_signature"),
        (Self::TokenAudience, "token_audience"),
        (Self::TokenIssuer, "token_issuer"),
        (Self::TokenKeysMissing, "token_keys_missing"),
        (Self::TokenNotYetValid, "token_not_yet_valid"),
        (Self::TokenExpired, "token_expired"),
        (Self::TokenWithoutRole, "token_without_role"),
        (Self::SaslMechanism, "sasl_mechanism"),
        (Self::SaslMalformed, "sasl_malformed"),
        (Self::SaslPassword, "sasl_password"),
        (Self::Certificate, "certificate"),
    ];
}

impl From<TokenError> for AuthenticationFailure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed(_) => Self::TokenMalformed,
            TokenError::Signature => Self::TokenSignature,
            TokenError::Audience => Self::TokenAudience,
            TokenError::NoIssuers | TokenError::Issuer => Self::TokenIssuer,
            TokenError::KeysMissing => Self::TokenKeysMissing,
            TokenError::NotYetValid => Self::TokenNotYetValid,
            TokenError::Expired => Self::TokenExpired,
        }
    }
}

impl From<SaslDenied> for AuthenticationFailure {
    fn from(denied: SaslDenied) -> Self {
        match denied {
            SaslDenied::Mechanism => Self::SaslMechanism,
            SaslDenied::Malformed => Self::SaslMalformed,
            SaslDenied::Certificate => Self::Certificate,
            SaslDenied::Password => Self::SaslPassword,
        }
    }
}

/// See the module. All are there from the beginning.
pub(super) struct Refusals {
    failures: [IntCounter; AuthenticationFailure::ALL.len()],
    /// In the order of the operations.
    denials: Vec<IntCounter>,
}

impl Refusals {
    pub(super) fn new(registry: &Registry) -> Self {
        let failures = families::AUTHENTICATION_FAILURES.counters(registry);
        let denials = families::AUTHORIZATION_DENIALS.counters(registry);
        let denial = |one: &Operation| denials.with_label_values(&[label(*one)]);
        Self {
            failures: AuthenticationFailure::ALL
                .map(|(_, name)| failures.with_label_values(&[name])),
            denials: Operation::ALL.iter().map(denial).collect(),
        }
    }
}

impl Metrics {
    /// Somebody is not who it says.
    pub(crate) fn authentication_failed(&self, why: impl Into<AuthenticationFailure>) {
        self.refusals.failures[why.into() as usize].inc();
    }

    /// Somebody wanted something and has no right to it.
    pub(crate) fn denied(&self, operation: Operation) {
        if let Some(count) = self.refusals.denials.get(operation as usize) {
            count.inc();
        }
    }
}

/// `LinkToSend` becomes `link_to_send`: the names of operations are for people, and some have slashes.
fn label(operation: Operation) -> String {
    let mut label = String::new();
    for letter in format!("{operation:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('_');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsSettings;
    use crate::metrics::Page;

    #[test]
    fn each_refusal_is_counted_under_its_own_name() {
        let metrics = Metrics::new(MetricsSettings::default());
        for (times, (failure, _)) in (1_usize..).zip(AuthenticationFailure::ALL) {
            (0..times).for_each(|_| metrics.authentication_failed(failure));
        }
        for (times, operation) in (1_usize..).zip(Operation::ALL) {
            (0..times).for_each(|_| metrics.denied(*operation));
        }
        let text = Page::of(metrics.registry()).into_text();
        for (times, (_, name)) in (1..).zip(AuthenticationFailure::ALL) {
            let line =
                format!("peeklock_authentication_failures_total{{reason=\"{name}\"}} {times}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        for (times, operation) in (1..).zip(Operation::ALL) {
            let label = label(*operation);
            let line =
                format!("peeklock_authorization_denials_total{{operation=\"{label}\"}} {times}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert!(text.contains("operation=\"link_to_send\""), "{text}");
    }
}
