//! Identity providers whose tokens are accepted.

use std::ops::RangeInclusive;
use std::time::Duration;

use peeklock_core::time::Span;
use toml::Spanned;

use super::build::{Check, parsed, refuse, rights, time};
use super::doors::{path, yes};
use super::queues::queue_path;
use super::raw::{Given, RawIssuer, RawRole};
use crate::auth::{Algorithm, IssuerSettings, ResourcePath, RoleRule, Url};

/// Where issuers put roles and groups, and where OAuth puts scopes: RFC 9068, Entra ID.
const CLAIMS: [&str; 4] = ["roles", "groups", "scope", "scp"];
/// Clocks that are kept differ by less than a second; five minutes is what Kerberos forgives.
const SKEW: (RangeInclusive<Duration>, Duration) =
    (Duration::ZERO..=Duration::from_mins(5), Duration::from_secs(30));
/// Issuers show a new key a day before they use it, or use it at once and are asked again then.
const REFRESH: (RangeInclusive<Duration>, Duration) =
    (Duration::from_secs(1)..=Duration::from_hours(24), Duration::from_hours(1));
/// A night in which the issuer cannot be reached, and no longer: it may have withdrawn a key.
const KEPT: (RangeInclusive<Duration>, Duration) =
    (Duration::from_secs(2)..=Duration::from_hours(30 * 24), Duration::from_hours(24));

/// Takes what the file says.
pub(super) fn issuers(raw: Vec<RawIssuer>) -> Check<Vec<IssuerSettings>> {
    let mut issuers: Vec<IssuerSettings> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let span = raw.issuer.span();
        let issuer = issuer(index, raw)?;
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            let reason = format!("{} is declared twice", issuer.issuer);
            return refuse(&format!("issuer[{index}].issuer"), span, reason);
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn issuer(index: usize, raw: RawIssuer) -> Check<IssuerSettings> {
    let key = |field: &str| format!("issuer[{index}].{field}");
    let plain_text = yes(raw.plain_text);
    let secure = |field: &str, address: &Spanned<String>| -> Check<Url> {
        let url: Url = parsed(&key(field), address)?;
        if url.is_secure() || plain_text {
            return Ok(url);
        }
        let reason = "whoever is on the way could put keys of its own in; use https, or set plain_text \
                      = true on a network that you trust";
        refuse(&key(field), address.span(), reason)
    };
    let keys = raw.jwks_uri.as_ref().map(|uri| secure("jwks_uri", uri)).transpose()?;
    if keys.is_none() {
        secure("issuer", &raw.issuer)?;
    } else if raw.issuer.get_ref().is_empty() {
        return refuse(&key("issuer"), raw.issuer.span(), "is empty");
    }
    let audiences = texts(&key("audiences"), raw.audiences)?;
    let algorithms = match raw.algorithms {
        Some(raw) if raw.get_ref().is_empty() => {
            return refuse(&key("algorithms"), raw.span(), "is empty");
        }
        Some(raw) => {
            let all = raw.get_ref().iter();
            all.map(|name| parsed(&key("algorithms"), name)).collect::<Check<_>>()?
        }
        None => Algorithm::DEFAULT.to_vec(),
    };
    let claims = match raw.claims {
        Some(raw) => texts(&key("claims"), raw)?,
        None => CLAIMS.map(str::to_owned).to_vec(),
    };
    let span = |field, raw: Given<String>, (bounds, default): &(RangeInclusive<Duration>, _)| {
        time(&key(field), raw, bounds, *default)
    };
    let refresh_every = span("refresh_every", raw.refresh_every, &REFRESH)?;
    let kept_span = raw.keys_kept_for.as_ref().map_or(0..0, Spanned::span);
    let keys_kept_for = span("keys_kept_for", raw.keys_kept_for, &KEPT)?;
    if keys_kept_for <= refresh_every {
        let reason = "must be more than refresh_every, or there would be times without keys";
        return refuse(&key("keys_kept_for"), kept_span, reason);
    }
    let skew = span("clock_skew", raw.clock_skew, &SKEW)?;
    Ok(IssuerSettings {
        issuer: raw.issuer.into_inner(),
        audiences,
        keys,
        algorithms,
        claims,
        roles: roles(raw.role, &key("role"))?,
        clock_skew: Span(u64::try_from(skew.as_millis()).unwrap_or(u64::MAX)),
        ca_file: raw.ca_file.map(|file| path(&key("ca_file"), file)).transpose()?,
        plain_text,
        refresh_every,
        keys_kept_for,
    })
}

fn texts(key: &str, raw: Spanned<Vec<Spanned<String>>>) -> Check<Vec<String>> {
    let span = raw.span();
    let all: Vec<String> = raw.into_inner().into_iter().map(Spanned::into_inner).collect();
    if all.is_empty() || all.iter().any(String::is_empty) {
        return refuse(key, span, "is empty");
    }
    Ok(all)
}

/// What roles are worth. Without a word of that, those that Azure has.
fn roles(raw: Option<Vec<RawRole>>, list: &str) -> Check<Vec<RoleRule>> {
    let Some(raw) = raw else { return Ok(RoleRule::of_azure()) };
    let role = |(index, raw): (usize, RawRole)| {
        let key = |field: &str| format!("{list}[{index}].{field}");
        if raw.name.get_ref().is_empty() {
            return refuse(&key("name"), raw.name.span(), "is empty");
        }
        let rights = rights(&key("rights"), &raw.rights)?;
        let place = match &raw.entity {
            Some(entity) => {
                // What fits a pattern must be something that can be there.
                let example = entity.get_ref().replace('*', "x");
                queue_path(&key("entity"), &example, entity.span())?;
                ResourcePath::pattern(entity.get_ref())
            }
            None => ResourcePath::default(),
        };
        Ok(RoleRule::new(raw.name.into_inner(), rights, place))
    };
    raw.into_iter().enumerate().map(role).collect()
}
