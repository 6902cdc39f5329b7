//! `queue`, `topic`, `subscription` and `rule`.

use peeklock_tests::TestBroker;
use serde_json::json;

use crate::{CommandLine, exit};

#[test]
fn a_queue_from_its_creation_to_its_end() {
    let broker = TestBroker::start();
    let created = broker.json(&[
        "queue",
        "create",
        "orders",
        "--lock-duration",
        "30s",
        "--max-delivery-count",
        "5",
        "--max-size",
        "2GiB",
        "--max-message-size",
        "256 KiB",
        "--default-message-time-to-live",
        "P1DT12H",
        "--dead-lettering-on-message-expiration",
        "--auto-delete-on-idle",
        "10m",
        "--requires-session",
        "--requires-duplicate-detection",
        "--duplicate-detection-history-time-window",
        "1h",
        "--forward-dead-lettered-messages-to",
        "q",
        "--user-metadata",
        "a \"text\" & <more>",
        "--status",
        "receive-disabled",
    ]);
    let shown = broker.json(&["queue", "show", "orders"]);
    for queue in [&created, &shown] {
        for (key, value) in [
            ("name", json!("orders")),
            ("lock_duration", json!("30s")),
            ("max_delivery_count", json!(5)),
            ("max_size", json!("2 GiB")),
            ("max_message_size", json!("256 KiB")),
            ("default_message_time_to_live", json!("1d12h")),
            ("dead_lettering_on_message_expiration", json!(true)),
            ("auto_delete_on_idle", json!("10m")),
            ("requires_session", json!(true)),
            ("requires_duplicate_detection", json!(true)),
            ("duplicate_detection_history_time_window", json!("1h")),
            ("forward_dead_lettered_messages_to", json!("q")),
            ("user_metadata", json!("a \"text\" & <more>")),
            ("status", json!("receive-disabled")),
        ] {
            assert_eq!(queue[key], value, "{key}");
        }
    }
    assert_eq!(shown["counts"]["active"], json!(0));
    assert_eq!(shown["bytes"], json!(0));

    // What is not named stays as it is.
    let updated = broker.json(&[
        "queue",
        "update",
        "orders",
        "--dead-lettering-on-message-expiration=false",
        "--forward-dead-lettered-messages-to",
        "",
        "--default-message-time-to-live",
        "never",
    ]);
    assert_eq!(updated["dead_lettering_on_message_expiration"], json!(false));
    assert_eq!(updated["forward_dead_lettered_messages_to"], json!(null));
    assert_eq!(updated["default_message_time_to_live"], json!("never"));
    for key in ["lock_duration", "max_size", "user_metadata", "status", "requires_session"] {
        assert_eq!(updated[key], shown[key], "{key}");
    }

    let text = broker.ok(&["queue", "show", "orders"]);
    assert!(text.lines().any(|line| line.starts_with("lock_duration ") && line.ends_with("30s")));
    let listed = broker.json(&["queue", "list"]);
    let names: Vec<_> = listed.as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["orders", "q"]);
    let table = broker.ok(&["queue", "list"]);
    assert!(table.starts_with("NAME    ACTIVE  DEAD"), "{table}");

    broker.fails(&["queue", "create", "orders"], exit::REFUSED, "already exists");
    broker.fails(&["queue", "delete", "orders"], exit::REFUSED, "say --yes");
    broker.ok(&["queue", "delete", "orders", "--yes"]);
    broker.fails(&["queue", "show", "orders"], exit::NOT_FOUND, "there is no queue orders");
    broker.fails(&["queue", "delete", "orders", "--yes"], exit::NOT_FOUND, "no queue orders");
}

#[test]
fn more_queues_than_an_answer_holds() {
    let names: Vec<String> = (0..105).map(|number| format!("q{number:03}")).collect();
    let lines: Vec<String> =
        names.iter().map(|name| format!("[[queue]]\nname = \"{name}\"\n")).collect();
    let broker = TestBroker::with().config(&lines.concat()).start();
    let listed = broker.json(&["queue", "list"]);
    let listed = listed.as_array().expect("a list").iter();
    let listed: Vec<_> = listed.filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(listed, names);
}

#[test]
fn topics_subscriptions_and_rules() {
    let broker = TestBroker::start();
    broker.ok(&["topic", "create", "a/events", "--default-message-time-to-live", "1h"]);
    broker.ok(&["topic", "update", "a/events", "--max-size", "5 GiB"]);
    let topic = broker.json(&["topic", "show", "a/events"]);
    assert_eq!(topic["default_message_time_to_live"], json!("1h"));
    assert_eq!(topic["max_size"], json!("5 GiB"));
    broker.fails(&["queue", "show", "a/events"], exit::NOT_FOUND, "no queue");

    broker.ok(&["subscription", "create", "a/events", "all"]);
    broker.ok(&[
        "subscription",
        "create",
        "a/events",
        "red",
        "--sql",
        "color = @c",
        "--parameter",
        "c=red",
        "--action",
        "SET seen = 1",
        "--lock-duration",
        "10s",
        "--dead-lettering-on-filter-evaluation-exceptions=false",
    ]);
    let red = broker.json(&["subscription", "show", "a/events", "red"]);
    assert_eq!(red["lock_duration"], json!("10s"));
    assert_eq!(red["dead_lettering_on_filter_evaluation_exceptions"], json!(false));
    broker.ok(&["subscription", "update", "a/events", "red", "--forward-to", "q"]);
    assert_eq!(broker.json(&["subscription", "show", "a/events", "red"])["forward_to"], json!("q"));
    let listed = broker.json(&["subscription", "list", "a/events"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(broker.json(&["topic", "show", "a/events"])["subscriptions"], json!(2));

    let rule = broker.json(&["rule", "show", "a/events", "red", "$Default"]);
    let expected = json!({
        "name": "$Default", "sql_filter": "color = @c", "parameters": { "@c": "red" },
        "sql_action": "SET seen = 1",
    });
    assert_eq!(rule, expected);
    broker.ok(&[
        "rule",
        "create",
        "a/events",
        "red",
        "two",
        "--correlation",
        "label=x",
        "--correlation",
        "size:long=5",
    ]);
    let filter = json!({ "label": "x", "properties": { "size": "5" } });
    let two = broker.json(&["rule", "show", "a/events", "red", "two"]);
    assert_eq!(two["correlation_filter"], filter);
    broker.ok(&["rule", "update", "a/events", "red", "two", "--none"]);
    let table = broker.ok(&["rule", "list", "a/events", "red"]);
    assert!(
        table.lines().any(|line| line.starts_with("two") && line.contains("nothing")),
        "{table}"
    );
    broker.ok(&["rule", "delete", "a/events", "red", "two"]);
    broker.fails(&["rule", "show", "a/events", "red", "two"], exit::NOT_FOUND, "no rule");
    broker.fails(
        &["rule", "create", "a/events", "red", "bad", "--sql", "color = "],
        exit::REFUSED,
        "character",
    );

    // What the rules let through: the topic's message goes to one as it is and to q by way of red.
    broker.ok(&["send", "a/events", "x", "-p", "color=red"]);
    broker.ok(&["send", "a/events", "y", "-p", "color=blue"]);
    let all = broker.ok(&["receive", "a/events/subscriptions/all", "--all", "--body"]);
    assert_eq!(all, "xy");
    let forwarded = broker.lines(&["receive", "q"]);
    assert_eq!(forwarded[0]["application_properties"]["seen"], json!({ "long": 1 }));

    broker.ok(&["subscription", "delete", "a/events", "red", "-y"]);
    broker.ok(&["topic", "delete", "a/events", "-y"]);
    broker.fails(&["topic", "show", "a/events"], exit::NOT_FOUND, "no topic");
}
