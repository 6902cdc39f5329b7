//! Signatures in here were computed with Python's `hmac`, not with the code under test.

use peeklock_core::entity::access;

use super::*;

/// Before 1893456000 (2030), which the tokens below name as their end.
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const END: Timestamp = Timestamp(1_893_456_000_000);

const UPPER: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&\
    sig=AcsLFPvYmMHJ1V8fv8kh19uR7GtcEi7a8p1%2FDwjsbrk%3D&se=1893456000&skn=RootManageSharedAccessKey";
const LOWER: &str = "SharedAccessSignature sr=sb%3a%2f%2flocalhost%2forders&\
    sig=tGNMp5ccKqWBRDXRxR2nCQlcqRI1FJj87byjkJ9YliY%3d&se=1893456000&skn=RootManageSharedAccessKey";
const NAMESPACE: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost&\
    sig=7eCt%2b4uWxkjnwxpoJIv6dQGcujsEpitAS5w86X%2bBUU4%3d&se=1893456000&skn=RootManageSharedAccessKey";
const EXPIRED: &str = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&\
    sig=K%2FiR%2FCA1itSIvTvft0sJEV%2Fo8tx2oj4P8a5UEqjAGbc%3D&se=1000000000&skn=RootManageSharedAccessKey";
/// Signed with the second key of `shop`, for a path with a space, by a host with a port.
const FORM: &str = "SharedAccessSignature \
    sr=http%3A%2F%2Fbroker.example%3A5672%2Feu%2Fmy+queue%2F&\
    sig=4RsNHVRjO1gQA66atdCCtkh2xHNDEi9m7LHtLoWsLII%3D&se=1893456000&skn=shop";
/// Signed with the key of the rule `orders`, written by hand without any escapes.
const PLAIN_TEXT: &str = "SharedAccessSignature sr=sb://localhost/orders&\
    sig=ANLJEzBc0CWKpkmWH1b4+A9oxRNBUjknblIuzJlmZG4=&se=1893456000&skn=orders";

const SEND: Rights = Rights { send: true, ..Rights::NONE };
const LISTEN: Rights = Rights { listen: true, ..Rights::NONE };

fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap().path
}

fn dev() -> Authority {
    Authority::new(Vec::new(), None, true)
}

/// `shop` may send everywhere and has two keys; `orders` may listen at its entity.
fn configured() -> Authority {
    let shop = AccessRule::new(
        "shop".into(),
        Secret::new("primary"),
        Some(Secret::new("c2Vjb25kYXJ5IGtleQ==")),
        SEND,
        None,
    );
    let orders = AccessRule::new(
        "orders".into(),
        Secret::new("b3JkZXJzIGtleQ=="),
        None,
        LISTEN,
        Some(&path("Orders")),
    );
    Authority::new(vec![shop, orders], None, false)
}

#[track_caller]
fn check(authority: &Authority, token: &str, audience: &str, expected: Result<Rights, TokenError>) {
    let found = authority.verify(token, audience, NOW).map(|grant| grant.rights);
    assert_eq!(found, expected, "{token} for {audience}");
}

#[test]
fn escapes_of_either_case_are_verified_as_written() {
    check(&dev(), UPPER, "sb://localhost/orders", Ok(Rights::MANAGE));
    check(&dev(), LOWER, "sb://localhost/orders", Ok(Rights::MANAGE));
    // The signature covers the escapes: changing their case breaks it.
    let changed = UPPER.replace("%3A%2F%2F", "%3a%2f%2f");
    check(&dev(), &changed, "sb://localhost/orders", Err(TokenError::Signature));
    // The escapes of the signature itself are nobody's business.
    let changed = UPPER.replace("1%2FD", "1%2fD").replace("%3D&se", "%3d&se");
    assert_ne!(changed, UPPER);
    check(&dev(), &changed, "sb://localhost/orders", Ok(Rights::MANAGE));
}

#[test]
fn parameters_come_in_any_order() {
    let (scheme, pairs) = UPPER.split_once(' ').unwrap();
    let pairs: Vec<&str> = pairs.split('&').collect();
    for turn in 0..pairs.len() {
        let mut turned = pairs.clone();
        turned.rotate_left(turn);
        check(
            &dev(),
            &format!("{scheme} {}", turned.join("&")),
            "sb://localhost/orders",
            Ok(Rights::MANAGE),
        );
        turned.reverse();
        check(
            &dev(),
            &format!("{scheme} {}", turned.join("&")),
            "sb://localhost/orders",
            Ok(Rights::MANAGE),
        );
    }
    let shouting = UPPER.replace("sr=", "SR=").replace("skn=", "Skn=");
    check(&dev(), &shouting, "sb://localhost/orders", Ok(Rights::MANAGE));
}

#[test]
fn either_key_signs_and_form_encoding_is_understood() {
    check(&configured(), FORM, "amqps://broker.example:5671/eu/my%20queue", Ok(SEND));
    check(&configured(), FORM, "sb://broker.example/eu/my queue/$management", Ok(SEND));
    check(&configured(), FORM, "sb://broker.example/eu", Err(TokenError::Audience));
}

#[test]
fn a_rule_of_an_entity_ends_there() {
    check(&configured(), PLAIN_TEXT, "sb://localhost/orders", Ok(LISTEN));
    check(&configured(), PLAIN_TEXT, "sb://localhost/ORDERS/$DeadLetterQueue", Ok(LISTEN));
    check(&configured(), PLAIN_TEXT, "sb://localhost/orders2", Err(TokenError::Signature));
    check(&configured(), PLAIN_TEXT, "sb://localhost", Err(TokenError::Signature));
}

#[test]
fn bad_tokens_are_refused_with_the_reason() {
    check(&dev(), EXPIRED, "sb://localhost/orders", Err(TokenError::Expired));
    check(&dev(), UPPER, "sb://localhost/other", Err(TokenError::Audience));
    check(&dev(), UPPER, "sb://localhost/orders2", Err(TokenError::Audience));
    check(&dev(), UPPER, "sb://localhost", Err(TokenError::Audience));
    check(&dev(), UPPER, "", Err(TokenError::Audience));
    check(&configured(), UPPER, "sb://localhost/orders", Err(TokenError::Signature));
    let stretched = EXPIRED.replace("se=1000000000", "se=1893456000");
    check(&dev(), &stretched, "sb://localhost/orders", Err(TokenError::Signature));
    let other_rule = UPPER.replace("skn=RootManageSharedAccessKey", "skn=shop");
    check(&configured(), &other_rule, "sb://localhost/orders", Err(TokenError::Signature));
    // The end of a token is the first moment at which it is worth nothing.
    assert_eq!(dev().verify(UPPER, "sb://localhost/orders", END), Err(TokenError::Expired));
}

#[test]
fn malformed_tokens_are_refused_as_such() {
    let full = "SharedAccessSignature sr=a&sig=AAAA&se=1&skn=k";
    assert_eq!(
        dev().verify(full, "sb://h/q", NOW),
        Err(TokenError::Signature),
        "the base is sound"
    );
    for token in [
        "",
        "SharedAccessSignature",
        "SharedAccessSignature ",
        "Bearer abc",
        &full.replace("sr=a&", ""),
        &full.replace("sig=AAAA&", ""),
        &full.replace("se=1&", ""),
        &full.replace("&skn=k", ""),
        &full.replace("sig=AAAA", "sig=%%%"),
        &full.replace("se=1", "se=1.5"),
        &full.replace("se=1", "se=-1"),
        &full.replace("se=1", "se="),
        &full.replace("se=1", "se=99999999999999999999"),
        &full.replace("skn=k", "skn=%ff"),
        &full.replace("&se=1", "&se=1&se=2"),
        &full.replace("&se=1", "&se=1&&"),
        &full.replace("sr=a", &format!("sr={}", "a".repeat(9000))),
    ] {
        let refused = dev().verify(token, "sb://h/q", NOW);
        assert!(matches!(refused, Err(TokenError::Malformed(_))), "{token}: {refused:?}");
    }
    let far = full.replace("se=1&", "se=18446744073709551615&");
    assert_eq!(dev().verify(&far, "sb://h/q", NOW), Err(TokenError::Signature));
}

#[test]
fn only_the_hosts_of_the_namespace_count_when_they_are_known() {
    let hosts = |hosts: &[&str]| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Authority::new(Vec::new(), Some(hosts), true)
    };
    check(&hosts(&["LocalHost"]), UPPER, "sb://LOCALHOST:5672/orders", Ok(Rights::MANAGE));
    check(&hosts(&["other"]), UPPER, "sb://localhost/orders", Err(TokenError::Audience));
    check(&hosts(&["localhost"]), UPPER, "sb://other/orders", Err(TokenError::Audience));
}

#[test]
fn without_development_mode_there_is_no_default_credential() {
    let nobody = Authority::new(Vec::new(), None, false);
    check(&nobody, UPPER, "sb://localhost/orders", Err(TokenError::Signature));
    let plain = b"\0RootManageSharedAccessKey\0SAS_KEY_VALUE";
    assert_eq!(sasl(&nobody, "PLAIN", Some(plain)), Err(SaslDenied::Password));
    assert!(sasl(&dev(), "PLAIN", Some(plain)).unwrap().is_some());
}

#[test]
fn a_configured_rule_takes_the_place_of_the_well_known_one() {
    let own = AccessRule::new(
        "RootManageSharedAccessKey".into(),
        Secret::new("own"),
        None,
        Rights::MANAGE,
        None,
    );
    let authority = Authority::new(vec![own], None, true);
    check(&authority, UPPER, "sb://localhost/orders", Err(TokenError::Signature));
}

#[test]
fn mechanisms() {
    let authority = configured();
    for response in [None, Some(&b""[..]), Some(b"anonymous"), Some(b"shop")] {
        assert_eq!(sasl(&authority, "ANONYMOUS", response), Ok(None));
        assert_eq!(sasl(&authority, "MSSBCBS", response), Ok(None));
    }
    assert_eq!(sasl(&authority, "EXTERNAL", Some(b"")), Err(SaslDenied::Mechanism));
    assert_eq!(sasl(&authority, "plain", Some(b"\0shop\0primary")), Err(SaslDenied::Mechanism));
    assert_eq!(sasl(&authority, "PLAIN", None), Err(SaslDenied::Malformed));
    assert_eq!(sasl(&authority, "PLAIN", Some(b"shop primary")), Err(SaslDenied::Malformed));
    for wrong in [&b"\0shop\0primar"[..], b"\0shop\0", b"\0Shop\0primary", b"\0orders\0primary"] {
        assert_eq!(sasl(&authority, "PLAIN", Some(wrong)), Err(SaslDenied::Password));
    }
    for right in [&b"\0shop\0primary"[..], b"you\0shop\0c2Vjb25kYXJ5IGtleQ=="] {
        assert!(sasl(&authority, "PLAIN", Some(right)).unwrap().is_some());
    }
}

fn claims(tokens: &[(&Authority, &str, &str)]) -> Claims {
    let mut claims = Claims::default();
    for (authority, token, audience) in tokens {
        claims.grant(authority.verify(token, audience, NOW).unwrap(), NOW).unwrap();
    }
    claims
}

#[track_caller]
fn check_allowed(claims: &Claims, resource: Resource<'_>, expected: [bool; 3]) {
    let found = Action::ALL.map(|action| authorize(claims, action, resource, NOW).is_ok());
    assert_eq!(found, expected, "send, listen, manage at {resource}");
}

#[test]
fn nothing_is_allowed_by_default() {
    let none = Claims::default();
    assert!(none.is_empty());
    check_allowed(&none, Resource::Entity(&path("orders")), [false; 3]);
    let denied = authorize(&none, Action::Send, &path("orders"), NOW).unwrap_err();
    assert_eq!(denied, Denied { action: Action::Send, resource: "orders".into() });
}

#[test]
fn a_token_counts_for_its_audience_and_below() {
    let dev = dev();
    let of_entity = claims(&[(&dev, UPPER, "sb://localhost/orders")]);
    check_allowed(&of_entity, Resource::Entity(&path("Orders")), [true; 3]);
    check_allowed(&of_entity, Resource::Management(&path("orders")), [true; 3]);
    check_allowed(&of_entity, Resource::Entity(&path("orders/$DeadLetterQueue")), [true; 3]);
    check_allowed(&of_entity, Resource::Entity(&path("orders2")), [false; 3]);
    check_allowed(&of_entity, Resource::Entity(&path("order")), [false; 3]);

    let of_namespace = claims(&[(&dev, NAMESPACE, "sb://localhost")]);
    check_allowed(&of_namespace, Resource::Entity(&path("orders")), [true; 3]);
    check_allowed(&of_namespace, Resource::Management(&path("eu/a/$DeadLetterQueue")), [true; 3]);

    let of_node = claims(&[(&dev, UPPER, "sb://localhost/orders/$management")]);
    check_allowed(&of_node, Resource::Management(&path("orders")), [true; 3]);
    check_allowed(&of_node, Resource::Entity(&path("orders")), [false; 3]);
}

#[test]
fn rights_are_those_of_the_rule_and_add_up() {
    let authority = configured();
    let orders = path("orders");
    let listening = claims(&[(&authority, PLAIN_TEXT, "sb://localhost/orders")]);
    check_allowed(&listening, Resource::Entity(&orders), [false, true, false]);

    let mut both = listening;
    both.grant_connection(sasl(&authority, "PLAIN", Some(b"\0shop\0primary")).unwrap().unwrap());
    check_allowed(&both, Resource::Entity(&orders), [true, true, false]);
    check_allowed(&both, Resource::Entity(&path("other")), [true, false, false]);
    assert!(Rights { manage: true, ..Rights::NONE }.allow(Action::Listen), "manage implies both");
}

#[test]
fn the_newest_token_of_an_audience_replaces_the_older() {
    let dev = dev();
    let mut claims = claims(&[(&dev, UPPER, "sb://localhost/orders")]);
    let narrower = configured().verify(PLAIN_TEXT, "amqps://localhost:5671/Orders/", NOW).unwrap();
    claims.grant(narrower, NOW).unwrap();
    check_allowed(&claims, Resource::Entity(&path("orders")), [false, true, false]);
}

#[test]
fn claims_end_a_grace_after_their_token() {
    let mut claims = claims(&[(&dev(), UPPER, "sb://localhost/orders")]);
    let gone = END.plus(Authority::GRACE);
    assert_eq!(claims.next_expiry(), Some(gone));
    let orders = path("orders");
    assert!(authorize(&claims, Action::Send, &orders, Timestamp(gone.0 - 1)).is_ok());
    assert!(authorize(&claims, Action::Send, &orders, gone).is_err());
    claims.forget_expired(Timestamp(gone.0 - 1));
    assert!(!claims.is_empty());
    claims.forget_expired(gone);
    assert!(claims.is_empty());
    assert_eq!(claims.next_expiry(), None);
}

#[test]
fn what_sasl_granted_has_no_end() {
    let mut claims = Claims::default();
    let granted = sasl(&dev(), "PLAIN", Some(b"\0RootManageSharedAccessKey\0SAS_KEY_VALUE"));
    claims.grant_connection(granted.unwrap().unwrap());
    claims.forget_expired(END);
    assert_eq!((claims.is_empty(), claims.next_expiry()), (false, None));
    assert!(authorize(&claims, Action::Manage, &path("any"), END).is_ok());
}

#[test]
fn a_connection_cannot_collect_audiences_without_end() {
    let dev = dev();
    let mut claims = Claims::default();
    let mut grant = |number: u32| {
        let audience = format!("sb://localhost/queue{number}");
        claims.grant(dev.verify(NAMESPACE, &audience, NOW).unwrap(), NOW)
    };
    let accepted = (0..2000).take_while(|number| grant(*number).is_ok()).count();
    assert_eq!(accepted, 1000);
    assert_eq!(grant(5), Ok(()), "a known audience can still be renewed");
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?} {:?}", configured(), Secret::new("canary"));
    for secret in ["primary\"", "c2Vjb25kYXJ5IGtleQ==", "b3JkZXJzIGtleQ==", "canary"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Asks again what the claims of a connection are worth.
fn look_again(claims: &mut Claims, authority: &Authority, resource: &str) -> [bool; 3] {
    claims.look_again(authority);
    let path = path(resource);
    Action::ALL.map(|action| authorize(claims, action, &path, NOW).is_ok())
}

fn shop(primary: &str, second: Option<&str>, rights: Rights) -> AccessRule {
    let second = second.map(Secret::new);
    AccessRule::new("shop".into(), Secret::new(primary), second, rights, None)
}

#[test]
fn a_grant_is_worth_what_its_rule_and_key_are_worth() {
    let authority = configured();
    let plain = |key: &[u8]| sasl(&authority, "PLAIN", Some(key)).unwrap().unwrap();
    let mut by_first = Claims::default();
    by_first.grant_connection(plain(b"\0shop\0primary"));
    let mut by_second = Claims::default();
    let token = authority.verify(FORM, "sb://broker.example/eu/my queue", NOW).unwrap();
    by_second.grant(token, NOW).unwrap();
    let mut look = |rules: Vec<AccessRule>| {
        let before = *authority.changes().borrow();
        let changes = authority.adopt(&Authority::new(rules, None, false));
        assert_eq!(before == *authority.changes().borrow(), changes.is_empty());
        let worth = [&mut by_first, &mut by_second]
            .map(|claims| look_again(claims, &authority, "eu/my queue"));
        (changes.iter().map(ToString::to_string).collect::<Vec<_>>(), worth)
    };
    let second = "c2Vjb25kYXJ5IGtleQ==";
    let (send, none) = ([true, false, false], [false; 3]);
    let same = vec![shop("primary", Some(second), SEND)];
    assert_eq!(look(same.clone()), (vec!["rule orders of orders: removed".into()], [send, send]));
    assert_eq!(look(same), (vec![], [send, send]));
    let both = Rights { send: true, ..LISTEN };
    let more = vec![shop("primary", Some(second), both)];
    let wider = [true, true, false];
    assert_eq!(look(more), (vec!["rule shop: rights changed".into()], [wider, wider]));
    let rotated = vec![shop(second, Some("fresh"), SEND)];
    let (changes, worth) = look(rotated);
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes.concat().contains("secondary key") && !changes.concat().contains("fresh"));
    assert_eq!(worth, [none, send], "a key may become the other one");
    assert_eq!(look(Vec::new()), (vec!["rule shop: removed".into()], [none, none]));
    // What is gone does not come back with the key.
    let back = vec![shop("primary", Some(second), SEND)];
    assert_eq!(look(back), (vec!["rule shop: added".into()], [none, none]));
}

#[test]
fn clients_with_certificates_lose_what_their_rule_loses() {
    let client = |rights, entity: Option<&EntityPath>| {
        CertificateRule::new(CertificateName::Dns("shop.example".into()), rights, entity)
    };
    let known = |clients| Authority::new(Vec::new(), None, false).with_clients(clients);
    let authority = known(vec![client(SEND, None), client(LISTEN, Some(&path("orders")))]);
    let mut params = rcgen::CertificateParams::new(vec!["shop.example".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2033, 5, 18);
    let signed = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let certificate = Certificate::read(signed.der()).unwrap();
    let mut claims = Claims::default();
    claims.grant_connection(external(&authority, Some(&certificate)).unwrap().unwrap());
    assert_eq!(look_again(&mut claims, &authority, "orders"), [true, true, false]);
    let changes = authority.adopt(&known(vec![client(LISTEN, Some(&path("orders")))]));
    assert_eq!(changes, [RuleChange::Clients]);
    assert_eq!(look_again(&mut claims, &authority, "orders"), [false, true, false]);
    authority.adopt(&known(Vec::new()));
    assert_eq!(look_again(&mut claims, &authority, "orders"), [false; 3]);
    assert!(claims.is_empty());
}

fn own_rule(name: &str, key: &str, rights: access::AccessRights) -> access::AccessRule {
    access::AccessRule {
        name: name.into(),
        rights,
        primary_key: access::AccessKey::new(key),
        secondary_key: access::AccessKey::new("2nd"),
        created_at: NOW,
        modified_at: NOW,
    }
}

/// `PLAIN_TEXT` was signed with this key by a rule of this name for `orders`.
#[test]
fn rules_of_an_entity_are_good_there_and_below_and_as_long_as_it_has_them() {
    let authority = Authority::new(Vec::new(), None, false);
    check(&authority, PLAIN_TEXT, "sb://localhost/orders", Err(TokenError::Signature));
    let listen = access::AccessRights { listen: true, ..access::AccessRights::default() };
    let rules = [own_rule("x", "y", listen), own_rule("orders", "b3JkZXJzIGtleQ==", listen)];
    let changes = authority.changes();
    authority.set_rules_of(&path("Orders"), &rules);
    assert!(changes.has_changed().unwrap());
    check(&authority, PLAIN_TEXT, "sb://localhost/orders", Ok(LISTEN));
    check(&authority, PLAIN_TEXT, "sb://localhost/ORDERS/$DeadLetterQueue", Ok(LISTEN));
    check(&authority, PLAIN_TEXT, "sb://localhost/orders/a/b/$management", Ok(LISTEN));
    check(&authority, PLAIN_TEXT, "sb://localhost/orders2", Err(TokenError::Signature));
    check(&authority, PLAIN_TEXT, "sb://localhost/eu/orders", Err(TokenError::Signature));
    check(&authority, PLAIN_TEXT, "sb://localhost", Err(TokenError::Signature));

    let mut claims = claims(&[(&authority, PLAIN_TEXT, "sb://localhost/orders")]);
    let plain = sasl(&authority, "PLAIN", Some(b"\0x\x002nd")).unwrap().unwrap();
    claims.grant_connection(plain);
    check_allowed(&claims, Resource::Entity(&path("orders/x")), [false, true, false]);
    check_allowed(&claims, Resource::Entity(&path("other")), [false; 3]);
    let changes = authority.changes();
    authority.set_rules_of(&path("orders"), &rules);
    assert!(!changes.has_changed().unwrap(), "nothing is new");
    // The same rule of another entity is another rule.
    authority.set_rules_of_all(std::iter::once((&path("other"), &rules[..])));
    assert!(changes.has_changed().unwrap());
    assert_eq!(look_again(&mut claims, &authority, "orders"), [false; 3]);
    assert!(claims.is_empty());
    check(&authority, PLAIN_TEXT, "sb://localhost/orders", Err(TokenError::Signature));
    authority.set_rules_of(&path("other"), &[]);
    assert_eq!(sasl(&authority, "PLAIN", Some(b"\0x\0y")), Err(SaslDenied::Password));
}

/// The configuration may have a rule of the same name for the entity, and it keeps its own keys.
#[test]
fn rules_of_an_entity_and_of_the_configuration_stand_side_by_side() {
    let authority = configured();
    let send = access::AccessRights { send: true, ..access::AccessRights::default() };
    authority.set_rules_of(&path("orders"), &[own_rule("orders", "own", send)]);
    check(&authority, PLAIN_TEXT, "sb://localhost/orders", Ok(LISTEN));
    let granted = sasl(&authority, "PLAIN", Some(b"\0orders\0own")).unwrap().unwrap();
    let mut claims = Claims::default();
    claims.grant_connection(granted);
    check_allowed(&claims, Resource::Entity(&path("orders")), [true, false, false]);
    authority.adopt(&Authority::new(Vec::new(), None, false));
    assert_eq!(look_again(&mut claims, &authority, "orders"), [true, false, false]);
    check(&authority, PLAIN_TEXT, "sb://localhost/orders", Err(TokenError::Signature));
}
