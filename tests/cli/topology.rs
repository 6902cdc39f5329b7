//! `topology`: out of one broker, into another, and again without a change.

use std::path::Path;

use peeklock_protocol::performative::Attach;
use peeklock_protocol::terminus::{Source, TargetNode, TerminusDurability};
use peeklock_protocol::value::Symbol;
use peeklock_tests::TestBroker;
use peeklock_tests::link::{receiver, sender};
use serde_json::json;

use crate::{CommandLine, exit};

const TOPOLOGY: &str = r#"
[[queue]]
name = "orders"
lock_duration = "30s"
max_delivery_count = 5
max_size = "2 GiB"
default_message_time_to_live = "1h"
dead_lettering_on_message_expiration = true
duplicate_detection_history_time_window = "5m"
forward_dead_lettered_messages_to = "dead"
user_metadata = "a \"text\"\nof two lines"

[[queue]]
name = "dead"

[[topic]]
name = "a/events"
default_message_time_to_live = "2d"

[[topic.subscription]]
name = "all"
forward_to = "orders"

[[topic.subscription]]
name = "some"
requires_session = true

[[topic.subscription.rule]]
name = "sql"
sql_filter = "color = 'red' AND price > 5"
sql_action = "SET seen = 1"

[[topic.subscription.rule]]
name = "correlation"
correlation_filter = { label = "x", properties = { "a b" = "y", n = 5, yes = true, half = 0.5 } }
"#;

fn write(broker: &TestBroker, name: &str, text: &str) -> String {
    let path = broker.dir().join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

#[track_caller]
fn export(broker: &TestBroker) -> String {
    broker.ok(&["topology", "export"])
}

#[test]
fn from_a_file_to_a_broker_and_back() {
    let broker = TestBroker::with().start();
    let file = write(&broker, "wanted.toml", TOPOLOGY);
    let apply = ["topology", "apply", &file];
    let diff = broker.ok(&[&apply[..], &["--dry-run"]].concat());
    assert!(diff.contains("+ queue orders\n    lock_duration = 30s\n"), "{diff}");
    assert!(diff.contains("    rule sql: color = 'red' AND price > 5; SET seen = 1\n"), "{diff}");
    assert_eq!(broker.json(&["queue", "list"]), json!([]), "a dry run makes nothing");
    let unasked = broker.call(&apply);
    assert_eq!(unasked.code, exit::REFUSED, "{unasked:?}");
    assert_eq!(broker.json(&["queue", "list"]), json!([]), "nobody said yes");

    let applied = broker.ok(&[&apply[..], &["--yes"]].concat());
    assert!(applied.ends_with("made 5 changes\n"), "{applied}");
    let again = broker.json(&[&apply[..], &["--yes"]].concat());
    assert_eq!(again, json!({ "changes": [], "applied": false }));
    let rules = broker.json(&["rule", "list", "a/events", "some"]);
    let names: Vec<_> =
        rules.as_array().expect("a list").iter().map(|rule| &rule["name"]).collect();
    assert_eq!(names, ["correlation", "sql"]);

    // The export makes another broker the same, by its configuration and by the command.
    let exported = export(&broker);
    let configured = TestBroker::with().config(&exported).start();
    assert_eq!(export(&configured), exported);
    let empty = TestBroker::with().start();
    let file = write(&empty, "exported.toml", &exported);
    empty.ok(&["topology", "apply", &file, "-y"]);
    assert_eq!(export(&empty), exported);
    let target = empty.dir().join("out.toml");
    empty.ok(&["topology", "export", "-o", target.to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read_to_string(&target).expect("written"), exported);
}

#[test]
fn changes_are_shown_and_nothing_is_deleted_unasked() {
    let broker = TestBroker::with().config(TOPOLOGY).start();
    broker.ok(&["queue", "create", "extra"]);
    broker.ok(&["rule", "create", "a/events", "some", "more", "--none"]);
    broker.ok(&["send", "extra", "precious"]);
    let changed = TOPOLOGY
        .replace("\"30s\"", "\"1m\"")
        .replace("price > 5", "price > 6")
        .replace("forward_to = \"orders\"", "");
    let file = write(&broker, "changed.toml", &changed);
    let apply = ["topology", "apply", &file];
    let diff = broker.ok(&[&apply[..], &["-y"]].concat());
    for line in [
        "~ queue orders\n    lock_duration: \"30s\" -> \"1m\"\n",
        "~ subscription a/events/Subscriptions/all\n    forward_to: \"orders\" -> \"\"\n",
        "~ rule sql of a/events/Subscriptions/some: ",
        "  queue extra is not in the file and stays (--prune deletes it)\n",
        "  rule more of a/events/Subscriptions/some is not in the file and stays",
        "made 3 changes\n",
    ] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert_eq!(broker.counts(&["queue", "show", "extra"]), (1, 0));
    assert_eq!(broker.json(&["queue", "show", "orders"])["lock_duration"], json!("1m"));

    let prune = [&apply[..], &["--prune"]].concat();
    let shown = broker.json(&[&prune[..], &["--dry-run"]].concat());
    let expected = json!([
        { "action": "delete", "kind": "queue", "path": "extra" },
        { "action": "delete", "kind": "rule", "path": "a/events/Subscriptions/some", "rule": "more" },
    ]);
    assert_eq!(shown["changes"], expected);
    broker.ok(&[&prune[..], &["--yes"]].concat());
    broker.fails(&["queue", "show", "extra"], exit::NOT_FOUND, "no queue");
    let last = broker.ok(&[&prune[..], &["--yes"]].concat());
    assert_eq!(last, "nothing to change\n");
}

#[test]
fn the_file_of_the_emulator_is_read_as_well() {
    let broker = TestBroker::with().start();
    let file = write(
        &broker,
        "Config.json",
        r#"{ "UserConfig": { "Namespaces": [ { "Name": "sbemulatorns",
            "Queues": [ { "Name": "queue.1", "Properties": { "LockDuration": "PT1M" } } ],
            "Topics": [ { "Name": "topic.1", "Subscriptions": [ { "Name": "subscription.1",
                "Rules": [ { "Name": "r", "Properties": { "FilterType": "Sql",
                    "SqlFilter": { "SqlExpression": "a = 1" } } } ] } ] } ] } ] } }"#,
    );
    broker.ok(&["topology", "apply", &file, "--yes"]);
    let queue = broker.json(&["queue", "show", "queue.1"]);
    assert_eq!(queue["default_message_time_to_live"], json!("1h"), "the emulator's default");
    let rules = broker.json(&["rule", "list", "topic.1", "subscription.1"]);
    assert_eq!(rules, json!([{ "name": "r", "sql_filter": "a = 1" }]));
    let again = broker.ok(&["topology", "apply", &file, "--yes"]);
    assert_eq!(again, "nothing to change\n");
    let wrong = write(&broker, "wrong.toml", "[[queue]]\nname = \"q\"\nlock_duration = \"1s\"\n");
    broker.fails(&["topology", "apply", &wrong], exit::USAGE, "queue[0].lock_duration");
    assert!(!Path::new("peeklock-data").exists(), "reading a file opens no store");
}

#[test]
fn what_no_file_can_say_is_said() {
    let broker = TestBroker::with().config(TOPOLOGY).start();
    broker.ok(&[
        "rule",
        "create",
        "a/events",
        "all",
        "p",
        "--sql",
        "a = @x",
        "--parameter",
        "x:int=1",
    ]);
    let done = broker.call(&["topology", "export"]);
    assert_eq!(done.code, exit::FAILED);
    assert!(
        done.err.contains("rule p of a/events/Subscriptions/all (a = @x @x=1)"),
        "{}",
        done.err
    );
    assert!(done.out.contains("name = \"orders\""), "all else is there");
}

/// A subscriber of JMS at the topic `a/events`.
fn subscriber(name: &str, durable: bool) -> Attach {
    let durability =
        if durable { TerminusDurability::UnsettledState } else { TerminusDurability::None };
    let source = Source {
        durable: durability,
        capabilities: Some(vec![Symbol::from_static("topic")]),
        ..Source::new("a/events")
    };
    Attach { name: name.into(), source: Some(source.into()), ..receiver("a/events") }
}

/// No file can declare it, and it is in use.
#[test]
fn what_clients_made_for_themselves_is_left_alone() {
    let broker = TestBroker::with().config(TOPOLOGY).start();
    let before = export(&broker);
    let mut peer = broker.peer();
    let durable = peer.attach_for_receiving(subscriber("sub", true));
    peer.detach(&durable);
    peer.attach_for_receiving(subscriber("consumer", false));
    let target = TargetNode { dynamic: true, ..TargetNode::default() };
    let attach = Attach { target: Some(target.into()), ..sender("unused") };
    peer.attach_for_sending(attach);
    broker.ok(&["send", "a/events", "precious"]);

    let done = broker.call(&["topology", "export"]);
    assert_eq!((done.code, &done.out), (0, &before), "{}", done.err);
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    for left in ["left alone", "a/events/Subscriptions/sub$tests$D", "$$ND", "temporary-queue-"] {
        assert!(done.err.contains(left), "{left}: {}", done.err);
    }
    let file = write(&broker, "exported.toml", &done.out);
    let pruned = broker.ok(&["topology", "apply", &file, "--prune", "-y"]);
    assert_eq!(pruned, "nothing to change\n");
    let own = ["subscription", "show", "a/events", "sub$tests$D"];
    assert_eq!(broker.counts(&own), (1, 0));
    assert_eq!(broker.json(&["queue", "list"]).as_array().expect("a list").len(), 3);
}

#[test]
fn entities_forward_to_what_stands_later_in_the_file() {
    let broker = TestBroker::start();
    for queue in ["a", "b", "old"] {
        broker.ok(&["queue", "create", queue]);
    }
    broker.ok(&["send", "old", "precious"]);
    let forwarding = "[[queue]]\nname = \"a\"\nforward_to = \"z\"\nmax_delivery_count = 3\n\
         [[queue]]\nname = \"b\"\nforward_dead_lettered_messages_to = \"z\"\n\
         [[topic]]\nname = \"q\"\n[[queue]]\nname = \"z\"\n";
    // What is refused takes nothing along that was to be deleted.
    let refused = "[[queue]]\nname = \"a\"\nrequires_session = true\n";
    let file = write(&broker, "refused.toml", refused);
    let done = broker.call(&["topology", "apply", &file, "--prune", "-y"]);
    assert_eq!(done.code, exit::REFUSED, "{done:?}");
    assert_eq!(broker.counts(&["queue", "show", "old"]), (1, 0));

    let file = write(&broker, "forwarding.toml", forwarding);
    let apply = ["topology", "apply", &file, "--prune", "-y"];
    let done = broker.ok(&apply);
    // A name that is wanted for something else is free before.
    assert!(done.starts_with("- queue q,"), "{done}");
    assert!(done.ends_with("- queue old, with its messages\nmade 6 changes\n"), "{done}");
    let a = broker.json(&["queue", "show", "a"]);
    assert_eq!((&a["forward_to"], &a["max_delivery_count"]), (&json!("z"), &json!(3)));
    let b = broker.json(&["queue", "show", "b"]);
    assert_eq!(b["forward_dead_lettered_messages_to"], json!("z"));
    assert_eq!(broker.ok(&apply), "nothing to change\n");
}

#[test]
fn an_export_says_the_rules_that_subscriptions_are_created_with() {
    let config = "[[topic]]\nname = \"t\"\n[[topic.subscription]]\nname = \"s\"\n";
    let broker = TestBroker::with().config(config).start();
    let exported = export(&broker);
    assert!(exported.contains("[[topic.subscription.rule]]\nname = \"$Default\"\n"), "{exported}");
    let file = write(&broker, "exported.toml", &exported);
    let apply = ["topology", "apply", &file, "--prune", "-y"];
    assert_eq!(broker.ok(&apply), "nothing to change\n");
    broker.ok(&["rule", "update", "t", "s", "$Default", "--sql", "a=1"]);
    broker.ok(&["rule", "create", "t", "s", "more", "--sql", "b=1"]);
    let done = broker.ok(&apply);
    assert!(done.contains("~ rule $Default of t/Subscriptions/s: a=1 -> everything\n"), "{done}");
    assert!(done.contains("- rule more of t/Subscriptions/s\n"), "{done}");
    assert_eq!(export(&broker), exported);
    // Whatever a rule is like, its export changes nothing.
    broker.ok(&["rule", "create", "t", "s", "none", "--none"]);
    let criteria = ["--correlation", "b:int=5", "--correlation", "a=x"];
    broker.ok(&[&["rule", "create", "t", "s", "some"][..], &criteria].concat());
    write(&broker, "exported.toml", &export(&broker));
    assert_eq!(broker.ok(&apply), "nothing to change\n");
    broker.ok(&["rule", "delete", "t", "s", "$Default"]);
    broker.ok(&["rule", "delete", "t", "s", "none"]);
    broker.ok(&["rule", "delete", "t", "s", "some"]);
    write(&broker, "exported.toml", &export(&broker));
    assert_eq!(broker.ok(&apply), "nothing to change\n");
}

/// The broker that is asked is one of them, and the others' entities are not its own.
#[test]
fn a_file_of_several_namespaces_is_refused() {
    let broker = TestBroker::start();
    let text = "[[namespace]]\nname = \"tenant\"\n[[namespace.queue]]\nname = \"q\"\n";
    let file = write(&broker, "namespaces.toml", text);
    let apply = ["topology", "apply", &file, "--prune", "-y"];
    broker.fails(&apply, exit::USAGE, "namespaces (tenant beside the default one)");
    broker.ok(&["queue", "show", "q"]);
}
