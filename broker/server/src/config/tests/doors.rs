//! Addresses, TLS and web pages.

use super::*;

const TLS: &str = "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";

#[test]
fn tls_adds_the_port_where_clients_look_for_it() {
    let settings = from_file(TLS).unwrap();
    let ports = ["127.0.0.1:5672", "127.0.0.1:5300", "127.0.0.1:5671", "127.0.0.1:443"];
    assert_eq!(addresses(&settings), ports);
    let needed: Vec<_> = settings.listeners.iter().map(|address| address.is_needed).collect();
    assert_eq!(needed, [true, true, true, false], "only some may listen below port 1024");
    let chosen = from_file(&format!("listen = [\"127.0.0.1:443\"]\n{TLS}")).unwrap();
    assert!(chosen.listeners[0].is_needed);
    let options = Overrides {
        tls_certificate: Some("c.pem".into()),
        tls_key: Some("k.pem".into()),
        ..Overrides::default()
    };
    assert_eq!(load_text("", &[], options).unwrap().tls, settings.tls);
    let pairs = [("PEEKLOCK_TLS__CERTIFICATE", "c.pem"), ("PEEKLOCK_TLS__KEY", "k.pem")];
    assert_eq!(load_text("", &pairs, Overrides::default()).unwrap().tls, settings.tls);
}

#[test]
fn others_are_served_with_tls_or_when_it_is_said() {
    let outside = "listen = [\"0.0.0.0:5672\"]\n";
    check_refused(
        outside,
        "FILE:1: listen[0]: other machines reach 0.0.0.0:5672, and keys and messages would be readable \
         on the way; configure [tls], or set plain_text = true on a network that you trust",
    );
    assert!(!from_file(&format!("{outside}{TLS}")).unwrap().plain_text);
    assert!(from_file(&format!("{outside}plain_text = true")).unwrap().plain_text);
    assert!(from_file(&format!("{outside}dev = true")).unwrap().plain_text);
    let option = Overrides { plain_text: true, ..Overrides::default() };
    assert!(load_text(outside, &[], option).unwrap().plain_text);
}

#[test]
fn tls_needs_both_files_and_clients_somebody_who_vouches() {
    check_refused("[tls]\nkey = \"k.pem\"", "FILE:2: tls.certificate: is missing beside tls.key");
    check_refused(
        "[tls]\ncertificate = \"c.pem\"",
        "FILE:2: tls.key: is missing beside tls.certificate",
    );
    check_refused(
        "[tls]\nclient_ca = \"ca.pem\"",
        "FILE:2: tls.certificate: is missing, and so there is no TLS",
    );
    check_refused(
        &format!("{TLS}[[tls.client]]\ndns = \"a\"\nrights = [\"send\"]"),
        "FILE:6: tls.client_ca: is missing: who vouches for the certificates of clients?",
    );
}

#[test]
fn a_client_has_one_name_and_some_rights() {
    let with = |client: &str| format!("{TLS}client_ca = \"ca.pem\"\n[[tls.client]]\n{client}");
    let settings = from_file(&with("dns = \"a\"\nrights = [\"send\"]\nentity = \"q\"")).unwrap();
    assert_eq!(settings.warnings, Vec::<String>::new());
    let one = "a client is known by one of common_name, dns, uri and email";
    check_refused(&with("rights = [\"send\"]"), &format!("FILE:6: tls.client[0]: {one}"));
    check_refused(
        &with("rights = [\"send\"]\ndns = \"a\"\nuri = \"b\""),
        &format!("FILE:6: tls.client[0]: {one}"),
    );
    check_refused(
        &with("rights = [\"all\"]\ndns = \"a\""),
        "FILE:6: tls.client[0].rights: a right is \"send\", \"listen\" or \"manage\"",
    );
}

#[test]
fn an_origin_is_a_scheme_and_a_host() {
    let with = |origin: &str| from_file(&format!("[http]\nallowed_origins = [\"{origin}\"]"));
    assert!(
        with("https://Tool.example:8443")
            .unwrap()
            .allowed_origins
            .allow("https://tool.EXAMPLE:8443")
    );
    assert!(with("*").unwrap().allowed_origins.allow("null"));
    assert!(!from_file("").unwrap().allowed_origins.allow("null"));
    for wrong in ["tool.example", "https://", "https://tool.example/", "https://*.example"] {
        let expected = format!(
            "FILE:2: http.allowed_origins[0]: \"{wrong}\" is not SCHEME://HOST or SCHEME://HOST:PORT, \
             nor \"*\""
        );
        assert_eq!(with(wrong).unwrap_err(), expected);
    }
}
