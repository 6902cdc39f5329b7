//! `dlq`: nothing is lost and nothing is doubled, whatever happens on the way.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use peeklock_tests::TestBroker;
use serde_json::json;

use crate::{CommandLine, exit};

fn broker() -> TestBroker {
    TestBroker::with()
        .queue("q", "max_delivery_count = 1")
        .queue("other", "")
        .queue("careful", "duplicate_detection_history_time_window = \"10m\"")
        .start()
}

#[test]
fn dead_letters_are_listed_with_their_reasons() {
    let broker = broker();
    broker.make_dead("q", &["m1", "m2", "m3"]);
    let table = broker.ok(&["dlq", "list", "q"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("MaxDeliveryCountExceeded"), "{table}");
    let selected = broker.lines(&["dlq", "list", "q", "--filter", "n > 1", "--count", "1"]);
    assert_eq!(selected.len(), 1);
    assert_eq!(selected[0]["properties"]["message_id"], json!("m2"));
    let reasons = |reason| broker.lines(&["dlq", "list", "q", "--reason", reason]).len();
    assert_eq!((reasons("MaxDeliveryCountExceeded"), reasons("it's another")), (3, 0));
    assert_eq!(broker.lines(&["peek", "q", "--dlq"]).len(), 3);
    broker.fails(&["dlq", "list", "missing"], exit::NOT_FOUND, "could not be found");
}

#[test]
fn replayed_messages_are_as_they_were_sent() {
    let broker = broker();
    broker.make_dead("q", &["m1", "m2", "m3"]);
    let dry = broker.json(&["dlq", "replay", "q", "--filter", "n <> 2", "--dry-run"]);
    assert_eq!(dry, json!({ "would_send": 2, "target": "q" }));
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 3), "a dry run moves nothing");
    let sent = broker.json(&["dlq", "replay", "q", "--filter", "n <> 2"]);
    assert_eq!(sent, json!({ "sent": 2, "target": "q" }));
    assert_eq!(broker.counts(&["queue", "show", "q"]), (2, 1));
    let back = broker.lines(&["receive", "q", "--all", "--wait", "500ms"]);
    let first = &back[0];
    assert_eq!(first["properties"], json!({ "message_id": "m1" }));
    assert_eq!(first["application_properties"], json!({ "n": { "int": 1 } }));
    assert_eq!(first["header"]["delivery_count"], json!(0));
    assert_eq!(first["body"], json!({ "text": "m1" }));

    broker.ok(&["dlq", "move", "q", "other"]);
    let moved = broker.lines(&["peek", "other"]);
    let reason = &moved[0]["application_properties"]["DeadLetterReason"];
    assert_eq!(reason, &json!("MaxDeliveryCountExceeded"));
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

#[test]
fn dead_letters_of_a_subscription_go_to_its_topic_again() {
    let broker = broker();
    broker.ok(&["topic", "create", "t"]);
    broker.ok(&["subscription", "create", "t", "s", "--max-delivery-count", "1"]);
    broker.ok(&["send", "t", "x"]);
    broker.ok(&["receive", "t/subscriptions/s", "--leave"]);
    let sent = broker.json(&["dlq", "replay", "t/subscriptions/s"]);
    assert_eq!(sent, json!({ "sent": 1, "target": "t" }));
    assert_eq!(broker.ok(&["receive", "t/subscriptions/s", "--body"]), "x");
}

#[test]
fn a_target_that_would_drop_or_refuse_them_gets_nothing() {
    let broker = broker();
    broker.make_dead("q", &["m1", "m2"]);
    let replay = ["dlq", "replay", "q", "--target", "careful"];
    broker.fails(&replay, exit::USAGE, "--new-ids or --keep-ids");
    broker.fails(&["dlq", "move", "q", "missing"], exit::NOT_FOUND, "no queue or topic missing");
    broker.ok(&["queue", "update", "other", "--status", "send-disabled"]);
    broker.fails(&["dlq", "move", "q", "other"], exit::REFUSED, "");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 2));
    broker.ok(&[&replay[..], &["--new-ids"]].concat());
    let taken = broker.lines(&["peek", "careful"]);
    assert_eq!(taken.len(), 2);
    assert_ne!(taken[0]["properties"]["message_id"], json!("m1"));
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

#[test]
fn dropping_removes_what_is_meant() {
    let broker = broker();
    broker.make_dead("q", &["m1", "m2", "m3"]);
    let dry = broker.json(&["dlq", "drop", "q", "--filter", "n = 2", "--dry-run"]);
    assert_eq!(dry, json!({ "would_remove": 1 }));
    broker.fails(&["dlq", "drop", "q"], exit::REFUSED, "say --yes");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 3));
    let gone = broker.json(&["dlq", "drop", "q", "--filter", "n = 2", "--yes"]);
    assert_eq!(gone, json!({ "removed": 1 }));
    let gone = broker.json(&["dlq", "drop", "q", "--reason", "MaxDeliveryCountExceeded", "--yes"]);
    assert_eq!(gone, json!({ "removed": 2 }));
}

#[test]
fn a_target_that_forwards_to_one_that_drops_them_gets_nothing() {
    let broker = TestBroker::with()
        .queue("q", "max_delivery_count = 1")
        .queue("careful", "duplicate_detection_history_time_window = \"10m\"")
        .queue("via", "forward_to = \"careful\"")
        .start();
    broker.make_dead("q", &["m1"]);
    broker.fails(&["dlq", "move", "q", "via"], exit::USAGE, "careful drops messages");
    broker.ok(&["dlq", "move", "q", "via", "--keep-ids"]);
}

/// More than a transaction may hold altogether.
#[test]
fn large_messages_go_in_smaller_batches() {
    let broker = broker();
    let file = broker.dir().join("body");
    std::fs::write(&file, vec![b'x'; 900_000]).expect("written");
    let path = file.to_str().expect("UTF-8");
    broker.ok(&["send", "q", "--file", path, "--count", "22"]);
    broker.ok(&["receive", "q", "--all", "--leave", "--wait", "500ms", "--body"]);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 22));
    let sent = broker.json(&["dlq", "replay", "q", "--target", "other"]);
    assert_eq!(sent, json!({ "sent": 22, "target": "other" }));
    assert_eq!(broker.counts(&["queue", "show", "other"]), (22, 0));
}

#[test]
fn what_could_not_be_sent_can_be_sent_at_once() {
    let broker = TestBroker::with()
        .queue("q", "max_delivery_count = 1")
        .queue("other", "")
        .queue("sessions", "requires_session = true")
        .start();
    broker.make_dead("q", &["m1", "m2", "m3"]);
    broker.fails(&["dlq", "move", "q", "sessions"], exit::REFUSED, "sent: 0 of 3");
    let sent = broker.json(&["dlq", "move", "q", "other"]);
    assert_eq!(sent, json!({ "sent": 3, "target": "other" }));
    // None of them has been tried more often for it.
    let moved = broker.lines(&["peek", "other"]);
    assert_eq!(moved.len(), 3);
}

#[test]
fn a_replay_that_does_not_get_all_says_so() {
    let broker = broker();
    broker.make_dead("q", &["m1", "m2", "m3"]);
    let mut peer = broker.peer();
    let mut link = peer.attach_receiver("q/$deadletterqueue");
    let held = peer.receive_one(&mut link);
    broker.fails(&["dlq", "move", "q", "other"], exit::FAILED, "sent 2 of 3 to other");
    assert_eq!(broker.counts(&["queue", "show", "other"]), (2, 0));
    peer.abandon(&held);
    broker.ok(&["dlq", "move", "q", "other"]);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

/// Batches are transactions: a message is in one place or in the other, and in one only.
#[test]
fn a_replay_that_is_killed_loses_and_doubles_nothing() {
    let broker = broker();
    let bodies: Vec<String> = (0..300).map(|number| format!("m{number}")).collect();
    let lines = bodies.join("\n");
    let sent = broker.call_with(&["send", "q", "--lines"], &lines);
    assert_eq!(sent.code, 0, "{sent:?}");
    broker.ok(&["receive", "q", "--all", "--leave", "--wait", "500ms"]);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 300));
    let texts = |node: &[&str]| -> Vec<String> {
        let peek = [&["peek"], node, &["-n", "1000"]].concat();
        let peeked = broker.lines(&peek);
        peeked.iter().map(|one| one["body"]["text"].as_str().expect("text").to_owned()).collect()
    };
    let (mut kills, mut cut) = (0, 0);
    loop {
        let before = texts(&["other"]).len();
        let mut child = broker
            .command(&["dlq", "move", "q", "other", "--rate", "200"])
            .spawn()
            .expect("the binary runs");
        // At another moment each time, once it has begun to move.
        let give_up_at = Instant::now() + Duration::from_secs(30);
        while texts(&["other"]).len() == before && Instant::now() < give_up_at {
            thread::sleep(Duration::from_millis(1 + 3 * kills));
        }
        thread::sleep(Duration::from_millis(7 * kills));
        child.kill().expect("a child of ours");
        let mut said = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut said).expect("UTF-8");
        child.wait().expect("a child of ours");
        kills += 1;
        let (dead, moved) = (texts(&["q", "--dlq"]), texts(&["other"]));
        let mut all: Vec<String> = dead.iter().chain(&moved).cloned().collect();
        all.sort_by_key(|body| body[1..].parse::<u32>().expect("a number"));
        assert_eq!(all, bodies, "after {kills} kills");
        cut += u64::from(said.is_empty());
        if 4 <= kills || dead.is_empty() {
            break;
        }
    }
    assert_ne!(cut, 0, "no replay was killed before its end");
    broker.ok(&["dlq", "move", "q", "other"]);
    assert_eq!(texts(&["other"]).len(), 300);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}
