//! Namespaces beside the default one.

use super::*;

fn section(name: &str, more: &str) -> String {
    format!("[[namespace]]\nname = \"{name}\"\n{more}\n")
}

const RULE: &str = "[[namespace.rule]]\nname = \"r\"\nprimary_key = \"k\"\nrights = [\"send\"]\n";

#[test]
fn a_namespace_has_entities_and_rules_of_its_own() {
    let text = format!(
        "hosts = [\"a.example\"]\n[[queue]]\nname = \"q\"\n{}[[namespace.queue]]\nname = \"q\"\n\
         [[namespace.topic]]\nname = \"t\"\n{RULE}{}{RULE}",
        section("Shop", "hosts = [\"Shop.example\", \"s.example\"]"),
        section("desk", "")
    );
    let options = Overrides { dev: true, ..Overrides::default() };
    let settings = load_text(&text, &[], options).unwrap();
    let [shop, desk] = settings.namespaces.as_slice() else { panic!("two namespaces") };
    assert_eq!((shop.name.as_str(), desk.name.as_str()), ("shop", "desk"));
    assert_eq!(shop.hosts, ["shop.example", "s.example"]);
    assert_eq!((shop.queues.len(), shop.topics.len(), desk.queues.len()), (1, 1, 0));
    assert_eq!((settings.queues.len(), settings.topics.len()), (1, 0));
    assert!(shop.authority.is_home("s.example") && !shop.authority.is_home("localhost"));
    assert!(desk.authority.is_home("localhost"));
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn a_namespace_without_rules_is_warned_of() {
    let options = Overrides { dev: true, ..Overrides::default() };
    let settings = load_text(&section("shop", ""), &[], options).unwrap();
    assert_eq!(
        settings.warnings,
        ["the namespace shop has no rule, so every client of it will be refused"]
    );
}

#[test]
fn a_mistake_is_named_with_its_namespace() {
    check_refused(
        &section("a.b", ""),
        "FILE:2: namespace[0].name: \"a.b\" cannot name a namespace: letters, digits and '-' can, 50 at the \
         most, with a letter or digit at both ends",
    );
    check_refused(
        &section("a", "[[namespace.queue]]\nname = \"q\"\nlock_duration = \"1h\""),
        "FILE:5: namespace[0].queue[0].lock_duration: 1h is not between 5s and 5m",
    );
    check_refused(
        &section("a", "[[namespace.rule]]\nname = \"r\"\nprimary_key = \"\"\nrights = []"),
        "FILE:5: namespace[0].rule[0].primary_key: an empty key would let everybody in",
    );
    check_refused(
        &section("a", "hosts = [\"https://x\"]"),
        "FILE:3: namespace[0].hosts[0]: \"https://x\" is not a host name (no scheme, no port)",
    );
}

#[test]
fn no_host_leads_to_two_namespaces() {
    let twice = format!("{}{}", section("a", ""), section("A", ""));
    check_refused(&twice, "FILE:5: namespace[1].name: the namespace a is declared twice");
    let hosts = "hosts = [\"x.example\"]";
    let of_others = [
        format!("{}{}", section("a", hosts), section("b", "hosts = [\"X.example\"]")),
        format!("{}{}", section("a", hosts), section("x", "")),
        format!("{}{}", section("x", ""), section("b", hosts)),
        format!("{hosts}\n{}", section("x", "")),
        format!("{hosts}\n{}", section("b", hosts)),
    ];
    for text in of_others {
        let refused = from_file(&text).unwrap_err();
        assert!(refused.contains("namespace["), "{refused}");
        assert!(
            refused.contains("is another namespace's already")
                || refused.contains("a host of it leads to the namespace x"),
            "{refused}"
        );
    }
}

#[test]
fn namespaces_are_bounded() {
    let declared = |count: usize| (0..count).map(|n| section(&format!("n{n}"), RULE)).collect();
    let most: String = declared(64);
    assert_eq!(from_file(&most).unwrap().namespaces.len(), 64);
    let more: String = declared(65);
    let refused = from_file(&more).unwrap_err();
    assert!(
        refused.ends_with("namespace[64].name: there are more than 64 namespaces"),
        "{refused}"
    );
}

#[test]
fn what_a_test_wants_is_written_as_the_configuration_is() {
    let wanted = Wanted::read(
        br#"{"queue": [{"name": "q", "max_delivery_count": 3}], "virtual_time": true}"#,
    );
    let wanted = wanted.unwrap();
    assert_eq!((wanted.queues.len(), wanted.queues[0].settings.attempts_max), (1, 3));
    assert_eq!(wanted.virtual_time, Some(true));
    assert!(Wanted::read(b"").unwrap().queues.is_empty());
    for (json, expected) in [
        (&b"[1]"[..], "no JSON object"),
        (b"{\"queue\": ", "no JSON object"),
        (
            br#"{"queue": [{"name": "q", "lock_duration": "1h"}]}"#,
            "queue[0].lock_duration: 1h is not",
        ),
        (br#"{"queue": [{"lock_duration": "5s"}]}"#, "missing field `name`"),
        (br#"{"rule": []}"#, "unknown field `rule`"),
        (br#"{"queue": null}"#, "no configuration"),
        (br#"{"hosts": ["a"]}"#, "unknown field `hosts`"),
    ] {
        let refused = Wanted::read(json).unwrap_err();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn test_control_is_for_this_machine_or_for_development() {
    let outside = "plain_text = true\nlisten = [\"0.0.0.0:5672\"]\n";
    let on = "test_control = true\n";
    assert!(!from_file("").unwrap().test_control);
    assert!(from_file(on).unwrap().test_control);
    check_refused(
        &format!("{outside}{on}"),
        "FILE:3: test_control: other machines reach 0.0.0.0:5672; listen at addresses of this machine alone, \
         or use --dev",
    );
    let option = Overrides { dev: true, test_control: true, ..Overrides::default() };
    let settings = load_text(outside, &[], option).unwrap();
    assert!(settings.test_control);
    assert!(settings.warnings.iter().any(|warning| warning.contains("test control is on")));
}
