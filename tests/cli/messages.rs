//! `send`, `receive`, `peek`, `purge` and `messages`.

use peeklock_tests::TestBroker;
use serde_json::json;

use crate::{CommandLine, exit, wait_until};

#[test]
fn a_message_with_all_that_can_be_said_of_it() {
    let broker = TestBroker::start();
    broker.ok(&[
        "send",
        "q",
        "hello",
        "--message-id",
        "id",
        "--subject",
        "about",
        "--correlation-id",
        "c",
        "--content-type",
        "text/plain",
        "--to",
        "them",
        "--reply-to",
        "back",
        "--reply-to-session",
        "rs",
        "--session",
        "s",
        "--partition-key",
        "s",
        "--ttl",
        "1h",
        "-p",
        "text=a=b",
        "-p",
        "n:int=-5",
        "-p",
        "big:ulong=18446744073709551615",
        "-p",
        "id:uuid=00112233-4455-6677-8899-aabbccddeeff",
        "-p",
        "raw:binary=AAH/",
        "-p",
        "yes:bool=true",
        "-p",
        "when:timestamp=2026-01-31T12:00:00Z",
    ]);
    let peeked = &broker.lines(&["peek", "q"])[0];
    assert_eq!(peeked["body"], json!({ "text": "hello" }));
    assert_eq!(peeked["header"], json!({ "durable": true, "ttl": 3_600_000, "delivery_count": 0 }));
    assert_eq!(
        peeked["properties"],
        json!({
            "message_id": "id", "to": "them", "subject": "about", "reply_to": "back",
            "correlation_id": "c", "content_type": "text/plain", "group_id": "s",
            "reply_to_group_id": "rs",
        })
    );
    assert_eq!(
        peeked["application_properties"],
        json!({
            "text": "a=b", "n": { "int": -5 }, "big": { "ulong": u64::MAX },
            "id": { "uuid": "00112233-4455-6677-8899-aabbccddeeff" },
            "raw": { "binary": "AAH/" }, "yes": true,
            "when": { "timestamp": 1_769_860_800_000_i64 },
        })
    );
    assert_eq!(peeked["message_annotations"]["x-opt-partition-key"], json!("s"));
    let text = broker.ok(&["receive", "q"]);
    assert!(text.starts_with("#1  id=id  session=s  subject=about"), "{text}");
    assert!(text.ends_with("hello\n"), "{text}");
    assert_eq!(broker.ok(&["receive", "q", "--wait", "0s"]), "", "it was completed");
}

#[test]
fn many_messages_and_parts_of_them() {
    let broker = TestBroker::start();
    let sent = broker.json(&["send", "q", "x", "--count", "500", "--message-id", "m"]);
    assert_eq!(sent, json!({ "sent": 500 }));
    let lines = broker.call_with(&["send", "q", "--lines"], "one\ntwo\r\n\nlast");
    assert_eq!((lines.code, lines.out.as_str()), (0, "sent 4 to q\n"));
    let piped = broker.call_with(&["send", "q"], "a\nb\n");
    assert_eq!((piped.code, piped.out.as_str()), (0, "sent 1 to q\n"));
    let peeked = broker.lines(&["peek", "q", "--from", "499", "--count", "100"]);
    let bodies: Vec<_> = peeked.iter().map(|one| one["body"]["text"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["x", "x", "one", "two", "", "last", "a\nb\n"]);
    assert_eq!(peeked[1]["properties"]["message_id"], json!("m-500"));
    assert_eq!(broker.lines(&["peek", "q", "--count", "1000"]).len(), 505);
    let odd = broker.lines(&["peek", "q", "--filter", "JMSMessageID LIKE '%m-%7'", "-n", "1000"]);
    assert_eq!(odd.len(), 50);

    assert_eq!(broker.lines(&["receive", "q", "--count", "3"]).len(), 3);
    assert_eq!(broker.lines(&["receive", "q", "--delete", "--count", "2"]).len(), 2);
    assert_eq!(broker.lines(&["receive", "q", "--leave", "--count", "2"]).len(), 2);
    assert_eq!(broker.counts(&["queue", "show", "q"]), (500, 0));
    let all = broker.lines(&["receive", "q", "--all", "--wait", "500ms"]);
    assert_eq!(all.len(), 500);
    assert_eq!(all[0]["header"]["delivery_count"], json!(1), "it was left once");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
}

#[test]
fn message_sessions_and_schedules() {
    let broker = TestBroker::with().queue("s", "requires_session = true").queue("q", "").start();
    for (body, session) in [("a", "one"), ("b", "two"), ("c", "one")] {
        broker.ok(&["send", "s", body, "--session", session]);
    }
    broker.fails(&["receive", "s"], exit::REFUSED, "requires sessions");
    assert_eq!(broker.lines(&["peek", "s", "--session", "one"]).len(), 2);
    assert_eq!(broker.ok(&["receive", "s", "--session", "two", "--body"]), "b");
    let next =
        broker.call(&["receive", "s", "--next-session", "--all", "--wait", "500ms", "--body"]);
    assert_eq!((next.out.as_str(), next.err.as_str()), ("ac", "message session one\n"));
    broker.fails(
        &["receive", "s", "--next-session", "--wait", "200ms"],
        exit::NOT_FOUND,
        "no message session",
    );

    broker.ok(&["send", "q", "later", "--delay", "1h"]);
    broker.ok(&["send", "q", "much later", "--at", "2099-01-01T00:00:00Z"]);
    let peeked = broker.lines(&["peek", "q"]);
    let at = &peeked[1]["message_annotations"]["x-opt-scheduled-enqueue-time"];
    assert_eq!(at, &json!({ "timestamp": 4_070_908_800_000_i64 }));
    assert_eq!(broker.json(&["queue", "show", "q"])["counts"]["scheduled"], json!(2));
    assert_eq!(broker.ok(&["receive", "q", "--wait", "0s"]), "");
}

#[test]
fn purging_removes_what_is_meant_and_says_how_much() {
    let broker = TestBroker::start();
    broker.ok(&["send", "q", "red", "--count", "120", "-p", "color=red"]);
    broker.ok(&["send", "q", "blue", "--count", "30", "-p", "color=blue"]);
    let red = ["purge", "q", "--filter", "color = 'red'"];
    let dry = broker.json(&[&red[..], &["--dry-run"]].concat());
    assert_eq!(dry, json!({ "would_remove": 120 }));
    let dry = broker.json(&["purge", "q", "--dry-run"]);
    assert_eq!(dry, json!({ "would_remove": 150 }));
    broker.fails(&red, exit::REFUSED, "say --yes");
    broker.fails(&["purge", "q"], exit::REFUSED, "say --yes");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (150, 0), "nothing was done");

    let some = broker.json(&[&red[..], &["--yes", "--count", "20"]].concat());
    assert_eq!(some, json!({ "removed": 20 }));
    assert_eq!(broker.json(&[&red[..], &["--yes"]].concat()), json!({ "removed": 100 }));
    let left = broker.lines(&["peek", "q", "-n", "1000"]);
    assert!(left.len() == 30 && left.iter().all(|one| one["body"]["text"] == json!("blue")));
    let some = broker.json(&["purge", "q", "--yes", "--count", "10"]);
    assert_eq!(some, json!({ "removed": 10 }));
    assert_eq!(broker.ok(&["purge", "q", "-y"]), "removed 20 from q\n");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0));
    broker.fails(&["purge", "missing", "-y"], exit::NOT_FOUND, "could not be found");
}

/// What is scheduled matches as well, and is not waited for.
#[test]
fn purging_with_a_filter_leaves_what_comes_after_it_began() {
    let broker = TestBroker::start();
    broker.ok(&["send", "q", "later", "--count", "3", "-p", "color=red", "--delay", "1h"]);
    broker.ok(&["send", "q", "now", "--count", "2", "-p", "color=red"]);
    let purge = ["purge", "q", "--filter", "color = 'red'", "--json"];
    let dry = broker.json(&["purge", "q", "--filter", "color = 'red'", "-n", "2", "--dry-run"]);
    assert_eq!(dry, json!({ "would_remove": 2 }));
    let purge = broker.command(&[&purge[..], &["--yes"]].concat()).spawn().expect("it runs");
    wait_until("both are gone", || broker.counts(&["queue", "show", "q"]).0 == 0);
    broker.ok(&["send", "q", "new", "-p", "color=red"]);
    let output = purge.wait_with_output().expect("a child of ours");
    assert_eq!(output.stdout, b"{\"removed\":2}\n", "{output:?}");
    assert_eq!(broker.counts(&["queue", "show", "q"]), (1, 0));
}

#[test]
fn purging_does_not_need_time_to_pass() {
    let broker = TestBroker::with().virtual_time().queue("q", "").start();
    broker.ok(&["clock", "freeze"]);
    broker.ok(&["send", "q", "x", "--count", "3"]);
    assert_eq!(broker.json(&["purge", "q", "--yes"]), json!({ "removed": 3 }));
    // Ahead of ours, with a message behind the others that is yet to come.
    broker.ok(&["clock", "advance", "10m"]);
    broker.ok(&["send", "q", "x", "--count", "3"]);
    let at = broker.json(&["clock", "show"])["milliseconds"].as_u64().expect("a time") + 1000;
    broker.ok(&["send", "q", "later", "--at", &at.to_string()]);
    assert_eq!(broker.json(&["purge", "q", "--yes"]), json!({ "removed": 3 }));
    assert_eq!(broker.json(&["purge", "q", "--yes"]), json!({ "removed": 0 }));
    assert_eq!(broker.json(&["queue", "show", "q"])["counts"]["scheduled"], json!(1));
}

#[test]
fn messages_come_back_from_a_file_as_they_were() {
    let broker = TestBroker::with().queue("q", "").queue("copy", "").start();
    let file = broker.dir().join("messages.jsonl");
    let path = file.to_str().expect("UTF-8");
    // Of every kind of body, with values that JSON has no names for.
    let lines = [
        r#"{"body":{"base64":"AAH/"}}"#,
        r#"{"body":{"data":["AA==","AQ=="]}}"#,
        r#"{"body":{"sequence":[[{"int":1},"x"],[]]}}"#,
        r#"{"body":{"value":{"map":[["k",{"double":0.5}],[{"int":1},null]]}}}"#,
        r#"{"header":{"durable":true,"priority":7,"ttl":60000},"properties":{"message_id":{"ulong":7},"user_id":{"binary":"bWU="},"group_id":"g","group_sequence":3},"application_properties":{"z":{"float":1.5},"a":{"uuid":"00112233-4455-6677-8899-aabbccddeeff"}},"body":{"text":"last"},"footer":{"x-crc":{"uint":5}}}"#,
    ]
    .join("\n");
    std::fs::write(&file, &lines).expect("written");
    let dry = broker.json(&["messages", "import", "q", "--input", path, "--dry-run"]);
    assert_eq!(dry, json!({ "readable": 5 }));
    assert_eq!(broker.counts(&["queue", "show", "q"]), (0, 0), "a dry run sends nothing");
    let imported = broker.call_with(&["messages", "import", "q", "--json"], &lines);
    assert_eq!(imported.out, "{\"imported\":5}\n", "{imported:?}");
    broker.ok(&["send", "q", "scheduled", "--at", "2099-01-01T00:00:00Z"]);

    broker.fails(&["messages", "export", "q", "-o", path], exit::FAILED, "exists");
    let exported = broker.dir().join("exported.jsonl");
    let path = exported.to_str().expect("UTF-8");
    broker.ok(&["messages", "export", "q", "-o", path]);
    broker.ok(&["messages", "import", "copy", "-i", path]);
    let both = ["q", "copy"].map(|queue| {
        let mut lines = broker.lines(&["messages", "export", queue]);
        for line in &mut lines {
            let annotations = line["message_annotations"].as_object_mut().expect("annotations");
            annotations.remove("x-opt-enqueued-time").expect("what the broker says");
        }
        lines
    });
    assert_eq!(both[0].len(), 6);
    assert_eq!(both[0], both[1]);
    let before = &both[0][4];
    assert_eq!(before["properties"]["message_id"], json!({ "ulong": 7 }));
    assert_eq!(before["header"]["priority"], json!(7));
    assert_eq!(before["footer"], json!({ "x-crc": { "uint": 5 } }));
    assert_eq!(broker.json(&["queue", "show", "copy"])["counts"]["scheduled"], json!(1));

    // Scheduled, in the way of JMS.
    let later = r#"{"message_annotations":{"x-opt-delivery-time":{"timestamp":4070908800000}}}"#;
    let before = broker.counts(&["queue", "show", "q"]).0;
    broker.call_with(&["messages", "import", "q"], later);
    assert_eq!(broker.counts(&["queue", "show", "q"]).0, before);
    broker.call_with(&["messages", "import", "q", "--unschedule"], later);
    assert_eq!(broker.counts(&["queue", "show", "q"]).0, before + 1);

    std::fs::write(&file, "{\"body\":{\"text\":\"fine\"}}\n{\"body\":5}\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    broker.fails(&["messages", "import", "q", "-i", path, "--dry-run"], exit::FAILED, "line 2");
}
