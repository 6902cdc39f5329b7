//! The broker in the place of Microsoft's Service Bus emulator: its `Config.json`, its key, and what
//! its users do with them.

use std::path::Path;

use peeklock_protocol::value::{Symbol, Value};
use peeklock_tests::TestBroker;
use peeklock_tests::broker::Setup;
use peeklock_tests::message::Message;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/emulator/Config.json");

fn emulator(file: impl AsRef<Path>) -> Setup {
    TestBroker::with().argument("--emulator-config").argument(file.as_ref())
}

/// The content type and the subject among the properties (§3.2.4).
const SUBJECT: usize = 3;
const CONTENT_TYPE: usize = 6;

/// What the example file declares is there, and its rules let through what they say.
#[test]
fn a_topic_of_the_file_filters_as_it_says() {
    let broker = emulator(EXAMPLE).start();
    let mut peer = broker.peer();
    let json = || Value::Symbol(Symbol::from_static("application/json"));
    let paid =
        Message::data("paid").with_property("state", "paid").with_field(CONTENT_TYPE, json());
    let text = Message::data("text").with_property("state", "paid");
    let large = Message::data("large")
        .with_property("amount", 5_000)
        .with_field(SUBJECT, "order-17".into());
    peer.send_messages("orders", &[paid, text, large]);
    let of = |name: &str| format!("orders/Subscriptions/{name}");
    assert_eq!(peer.drain_texts(&of("shipping")), ["paid"]);
    assert_eq!(peer.drain_texts(&of("everything")), ["paid", "text", "large"]);
    let [copy] = &peer.drain_messages(&of("large"))[..] else { panic!("one copy") };
    assert_eq!((copy.text(), copy.to()), ("large", &Value::from("desk")));
    assert_eq!(copy.property("checked"), Some(&Value::Bool(false)));
    assert_eq!(copy.text_property("RuleName"), Some("by-amount"));
}

/// Queues have the settings of the file: this one finds duplicates.
#[test]
fn a_queue_of_the_file_is_as_it_says() {
    let broker = emulator(EXAMPLE).start();
    let mut peer = broker.peer();
    let twice = Message::data("once").with_id("id");
    peer.send_messages("payments", &[twice.clone(), twice]);
    assert_eq!(peer.drain_texts("payments"), ["once"]);
}

/// What is wrong in the file is named by its path there, in one line.
#[test]
fn a_wrong_file_exits_2_and_names_path_and_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("Config.json");
    let text = r#"{"UserConfig": {"Namespaces": [{"Queues": [
        {"Name": "q", "Properties": {"LockDuration": "a minute"}},
    ]}]}}"#;
    std::fs::write(&file, text).expect("a file");
    let output = emulator(&file).run_to_end(dir.path());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    let place = "UserConfig.Namespaces[0].Queues[0].Properties.LockDuration: ";
    assert!(said.contains(place) && said.contains("not a duration"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
