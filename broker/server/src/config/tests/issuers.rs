//! Identity providers and networks, as the file says them.

use super::*;

const GOOD: &str = "[[issuer]]\nissuer = \"https://id.example/\"\naudiences = [\"peeklock\"]\n";

#[track_caller]
fn check_refused(lines: &str, expected: &str) {
    assert_eq!(from_file(&format!("{GOOD}{lines}")).unwrap_err(), expected);
}

#[test]
fn an_issuer_needs_its_name_and_audiences() {
    let settings = from_file(GOOD).unwrap();
    assert_eq!(settings.warnings, Vec::<String>::new(), "clients can be let in");
    let missing = from_file("[[issuer]]\nissuer = \"https://id.example/\"\n").unwrap_err();
    assert_eq!(missing, "FILE:1: issuer: missing field `audiences`");
    let twice = from_file(&format!("{GOOD}{GOOD}")).unwrap_err();
    assert_eq!(twice, "FILE:5: issuer[1].issuer: https://id.example/ is declared twice");
    let empty = GOOD.replace("\"peeklock\"", "");
    assert_eq!(from_file(&empty).unwrap_err(), "FILE:3: issuer[0].audiences: is empty");
}

#[test]
fn keys_come_by_tls_or_on_purpose_without() {
    let plain = GOOD.replace("https", "http");
    let reason = "whoever is on the way could put keys of its own in; use https, or set plain_text = \
                  true on a network that you trust";
    assert_eq!(from_file(&plain).unwrap_err(), format!("FILE:2: issuer[0].issuer: {reason}"));
    assert!(from_file(&format!("{plain}plain_text = true\n")).is_ok());
    check_refused(
        "jwks_uri = \"http://id.example/keys\"\n",
        &format!("FILE:4: issuer[0].jwks_uri: {reason}"),
    );
    check_refused(
        "jwks_uri = \"keys.json\"\n",
        "FILE:4: issuer[0].jwks_uri: \"keys.json\" is not https://HOST/PATH",
    );
    // Whoever names the address of the keys may have an issuer with any name.
    let named = GOOD.replace("https://id.example/", "id.example");
    assert_eq!(
        from_file(&named).unwrap_err(),
        "FILE:2: issuer[0].issuer: \"id.example\" is not https://HOST/PATH"
    );
    assert!(from_file(&format!("{named}jwks_uri = \"https://id.example/keys\"\n")).is_ok());
}

#[test]
fn algorithms_are_those_with_a_public_key() {
    assert!(from_file(&format!("{GOOD}algorithms = [\"PS256\", \"EdDSA\"]\n")).is_ok());
    for wrong in ["none", "HS256", "rs256", ""] {
        let error = from_file(&format!("{GOOD}algorithms = [\"RS256\", \"{wrong}\"]\n"));
        let error = error.unwrap_err();
        assert!(error.starts_with("FILE:4: issuer[0].algorithms: "), "{error}");
        assert!(error.contains("is not one of RS256, "), "{error}");
    }
    check_refused("algorithms = []\n", "FILE:4: issuer[0].algorithms: is empty");
}

#[test]
fn times_of_an_issuer_have_bounds() {
    check_refused(
        "clock_skew = \"6m\"\n",
        "FILE:4: issuer[0].clock_skew: 6m is not between 0ms and 5m",
    );
    check_refused(
        "refresh_every = \"2h\"\nkeys_kept_for = \"1h\"\n",
        "FILE:5: issuer[0].keys_kept_for: must be more than refresh_every, or there would be times \
         without keys",
    );
}

#[test]
fn a_role_is_for_entities_that_can_be_there() {
    let role = "[[issuer.role]]\nname = \"r\"\nrights = [\"send\"]\n";
    for entity in ["orders", "eu/*", "*-orders", "*"] {
        assert!(from_file(&format!("{GOOD}{role}entity = \"{entity}\"\n")).is_ok(), "{entity}");
    }
    for entity in ["", "/orders", "a b", "$management"] {
        let error = from_file(&format!("{GOOD}{role}entity = \"{entity}\"\n")).unwrap_err();
        assert!(error.starts_with("FILE:7: issuer[0].role[0].entity: "), "{error}");
    }
    check_refused(
        "[[issuer.role]]\nname = \"\"\nrights = [\"send\"]\n",
        "FILE:5: issuer[0].role[0].name: is empty",
    );
}

#[test]
fn networks_are_written_as_such() {
    let peer = |text: &str| text.parse().unwrap();
    let everywhere = from_file("").unwrap().allowed_networks;
    assert!(everywhere.allow(peer("203.0.113.9")));
    let pairs = [("PEEKLOCK_ALLOWED_NETWORKS", "127.0.0.1, 10.0.0.0/8")];
    let some = load_text("", &pairs, Overrides::default()).unwrap().allowed_networks;
    assert!(some.allow(peer("10.2.3.4")) && !some.allow(peer("127.0.0.2")));
    assert_eq!(
        from_file("allowed_networks = [\"10.0.0.1/8\"]").unwrap_err(),
        "FILE:1: allowed_networks[0]: \"10.0.0.1/8\" has bits behind its prefix; 10.0.0.0/8 has not"
    );
    assert_eq!(
        from_file("allowed_networks = []").unwrap_err(),
        "FILE:1: allowed_networks: is empty, so nobody could connect"
    );
}
