//! The tokens in `testdata/tokens.json` were made with `PyJWT` and Python's `cryptography`, and their private
//! keys were thrown away. What depends on claims is signed here, with a key made on the way.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::time::Span;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::keys::{KeySet, KeySetError};
use super::*;
use crate::auth::{Action, Claims, Resource, Rights, authorize};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const NOW_SECONDS: u64 = 1_700_000_000;
const ISSUER: &str = "https://id.example/";
const AUDIENCE: &str = "peeklock";
const SKEW: u64 = 30;

fn recorded() -> Value {
    serde_json::from_str(include_str!("testdata/tokens.json")).unwrap()
}

fn settings(algorithms: &[Algorithm], roles: Vec<RoleRule>) -> IssuerSettings {
    IssuerSettings {
        issuer: ISSUER.into(),
        audiences: vec!["another".into(), AUDIENCE.into()],
        keys: None,
        algorithms: algorithms.to_vec(),
        claims: ["roles", "realm_access.roles", "https://id.example/groups", "scope"]
            .map(str::to_owned)
            .to_vec(),
        roles,
        clock_skew: Span::from_secs(SKEW),
        ca_file: None,
        plain_text: false,
        refresh_every: Duration::from_hours(1),
        keys_kept_for: Duration::from_hours(24),
    }
}

fn role(name: &str, right: Action, place: &str) -> RoleRule {
    let rights = Rights {
        send: right == Action::Send,
        listen: right == Action::Listen,
        manage: right == Action::Manage,
    };
    RoleRule::new(name, rights, ResourcePath::pattern(place))
}

/// An issuer whose keys were asked for at `at`.
fn issuers(settings: IssuerSettings, keys: &Value, at: Instant) -> JwtIssuers {
    let keys = serde_json::to_vec(&json!({ "keys": keys })).unwrap();
    let keys = KeySet::read(&keys, &settings.algorithms).unwrap();
    let issuers = JwtIssuers::new(vec![settings]);
    assert!(issuers.0[0].take(Some(keys), at));
    issuers
}

fn sender() -> Vec<RoleRule> {
    vec![role("sender", Action::Send, "")]
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    fn keys(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (part(&point[1..33]), part(&point[33..]));
        json!([{ "kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y }])
    }

    /// Signs claims as they are written.
    fn sign_text(&self, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", part(r#"{"alg":"ES256","kid":"k"}"#), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Signs good claims, of which some are replaced, or taken away by null.
    fn sign(&self, change: &Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "exp": NOW_SECONDS + 600, "roles": ["sender"],
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.sign_text(&claims.to_string())
    }

    fn verify(&self, token: &str) -> Result<Vec<Grant>, TokenError> {
        let at = Instant::now();
        let settings = settings(&Algorithm::DEFAULT, sender());
        issuers(settings, &self.keys(), at).verify(token, NOW, at)
    }
}

#[test]
fn signatures_of_all_algorithms_are_checked() {
    let (recorded, at) = (recorded(), Instant::now());
    let all = issuers(settings(&Algorithm::ALL, sender()), &recorded["keys"], at);
    let few = issuers(settings(&Algorithm::DEFAULT, sender()), &recorded["keys"], at);
    let good = recorded["good"].as_object().unwrap();
    assert_eq!(good.len(), Algorithm::ALL.len());
    for (name, token) in good {
        let token = token.as_str().unwrap();
        let grants = all.verify(token, NOW, at).unwrap();
        assert!(grants[0].rights.send && !grants[0].rights.listen, "{name}");
        let is_default = Algorithm::DEFAULT.contains(&name.parse().unwrap());
        assert_eq!(few.verify(token, NOW, at).is_ok(), is_default, "{name}");
    }
}

#[test]
fn forged_tokens_are_refused() {
    let (recorded, at) = (recorded(), Instant::now());
    let bad = recorded["bad"].as_object().unwrap();
    assert!(30 < bad.len());
    for algorithms in [&Algorithm::ALL[..], &Algorithm::DEFAULT[..]] {
        for (name, token) in bad {
            let issuers = issuers(settings(algorithms, sender()), &recorded["keys"], at);
            // Not the time for asking again, so that an unknown key is the same as a wrong one.
            issuers.0[0].asks_for_unknown_key(at);
            let refused = issuers.verify(token.as_str().unwrap(), NOW, at).unwrap_err();
            let expected = matches!(refused, TokenError::Signature | TokenError::Malformed(_));
            assert!(expected, "{name}: {refused:?}");
        }
    }
}

#[test]
fn every_octet_of_a_signature_counts() {
    let signer = Signer::new();
    let token = signer.sign(&json!({}));
    assert!(signer.verify(&token).is_ok());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(changed));
        assert_eq!(signer.verify(&token), Err(TokenError::Signature), "{at}");
    }
}

#[test]
fn a_token_ends_and_begins_when_it_says() {
    let signer = Signer::new();
    let malformed = |error| matches!(error, Err(TokenError::Malformed(_)));
    let until = |exp: Value| signer.verify(&signer.sign(&json!({ "exp": exp })));
    let ends = |exp: Value| until(exp).map(|grants| grants[0].valid_until);
    // Whole or not, the end is the end, and clocks may differ.
    assert_eq!(ends(json!(NOW_SECONDS + 60)), Ok(NOW.plus(Span::from_secs(60 + SKEW))));
    assert_eq!(ends(json!(1_700_000_060.5)), Ok(NOW.plus(Span(60_500 + SKEW * 1000))));
    assert_eq!(ends(json!(NOW_SECONDS - SKEW + 1)), Ok(NOW.plus(Span::from_secs(1))));
    assert_eq!(ends(json!(NOW_SECONDS - SKEW)), Err(TokenError::Expired));
    assert_eq!(ends(json!(1_699_999_969.9)), Err(TokenError::Expired));
    for past in [json!(0), json!(-1), json!(-1e300), json!(1.5), json!(i64::MIN)] {
        assert_eq!(until(past), Err(TokenError::Expired));
    }
    for wrong in
        [json!("1893456000"), json!([]), json!({}), json!(true), json!(1e30), json!(u64::MAX)]
    {
        assert!(malformed(until(wrong.clone())), "{wrong}");
    }
    assert!(malformed(until(Value::Null)), "a token without an end");
    for text in ["1e999", "NaN", "Infinity", "-Infinity", "0x7fffffff", ""] {
        let claims = format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{text}}}"#);
        assert!(malformed(signer.verify(&signer.sign_text(&claims))), "{text}");
    }

    let from = |nbf: Value| signer.verify(&signer.sign(&json!({ "nbf": nbf }))).map(|_| ());
    for good in [json!(0), json!(-5), json!(NOW_SECONDS), json!(NOW_SECONDS + SKEW), json!(0.5)] {
        assert_eq!(from(good), Ok(()));
    }
    assert_eq!(from(json!(NOW_SECONDS + SKEW + 1)), Err(TokenError::NotYetValid));
    assert_eq!(from(json!(1_700_000_030.5)), Err(TokenError::NotYetValid));
    for wrong in [json!("0"), json!([0]), json!(false), json!(1e30)] {
        assert!(matches!(from(wrong), Err(TokenError::Malformed(_))));
    }
}

#[test]
fn a_token_is_for_us_and_from_whom_we_know() {
    let signer = Signer::new();
    let verify = |change: Value| signer.verify(&signer.sign(&change)).map(|_| ());
    assert_eq!(verify(json!({ "aud": ["x", AUDIENCE] })), Ok(()));
    for wrong in [json!(null), json!("Peeklock"), json!("peeklock "), json!([]), json!(["x"])] {
        assert_eq!(verify(json!({ "aud": wrong })), Err(TokenError::Audience));
    }
    for wrong in [json!({ AUDIENCE: 1 }), json!([[AUDIENCE]]), json!(1), json!("")] {
        assert_eq!(verify(json!({ "aud": wrong })), Err(TokenError::Audience));
    }
    for wrong in [json!(null), json!("https://id.example"), json!([ISSUER]), json!("")] {
        assert_eq!(verify(json!({ "iss": wrong })), Err(TokenError::Issuer));
    }
    let nobody = JwtIssuers::default();
    let token = signer.sign(&json!({}));
    assert_eq!(nobody.verify(&token, NOW, Instant::now()), Err(TokenError::NoIssuers));
}

#[test]
fn what_is_no_token_is_refused() {
    let signer = Signer::new();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long = signer.sign(&json!({ "x": "x".repeat(limits::TOKEN_LEN_MAX) }));
    let wrong = [
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{}.{}.{}", part("{}"), part("{}"), part("x")),
        format!("{}.{}.{}", part(r#"{"alg":5}"#), part("{}"), part("x")),
        format!("{}.{}.{}", part(r#"{"alg":"ES256","alg":"none"}"#), part("{}"), part("x")),
        format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part(&deep), part("x")),
        format!("{}.{}.{}", part(r#"{"alg":"ES256"}"#), part("[]"), part("x")),
        format!("{}.{}", part(r#"{"alg":"ES256"}"#), part("{}")),
        format!("{}.", signer.sign(&json!({}))),
        format!("{}=", signer.sign(&json!({}))),
        long,
    ];
    for token in wrong {
        let refused = signer.verify(&token);
        assert!(matches!(refused, Err(TokenError::Malformed(_))), "{refused:?} for {token}");
    }
    assert!(is_jwt(&signer.sign(&json!({}))));
    for other in
        ["", "a.b", "a.b.", ".b.c", "a.b.c.d.e", "a.b.c=", "SharedAccessSignature sr=a.b.c"]
    {
        assert!(!is_jwt(other), "{other}");
    }
}

#[test]
fn only_a_set_with_keys_is_a_set_of_keys() {
    let read = |text: &str| KeySet::read(text.as_bytes(), &Algorithm::ALL).map(|set| set.len());
    for text in ["", "<html>404</html>", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"error":"x"}"#] {
        assert_eq!(read(text), Err(KeySetError::Malformed), "{text}");
    }
    assert_eq!(read(r#"{"keys":[]}"#), Err(KeySetError::Empty));
    assert_eq!(read(r#"{"keys":[{"kty":"oct","k":"AAAA"},5]}"#), Err(KeySetError::Empty));
    let deep = format!(r#"{{"keys":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(read(&deep), Err(KeySetError::Malformed));

    let keys = recorded()["keys"].clone();
    let count = |keys: &Value, allowed: &[Algorithm]| {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), allowed).map(|set| set.len())
    };
    // The first five are good; the others are for something else, weak, or nonsense.
    assert_eq!(count(&keys, &Algorithm::ALL), Ok(5));
    assert_eq!(count(&keys, &Algorithm::DEFAULT), Ok(3));
    assert_eq!(count(&keys, &[Algorithm::Rs512]), Ok(1));
    let many = vec![keys[0].clone(); limits::KEYS_MAX + 1];
    assert_eq!(count(&json!(many), &Algorithm::ALL), Err(KeySetError::TooMany));
    assert_eq!(count(&json!(many[1..]), &Algorithm::ALL), Ok(limits::KEYS_MAX));
}

#[test]
fn a_token_may_leave_the_key_out_where_there_is_but_one() {
    let (recorded, at) = (recorded(), Instant::now());
    let token = recorded["bad"]["RS256 without a key"].as_str().unwrap();
    let one = issuers(settings(&Algorithm::ALL, sender()), &json!([recorded["keys"][0]]), at);
    assert!(one.verify(token, NOW, at).is_ok());
}

#[test]
fn keys_that_are_too_old_are_not_believed() {
    let (signer, at) = (Signer::new(), Instant::now());
    let token = signer.sign(&json!({}));
    let hour = Duration::from_hours(1);
    let none = JwtIssuers::new(vec![settings(&Algorithm::DEFAULT, sender())]);
    assert_eq!(none.verify(&token, NOW, at), Err(TokenError::KeysMissing));

    let issuers = issuers(settings(&Algorithm::DEFAULT, sender()), &signer.keys(), at);
    assert!(issuers.verify(&token, NOW, at + 23 * hour).is_ok());
    // Failures keep the keys, and do not make them younger.
    for hours in 1..23 {
        assert!(!issuers.0[0].take(None, at + hours * hour));
    }
    assert!(issuers.verify(&token, NOW, at + 23 * hour).is_ok());
    assert_eq!(issuers.verify(&token, NOW, at + 24 * hour), Err(TokenError::KeysMissing));
    let same = json!({ "keys": signer.keys() }).to_string();
    let same = KeySet::read(same.as_bytes(), &Algorithm::DEFAULT).unwrap();
    assert!(!issuers.0[0].take(Some(same), at + 24 * hour), "these keys were there before");
    assert!(issuers.verify(&token, NOW, at + 24 * hour).is_ok());
}

/// What one of its tokens grants is worth nothing when the key is gone.
#[test]
fn a_key_that_is_withdrawn_takes_its_grants_with_it() {
    let (signer, other, at) = (Signer::new(), Signer::new(), Instant::now());
    let issuers = issuers(settings(&Algorithm::DEFAULT, sender()), &signer.keys(), at);
    let authority = Authority::new(Vec::new(), None, false).with_issuers(issuers);
    let (audience, grants) =
        authority.verify_jwt(&signer.sign(&json!({})), "sb://h/orders", NOW).unwrap();
    let mut claims = Claims::default();
    claims.grant_all(audience, grants, NOW).unwrap();
    let mut may_send = |keys: Option<&[&Signer]>| {
        let keys = keys.map(|signers| {
            let keys: Vec<_> = signers.iter().map(|signer| signer.keys()[0].clone()).collect();
            KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), &Algorithm::ALL).unwrap()
        });
        authority.issuers().0[0].take(keys, at);
        claims.look_again(&authority);
        authorize(&claims, Action::Send, &EntityPath::parse("orders").unwrap().path, NOW).is_ok()
    };
    assert!(may_send(None));
    assert!(may_send(Some(&[&other, &signer])));
    assert!(!may_send(Some(&[&other])));
    assert!(!may_send(Some(&[&signer])), "what is gone does not come back by itself");
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_now_and_then() {
    let (recorded, signer, at) = (recorded(), Signer::new(), Instant::now());
    let issuers = issuers(settings(&Algorithm::DEFAULT, sender()), &signer.keys(), at);
    let issuer = &issuers.0[0];
    let unknown = recorded["good"]["RS256"].as_str().unwrap();
    let verify = |at| issuers.verify(unknown, NOW, at).unwrap_err();
    for at in [at, at + limits::UNKNOWN_KEY_PAUSE] {
        assert_eq!(issuer.pause(at), Duration::ZERO);
        assert_eq!(verify(at), TokenError::KeysMissing);
        issuer.wanted.notified().await;
        issuer.asks_for_unknown_key(at);
        assert_eq!(verify(at), TokenError::Signature);
        assert_eq!(issuer.pause(at), limits::UNKNOWN_KEY_PAUSE);
    }
    let later = at + limits::UNKNOWN_KEY_PAUSE;
    // A signature that is wrong with a known key is no reason to ask.
    let mut forged = signer.sign(&json!({}));
    forged.replace_range(forged.len() - 4.., "AAAA");
    let much_later = later + limits::UNKNOWN_KEY_PAUSE;
    assert_eq!(issuers.verify(&forged, NOW, much_later), Err(TokenError::Signature));
}

/// What the roles of a token allow on an entity: S, L and M.
fn allowed(roles: &[RoleRule], claims: &Value, entity: &str) -> String {
    let (signer, at) = (Signer::new(), Instant::now());
    let issuers = issuers(settings(&Algorithm::DEFAULT, roles.to_vec()), &signer.keys(), at);
    let grants = issuers.verify(&signer.sign(claims), NOW, at).unwrap();
    let mut held = Claims::default();
    held.grant_all(ResourcePath::default(), grants, NOW).unwrap();
    let path = EntityPath::parse(entity).map(|parsed| parsed.path);
    let resource = path.as_ref().map_or(Resource::Namespace, Resource::Entity);
    Action::ALL
        .into_iter()
        .filter(|action| authorize(&held, *action, resource, NOW).is_ok())
        .map(|action| format!("{action}").remove(0))
        .collect()
}

#[test]
fn roles_are_worth_what_the_configuration_says() {
    let roles = [
        role("sender", Action::Send, "orders"),
        role("sender", Action::Listen, "answers"),
        role("listener", Action::Listen, "shop-*"),
        role("auditor", Action::Send, "orders"),
        role("auditor", Action::Listen, "orders"),
        role("owner", Action::Manage, ""),
    ];
    let check = |names: Value, entity: &str, expected: &str| {
        let claims = json!({ "roles": names });
        assert_eq!(allowed(&roles, &claims, entity), expected, "{names} at {entity}");
    };
    check(json!(["sender"]), "orders", "S");
    check(json!(["sender"]), "Orders/$DeadLetterQueue", "S");
    check(json!(["sender"]), "answers", "L");
    check(json!(["sender"]), "orders2", "");
    check(json!(["sender"]), "$management", "");
    check(json!(["listener"]), "shop-eu", "L");
    check(json!(["listener"]), "shop", "");
    check(json!(["auditor"]), "orders", "SL");
    check(json!(["listener", "sender", 5, null]), "orders", "S");
    check(json!(["owner"]), "anything", "SLM");
    check(json!("owner"), "$management", "SLM");
    check(json!(["Owner", "own", "owners", "*", ""]), "anything", "");
    check(json!("owner sender"), "orders", "");
    check(json!({ "owner": true }), "orders", "");
    check(json!(null), "orders", "");
}

#[test]
fn roles_are_found_where_issuers_put_them() {
    let roles = sender();
    let check = |claims: Value, expected: &str| {
        let mut all = json!({ "roles": null });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        assert_eq!(allowed(&roles, &all, "orders"), expected, "{claims}");
    };
    check(json!({ "realm_access": { "roles": ["x", "sender"] } }), "S");
    check(json!({ "realm_access.roles": ["sender"] }), "S");
    check(json!({ "https://id.example/groups": ["sender"] }), "S");
    check(json!({ "scope": "openid sender  email" }), "S");
    check(json!({ "scope": ["openid", "sender"] }), "S");
    check(json!({ "realm_access": ["sender"] }), "");
    check(json!({ "realm_access": "roles" }), "");
    check(json!({ "groups": ["sender"] }), "");
    check(json!({ "sub": "sender" }), "");
}

#[test]
fn azures_names_of_roles_are_known() {
    let roles = RoleRule::of_azure();
    for (name, expected) in [("Sender", "S"), ("Receiver", "L"), ("Owner", "SLM"), ("Reader", "")] {
        let claims = json!({ "roles": [format!("Azure Service Bus Data {name}")] });
        assert_eq!(allowed(&roles, &claims, "orders"), expected, "{name}");
    }
}

#[test]
fn the_audience_that_a_token_is_shown_for_adds_nothing() {
    let (signer, at) = (Signer::new(), Instant::now());
    let roles = vec![role("sender", Action::Send, "orders")];
    let issuers = issuers(settings(&Algorithm::DEFAULT, roles), &signer.keys(), at);
    let hosts = Some(vec!["broker.example".to_owned()]);
    let authority = Authority::new(Vec::new(), hosts, false).with_issuers(issuers);
    let token = signer.sign(&json!({}));
    for name in ["", "/other", "/orders", "/*", "/orders/$management"] {
        let audience = format!("sb://broker.example{name}");
        let (_, grants) = authority.verify_jwt(&token, &audience, NOW).unwrap();
        assert_eq!(grants.len(), 1);
        assert_eq!(grants[0].audience, ResourcePath::pattern("orders"));
    }
    for wrong in ["sb://other.example/orders", "", "sb://"] {
        assert_eq!(authority.verify_jwt(&token, wrong, NOW), Err(TokenError::Audience), "{wrong}");
    }
}
