//! Configuration files of the emulator: what comes of them, and what is refused.

use std::time::Duration;

use peeklock_core::time::Span;
use peeklock_core::topic::rules::{RuleFilter, SqlText};
use serde_json::json;

use super::super::tests::{Scratch, addresses, variables};
use super::*;
use crate::config::{Overrides, QueueDeclaration, load};

const EXAMPLE: &str = include_str!("../../../../../deploy/emulator/Config.json");

fn load_with(
    text: &str,
    limits: bool,
    pairs: &[(&str, &str)],
    mut overrides: Overrides,
) -> Result<Settings, String> {
    let file = Scratch::with(text);
    overrides.emulator = Some(EmulatorOptions { file: file.0.clone(), limits });
    load(&overrides, variables(pairs))
        .map_err(|error| error.to_string().replace(&file.0.display().to_string(), "FILE"))
}

fn from_text(text: &str) -> Result<Settings, String> {
    load_with(text, false, &[], Overrides::default())
}

/// A file with one namespace.
fn with_namespace(namespace: &serde_json::Value) -> String {
    json!({"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "Console"}}}).to_string()
}

fn queue(properties: &serde_json::Value) -> String {
    with_namespace(&json!({"Queues": [{"Name": "q", "Properties": properties}]}))
}

fn rule(properties: &serde_json::Value) -> String {
    let rules = json!([{"Name": "r", "Properties": properties}]);
    let subscriptions = json!([{"Name": "s", "Rules": rules}]);
    with_namespace(&json!({"Topics": [{"Name": "t", "Subscriptions": subscriptions}]}))
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    assert_eq!(from_text(text).unwrap_err(), expected);
}

#[track_caller]
fn check_limited(text: &str, expected: &str) {
    assert!(from_text(text).is_ok(), "only the quota is exceeded");
    let refused = load_with(text, true, &[], Overrides::default());
    assert_eq!(refused.unwrap_err(), expected);
}

#[test]
fn the_example_declares_what_it_says() {
    let settings = from_text(EXAMPLE).unwrap();
    assert!(settings.emulator && settings.dev && !settings.ephemeral);
    assert_eq!(addresses(&settings), ["0.0.0.0:5672", "0.0.0.0:5300"]);
    let [payments, accounts, audit] = &settings.queues[..] else { panic!("three queues") };
    assert_eq!(payments.path.to_string(), "payments");
    assert_eq!(
        payments.settings,
        QueueSettings {
            lock_duration: Span::from_secs(30),
            attempts_max: 5,
            default_time_to_live: Some(Span::from_secs(3_600)),
            dead_letter_on_expiry: true,
            duplicate_window: Some(Span::from_secs(60)),
            ..QueueSettings::default()
        }
    );
    assert!(accounts.settings.requires_session);
    let QueueDeclaration { settings: defaults, only_if_missing, .. } = audit;
    assert!(!only_if_missing);
    let hour = Some(Span::from_secs(3_600));
    let expected =
        QueueSettings { attempts_max: 3, default_time_to_live: hour, ..QueueSettings::default() };
    assert_eq!(*defaults, expected, "the emulator's defaults");

    let [orders] = &settings.topics[..] else { panic!("one topic") };
    assert_eq!(orders.settings.default_time_to_live, Some(Span::from_secs(1_200)));
    let [shipping, large, everything] = &orders.subscriptions[..] else { panic!("three") };
    let target = shipping.settings.forward_dead_letters_to.as_ref().map(ToString::to_string);
    assert_eq!(target.as_deref(), Some("audit"));
    let [paid] = &shipping.rules.as_ref().unwrap()[..] else { panic!("one rule") };
    let RuleFilter::Correlation(correlation) = &paid.filter else { panic!("{:?}", paid.filter) };
    assert_eq!((correlation.system.len(), correlation.user.len()), (1, 1));
    let [by_amount] = &large.rules.as_ref().unwrap()[..] else { panic!("one rule") };
    let text = "amount > 1000 AND sys.Label LIKE 'order%'";
    assert_eq!(by_amount.filter, RuleFilter::Sql(SqlText::plain(text)));
    assert!(by_amount.action.is_some());
    assert!(everything.rules.is_none(), "it gets the default rule");
    let [warning] = &settings.warnings[..] else { panic!("{:?}", settings.warnings) };
    assert!(warning.contains("well-known key"));
}

#[test]
fn what_can_be_left_out_may_be() {
    for text in [
        r#"{"UserConfig": {"Namespaces": [{}]}}"#,
        r#"{"userconfig": {"NAMESPACES": [{"queues": null}], "Logging": {}}}"#,
        r#"{"UserConfig": {"Namespaces": [{"Name": "any", "Topics": [], },], }, }"#,
    ] {
        let settings = from_text(text).unwrap();
        assert_eq!((settings.queues.len(), settings.topics.len()), (0, 0));
    }
    let empty = json!([{"Name": "s", "Rules": []}]);
    let text =
        with_namespace(&json!({"Topics": [{"Name": "t", "Subscriptions": empty}, {"Name": "u"}]}));
    let settings = from_text(&text).unwrap();
    assert!(settings.topics[0].subscriptions[0].rules.is_none());
    assert!(settings.topics[1].subscriptions.is_empty());
}

/// Files written by hand and by tools have numbers and booleans in quotes, and what the emulator
/// does not know.
#[test]
fn what_other_tools_write_is_understood() {
    let text = queue(&json!({
        "maxdeliverycount": "2147483647",
        "RequiresSession": "True",
        "DefaultMessageTimeToLive": "P10675199DT2H48M5.4775807S",
        "RequiresDuplicateDetection": false,
        "DuplicateDetectionHistoryTimeWindow": "PT5S",
        "AutoDeleteOnIdle": "PT10M",
        "UserMetadata": "for tests",
        "EnablePartitioning": false,
    }));
    let settings = from_text(&text).unwrap();
    let queue = &settings.queues[0].settings;
    assert_eq!((queue.attempts_max, queue.requires_session), (2_147_483_647, true));
    assert_eq!((queue.default_time_to_live, queue.duplicate_window), (None, None));
    assert_eq!(queue.auto_delete_on_idle, Some(Span::from_secs(600)));
    assert_eq!(&*queue.user_metadata, "for tests");
    let path = "UserConfig.Namespaces[0].Queues[0].Properties.EnablePartitioning";
    let ignored = format!("{path} is ignored: it means nothing here");
    assert!(settings.warnings.contains(&ignored), "{:?}", settings.warnings);
}

#[test]
fn a_window_for_duplicates_has_a_default_and_a_least() {
    let window = |properties| from_text(&queue(&properties)).unwrap();
    let by_default = window(json!({"RequiresDuplicateDetection": true}));
    assert_eq!(by_default.queues[0].settings.duplicate_window, Some(Span::from_secs(20)));
    let name = "DuplicateDetectionHistoryTimeWindow";
    let short = window(json!({"RequiresDuplicateDetection": true, name: "PT5S"}));
    assert_eq!(short.queues[0].settings.duplicate_window, Some(Span::from_secs(20)));
    assert!(short.warnings.iter().any(|warning| warning.contains("20 s")));
}

#[test]
fn logging_is_to_standard_error() {
    let text = |kind: &str| {
        json!({"UserConfig": {"Namespaces": [{}], "Logging": {"Type": kind}}}).to_string()
    };
    let warned = |kind| from_text(&text(kind)).unwrap().warnings.join(" ").contains("no file");
    assert!(warned("File") && warned("console, FILE") && !warned("Console"));
    check_refused(
        &text("Printer"),
        "FILE: UserConfig.Logging.Type: \"Printer\" is not \"File\", \"Console\" or both",
    );
}

#[test]
fn what_is_no_configuration_is_refused() {
    let refusal = |text| from_text(text).unwrap_err();
    assert!(refusal("{\n\"UserConfig\": nothing}").starts_with("FILE: is not JSON: "));
    assert!(refusal("{\n\"UserConfig\": nothing}").contains("line 2"));
    check_refused("{}", "FILE: UserConfig is missing from the file");
    check_refused("[]", "FILE: must be an object");
    check_refused(
        r#"{"UserConfig": {"NamespaceConfig": []}}"#,
        "FILE: UserConfig: is of the Event Hubs emulator; this broker is no event hub",
    );
    for (count, namespaces) in [(0, "[]"), (2, "[{}, {}]")] {
        let text = format!(r#"{{"UserConfig": {{"Namespaces": {namespaces}}}}}"#);
        let reason = format!("FILE: UserConfig: Namespaces must be one, not {count}");
        check_refused(&text, &reason);
    }
    let missing = Overrides {
        emulator: Some(EmulatorOptions { file: "/nowhere/at/all.json".into(), limits: false }),
        ..Overrides::default()
    };
    let refused = load(&missing, []).unwrap_err().to_string();
    assert!(refused.starts_with("/nowhere/at/all.json: cannot be read"), "{refused}");
}

#[test]
fn wrong_values_are_refused_by_their_path() {
    let place = "FILE: UserConfig.Namespaces[0].Queues[0].Properties";
    for (name, value, reason) in [
        ("MaxDeliveryCount", json!(0), "0 is not between 1 and 2147483647"),
        ("MaxDeliveryCount", json!(-1), "-1 is not between 1 and 2147483647"),
        ("MaxDeliveryCount", json!("many"), "must be a whole number"),
        ("RequiresSession", json!("perhaps"), "must be true or false"),
        ("LockDuration", json!(60), "must be a string"),
        ("LockDuration", json!("PT1S"), "1s is not between 5s and 5m"),
        (
            "DefaultMessageTimeToLive",
            json!("an hour"),
            "\"an hour\" is not a duration: write it as \"PT1H\" or \"P1DT30S\"",
        ),
        ("ForwardTo", json!("nobody"), "there is no queue or topic \"nobody\" in this file"),
        ("ForwardTo", json!("Q"), "a queue cannot forward to itself"),
    ] {
        check_refused(&queue(&json!({name: value})), &format!("{place}.{name}: {reason}"));
    }
    let twice = json!({"Queues": [{"Name": "a"}], "Topics": [{"Name": "A"}]});
    check_refused(
        &with_namespace(&twice),
        "FILE: UserConfig.Namespaces[0].Topics[0].Name: A is declared twice",
    );
    check_refused(
        &with_namespace(&json!({"Queues": [{"Properties": {}}]})),
        "FILE: UserConfig.Namespaces[0].Queues[0]: Name is missing from it",
    );
    let nameless = from_text(&with_namespace(&json!({"Queues": [{"Name": "a b"}]}))).unwrap_err();
    let expected = "FILE: UserConfig.Namespaces[0].Queues[0].Name: \"a b\" cannot name a queue";
    assert!(nameless.starts_with(expected), "{nameless}");
    let subscriptions = json!([{"Name": "a"}, {"Name": "b/c"}]);
    let text = with_namespace(&json!({"Topics": [{"Name": "t", "Subscriptions": subscriptions}]}));
    let nameless = from_text(&text).unwrap_err();
    let expected = "FILE: UserConfig.Namespaces[0].Topics[0].Subscriptions[1].Name: ";
    assert!(nameless.starts_with(expected), "{nameless}");
}

#[test]
fn a_rule_that_would_let_through_too_much_is_refused() {
    let place = "FILE: UserConfig.Namespaces[0].Topics[0].Subscriptions[0].Rules[0]";
    for (properties, reason) in [
        (json!({}), ".Properties: FilterType is missing from it"),
        (
            json!({"FilterType": "SqlFilter"}),
            ".Properties.FilterType: \"SqlFilter\" is not \"Correlation\" or \"Sql\"",
        ),
        (json!({"FilterType": "SQL"}), ".Properties: SqlFilter is missing from it"),
        (
            json!({"FilterType": "Sql", "SqlFilter": {}}),
            ".Properties.SqlFilter: SqlExpression is missing from it",
        ),
        (
            json!({"FilterType": "Correlation", "CorrelationFilter": {}}),
            ".Properties.CorrelationFilter: asks for nothing",
        ),
        (
            json!({"FilterType": "Correlation", "CorrelationFilter": {"Lable": "x"}}),
            ".Properties.CorrelationFilter.Lable: is nothing that a correlation filter can ask for",
        ),
        (
            json!({"FilterType": "Correlation", "CorrelationFilter": {"Properties": {"a": []}}}),
            ".Properties.CorrelationFilter.Properties.a: must be a string, a number, true or false",
        ),
    ] {
        check_refused(&rule(&properties), &format!("{place}{reason}"));
    }
    let syntax = json!({"FilterType": "Sql", "SqlFilter": {"SqlExpression": "a ="}});
    let refused = from_text(&rule(&syntax)).unwrap_err();
    assert!(refused.starts_with(&format!("{place}: ")), "{refused}");
}

#[test]
fn the_quotas_of_the_emulator_hold_where_they_are_asked_for() {
    let settings = load_with(EXAMPLE, true, &[], Overrides::default()).unwrap();
    assert_eq!((settings.core.queues_max, settings.limits.connections_max), (50, 10));
    assert_eq!((settings.core.sql_filters_max, settings.core.correlation_filters_max), (70, 1_000));
    assert_eq!(settings.queues[0].settings.message_bytes_max, 256 * 1024);
    assert_eq!(settings.topics[0].settings.entity_bytes_max, 100 * 1024 * 1024);
    let place = "FILE: UserConfig.Namespaces[0].Queues[0].Properties";
    check_limited(
        &queue(&json!({"MaxDeliveryCount": 11})),
        &format!("{place}.MaxDeliveryCount: 11 is not between 1 and 10"),
    );
    check_limited(
        &queue(&json!({"DefaultMessageTimeToLive": "P14D"})),
        &format!("{place}.DefaultMessageTimeToLive: is not between 300 and 3600 seconds"),
    );
    let many: Vec<_> = (0..51).map(|n| json!({"Name": format!("q{n}")})).collect();
    check_limited(
        &with_namespace(&json!({"Queues": many})),
        "FILE: UserConfig.Namespaces[0]: has 51 queues and topics, and the emulator allows 50",
    );
    let filter = json!({"FilterType": "Sql", "SqlFilter": {"SqlExpression": "a = 1"}});
    let rules: Vec<_> =
        (0..71).map(|n| json!({"Name": format!("r{n}"), "Properties": filter})).collect();
    let subscriptions = json!([{"Name": "s", "Rules": rules}]);
    check_limited(
        &with_namespace(&json!({"Topics": [{"Name": "t", "Subscriptions": subscriptions}]})),
        "FILE: UserConfig.Namespaces[0].Topics[0]: has 71 SQL filters, and the emulator allows 70",
    );
}

/// The environment of the stock compose file.
#[test]
fn variables_of_the_emulator_are_honoured_or_do_no_harm() {
    let pairs = [
        ("ACCEPT_EULA", "Y"),
        ("SQL_SERVER", "sqledge"),
        ("MSSQL_SA_PASSWORD", "secret"),
        ("SQL_WAIT_INTERVAL", "0"),
        ("EMULATOR_HTTP_PORT", "8080"),
    ];
    let settings = load_with(EXAMPLE, false, &pairs, Overrides::default()).unwrap();
    assert_eq!(addresses(&settings), ["0.0.0.0:5672", "0.0.0.0:8080"]);
    let listen = Overrides { listen: vec!["127.0.0.1:0".to_owned()], ..Overrides::default() };
    let settings = load_with(EXAMPLE, false, &pairs, listen).unwrap();
    assert_eq!(addresses(&settings), ["127.0.0.1:0"]);
    let wrong = [("EMULATOR_HTTP_PORT", "http")];
    let refused = load_with(EXAMPLE, false, &wrong, Overrides::default()).unwrap_err();
    assert_eq!(refused, "environment variable EMULATOR_HTTP_PORT: \"http\" is not a port");
    assert!(load(&Overrides::default(), variables(&wrong)).is_ok(), "it means nothing elsewhere");
}

#[test]
fn other_settings_come_from_the_usual_places() {
    let toml = Scratch::with("[limits]\nidle_timeout = \"30s\"\n");
    let overrides = || Overrides {
        config: Some(toml.0.clone()),
        queues: vec!["more".to_owned()],
        ..Overrides::default()
    };
    let settings = load_with(EXAMPLE, false, &[], overrides()).unwrap();
    assert_eq!(settings.limits.idle_timeout, Duration::from_secs(30));
    assert_eq!(settings.queues.len(), 4);
    let refused = load_with(EXAMPLE, false, &[("PEEKLOCK_QUEUE", "a")], overrides()).unwrap_err();
    assert_eq!(
        refused,
        "environment variable PEEKLOCK_QUEUE: queue: cannot be declared beside --emulator-config"
    );
}

/// The image may be started without anything mounted into it.
#[test]
fn without_a_file_where_the_image_has_it_nothing_is_declared() {
    let emulator = EmulatorOptions { file: MOUNTED.into(), limits: false };
    let settings =
        load(&Overrides { emulator: Some(emulator), ..Overrides::default() }, []).unwrap();
    assert!(settings.queues.is_empty() && settings.emulator);
    assert!(settings.warnings[1].contains(MOUNTED), "{:?}", settings.warnings);
}
